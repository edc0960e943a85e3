"""The whole model: branches, prototypes kept in evaluation, parameter groups, round trips"""
import copy,json
import numpy as np,pytest,torch
from hypothesis import given,settings,strategies as st
from ssm_nb.labels.facs import BP4D_AUS,EXPRESSIONS_7,LabelOrderError,LabelSpace,label_space
from ssm_nb.model.ssm import GROUP_LRS,build_ssm,from_config,param_groups
from ssm_nb.model.temporal import AUSmoother
from ssm_nb.labels.prior import Prior,ssm_prior
from ssm_nb.model.prototypes import facs_prompts,released_prompts

torch.set_num_threads(1)
TINY = dict(embed_dim=64, quick_gelu=True, vision_cfg=dict(image_size=16, patch_size=8, width=32, layers=2, head_width=16),
            text_cfg=dict(context_length=77, vocab_size=49408, width=16, heads=1, layers=1))

def gen(seed): return torch.Generator().manual_seed(seed)

def ssm(aus='bp4d', e=7, **kwargs):
    space = label_space(aus, e)
    return build_ssm(TINY, space, ssm_prior(space), *released_prompts(space), **dict(n_frames=4, expert_hidden=8)|kwargs).eval()

def clips(b, t=4, seed=0): return torch.randn(b, t, 3, 16, 16, generator=gen(seed))

@pytest.fixture(scope='module')
def model(): return ssm()

@settings(max_examples=15, deadline=None)
@given(st.integers(1,4), st.integers(1,6), st.integers(0,99))
def test_clips_do_not_see_each_other_under_token_and_clip(model, b, t, seed):
    fe,au = clips(b, 4, seed),clips(b, t, seed+1)
    with torch.no_grad():
        out = model(fe, au)
        for i in range(b):
            one = model(fe[i:i+1], au[i:i+1])
            for name in ('fe', 'fe_semantic', 'au', 'au_semantic'):
                torch.testing.assert_close(getattr(out, name)[i], getattr(one, name)[0], atol=1e-4, rtol=1e-4)

@pytest.mark.parametrize('kwargs', [dict(), dict(routing='released', smoothing='pairs')])
def test_one_branch_is_the_same_as_that_branch_of_both(kwargs):
    model = ssm('disfa', 11, **kwargs)
    fe,au = clips(3),clips(2, seed=1)
    with torch.no_grad(): both,f,a,none = model(fe, au),model(fe),model(None, au),model()
    assert torch.equal(both.fe, f.fe) and torch.equal(both.au, a.au) and f.au is None and a.fe is None
    assert none[:4]==(None,)*4 and torch.equal(none.au2fe, both.au2fe)

@settings(max_examples=30, deadline=None)
@given(st.integers(1,3), st.integers(1,9), st.integers(1,4), st.sampled_from([1,3,5,7]), st.integers(0,99))
def test_smoothing_along_the_clip_is_the_naive_convolution(b, t, a, taps, seed):
    m,x = AUSmoother(a, 'clip', taps),torch.randn(b, t, a, generator=gen(seed))
    with torch.no_grad():
        m.conv.weight.copy_(torch.randn(a, 1, taps, generator=gen(seed+1)))
        want = torch.zeros_like(x)
        for i in range(t):
            for j in range(taps):
                if 0<=(s := i+j-taps//2)<t: want[:,i] += m.conv.weight[:,0,j]*x[:,s]
        torch.testing.assert_close(m(x), want, atol=1e-5, rtol=1e-4)

@settings(max_examples=30, deadline=None)
@given(st.integers(1,3), st.integers(1,5), st.integers(1,4), st.integers(0,99))
def test_smoothing_in_pairs_never_crosses_a_pair(b, pairs, a, seed):
    m,x = AUSmoother(a, 'pairs'),torch.randn(b, 2*pairs, a, generator=gen(seed))
    with torch.no_grad(): torch.testing.assert_close(m(x), x.view(b, pairs, 2, a).sum(2, keepdim=True).expand(-1, -1, 2, -1).reshape(x.shape)/5, atol=1e-5, rtol=1e-4)

def text_runs(model):
    "A list that grows with every run of the text tower"
    runs = []
    model.prototypes.text.register_forward_hook(lambda *_: runs.append(1))
    return runs

CHANGES = {
    'ctx': lambda m: m.prototypes.fe.ctx.mul_(2), 'text weight': lambda m: m.prototypes.text.text_projection.add_(1), 'by data': lambda m: m.prototypes.au.ctx.data.add_(1),
    'optimiser': lambda m: torch.optim.SGD([m.prototypes.au.ctx], 1.).step(), 'state': lambda m: m.load_state_dict({k: v*1.5 for k,v in m.state_dict().items()})}

@pytest.mark.parametrize('change', CHANGES)
def test_prototypes_follow_every_way_to_change_a_weight(change):
    model = ssm()
    x = clips(1)
    model.prototypes.au.ctx.grad = torch.ones_like(model.prototypes.au.ctx)
    with torch.no_grad():
        before,runs = model(au_clip=x),text_runs(model)
        model(au_clip=x)
        assert not runs
        CHANGES[change](model)
        after = model(au_clip=x)
        assert runs and not torch.equal(before.au_semantic, after.au_semantic)
        want = from_config(model.config, model.state_dict())(au_clip=x)
        assert torch.equal(after.au_semantic, want.au_semantic)

def test_prototypes_are_kept_when_other_weights_change():
    model = ssm()
    with torch.no_grad():
        model(au_clip=clips(1))
        runs = text_runs(model)
        for p in [*model.image.parameters(), *model.mapping.parameters(), *model.au_head.parameters()]: p.mul_(1.1)
        model(au_clip=clips(1)); model(clips(1))
    assert not runs

def test_training_computes_prototypes_every_time_and_trains_contexts():
    model = ssm().train()
    runs = text_runs(model)
    for _ in range(2): model(clips(1), clips(1)).au_semantic.square().sum().backward()
    assert len(runs)==4 and model.prototypes.fe.ctx.grad.any() and model.prototypes.au.ctx.grad.any()
    assert all(p.grad is None for p in model.prototypes.text.parameters())

@pytest.mark.parametrize('kwargs', [dict(), dict(class_specific=False), dict(n_expert_blocks=0)])
def test_groups_hold_every_trainable_parameter_once(kwargs):
    model = ssm(**kwargs)
    groups = param_groups(model)
    ids = [id(p) for g in groups for p in g]
    assert len(groups)==len(GROUP_LRS) and len(ids)==len(set(ids)) and set(ids)=={id(p) for p in model.parameters() if p.requires_grad}
    assert {id(p) for p in groups[0]}=={id(p) for p in model.image.parameters()}
    assert [tuple(p.shape) for p in groups[1]]==[(7,12), (12,7)]

@settings(max_examples=10, deadline=None)
@given(st.integers(1,5), st.integers(1,5), st.booleans(), st.integers(0,9))
def test_any_labels_any_prior(a, e, neutral, seed):
    names = ['happiness', 'anger', 'fear', 'disgust', 'contempt'][:e]
    space = LabelSpace((1,2,4,6,12)[:a], (['neutral'] if neutral else [])+names)
    prior = Prior(np.random.default_rng(seed).random((space.n_expressions, a)), space)
    model = build_ssm(TINY, space, prior, list(space.au_names), list(space.expressions), n_frames=4, expert_hidden=8).eval()
    with torch.no_grad(): out = model(clips(2), clips(1))
    assert out.fe.shape==(2, space.n_expressions) and out.au.shape==(1, 4, a) and all(o.isfinite().all() for o in out)
    np.testing.assert_allclose(out.au2fe, prior.matrix, atol=1e-5)
    twin = from_config(json.loads(json.dumps(model.config)), model.state_dict())
    with torch.no_grad(): assert all(torch.equal(x, y) for x,y in zip(out, twin(clips(2), clips(1))))

def test_same_seed_same_bits_and_the_global_generator_is_untouched():
    before = torch.random.get_rng_state()
    a,b,c = ssm(seed=3),ssm(seed=3),ssm(seed=4)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(p, q) for p,q in zip(a.state_dict().values(), b.state_dict().values()))
    assert not torch.equal(a.fe_head.weight, c.fe_head.weight)

def test_pretrained_weights_are_used():
    from ssm_nb.model.backbone import build_clip
    clip = build_clip(TINY, seed=9)
    model = ssm(clip_weights=clip.state_dict())
    assert torch.equal(model.image.visual.proj, clip.visual.proj) and torch.equal(model.prototypes.text.text_projection, clip.text_projection)
    assert torch.equal(model.image.experts[0].shared.c_fc.weight, clip.visual.transformer.resblocks[1].mlp.c_fc.weight)

def test_a_copy_is_independent(model):
    twin = copy.deepcopy(model)
    with torch.no_grad():
        want = model(clips(1), clips(1))
        for p in twin.parameters(): p.zero_()
        assert all(torch.equal(x, y) for x,y in zip(want, model(clips(1), clips(1))))

def test_mixed_precision_trains():
    model = ssm().train()
    with torch.autocast('cpu', torch.bfloat16): out = model(clips(2), clips(2))
    (out.fe.float().square().mean()+out.au.float().square().mean()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)

@pytest.mark.parametrize('kwargs,words', [(dict(routing='both'), 'token, released'), (dict(smoothing='both'), 'clip, pairs'), (dict(n_expert_blocks=3), 'this tower has 2'),
    (dict(n_ctx=0), 'n_ctx'), (dict(position='left'), 'front'), (dict(k=9), 'between 1 and 4')])
def test_bad_options_are_one_clear_error(kwargs, words):
    with pytest.raises(ValueError, match=words): ssm(**kwargs)

def test_bad_clips_are_one_clear_error(model):
    for fe,au,words in ((clips(1)[0], None, 'b, t, 3, h, w'), (None, clips(1)[0], 'b, t, 3, h, w'), (clips(1, 5), None, '4 frames, not 5'), (clips(1)[...,:8], None, '16, 16')):
        with pytest.raises(ValueError, match=words): model(fe, au)

@pytest.mark.parametrize('aus,expressions,words', [
    (BP4D_AUS[::-1], EXPRESSIONS_7, 'expected AU1, AU2, AU4.*found    AU24, AU23, AU17'),      # AUs in another order
    (BP4D_AUS, EXPRESSIONS_7[::-1], 'expected happiness.*found    fear'),                       # expressions in another order
    (BP4D_AUS[:-1], EXPRESSIONS_7, 'AU24 / nothing'),                                           # fewer AUs
    ((2, 1)+BP4D_AUS[2:], EXPRESSIONS_7, 'differ at position 0')])                              # two AUs swapped, the shape and most cells the same
def test_a_prior_with_other_labels_never_reaches_a_model(aus, expressions, words):
    space = label_space('bp4d', 7)
    prior = ssm_prior(space).to(LabelSpace(aus, expressions))
    with pytest.raises(LabelOrderError, match='(?s)'+words): build_ssm(TINY, space, prior, *released_prompts(space))
    with pytest.raises(LabelOrderError, match='(?s)'+words): facs_prompts(space, prior)

@pytest.mark.parametrize('bare', [lambda p: p.matrix, lambda p: torch.tensor(p.matrix), lambda p: p.matrix.tolist(), lambda p: None])
def test_a_bare_matrix_never_reaches_a_model(bare):
    space = label_space('bp4d', 7)
    with pytest.raises(ValueError, match='write Prior'): build_ssm(TINY, space, bare(ssm_prior(space)), *released_prompts(space))
