"ssm-doctor: each sickness is found, named with file and line, and fails; healthy data pass"
import json,os,re,shutil,subprocess,sys
from dataclasses import replace
from pathlib import Path
import numpy as np,pytest
from PIL import Image
from ssm_nb.data.formats import DATA_SETS,ManifestError
from ssm_nb.data.manifests import read_manifest
from ssm_nb.data.counts import compare_joint,load_published,permuted,tally
from ssm_nb.data.doctor import by_kind,ssm_doctor
from ssm_nb.data.examination import Checkup,check_up
from ssm_nb.labels.cooccurrence import dataset_cooccurrence
from ssm_nb.core.settings import load_settings
from ssm_nb.runs.config import run_config,run_data,run_prior

SPLITS = Path(os.environ.get('SSM_SPLITS') or Path(__file__).resolve().parents[2]/'shared'/'splits')
needs_splits = pytest.mark.skipif(not (SPLITS/'expected.json').exists(), reason=f'no split files in {SPLITS}; set SSM_SPLITS to their folder')

def frames(folder, names, rng, size=(24, 20)):
    folder.mkdir(parents=True)
    for o in names: Image.fromarray(rng.integers(0, 255, (*size[::-1], 3), dtype=np.uint8)).save(folder/o)

@pytest.fixture
def disk(tmp_path):
    "All five data sets, small and healthy, and a settings file"
    rng = np.random.default_rng(0)
    for split,person in (('train', 1), ('test', 2)):
        aus = rng.integers(0, 2, (20, 12))
        aus[0],aus[1] = 0,1 # every AU occurs
        frames(tmp_path/f'BP4D/Images/2F0{person}_01', [f'{i}.jpg' for i in range(20)], rng)
        (tmp_path/f'BP4D/{split}_1f_data.list').write_text(''.join(f'2F0{person}_01/{i}.jpg {" ".join(map(str, o))}\n' for i,o in enumerate(aus)))
        frames(tmp_path/f'DISFA/images_aligned/RightVideoSN00{person}', [f'frame_{i}.jpg' for i in range(20)], rng)
        lists = [[1, 2, 4, 6, 9, 12, 25, 26] if i%2 else [999]*8 for i in range(20)]
        (tmp_path/f'DISFA/DISFA_{split}1.json').write_text(''.join(json.dumps(dict(img_path=f'RightVideoSN00{person}/frame_{i}.jpg', AUs=o))+'\n' for i,o in enumerate(lists)))
        for name,stem,n in (('DFEW', 'DFEW_set_1', 7), ('FERV39K', 'FERV39K', 7), ('MAFW', 'MAFW_set_1', 11)):
            for k in range(n): frames(tmp_path/f'{name}/frames/{split}{k:02}', [f'{i:03}.jpg' for i in range(16)], rng)
            (tmp_path/f'{name}/{stem}_{split}.txt').write_text(''.join(f'{split}{k:02} 16 {k}\n' for k in range(n)))
    (tmp_path/'settings.ini').write_text('[paths]\ndata = .\nout = out\n\n[run]\nselection = test\n') # one person, one clip a class: nothing can be held out
    return tmp_path

BS = ['--fe-bs', '1', '--au-bs', '1'] # so few clips are enough for these steps

def run(disk, *args):
    "Exit status, and (data set, kind, file name, line) of all faults and warnings"
    status = ssm_doctor([*args, *BS, '--settings', str(disk/'settings.ini')])
    sets = json.loads((disk/'out'/'doctor.json').read_text())['sets']
    problems = {o:[(s['data set'], f['problem'], Path(f['file'] or '').name, f['line']) for s in sets for f in s[o]] for o in ('faults', 'warnings')}
    return status,problems['faults'],problems['warnings']

def edit(file, change): file.write_text('\n'.join(change(file.read_text().splitlines()))+'\n')

def test_healthy(disk, capsys):
    assert run(disk)[:2]==(0, [])
    text = capsys.readouterr().out
    assert all(f'{o}, fold 1: healthy' in text for o in ('bp4d', 'disfa', 'dfew', 'ferv39k', 'mafw'))
    assert 'Nothing was found' in (disk/'out'/'doctor.html').read_text()
    assert {o.name for o in (disk/'out').iterdir()}=={'doctor.html', 'doctor.json'}

# Sickness by sickness: what is done, which data set, what must be said, where ------------------------------------------

def zero(d): (d/'BP4D/Images/2F01_01/4.jpg').write_bytes(b'')
def cut(d):
    f = d/'DFEW/frames/test03/005.jpg'
    f.write_bytes(f.read_bytes()[:-200])
def text(d): (d/'DISFA/images_aligned/RightVideoSN002/frame_9.jpg').write_text('not an image')
def gone(d): (d/'BP4D/Images/2F02_01/19.jpg').unlink()
def fewer(d): (d/'MAFW/frames/train10/015.jpg').unlink()
def case(d): (d/'BP4D/Images/2F02_01/19.jpg').rename(d/'BP4D/Images/2F02_01/19.JPG')
def twice(d): edit(d/'BP4D/train_1f_data.list', lambda o: [*o, o[5]])
def denied(d): edit(d/'BP4D/train_1f_data.list', lambda o: [*o, o[0].replace(' 0', ' 1')])
def folder_twice(d): edit(d/'FERV39K/FERV39K_train.txt', lambda o: [o[0], o[0], *o[1:]])
def person(d): edit(d/'BP4D/test_1f_data.list', lambda o: [*o[:3], (d/'BP4D/train_1f_data.list').read_text().splitlines()[7], *o[3:]])
def disfa_person(d): edit(d/'DISFA/DISFA_test1.json', lambda o: [*o, (d/'DISFA/DISFA_train1.json').read_text().splitlines()[0]])
def leaked(d): edit(d/'DFEW/DFEW_set_1_test.txt', lambda o: [*o, 'train02 16 2'])
def stranger(d):
    (d/'BP4D/Images/2F01_01').rename(d/'BP4D/Images/someone')
    edit(d/'BP4D/train_1f_data.list', lambda o: [l.replace('2F01_01', 'someone') for l in o])
def eleven(d): edit(d/'BP4D/train_1f_data.list', lambda o: [*o[:9], o[9][:-2], *o[10:]])
def from_one(d): edit(d/'DFEW/DFEW_set_1_train.txt', lambda o: [f'{l[:-1]}{int(l[-1])+1}' for l in o])
def odd_size(d): Image.new('RGB', (30, 20)).save(d/'DFEW/frames/train06/009.jpg')
def no_manifest(d): (d/'MAFW/MAFW_set_1_test.txt').unlink()
def no_images(d): (d/'MAFW/frames').rename(d/'MAFW/pictures')
def nothing_valid(d): (d/'DFEW/DFEW_set_1_test.txt').write_text('hello\n')

@pytest.mark.parametrize('harm,name,problem,file,line', [
    (zero, 'bp4d', 'unreadable image', 'train_1f_data.list', 5), (cut, 'dfew', 'unreadable image', 'DFEW_set_1_test.txt', 4),
    (text, 'disfa', 'unreadable image', 'DISFA_test1.json', 10), (gone, 'bp4d', 'image absent', 'test_1f_data.list', 20),
    (fewer, 'mafw', 'fewer frames than the manifest says', 'MAFW_set_1_train.txt', 11), (case, 'bp4d', 'image absent', 'test_1f_data.list', 20),
    (twice, 'bp4d', 'repeated frame', 'train_1f_data.list', 21), (denied, 'bp4d', 'repeated frame', 'train_1f_data.list', 21),
    (folder_twice, 'ferv39k', 'repeated folder', 'FERV39K_train.txt', 2), (person, 'bp4d', 'person in training and in test', 'test_1f_data.list', 4),
    (disfa_person, 'disfa', 'person in training and in test', 'DISFA_test1.json', 21), (leaked, 'dfew', 'folder in training and in test', 'DFEW_set_1_test.txt', 8),
    (stranger, 'bp4d', 'not a BP4D sequence', 'train_1f_data.list', 1), (eleven, 'bp4d', '11 label fields', 'train_1f_data.list', 10),
    (from_one, 'dfew', 'expressions without a clip in training', 'DFEW_set_1_train.txt', 1), (from_one, 'dfew', 'unknown expression', 'DFEW_set_1_train.txt', 7),
    (odd_size, 'dfew', 'frames of different sizes in one sequence', 'DFEW_set_1_train.txt', 7), (no_manifest, 'mafw', 'manifest absent', '', None),
    (no_images, 'mafw', 'image root absent', '', None), (nothing_valid, 'dfew', 'no records', 'DFEW_set_1_test.txt', 1)])
def test_sickness(disk, harm, name, problem, file, line):
    harm(disk)
    s = load_settings(disk/'settings.ini')
    c = check_up(name, getattr(s, name), load_published(), run=s.run, bs=1)
    assert (problem, file, line) in [(o.problem, Path(o.file or '').name, o.line) for o in c.faults]
    summary = c.summary()
    assert problem in summary and (not file or f'{file}, line {line}: {problem}' in summary)

def test_all_at_once(disk, capsys):
    "One command finds what is wrong in each data set, and the page shows it"
    for harm in (cut, twice, disfa_person, folder_twice, no_images): harm(disk)
    status,faults,_ = run(disk)
    assert status==1 and {(o[0], o[1]) for o in faults}=={('dfew', 'unreadable image'), ('bp4d', 'repeated frame'), ('disfa', 'person in training and in test'),
                                                         ('ferv39k', 'repeated folder'), ('mafw', 'image root absent')}
    assert 'Report: ' in capsys.readouterr().out and '5 data sets of 5 would spoil a result' in (disk/'out'/'doctor.html').read_text()

def healthy_day(disk, name):
    "The report of data as they are now"
    assert ssm_doctor([name, *BS, '--settings', str(disk/'settings.ini'), '--out', str(disk/'healthy')])==0
    return str(disk/'healthy'/'doctor.json')

@pytest.mark.parametrize('name,file', [('bp4d', 'BP4D/train_1f_data.list'), ('mafw', 'MAFW/MAFW_set_1_train.txt')])
def test_labels_in_another_order(disk, name, file):
    "Against the report of a healthy day; 12 AUs in distinct numbers, 11 expressions too"
    if name=='bp4d': edit(disk/file, lambda o: [f"{l.split()[0]} {' '.join(str(int(i<=k)) for k in range(12))}" for i,l in enumerate(o)])
    else:
        for k in range(11, 14): frames(disk/f'MAFW/frames/train{k:02}', [f'{i:03}.jpg' for i in range(16)], np.random.default_rng(k))
        edit(disk/file, lambda o: [*o, 'train11 16 1', 'train12 16 3', 'train13 16 3'])
    reference = ['--published', healthy_day(disk, name)]
    assert run(disk, name, *reference)[:2]==(0, [])
    if name=='bp4d': edit(disk/file, lambda o: [' '.join([w[0], *w[2:], w[1]]) for w in map(str.split, o)])
    else: edit(disk/file, lambda o: [f'{w[0]} {w[1]} {(int(w[2])+1)%11}' for w in map(str.split, o)])
    status,faults,_ = run(disk, name, *reference)
    assert status==1 and (name, 'labels in another order than published', Path(file).name, 1) in faults

def test_a_lost_frame_is_found_by_a_healthy_day(disk):
    reference = healthy_day(disk, 'ferv39k')
    edit(disk/'FERV39K/FERV39K_train.txt', lambda o: [*o[:6], o[6].replace('16', '15')])
    assert run(disk, 'ferv39k', '--published', reference)[:2]==(1, [('ferv39k', 'other counts than published', 'FERV39K_train.txt', 1)])

# What stops a run stops here -----------------------------------------------------------------------------------------------

@pytest.fixture
def study(tmp_path):
    "BP4D's and DFEW's formats, with as many people and clips as a run needs"
    rng = np.random.default_rng(0)
    for split,people in (('train', range(1, 11)), ('test', range(11, 13))):
        lines = []
        for p in people:
            frames(tmp_path/f'BP4D/Images/2F{p:02}_01', [f'{i}.jpg' for i in range(32)], rng, (8, 8))
            lines += [f'2F{p:02}_01/{i}.jpg {" ".join(map(str, rng.integers(0, 2, 12)))}\n' for i in range(32)]
        (tmp_path/f'BP4D/{split}_1f_data.list').write_text(''.join(lines))
        for k in range(21): frames(tmp_path/f'DFEW/frames/{split}{k:02}', [f'{i:03}.jpg' for i in range(16)], rng, (8, 8))
        (tmp_path/f'DFEW/DFEW_set_1_{split}.txt').write_text(''.join(f'{split}{k:02} 16 {k%7}\n' for k in range(21)))
    (tmp_path/'settings.ini').write_text('[paths]\ndata = .\nout = out\n')
    return tmp_path

def every_fifth(d):
    for o in ('train', 'test'): edit(d/f'BP4D/{o}_1f_data.list', lambda lines: [l for l in lines if int(l.split('/')[1].split('.')[0])%5==0])
def one_person(d): edit(d/'BP4D/train_1f_data.list', lambda lines: [l for l in lines if l.startswith('2F03')])
def few_clips(d): edit(d/'BP4D/train_1f_data.list', lambda lines: [l for l in lines if l[2:4] in ('01', '02', '03')])
def few_videos(d): edit(d/'DFEW/DFEW_set_1_train.txt', lambda lines: lines[:11])
def one_a_class(d): edit(d/'DFEW/DFEW_set_1_train.txt', lambda lines: lines[:7])
def short_segments(d):
    for o in ('train', 'test'): edit(d/f'BP4D/{o}_1f_data.list', lambda lines: [l for l in lines if '/15.' not in l and '/31.' not in l])
def crossing_person(d): edit(d/'BP4D/test_1f_data.list', lambda lines: [*lines, (d/'BP4D/train_1f_data.list').read_text().splitlines()[0]])
def leaked_clip(d): edit(d/'DFEW/DFEW_set_1_test.txt', lambda lines: [*lines, 'train03 16 3'])
def absent_image(d): (d/'BP4D/Images/2F02_01/9.jpg').unlink()
def nothing(d): pass

@pytest.mark.parametrize('harm, reason', [(nothing, None), (every_fifth, 'no segment has 16 consecutive frames'), (one_person, 'only one person'),
    (few_clips, 'batches of 8 from 4 au clips'), (few_videos, 'batches of 12 from'), (one_a_class, 'nothing to hold out'), (short_segments, 'no segment has 16'),
    (crossing_person, 'person in training and in test'), (leaked_clip, 'folder in training and in test'), (absent_image, 'image absent')])
def test_what_stops_a_run_is_a_fault(study, harm, reason, capsys):
    "The run itself is asked, then the doctor"
    harm(study)
    settings = load_settings(study/'settings.ini')
    try: run_data(run_config(settings), settings)
    except ValueError as e: stopped = str(e)
    else: stopped = None
    assert (stopped is None)==(reason is None) and (reason is None or reason in stopped)
    status = ssm_doctor(['--settings', str(study/'settings.ini')])
    text = capsys.readouterr().out
    assert status==(reason is not None) and (reason is None or reason in text), text

def test_smaller_steps_and_the_test_set_as_judge_may_do(study):
    few_clips(study); few_videos(study)
    assert ssm_doctor(['--settings', str(study/'settings.ini'), '--au-bs', '4', '--fe-bs', '5'])==0
    one_person(study)
    assert ssm_doctor(['bp4d', '--settings', str(study/'settings.ini'), '--au-bs', '2'])==1
    (study/'settings.ini').write_text('[paths]\ndata = .\nout = out\n\n[run]\nselection = test\n')
    assert ssm_doctor(['bp4d', '--settings', str(study/'settings.ini'), '--au-bs', '2'])==0

# Harm that nobody listed: whatever is done to the files, a run that refuses has a doctor that says so, and neither ends in a traceback

def lines_of(d, rng): return rng.choice([d/'BP4D/train_1f_data.list', d/'BP4D/test_1f_data.list', d/'DFEW/DFEW_set_1_train.txt', d/'DFEW/DFEW_set_1_test.txt'])
def on_a_line(change):
    def harm(d, rng):
        def edited(lines):
            k = rng.integers(len(lines))
            return [*lines[:k], *change(lines[k], lines, rng), *lines[k+1:]]
        edit(lines_of(d, rng), edited)
    return harm
def some_frame(d, rng): return rng.choice(sorted((d/rng.choice(['BP4D/Images', 'DFEW/frames'])).rglob('*.jpg')))
def some_folder(d, rng): return some_frame(d, rng).parent
def to_directory(d, rng):
    f = some_frame(d, rng)
    f.unlink(); f.mkdir()
def to_link(d, rng):
    f = some_frame(d, rng)
    f.unlink(); f.symlink_to('nowhere.jpg')
def to_itself(d, rng):
    f = some_frame(d, rng)
    f.unlink(); f.symlink_to(f.name)
def folder_to_itself(d, rng):
    f = some_folder(d, rng)
    shutil.rmtree(f); f.symlink_to(f.name)
def below_zero(d, rng):
    f = some_frame(d, rng)
    f.rename(f.with_name(f'frame_-{int(f.stem)}.jpg'))
def thin_out(d, rng): edit(lines_of(d, rng), lambda lines: [l for l in lines if rng.random()<.3] or lines[:1])
def both_names(d, rng):
    f = some_folder(d, rng)
    edit(lines_of(d, rng), lambda lines: [*lines, lines[0].replace(lines[0].split('/')[0].split()[0], f.name)])

HARMS = dict(lost=on_a_line(lambda l,lines,rng: []), twice=on_a_line(lambda l,lines,rng: [l, l]), moved=on_a_line(lambda l,lines,rng: [lines[rng.integers(len(lines))]]),
    field=on_a_line(lambda l,lines,rng: [l.rsplit(' ', 1)[0]]), letter=on_a_line(lambda l,lines,rng: [l[:-1]+rng.choice(list('x279-'))]),
    upper=on_a_line(lambda l,lines,rng: [l.upper()]), slash=on_a_line(lambda l,lines,rng: ['/'+l]), semicolons=on_a_line(lambda l,lines,rng: [l.replace(' ', ';')]),
    quotes=on_a_line(lambda l,lines,rng: [f'"{l}"']), number=on_a_line(lambda l,lines,rng: [re.sub('[0-9]+', lambda m: str(int(m[0])+1), l, count=3)]),
    utf16=lambda d,rng: (f := lines_of(d, rng)).write_bytes(f.read_text().encode('utf-16')), empty=lambda d,rng: lines_of(d, rng).write_text(''),
    thin_out=thin_out, no_folder=lambda d,rng: shutil.rmtree(some_folder(d, rng)), frame=lambda d,rng: some_frame(d, rng).unlink(), to_directory=to_directory, to_link=to_link, to_itself=to_itself, folder_to_itself=folder_to_itself, below_zero=below_zero,
    case=lambda d,rng: (f := some_frame(d, rng)).rename(f.with_suffix('.JPG')), twin=lambda d,rng: shutil.copy(f := some_frame(d, rng), f.with_suffix('.jpeg')),
    folder_name=lambda d,rng: (f := some_folder(d, rng)).rename(f.with_name(f.name.upper()+' ')), both_names=both_names)

@pytest.mark.parametrize('name', list(HARMS))
def test_a_run_that_refuses_has_a_doctor_that_says_so(study, name, capsys):
    rng = np.random.default_rng(list(name.encode()))
    for _ in range(rng.integers(1, 4)): HARMS[name](study, rng)
    settings = load_settings(study/'settings.ini')
    try: run_data(run_config(settings), settings)
    except ManifestError as e: why = e.problem
    except ValueError as e: why = str(e)
    else: why = None
    status = ssm_doctor(['--settings', str(study/'settings.ini')])
    said = json.loads((study/'out/doctor.json').read_text())['sets']
    faults = [f'{f["problem"]} {f["fix"]}' for s in said for f in s['faults']]
    assert why is None or (status==1 and any(why in o or o in why for o in faults)), (why, faults)

# Section [run] is asked as a run asks it

RUNS = {'prior = nowhere.csv':'nowhere.csv: no such file', 'prior = broken.csv':'the header must be', 'au_weights = 1':'au_weights is', 'fe = dfew ferv39k\nfe_weights = 1 2 3':"fe_weights is '1 2 3'",
    'au = disfa':'manifest', 'fe = dfew again':'dfew trains on frames that again does not', 'fe = dfew other':'dfew is at fold 1, other is at fold 2'}
AGAIN = '''
[again]
task = fe
expressions = happiness, sadness
images = DFEW/frames
train = again_train.csv
test = again_test.csv
[other]
task = fe
expressions = happiness, sadness
images = elsewhere
train = other_{fold}.csv
test = other_{fold}_test.csv
fold = 2
'''

@pytest.mark.parametrize('run, reason', RUNS.items(), ids=RUNS)
def test_a_run_that_cannot_be_has_a_doctor_that_says_so(study, run, reason, capsys):
    (study/'broken.csv').write_text('hello,1\n')
    for a,b in (('train', 'test'), ('test', 'train')): # the films of the other half
        (study/f'again_{a}.csv').write_text('clip,expression\n'+''.join(f'{b}{k:02},{"happiness" if k%2 else "sadness"}\n' for k in range(21)))
    (study/'settings.ini').write_text(f'[paths]\ndata = .\nout = out\n[run]\n{run}\n{AGAIN}')
    settings = load_settings(study/'settings.ini')
    with pytest.raises((ValueError, OSError), match=re.escape(reason)):
        config = run_config(settings)
        run_prior(config, settings)
        run_data(config, settings)
    try: status = ssm_doctor(['--settings', str(study/'settings.ini'), '--quick', '1'])
    except SystemExit as e: status = e.code
    said = ''.join(capsys.readouterr())
    assert status in (1, 2) and reason in said

# A table of one's own ----------------------------------------------------------------------------------------------------

def table(file, change):
    rows = [l.split(',') for l in file.read_text().splitlines()]
    file.write_text(''.join(','.join(o)+'\n' for o in change(rows)))

@pytest.fixture
def ward(study):
    "The frames and clips of `study` with labels of one's own"
    for split,people in (('train', range(1, 11)), ('test', range(11, 13))):
        lines = [f'2F{p:02}_01/{i}.jpg,{"ABCDEFGHIJKLM"[p]*4},{(i+p)%2},{i%3//2}' for p in people for i in range(32)]
        (study/f'ward_{split}.csv').write_text('\n'.join(['frame,subject,AU4,AU43', *lines])+'\n')
        (study/f'moods_{split}.csv').write_text('clip,expression\n'+''.join(f'{split}{k:02},{["calm", "pain", "boredom"][k%3]}\n' for k in range(21)))
    (study/'settings.ini').write_text('[paths]\ndata = .\nout = out\n[run]\nau = ward\nfe = moods\n[ward]\ntask = au\nlabels = AU4, AU43\nimages = BP4D/Images\ntrain = ward_train.csv\n'
        'test = ward_test.csv\n[moods]\ntask = fe\nexpressions = calm (at rest), pain (lowered brows), boredom (sleepy eyes)\nimages = DFEW/frames\ntrain = moods_train.csv\ntest = moods_test.csv\n')
    return study

def column(split, of, k, to): return lambda d: table(d/f'{of}_{split}.csv', lambda rows: [rows[0], *([*o[:k], to(o, i), *o[k+1:]] for i,o in enumerate(rows[1:]))])
def each(*harms): return lambda d: [o(d) for o in harms]
def counted(n): return lambda d: table(d/'moods_train.csv', lambda rows: [[*rows[0], 'frames'], *([*o, n] for o in rows[1:])])
def frames_twice(d): table(d/'moods_train.csv', lambda rows: [[*rows[0], 'frames', 'frames'], *([*o, '16', '5'] for o in rows[1:])])
def film_on_both_sides(d): table(d/'ward_test.csv', lambda rows: [*rows, *([f'2F01_01/{i}.jpg', 'Zoe', '0', '1'] for i in range(32))])
def clip_on_both_sides(d):
    table(d/'moods_train.csv', lambda rows: [[*rows[0], 'subject'], *([*o, 'XYZ'[i%3]*4] for i,o in enumerate(rows[1:]))])
    table(d/'moods_test.csv', lambda rows: [*rows, ['train03', 'calm']])
UNWELL = {'nearly the same person': (column('test', 'ward', 1, lambda o,i: 'bbbb '), 'people whose names nearly match'), 'a number with a point': (each(column('train', 'ward', 1, lambda o,i: str(ord(o[1][0]))), column('test', 'ward', 1, lambda o,i: '67.0')), 'people whose names nearly match'),
    'one film, two people': (film_on_both_sides, 'folder in training and in test'), 'people are known in training only': (clip_on_both_sides, 'folder in training and in test'),
    'two people in a folder': (column('train', 'ward', 1, lambda o,i: o[1] if i%2 else 'Zoe'), 'two people in one folder'), 'nothing annotated': (each(*(column('train', 'ward', k, lambda o,i: '') for k in (2, 3))), 'no frame is annotated'),
    'nothing annotated in test': (each(*(column('test', 'ward', k, lambda o,i: '') for k in (2, 3))), 'no frame is annotated'), 'no frames': (counted('0'), 'no frames'), 'frames as a fraction': (counted('16.0'), 'not a number'),
    'two columns of frames': (frames_twice, 'two columns could be meant'), 'backslashes': (column('train', 'ward', 0, lambda o,i: o[0].replace('/', '\\')), 'no folder')}
def cr(d): (d/'ward_train.csv').write_bytes((d/'ward_train.csv').read_bytes().replace(b'\n', b'\r'))
def empty_rows(d): (d/'ward_train.csv').write_bytes((d/'ward_train.csv').read_bytes()+b',,,\r\n"","",,\r\n')
WELL = dict(healthy=nothing, lines_of_an_old_Mac=cr, empty_rows=empty_rows)

@pytest.mark.parametrize('harm, problem', [*UNWELL.values(), *((o, None) for o in WELL.values())], ids=[*UNWELL, *WELL])
def test_a_table_of_ones_own(ward, harm, problem, capsys):
    "A run refuses it, the doctor says why; or neither has a complaint"
    harm(ward)
    settings = load_settings(ward/'settings.ini')
    try: stopped = run_data(run_config(settings), settings) and None
    except ManifestError as e: stopped = e.problem
    assert stopped==problem
    assert ssm_doctor(['--settings', str(ward/'settings.ini')])==(problem is not None) and (problem or 'ward, fold 1: healthy') in capsys.readouterr().out

# One thing, two names --------------------------------------------------------------------------------------------------------

def copied(d): shutil.rmtree(d/'DFEW/frames/test04'); shutil.copytree(d/'DFEW/frames/train04', d/'DFEW/frames/test04')
def renamed_frames(d):
    copied(d)
    for i in range(15, -1, -1): (d/f'DFEW/frames/test04/{i:03}.jpg').rename(d/f'DFEW/frames/test04/{i+5:03}.jpg')
def copied_recording(d): shutil.rmtree(d/'BP4D/Images/2F12_01'); shutil.copytree(d/'BP4D/Images/2F05_01', d/'BP4D/Images/2F12_01')
def part_of_a_recording(d):
    for i in range(9): shutil.copy(d/f'BP4D/Images/2F04_01/{i+3}.jpg', d/f'BP4D/Images/2F11_01/{i+20}.jpg')
def both_kinds(d):
    for i in range(16): Image.open(d/f'DFEW/frames/train02/{i:03}.jpg').save(d/f'DFEW/frames/train02/{i:03}.png')

@pytest.mark.parametrize('harm, name, problem', [(copied, 'dfew', 'same pictures in training and in test'), (renamed_frames, 'dfew', 'same pictures in training and in test'),
    (copied_recording, 'bp4d', 'same pictures in training and in test'),
    (part_of_a_recording, 'bp4d', 'same pictures in training and in test'), (both_kinds, 'dfew', 'two files of one frame')])
def test_one_thing_two_names_is_a_fault(study, harm, name, problem):
    harm(study)
    assert ssm_doctor([name, '--settings', str(study/'settings.ini')])==1
    faults = json.loads((study/'out/doctor.json').read_text())['sets'][0]['faults']
    assert [o['problem'] for o in faults]==[problem]

def copied_in_training(d): shutil.rmtree(d/'DFEW/frames/train09'); shutil.copytree(d/'DFEW/frames/train02', d/'DFEW/frames/train09')
def near(d):
    (d/'DFEW/frames/test20').rename(d/'DFEW/frames/Train_007')
    edit(d/'DFEW/DFEW_set_1_test.txt', lambda lines: [l.replace('test20', 'Train_007') for l in lines])

@pytest.mark.parametrize('harm, problem', [(copied_in_training, 'same pictures under two names'), (near, 'names that nearly match')])
def test_one_thing_two_names_is_asked_about(study, harm, problem):
    harm(study)
    assert ssm_doctor(['dfew', '--settings', str(study/'settings.ini')])==0
    assert problem in [o['problem'] for o in json.loads((study/'out/doctor.json').read_text())['sets'][0]['warnings']]

def test_what_is_not_read_is_said(study, capsys):
    for o in ('._000.jpg', 'Thumbs.db', 'notes.txt'): (study/'DFEW/frames/train05'/o).touch()
    assert ssm_doctor(['dfew', '--settings', str(study/'settings.ini')])==0
    printed = capsys.readouterr().out
    assert '2 hidden, or of another system' in printed and '1 of another kind, such as train05/notes.txt' in printed

def test_the_order_that_was_taken_is_said(study, capsys):
    for i in range(16): (study/f'DFEW/frames/train05/{i:03}.jpg').rename(study/f'DFEW/frames/train05/{i}.jpg')
    assert ssm_doctor(['dfew', '--settings', str(study/'settings.ini')])==0
    assert 'Order of frames in train: 1 folders, such as train05: 2.jpg is read before 10.jpg, by number' in capsys.readouterr().out

def test_a_preset_of_another_pair_brings_its_batch(study):
    "Ten clips a step, as with MAFW: the run may start, and the doctor says so"
    edit(study/'DFEW/DFEW_set_1_train.txt', lambda lines: lines[:17])
    for preset,status in (('bp4d_dfew', 1), ('bp4d_mafw', 0)):
        (study/'settings.ini').write_text(f'[paths]\ndata = .\nout = out\n\n[run]\npreset = {preset}\n')
        settings = load_settings(study/'settings.ini')
        try: run_data(run_config(settings), settings)
        except ValueError as e: assert status and 'batches of 12 from 10' in str(e)
        else: assert not status
        assert ssm_doctor(['dfew', '--settings', str(study/'settings.ini')])==status

def test_one_fact_is_said_once(study, capsys):
    ssm_doctor(['dfew', '--settings', str(study/'settings.ini')])
    printed = capsys.readouterr().out
    assert printed.count('not compared')==2 and 'There are no published counts' not in printed # once for each manifest

# What does not fail ------------------------------------------------------------------------------------------------------

def short(d): edit(d/'DFEW/DFEW_set_1_train.txt', lambda o: ['train00 9 0', *o[1:]])
def gap(d): edit(d/'BP4D/test_1f_data.list', lambda o: [*o[:6], *o[7:]])

@pytest.mark.parametrize('harm,name,warnings', [
    (short, 'dfew', {('clip shorter than 16 frames', 1), ('more frames than the manifest says', 1)}),
    (gap, 'bp4d', {('segment shorter than 16 frames', 1), ('segment shorter than 16 frames', 7), ('gap', 7)})])
def test_warnings_pass(disk, harm, name, warnings):
    harm(disk)
    status,faults,found = run(disk, name)
    assert (status, faults)==(0, []) and warnings <= {(o[1], o[3]) for o in found}

def test_data_sets_that_are_not_here_pass_unless_named(disk, capsys):
    for o in ('BP4D', 'DISFA', 'FERV39K', 'MAFW'): (disk/o).rename(disk/f'{o}_away')
    assert run(disk)[0]==0
    assert run(disk, 'mafw')[0]==1
    (disk/'DFEW').rename(disk/'DFEW_away')
    assert ssm_doctor(['--settings', str(disk/'settings.ini')])==1 and 'There is none of bp4d' in capsys.readouterr().out

def test_quick_looks_at_a_sample(disk, capsys):
    for f in (disk/'DFEW/frames').glob('t*/0*.jpg'): f.write_bytes(b'')
    status,faults,_ = run(disk, 'dfew', '--quick', '5')
    assert status==1 and len(faults)==10
    assert '10 images decoded' in capsys.readouterr().out
    assert run(disk, 'dfew', '--quick', '5')[1]==faults # the same images again

# The command line --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('args,message', [(['affectnet'], "'affectnet' is not a data set"), (['--quick', '0'], '--quick 0'),
    (['--settings', 'nowhere.ini'], 'nowhere.ini'), (['--published', 'nowhere.json'], 'nowhere.json')])
def test_wrong_command_lines(args, message, capsys):
    with pytest.raises(SystemExit) as e: ssm_doctor(args)
    assert e.value.code==2 and message in capsys.readouterr().err

def test_as_a_process(disk):
    cut(disk)
    command = [sys.executable, '-c', 'import sys; from ssm_nb.data.doctor import ssm_doctor; sys.exit(ssm_doctor())', 'dfew', '--settings', str(disk/'settings.ini')]
    r = subprocess.run(command, capture_output=True, text=True)
    assert r.returncode==1 and 'DFEW_set_1_test.txt, line 4: unreadable image' in r.stdout, r.stderr

def test_help_reads_like_documentation(capsys):
    with pytest.raises(SystemExit) as e: ssm_doctor(['--help'])
    printed = capsys.readouterr().out
    assert e.value.code==0 and all(o in printed for o in ('exit status:', 'examples:', '--published', '--quick', *DATA_SETS))

@pytest.mark.parametrize('text', ['', '[]', '{}', '{"counts": []}', '{"counts": {"bp4d/1/train": {}}}', '{"counts": {"bp4d/1/train": 3}}'])
def test_a_reference_must_be_a_report(tmp_path, text):
    (tmp_path/'a.json').write_text(text)
    with pytest.raises(ValueError, match='a.json is not a report'): load_published(tmp_path/'a.json')

# The published manifests ---------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def here():
    "Settings for the split files; there are no images"
    s = replace(load_settings(os.devnull).bp4d, images=SPLITS/'none')
    file = dict(bp4d='bp4d/{}_1f_data.list', disfa='disfa/DISFA_{}1.json', dfew='DFEW/DFEW_set_1_{}.txt', ferv39k='FERV39K/FERV39K_{}.txt', mafw='MAFW/MAFW_set_1_{}.txt')
    return {k:replace(s, train=SPLITS/v.format('train'), test=SPLITS/v.format('test')) for k,v in file.items()}

@needs_splits
@pytest.mark.parametrize('name', ['bp4d', 'disfa', 'dfew', 'ferv39k', 'mafw'])
def test_published_manifests_are_healthy(here, name):
    c = check_up(name, here[name], load_published())
    assert {o.problem for o in c.faults}=={'image root absent', *(['manifest absent'] if name=='disfa' else [])}
    assert c.published and set(c.published)==set(c.counts)
    for k,v in c.published.items(): assert all(c.counts[k][o]==v[o] for o in v)

@needs_splits
@pytest.mark.parametrize('name,key', [('bp4d', 'positives'), ('mafw', 'per_class')])
def test_shipped_counts_are_complete(name, key):
    published = load_published()
    assert all(key in published[f'{name}/1/{o}'] for o in ('train', 'test'))
    assert np.array_equal(np.sum([published[f'bp4d/1/{o}']['positives'] for o in ('train', 'test')], 0), dataset_cooccurrence('bp4d').positives)

@pytest.fixture(scope='module')
def bp4d(here): return [read_manifest(getattr(here['bp4d'], o), 'bp4d', DATA_SETS["bp4d"].labels) for o in ('train', 'test')]

@needs_splits
def test_permuted_columns_of_bp4d(bp4d):
    known = load_published()
    rng = np.random.default_rng(0)
    for r in bp4d:
        assert permuted(r)==[]
        for _ in range(5):
            order = rng.permutation(12)
            wrong = replace(r, labels=r.labels[:, order])
            fault, = permuted(wrong)
            due = ', '.join(r.space.au_labels[i] for i in order)
            assert f'they are {due};' in fault.fix and fault.line==1
    people = bp4d[0].subjects
    for _ in range(10): assert permuted(bp4d[0][np.isin(people, rng.choice(np.unique(people), 6, replace=False))])==[] # fewer people are still in order

@needs_splits
def test_a_column_at_the_wrong_frames(bp4d):
    train,test = bp4d
    assert compare_joint(bp4d)==[]
    labels = train.labels.copy()
    labels[:,3] = np.roll(labels[:,3], 40) # as many as before, 40 frames late
    late = replace(train, labels=labels)
    assert tally(late)==tally(train)
    fault, = compare_joint([late, test])
    assert fault.file==train.manifest and 'AU6' in fault.fix

@needs_splits
def test_other_folds_count_the_same_together(here, bp4d):
    "Fold 2 here deals out the recordings of fold 1 anew"
    c = Checkup('bp4d', replace(here['bp4d'], fold=2))
    whole = {k:np.concatenate([getattr(o, k) for o in bp4d]) for k in ('lines', 'paths', 'frames', 'labels')}
    both = replace(bp4d[0], **whole, folders=np.concatenate([o.folders for o in bp4d]), sequence=np.concatenate([bp4d[0].sequence, bp4d[1].sequence+len(bp4d[0].folders)]))
    even = np.array([int(o[1:])%2==0 for o in both.subjects])
    for lost,kinds in ((0, set()), (10, {'other number of records in training and test together than published'})):
        c.records = dict(train=both[even], test=both[~even][lost:])
        c.counts,c.faults = {c.key(k):tally(v) for k,v in c.records.items()},[]
        c.compare(load_published())
        assert kinds <= {o.problem for o in c.faults} and bool(c.faults)==bool(kinds)

def test_faults_are_grouped_in_order():
    found = [ManifestError(o, 0) for o in 'abab']
    assert {k:len(v) for k,v in by_kind(found).items()}=={'a': 2, 'b': 2}
