"""Properties of the two temporal heads, for any shape"""
import pytest,torch
from hypothesis import given,settings,strategies as st
from ssm_nb.model.temporal import ExpressionTemporal,LocalAttention

torch.set_num_threads(1)

def gen(seed): return torch.Generator().manual_seed(seed)
def open_gates(m, g):
    "Random weights everywhere, so nothing is hidden by a zero"
    for p in m.parameters(): p.data.copy_(torch.randn(p.shape, generator=g))
    return m

shapes = st.tuples(st.integers(1,3), st.integers(1,7), st.integers(1,3), st.integers(1,4), st.integers(0,3), st.integers(0,10**6))

@settings(max_examples=50, deadline=None)
@given(shapes)
def test_local_attention_starts_as_the_identity(s):
    b,t,heads,D,radius,seed = s
    x = torch.randn(b, t, heads*D, generator=gen(seed))
    with torch.no_grad(): assert torch.equal(LocalAttention(heads*D, heads, radius, gen(seed))(x), x)

@settings(max_examples=50, deadline=None)
@given(shapes)
def test_local_attention_keeps_its_radius_and_its_quarter(s):
    b,t,heads,D,radius,seed = s
    m = open_gates(LocalAttention(heads*D, heads, radius), gen(seed))
    x = torch.randn(b, t, heads*D, generator=gen(seed+1))
    i = t//2
    y = x.clone()
    far = (torch.arange(t)-i).abs()>radius
    y[:,far] = torch.randn(b, int(far.sum()), heads*D, generator=gen(seed+2))
    with torch.no_grad():
        torch.testing.assert_close(m(x)[:,i], m(y)[:,i], atol=1e-5, rtol=1e-4)
        assert ((m(x)-x).abs() <= 0.25*(x.amax(1,keepdim=True)-x.amin(1,keepdim=True))+1e-5).all()
        torch.testing.assert_close(m.attention(x).sum(-1), torch.ones(b, heads, t))

@settings(max_examples=30, deadline=None)
@given(shapes)
def test_expression_head_reads_clips_one_by_one(s):
    b,t,heads,D,_,seed = s
    m = open_gates(ExpressionTemporal(heads*D, t, heads), gen(seed))
    x = torch.randn(b, t, heads*D, generator=gen(seed+1))
    with torch.no_grad(): torch.testing.assert_close(m(x), torch.cat([m(c[None]) for c in x]), atol=1e-4, rtol=1e-3)

def test_wrong_number_of_frames_is_one_clear_error():
    with pytest.raises(ValueError, match='16 frames, not 15'): ExpressionTemporal(8)(torch.zeros(1, 15, 8))
