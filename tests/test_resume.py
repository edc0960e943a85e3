"Runs that are killed, asked to stop, or out of room, in processes of their own; what fits a lesson is in nbs/training/05_checkpoint.ipynb."
import json, os, resource, signal, subprocess, sys, time
from dataclasses import replace
from pathlib import Path
import pytest, torch
from fastai.callback.core import Callback
from ssm_nb.training.checkpoint import read_state
from ssm_nb.training.learner import TrainingError
from killed_run import PRESET, data, run

HERE = Path(__file__).parent
TWO = replace(PRESET, epochs=2)                              # 6 steps


def files(folder): return {str(f.relative_to(folder)):f.read_bytes() for f in sorted(folder.rglob('*')) if f.is_file() and 'tensorboard' not in f.parts}


@pytest.fixture(scope='module')
def sets(tmp_path_factory): return data(tmp_path_factory.mktemp('faces'))


def test_killed_twenty_times_nothing_differs(tmp_path):
    "SIGKILL while clips load, in steps, in evaluation and while checkpoints are written: every file ends byte for byte the same"
    done = subprocess.run([sys.executable, HERE/'killed_run.py', tmp_path, '20', '0'], capture_output=True, text=True, env=dict(os.environ, OMP_NUM_THREADS='1'))
    assert done.returncode==0, done.stderr[-3000:]
    kills = json.loads((tmp_path/'hits.json').read_text())
    assert sum(kills['hits'].values())==20 and min(kills['hits'][p] for p in ('step','evaluation','writing'))>=3, kills
    whole = files(tmp_path/'whole')
    assert {'best.safetensors','last.safetensors','steps.csv','maps.csv','validation.csv'}<set(whole) and len([n for n in whole if 'step-' in n])==2
    for n in range(kills['runs']): assert files(tmp_path/f'killed{n}')==whole


class Cut(Exception): pass


class CutAfter(Callback):
    "The power fails after some steps."
    order = 95
    def __init__(self, steps): self.steps = steps
    def after_batch(self):
        if self.training and self.train_iter==self.steps: raise Cut('dark')


class GlobalDraws(Callback):
    "Somebody's callback that uses every global generator, before and after the model."
    order = -60
    def before_batch(self):
        import random, numpy as np
        if self.training: self.learn.xb = (self.xb[0]+.01*torch.randn(1), self.xb[1]+.01*float(np.random.randn()+random.random()))


@pytest.mark.parametrize('how', [dict(precision='fp16'), dict(precision='bf16', accumulate=2), dict(workers=1), dict(recompute=True), dict(preset=replace(TWO, schedule='steps', mixup=0)), dict(variant='ssm_bridge')],
    ids=['fp16', 'bf16 in parts', 'a worker', 'recompute', 'steps, no mixup', 'bridge'])
def test_every_way_of_training_goes_on_exactly(how, sets, tmp_path):
    "With workers too, global generators stand where they would have stood"
    how = dict(preset=TWO) | how
    run(tmp_path/'whole', sets, [GlobalDraws()], **how)
    with pytest.raises(Cut): run(tmp_path/'cut', sets, [GlobalDraws(), CutAfter(5)], **how)
    torch.rand(3)
    run(tmp_path/'cut', sets, [GlobalDraws()], **how)
    assert files(tmp_path/'cut')==files(tmp_path/'whole')


class HugeScale(Callback):
    "A scale that no gradient in fp16 can hold, at the start."
    order = 11
    def before_fit(self): self.learn.scaler.load_state_dict(dict(self.learn.scaler.state_dict(), scale=2.**40))


def test_fp16_leaves_out_steps_that_overflow(sets, tmp_path):
    learn = run(tmp_path, sets, [HugeScale()], preset=replace(TWO, epochs=9), precision='fp16')
    left_out = learn.step_log.column('grad_norm')==float('inf')
    assert left_out[0] and not left_out[-1] and all(p.isfinite().all() for p in learn.model.parameters())


class AlwaysTooLarge(HugeScale):
    "A scale that never comes down far enough."
    def before_fit(self): super().before_fit(); self.learn.guard.patience = 3
    def before_batch(self): super().before_fit()


def test_fp16_that_never_fits_is_stopped(sets, tmp_path):
    with pytest.raises(TrainingError, match='3 steps in a row whose gradients overflow fp16; try bf16'): run(tmp_path, sets, [AlwaysTooLarge()], precision='fp16')
    state = read_state(max((tmp_path/'checkpoints').iterdir()))
    assert all(t.isfinite().all() for t in state['model'].values() if t.is_floating_point())


@pytest.mark.parametrize('kind,workers', [(signal.SIGINT,0), (signal.SIGTERM,0), (signal.SIGTERM,1)])
def test_signals_end_between_steps(kind, workers, sets, tmp_path):
    "A real signal to a program and all its workers, as launchers and clusters send it; it ends by itself, with a checkpoint, and goes on exactly"
    run(tmp_path/'whole', sets)
    code = f'import sys; sys.path.insert(0, {str(HERE)!r}); from killed_run import *; run(Path(sys.argv[1])/"asked", data(Path(sys.argv[2])), workers={workers})'
    where = sets[0].frames.root.parents[2]
    p = subprocess.Popen([sys.executable, '-c', code, tmp_path, where], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ, OMP_NUM_THREADS='1'), start_new_session=True)
    log = tmp_path/'asked'/'steps.csv'
    while not (log.exists() and len(log.read_text().splitlines())>2) and p.poll() is None: time.sleep(.002)
    os.killpg(p.pid, kind)
    out,err = p.communicate(timeout=60)
    assert 'KeyboardInterrupt' in err and p.returncode!=0
    assert max(f.name for f in (tmp_path/'asked'/'checkpoints').iterdir())<max(f.name for f in (tmp_path/'whole'/'checkpoints').iterdir())
    run(tmp_path/'asked', sets)
    assert files(tmp_path/'asked')==files(tmp_path/'whole')


class NoRoom(Callback):
    "From some step on the disk is full."
    order = -60
    def __init__(self, steps, fill): self.steps,self.fill = steps,fill
    def before_batch(self):
        if self.training and self.train_iter==self.steps: self.fill()


def test_a_full_disk_keeps_the_last_checkpoint(sets, tmp_path):
    "A small tmpfs fills up while a checkpoint is written"
    disk = tmp_path/'disk'; disk.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=48m', 'tmpfs', disk], capture_output=True).returncode: pytest.skip('only root may mount a tmpfs')
    try:
        def fill(): (disk/'ballast').write_bytes(bytes(os.statvfs(disk).f_bavail*os.statvfs(disk).f_frsize-3_000_000))
        with pytest.raises(TrainingError, match='No space left on device.*goes on from there'): run(disk/'run', sets, [NoRoom(3, fill)], preset=TWO)
        kept = sorted((disk/'run'/'checkpoints').iterdir())
        assert read_state(kept[-1])['step']==3 and not list((disk/'run').rglob('*.new'))
        (disk/'ballast').unlink()
        run(disk/'run', sets, preset=TWO)
        run(tmp_path/'whole', sets, preset=TWO)
        assert files(disk/'run')==files(tmp_path/'whole')
    finally: subprocess.run(['umount', '-l', disk], check=True) # also where a file is still open


def test_a_log_that_cannot_grow_is_a_clear_end(sets, tmp_path):
    "The disk is full to the last byte between two checkpoints"
    small = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (600, resource.RLIM_INFINITY))
    try:
        with pytest.raises(TrainingError, match='File too large.*Make room and start again'): run(tmp_path/'run', sets, [NoRoom(4, small)], preset=TWO, every=100)
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    run(tmp_path/'run', sets, preset=TWO, every=100); run(tmp_path/'whole', sets, preset=TWO, every=100)
    assert files(tmp_path/'run')==files(tmp_path/'whole')


class Poison(Callback):
    order = -60
    def __init__(self, spoil): self.spoil = spoil
    def before_batch(self):
        if self.training and self.train_iter==2: self.spoil(*self.xb, *self.yb)


@pytest.mark.parametrize('spoil,words', [
    (lambda fe,au,fe_y,au_y: fe[1,0,0,0,0].fill_(torch.nan), 'loss that is not finite'), (lambda fe,au,fe_y,au_y: au[0,3,1,2,2].fill_(torch.inf), 'loss that is not finite'),
    (lambda fe,au,fe_y,au_y: fe_y[0].fill_(7), 'label that is none'), (lambda fe,au,fe_y,au_y: au_y[0,2,3].fill_(torch.inf), 'label that is none')],
    ids=['NaN pixel', 'infinite pixel', 'unknown expression', 'infinite AU label'])
def test_a_poisoned_clip_is_named_and_weights_stay_clean(spoil, words, sets, tmp_path):
    with pytest.raises(TrainingError) as e: run(tmp_path/'run', sets, [Poison(spoil)], preset=TWO)
    assert words in str(e.value) and 'step 2' in str(e.value) and str(e.value).count('<- here')==1 and 'line' in str(e.value)
    state = read_state(max((tmp_path/'run'/'checkpoints').iterdir()))
    assert state['step']==2 and all(t.isfinite().all() for t in state['model'].values() if t.is_floating_point())
    run(tmp_path/'run', sets, preset=TWO); run(tmp_path/'whole', sets, preset=TWO)
    assert files(tmp_path/'run')==files(tmp_path/'whole')


class NaNGradient(Callback):
    "A backward pass that ends in a NaN though the loss was fine."
    order = 5
    def before_step(self):
        if self.train_iter==2: self.model.fe_head.bias.grad[3] = torch.nan


def test_a_gradient_that_is_none_is_stopped(sets, tmp_path):
    with pytest.raises(TrainingError, match='a gradient that is not finite, at epoch 0, batch 2'): run(tmp_path/'run', sets, [NaNGradient()], preset=TWO)
    run(tmp_path/'run', sets, preset=TWO); run(tmp_path/'whole', sets, preset=TWO)
    assert files(tmp_path/'run')==files(tmp_path/'whole')


def test_missing_au_labels_are_no_poison(sets, tmp_path):
    "NaN says 'not annotated': the clip is left out of the loss, and training goes on"
    learn = run(tmp_path, sets, [Poison(lambda fe,au,fe_y,au_y: au_y.fill_(torch.nan))], preset=TWO)
    assert all(p.isfinite().all() for p in learn.model.parameters()) and learn.step_log.rows[2]['au']!=learn.step_log.rows[2]['au']
