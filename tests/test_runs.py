"Runs from the shell: killed, interrupted, shared by two processes, and refused where they would become other runs"
import json, os, signal, subprocess, sys, time
from dataclasses import replace
from pathlib import Path
import pytest
from safetensors.torch import load_file
from ssm_nb.runs.commands import main
from ssm_nb.labels.facs import label_space
from ssm_nb.runs.config import check_folder, description, embedded_settings, enter_folder, read_config, run_config, run_data, run_sets
from ssm_nb.runs.folds import is_done, summarise
from ssm_nb.runs.runs import train_run
from ssm_nb.core.settings import load_settings

ENV = dict(os.environ, OMP_NUM_THREADS='1')
TINY = '--embedded', 'tiny', '--device', 'cpu', '--every', '1'

@pytest.fixture(scope='module')
def top(tmp_path_factory):
    "A folder with settings and with the tiny faces in its cache"
    top = tmp_path_factory.mktemp('runs')
    (top/'settings.ini').write_text('[paths]\ncache = cache\n')
    embedded_settings(load_settings(top/'settings.ini'), 'tiny')
    return top

@pytest.fixture(scope='module')
def settings(top): return load_settings(top/'settings.ini')

def start(top, *args, launch=(sys.executable,)):
    return subprocess.Popen([*launch, '-m', 'ssm_nb.runs.commands', *map(str, args)], cwd=top, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

def finish(process, status=0):
    "What a process says once it has ended as it should"
    out,err = process.communicate(timeout=300)
    assert process.returncode==status, err[-3000:]
    return out,err

def when(process, condition, signum):
    "Send a signal as soon as a condition holds; the process must still be running then"
    end = time.monotonic()+120
    while not condition():
        assert process.poll() is None and time.monotonic()<end, process.communicate()[1][-3000:]
        time.sleep(.005)
    process.send_signal(signum)
    return process.communicate(timeout=60)

def same_weights(a, b):
    a,b = load_file(a),load_file(b)
    return a.keys()==b.keys() and all(a[n].equal(b[n]) for n in a)

@pytest.mark.skipif(os.name!='posix', reason='SIGKILL')
def test_fold_pairs_are_killed_and_started_again(top):
    "Four pairs, killed in the second while it trains, and in the third before it is evaluated: the table of a run that was left alone"
    args = 'folds', '--au-folds', 1, 2, '--fe-folds', 1, 2, *TINY
    whole = start(top, *args, '--epochs', 2, 'whole')
    folder,pairs = top/'killed',('bp4d1_dfew1', 'bp4d1_dfew2', 'bp4d2_dfew1', 'bp4d2_dfew2')
    again = lambda: start(top, *args, '--epochs', 2, folder)
    when(again(), lambda: any((folder/pairs[1]/'checkpoints').glob('step-*')), signal.SIGKILL)
    done = {f:f.stat().st_mtime_ns for f in (folder/pairs[0]).rglob('*') if f.is_file()}
    assert (folder/pairs[0]/'metrics.json').is_file() and not (folder/pairs[1]/'metrics.json').exists()
    when(again(), lambda: (folder/pairs[2]/'last.safetensors').exists(), signal.SIGKILL)
    out,_ = finish(again())
    finish(whole)
    assert [o.endswith('done') for o in out.splitlines() if o.startswith('Pair ')]==[True, True, False, False]
    assert all(f.stat().st_mtime_ns==t for f,t in done.items()) # the first pair was not touched
    assert len(json.loads((folder/pairs[1]/'environment.json').read_text()))==2
    for name in ('folds.json', 'folds.csv', 'folds.md'): assert (folder/name).read_bytes()==(top/'whole'/name).read_bytes()
    for pair in pairs:
        assert same_weights(folder/pair/'best.safetensors', top/'whole'/pair/'best.safetensors')
        for name in ('steps.csv', 'maps.csv', 'validation.csv', 'metrics.csv'): assert (folder/pair/name).read_bytes()==(top/'whole'/pair/name).read_bytes()

def test_the_table_says_what_it_is(top, settings):
    table = json.loads((top/'whole'/'folds.json').read_text())
    assert len(table['pairs'])==table['planned']==4 and 'share test and training data' in table['note']
    uar = [json.loads((top/'whole'/f"bp4d{r['AU fold']}_dfew{r['FE fold']}"/'metrics.json').read_text())['fe']['scores']['uar']['all']['value'] for r in table['pairs']]
    assert uar==[r['UAR'] for r in table['pairs']] and table['summary']['UAR']['mean']==pytest.approx(sum(uar)/4)
    assert summarise(table['pairs'])['UAR'].half==pytest.approx(table['summary']['UAR']['half'])

@pytest.mark.skipif(os.name!='posix', reason='signals')
def test_interrupted(top):
    run = top/'interrupted'
    process = start(top, 'train', run, *TINY, '--epochs', 40, '--no-evaluate')
    _,err = when(process, lambda: any((run/'checkpoints').glob('step-*')), signal.SIGINT)
    assert process.returncode==130 and 'ssm-train: interrupted. The same command goes on where it stopped.' in err and 'Traceback' not in err
    with pytest.raises(ValueError, match='holds another run: epochs was 40, is now 41'): train_run(run_config(load_settings(top/'settings.ini'), embedded='tiny', epochs=41), load_settings(top/'settings.ini'), run)
    process = start(top, 'train', run, *TINY, '--epochs', 40, '--no-evaluate', '--workers', 1)
    out,_ = when(process, lambda: len(json.loads((run/'environment.json').read_text()))==2 and (run/'validation.csv').exists(), signal.SIGTERM)
    assert process.returncode==130 and 'Goes on from step' in out

def test_two_processes_are_one_run(top):
    "One folder, one table, and the scores of one process"
    args = 'train', '--au-bs', 2, '--selection', 'test', *TINY
    two = start(top, *args, 'two', launch=(sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2', '--master_port', '0', '--rdzv_backend', 'c10d', '--rdzv_endpoint', 'localhost:0'))
    out,_ = finish(two)
    assert main([str(o) for o in (*args, '--settings', top/'settings.ini', top/'one')])==0
    assert out.count('Report: ')==1 and 'chosen on the TEST set' in out
    one,two = (json.loads((top/o/'metrics.json').read_text()) for o in ('one', 'two'))
    assert one['fe']['confusion']==two['fe']['confusion'] and (one['made']['processes'], two['made']['processes'])==(1, 2)
    assert list(two['au']['protocols'])==['fixed', 'oracle'] and two['selection']=='test' # nobody was held out to tune on
    f1 = [o['au']['protocols']['fixed']['f1']['mean']['value'] for o in (one, two)]
    assert f1[0]==pytest.approx(f1[1], abs=1e-6)

def test_a_changed_manifest_is_another_run(top, settings, tmp_path):
    config = run_config(settings, embedded='tiny')
    sets = run_sets(config, settings)
    (name,au), = sets['au'].items()
    copy = tmp_path/'train.list'; copy.write_text(au.train.read_text())
    moved = sets|dict(au={name:replace(au, train=copy)})
    about = description(config, sets)
    enter_folder(tmp_path/'run', about, 'cpu')
    check_folder(tmp_path/'run', description(config, moved)) # moved, not changed
    copy.write_text(copy.read_text().replace(' 1', ' 0', 1))
    with pytest.raises(ValueError, match='manifest au_train was [0-9a-f]{12}, is now'): check_folder(tmp_path/'run', description(config, moved))
    assert read_config(tmp_path/'run')==config and not is_done(tmp_path/'run', about)

def test_a_person_on_both_sides_stops_a_run(top, settings, tmp_path):
    config = run_config(settings, embedded='tiny')
    faces = embedded_settings(settings, 'tiny')
    both = tmp_path/'train.list'; both.write_text(faces.bp4d.train.read_text()+faces.bp4d.test.read_text())
    mixed = replace(faces, bp4d=replace(faces.bp4d, train=both))
    with pytest.raises(ValueError, match='a network would know the face'): run_data(replace(config, embedded=None, preset='small'), mixed)

def test_nothing_held_out_is_trained_on_or_tested(top, settings):
    for seed in range(3):
        data = run_data(run_config(settings, embedded='tiny', seed=seed, fe_fold=seed+1, au_fold=seed+1), settings)
        for parts in (data[1::2], data[2::2]):
            names = [set(o.records.paths) for o in parts]
            assert all(names) and sum(map(len, names))==len(set.union(*names))
        assert data.space==label_space('bp4d', 7)
