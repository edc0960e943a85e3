"Every fault that data come with: found, named with its line, and nothing else lost"
import warnings
import numpy as np,pytest,torch
from hypothesis import given,settings,strategies as st
from PIL import Image
from ssm_nb.data.formats import DATA_SETS,Faults,lenient,ManifestError
from ssm_nb.data.manifests import clean_frames,read_lines,read_manifest
from ssm_nb.data.clips import check_files,check_frames,find_segments
from ssm_nb.data.frames import decode_frame
from ssm_nb.data.datasets import AUClips,ClipLoader,DataWarning,FEClips
from ssm_nb.data.stream import JointBatches,JointLoader
from ssm_nb.labels.facs import label_space

SPACE,DISFA = label_space('bp4d', 7),label_space('disfa', 7)
AUS = ' 0 1 9 0 1 0 0 0 1 0 0 0'
def frame(n, seq='2F23_10'): return f'{seq}/{n}.jpg{AUS}'.encode()
def disfa(path='LeftVideoSN001/frame_3.jpg', aus='[1, 999, 999, 999, 999, 999, 999, 999]'): return f'{{"img_path": "{path}", "AUs": {aus}}}'.encode()
GOOD = dict(bp4d=frame(1), disfa=disfa(), dfew=b'00001 20 1', ferv39k=b'Action/Happy/0267 29 0', mafw=b'00001 20 1')

def written(tmp_path, dataset, data):
    file = tmp_path/f'{dataset}.txt'
    file.write_bytes(data)
    return file,DISFA if dataset=='disfa' else SPACE

# What is wrong in a line --------------------------------------------------------------------------------------------

LINES = {'a field too few': ('bp4d', frame(2)[:-2], '11 label fields'), 'a field too many': ('bp4d', frame(2)+b' 0', '13 label fields'),
    'label out of range, AU': ('bp4d', frame(2)[:-1]+b'3', 'unknown AU label'), 'label out of range, expression': ('dfew', b'00002 12 7', 'unknown expression'),
    'label below range': ('ferv39k', b'00002 12 -1', 'unknown expression'), 'unknown AU': ('disfa', disfa(aus='[3, 999, 999, 999, 999, 999, 999, 999]'), 'unknown AU'),
    'AU list cut short': ('disfa', disfa(aus='[1]'), 'wrong AU list'), 'not JSON': ('disfa', disfa()[:30], 'not JSON'),
    'no-break space': ('bp4d', frame(2).replace(b'2F', b'2F\xc2\xa0'), 'unreadable character'), 'not UTF-8, AU': ('bp4d', b'2F\xff3_10/2.jpg'+AUS.encode(), 'unreadable character'),
    'not UTF-8, folder': ('mafw', b'0\xe9 12 1', 'unreadable character'), 'not UTF-8, JSON': ('disfa', disfa().replace(b'Left', b'L\xffft'), 'unreadable character'),
    'climbs out, frame': ('bp4d', frame(2, '../2F23_10'), 'path outside the image root'), 'climbs out, folder': ('dfew', b'a/../../b 12 1', 'path outside the image root'),
    'climbs out, JSON': ('disfa', disfa('../LeftVideoSN001/frame_3.jpg'), 'path outside the image root'), 'absolute': ('dfew', b'/etc 12 1', 'path outside the image root'),
    'drive letter': ('mafw', b'C:/x 12 1', 'path outside the image root'), 'backslash': ('ferv39k', b'a\\..\\b 12 1', 'path outside the image root'),
    'no number of frames': ('dfew', b'00002 many 1', 'not a number of frames'), 'no frames': ('dfew', b'00002 0 1', 'no frames'), 'no label': ('mafw', b'00002 12', 'missing field'),
    'no frame number': ('bp4d', frame('x'), 'not a numbered image'), 'not an image': ('bp4d', frame(2).replace(b'.jpg', b'.txt'), 'not a numbered image')}

@pytest.mark.parametrize('fault', LINES)
def test_a_faulty_line_is_named_and_nothing_else_lost(fault, tmp_path, capsys):
    dataset,line,problem = LINES[fault]
    good = GOOD[dataset]
    file,space = written(tmp_path, dataset, b'\n'.join([good, line, good, line]))
    with pytest.raises(ManifestError) as e: read_manifest(file, dataset, space)
    assert (e.value.problem, e.value.line)==(problem, 2) and f'{file}, line 2: ' in str(e.value) and e.value.fix
    with lenient() as faults: records = read_manifest(file, dataset, space, faults, cache=tmp_path/'cache')
    assert records.lines.tolist()==[1, 3] and [(o.problem, o.line) for o in faults]==[(problem, 2), (problem, 4)]
    assert faults.counts=={problem: 2} and f'2  {problem}; first: {file}, line 2' in capsys.readouterr().out
    assert not (tmp_path/'cache').exists() # or the second reading would be silent

WRITTEN = {'CRLF': lambda o: o.replace(b'\n', b'\r\n'), 'BOM': lambda o: b'\xef\xbb\xbf'+o, 'tabs': lambda o: o.replace(b' ', b'\t'),
    'doubled spaces': lambda o: o.replace(b' ', b'  '), 'blank lines': lambda o: o.replace(b'\n', b'\n\n'), 'blanks around': lambda o: b' '+o.replace(b'\n', b' \n\t')+b'\t',
    'no last newline': lambda o: o[:-1]}

@pytest.mark.parametrize('how', WRITTEN)
@pytest.mark.parametrize('dataset', DATA_SETS)
def test_other_ways_of_writing_mean_the_same(dataset, how, tmp_path):
    data = b''.join(GOOD[dataset].replace(b'10/', b'1%d/' % i).replace(b'000', b'00%d' % i)+b'\n' for i in range(3))
    res = []
    for i,o in enumerate((data, WRITTEN[how](data))):
        file,space = written(tmp_path, dataset, o)
        res.append(read_manifest(file, dataset, space))
    a,b = res
    assert (a.paths.tolist(), a.folders.tolist(), a.frames.tolist(), a.sequence.tolist())==(b.paths.tolist(), b.folders.tolist(), b.frames.tolist(), b.sequence.tolist())
    assert np.array_equal(a.labels, b.labels, equal_nan=a.dataset.task=='au')

@pytest.mark.parametrize('dataset,line,path', [('bp4d', frame(2, 'my face 1'), 'my face 1/2.jpg'), ('disfa', disfa('my SN001/frame 2.jpg'), 'my SN001/frame 2.jpg'),
    *((o, b'my clips/1 one 20 1', 'my clips/1 one') for o in ('dfew', 'ferv39k', 'mafw'))])
def test_a_path_with_spaces_is_a_path(dataset, line, path, tmp_path):
    file,space = written(tmp_path, dataset, line)
    assert read_manifest(file, dataset, space).paths.tolist()==[path]

def test_counts_survive_an_unusable_file(tmp_path, capsys):
    file,_ = written(tmp_path, 'dfew', b'00001\n')
    with pytest.raises(ManifestError, match='no records'):
        with lenient() as faults: read_manifest(file, 'dfew', SPACE, faults)
    assert 'missing field' in capsys.readouterr().out

# The quick reading of a clean file is the slow one --------------------------------------------------------------------

seqs = st.sampled_from(['2F23_10', 'a', 'a/b', 'some_longer_name', 'ab'])
clean = st.lists(st.tuples(seqs, st.sampled_from(['', 'frame_', '00', '7x']), st.integers(0, 10**6), st.lists(st.sampled_from('019'), min_size=12, max_size=12)), min_size=1, max_size=6)
change = st.tuples(st.sampled_from(['replace', 'insert', 'delete', 'none']), st.integers(0, 400), st.sampled_from(b' \t\r\n/\\.0123x9\xff\xc2\x00:') | st.integers(0, 255))

def changed(data, how, at, byte):
    at %= len(data)
    if how=='none': return data
    return data[:at]+(b'' if how=='delete' else bytes([byte]))+data[at+(how!='insert'):]

@settings(max_examples=600)
@given(rows=clean, end=st.sampled_from([b'\n', b'\r\n']), last=st.booleans(), changes=st.lists(change, max_size=2))
def test_clean_reading_is_line_by_line_reading(rows, end, last, changes):
    data = end.join(f"{s}/{stem}{n}.jpg {' '.join(aus)}".encode() for s,stem,n,aus in rows)+(end if last else b'')
    for o in changes: data = changed(data, *o) if data else data
    quick = clean_frames(data, SPACE.n_aus)
    if quick is None: assert changes
    else:
        folders,columns = read_lines(data, 'x', DATA_SETS['bp4d'], SPACE, None)
        assert quick[0]==folders
        for k,v in columns.items(): assert quick[1][k].dtype==v.dtype and np.array_equal(quick[1][k], v, equal_nan=k=='labels'), k

@pytest.mark.parametrize('dataset', DATA_SETS)
def test_a_kept_index_is_the_manifest(dataset, tmp_path):
    file,space = written(tmp_path, dataset, GOOD[dataset])
    first,kept = (read_manifest(file, dataset, space, cache=tmp_path/'c') for _ in range(2))
    for o in ('folders', 'lines', 'paths', 'sequence', 'frames', 'labels'):
        a,b = getattr(first, o),getattr(kept, o)
        assert a.dtype==b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind=='f')
    file.write_bytes(GOOD[dataset]+b'\nx')
    with pytest.raises(ManifestError, match='line 2'): read_manifest(file, dataset, space, cache=tmp_path/'c')

# What is wrong on disk -----------------------------------------------------------------------------------------------

def save(path, n=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((24, 24, 3), 10*n%255, np.uint8)).save(path, quality=90)

@pytest.fixture
def images(tmp_path):
    "Two sequences of 32 frames and six folders of 5, with their manifests"
    lines = []
    for s in ('2F23_10', '2M01_08'):
        for n in range(32): save(tmp_path/'lab'/s/f'{n}.jpg', n); lines.append(frame(n, s))
    (tmp_path/'lab.txt').write_bytes(b'\n'.join(lines))
    for i in range(6):
        for n in range(5): save(tmp_path/'wild'/f'{i:03}'/f'{n}.jpg', 5*i+n)
    (tmp_path/'wild.txt').write_text('\n'.join(f'{i:03} 5 {i}' for i in range(6)))
    return tmp_path

def au(images, **kwargs): return AUClips(read_manifest(images/'lab.txt', 'bp4d', SPACE), images/'lab', 16, **kwargs)
def fe(images, **kwargs): return FEClips(read_manifest(images/'wild.txt', 'dfew', SPACE), images/'wild', 16, **kwargs)

def without(root): [o.unlink() for o in root.iterdir()]
MISSING = {'image absent': ('au', lambda r: (r/'lab/2F23_10/7.jpg').unlink(), 8, 'image absent', 'Put it under the image root'),
    'wrong case': ('au', lambda r: (r/'lab/2F23_10/7.jpg').rename(r/'lab/2F23_10/7.JPG'), 8, 'image absent', 'There is 7.JPG: rename it'),
    'folder without frames': ('fe', lambda r: without(r/'wild/003'), 4, 'folder absent or without frames', 'Put it under the image root'),
    'fewer frames': ('fe', lambda r: (r/'wild/003/2.jpg').unlink(), 4, 'fewer frames than the manifest says', '4 found, 5 listed')}

@pytest.mark.parametrize('fault', MISSING)
def test_a_missing_file_is_named_and_nothing_else_lost(fault, images):
    task,spoil,line,problem,fix = MISSING[fault]
    spoil(images)
    make = au if task=='au' else fe
    with pytest.raises(ManifestError, match=f'line {line}: {problem}') as e: make(images)
    assert fix in str(e.value)
    faults = Faults()
    ds = make(images, faults=faults)
    assert [(o.problem, o.line) for o in faults]==[(problem, line)]
    assert len(ds.records)==(63 if task=='au' else 5) and line not in ds.records.lines

def half(file): file.write_bytes(file.read_bytes()[:-200])
def no_picture(file): file.write_bytes(b'<html>404</html>')
def empty(file): file.write_bytes(b'')
def no_data(file): file.write_bytes(file.read_bytes()[:30])
def mangled(file):
    o = bytearray(file.read_bytes()); o[10:400] = b'\xff\xda'*195; file.write_bytes(o)
DAMAGE = {o.__name__: o for o in (half, no_picture, empty, no_data, mangled)}

@pytest.mark.parametrize('damage', DAMAGE)
@pytest.mark.parametrize('at_least', [None, 8])
def test_a_damaged_image_is_an_error(damage, at_least, tmp_path):
    save(tmp_path/'1.jpg')
    DAMAGE[damage](tmp_path/'1.jpg')
    with pytest.raises(ManifestError, match='unreadable image') as e: decode_frame(tmp_path/'1.jpg', at_least)
    assert str(tmp_path/'1.jpg') in str(e.value) and (damage!='empty' or 'the file is empty' in str(e.value))

@settings(max_examples=150)
@given(data=st.binary(max_size=60), cut=st.integers(0, 700), at=st.integers(0, 700), at_least=st.sampled_from([None, 6]))
def test_fuzzed_images_are_pictures_or_errors(data, cut, at, at_least, tmp_path_factory):
    file = tmp_path_factory.getbasetemp()/'fuzz.jpg'
    save(file, 5)
    whole = file.read_bytes()
    file.write_bytes(whole[:at]+data+whole[at+cut:])
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try: img = decode_frame(file, at_least)
        except ManifestError as e: assert e.problem=='unreadable image'
        else: assert img.dtype==torch.uint8 and img.shape[-1]==3

@pytest.mark.parametrize('task', ['au', 'fe'])
@pytest.mark.parametrize('damage', DAMAGE)
def test_evaluation_stops_unless_lenient(damage, task, images):
    file = images/('lab/2F23_10/20.jpg' if task=='au' else 'wild/001/4.jpg')
    DAMAGE[damage](file)
    strict = au(images, cover=True) if task=='au' else fe(images)
    with pytest.raises(ManifestError, match=f"line {21 if task=='au' else 2}: unreadable image"): list(ClipLoader(strict, bs=2))
    dl = ClipLoader(au(images, cover=True, strict=False) if task=='au' else fe(images, strict=False), bs=1)
    with pytest.warns(DataWarning) as seen: batches = list(dl)
    assert dl.skipped=={str(file): 1} and len(seen)==2 and 'clips that could not be read: 1' in str(seen[-1].message)
    if task=='fe': assert torch.cat([b[2] for b in batches]).tolist()==[0, 2, 3, 4, 5]
    else: assert [b[3].isnan().all().item() for b in batches]==[False, True, False, False]

# A broken frame in the middle of training -----------------------------------------------------------------------------

def streams(images, **kwargs):
    joint = JointBatches(fe(images, **kwargs), au(images, **kwargs), 2, 2, seed=5)
    return [b for _ in range(3) for b in JointLoader(joint)]

def same(a, b): return all(torch.equal(x.nan_to_num(9.), y.nan_to_num(9.)) for x,y in zip(a, b, strict=True))

@pytest.mark.filterwarnings('ignore::ssm_nb.data.datasets.DataWarning')
def test_the_run_goes_on_and_is_the_same_again(images):
    healthy = streams(images)
    empty(images/'lab/2F23_10/20.jpg'); half(images/'wild/001/4.jpg')
    a,b = streams(images),streams(images)
    assert all(map(same, a, b)) and len(a)==len(healthy)
    for x,y in zip(a, healthy): assert [o.shape for o in x]==[o.shape for o in y]
    changed = [not torch.equal(x[0][i], y[0][i]) for x,y in zip(a, healthy) for i in range(2)]
    assert 0<sum(changed)<len(changed)
    with pytest.raises(ManifestError, match='unreadable image'): streams(images, strict=True)

def test_counted_and_shown_once(images):
    empty(images/'wild/001/4.jpg')
    for workers in (0, 2):
        dl = JointLoader(JointBatches(fe(images), au(images), 2, 2, seed=5), num_workers=workers)
        with pytest.warns(DataWarning) as seen: _ = [b for _ in range(3) for b in dl]
        shown = [str(o.message) for o in seen if o.category is DataWarning]
        assert sum('001/4.jpg' in o for o in shown)==1 and [o.split(':')[0] for o in shown[1:]]==['epoch 0', 'epoch 1', 'epoch 2']
        assert list(dl.skipped)==[str(images/'wild/001/4.jpg')] and dl.skipped.total()>=3
        assert dl.state_dict()['skipped']==dict(dl.skipped)

def test_continued_with_its_counts(images):
    empty(images/'wild/001/4.jpg')
    make = lambda: JointLoader(JointBatches(fe(images), au(images), 2, 2, seed=5))
    with pytest.warns(DataWarning):
        whole = make(); rest = [b for _ in range(2) for b in whole][len(whole):]
        first,second = make(),make()
        list(first); second.load_state_dict(first.state_dict())
        assert all(map(same, second, rest)) and second.skipped==whole.skipped

def test_nothing_readable_stops_the_run(images):
    for o in (images/'wild').rglob('*.jpg'): empty(o)
    with pytest.raises(ManifestError, match='no readable clip') as e: JointBatches(fe(images), au(images), 2, 2)[0,0]
    assert 'the file is empty' in str(e.value)

# Repeated frames and gaps ----------------------------------------------------------------------------------------------

def test_repeated_frames_and_gaps_are_named(tmp_path):
    other = frame(3).replace(b' 0 1 9', b' 1 1 9')
    file,_ = written(tmp_path, 'bp4d', b'\n'.join([frame(3), frame(4), frame(4), frame(9), other]))
    records,faults = read_manifest(file, 'bp4d', SPACE),Faults()
    check_frames(records, faults)
    assert faults.counts=={'repeated frame': 2, 'gap': 1}
    assert sorted((o.line, o.problem) for o in faults)==[(3, 'repeated frame'), (4, 'gap'), (5, 'repeated frame')]
    texts = {o.line: str(o) for o in faults}
    assert 'Line 1 lists it too, with other labels' in texts[5] and 'Line 2 lists it too, with the same labels' in texts[3] and '4 frames are missing' in texts[4]
    with pytest.raises(ManifestError, match=f'{file}, line'): check_frames(records)
    assert find_segments(records).lengths.tolist()==[2, 1] and records.labels[find_segments(records)[0][0],0]==0
