"""CLIP weights from every layout that is around, from files that mean harm, and without a network"""
import json,subprocess,sys,warnings,zipfile
from types import SimpleNamespace
import pytest,torch
from hypothesis import given,settings,strategies as st
from safetensors.torch import save_file
from ssm_nb.model.backbone import FULL_CLIP,build_clip
from ssm_nb.core.archives import read_checkpoint
from ssm_nb.model.weights import check_weights,clip_weights,fetch,how_to_get,read_clip

torch.set_num_threads(1)

def cfg(embed=16, image=16, patch=8, width=64, layers=2, text=64, text_layers=1, vocab=100):
    return dict(embed_dim=embed, quick_gelu=True, vision_cfg=dict(image_size=image, patch_size=patch, width=width, head_width=64, layers=layers),
                text_cfg=dict(context_length=77, vocab_size=vocab, width=text, heads=text//64, layers=text_layers))

def halved(c, seed=0): return build_clip(c, seed).half().float().eval()     # what half precision can hold

def same(a, b): return set(a)==set(b) and all(torch.equal(t, b[n]) for n,t in a.items())

def openai(clip, path, script=False):
    "A CLIP as OpenAI distribute theirs: TorchScript, half precision, three numbers among the weights"
    for n in ('context_length', 'vocab_size'): delattr(clip, n)
    for n in ('input_resolution', 'context_length', 'vocab_size'): clip.register_buffer(n, torch.tensor(77))
    size = clip.visual.image_size[0]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        m = torch.jit.script(clip) if script else torch.jit.trace(clip, (torch.zeros(1,3,size,size), torch.zeros(1,77,dtype=torch.long)), check_trace=False, strict=False)
        m.half().save(path)

LAYOUTS = {
    'traced.pt': lambda clip, path: openai(clip, path),
    'scripted.pt': lambda clip, path: openai(clip, path, script=True),
    'half.pt': lambda clip, path: torch.save({n: t.half() for n,t in clip.state_dict().items()}, path),
    'open_clip_pytorch_model.bin': lambda clip, path: torch.save(clip.state_dict(), path),
    'epoch_5.pt': lambda clip, path: torch.save(dict(epoch=5, name='x', state_dict={f'module.{n}': t for n,t in clip.state_dict().items()},
                                                     optimizer=torch.optim.AdamW(clip.parameters()).state_dict()), path),
    'with_numbers.pt': lambda clip, path: torch.save({**clip.state_dict(), **{n: torch.tensor(77) for n in ('input_resolution', 'context_length', 'vocab_size')}}, path),
    'bfloat16.safetensors': lambda clip, path: save_file({n: t.bfloat16().contiguous() for n,t in clip.state_dict().items()}, path),
    'open_clip_model.safetensors': lambda clip, path: save_file(clip.state_dict(), path)}

@pytest.mark.parametrize('layout', LAYOUTS)
def test_every_layout_comes_back(tmp_path, layout):
    clip = halved(cfg())
    if layout.startswith('bfloat16'): clip = clip.bfloat16().float()
    want = {n: t.clone() for n,t in clip.state_dict().items()}
    LAYOUTS[layout](clip, tmp_path/layout)
    got = read_clip(tmp_path/layout, cfg())
    assert same(got, want) and {t.dtype for t in got.values()}=={torch.float32}
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(): assert torch.equal(build_clip(cfg(), weights=got).eval().encode_image(x), build_clip(cfg(), weights=want).eval().encode_image(x))

@settings(max_examples=15, deadline=None)
@given(st.fixed_dictionaries(dict(embed=st.sampled_from([16,24]), image=st.sampled_from([16,32]), width=st.sampled_from([64,128]),
                                  layers=st.integers(1,3), text=st.sampled_from([64,128]), vocab=st.sampled_from([50,100]))),
       st.fixed_dictionaries({}, optional=dict(embed=st.just(32), image=st.just(24), patch=st.just(4), layers=st.just(4), text_layers=st.just(2), vocab=st.just(60))))
def test_weights_fit_their_own_configuration_and_no_other(mine, change):
    clip,other = build_clip(cfg(**mine)),cfg(**mine|change)
    if not change: check_weights(clip.state_dict(), other); return
    with pytest.raises(ValueError) as e: check_weights(clip.state_dict(), other)
    shapes = {n: tuple(t.shape) for n,t in clip.state_dict().items()},{n: tuple(t.shape) for n,t in build_clip(other).state_dict().items()}
    if set(shapes[0])==set(shapes[1]):
        n = str(e.value).split()[0]
        assert str(e.value).startswith(f'{n} has shape {shapes[0][n]} in these weights and {shapes[1][n]} in the configuration')
    else: assert 'not the weights of this CLIP:' in str(e.value)

def rewritten(path, out, pkl=None, code=None):
    "A TorchScript archive with another `data.pkl`, or another text for every method"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, 'w') as new:
        for n in old.namelist(): new.writestr(n, pkl if pkl is not None and n.endswith('/data.pkl') else code if code is not None and '/code/' in n else old.read(n))

def test_the_methods_of_an_archive_are_never_read(tmp_path):
    clip = halved(cfg())
    want = {n: t.clone() for n,t in clip.state_dict().items()}
    openai(clip, tmp_path/'a.pt')
    rewritten(tmp_path/'a.pt', tmp_path/'b.pt', code='import os; os._exit(1)')
    assert same(read_clip(tmp_path/'b.pt', cfg()), want)

@pytest.mark.parametrize('raw', [b'cos\nsystem\n(S"echo ran > %s"\ntR.', b'c__torch__.clip\nCLIP\n(S"x"\ntR.',
                                 b'c__torch__.clip\nCLIP\n)\x81}S"w"\ncos\nsystem\n(S"echo ran > %s"\ntRsb.', b'ctorch.jit\nload\n(S"%s"\ntR.',
                                 b'ctorch.jit._pickle\nbuild_tensor_from_id\n(I1\ntR.'])
def test_an_archive_that_runs_code_runs_nothing_and_is_an_error(tmp_path, raw):
    openai(halved(cfg()), tmp_path/'a.pt')
    marker = tmp_path/'ran'
    rewritten(tmp_path/'a.pt', tmp_path/'evil.pt', pkl=raw.replace(b'%s', str(marker).encode()))
    with pytest.raises(ValueError, match='evil.pt: the file asks to call'): read_clip(tmp_path/'evil.pt', cfg())
    assert not marker.exists()

def test_modules_within_modules_without_end_are_no_trap(tmp_path):
    "A module that holds the next one twice, sixty times over, and a module that holds itself"
    openai(halved(cfg()), tmp_path/'a.pt')
    node = b'c__torch__\nM\n)\x81'
    chain = node + b'q\x00' + b''.join(node + b'q' + bytes([i]) + b'}(S"a"\nh' + bytes([i-1]) + b'S"b"\nh' + bytes([i-1]) + b'ub' for i in range(1, 60)) + b'.'
    rewritten(tmp_path/'a.pt', tmp_path/'chain.pt', pkl=chain)
    rewritten(tmp_path/'a.pt', tmp_path/'loop.pt', pkl=node + b'q\x00}S"me"\nh\x00sb.')
    for f in ('chain.pt', 'loop.pt'):
        with pytest.raises(ValueError, match=f'{f}: no state dict inside'): read_checkpoint(tmp_path/f)

@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    "One archive for all examples: TorchScript numbers its classes, so no two archives of a process are alike"
    path = tmp_path_factory.mktemp('archive')/'a.pt'
    openai(halved(cfg(layers=1)), path)
    return path

@settings(max_examples=80, deadline=None)
@given(st.floats(0, 1, exclude_max=True), st.integers(0,255), st.booleans())
def test_damaged_archives_are_one_clear_error_or_another_file_of_the_same_shapes(archive, where, byte, cut):
    folder = archive.parent
    with zipfile.ZipFile(archive) as z: good = z.read('a/data.pkl')
    pos = int(where*len(good))
    rewritten(archive, folder/'d.pt', pkl=good[:pos] + (b'' if cut else bytes([byte]) + good[pos+1:]))
    try: state = read_clip(folder/'d.pt', cfg(layers=1))
    except ValueError as e: assert str(e).startswith(str(folder/'d.pt'))
    else: check_weights(state, cfg(layers=1))

def test_a_path_in_the_settings_is_taken_before_the_hub(tmp_path, monkeypatch):
    "settings.ini is found from the folder where work begins; its CLIP is of the wrong size here, and the error says which file"
    save_file(build_clip(cfg()).state_dict(), tmp_path/'mine.safetensors')
    (tmp_path/'settings.ini').write_text('[paths]\nclip = mine.safetensors\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r'mine\.safetensors: not the weights of this CLIP: missing'): clip_weights(FULL_CLIP)
    (tmp_path/'settings.ini').write_text('[paths]\nclip = absent.pt\n')
    with pytest.raises(ValueError, match=r'absent\.pt: no such file'): clip_weights(FULL_CLIP)

def test_offline_without_a_file_the_error_says_what_to_do(tmp_path):
    "As a user would meet it: no network, an empty cache, nothing in settings.ini"
    code = f"from ssm_nb.model.weights import clip_weights; clip_weights({FULL_CLIP!r})"
    env = dict(HF_HUB_OFFLINE='1', HF_ENDPOINT='http://localhost:9', HF_HOME=str(tmp_path), PYTHONPATH=':'.join(sys.path))
    r = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], cwd=tmp_path, env=env, capture_output=True, text=True)
    message = r.stderr[r.stderr.index('ValueError: '):]
    assert r.returncode==1
    for part in (f'The weights of {FULL_CLIP} (openai) are not on this machine', 'https://openaipublic.azureedge.net/clip/models/', 'ViT-B-16.pt',
                 'timm/vit_base_patch16_clip_224.openai/resolve/main/open_clip_model.safetensors', 'settings.ini', '[paths]', 'clip = '): assert part in message

def test_what_was_downloaded_needs_no_network(tmp_path):
    "The hub client's cache, laid out by hand"
    repo = tmp_path/'models--timm--vit_base_patch16_clip_224.openai'
    (repo/'refs').mkdir(parents=True); (repo/'refs/main').write_text('abc')
    (repo/'snapshots/abc').mkdir(parents=True)
    save_file(build_clip(cfg()).state_dict(), repo/'snapshots/abc/open_clip_model.safetensors')
    path = fetch(FULL_CLIP, cache=tmp_path, hub='http://localhost:9')
    assert same(read_clip(path, cfg()), build_clip(cfg()).state_dict())

def test_unknown_weights_are_one_clear_error():
    with pytest.raises(ValueError, match="knows no 'laion9' weights of 'ViT-B-16' on the hub; it knows openai, laion400m_e31"): how_to_get('ViT-B-16', 'laion9')
    with pytest.raises(ValueError, match='none at all'): fetch('small')

# names, numbers, activation ---------------------------------------------------------------------------------------

@pytest.mark.parametrize('front', ['module.', '_orig_mod.', 'clip.', 'model.module.', 'net._orig_mod.', 'state.clip_model.'])
def test_a_clip_with_anything_in_front_of_its_names(tmp_path, front):
    want = build_clip(cfg()).state_dict()
    torch.save(dict(model={front+n: t for n,t in want.items()}, epoch=2), tmp_path/'c.pt')
    assert same(read_clip(tmp_path/'c.pt', cfg()), want)

@pytest.mark.parametrize('name', ['visual.proj', 'logit_scale', 'transformer.resblocks.0.ln_1.bias'])
def test_a_clip_with_nan_is_refused_by_name(tmp_path, name):
    state = build_clip(cfg()).state_dict()
    state[name].view(-1)[0] = float('nan')
    torch.save(state, tmp_path/'c.pt')
    with pytest.raises(ValueError, match=f'c.pt: {name} is NaN or infinite in 1 of'): read_clip(tmp_path/'c.pt', cfg())

def activation_heard(path, configured, **kwargs):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter('always')
        read_clip(path, dict(cfg(), quick_gelu=configured), **kwargs)
    return ' '.join(str(w.message) for w in heard)

def test_openais_files_mean_quick_gelu(tmp_path):
    openai(halved(cfg()), tmp_path/'a.pt')
    assert activation_heard(tmp_path/'a.pt', True)==''
    assert 'a.pt: these weights were trained with QuickGELU, and the configuration runs them with the exact GELU' in activation_heard(tmp_path/'a.pt', False)

@pytest.mark.parametrize('stated', [True, False])
@pytest.mark.parametrize('how', ['beside', 'header', 'caller'])
def test_what_is_said_of_the_activation_is_held_against_the_configuration(tmp_path, how, stated):
    file = tmp_path/'c.safetensors'
    save_file(build_clip(cfg()).state_dict(), file, metadata=dict(quick_gelu=str(stated).lower()) if how=='header' else None)
    if how=='beside': (tmp_path/'open_clip_config.json').write_text(json.dumps(dict(model_cfg=dict(embed_dim=16)|(dict(quick_gelu=True) if stated else {}))))
    given = dict(quick_gelu=stated) if how=='caller' else {}
    assert activation_heard(file, stated, **given)==''
    assert 'these weights were trained with' in activation_heard(file, not stated, **given)

def test_where_nothing_is_said_of_the_activation_that_is_said(tmp_path):
    torch.save(build_clip(cfg()).state_dict(), tmp_path/'c.pt')
    assert 'c.pt: nothing says whether' in activation_heard(tmp_path/'c.pt', True) and 'they will run with the exact GELU' in activation_heard(tmp_path/'c.pt', False)

def test_the_shipped_clip_says_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        clip_weights('small')

def test_a_tag_whose_activation_differs_from_the_name(tmp_path, monkeypatch):
    "open_clip's list has OpenAI's weights under both names; only one name runs them as they were trained"
    from ssm_nb.model import weights
    save_file(build_clip(cfg()).state_dict(), tmp_path/'open_clip_model.safetensors')
    monkeypatch.setattr(weights, 'fetch', lambda name, tag: tmp_path/'open_clip_model.safetensors')
    monkeypatch.setattr(weights, 'clip_config', lambda name: dict(cfg(), quick_gelu='quickgelu' in name))
    monkeypatch.setattr(weights, 'load_settings', lambda: SimpleNamespace(paths=SimpleNamespace(clip=None)))
    with pytest.warns(UserWarning, match="trained with QuickGELU.*take the configuration with '-quickgelu'"): clip_weights('ViT-B-16', tag='openai')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        clip_weights('ViT-B-16-quickgelu', tag='openai')
        clip_weights('ViT-B-16', tag='laion2b_s34b_b88k')
