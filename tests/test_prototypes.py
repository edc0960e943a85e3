import json, numpy as np, pytest, torch
from copy import deepcopy
from hypothesis import given, settings, strategies as st
from open_clip import CLIP
from recipe import GOLDEN, MODELS, golden
from ssm_nb.labels.facs import label_space
from ssm_nb.model.prototypes import Prompts, Prototypes, released_prompts

def small_clip(seed=0, **text):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CLIP(embed_dim=512, vision_cfg=dict(image_size=32, patch_size=16, width=64, layers=1),
            text_cfg=dict(width=64, heads=1, layers=2) | text, quick_gelu=True)

CLIP_ = small_clip()

def build(space=label_space('bp4d',7), clip=None, **kw):
    return Prototypes(deepcopy(CLIP_) if clip is None else clip, *released_prompts(space), torch.Generator().manual_seed(0), **kw)

@pytest.mark.parametrize('model', MODELS)
def test_golden_tokens_and_text_features(model):
    z,w = golden(model)
    protos = build(label_space(model.split('_')[1], len(z['prior']))).eval()
    assert (protos.fe.token_ids.numpy()==z['tokens_fe']).all() and (protos.au.token_ids.numpy()==z['tokens_au']).all()
    rename = {'prompt_learner1.': 'fe.', 'prompt_learner2.': 'au.', 'text_encoder.': 'text.'}
    state = {mine+k[len(theirs):]: torch.from_numpy(np.asarray(v)) for theirs,mine in rename.items() for k,v in w.items() if k.startswith(theirs)}
    protos.load_state_dict(state) # strict: the released names are all there is
    with torch.no_grad(): p_fe,p_au = protos()
    np.testing.assert_allclose(p_fe, z['text_features_fe'], atol=1e-5)
    np.testing.assert_allclose(p_au, z['text_features_au'], atol=1e-5)

@pytest.mark.parametrize('aus', ['bp4d','disfa'])
@pytest.mark.parametrize('n', [7,11])
def test_released_schema(aus, n):
    "Names and shapes of the prompts at ViT-B/16's text width are the released ones"
    schema = json.loads((GOLDEN.parent/'schema'/f'released_schema_{aus}_{n}.json').read_text())
    protos = build(label_space(aus, n), small_clip(width=512, heads=8, layers=1))
    for k,p in dict(prompt_learner1=protos.fe, prompt_learner2=protos.au).items():
        assert [[f'{k}.{o}', list(v.shape)] for o,v in p.state_dict().items()] == [o for o in schema if o[0].startswith(k)]

texts = st.lists(st.text(alphabet='abcdefghij ,', min_size=1, max_size=40).filter(str.strip), min_size=1, max_size=4)

@settings(max_examples=25, deadline=None)
@given(texts, texts, st.integers(1,9), st.booleans(), st.sampled_from(['front','middle','end']), st.floats(0.01,100))
def test_unit_norm(au, fe, n_ctx, specific, position, scale):
    protos = Prototypes(CLIP_, au, fe, torch.Generator().manual_seed(0), n_ctx, specific, position)
    with torch.no_grad():
        for p in (protos.fe.ctx, protos.au.ctx): p.mul_(scale)
        for p,n in zip(protos(), (len(fe), len(au))):
            assert p.shape==(n,512)
            np.testing.assert_allclose(p.norm(dim=-1), np.ones(n), atol=1e-5)

@settings(max_examples=25, deadline=None)
@given(texts, st.integers(1,9), st.booleans(), st.sampled_from(['front','middle','end']))
def test_positions_by_hand(descriptions, n_ctx, specific, position):
    "Each prompt, put together one entry at a time"
    p = Prompts(CLIP_, descriptions, torch.Generator().manual_seed(1), n_ctx, specific, position)
    x = p().detach()
    for i,ids in enumerate(p.token_ids.tolist()):
        eos = ids.index(49407)
        emb = CLIP_.token_embedding(p.token_ids[i]).detach()
        ctx = list(p.ctx[i].detach() if specific else p.ctx.detach())
        words = list(emb[1+n_ctx:eos])
        h = n_ctx//2
        middle = dict(front=ctx+words, middle=ctx[:h]+words+ctx[h:], end=words+ctx)[position]
        want = torch.stack([emb[0], *middle, emb[eos]])
        assert torch.equal(x[i,:eos+1], want)

def test_contexts_come_from_the_generator():
    a,b,c = [Prompts(CLIP_, ['dimpler','jaw drop'], torch.Generator().manual_seed(s)).ctx for s in (0,0,1)]
    assert torch.equal(a,b) and not torch.equal(a,c)
    before = torch.random.get_rng_state()
    Prompts(CLIP_, ['dimpler'], torch.Generator().manual_seed(0))
    assert torch.equal(before, torch.random.get_rng_state())

def counted(protos):
    runs = []
    protos.text.register_forward_hook(lambda *_: runs.append(1))
    return runs

@pytest.mark.parametrize('name', ['fe.ctx','au.ctx','au.token_suffix','fe.token_prefix','text.positional_embedding','text.text_projection',
    'text.ln_final.weight','text.transformer.resblocks.1.mlp.c_fc.weight'])
@pytest.mark.parametrize('how', ['no_grad','data','load'])
def test_recomputed_when_a_weight_changes(name, how):
    protos = build().eval()
    runs = counted(protos)
    old = [o.detach() for o in protos()]
    t = protos.state_dict(keep_vars=True)[name]
    if how=='no_grad':
        with torch.no_grad(): t.view(-1)[0] += 0.5
    if how=='data': t.data.view(-1)[0] += 0.5
    if how=='load':
        state = {k: v.clone() for k,v in protos.state_dict().items()}
        state[name].view(-1)[0] += 0.5
        protos.load_state_dict(state)
    new = [o.detach() for o in protos()]
    assert len(runs)==4 and not all(torch.equal(a,b) for a,b in zip(old,new))
    with torch.no_grad():
        for a,b in zip(new, protos.compute()): assert torch.equal(a,b)

def test_kept_while_nothing_changes():
    protos = build().eval()
    runs = counted(protos)
    first = protos()
    protos.load_state_dict({k: v.clone() for k,v in protos.state_dict().items()})
    for context in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with context():
            for a,b in zip(first, protos()): assert torch.equal(a,b)
    assert len(runs)==2
    p = deepcopy(protos)
    runs.clear(); p(); protos()
    assert not runs

def test_writing_into_the_answer_does_not_reach_the_kept_one():
    protos = build().eval()
    with torch.no_grad():
        p_fe,_ = protos()
        want = p_fe.clone()
        p_fe.zero_()
        assert torch.equal(protos()[0], want)

def test_kept_in_inference_mode_serves_training_code():
    protos = build().eval()
    with torch.inference_mode(): protos()
    (protos()[0].sum()).backward()
    assert protos.fe.ctx.grad.abs().sum()>0

def test_autocast_is_another_precision():
    protos = build().eval()
    runs = counted(protos)
    with torch.no_grad():
        with torch.autocast('cpu', dtype=torch.bfloat16): low = protos()[0]
        full = protos()[0]
    assert len(runs)==4 and not torch.equal(low.float(), full)

def test_moves_to_another_dtype():
    protos = build().eval()
    with torch.no_grad():
        protos()
        assert protos.double()()[0].dtype==torch.float64

def test_gradients_in_eval_mode_are_those_of_training():
    protos = build()
    def grads():
        p_fe,p_au = protos()
        return torch.autograd.grad((p_fe@p_au.T).square().sum(), [protos.fe.ctx, protos.au.ctx])
    protos.train(); want = grads()
    protos.eval()
    for _ in range(2):
        for a,b in zip(grads(), want): torch.testing.assert_close(a, b)
    assert all(p.grad is None for p in protos.text.parameters())
