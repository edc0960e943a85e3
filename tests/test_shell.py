"Commands as real processes: where no home is, on terminals that lack letters, on devices that are not there, started twice at once"
import json, os, shutil, subprocess, sys, time
from pathlib import Path
import pytest
from ssm_nb.core.files import write_text
from ssm_nb.data.doctor import ssm_doctor
from ssm_nb.explore.page import ssm_explore
from ssm_nb.runs.commands import main, ssm_evaluate, ssm_folds, ssm_study, ssm_train
from ssm_nb.runs.predict_command import ssm_predict

ROOT = Path(__file__).parents[1]
ENV = {k:v for k,v in os.environ.items() if not k.startswith('PYTHONIO')} | dict(OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))
TRAIN = sys.executable, '-m', 'ssm_nb.runs.commands', 'train'
TINY = '--embedded', 'tiny', '--device', 'cpu', '--no-evaluate'
LETTERS = 'cp1252', 'ascii', 'cp437', 'utf-8'

def start(folder, *args, env=ENV, command=TRAIN, **kwargs):
    return subprocess.Popen([*map(str, (*command, *args))], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)

def finish(process, encoding='utf-8'):
    out,err = process.communicate(timeout=300)
    return process.returncode,out.decode(encoding),err.decode(encoding)

def terminal(encoding): return dict(ENV, PYTHONIOENCODING=encoding, PYTHONUTF8='0', LC_ALL='C')

def tree(folder): return sorted(str(o.relative_to(folder)) for o in folder.rglob('*'))

@pytest.fixture(scope='module')
def top(tmp_path_factory):
    "A folder with settings; the tiny faces are drawn by the first run"
    top = tmp_path_factory.mktemp('shell')
    write_text(top/'settings.ini', '[paths]\ncache = cache\n')
    return top

# devices ---------------------------------------------------------------------------------------------------------------

DEVICES = {'gpu':'a GPU is called cuda (NVIDIA) or mps (Apple)', 'GPU:0':'a GPU is called cuda', 'cuda:77':'this machine has none', 'mps':'this machine has none', 'xpu':'no such device', 'cuda:-1':'no such device'}
if os.environ.get('CUDA_VISIBLE_DEVICES')!='' and subprocess.run([sys.executable, '-c', 'import sys, torch; sys.exit(torch.cuda.is_available())'], capture_output=True).returncode==0:
    DEVICES['cuda'] = 'this machine has none'

def refused(capsys, command, args):
    "What a command says that refuses, in this process"
    with pytest.raises(SystemExit) as e: command([str(o) for o in args])
    out,err = capsys.readouterr()
    assert (e.value.code, out)==(2, '') and 'Traceback' not in err
    return err.strip()

@pytest.mark.parametrize('name', DEVICES)
@pytest.mark.parametrize('command', ['train', 'evaluate', 'folds'])
def test_a_device_that_is_not_there(tmp_path, monkeypatch, capsys, command, name):
    if name=='mps' and sys.platform=='darwin': pytest.skip('it is there')
    monkeypatch.chdir(tmp_path)
    folder = '.' if command=='evaluate' else 'run'
    said = refused(capsys, main, (command, folder, '--device', name))
    assert tree(tmp_path)==[] and DEVICES[name] in said and f'--device {name}' in said

def test_a_device_that_is_not_there_in_a_process_of_its_own(tmp_path):
    status,out,err = finish(start(tmp_path, 'run', '--device', 'cuda:77'))
    assert (status, out, tree(tmp_path))==(2, '', []) and DEVICES['cuda:77'] in err and 'Traceback' not in err

# mistakes --------------------------------------------------------------------------------------------------------------

MISTAKES = [
    (ssm_train, '--settings absent.ini', '--settings absent.ini: no such file; name another, or leave it out'),
    (ssm_train, 'run --fe maffw', "argument --fe: invalid choice: 'maffw' (choose from 'dfew', 'ferv39k', 'mafw')"),
    (ssm_train, '--au bp4d disfa run', "argument --au: invalid choice: 'run' (choose from 'bp4d', 'disfa'); a folder stands in front of the options"),
    (ssm_train, 'run --au bp4d bp4d', "au names 'bp4d' twice: name each data set once"),
    (ssm_train, 'run --fe dfew mafw --fe-weights 1', "fe_weights is '1': give a number above 0 for each of several data sets, which here are dfew, mafw"),
    (ssm_train, 'run --variant smm', "argument --variant: invalid choice: 'smm' (choose from 'au_only'"),
    (ssm_train, 'run --preset samll', "argument --preset: invalid choice: 'samll'"),
    (ssm_train, 'run --epochs 0', 'epochs is 0: give 1 or more'),
    (ssm_train, 'run --epoch three', "invalid int value: 'three'"),
    (ssm_train, 'notes.txt/run', 'argument FOLDER: notes.txt/run: nothing can be written into'),
    (ssm_train, '/proc/run', 'argument FOLDER: /proc/run: nothing can be written into /proc'),
    (ssm_evaluate, 'nowhere', 'argument FOLDER: nowhere: no such folder; give the folder of a run'),
    (ssm_evaluate, 'notes.txt', 'argument FOLDER: notes.txt: a file, not a folder'),
    (ssm_evaluate, '. --transfer bp4e', "argument --transfer: invalid choice: 'bp4e' (choose from 'bp4d', 'disfa'"),
    (ssm_evaluate, '. --zero-shot disfa', "argument --zero-shot: invalid choice: 'disfa' (choose from 'dfew'"),
    (ssm_folds, 'notes.txt/all', 'nothing can be written into'),
    (ssm_folds, 'all --au-folds one', "argument --au-folds: invalid int value: 'one'"),
    (ssm_study, 'absent.ini study', 'absent.ini'),
    (ssm_study, 'study.ini study', "study.ini:2: 'fe_onyl' is unknown here: did you mean 'fe_only'?"),
    (ssm_predict, 'absent.mp4', 'absent.mp4: no such file or folder, and no file fits it as a pattern'),
    (ssm_predict, 'notes.txt', 'notes.txt: neither a video ('),
    (ssm_predict, 'grey.png --model nobody', 'nobody: no such file; name a model'),
    (ssm_predict, 'grey.png --zoom -1', '--zoom -1.0: give more than 0'),
    (ssm_predict, 'grey.png --window 0', '--window 0: give 1 or more'),
    (ssm_predict, 'grey.png --out notes.txt', 'notes.txt: nothing can be written into'),
    (ssm_explore, 'nowhere', 'nowhere: no such folder; give the folder of a run'),
    (ssm_explore, '. --clips 0', '--clips 0: give 1 or more'),
    (ssm_doctor, 'bp4e', "'bp4e' is not a data set: did you mean 'bp4d'?"),
    (ssm_doctor, '--settings absent.ini', '--settings absent.ini: no such file'),
    (ssm_doctor, '--quick 0', '--quick 0: decode one image at least'),
    (ssm_doctor, '--out notes.txt', 'notes.txt: nothing can be written into notes.txt (a file, not a folder)'),
    (ssm_doctor, '--out /proc/out', '/proc/out: nothing can be written into /proc'),
    (ssm_train, 'run --workers -1', 'workers is -1: give a whole number'),
    (ssm_train, f'run --seed {10**20}', f'seed is {10**20}: give a whole number of 18 digits at most'),
    (ssm_train, '--settings .', '--settings .: a folder, not a file; name another'),
    (ssm_train, '--settings= run', 'a folder, not a file'),
    (ssm_train, '~nobody_is_called_so/run', 'there is no home folder to put in the place of ~'),
    (ssm_predict, 'grey.png --zoom inf', '--zoom inf: give more than 0'),
    *((c, f'{before}{"x"*300}', 'File name too long; give another path') for c,before in ((ssm_train, ''), (ssm_train, '--settings='), (ssm_evaluate, ''),
        (ssm_study, ''), (ssm_predict, ''), (ssm_predict, 'grey.png --model '), (ssm_doctor, '--out=')))]

@pytest.mark.parametrize('command,args,why', MISTAKES, ids=[f'{c.__name__} {a[:40]}' for c,a,_ in MISTAKES])
def test_a_mistake_is_one_line_that_names_the_value(tmp_path, monkeypatch, capsys, command, args, why):
    if '/proc' in args and not Path('/proc').is_dir(): pytest.skip('there is no /proc')
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path/'notes.txt', 'a file')
    write_text(tmp_path/'study.ini', '[study]\nvariants = fe_onyl\nseeds = 0\n')
    write_text(tmp_path/'grey.png', 'no picture, and nobody looks: the command line is wrong')
    before = tree(tmp_path)
    said = refused(capsys, command, args.split())
    assert why in said and len(said.splitlines())==1 and said.startswith(command.__name__.replace('_', '-'))
    assert tree(tmp_path)==before

@pytest.mark.parametrize('args', [['--settings=~/mine.ini', '~/run'], ['--settings', '~/mine.ini', '~/run']])
def test_a_home_that_the_shell_did_not_fill_in(tmp_path, monkeypatch, args):
    "Of --out=~/here and of what stands in quotes a shell fills in nothing; no folder named ~ appears"
    (home := tmp_path/'home').mkdir(); (here := tmp_path/'here').mkdir()
    write_text(home/'mine.ini', f'[paths]\ncache = {tmp_path}/cache\n')
    status,_,err = finish(start(here, *args, *TINY, env=dict(ENV, HOME=str(home))))
    assert status==0, err[-2000:]
    assert tree(here)==[] and (home/'run'/'best.safetensors').is_file()

# terminals -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('encoding', LETTERS)
@pytest.mark.parametrize('command', ['train', 'evaluate', 'folds'])
def test_help_on_any_terminal(tmp_path, command, encoding):
    status,out,err = finish(start(tmp_path, '--help', env=terminal(encoding), command=(*TRAIN[:3], command)), encoding)
    assert (status, err)==(0, '') and 'exit status:' in out and ('…' in out or 'cuda:1 ...' in out)

def test_help_comes_before_pytorch(tmp_path):
    code = "import sys\nfrom ssm_nb.runs.commands import main\ntry: main(['train', '--help'])\nexcept SystemExit: print([m for m in ('torch', 'fastai', 'pandas') if m in sys.modules], file=sys.stderr)"
    assert finish(start(tmp_path, command=(sys.executable, '-c', code)))[2].strip()=='[]'

@pytest.fixture(scope='module')
def letters(top):
    "A run on the poorest terminal; the folder's name has letters of four scripts"
    folder = top/'Jürgen → 中, Ελένη'
    status,out,err = finish(start(top, folder, *TINY, env=terminal('ascii')), 'ascii')
    assert status==0 and (folder/'best.safetensors').is_file(), err[-2000:]
    return folder

@pytest.mark.parametrize('encoding', LETTERS)
def test_names_with_any_letter_on_any_terminal(top, letters, encoding):
    "The name is printed, and the refusal of another run"
    status,out,err = finish(start(top, letters, *TINY, '--seed', '1', env=terminal(encoding)), encoding)
    assert status==1 and 'rgen' in out and 'holds another run: seed was 0, is now 1' in err and 'Traceback' not in err

# no home ---------------------------------------------------------------------------------------------------------------

def nobody(folder, *args):
    "A process without HOME, on a system that does not know its user: an empty list of users lies over the real one, for this process alone"
    env = {k:v for k,v in ENV.items() if k not in ('HOME', 'XDG_CACHE_HOME', 'USER', 'LOGNAME')}
    alone = 'unshare', '--mount', 'sh', '-c', 'mount --bind /dev/null /etc/passwd && mount --bind /dev/null /etc/nsswitch.conf && exec "$@"', 'sh'
    return start(folder, *args, env=env, command=(*alone, *TRAIN))

def can_be_nobody():
    if not shutil.which('unshare'): return False
    return subprocess.run(['unshare', '--mount', 'mount', '--bind', '/dev/null', '/etc/passwd'], capture_output=True).returncode==0

unknown_user = pytest.mark.skipif(not can_be_nobody(), reason='only root of Linux may hide the list of users')

@unknown_user
def test_no_home_is_said_and_no_folder_appears(tmp_path):
    status,out,err = finish(nobody(tmp_path, 'run', *TINY))
    assert (status, out, tree(tmp_path))==(2, '', []) and 'Traceback' not in err
    assert "cache = '~/.cache/ssm_nb': there is no home folder" in err and 'Set HOME, or give cache an absolute path' in err

@unknown_user
def test_help_without_a_home(tmp_path):
    status,out,err = finish(nobody(tmp_path, '--help'))
    assert (status, err, tree(tmp_path))==(0, '', []) and 'exit status:' in out

@unknown_user
def test_a_run_without_a_home(tmp_path):
    "With a cache that the settings name, a run needs no home, and leaves no folder of that name"
    write_text(tmp_path/'settings.ini', '[paths]\ncache = cache\n')
    status,_,err = finish(nobody(tmp_path, 'run', *TINY))
    assert status==0, err[-2000:]
    assert {o.name for o in tmp_path.iterdir()}=={'settings.ini', 'cache', 'run'}

# settings --------------------------------------------------------------------------------------------------------------

def test_the_settings_of_another_program(tmp_path):
    write_text(tmp_path/'settings.ini', '[DEFAULT]\nlib_name = smile\n')
    status,out,err = finish(start(tmp_path, 'run', *TINY))
    assert (status, out, tree(tmp_path))==(2, '', ['settings.ini']) and 'belongs to another program' in err and '--settings FILE' in err

# together --------------------------------------------------------------------------------------------------------------

def test_two_runs_start_on_one_empty_cache(tmp_path):
    "Three, in fact; all train, on faces that were drawn once"
    write_text(tmp_path/'settings.ini', '[paths]\ncache = cache\n')
    runs = [start(tmp_path, f'run{i}', *TINY) for i in range(3)]
    ends = [finish(o) for o in runs]
    assert [o[0] for o in ends]==[0, 0, 0], [o[2][-1500:] for o in ends]
    drawn = [o for o in (tmp_path/'cache').iterdir() if o.is_dir()]
    assert len(drawn)==1 and not [o for o in tree(tmp_path/'cache') if '.new' in o or '.tmp' in o]
    weights = {(tmp_path/f'run{i}'/'best.safetensors').read_bytes() for i in range(3)}
    assert len(weights)==1

def test_two_starts_of_one_run(top):
    "The second says that the first is at work, and leaves it alone"
    folder = top/'one'
    first = start(top, folder, *TINY, '--epochs', 30, '--every', 1)
    end = time.monotonic()+120
    while not list(folder.glob('checkpoints/step-*')): assert first.poll() is None and time.monotonic()<end; time.sleep(.01)
    status,_,err = finish(start(top, folder, *TINY, '--epochs', 30, '--every', 1))
    assert status==1 and 'another program is training in this folder' in err and 'Traceback' not in err
    assert first.poll() is None and len(json.loads((folder/'environment.json').read_text()))==1
    first.kill()
    first.communicate()
