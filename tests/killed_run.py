"""A tiny run that is killed again and again, for `test_resume.py`. Not a test by itself.

python killed_run.py FOLDER KILLS SEED    trains FOLDER/whole without a break, then FOLDER/killed0 … under SIGKILL; hits.json says where it was hit
"""
import json, mmap, os, random, signal, sys, time
from dataclasses import replace
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)                                     # children are forked: no thread may hold a lock
from fastai.callback.core import Callback
from ssm_nb.training import checkpoint
from ssm_nb.model.backbone import clip_config
from ssm_nb.data.manifests import read_manifest
from ssm_nb.data.datasets import AUClips, FEClips
from ssm_nb.training.checkpoint import safeguards
from ssm_nb.faces.embedded import TINY, embedded_data
from ssm_nb.labels.facs import label_space
from ssm_nb.training.learner import ssm_learner, train
from ssm_nb.training.log import Validation
from ssm_nb.training.recipe import PRESETS
from ssm_nb.training.variants import VARIANTS, parts_of, variant_callbacks
from ssm_nb.model.ssm import build_ssm
from ssm_nb.labels.prior import ssm_prior
from ssm_nb.model.prototypes import released_prompts

PHASES = ('loading','step','evaluation','writing')
PRESET = replace(PRESETS['small'], epochs=6, fe_bs=2, au_bs=1)
phase = mmap.mmap(-1, 1)                                     # what a child is doing, for its parent to see


def doing(name): phase[0] = PHASES.index(name)


class Phases(Callback):
    "Says what the run is doing."
    order = -40
    def before_batch(self): doing('step')
    def before_validate(self): doing('evaluation')
    def before_train(self): doing('loading')
    def after_batch(self):
        if self.training: doing('loading')


def as_writing(write_state):
    def write(*args):
        before,phase[0] = phase[0],PHASES.index('writing')
        write_state(*args)
        phase[0] = before
    return write


def data(folder):
    "Clips of the smallest rendered pair: training and validation."
    space,files = label_space('bp4d', 7),embedded_data(folder, TINY)
    lab,wild = ({s:read_manifest(path(s), name, space) for s in ('train','test')} for path,name in ((files.lab, 'bp4d'), (files.wild, 'dfew')))
    return (FEClips(wild['train'], files.wild_images, 32, augmentation=PRESET.fe_augmentation), AUClips(lab['train'], files.lab_images, 32, augmentation=PRESET.au_augmentation),
            FEClips(wild['test'], files.wild_images, 32), AUClips(lab['test'], files.lab_images, 32, cover=True))


def learner(folder, sets, cbs=(), preset=PRESET, every=2, device='cpu', variant='ssm', **kwargs):
    fe,au,valid_fe,valid_au = sets
    cfg = clip_config('small'); cfg['vision_cfg'] |= dict(image_size=32, width=64, layers=2)
    model = build_ssm(cfg, fe.space, ssm_prior(fe.space), *released_prompts(fe.space), n_expert_blocks=1, expert_hidden=32, **parts_of(VARIANTS[variant]))
    return ssm_learner(model, fe, au, preset, folder=folder, device=device, validation=Validation(valid_fe, valid_au, folder=folder),
        cbs=[*safeguards(folder, every), *variant_callbacks(VARIANTS[variant]), *cbs], **kwargs)


def run(folder, sets, cbs=(), preset=PRESET, **kwargs):
    "Start or go on, to the end."
    folder.mkdir(exist_ok=True)
    if not list(folder.glob('checkpoints/step-*')): torch.manual_seed(0); random.seed(0); np.random.seed(0)
    learn = learner(folder, sets, cbs, preset, **kwargs)
    with learn.no_bar(), learn.no_logging(): train(learn, preset)
    return learn


def child(folder, sets):
    pid = os.fork()
    if pid: return pid
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try: run(folder, sets, [Phases()])
    except BaseException as e: print(repr(e), file=sys.stderr, flush=True); os._exit(1)
    os._exit(0)


def killed(pid, target, draw):
    "Wait until the child is in a phase for the n-th time, then a moment more, then kill it; False if it ended before."
    times,last,moment = draw.randint(1, 4),None,draw.random()*dict(loading=.01, step=.06, evaluation=.03, writing=.004)[target]
    while not os.waitpid(pid, os.WNOHANG)[0]:
        now = PHASES[phase[0]]
        times -= now==target!=last
        last = now
        if times>0: continue
        time.sleep(moment)
        hit = PHASES[phase[0]]
        os.kill(pid, signal.SIGKILL)
        return hit if os.WIFSIGNALED(os.waitpid(pid, 0)[1]) else False
    return False


def main(folder, kills, seed):
    folder,draw,hits,n = Path(folder),random.Random(seed),[],0
    sets = data(folder)
    checkpoint.write_state = as_writing(checkpoint.write_state)
    assert os.waitpid(child(folder/'whole', sets), 0)[1]==0
    while len(hits)<kills:                                   # a run that ends before the last kill is followed by another
        doing('loading')
        least = min(PHASES, key=lambda p: (hits.count(p), draw.random()))
        hit = killed(child(folder/f'killed{n}', sets), least, draw)
        if hit: hits.append(hit)
        else: n += 1
    assert os.waitpid(child(folder/f'killed{n}', sets), 0)[1]==0
    (folder/'hits.json').write_text(json.dumps(dict(hits={p:hits.count(p) for p in PHASES}, runs=n+1)))


if __name__=='__main__': main(sys.argv[1], *map(int, sys.argv[2:]))
