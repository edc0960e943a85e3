"""Checkpoints of the release: names, sizes, bits, and files that mean harm"""
import copy,json,os,pickle,warnings,zipfile
from collections import OrderedDict
from pathlib import Path
import numpy as np,pytest,torch
from hypothesis import given,settings,strategies as st
from safetensors.torch import save_file
from ssm_nb.model.backbone import clip_config
from ssm_nb.labels.facs import label_space
from ssm_nb.model.ssm import build_ssm,from_config
from ssm_nb.labels.prior import ssm_prior
from ssm_nb.model.prototypes import released_prompts
from ssm_nb.model.released import from_released,load_model,load_released,save_model,to_released
from ssm_nb.core.archives import read_checkpoint
from ssm_nb.runs.predicting import read_model

torch.set_num_threads(1)
SPACES = [('bp4d', 7), ('bp4d', 11), ('disfa', 7), ('disfa', 11)]

def clip_cfg(embed=64, image=16, patch=8, width=64, layers=2, text=64, text_layers=1):
    return dict(embed_dim=embed, quick_gelu=True, vision_cfg=dict(image_size=image, patch_size=patch, width=width, head_width=64, layers=layers),
                text_cfg=dict(context_length=77, vocab_size=49408, width=text, heads=text//64, layers=text_layers))

def ssm(aus='bp4d', e=7, cfg=None, **kwargs):
    space = label_space(aus, e)
    kwargs = dict(n_frames=2, n_expert_blocks=1, expert_hidden=4, routing='released', smoothing='pairs')|kwargs
    return build_ssm(cfg or clip_cfg(), space, ssm_prior(space), *released_prompts(space), **kwargs).eval()

def outputs(model, t, size, seed=0):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad(): return model(*(torch.randn(2, t, 3, size, size, generator=g) for _ in range(2)))

def same(xs, ys): return all(torch.equal(x, y) for x,y in zip(xs, ys, strict=True))

@pytest.mark.parametrize('aus,e', SPACES)
def test_full_size_models_have_the_released_names_order_and_shapes(aus, e):
    schema = json.loads((Path(__file__).parent/'schema'/f'released_schema_{aus}_{e}.json').read_text())
    state = to_released(ssm(aus, e, clip_config('ViT-B-16-quickgelu'), n_frames=16, n_expert_blocks=None, expert_hidden=512))
    assert [[n, list(t.shape)] for n,t in state.items()]==schema

def test_a_full_size_model_comes_back_bit_for_bit():
    model = ssm('disfa', 11, clip_config('ViT-B-16-quickgelu'), n_frames=16, n_expert_blocks=None, expert_hidden=512)
    twin = from_released(to_released(model))
    assert dict(twin.config, clip_cfg=None)==dict(model.config, clip_cfg=None) and same(model.state_dict().values(), twin.state_dict().values())
    clip = torch.randn(1, 2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(): assert torch.equal(model(au_clip=clip).au, twin(au_clip=clip).au)

@settings(max_examples=12, deadline=None)
@given(st.sampled_from(SPACES), st.sampled_from([64,128]), st.integers(2,4), st.integers(1,2), st.sampled_from([64,128]), st.integers(1,3), st.data())
def test_sizes_are_inferred_and_outputs_are_the_same_bits(space, embed, grid, patch, width, layers, data):
    cfg = clip_cfg(embed, grid*patch*4, patch*4, width, layers, data.draw(st.sampled_from([64,128])), data.draw(st.integers(1,2)))
    model = ssm(*space, cfg, n_frames=2*data.draw(st.integers(1,2)), n_expert_blocks=data.draw(st.integers(1,layers)), expert_hidden=data.draw(st.integers(1,6)),
                n_experts=data.draw(st.integers(2,5)), n_ctx=data.draw(st.integers(1,8)), class_specific=data.draw(st.booleans()), seed=data.draw(st.integers(0,99)))
    with torch.no_grad():
        g = torch.Generator().manual_seed(data.draw(st.integers(0,99)))
        for p in model.parameters(): p.add_(0.1*torch.randn(p.shape, generator=g))
    state = to_released(model)
    twin = from_released({f'module.{n}': t for n,t in state.items()} if data.draw(st.booleans()) else state)
    assert twin.config==model.config and not twin.training
    assert same(outputs(model, model.config['n_frames'], grid*patch*4), outputs(twin, model.config['n_frames'], grid*patch*4))
    back = to_released(twin)
    assert list(back)==list(state) and same(back.values(), state.values())

def test_embeddings_in_the_file_are_in_force_not_the_new_models():
    state = to_released(ssm())
    state['prompt_learner2.token_suffix'] = state['prompt_learner2.token_suffix']+1
    assert torch.equal(from_released(state).prototypes.au.token_suffix, state['prompt_learner2.token_suffix'])

def test_a_loaded_model_shares_no_memory_with_the_state():
    state = to_released(ssm())
    model = from_released(state)
    with torch.no_grad():
        for t in state.values(): t.zero_()
    assert model.mapping.prior.any() and model.image.visual.proj.any()

def test_what_a_released_file_cannot_hold_is_refused():
    with pytest.raises(ValueError, match='prompts'):
        space = label_space('bp4d', 7)
        to_released(build_ssm(clip_cfg(), space, ssm_prior(space), [f'unit {i}' for i in range(12)], released_prompts(space)[1], n_expert_blocks=1, expert_hidden=4))
    with pytest.raises(ValueError, match="position='front'"): to_released(ssm(position='middle'))

# files ------------------------------------------------------------------------------------------------------------

class Recorder:
    "What a training script might pickle beside the weights"
    def __init__(self): self.losses,self.best,self.seen,self.names = np.zeros((3,2)),np.float64(0.5),{1,2},[torch.float32,torch.Size([1])]

@pytest.mark.parametrize('protocol', [2,3,4])
@pytest.mark.parametrize('prefix', ['','module.'])
def test_distributed_files_are_read(tmp_path, protocol, prefix, monkeypatch):
    model = ssm()
    state = {prefix+n: torch.nn.Parameter(t) if t.is_floating_point() else t for n,t in to_released(model).items()}
    opt = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
    opt.param_groups[0]['params'][0].sum().backward(); opt.step()
    torch.save(dict(epoch=3, state_dict=state, optimizer=opt.state_dict(), recorder=Recorder()), tmp_path/'full.pth', pickle_protocol=protocol)
    torch.save(state, tmp_path/'bare.pth', pickle_protocol=protocol)
    save_file({n: t.detach() for n,t in state.items()}, tmp_path/'plain.safetensors')
    monkeypatch.delattr(__import__(__name__), 'Recorder')       # the class does not exist where the file is read
    for f in ('full.pth', 'bare.pth', 'plain.safetensors'): assert same(outputs(load_released(tmp_path/f), 2, 16), outputs(model, 2, 16)), f

def test_views_share_a_storage(tmp_path):
    x = torch.arange(24.).reshape(2,3,4)
    torch.save(dict(a=x[1], b=x.transpose(0,2), c=x[:,1], d=x.half(), e=torch.tensor(7)), tmp_path/'v.pth')
    state = read_checkpoint(tmp_path/'v.pth')
    for k,want in dict(a=x[1], b=x.transpose(0,2), c=x[:,1], d=x.half(), e=torch.tensor(7)).items(): assert torch.equal(state[k], want)

class Call:
    "Pickles as a call of `f(*args)`"
    def __init__(self, f, *args, state=None): self.f,self.args,self.state = f,args,state
    def __reduce__(self): return (self.f, self.args) if self.state is None else (self.f, self.args, self.state)

def attacks(marker):
    "Objects and raw pickles that create the file `marker` when an ordinary unpickler reads them"
    cmd = f'echo ran > {marker}'
    py = f"open({str(marker)!r},'w').close()"
    yield 'system', Call(os.system, cmd)
    yield 'eval', Call(eval, py)
    yield 'exec', Call(exec, py)
    yield 'open', Call(open, str(marker), 'w')
    yield 'path', Call(Path.touch, Call(Path, str(marker)))
    yield 'map', Call(list, Call(map, eval, [py]))
    yield 'getattr', b'cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S"os"\ntRS"system"\ntR(S' + repr(cmd).encode() + b'\ntR.'
    yield 'torch', Call(torch.load, str(marker))
    yield 'numpy', Call(np.load, str(marker))
    yield 'inst', b'(S' + repr(cmd).encode() + b'\nios\nsystem\n.'
    yield 'obj', b'(cos\nsystem\nS' + repr(cmd).encode() + b'\no.'
    yield 'protocol 0', b'cos\nsystem\n(S' + repr(cmd).encode() + b'\ntR.'

def write(path, data):
    "A checkpoint whose data.pkl is `data`, an object or a raw pickle"
    if not isinstance(data, bytes): data = pickle.dumps(data, protocol=2)
    with zipfile.ZipFile(path, 'w') as z: z.writestr('x/data.pkl', data)

NAMES = [n for n,_ in attacks('x')]

@pytest.mark.parametrize('name', NAMES)
def test_a_file_that_runs_code_runs_nothing_and_is_an_error(tmp_path, name):
    marker = tmp_path/'ran'
    attack = dict(attacks(marker))[name]
    payloads = [attack] if isinstance(attack, bytes) else [attack, dict(state_dict={}, recorder=attack), dict(state_dict=attack), {'w': [attack]}]
    for p in payloads:
        write(tmp_path/'evil.pth', p)
        with pytest.raises(ValueError, match='evil.pth'): load_released(tmp_path/'evil.pth')
        assert not marker.exists()

def test_the_attacks_are_real(tmp_path):
    for name,attack in attacks(tmp_path/'ran'):
        if name in ('torch', 'numpy'): continue        # these call something that reads, and leave no trace
        if name=='path': attack = Call(Path.touch, tmp_path/'ran')         # an inner Call stands for its result only after unpickling
        try: pickle.loads(attack if isinstance(attack, bytes) else pickle.dumps(attack, protocol=4))
        except Exception: pass
        assert (tmp_path/'ran').exists(), name
        (tmp_path/'ran').unlink()

def test_a_file_cannot_change_this_library(tmp_path):
    "BUILD sets attributes on whatever is named; ours must stay as they are"
    from ssm_nb.core.archives import saved_tensor
    raw = b'ctorch._utils\n_rebuild_tensor_v2\n(N}S"__defaults__"\n(I1\ntstb.'
    write(tmp_path/'x.pth', raw)
    with pytest.raises(ValueError, match='x.pth'): load_released(tmp_path/'x.pth')
    assert saved_tensor.__defaults__ is None and not vars(saved_tensor)

@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_are_one_clear_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp('damaged')
    good = pickle.dumps(dict(state_dict=dict(a=1), recorder=Recorder()), protocol=2)
    pos,byte = data.draw(st.integers(0, len(good)-1)),data.draw(st.integers(0,255))
    bad = good[:pos] + (bytes([byte]) + good[pos+1:] if data.draw(st.booleans()) else b'')
    write(folder/'d.pth', bad)
    with pytest.raises(ValueError, match='d.pth'): load_released(folder/'d.pth')

def test_other_files_are_one_clear_error(tmp_path):
    f = tmp_path/'f.pth'
    with pytest.raises(ValueError, match='no such file'): load_released(f)
    for content in (b'', b'text', pickle.dumps({'a': 1})):
        f.write_bytes(content)
        with pytest.raises(ValueError, match='f.pth: not a checkpoint'): load_released(f)
    torch.save(to_released(ssm()), f)
    whole = f.read_bytes()
    for n in (10, len(whole)//2, len(whole)-10):
        f.write_bytes(whole[:n])
        with pytest.raises(ValueError, match='f.pth'): load_released(f)
    torch.save({'a': torch.ones(2)}, f)
    with pytest.raises(ValueError, match='f.pth: not the state of a released SSM'): load_released(f)

# our own ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('kwargs', [dict(), dict(routing='token', smoothing='clip', position='end', class_specific=False, k=3)])
def test_own_files_round_trip(tmp_path, kwargs):
    model = ssm('disfa', 11, **kwargs)
    save_model(model, tmp_path/'m.safetensors')
    twin = load_model(tmp_path/'m.safetensors')
    assert twin.config==model.config and twin.space==model.space and same(outputs(model, 2, 16), outputs(twin, 2, 16))
    assert [p.name for p in tmp_path.iterdir()]==['m.safetensors']

def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    model = ssm()
    save_model(model, tmp_path/'m.safetensors')
    before = (tmp_path/'m.safetensors').read_bytes()
    model.config['n_frames'] = object()                    # cannot be written as JSON
    with pytest.raises(TypeError): save_model(model, tmp_path/'m.safetensors')
    assert (tmp_path/'m.safetensors').read_bytes()==before and [p.name for p in tmp_path.iterdir()]==['m.safetensors']

def test_own_files_that_are_damaged(tmp_path):
    f = tmp_path/'m.safetensors'
    save_model(ssm(), f)
    whole = f.read_bytes()
    for content in (b'', whole[:100], whole[:-100]):
        f.write_bytes(content)
        with pytest.raises(ValueError, match='m.safetensors'): load_model(f)
    save_file({'a': torch.ones(2)}, f, metadata=dict(ssm='{}'))
    with pytest.raises(ValueError, match='m.safetensors'): load_model(f)

# what a released file means ----------------------------------------------------------------------------------------

def as_released(model):
    "The state of `model` with the sums of the prior as the release's code makes them"
    state = to_released(model)
    return OrderedDict(state, row_targets_au2emo=state['init_map'].sum(dim=1), row_targets_emo2au=state['init_map'].sum(dim=0))

@pytest.mark.parametrize('aus,e', SPACES)
def test_the_buffers_written_are_the_sums_of_the_whole_prior(aus, e):
    model = ssm(aus, e)
    assert all(torch.equal(t, to_released(model)[n]) for n,t in as_released(model).items())
    assert all(torch.equal(t, to_released(from_released(as_released(model)))[n]) for n,t in as_released(model).items())

@pytest.mark.parametrize('spoil', [
    lambda p: dict(row_targets_emo2au=p.sum(dim=0)-p[2]),                # without the neutral row, as a misreading has it
    lambda p: dict(row_targets_emo2au=p.sum(dim=0)*1.05),
    lambda p: dict(row_targets_au2emo=p.sum(dim=1).flip(0)),
    lambda p: dict(init_map=p.clone().fill_(.5))])
def test_sums_of_another_meaning_are_refused(spoil):
    state = as_released(ssm())
    with pytest.raises(ValueError, match='is not the sum of the prior, the neutral row included'): from_released({**state, **spoil(state['init_map'])})

# names, types and numbers ------------------------------------------------------------------------------------------

@pytest.mark.parametrize('front', ['module.', '_orig_mod.', 'model.', 'model.module.', 'module._orig_mod.', '_orig_mod.module.model.', 'net.', 'student.ssm.'])
def test_names_with_anything_in_front_are_read(front, tmp_path):
    model = ssm()
    assert same(from_released({front+n: t for n,t in to_released(model).items()}).state_dict().values(), model.state_dict().values())
    twin = from_config(model.config, {front+n: t for n,t in model.state_dict().items()})
    assert same(twin.state_dict().values(), model.state_dict().values())

def test_marks_in_the_middle_of_names_are_taken_off():
    model = ssm()
    state = {n.replace('resblocks.1.', 'resblocks.1._orig_mod.').replace('encoder.', 'encoder.module.'): t for n,t in to_released(model).items()}
    assert any('_orig_mod' in n for n in state) and same(from_released(state).state_dict().values(), model.state_dict().values())

def test_two_models_under_one_roof_are_asked_about():
    state = to_released(ssm())
    with pytest.raises(ValueError, match="their names begin with 'ema.', 'model.'"): from_released({f'{p}.{n}': t for p in ('model', 'ema') for n,t in state.items()})
    with pytest.raises(ValueError, match='twice'): from_released(state | {'module.alpha': torch.tensor(9.)})
    with pytest.raises(ValueError, match='unknown teacher.bias'): from_released({f'model.{n}': t for n,t in state.items()} | {'teacher.bias': torch.zeros(1)})

@pytest.mark.parametrize('place', ['state_dict', 'model', 'model_state_dict', 'net', 'checkpoint.model', 'state.model_state_dict.module'])
def test_states_at_any_place_are_found(tmp_path, place):
    model = ssm()
    opt = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2)) for _ in range(3)])
    sum(p.sum() for p in opt.param_groups[0]['params']).backward(); opt.step()
    inside = to_released(model)
    for key in reversed(place.split('.')): inside = {key: inside, 'epoch': 3, 'optimizer': opt.state_dict(), 'best': torch.tensor(.5)}
    torch.save(inside, tmp_path/'m.pth')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert same(load_released(tmp_path/'m.pth').state_dict().values(), model.state_dict().values())

@pytest.mark.parametrize('plain,other', [('state_dict', 'state_dict_ema'), ('model', 'model_ema'), ('model_state_dict', 'ema.shadow')])
def test_of_two_states_the_one_taken_is_said(tmp_path, plain, other):
    model,mean = ssm(seed=0),ssm(seed=1)
    inside = to_released(mean)
    for key in reversed(other.split('.')): inside = {key: inside}
    torch.save(inside|{plain: to_released(model)}, tmp_path/'m.pth')
    with pytest.warns(UserWarning, match=f"m.pth: took the state '{plain}'; beside it is '{other}'"): got = load_released(tmp_path/'m.pth')
    assert same(got.state_dict().values(), model.state_dict().values())
    assert same(load_released(tmp_path/'m.pth', entry=other).state_dict().values(), mean.state_dict().values())
    with pytest.raises(ValueError, match=f"m.pth: no state 'mean' inside; there is .*{plain}"): load_released(tmp_path/'m.pth', entry='mean')

@pytest.mark.parametrize('bad', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('name,ours', [('au_head.weight', 'au_head.weight'), ('init_map', 'mapping.prior'), ('encoder.transformer.resblocks.1.mlp.private_experts.1.fc2.bias', 'image.visual.transformer.resblocks.1.mlp.b2')])
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path, name, ours, bad):
    model = ssm()
    state = to_released(model)
    state[name].flatten()[-1] = bad
    torch.save({f'module.{n}': t for n,t in state.items()}, tmp_path/'m.pth')
    with pytest.raises(ValueError, match=f'm.pth: {name} is NaN or infinite in 1 of'): load_released(tmp_path/'m.pth')
    with torch.no_grad(): model.state_dict()[ours].flatten()[-1] = bad
    save_model(model, tmp_path/'m.safetensors')
    with pytest.raises(ValueError, match=f'm.safetensors: {ours} is NaN or infinite in 1 of'): load_model(tmp_path/'m.safetensors')

@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
def test_other_floating_point_types_are_converted_and_said(tmp_path, dtype):
    model = ssm()
    rounded = {n: t.to(dtype).float() for n,t in model.state_dict().items()}
    torch.save({n: t.to(dtype) for n,t in to_released(model).items()}, tmp_path/'m.pth')
    save_model(copy.deepcopy(model).to(dtype), tmp_path/'m.safetensors')
    for load,file in ((load_released, 'm.pth'), (load_model, 'm.safetensors')):
        with pytest.warns(UserWarning, match=f'converted to float32: .* of {str(dtype)[6:]}'): twin = load(tmp_path/file)
        assert all(t.dtype==torch.float32 and torch.equal(t, rounded[n]) for n,t in twin.state_dict().items())
        assert all(o.isfinite().all() for o in outputs(twin, 2, 16))

@pytest.mark.parametrize('dtype', [torch.int32, torch.bool, torch.complex64])
def test_numbers_of_another_kind_are_refused_by_name(tmp_path, dtype):
    torch.save(dict(to_released(ssm()), **{'au_head.bias': torch.ones(12).to(dtype)}), tmp_path/'m.pth')
    with pytest.raises(ValueError, match=f'm.pth: au_head.bias is of type {str(dtype)[6:]}'): load_released(tmp_path/'m.pth')

# files under a wrong name, and what people have instead of a file --------------------------------------------------

@pytest.mark.parametrize('name', ['m.pth', 'm.bin', 'm.SAFETENSORS', 'm'])
def test_our_own_file_is_known_by_what_it_holds(tmp_path, name):
    model = ssm()
    save_model(model, tmp_path/name)
    assert same(read_model(tmp_path/name).state_dict().values(), model.state_dict().values())

@pytest.mark.parametrize('name', ['m.safetensors', 'm.pt', 'm.zip'])
def test_a_released_file_is_known_by_what_it_holds(tmp_path, name):
    model = ssm()
    torch.save(to_released(model), tmp_path/name)
    assert same(read_model(tmp_path/name).state_dict().values(), model.state_dict().values())

def test_released_tensors_as_safetensors(tmp_path):
    model = ssm()
    save_file({n: t.contiguous() for n,t in to_released(model).items()}, tmp_path/'m.safetensors')
    assert same(read_model(tmp_path/'m.safetensors').state_dict().values(), model.state_dict().values())

@pytest.mark.parametrize('data,why', [(b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n', 'git lfs pull'), (b'<!DOCTYPE html>', 'a web page'), (b'\x1f\x8b\x08', 'packed by gzip'), (b'', 'empty')])
@pytest.mark.parametrize('name', ['m.pth', 'm.safetensors'])
def test_what_people_have_instead_of_a_checkpoint(tmp_path, data, why, name):
    (tmp_path/name).write_bytes(data)
    with pytest.raises(ValueError, match=f'{name}: .*{why}'): read_model(tmp_path/name)

@pytest.mark.parametrize('shape', [(), (0,), (1, 1, 1, 1, 1)])
@pytest.mark.parametrize('name', ['init_map', 'encoder.conv1.weight', 'encoder.positional_embedding', 'prompt_learner1.ctx', 'encoder.transformer.resblocks.1.mlp.gate.bias', 'au_head.bias'])
def test_a_tensor_of_any_shape_is_one_clear_error(tmp_path, name, shape):
    torch.save(dict(to_released(ssm()), **{name: torch.zeros(shape)}), tmp_path/'m.pth')
    with pytest.raises(ValueError, match='m.pth: '): load_released(tmp_path/'m.pth')

@pytest.mark.parametrize('change', [dict(foo=1), dict(n_frames='two'), dict(clip_cfg={}), dict(space=3)])
def test_a_configuration_that_is_none(tmp_path, change):
    model = ssm()
    save_file({n: t.contiguous() for n,t in model.state_dict().items()}, tmp_path/'m.safetensors', metadata=dict(ssm=json.dumps(dict(model.config, **change))))
    with pytest.raises(ValueError, match='m.safetensors: '): load_model(tmp_path/'m.safetensors')
