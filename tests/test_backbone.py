"""Properties of the experts and the image tower, for any shape"""
import pytest,torch
from hypothesis import given,settings,strategies as st
from ssm_nb.model.backbone import SMALL_CLIP,ImageTower,build_clip,clip_config
from ssm_nb.model.experts import Experts
from ssm_nb.model.routing import ROUTINGS,experts_run,route,sorted_mixture,wide_mixture

torch.set_num_threads(1)
TINY = dict(embed_dim=16, quick_gelu=True, vision_cfg=dict(image_size=16, patch_size=8, width=32, layers=3, head_width=16),
            text_cfg=dict(context_length=77, vocab_size=100, width=16, heads=1, layers=1))

def gen(seed): return torch.Generator().manual_seed(seed)

@st.composite
def mixtures(draw):
    "A random mixture: tokens, weights, chosen experts, stacked expert weights"
    N,d,h,E = (draw(st.integers(1,n)) for n in (9,6,5,5))
    k,g = draw(st.integers(1,E)),gen(draw(st.integers(0,2**31)))
    r = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
    return r(N,d),*route(r(N,E), k),(r(E,h,d), r(E,h), r(E,d,h), r(E,d))

def naive(x, weights, chosen, routing, w1, b1, w2, b2):
    "The mixture as the release computes it: slot s of token n runs the choice at flat position s*N+n, with its own weight"
    N,k = chosen.shape
    out = torch.zeros_like(x)
    for n in range(N):
        for s in range(k):
            p = s*N+n
            e = chosen[p//k, p%k] if routing=='released' else chosen[n,s]
            out[n] += weights[n,s]*(w2[e] @ torch.nn.functional.gelu(w1[e]@x[n]+b1[e]) + b2[e])
    return out

@settings(max_examples=60, deadline=None)
@given(mixtures(), st.sampled_from(ROUTINGS))
def test_fast_mixtures_equal_the_naive_one(mix, routing):
    x,weights,chosen,params = mix
    want = naive(x, weights, chosen, routing, *params)
    for mixture in (sorted_mixture, wide_mixture):
        torch.testing.assert_close(mixture(x, weights, experts_run(chosen, routing), params), want)

@settings(max_examples=30, deadline=None)
@given(mixtures(), st.sampled_from(ROUTINGS))
def test_fast_mixtures_have_the_naive_gradients(mix, routing):
    x,weights,chosen,params = mix
    leaves = [t.clone().requires_grad_() for t in (x, weights, *params)]
    x,weights,*params = leaves
    run = experts_run(chosen, routing)
    want = torch.autograd.grad(naive(x, weights, chosen, routing, *params).sin().sum(), leaves)
    for mixture in (sorted_mixture, wide_mixture):
        got = torch.autograd.grad(mixture(x, weights, run, params).sin().sum(), leaves)
        for g,w in zip(got, want): torch.testing.assert_close(g, w)

@settings(max_examples=20, deadline=None)
@given(st.integers(2,5), st.integers(0,1000))
def test_token_routing_ignores_the_batch(n, seed):
    tower = ImageTower(build_clip(TINY).visual, 2, 8, generator=gen(seed)).eval()
    for m in tower.experts: m.alpha.data.fill_(2.)
    x = torch.randn(n, 3, 16, 16, generator=gen(seed))
    with torch.no_grad(): torch.testing.assert_close(tower(x), torch.cat([tower(i[None]) for i in x]), atol=1e-5, rtol=1e-4)

@settings(max_examples=40, deadline=None)
@given(st.integers(1,4), st.integers(1,5), st.integers(1,5), st.integers(1,6), st.data())
def test_experts_under_token_routing_see_each_token_alone(n, l, n_experts, hidden, data):
    "Any layer, any number of experts: a batch of many is the same tokens one by one, in any order"
    g = gen(data.draw(st.integers(0, 10**6)))
    mlp = build_clip(TINY).visual.transformer.resblocks[0].mlp
    layer = Experts(mlp, hidden, n_experts, data.draw(st.integers(1, n_experts)), by_position=data.draw(st.booleans()), generator=g).eval()
    with torch.no_grad():
        for p in (layer.b1, layer.b2, layer.router.weight, layer.router.bias): p.copy_(torch.randn(p.shape, generator=g))
        x = torch.randn(n, l, 32, generator=g)
        want = torch.stack([layer(v.view(1, 1, 32))[0,0] for v in x.flatten(0, 1)]).view(x.shape)
        torch.testing.assert_close(layer(x), want, atol=1e-5, rtol=1e-4)
        order = torch.randperm(n, generator=g)
        torch.testing.assert_close(layer(x[order]), want[order], atol=1e-5, rtol=1e-4)

def test_released_routing_does_not():
    tower = ImageTower(build_clip(TINY).visual, 2, 8, routing='released', generator=gen(0)).eval()
    for m in tower.experts: m.alpha.data.fill_(2.); m.router.weight.data.mul_(20)
    x = torch.randn(3, 3, 16, 16, generator=gen(1))
    with torch.no_grad(): assert (tower(x)[:1]-tower(x[:1])).abs().max() > 1e-4

@pytest.mark.parametrize('routing', ROUTINGS)
def test_recomputing_keeps_outputs_and_gradients(routing):
    tower = ImageTower(build_clip(TINY).visual, 2, 8, routing=routing, generator=gen(0)).train()
    x,z,seen = torch.randn(4, 3, 16, 16, generator=gen(1)),torch.randn(4, *tower.noise_shape, generator=gen(7)),[]
    for on in (False, True):
        tower.recompute = on
        tower.zero_grad()
        out = tower(x[:2], z[:2]).square().sum() + tower(x[2:], z[2:]).square().sum()     # two passes, then one backward
        out.backward()
        seen.append((out.detach(), [p.grad.clone() for p in tower.parameters()]))
    (o1,g1),(o2,g2) = seen
    assert torch.equal(o1, o2)
    for a,b in zip(g1, g2): torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)

def test_noise_is_what_is_given_and_nothing_else_is_drawn():
    tower = ImageTower(build_clip(TINY).visual, 2, 8, generator=gen(0))
    x,before = torch.randn(2, 3, 16, 16, generator=gen(1)),torch.random.get_rng_state()
    z = torch.randn(2, *tower.noise_shape, generator=gen(3))
    with torch.no_grad():
        tower.train()
        assert torch.equal(tower(x, z), tower(x, z)) and not torch.equal(tower(x, z), tower(x, z.flip(0)))
        torch.testing.assert_close(tower(x, 0*z), tower(x), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(tower(x), tower.eval()(x), atol=1e-6, rtol=1e-5)   # attention may take another kernel in eval
    assert torch.equal(torch.random.get_rng_state(), before)

def test_no_experts_is_clip():
    clip = build_clip(TINY)
    x = torch.randn(2, 3, 16, 16, generator=gen(1))
    with torch.no_grad(): want = clip.encode_image(x)
    with torch.no_grad(): torch.testing.assert_close(ImageTower(clip.visual, 0)(x), want, atol=1e-6, rtol=1e-5)

def test_a_copy_is_a_copy():
    cfg = clip_config('small')
    cfg['vision_cfg']['width'] = 1
    assert SMALL_CLIP['vision_cfg']['width']!=1

@pytest.mark.parametrize('kwargs,words', [(dict(routing='both'), 'token, released'), (dict(k=5), 'between 1 and 4'), (dict(k=0), 'between 1 and 4')])
def test_bad_experts_are_one_clear_error(kwargs, words):
    with pytest.raises(ValueError, match=words): Experts(build_clip(TINY).visual.transformer.resblocks[0].mlp, 8, **kwargs)

def test_mixed_precision_runs():
    tower = ImageTower(build_clip(TINY).visual, 2, 8, generator=gen(0))
    x = torch.randn(2, 3, 16, 16, generator=gen(1))
    with torch.autocast('cpu', torch.bfloat16): out = tower(x, torch.randn(2, *tower.noise_shape, generator=gen(0)))
    out.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in tower.parameters())

@pytest.mark.parametrize('routing', ROUTINGS)
def test_off_the_cpu_nothing_asks_the_device(routing):
    "Tensors of the meta device have no values, so any question for one (a size, an index, a branch) is an error"
    tower = ImageTower(build_clip(TINY).visual, 2, 8, routing=routing, generator=gen(0)).to('meta').train()
    out = tower(torch.empty(2, 3, 16, 16, device='meta'), torch.empty(2, *tower.noise_shape, device='meta'))
    out.sum().backward()
    assert out.shape==(2,16) and all(p.grad is not None for p in tower.parameters())
    with pytest.raises((RuntimeError, NotImplementedError)): sorted_mixture(*(torch.empty(s, device='meta') for s in ((4,3), (4,2))),
        torch.empty(4, 2, dtype=torch.long, device='meta'), [torch.empty(s, device='meta') for s in ((2,5,3), (2,5), (2,3,5), (2,3))])
