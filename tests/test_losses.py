import numpy as np, pytest, torch
from hypothesis import given, strategies as st
from recipe import MODELS, golden
from torch.nn import functional as F
from types import SimpleNamespace
from ssm_nb.model.losses import JointLoss, MovingMeanBalance, ramp
from ssm_nb.model.mixup import Mixup, draw_mixup, masked_bce

NAN = float('nan')
def gen(seed): return torch.Generator().manual_seed(seed)
def outputs(z):
    "Stored outputs, as the model returns them"
    o = {k: torch.from_numpy(z[k]) for k in ('fe_logits','fe_semantic_logits','au_logits','au_semantic_logits')}
    frames = lambda x: x.view(2,16,-1) # (b*t, a) to (b, t, a)
    return SimpleNamespace(fe=o['fe_logits'], fe_semantic=o['fe_semantic_logits'], au=frames(o['au_logits']), au_semantic=frames(o['au_semantic_logits']))

@pytest.mark.parametrize('model', MODELS)
def test_golden_first_step(model):
    "The raw losses of step 1 follow from the stored outputs and labels"
    z,_ = golden(model)
    loss = JointLoss()
    loss.start_epoch(5)
    total,raw = loss(outputs(z), torch.from_numpy(z['train_fe_labels']), torch.from_numpy(z['train_au_labels']))
    np.testing.assert_allclose(raw, z['train_raw_losses'][0], rtol=1e-5)
    np.testing.assert_allclose(loss.balance.mean, z['train_moving_means'][0], rtol=1e-5)
    np.testing.assert_allclose(total, (3+2*ramp(5))/3, rtol=1e-5)

@pytest.mark.parametrize('model', MODELS)
def test_golden_moving_means(model):
    z,_ = golden(model)
    balance = MovingMeanBalance()
    for raw,mean in zip(torch.tensor(z['train_raw_losses']), z['train_moving_means']):
        balanced = balance(raw, torch.ones(4, dtype=torch.bool))
        np.testing.assert_allclose(balance.mean, mean, rtol=1e-5)
        np.testing.assert_allclose(balanced.numpy(), raw.numpy()/mean, rtol=1e-5)

losses = st.lists(st.tuples(*[st.floats(1e-2, 1e2)]*4), min_size=1, max_size=30)

@given(losses, st.tuples(*[st.floats(1e-2, 1e3)]*4))
def test_scale_free(run, units):
    "Measured in other units, every balanced loss is the same, and so is its share of the gradient"
    a,b,here = MovingMeanBalance(),MovingMeanBalance(),torch.ones(4, dtype=torch.bool)
    for raw in run:
        x,y = [torch.tensor(raw, dtype=torch.float64, requires_grad=True) for _ in range(2)]
        u = torch.tensor(units, dtype=torch.float64)
        p,q = a(x, here),b(u*y, here)
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)
        p.sum().backward(); q.sum().backward()
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-6)

@given(losses, st.lists(st.booleans(), min_size=30, max_size=30))
def test_absent_steps_leave_no_trace(run, present):
    "Steps without a loss could as well not have been"
    a,b = MovingMeanBalance(1),MovingMeanBalance(1)
    yes = torch.tensor([True])
    for (l,*_),here in zip(run, present):
        l = torch.tensor([l])
        got = a(l if here else torch.zeros(1), torch.tensor([here]))
        if here: torch.testing.assert_close(got, b(l, yes), rtol=0, atol=0)
        else: assert got.item()==0
        torch.testing.assert_close(a.mean, b.mean, rtol=0, atol=0, equal_nan=True)

@given(st.integers(1,5), st.integers(1,4), st.integers(1,4), st.integers(0,999), st.floats(0,1))
def test_bce_counts_annotated_only(b, t, a, seed, hidden):
    g = gen(seed)
    z = (5*torch.randn(b,t,a, generator=g)).requires_grad_()
    y = (torch.rand(b,t,a, generator=g)>0.5).float()
    y[torch.rand(b,t,a, generator=g)<hidden] = NAN
    known = ~y.isnan()
    loss = masked_bce(z, y)
    loss.backward()
    want = F.binary_cross_entropy_with_logits(z[known], y[known]) if known.any() else torch.tensor(0.)
    torch.testing.assert_close(loss, want)
    assert z.grad.isfinite().all() and (z.grad[~known]==0).all()

@given(st.integers(1,5), st.integers(1,4), st.integers(1,4), st.integers(0,999), st.floats(0,1))
def test_mixup_with_missing_labels(b, t, a, seed, hidden):
    "Against a loop over clips; own and partner's labels weigh λ and 1-λ where annotated"
    g = gen(seed)
    z,y = torch.randn(b,t,a, generator=g),(torch.rand(b,t,a, generator=g)>0.5).float()
    y[torch.rand(b,t,a, generator=g)<hidden] = NAN
    mix = draw_mixup(b, g, lam_of='clip')
    num = den = 0.
    for i in range(b):
        for w,target in ((mix.lam[i], y[i]), (1-mix.lam[i], y[mix.partner[i]])):
            known = ~target.isnan()
            num += w*F.binary_cross_entropy_with_logits(z[i][known], target[known], reduction='sum')
            den += w*known.sum()
    torch.testing.assert_close(mix.bce(z,y), num/den if den>0 else torch.tensor(0.), rtol=1e-4, atol=1e-6)

@given(st.integers(1,6), st.integers(0,999))
def test_mixup_of_a_full_batch_is_a_sum_over_both_targets(b, seed):
    g = gen(seed)
    z,y = torch.randn(b,3,2, generator=g),(torch.rand(b,3,2, generator=g)>0.5).float()
    lam,mix = torch.rand(1, generator=g),None
    mix = Mixup(lam.expand(b), torch.randperm(b, generator=g)) # one λ for all clips: the sum of two losses
    torch.testing.assert_close(mix.bce(z,y), (lam*masked_bce(z,y) + (1-lam)*masked_bce(z,y[mix.partner])).squeeze())
    x = torch.randn(b,3,3,2,2, generator=g)
    torch.testing.assert_close(mix.clips(x), lam*x + (1-lam)*x[mix.partner])

def test_drawing_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    draw_mixup(8, gen(0))
    assert torch.equal(before, torch.random.get_rng_state())

def test_state_goes_on_in_the_middle_of_an_epoch():
    a = JointLoss(); a.start_epoch(7)
    out = SimpleNamespace(fe=torch.randn(2,7, generator=gen(0)), fe_semantic=torch.randn(2,7, generator=gen(1)), au=None, au_semantic=None)
    a(out, torch.tensor([1,2]))
    b = JointLoss(); b.load_state_dict(a.state_dict())
    other = torch.tensor([5,0])
    assert torch.equal(a(out, other).total, b(out, other).total)

def test_evaluation_neither_starts_nor_moves_the_means():
    loss = JointLoss().eval(); loss.start_epoch(3)
    out = SimpleNamespace(fe=torch.randn(2,7, generator=gen(0)), fe_semantic=torch.randn(2,7, generator=gen(1)), au=None, au_semantic=None)
    total,_ = loss(out, torch.tensor([1,2]))
    assert loss.balance.mean.isnan().all()
    np.testing.assert_allclose(total, (1+ramp(3))/3, rtol=1e-5)
