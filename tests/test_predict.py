"""From a checkpoint file and a folder of frames to probabilities"""
import os,subprocess,sys
import numpy as np,pytest,torch
from PIL import Image
from hypothesis import given,settings,strategies as st
from ssm_nb.labels.facs import label_space
from ssm_nb.model.ssm import build_ssm
from ssm_nb.data.folders import in_order
from ssm_nb.evaluation.predict import au_probabilities,expression_probabilities,predict_folder
from ssm_nb.labels.prior import ssm_prior
from ssm_nb.model.prototypes import released_prompts
from ssm_nb.model.released import load_model,load_released,save_model,to_released

torch.set_num_threads(1)
TINY = dict(embed_dim=64, quick_gelu=True, vision_cfg=dict(image_size=16, patch_size=8, width=64, layers=2, head_width=64),
            text_cfg=dict(context_length=77, vocab_size=49408, width=64, heads=1, layers=1))

def ssm(t=4, routing='token', smoothing='clip', aus='disfa', e=7):
    space = label_space(aus, e)
    return build_ssm(TINY, space, ssm_prior(space), *released_prompts(space), n_frames=t, n_expert_blocks=1, expert_hidden=4,
                     routing=routing, smoothing=smoothing).eval()

def frames(folder, n, seed=0, name='{}.png', size=(20,24)):
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(n): Image.fromarray(rng.integers(0, 256, (*size,3), np.uint8)).save(folder/name.format(i))
    return folder

MODELS = {t: ssm(t) for t in (2,4)}

@settings(max_examples=20)
@given(st.integers(1,13), st.sampled_from([2,4]), st.integers(1,5))
def test_every_frame_has_one_row_whatever_the_batch(tmp_path_factory, n, t, bs):
    folder = frames(tmp_path_factory.mktemp('p')/'f', n, seed=n)
    got = au_probabilities(MODELS[t], folder, bs)
    assert list(got.index)==[f'{i}.png' for i in range(n)] and got.to_numpy().shape==(n,8)
    assert ((got>0) & (got<1)).to_numpy().all()
    np.testing.assert_allclose(got, au_probabilities(MODELS[t], folder, 1), atol=1e-5)      # 'token' routing: company does not matter

def test_rows_belong_to_their_frames(tmp_path):
    "Frames played backwards: clips of two frames without smoothing over their border give the same rows backwards"
    model = ssm(2)
    with torch.no_grad(): model.smoother.conv.weight.copy_(torch.tensor([0,0,1.,0,0]))      # no smoothing; local attention starts as the identity
    a = frames(tmp_path/'a', 11)
    (tmp_path/'b').mkdir()
    for i in range(11): (tmp_path/'b'/f'{10-i}.png').write_bytes((a/f'{i}.png').read_bytes())
    x,y = (au_probabilities(model, tmp_path/f) for f in 'ab')
    np.testing.assert_allclose(x.to_numpy(), y.to_numpy()[::-1], atol=1e-5)

@given(st.lists(st.integers(0,10**6), unique=True, min_size=1, max_size=20))
def test_numbers_are_compared_as_numbers(ns):
    assert in_order([f'take2_{n}.jpg' for n in ns])==[f'take2_{n}.jpg' for n in sorted(ns)]

def test_frames_between_other_files(tmp_path):
    folder = frames(tmp_path/'f', 3)
    (folder/'notes.txt').write_text('x'); (folder/'.hidden.png').write_bytes(b'x')
    assert list(predict_folder(MODELS[2], folder).aus.index)==['0.png', '1.png', '2.png']

def test_the_one_liner_of_the_readme(tmp_path):
    "A checkpoint as the authors distribute it, read and run by another process"
    torch.save(dict(epoch=3, state_dict={f'module.{n}': t for n,t in to_released(ssm(4, 'released', 'pairs', 'bp4d')).items()}), tmp_path/'checkpoint.pth')
    frames(tmp_path/'frames', 10, name='{:04}.jpg')
    code = "from ssm_nb.model.released import load_released; from ssm_nb.evaluation.predict import predict_folder; print(predict_folder(load_released('checkpoint.pth'), 'frames').aus.to_string())"
    env = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=':'.join(sys.path))
    printed = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], cwd=tmp_path, env=env, check=True, capture_output=True, text=True).stdout
    rows = printed[printed.rindex('AU1 '):].splitlines()                                          # behind the progress bar
    assert rows[0].split()==list(label_space('bp4d').au_labels)
    got = {r.split()[0]: [float(v) for v in r.split()[1:]] for r in rows[2:]}
    want = predict_folder(load_released(tmp_path/'checkpoint.pth'), tmp_path/'frames').aus
    assert list(got)==list(want.index)
    np.testing.assert_allclose(np.array(list(got.values())), want, atol=1e-5)

@pytest.mark.parametrize('aus,e', [('bp4d',11), ('disfa',7)])
def test_our_own_files_and_theirs_say_the_same(tmp_path, aus, e):
    model = ssm(4, 'released', 'pairs', aus, e)
    torch.save(to_released(model), tmp_path/'theirs.pth')
    save_model(model, tmp_path/'ours.safetensors')
    frames(tmp_path/'frames', 6)
    a,b = (predict_folder(m, tmp_path/'frames') for m in (load_released(tmp_path/'theirs.pth'), load_model(tmp_path/'ours.safetensors')))
    assert a.aus.equals(b.aus) and a.expressions.equals(b.expressions)
    assert list(a.aus.columns)==list(label_space(aus).au_labels) and list(a.expressions.index)==list(model.space.expressions)

def test_bad_folders_are_one_clear_error(tmp_path):
    with pytest.raises(ValueError, match='nowhere: no such folder'): predict_folder(MODELS[2], tmp_path/'nowhere')
    (tmp_path/'empty').mkdir()
    with pytest.raises(ValueError, match='no frames in it'): predict_folder(MODELS[2], tmp_path/'empty')

@pytest.mark.parametrize('ending', ['bmp', 'webp', 'tiff', 'JPG', 'Png'])
def test_any_kind_of_picture(tmp_path, ending):
    "Frames of every kind a camera or a tool writes; lossless ones give what PNG gives"
    png,other = frames(tmp_path/'png', 5),tmp_path/'other'
    other.mkdir()
    for o in png.iterdir():
        with Image.open(o) as img: img.save(other/f'{o.stem}.{ending}', **(dict(lossless=True) if ending=='webp' else {}))
    a,b = (predict_folder(MODELS[2], o) for o in (png, other))
    assert len(b.aus)==5
    if ending!='JPG': np.testing.assert_allclose(a.aus, b.aus, atol=1e-5)

def test_one_picture_is_a_clip_that_stands_still(tmp_path):
    folder,still = frames(tmp_path/'f', 3),tmp_path/'still'
    still.mkdir()
    for i in range(4): (still/f'{i}.png').write_bytes((folder/'1.png').read_bytes())
    one,four = (predict_folder(MODELS[4], o) for o in (folder/'1.png', still))
    assert list(one.aus.index)==['1.png']
    np.testing.assert_allclose(one.expressions, four.expressions, atol=1e-5)

@pytest.mark.parametrize('name,words', [('take.mp4','is a video: write its frames'), ('Take.MOV','is a video'), ('x.webm','is a video'),
                                        ('weights.safetensors','neither a folder of frames nor a picture'), ('noending','neither a folder')])
def test_files_that_are_no_frames(tmp_path, name, words):
    (tmp_path/name).write_bytes(b'x')
    for f in (predict_folder, au_probabilities, expression_probabilities):
        with pytest.raises(ValueError, match=words): f(MODELS[2], tmp_path/name)

def test_crops_of_different_sizes(tmp_path):
    "A face detector's crops differ by pixels: flat pictures of three sizes give what three of one size give"
    tables = []
    for name,sizes in (('mixed', [(50,50),(60,50),(50,61)]), ('same', [(50,50)]*3)):
        (tmp_path/name).mkdir()
        for i,size in enumerate(sizes): Image.new('RGB', size, (90,120,30)).save(tmp_path/name/f'{i}.png')
        tables.append(predict_folder(MODELS[4], tmp_path/name).aus.to_numpy())
    np.testing.assert_allclose(*tables, atol=1e-3)

def test_a_frame_saved_twice_is_asked_about(tmp_path):
    folder = frames(tmp_path/'f', 3)
    with Image.open(folder/'1.png') as img: img.save(folder/'1.jpg')
    with pytest.raises(ValueError, match='1.jpg'): predict_folder(MODELS[2], folder)

def test_no_clip_crosses_a_gap(tmp_path):
    "Two recordings in one folder, one frame missing between them: each as if it were alone"
    both = frames(tmp_path/'both', 9)
    (both/'4.png').unlink()
    parts = [tmp_path/'a',tmp_path/'b']
    for part,which in zip(parts, (range(4), range(5,9))):
        part.mkdir()
        for i in which: (part/f'{i}.png').write_bytes((both/f'{i}.png').read_bytes())
    np.testing.assert_allclose(au_probabilities(MODELS[4], both), np.concatenate([au_probabilities(MODELS[4], o) for o in parts]), atol=1e-5)
