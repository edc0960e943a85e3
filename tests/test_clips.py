"Fuzzed manifests, reference readers, golden frame indices, workers"
import json,random
from pathlib import Path
import numpy as np,pytest,torch
from hypothesis import HealthCheck,given,settings,strategies as st
from PIL import Image
from torchvision import transforms
from torchvision.transforms import v2
from ssm_nb.data.formats import DATA_SETS,ManifestError
from ssm_nb.data.manifests import read_manifest
from ssm_nb.data.clips import eval_frame_indices
from ssm_nb.data.augment import CLIP_MEAN,CLIP_STD,crop_window,AUGMENTATIONS,train_transform
from ssm_nb.data.datasets import AUClips,FEClips,keyed_generator
from ssm_nb.data.stream import JointBatches,JointLoader
from ssm_nb.labels.facs import label_space

GOLDEN = Path(__file__).parent/'golden'
SPACES = {o: label_space('disfa' if o=='disfa' else 'bp4d', 11 if o=='mafw' else 7) for o in DATA_SETS}

def test_eval_frames_are_the_released_ones():
    golden = np.load(GOLDEN/'eval_frame_indices.npz')['indices']
    assert (eval_frame_indices(np.arange(1, 401)) == golden).all()

# Fuzzed lines: read as written, or reported with file and line --------------------------------------------------------

token = st.sampled_from(['0', '1', '9', '2', '-1', '1.0', '2F23_10/1001.jpg', '../1.jpg', '/a/1.jpg', 'a b/7.JPG', 'x.jpg', '00001', '999', '１', '\u00a0',
                         'RightVideoSN010/frame_1.jpg', '']) | st.text(max_size=6)
words = st.lists(token, max_size=16).flatmap(lambda ws: st.sampled_from([' ', '  ', '\t']).map(lambda s: s.join(ws)))
good_au = st.lists(st.sampled_from('019'), min_size=12, max_size=12).map(lambda o: '2F23_10/12.jpg '+' '.join(o))
jsons = st.fixed_dictionaries({}, optional=dict(img_path=st.sampled_from(['RightVideoSN010/frame_1.jpg', '../a/1.jpg', 3]) | st.text(max_size=8),
    AUs=st.lists(st.sampled_from([1, 2, 4, 6, 9, 12, 25, 26, 999, 5, 25., True, None]), min_size=7, max_size=9))).map(json.dumps)
lines = (words | good_au | jsons | st.from_regex(r'[a-z]{1,3} [0-9]{1,3} [0-9]{1,2}', fullmatch=True)).map(str.encode) | st.binary(max_size=40)

def as_written(dataset, line, space):
    "What a valid line says, the obvious way"
    text = line.decode('utf-8').strip(' \t\r')
    if dataset=='disfa':
        r = json.loads(text)
        return r['img_path'],[float(o in r['AUs']) for o in space.aus]
    if DATA_SETS[dataset].task=='au':
        *path,labels = text.replace('\t', ' ').rsplit(None, 12)[0],text.split()[-12:]
        return path[0],[float(o) for o in labels]
    return text.replace('\t', ' ').rsplit(None, 2)[0],int(text.split()[-1])

@pytest.mark.parametrize('dataset', DATA_SETS)
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(data=st.lists(lines.map(lambda o: o.replace(b'\n', b'')), min_size=20, max_size=40)) # with five data sets, 10,000 lines at least
def test_every_line_is_read_or_reported(dataset, data, tmp_path_factory):
    space,faults = SPACES[dataset],[]
    file = tmp_path_factory.getbasetemp()/f'fuzz_{dataset}'
    file.write_bytes(b'x\n' + b'\n'.join(data)) # 'x' is faulty in every format, so a byte-order mark can only be noise here
    try: records = read_manifest(file, dataset, space, faults)
    except ManifestError as e:
        assert e.problem=='no records'
        records = None
    read = [] if records is None else records.lines.tolist()
    blank = [i for i,o in enumerate(data, 2) if not o.strip(b' \t\r')]
    assert sorted([1, *read, *blank]) == sorted({1, *read, *blank})
    assert sorted([*read, *blank, *(f.line for f in faults)]) == list(range(1, len(data)+2))
    for f in faults: assert f.file==file and f'line {f.line}: ' in str(f) and f.fix
    for k,i in enumerate(read):
        path,label = as_written(dataset, data[i-2], space)
        assert records.paths[k]==path and '..' not in path.split('/')
        assert (np.nan_to_num(records.labels[k], nan=9)==np.array(label)).all()

# An obvious reader -------------------------------------------------------------------------------------------------

def write_frames(folder, numbers, name, size, rng):
    folder.mkdir(parents=True)
    for n in numbers:
        img = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)).resize(size, Image.BICUBIC)
        img.save(folder/name.format(n), quality=92)

@pytest.fixture(scope='module')
def data(tmp_path_factory):
    "All five data sets, small: (manifest, image root) by name"
    root,rng,res = tmp_path_factory.mktemp('data'),np.random.default_rng(1),{}
    au = {'bp4d': ('2{}_10', '{}.jpg', (50, 60)), 'disfa': ('RightVideoSN{}', 'frame_{}.jpg', (60, 40))}
    for name,(folder,file,size) in au.items():
        out = []
        for person,numbers in (('F23' if name=='bp4d' else '010', [*range(3, 25), *range(30, 50)]), ('M01' if name=='bp4d' else '011', range(16))):
            seq = folder.format(person)
            write_frames(root/name/seq, numbers, file, size, rng)
            for n in numbers:
                on = rng.integers(0, 2, SPACES[name].n_aus)
                ids = [a for a,o in zip(SPACES[name].aus, on) if o]
                path = f'{seq}/{file.format(n)}'
                out.append(f"{path} {' '.join(map(str, on))}" if name=='bp4d' else json.dumps(dict(img_path=path, AUs=ids+[999]*(8-len(ids)))))
        rng.shuffle(out)
        res[name] = root/f'{name}.txt',root/name
        res[name][0].write_text('\n'.join(out))
    for name in ('dfew', 'ferv39k', 'mafw'):
        out = [f'some clips/{i:03} {n} {i%SPACES[name].n_expressions}' for i,n in enumerate((1, 9, 16, 31, 40))]
        for o in out: write_frames(root/name/o[:14], range(int(o.split()[-2])), '{:04}.jpg', (48, 56), rng)
        res[name] = root/f'{name}.txt',root/name
        res[name][0].write_text('\r\n'.join(out))
    return res

def obvious_au(name, manifest):
    "[(16 paths, 16 label rows, 16 flags)] of the evaluation clips"
    frames = {}
    for line in manifest.read_text().splitlines():
        if name=='disfa':
            r = json.loads(line)
            path,labels = r['img_path'],[float(a in r['AUs']) for a in SPACES[name].aus]
        else: path,*labels = line.split()
        seq,file = path.split('/')
        frames.setdefault(seq, {})[int(Path(file).stem.split('_')[-1])] = (path, [float(o) for o in labels])
    clips = []
    for seq in frames.values():
        runs = []
        for n in sorted(seq):
            if not runs or n-1 not in seq: runs.append([])
            runs[-1].append(seq[n])
        for run in runs:
            for i in range(0, len(run), 16):
                part = run[i:i+16]
                clips.append(([o[0] for o in part]+[part[-1][0]]*(16-len(part)), [o[1] for o in part], len(part)))
    return clips

def obvious_pixels(root, paths, name, size):
    "Pillow and torchvision's classes, frame by frame"
    big = round(size*256/224)
    how = [transforms.Resize((big, big)), transforms.CenterCrop(size)] if name in ('bp4d', 'disfa') else [transforms.Resize((size, size))]
    return torch.stack([transforms.Compose([*how, transforms.PILToTensor()])(Image.open(root/o).convert('RGB')) for o in paths])

def exact_pixels(root, paths, name, size):
    "Pillow's frames, torchvision's resizing of tensors, frame by frame"
    big = round(size*256/224)
    how = [v2.Resize((big, big)), v2.CenterCrop(size)] if name in ('bp4d', 'disfa') else [v2.Resize((size, size))]
    return torch.stack([v2.Compose([v2.PILToTensor(), *how])(Image.open(root/o).convert('RGB')) for o in paths])

@pytest.mark.parametrize('name', ['bp4d', 'disfa'])
def test_au_clips_as_an_obvious_reader_gives_them(name, data):
    manifest,root = data[name]
    ds = AUClips(read_manifest(manifest, name, SPACES[name]), root, size=32, cover=True)
    clips = obvious_au(name, manifest)
    assert len(ds)==len(clips)==5
    for i,(paths,labels,n) in enumerate(clips):
        assert ds.paths(i).tolist()==paths
        frames,found = ds[i]
        assert torch.equal(frames, exact_pixels(root, paths, name, 32))
        assert (frames.int()-obvious_pixels(root, paths, name, 32).int()).abs().max()<=1 # two resamplers, each rounding to whole levels
        assert found[:n].tolist()==labels and found[n:].isnan().all()

@pytest.mark.parametrize('name', ['dfew', 'ferv39k', 'mafw'])
def test_fe_clips_as_an_obvious_reader_gives_them(name, data):
    manifest,root = data[name]
    ds = FEClips(read_manifest(manifest, name, SPACES[name]), root, size=32)
    for i,line in enumerate(manifest.read_text().splitlines()):
        folder,n,label = line.rsplit(' ', 2)
        at = [min(j, int(n)-1) if int(n)<16 else int((j+.5)*int(n)/16) for j in range(16)]
        paths = [f'{folder}/{j:04}.jpg' for j in at]
        assert ds.paths(i)==paths
        frames,found = ds[i]
        assert torch.equal(frames, exact_pixels(root, paths, name, 32))
        assert found==int(label) and (frames.int()-obvious_pixels(root, paths, name, 32).int()).abs().max()<=1

@pytest.mark.parametrize('name', DATA_SETS)
def test_training_views_have_the_final_size(name, data):
    manifest,root = data[name]
    ds = (AUClips if name in ('bp4d', 'disfa') else FEClips)(read_manifest(manifest, name, SPACES[name]), root, size=32)
    for i in range(len(ds)):
        frames,_ = ds.draw(i, keyed_generator(0, name, i))
        assert frames.shape==(16, 3, 32, 32) and frames.dtype==torch.uint8

# Transforms ----------------------------------------------------------------------------------------------------------

@given(h=st.integers(1, 500), w=st.integers(1, 500), seed=st.integers(0, 10**6))
def test_crop_lies_in_the_frame(h, w, seed):
    y,x,ch,cw = crop_window(h, w, (.08, 1), (3/4, 4/3), keyed_generator(seed))
    assert 0<=y<=y+ch<=h and 0<=x<=x+cw<=w and ch>0 and cw>0

def test_crops_are_spread_as_torchvisions():
    g,img = keyed_generator(0, 'crops'),torch.zeros(3, 90, 120)
    torch.manual_seed(0)
    ours,theirs = (np.array([f() for _ in range(4000)], float) for f in (lambda: crop_window(90, 120, (.08, 1), (3/4, 4/3), g),
                   lambda: transforms.RandomResizedCrop.get_params(img, (.08, 1), (3/4, 4/3))))
    sd = np.sqrt((ours.var(0)+theirs.var(0))/4000)
    assert (abs(ours.mean(0)-theirs.mean(0)) < 4*sd).all()

@pytest.mark.parametrize('name', AUGMENTATIONS)
def test_a_clip_gets_one_draw(name):
    still = torch.randint(0, 256, (1, 3, 40, 50), dtype=torch.uint8, generator=keyed_generator(3)).expand(16, -1, -1, -1)
    for seed in range(5):
        view = train_transform(still, AUGMENTATIONS[name], 32, keyed_generator(seed))
        assert (view==view[:1]).all()

def test_pixels_are_scaled_as_clip_was():
    from open_clip.constants import OPENAI_DATASET_MEAN,OPENAI_DATASET_STD
    assert (CLIP_MEAN,CLIP_STD) == (OPENAI_DATASET_MEAN,OPENAI_DATASET_STD)

# The stream ----------------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def joint(data):
    space,(fe,fe_root),(au,au_root) = SPACES['bp4d'],data['dfew'],data['bp4d']
    return JointBatches(FEClips(read_manifest(fe, 'dfew', space), fe_root, 32), AUClips(read_manifest(au, 'bp4d', space), au_root, 32), 2, 1, seed=3)

def same(a, b): return all(torch.equal(x, y) for x,y in zip(a, b, strict=True))

def test_workers_change_nothing(joint):
    one,two = JointLoader(joint),JointLoader(joint, num_workers=2)
    for _ in range(2):
        for a,b in zip(one, two, strict=True): assert same(a, b)

def test_global_generators_change_nothing(joint):
    dl = JointLoader(joint)
    first = list(dl)
    torch.manual_seed(99); np.random.seed(99); random.seed(99)
    for a,b in zip(first, JointLoader(joint), strict=True): assert same(a, b)

def test_resumed_at_any_batch(joint):
    dl = JointLoader(joint)
    whole = [b for _ in range(3) for b in dl]
    for n in range(len(whole)):
        a = JointLoader(joint)
        stream = (b for _ in range(3) for b in a)
        for _ in range(n): next(stream)
        b = JointLoader(joint)
        b.load_state_dict(json.loads(json.dumps(a.state_dict())))
        rest = [o for _ in range(3-b.epoch) for o in b]
        assert len(rest)==len(whole)-n and all(map(same, rest, whole[n:]))

def test_a_broken_epoch_is_not_taken_up_again(joint):
    dl = JointLoader(joint)
    next(iter(dl))
    assert len(list(dl))==len(dl) and dl.epoch==2

def test_short_stream_is_reshuffled(joint):
    orders = [joint.rows('au', e, k) for e in range(30) for k in range(len(joint))]
    assert len({tuple(o) for o in orders}) == len(joint.au)
