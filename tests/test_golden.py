"""The reference values: single layers, whole small models, three training steps"""
import json
from functools import cache
import numpy as np,pytest,torch
from open_clip.transformer import QuickGELU
from recipe import GOLDEN,MODELS,golden
from torch import nn
from ssm_nb.model.experts import Experts
from ssm_nb.model.losses import JointLoss
from ssm_nb.model.ssm import GROUP_LRS,param_groups
from ssm_nb.model.released import from_released,load_released,to_released
from ssm_nb.model.temporal import ExpressionTemporal,LocalAttention

torch.set_num_threads(1)
close = lambda got, want, atol: np.testing.assert_allclose(np.asarray(got), want, rtol=0, atol=atol)

def layer(file):
    "Input, output and weights of one stored layer"
    z = np.load(GOLDEN/f'{file}.npz')
    return torch.tensor(z['x']),z['y'],{k[2:]: torch.tensor(z[k]) for k in z if k.startswith('w.')}

def test_experts_with_released_routing():
    x,y,w = layer('experts')
    shared = nn.Sequential()
    for name,m in (('c_fc', nn.Linear(16, 32)), ('gelu', QuickGELU()), ('c_proj', nn.Linear(32, 16))): shared.add_module(name, m)
    m = Experts(shared, 8, 4, 2, 'released').eval()
    stack = lambda n: torch.stack([w[f'private_experts.{i}.{n}'] for i in range(4)])
    m.load_state_dict({'alpha': w['alpha'], 'w1': stack('fc1.weight'), 'b1': stack('fc1.bias'), 'w2': stack('fc2.weight'), 'b2': stack('fc2.bias'),
                       **{f'{o}.{p}': w[f'{t}.{p}'] for t,o in (('shared_fc1', 'shared.c_fc'), ('shared_fc2', 'shared.c_proj'), ('gate', 'router')) for p in ('weight', 'bias')}})
    with torch.no_grad():
        close(m(x), y, 1e-5)
        m.routing = 'token'
        assert np.abs(m(x).numpy()-y).max()>0.1

def test_expression_temporal():
    x,y,w = layer('fe_temporal')
    m = ExpressionTemporal(8, 6, heads=2)
    t = 'temporal_transformer.layers.0.'
    names = {'fn.norm': 'norm1', 'fn.fn.to_qkv': 'to_qkv', 'fn.fn.to_out.0': 'to_out'},{'fn.norm': 'norm2', 'fn.fn.net.0': 'fc1', 'fn.fn.net.3': 'fc2'}
    ours = {f'{t}{i}.{a}': b for i in (0,1) for a,b in names[i].items()}|{'ln': 'norm'}
    split = lambda n: n.rpartition('.')
    m.load_state_dict({(f'{ours[split(n)[0]]}.{split(n)[2]}' if split(n)[0] else n): v for n,v in w.items()})
    with torch.no_grad(): close(m(x), y, 1e-5)

def test_local_attention():
    x,y,w = layer('au_temporal')
    m = LocalAttention(8, heads=2)
    m.load_state_dict({n.removeprefix('layers.0.').replace('relative_position_bias', 'relative_bias'): v for n,v in w.items()})
    with torch.no_grad(): close(m(x), y, 1e-5)

def released_state(name):
    "The drawn state of a reference model, with the stored prior and its sums as the release's code makes them, the neutral row included"
    z,w = golden(name)
    init_map = torch.tensor(z['prior'])
    state = {n: torch.tensor(v) for n,v in w.items()}
    state |= dict(init_map=init_map, row_targets_au2emo=init_map.sum(dim=1), row_targets_emo2au=init_map.sum(dim=0))
    order = [r[0] for r in json.loads((GOLDEN/f'{MODELS[name]}.json').read_text())]
    return z,{n: state[n] for n in order}

@cache
def clips(name):
    s = int(name.rpartition('seed')[2])
    return tuple(torch.tensor(np.random.RandomState(seed).standard_normal((2,16,3,32,32)).astype(np.float32)) for seed in (s, s+1))

@pytest.fixture(scope='module', params=list(MODELS))
def case(request):
    z,state = released_state(request.param)
    return request.param,z,state,from_released(state)

def check_outputs(out, z, prefix='', **tol):
    "Outputs by their stored names"
    for name,got in zip(('fe_logits', 'fe_semantic_logits', 'au_logits', 'au_semantic_logits', 'map_au2fe', 'map_fe2au'), out):
        if prefix+name not in z: continue
        want = z[prefix+name]
        np.testing.assert_allclose(got.reshape(want.shape).detach().numpy(), want, err_msg=prefix+name,
                                   **(tol or dict(rtol=0, atol=1e-5 if 'map' in name else 1e-4)))

def test_whole_model(case):
    name,z,_,model = case
    fe_clip,au_clip = clips(name)
    with torch.no_grad():
        check_outputs(model(fe_clip, au_clip), z)
        check_outputs(model(fe_clip), {k: z[k] for k in ('fe_logits', 'fe_semantic_logits')})
        close(model(au_clip=au_clip).au.flatten(0, 1), z['au_logits'], 1e-4)

def test_text_features_tokens_prior_and_frame_features(case):
    name,z,_,model = case
    with torch.no_grad():
        for p,which in zip(model.prototypes(), ('fe', 'au')): close(p, z[f'text_features_{which}'], 1e-5)
        close(model.frame_features(clips(name)[0][:1])[0], z['frame_features_x0'], 1e-4)     # clip 0 alone: company matters
    for which,p in (('fe', model.prototypes.fe), ('au', model.prototypes.au)): assert (p.token_ids.numpy()==z[f'tokens_{which}']).all()
    close(model.mapping.prior, z['prior'], 0)

def test_to_released_gives_back_names_order_and_bits(case):
    _,_,state,model = case
    back = to_released(model)
    assert list(back)==list(state)
    twins = [n for n in state if '.mlp.shared_fc' in n]         # the same tensors as shared_expert.*, whose value is in force
    for n,t in back.items():
        want = state[n.replace('shared_fc1', 'shared_expert.0').replace('shared_fc2', 'shared_expert.2')] if n in twins else state[n]
        assert t.dtype==want.dtype and torch.equal(t, want), n

@pytest.mark.parametrize('name', MODELS)
def test_three_training_steps(name):
    "The recipe, written out: AdamW by group, gradient norm clipped at 1, EMA of decay 0.99 after every step"
    z,state = released_state(name)
    model,(fe_clip,au_clip) = from_released(state).train(),clips(name)
    fe_labels,au_labels = torch.tensor(z['train_fe_labels']),torch.tensor(z['train_au_labels'])
    loss = JointLoss()
    loss.start_epoch(5)
    opt = torch.optim.AdamW([dict(params=ps, lr=lr) for ps,lr in zip(param_groups(model), GROUP_LRS.values())], weight_decay=1e-4)
    params = [p for g in opt.param_groups for p in g['params']]
    ema = [p.detach().clone() for p in params]
    raw,means = [],[]
    for _ in range(3):
        out = loss(model(fe_clip, au_clip), fe_labels, au_labels)
        opt.zero_grad()
        out.total.backward()
        nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        for e,p in zip(ema, params): e.lerp_(p.detach(), 0.01)
        raw.append(out.raw); means.append(loss.balance.mean.clone())
    np.testing.assert_allclose(torch.stack(raw), z['train_raw_losses'], rtol=1e-3)
    np.testing.assert_allclose(torch.stack(means), z['train_moving_means'], rtol=1e-3)
    with torch.no_grad():
        for e,p in zip(ema, params): p.copy_(e)
        after = model.eval()(fe_clip, au_clip)
    check_outputs(after, z, 'after3_ema_', rtol=1e-3, atol=1e-3*np.abs(z['after3_ema_fe_logits']).mean())
    moved = np.abs(z['after3_ema_fe_logits']-z['fe_logits']).max()
    assert np.abs(after.fe.numpy()-z['after3_ema_fe_logits']).max() < 1e-2*moved

class RecorderMeter:
    "What the release's training script pickles beside the weights"
    def __init__(self, epochs): self.epochs,self.losses,self.best = epochs,np.zeros((epochs, 2), np.float32),np.float64(0.5)

@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize('name', MODELS)
def test_a_file_as_the_release_saves_it(name, prefix, tmp_path, monkeypatch):
    "Outputs to 1e-4, and the same tensors back bit for bit"
    z,state = released_state(name)
    opt = torch.optim.AdamW([nn.Parameter(torch.ones(2))])
    opt.param_groups[0]['params'][0].sum().backward(); opt.step()
    torch.save(dict(epoch=30, state_dict={prefix+n: t for n,t in state.items()}, optimizer=opt.state_dict(), recorder=RecorderMeter(30)), tmp_path/'model_best.pth')
    monkeypatch.delattr(__import__(__name__), 'RecorderMeter')       # the class does not exist where the file is read
    model = load_released(tmp_path/'model_best.pth')
    with torch.no_grad(): check_outputs(model(*clips(name)), z)
    back = to_released(model)
    assert list(back)==list(state) and all(torch.equal(t, state[n]) for n,t in back.items() if '.mlp.shared_fc' not in n)
