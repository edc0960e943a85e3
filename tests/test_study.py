"`ssm-study` with real processes: killed five times, and two on one folder; each time the table is that of one process left alone."
import json, os, signal, subprocess, sys, time
from pathlib import Path
import pytest

STUDY = '''[study]
variants = fe_only ssm_bridge
seeds = 0
compare = ssm_bridge-fe_only
[run]
embedded = tiny
epochs = 2
every = 1
'''


def start(tmp, name):
    "The command, in a process of its own."
    (tmp/'study.ini').write_text(STUDY)
    (tmp/'settings.ini').write_text(f'[paths]\ncache = {tmp/"cache"}\nout = {tmp/"out"}\n')
    command = [sys.executable, '-m', 'ssm_nb.runs.commands', 'study', tmp/'study.ini', tmp/name, '--settings', tmp/'settings.ini', '--device', 'cpu']
    return subprocess.Popen([*map(str, command)], stdout=open(tmp/f'{name}.log', 'a'), stderr=subprocess.STDOUT, env=dict(os.environ, OMP_NUM_THREADS='1'))


def ended(tmp, name, *processes):
    for p in processes: assert p.wait(600)==0, (tmp/f'{name}.log').read_text()[-3000:]
    return json.loads((tmp/name/'study.json').read_text())


def done(folder): return {f:f.stat().st_mtime_ns for f in folder.glob('full/*/seed*/metrics.json')}
def steps(folder): return sum(len(f.read_text().splitlines())-1 for f in folder.glob('full/*/seed*/steps.csv')) # not the half-written copies beside them


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
    tmp = tmp_path_factory.mktemp('study')
    return tmp,ended(tmp, 'alone', start(tmp, 'alone'))


def test_killed_five_times(alone):
    tmp,want = alone
    folder,kills,deadline = tmp/'killed',0,time.time()+900
    while kills<5:
        kept,before,p = done(folder),steps(folder),start(tmp, 'killed')
        while p.poll() is None and steps(folder)<=before+1 and time.time()<deadline: time.sleep(.02)
        assert p.poll() is None, f'ended after {kills} kills: the runs are too short for this test, or it failed: {(tmp/"killed.log").read_text()[-2000:]}'
        p.send_signal(signal.SIGKILL); p.wait()
        assert {f:t for f,t in done(folder).items() if f in kept}==kept # nothing finished was done again
        kills += 1
    got = ended(tmp, 'killed', start(tmp, 'killed'))
    assert got['table']==want['table'] and got['runs']==want['runs']


def test_two_processes_on_one_folder(alone):
    tmp,want = alone
    got = ended(tmp, 'two', *[start(tmp, 'two') for _ in range(2)])
    assert got['table']==want['table'] and got['runs']==want['runs']
    starts = [json.loads(f.read_text()) for f in (tmp/'two').rglob('environment.json')]
    assert [len(s) for s in starts]==[1, 1] # each run was started once, by one of them
