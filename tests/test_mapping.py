import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn import functional as F
from recipe import MODELS, golden
from ssm_nb.model.mapping import DynamicMapping

def residuals(m, seed):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in (m.d1, m.d2): p.normal_(std=2, generator=g)
    return m

@st.composite
def mappings(draw):
    "A prior of any shape, with or without a neutral class; zeros happen"
    e,a = draw(st.integers(1,8)),draw(st.integers(1,8))
    p = draw(arrays(np.float32, (e,a), elements=st.one_of(st.just(0), st.floats(np.float32(1e-4), 1, width=32))))
    return DynamicMapping(p, draw(st.sampled_from([None,*range(e)])))

props = settings(max_examples=60)

@props
@given(mappings(), st.integers(0,99))
def test_row_mass_kept(m, seed):
    residuals(m, seed)
    np.testing.assert_allclose(m.au2fe().sum(1).detach(), m.prior.sum(1), rtol=1e-5, atol=1e-6)
    want = m.prior.sum(0)
    if len(m.learned)==0: want = m.prior[m.neutral]
    np.testing.assert_allclose(m.fe2au().sum(1).detach(), want, rtol=1e-5, atol=1e-6)

@props
@given(mappings(), st.integers(0,99))
def test_neutral_fixed(m, seed):
    residuals(m, seed)
    if m.neutral is None: return
    assert torch.equal(m.au2fe()[m.neutral], m.prior[m.neutral])
    assert torch.equal(m.fe2au()[:,m.neutral], m.prior[m.neutral])
    (m.au2fe().square().sum() + m.fe2au().square().sum()).backward()
    assert (m.d1.grad[m.neutral]==0).all() and (m.d2.grad[:,m.neutral]==0).all()

@props
@given(mappings())
def test_prior_at_zero_residual(m):
    np.testing.assert_allclose(m.au2fe().detach(), m.prior, atol=2e-6)
    np.testing.assert_allclose(m.fe2au().detach(), m.prior.T, atol=2e-6)

@props
@given(mappings(), st.integers(0,99), st.floats(-5,5))
def test_residuals_are_relative(m, seed, shift):
    "A constant added to a row of residuals changes nothing"
    residuals(m, seed)
    a,b = m.au2fe().detach(),m.fe2au().detach()
    with torch.no_grad(): m.d1 += shift; m.d2 += shift
    np.testing.assert_allclose(m.au2fe().detach(), a, atol=1e-5)
    np.testing.assert_allclose(m.fe2au().detach(), b, atol=1e-5)

@props
@given(mappings(), st.integers(0,99))
def test_exchange_is_unit_length_and_reads_unaugmented(m, seed):
    residuals(m, seed)
    e,a = m.prior.shape
    g = torch.Generator().manual_seed(seed)
    p_fe,p_au = [F.normalize(torch.randn(n,16,generator=g), dim=-1) for n in (e,a)]
    with torch.no_grad(): z_fe,z_au = m.exchange(p_fe, p_au)
    for i in range(e):
        z = p_fe[i].clone()
        for j in range(a): z += m.alpha.sigmoid().detach() * m.au2fe()[i,j].detach() * p_au[j]
        np.testing.assert_allclose(z_fe[i], z/z.norm(), atol=1e-5)
    for j in range(a):
        z = p_au[j].clone()
        for i in range(e): z += m.beta.sigmoid().detach() * m.fe2au()[j,i].detach() * p_fe[i]
        np.testing.assert_allclose(z_au[j], z/z.norm(), atol=1e-5)

@pytest.mark.parametrize('model', MODELS)
def test_golden_maps(model):
    z,w = golden(model)
    m = DynamicMapping(z['prior'], neutral=2)
    with torch.no_grad():
        for p,n in ((m.d1,'delta_map1'), (m.d2,'delta_map2'), (m.alpha,'alpha'), (m.beta,'beta')): p.copy_(torch.from_numpy(np.asarray(w[n])))
    np.testing.assert_allclose(m.au2fe().detach(), z['map_au2fe'], atol=1e-5)
    np.testing.assert_allclose(m.fe2au().detach(), z['map_fe2au'], atol=1e-5)

@pytest.mark.parametrize('model', MODELS)
def test_golden_prior(model):
    "The priors shipped with the library are the reference model's"
    from ssm_nb.labels.facs import label_space
    from ssm_nb.labels.prior import ssm_prior
    z,_ = golden(model)
    space = label_space(model.split('_')[1], len(z['prior']))
    assert (ssm_prior(space).matrix.astype(np.float32)==z['prior']).all() and space.neutral==2
