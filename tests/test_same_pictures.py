"Identity is a matter of content, not of names; and what training refuses has a check of its own"
import numpy as np,pytest
from PIL import Image
from ssm_nb.data.clips import check_near_names,find_segments,shared_frames
from ssm_nb.data.datasets import AUClips,FEClips,check_segments
from ssm_nb.data.formats import Faults,ManifestError
from ssm_nb.data.manifests import read_manifest
from ssm_nb.data.splits import check_people,hold_out
from ssm_nb.data.stream import JointBatches,check_batch
from ssm_nb.labels.facs import label_space

SPACE = label_space('bp4d', 7)

def folder(path, n, seed, start=0, name='{}.jpg'):
    path.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for i in range(n): Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)).save(path/name.format(start+i), quality=90)

def fe(tmp, name, lines):
    (tmp/name).write_text('\n'.join(lines))
    return read_manifest(tmp/name, 'dfew', SPACE)

def au(tmp, name, frames):
    (tmp/name).write_text('\n'.join(f'{o} '+' '.join('0'*12) for o in frames))
    return read_manifest(tmp/name, 'bp4d', SPACE)

def test_a_copied_clip_is_found_whatever_its_names(tmp_path):
    folder(tmp_path/'i/a', 20, 1); folder(tmp_path/'i/b', 20, 2)
    folder(tmp_path/'i/c', 20, 2, 100, 'frame_{:05}.jpeg'); folder(tmp_path/'i/d', 20, 3)
    one,two = fe(tmp_path, 'train.txt', ['a 20 0', 'b 20 1']),fe(tmp_path, 'test.txt', ['c 20 1', 'd 20 2'])
    assert shared_frames(one, tmp_path/'i', two, tmp_path/'i')==[('b', 'c', 20)]

def test_a_part_of_a_recording_is_found(tmp_path):
    folder(tmp_path/'i/2F01_01', 30, 1); folder(tmp_path/'i/2F02_01', 30, 2)
    (tmp_path/'i/2F03_01').mkdir()
    for i in range(10): (tmp_path/f'i/2F03_01/{i}.jpg').write_bytes((tmp_path/f'i/2F01_01/{i+7}.jpg').read_bytes())
    one = au(tmp_path, 'train.txt', [f'{s}/{i}.jpg' for s in ('2F01_01', '2F02_01') for i in range(30)])
    two = au(tmp_path, 'test.txt', [f'2F03_01/{i}.jpg' for i in range(10)])
    assert shared_frames(one, tmp_path/'i', two, tmp_path/'i')==[('2F01_01', '2F03_01', 10)]

def test_short_clips_and_other_bytes_of_the_same_size(tmp_path):
    for name,data in (('a', b'xxx'), ('b', b'yyy'), ('c', b'xxx')):
        (tmp_path/name).mkdir(); (tmp_path/name/'1.png').write_bytes(data)
    one,two = fe(tmp_path, 'train.txt', ['a 1 0']),fe(tmp_path, 'test.txt', ['b 1 0', 'c 1 0'])
    assert shared_frames(one, tmp_path, two, tmp_path)==[('a', 'c', 1)]

@pytest.mark.parametrize('a,b', [('clip_01', 'clip_1'), ('Anna', 'anna'), ('happyness_3', 'happiness_3')])
def test_near_folders_are_asked_about(a, b, tmp_path):
    faults = Faults()
    check_near_names(fe(tmp_path, 'm.txt', [f'{a} 20 0', 'other 20 1', f'{b} 20 2']), faults=faults)
    assert [(f.problem, f.line, set(f.value)) for f in faults]==[('names that nearly match', 1, {a, b})]

@pytest.mark.parametrize('a,b', [('clip 07', 'Clip-7'), ('Zoë/3', 'Zoe/3')])
def test_near_folders_of_training_and_test_are_asked_about(a, b, tmp_path):
    faults = Faults()
    train,test = fe(tmp_path, 'train.txt', ['other 20 1', f'{a} 20 0']),fe(tmp_path, 'test.txt', [f'{b} 20 2', 'other 20 1'])
    check_near_names(train, test, faults=faults)
    assert [set(f.value) for f in faults]==[{a, b}] and 'train.txt, line 2' in faults[0].fix and 'test.txt, line 1' in faults[0].fix

def test_a_still_tells_nothing(tmp_path):
    "Two clips that begin with the same black frames and go on differently"
    for name,seed in (('a', 1), ('b', 2)):
        folder(tmp_path/'i'/name, 20, seed)
        for i in range(7): Image.new('RGB', (12, 12)).save(tmp_path/f'i/{name}/{i}.jpg', quality=90)
    one,two = fe(tmp_path, 'train.txt', ['a 20 0']),fe(tmp_path, 'test.txt', ['b 20 1'])
    assert shared_frames(one, tmp_path/'i', two, tmp_path/'i')==[]

def test_the_naive_way_finds_the_same(tmp_path):
    "Every frame of one side against every frame of the other"
    for k in range(6): folder(tmp_path/f'i/{k}', 18, k)
    for to,of,at,n in ((3, 0, 2, 9), (4, 1, 0, 18), (5, 2, 11, 7)):
        for i in range(n): (tmp_path/f'i/{to}/{i+5 if n<10 else i}.jpg').write_bytes((tmp_path/f'i/{of}/{at+i}.jpg').read_bytes())
    one,two = (fe(tmp_path, f'{s}.txt', [f'{k} 18 0' for k in ks]) for s,ks in (('train', (0, 1, 2)), ('test', (3, 4, 5))))
    read = lambda k: [o.read_bytes() for o in (tmp_path/f'i/{k}').iterdir()]
    naive = {(str(a), str(b)):sum(o in read(a) for o in read(b)) for a in (0, 1, 2) for b in (3, 4, 5)}
    assert {(a, b):n for a,b,n in shared_frames(one, tmp_path/'i', two, tmp_path/'i')}=={k:n for k,n in naive.items() if n}

@pytest.mark.parametrize('names', [['S01', 'S1', 'S02'], ['Müller', 'Mu\u0308ller', 'Huber'], ['subject 3', 'subjct 3', 'subject 4']])
def test_near_people_are_asked_about(names):
    with pytest.raises(ManifestError, match='Are they one person'): check_people(names, 'm.txt')

def test_one_person_is_named_plainly(tmp_path):
    with pytest.raises(ManifestError, match="only one person: 'F001'"): hold_out(au(tmp_path, 'm.txt', [f'2F01_01/{i}.jpg' for i in range(40)]))

@pytest.mark.parametrize('bs', [0, 3, 12])
def test_batches_larger_than_the_set(bs, tmp_path):
    folder(tmp_path/'i/a', 20, 2); folder(tmp_path/'i/b', 20, 3)
    clips = FEClips(fe(tmp_path, 'fe.txt', ['a 20 0', 'b 20 1']), tmp_path/'i', 32)
    check_batch(clips, 2)
    with pytest.raises(ValueError, match=f'fe.txt: batches of {bs} from 2 fe clips. Give fe_bs from 1 to 2'): check_batch(clips, bs)

def test_training_asks_the_same_checks(tmp_path):
    folder(tmp_path/'i/2F01_01', 40, 1); folder(tmp_path/'i/a', 20, 2)
    a = AUClips(au(tmp_path, 'au.txt', [f'2F01_01/{i}.jpg' for i in range(40)]), tmp_path/'i', 32)
    f = FEClips(fe(tmp_path, 'fe.txt', ['a 20 0']), tmp_path/'i', 32)
    with pytest.raises(ValueError, match='batches of 3 from 2 au clips. Give au_bs from 1 to 2'): JointBatches(f, a, 1, 3)
    for step in (2, 5):
        sparse = au(tmp_path, 'sparse.txt', [f'2F01_01/{i}.jpg' for i in range(0, 40, step)])
        for refuse in (lambda: check_segments(find_segments(sparse), 16, 'x'), lambda: AUClips(sparse, tmp_path/'i', 32)):
            with pytest.raises(ValueError, match='no segment has 16 consecutive frames, the longest has 1'): refuse()
