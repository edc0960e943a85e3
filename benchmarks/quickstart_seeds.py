"""The quickstart's training over several seeds, in 32 bits and in bfloat16, beside single-task training of the same model; people never seen, protocol `fixed`.

Run: python benchmarks/quickstart_seeds.py [seeds]    (writes benchmarks/results/quickstart_seeds.json; default 3 seeds)
"""
import sys, time
from pathlib import Path
from fastai.callback.core import Callback
from ssm_nb.model.backbone import clip_config
from ssm_nb.data.manifests import read_manifest
from ssm_nb.data.datasets import AUClips, FEClips
from ssm_nb.faces.embedded import ALL_AUS, SMALL, embedded_data
from ssm_nb.evaluation.protocols import evaluate
from ssm_nb.labels.facs import label_space
from ssm_nb.core.files import write_json
from ssm_nb.training.learner import ssm_learner, train
from ssm_nb.training.recipe import PRESETS
from ssm_nb.evaluation.bootstrap import mean_ci
from ssm_nb.evaluation.scores import map_distance
from ssm_nb.model.ssm import build_ssm
from ssm_nb.labels.prior import ssm_prior
from ssm_nb.model.prototypes import released_prompts
from ssm_nb.core.settings import load_settings
from ssm_nb.model.weights import clip_weights


class OnlyTask(Callback):
    "Train one branch alone: the other gets no clip, and costs nothing."
    order = 10
    def __init__(self, task): self.task = task
    def before_batch(self):
        fe,au = self.xb
        self.learn.xb = (fe, None) if self.task=='fe' else (None, au)


def run(sets, seed, task=None, precision='fp32'):
    "Train from one seed on both tasks or one; scores on people never seen, and how far the map is from the truth."
    fe_train,au_train,fe_test,au_test,space,p_true = sets
    preset,prior = PRESETS['small'],ssm_prior(space)
    model = build_ssm(clip_config('small'), space, prior, *released_prompts(space), n_expert_blocks=preset.n_expert_blocks, expert_hidden=preset.expert_hidden,
        routing=preset.routing, smoothing=preset.smoothing, seed=seed, clip_weights=clip_weights('small'))
    begun = time.time()
    learn = ssm_learner(model, fe_train, au_train, preset, seed=seed, precision=precision, cbs=[OnlyTask(task)] if task else [])
    train(learn, preset)
    with learn.ema.applied():
        fe,au = evaluate(model, fe_test if task!='au' else None, au_test if task!='fe' else None)
        learned = model.mapping.au2fe().detach().numpy()
    out = dict(seed=seed, seconds=round(time.time()-begun, 1))
    if au: out |= dict(au_f1_mean=au.mean('f1'), au_auc_mean=au.mean('auc'), trivial_au_f1=au.mean('trivial_f1'), au_f1=dict(zip(space.au_labels, au.f1)))
    if fe: out |= dict(uar=fe.uar, war=fe.war, trivial_uar=fe.trivial_uar)
    if not task: out |= {f'map_distance_{n}':map_distance(m, p_true, space) for n,m in (('prior', prior.matrix), ('learned', learned))}
    return out


def summarise(rows):
    "Mean, half width of its 95 % CI (NaN for one run) and number of runs, for each score."
    keys = [k for k in ('au_f1_mean','au_auc_mean','uar','war','map_distance_prior','map_distance_learned','seconds') if k in rows[0]]
    return {k:mean_ci([r[k] for r in rows])._asdict() for k in keys}


def main(n=3):
    space,preset = label_space('bp4d', 7),PRESETS['small']
    data,size = embedded_data(load_settings().paths.cache, SMALL),clip_config('small')['vision_cfg']['image_size']
    lab,wild = ({s:read_manifest(path(s), name, space) for s in ('train','test')} for path,name in ((data.lab, 'bp4d'), (data.wild, 'dfew')))
    sets = (FEClips(wild['train'], data.wild_images, size, augmentation=preset.fe_augmentation, cache_mb=500), AUClips(lab['train'], data.lab_images, size, augmentation=preset.au_augmentation, cache_mb=500),
        FEClips(wild['test'], data.wild_images, size, cache_mb=500), AUClips(lab['test'], data.lab_images, size, cover=True, cache_mb=500), space,
        data.truth('test')['p_au'][:, [ALL_AUS.index(a) for a in space.aus]])
    runs = {}
    for name,how in dict(joint={}, joint_bf16=dict(precision='bf16'), au_only=dict(task='au'), fe_only=dict(task='fe')).items():
        for seed in range(n):
            runs.setdefault(name, []).append(run(sets, seed, **how))
            summary = {k:summarise(rows) for k,rows in runs.items()}                # kept after every run
            write_json(Path(__file__).parent/'results'/'quickstart_seeds.json', dict(protocol='fixed', interval='95 % CI of the mean, t distribution', summary=summary, runs=runs))
    for name,s in summary.items(): print(name, {k:f"{v['mean']:.3f} ± {v['half']:.3f}" for k,v in s.items()})


if __name__=='__main__': main(*map(int, sys.argv[1:]))
