"Owners' files to manifests and back: round trips, faults, folds"
import csv, json, os
from pathlib import Path
import numpy as np, pytest, torch
from hypothesis import given, strategies as st
from PIL import Image
from ssm_nb.data.formats import DATA_SETS, ManifestError
from ssm_nb.data.manifests import read_manifest
from ssm_nb.data.clips import check_files
from ssm_nb.labels.facs import BP4D_AUS, DISFA_AUS, EXPRESSIONS_7, label_space
from ssm_nb.data.annotations import expression_records, make_records, recount, same_records, write_manifest
from ssm_nb.data.au_codes import bp4d_records, compare_labels, disfa_records, read_intensities, read_occurrence
from ssm_nb.data.folds import make_folds, published_fold, subject_folds

SPACES = {o: label_space('disfa' if o=='disfa' else 'bp4d', 11 if o=='mafw' else 7) for o in DATA_SETS}
SPLITS = Path(os.environ.get('SSM_SPLITS') or Path(__file__).resolve().parents[2]/'shared'/'splits')

def jpeg(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (8, 8)).save(path)

# Round trips -------------------------------------------------------------------------------------------------------

name = st.text('abcXYZ019_- é面', min_size=1, max_size=8).filter(lambda o: o.strip()==o and o not in '..')

@pytest.mark.parametrize('dataset', DATA_SETS)
@given(data=st.data())
def test_what_is_written_reads_back(dataset, data, tmp_path_factory):
    space,au = SPACES[dataset],DATA_SETS[dataset].task=='au'
    label = st.lists(st.sampled_from([0., 1.] if dataset=='disfa' else [0., 1., np.nan]), min_size=space.n_aus, max_size=space.n_aus) if au else st.integers(0, space.n_expressions-1)
    rows = [(i, f'{f}/frame_{n}.jpg' if au else f, n, l) for i,(f,n,l) in enumerate(data.draw(st.lists(st.tuples(name, st.integers(1, 10**6), label), min_size=1, max_size=6)), 1)]
    records = make_records(dataset, 'drawn', space, rows)
    back = read_manifest(write_manifest(tmp_path_factory.getbasetemp()/f'back_{dataset}', records), dataset, space)
    assert back.paths.tolist()==[o[1] for o in rows] and back.frames.tolist()==[o[2] for o in rows]
    assert np.array_equal(back.labels, np.array([o[3] for o in rows]), equal_nan=au)
    assert (back.folders[back.sequence]==records.folders[records.sequence]).all()

@pytest.mark.skipif(not (SPLITS/'expected.json').exists(), reason=f'no split files in {SPLITS}; set SSM_SPLITS to their folder')
@pytest.mark.parametrize('dataset, file', [('bp4d', 'bp4d/test_1f_data.list'), ('disfa', 'disfa/DISFA_test1.json'), ('dfew', 'DFEW/DFEW_set_1_test.txt'),
                                           ('ferv39k', 'FERV39K/FERV39K_test.txt'), ('mafw', 'MAFW/MAFW_set_1_test.txt')])
def test_published_manifests_are_written_as_they_are(dataset, file, tmp_path):
    records = read_manifest(SPLITS/file, dataset, SPACES[dataset])
    written = write_manifest(tmp_path/'again', records)
    assert same_records(records, read_manifest(written, dataset, SPACES[dataset]))
    lines = [o.replace('\r\n', '\n') for o in ((SPLITS/file).read_text(), written.read_text())]
    if dataset=='disfa': # the release lists active AUs in no particular order
        lines = [[(r['img_path'], sorted(r['AUs'])) for r in map(json.loads, o.splitlines())] for o in lines]
    assert lines[0]==lines[1]

# BP4D against an obvious reader ------------------------------------------------------------------------------------

@pytest.fixture
def bp4d(tmp_path):
    "Two recordings in AU_OCC's layout, columns shuffled, AUs to spare, zeros before the numbers of images"
    rng = np.random.default_rng(3)
    for who,folder,first in (('F001_T1', '2F01_01', 2440), ('M012_T7', '2M12_07', 0)):
        columns = [*BP4D_AUS, 5, 27, 45]
        rng.shuffle(columns)
        rows = [[first+i, *rng.choice([0, 1, 9], len(columns), p=[.6, .3, .1])] for i in range(30)]
        (tmp_path/'AU_OCC').mkdir(exist_ok=True)
        with open(tmp_path/'AU_OCC'/f'{who}.csv', 'w', newline='') as f: csv.writer(f).writerows([[0, *columns], *rows])
        for o in rows: jpeg(tmp_path/'images'/folder/f'{o[0]:04}.jpg')
    return tmp_path

def test_bp4d_says_what_a_plain_reader_says(bp4d):
    records = bp4d_records(bp4d/'AU_OCC', bp4d/'images', SPACES['bp4d'])
    back = read_manifest(write_manifest(bp4d/'m.list', records), 'bp4d', SPACES['bp4d'])
    labels_of = dict(zip(back.paths, back.labels))
    n = 0
    for file,folder in (('F001_T1', '2F01_01'), ('M012_T7', '2M12_07')):
        with open(bp4d/'AU_OCC'/f'{file}.csv', newline='') as f:
            for row in csv.DictReader(f):
                want = [float(row[str(au)]) for au in BP4D_AUS]
                assert np.nan_to_num(labels_of[f"{folder}/{int(row['0']):04}.jpg"], nan=9).tolist()==want
                n += 1
    assert n==len(back)==60 and np.isnan(back.labels).sum()>20
    assert set(back.subjects)=={'F001', 'M012'} and len(check_files(back, bp4d/'images'))==60

def test_tasks_are_translated_not_guessed(bp4d):
    (bp4d/'images'/'2M12_07').rename(bp4d/'images'/'2M12_13')
    with pytest.raises(ManifestError, match='folder absent or without frames.*2M12_07'): bp4d_records(bp4d/'AU_OCC', bp4d/'images', SPACES['bp4d'])
    records = bp4d_records(bp4d/'AU_OCC', bp4d/'images', SPACES['bp4d'], tasks={1:1, 7:13})
    assert records.folders.tolist()==['2F01_01', '2M12_13']

def edit(file, line, text):
    lines = file.read_text().splitlines()
    lines[line-1] = text(lines[line-1])
    file.write_text('\n'.join(lines)+'\n')

@pytest.mark.parametrize('line, text, why', [
    (1, lambda o: o.replace('45', 'AU_smile'), 'line 1: unknown AU column: \'AU_smile\''),
    (1, lambda o: o.replace('24', '54'), 'line 1: missing AU column: 24'),
    (1, lambda o: o.replace('24', '23'), 'line 1: AU column twice'),
    (5, lambda o: o+',0', 'line 5: 17 fields'),
    (5, lambda o: o.rpartition(',')[0], 'line 5: 15 fields'),
    (5, lambda o: 'x'+o, 'line 5: not a number: \'x2443\''),
    (5, lambda o: o.replace('2443', '2442'), 'line 5: frame twice: 2442'),
    (5, lambda o: o.replace('2443', '9999'), 'line 5: image absent'),
    (5, lambda o: '2443'+',2'*15, 'line 5: unknown AU code: \'2\''),
    (5, lambda o: '2443'+',-1'*15, 'line 5: unknown AU code: \'-1\''),
    (5, lambda o: o+'\x07', 'line 5: unreadable character')])
def test_faults_of_bp4d(bp4d, line, text, why):
    file = bp4d/'AU_OCC'/'F001_T1.csv'
    edit(file, line, text)
    read = lambda faults: bp4d_records(bp4d/'AU_OCC', bp4d/'images', SPACES['bp4d'], faults=faults)
    with pytest.raises(ManifestError) as e: read(None)
    assert str(e.value).startswith(f'{file}, {why}') and e.value.fix
    faults = []
    rest = read(faults)
    assert [str(o) for o in faults]==[str(e.value)]
    assert len(rest)==(30 if line==1 else 59) # a header costs its file, a line itself

def test_spreadsheets_leave_traces(bp4d):
    file = bp4d/'AU_OCC'/'F001_T1.csv'
    before = read_occurrence(file, SPACES['bp4d'])
    file.write_bytes(b'\xef\xbb\xbf'+file.read_bytes().replace(b'\n', b'\r\n').replace(b',', b', ')+b'\r\n')
    assert repr(read_occurrence(file, SPACES['bp4d']))==repr(before)

@pytest.mark.parametrize('content', ['', '\n\n'])
def test_empty_files(bp4d, content):
    (bp4d/'AU_OCC'/'F001_T1.csv').write_text(content)
    with pytest.raises(ManifestError, match='empty file.*F001_T1'): bp4d_records(bp4d/'AU_OCC', bp4d/'images', SPACES['bp4d'])

# DISFA against an obvious reader -----------------------------------------------------------------------------------

@pytest.fixture
def disfa(tmp_path):
    rng,true = np.random.default_rng(5),{}
    for who in ('SN001', 'SN010'):
        true[who] = rng.integers(0, 6, (25, 8))
        (tmp_path/'labels'/who).mkdir(parents=True)
        for a,au in enumerate(DISFA_AUS): (tmp_path/'labels'/who/f'{who}_au{au}.txt').write_text(''.join(f'{i},{o}\n' for i,o in enumerate(true[who][:,a], 1)))
        for au in (5, 15): (tmp_path/'labels'/who/f'{who}_au{au}.txt').write_text('1,0\n') # the release has more
        for i in range(1, 28): jpeg(tmp_path/'images'/f'RightVideo{who}'/f'frame_{i}.jpg') # more frames than labels
    return tmp_path,true

@pytest.mark.parametrize('threshold', range(1, 6))
def test_disfa_says_what_a_plain_reader_says(disfa, threshold):
    root,true = disfa
    records = disfa_records(root/'labels', root/'images', SPACES['disfa'], threshold)
    back = read_manifest(write_manifest(root/'m.json', records), 'disfa', SPACES['disfa'])
    lines = [json.loads(o) for o in (root/'m.json').read_text().splitlines()]
    at = [(who, i) for who in true for i in range(1, 26)]
    assert [o['img_path'] for o in lines]==[f'RightVideo{w}/frame_{i}.jpg' for w,i in at]
    assert [o['AUs'] for o in lines]==[sorted(au for au,v in zip(DISFA_AUS, true[w][i-1]) if v>=threshold)+[999]*sum(true[w][i-1]<threshold) for w,i in at]
    assert same_records(records, back)
    assert compare_labels(records, back).differ.sum()==0
    other = disfa_records(root/'labels', root/'images', SPACES['disfa'], threshold%5+1)
    assert (compare_labels(other, back).differ==(other.labels!=back.labels).sum(0)).all() and compare_labels(other, back).differ.sum()>0

def test_two_is_the_rule_unless_told(disfa):
    root,true = disfa
    assert (disfa_records(root/'labels', root/'images', SPACES['disfa']).labels==np.concatenate(list(true.values())).clip(1, 2)-1).all()
    for bad in (0, 6, 2.5, '2'):
        with pytest.raises(ValueError, match='intensities run from 0 to 5'): disfa_records(root/'labels', root/'images', SPACES['disfa'], bad)

@pytest.mark.parametrize('spoil, why', [
    (lambda o: edit(o, 3, lambda _: '3,6'), 'SN010_au9.txt, line 3: intensity out of range: 6'),
    (lambda o: edit(o, 3, lambda _: '3,two'), "SN010_au9.txt, line 3: not a number: 'two'"),
    (lambda o: edit(o, 3, lambda _: '3,1.0'), "SN010_au9.txt, line 3: not a number: '1.0'"),
    (lambda o: edit(o, 3, lambda _: '3'), 'SN010_au9.txt, line 3: 1 fields'),
    (lambda o: edit(o, 3, lambda _: '2,0'), 'SN010_au9.txt, line 3: frame twice: 2'),
    (lambda o: edit(o, 25, lambda _: ''), 'AU files with different frames'),
    (lambda o: o.unlink(), 'AU file absent'),
    (lambda o: o.write_text(''), 'empty file'),
    (lambda o: (o.parents[2]/'images'/'RightVideoSN010'/'frame_7.jpg').unlink(), 'line 7: image absent'),
    (lambda o: o.parent.with_name('sn001').mkdir(), 'duplicate'),
    (lambda o: o.parent.with_name('S10').mkdir(), 'not a DISFA subject')])
def test_faults_of_disfa(disfa, spoil, why):
    root,_ = disfa
    spoil(root/'labels'/'SN010'/'SN010_au9.txt')
    read = lambda faults: disfa_records(root/'labels', root/'images', SPACES['disfa'], faults=faults)
    with pytest.raises(ManifestError) as e: read(None)
    assert why in str(e.value) and str(root) in str(e.value) and e.value.fix
    faults = []
    rest = read(faults)
    assert str(faults[0])==str(e.value)
    whole = rest.subjects=='SN001' # of the other person nothing is lost, and a lacking AU is never read as absent
    assert whole.sum()==25 and (~whole).sum()==(0 if why in ('AU file absent', 'empty file') else 25 if why in ('duplicate', 'not a DISFA subject') else 24)

@given(data=st.binary(max_size=60))
def test_every_intensity_line_is_read_or_reported(data, tmp_path_factory):
    file,faults = tmp_path_factory.getbasetemp()/'SN001_au1.txt',[]
    file.write_bytes(b'1000,3\n'+data)
    found = read_intensities(file, faults)
    lines = {f.line for f in faults} | {i for i,_ in found.values()} | {i for i,o in enumerate(data.split(b'\n'), 2) if not o.strip(b' \t\r')}
    assert lines==set(range(1, data.count(b'\n')+3)) and all(0<=v<=5 for _,v in found.values())

# Tables of clips ---------------------------------------------------------------------------------------------------

CLIPS = {'dfew': ('video_name,label\n1,1\n2,7\n', ('00001', '00002'), dict(classes=EXPRESSIONS_7, start=1, digits=5)),
         'ferv39k': ('Action/Happy/0267 Happy\r\nCrime/Fear/0001 Fear\r\n', ('Action/Happy/0267', 'Crime/Fear/0001'), {}),
         'mafw': ('00001.mp4 happiness\n00009.mp4 disappointment\n', ('00001', '00009'), {})}

@pytest.mark.parametrize('dataset', CLIPS)
def test_tables_as_their_owners_write_them(dataset, tmp_path):
    text,folders,how = CLIPS[dataset]
    for k,o in enumerate(folders):
        for i in range(5+k): jpeg(tmp_path/'frames'/o/f'{i:05}.jpg')
        (tmp_path/'frames'/o/'Thumbs.db').touch() # not a frame
    (tmp_path/'table').write_text(text, newline='')
    records = expression_records(tmp_path/'table', tmp_path/'frames', dataset, SPACES[dataset], **how)
    last = 10 if dataset=='mafw' else 6
    assert write_manifest(tmp_path/'m.txt', records).read_text()==f'{folders[0]} 5 0\n{folders[1]} 6 {last}\n'
    (tmp_path/'frames'/folders[0]/'00000.jpg').unlink()
    assert recount(read_manifest(tmp_path/'m.txt', dataset, SPACES[dataset]), tmp_path/'frames').frames.tolist()==[4, 6]

@pytest.mark.parametrize('text, why', [
    ('a happiness\nb joy\n', "line 2: unknown expression: 'joy'"), ('a happiness\nb 3\n', "line 2: number without a list of classes: '3'"),
    ('a happiness\na fear\n', "line 2: duplicate: 'a'"), ('a happiness\nb\n', 'line 2: missing field'), ('a happiness\nnone fear\n', 'line 2: folder absent'),
    ('a happiness\nempty fear\n', 'line 2: folder without frames'), ('a happiness\n../b fear\n', 'line 2: path outside the image root'),
    ('file,label\na,fear\n', 'line 1: missing column'), ('clip,person,label\na,x,fear\nb,x\n', 'line 3: missing field')])
def test_faults_of_tables(text, why, tmp_path):
    for o in 'ab': jpeg(tmp_path/'frames'/o/'1.jpg')
    (tmp_path/'frames'/'empty').mkdir()
    (tmp_path/'table').write_text(text)
    with pytest.raises(ManifestError) as e: expression_records(tmp_path/'table', tmp_path/'frames', 'dfew', SPACES['dfew'])
    assert str(e.value).startswith(f"{tmp_path/'table'}, {why}") and e.value.fix
    faults = []
    if 'line 1' in why: pytest.raises(ManifestError, expression_records, tmp_path/'table', tmp_path/'frames', 'dfew', SPACES['dfew'], faults=faults)
    else: assert expression_records(tmp_path/'table', tmp_path/'frames', 'dfew', SPACES['dfew'], faults=faults).paths.tolist()==['a']
    assert str(faults[0])==str(e.value)

# Folds -------------------------------------------------------------------------------------------------------------

def crowd(n, seed=0, frames=20):
    g = np.random.default_rng(seed)
    return make_records('bp4d', 'drawn', SPACES['bp4d'], [(1, f'2F{s+1:02}_01/{i}.jpg', i, v) for s in range(n) for i,v in enumerate((g.random((frames+s, 12))<g.random(12)**2).astype(float).tolist())])

@given(n=st.integers(2, 20), k=st.integers(2, 6), seed=st.integers(0, 99))
def test_folds_by_person(n, k, seed):
    records = crowd(n, seed, 3)
    if k>n: return pytest.raises(ValueError, subject_folds, records, k, torch.Generator()) and None
    fold = subject_folds(records, k, torch.Generator().manual_seed(seed))
    of = {who: set(fold[records.subjects==who]) for who in set(records.subjects)}
    assert all(len(o)==1 for o in of.values()) # nobody is in two
    sizes = np.bincount([o for s in of.values() for o in s], minlength=k)
    assert sizes.max()-sizes.min()<=1 and sizes.min()>0
    assert (fold==subject_folds(records, k, torch.Generator().manual_seed(seed))).all()
    shuffled = np.random.default_rng(seed).permutation(len(records)) # nor does the order of the records matter
    assert (fold[shuffled]==subject_folds(records[shuffled], k, torch.Generator().manual_seed(seed))).all()

def test_folds_made_here_say_so(tmp_path):
    records = crowd(7)
    files = [make_folds(tmp_path/o, records, k=3, seed=4, rule='>= 2') for o in 'xy']
    about = json.loads(files[0].read_text())
    assert files[0].parent.name=='folds_made_here_3_seed4' and about['origin'].startswith('made here, by person') and about['rule']=='>= 2'
    assert files[0].read_bytes()==files[1].read_bytes()
    assert sorted(p for f in about['folds'].values() for p in f['test_people'])==sorted(set(records.subjects)) # each person is in the test once
    for k,described in about['folds'].items():
        train,test = (read_manifest(files[0].parent/f'{o}_{k}f_data.list', 'bp4d', SPACES['bp4d']) for o in ('train', 'test'))
        assert not {*train.subjects} & {*test.subjects} and sorted({*test.subjects})==described['test_people']
        assert len(train)+len(test)==len(records) and described['labels']['test']['AU12']['present']==(test.labels[:,6]==1).sum()

def test_clips_need_somebody_who_knows(tmp_path):
    records = make_records('ferv39k', 'drawn', SPACES['ferv39k'], [(i, f'Action/{i:04}', 20, i%7) for i in range(40)])
    with pytest.raises(ValueError, match='does not say who'): make_folds(tmp_path, records)
    with pytest.raises(ValueError, match='39 subjects for 40 records'): make_folds(tmp_path, records, subjects=['x']*39)
    about = json.loads(make_folds(tmp_path, records, k=2, subjects=[f'actor {i//4}' for i in range(40)]).read_text())
    assert len(about['folds']['1']['test_people'])==5
    assert len(read_manifest(tmp_path/'folds_made_here_2_seed0'/'FERV39K_test_2.txt', 'ferv39k', SPACES['ferv39k']))==20

def test_published_folds(tmp_path):
    records = crowd(5)
    (tmp_path/'train').write_text('F001\nF002\n'); write_manifest(tmp_path/'test', records[records.subjects=='F004'])
    about = json.loads(published_fold(tmp_path/'out', records, tmp_path/'train', tmp_path/'test', fold=2, rule='>= 2').read_text())
    assert (about['origin'], about['in_neither'], about['rule'])==('published', ['F003', 'F005'], '>= 2')
    for part,who in (('train', {'F001', 'F002'}), ('test', {'F004'})):
        assert same_records(read_manifest(tmp_path/'out'/f'{part}_2f_data.list', 'bp4d', SPACES['bp4d']), records[np.isin(records.subjects, list(who))])
    (tmp_path/'train').write_text('F001\n\nF004\n')
    with pytest.raises(ManifestError, match='line 1: a person in training and test'): published_fold(tmp_path/'out', records, tmp_path/'train', tmp_path/'test')
    (tmp_path/'train').write_text('F001\nF077\n')
    with pytest.raises(ManifestError, match="train, line 2: no such person: 'F077'"): published_fold(tmp_path/'out', records, tmp_path/'train', tmp_path/'test')

def test_folds_are_not_written_over(tmp_path):
    "The same call again is harmless; another set or another choice is refused, and what was there stays"
    first = make_folds(tmp_path, crowd(5), k=2, rule='>= 2')
    kept = {o.name:o.read_bytes() for o in first.parent.iterdir()}
    assert make_folds(tmp_path, crowd(5), k=2, rule='>= 2')==first
    for records,how in ((crowd(5, seed=1), dict(rule='>= 2')), (crowd(6), dict(rule='>= 2')), (crowd(5), dict(rule='>= 3'))):
        with pytest.raises(ValueError, match='folds.json is about other folds'): make_folds(tmp_path, records, k=2, **how)
    assert {o.name:o.read_bytes() for o in first.parent.iterdir()}==kept

@pytest.mark.parametrize('name', ['', ' ', None, float('nan'), np.nan])
def test_a_missing_person_is_no_person(name, tmp_path):
    who = np.array(['anna', 'bert', name, 'carl'], object)
    records = make_records('dfew', 'drawn', SPACES['dfew'], [(i, f'{i:05}', 20, i%7) for i in range(4)])
    with pytest.raises(ValueError, match='00002: no person is given'): make_folds(tmp_path, records, k=2, subjects=who)

@pytest.mark.parametrize('a, b', [('P1', 'p01'), ('Müller', 'muller'), ('actor 3', 'actor_03'), ('Johannsen', 'Johansen')])
def test_nearly_the_same_person_is_asked_about(a, b, tmp_path):
    records = make_records('dfew', 'drawn', SPACES['dfew'], [(i, f'{i:05}', 20, i%7) for i in range(3)])
    with pytest.raises(ValueError, match='one person or two'): make_folds(tmp_path, records, k=2, subjects=[a, b, 'Zoe'])

# Whatever program saved the table ----------------------------------------------------------------------------------------

TEXT = 'frame,1,2,4,6,7,10,12,14,15,17,23,24\n1,0,1,0,1,0,1,0,1,0,1,0,9\n2,1,1,1,1,1,1,0,0,0,0,0,0\n'

@pytest.mark.parametrize('sep', [',', ';', '\t'])
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le', 'utf-16-be'])
def test_a_table_of_any_program(sep, encoding, tmp_path):
    (tmp_path/'plain.csv').write_text(TEXT)
    (tmp_path/'F001_T1.csv').write_bytes(TEXT.replace(',', sep).replace('\n', '\r\n').encode(encoding))
    assert repr(read_occurrence(tmp_path/'F001_T1.csv', SPACES['bp4d']))==repr(read_occurrence(tmp_path/'plain.csv', SPACES['bp4d']))

@pytest.mark.parametrize('sep', [',', ';', '\t', ' '])
def test_a_table_of_clips_with_any_separator(sep, tmp_path):
    for o in 'ab': jpeg(tmp_path/'frames'/o/'1.jpg')
    (tmp_path/'table').write_text(f'clip{sep}label\na{sep}Happy\nb{sep}fear\n')
    assert expression_records(tmp_path/'table', tmp_path/'frames', 'dfew', SPACES['dfew']).labels.tolist()==[0, 6]

def test_two_separators_and_excel_are_said(tmp_path):
    (tmp_path/'a.csv').write_text('a,b;c\nd,e;f\n')
    with pytest.raises(ManifestError, match='two separators'): expression_records(tmp_path/'a.csv', tmp_path, 'dfew', SPACES['dfew'])
    for head in (b'PK\3\4', b'\xd0\xcf\x11\xe0\xa1\xb1'):
        (tmp_path/'b.csv').write_bytes(head+bytes(50))
        with pytest.raises(ManifestError, match='Excel file.*b.csv.*Save the sheet as CSV'): expression_records(tmp_path/'b.csv', tmp_path, 'dfew', SPACES['dfew'])

def test_two_columns_that_could_be_meant(tmp_path):
    for o in 'ab': jpeg(tmp_path/'frames'/o/'1.jpg')
    (tmp_path/'t.csv').write_text('clip,emotion,label\na,fear,Happy\nb,sad,Angry\n')
    read = lambda **how: expression_records(tmp_path/'t.csv', tmp_path/'frames', 'dfew', SPACES['dfew'], **how)
    with pytest.raises(ManifestError, match="t.csv, line 1: two columns could be meant: 'emotion and label'.*label='emotion' or label='label'"): read()
    assert read(label='label').labels.tolist()==[0, 3] and read(label='Emotion').labels.tolist()==[6, 1]
    with pytest.raises(ManifestError, match="missing column: 'mood'"): read(label='mood')
    (tmp_path/'t.csv').write_text('video,folder,label\na,b,Happy\nb,a,Angry\n')
    with pytest.raises(ManifestError, match="'video and folder'.*clip='video' or clip='folder'"): read()
    assert read(clip='folder').paths.tolist()==['b', 'a']

def test_files_left_out_are_counted_and_said(bp4d, capsys):
    (bp4d/'AU_OCC'/'F001_T1.csv').rename(bp4d/'AU_OCC'/'F001_T1.CSV')
    for o in ('._F001_T1.csv', 'notes.txt'): (bp4d/'AU_OCC'/o).write_text('x')
    assert len(bp4d_records(bp4d/'AU_OCC', bp4d/'images', SPACES['bp4d']))==60
    printed = capsys.readouterr().out
    assert '1 hidden, or of another system' in printed and '1 of another kind (notes.txt)' in printed

def test_words_of_numpy_are_words():
    assert str(ManifestError('only one person', np.str_('F001'), 'Add one.'))=="only one person: 'F001'. Add one."
    assert str(ManifestError('frame twice', np.int64(3), 'Keep one.'))=='frame twice: 3. Keep one.'
