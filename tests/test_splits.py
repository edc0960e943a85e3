"The released split files of fold 1 give the published counts and clips"
import json,os,time
from pathlib import Path
import numpy as np,pytest
from ssm_nb.data.manifests import read_manifest
from ssm_nb.data.clips import clips_sha256,eval_clips,find_segments,train_clips
from ssm_nb.labels.facs import label_space

SPLITS = Path(os.environ.get('SSM_SPLITS') or Path(__file__).resolve().parents[2]/'shared'/'splits')
pytestmark = pytest.mark.skipif(not (SPLITS/'expected.json').exists(), reason=f'no split files in {SPLITS}; set SSM_SPLITS to their folder')

FRAMES = {'bp4d/train_1f': ('bp4d', 'bp4d/train_1f_data.list'), 'bp4d/test_1f': ('bp4d', 'bp4d/test_1f_data.list'), 'disfa/test1': ('disfa', 'disfa/DISFA_test1.json')}
FOLDERS = {f'{d}/{f}': (d, f'{d.upper()}/{f}') for d,stem in (('dfew','DFEW_set_1'), ('ferv39k','FERV39K'), ('mafw','MAFW_set_1'))
           for f in (f'{stem}_train.txt', f'{stem}_test.txt')}

@pytest.fixture(scope='module')
def expected(): return json.loads((SPLITS/'expected.json').read_text())

def read(dataset, file):
    faults = []
    return read_manifest(SPLITS/file, dataset, label_space(dataset if dataset=='disfa' else 'bp4d', 11 if dataset=='mafw' else 7), faults),faults

@pytest.mark.parametrize('key', FRAMES)
def test_frames(key, expected):
    records,faults = read(*FRAMES[key])
    segments = find_segments(records)
    clips,covering = train_clips(segments),eval_clips(segments)
    found = dict(records=len(records), sequences=len(records.folders), segments=len(segments), short_segments=int((segments.lengths<16).sum()),
                 duplicates=len(records)-len(segments.rows), invalid=len(faults), clips=len(clips), clips_sha256=clips_sha256(records, clips),
                 eval_clips=len(covering), eval_frames=int(covering.mask.sum()), eval_segments=len(segments))
    assert {k:found[k] for k in expected[key]} == expected[key]
    assert (covering.unpad(covering.rows)==segments.rows).all()

@pytest.mark.parametrize('key', FOLDERS)
def test_folders(key, expected):
    records,faults = read(*FOLDERS[key])
    assert not faults
    assert dict(clips=len(records), per_class=np.bincount(records.labels, minlength=records.space.n_expressions).tolist(),
                frames=int(records.frames.sum()), shorter_than_16=int((records.frames<16).sum())) == expected[key]

def test_every_entry_is_checked(expected): assert set(expected) == {*FRAMES, *FOLDERS}

def test_people_do_not_cross():
    train,test = (set(read(*FRAMES[o])[0].subjects) for o in ('bp4d/train_1f', 'bp4d/test_1f'))
    assert not train & test and len(train|test) == 41

def test_bp4d_reads_in_about_a_second():
    start = time.process_time()
    read(*FRAMES['bp4d/train_1f'])
    assert time.process_time()-start < 2
