"""What the quickstart's training costs: processor seconds a step (user and system), and the process's peak memory, of this tree and of an older commit.

Both trees train the quickstart's model on the same rendered faces with the same settings, in one go and alternately, so that what else the machine does
meets both. The first steps, in which frames are decoded for the first time, are left out of the seconds, not of the peak.

Run: python benchmarks/quickstart_cost.py [steps] [commit]   (writes results/quickstart_cost.json; default 40 steps, commit 795f86b)
     python benchmarks/quickstart_cost.py profile [steps]    (where the time of this tree goes, by operation; writes the same file)
"""
import json, os, resource, subprocess, sys, tempfile, time
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT/'benchmarks'/'results'/'quickstart_cost.json'
FIRST = 8                                                                     # steps before the clock starts
MEMORY = dict(MALLOC_MMAP_THRESHOLD_='8388608')                               # as the Makefile starts the quickstart


def learner(callbacks):
    "The quickstart's learner."
    from ssm_nb.core.settings import load_settings
    from ssm_nb.data.datasets import AUClips, FEClips
    from ssm_nb.data.manifests import read_manifest
    from ssm_nb.faces.embedded import SMALL, embedded_data
    from ssm_nb.labels.facs import label_space
    from ssm_nb.labels.prior import ssm_prior
    from ssm_nb.model.backbone import clip_config
    from ssm_nb.model.prototypes import released_prompts
    from ssm_nb.model.ssm import build_ssm
    from ssm_nb.model.weights import clip_weights
    from ssm_nb.training.learner import ssm_learner
    from ssm_nb.training.recipe import PRESETS
    data,space,preset = embedded_data(load_settings().paths.cache, SMALL),label_space('bp4d', 7),PRESETS['small']
    au = AUClips(read_manifest(data.lab('train'), 'bp4d', space), data.lab_images, 64, augmentation=preset.au_augmentation, cache_mb=500)
    fe = FEClips(read_manifest(data.wild('train'), 'dfew', space), data.wild_images, 64, augmentation=preset.fe_augmentation, cache_mb=500)
    model = build_ssm(clip_config('small'), space, ssm_prior(space), *released_prompts(space), n_expert_blocks=preset.n_expert_blocks,
        expert_hidden=preset.expert_hidden, routing=preset.routing, smoothing=preset.smoothing, seed=0, clip_weights=clip_weights('small'))
    return ssm_learner(model, fe, au, preset, seed=0, cbs=callbacks),preset


def used():
    "Processor seconds of this process."
    o = resource.getrusage(resource.RUSAGE_SELF)
    return o.ru_utime,o.ru_stime


def steps(n, each=None):
    "Train FIRST and n steps; what the last n cost."
    from fastai.callback.core import Callback, CancelFitException
    from ssm_nb.training.learner import train
    class Clock(Callback):
        order = 999
        def after_batch(self):
            if self.train_iter==FIRST: self.start = *used(),time.time()
            if each and self.train_iter>FIRST: each()
            if self.train_iter==FIRST+n: self.end = *used(),time.time(); raise CancelFitException
    clock = Clock()
    train(*learner([clock]))
    user,system,wall = (b-a for a,b in zip(clock.start, clock.end))
    return dict(steps=n, user=user/n, system=system/n, wall=wall/n, losses=clock.learn.step_log.column('total')[:3].tolist(),
                peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024)


def measured(tree, n):
    "The same in a process of its own, with the sources of a tree."
    env = dict(os.environ, PYTHONPATH=str(tree), **MEMORY)
    out = subprocess.run([sys.executable, __file__, 'steps', str(n)], env=env, cwd=tree, capture_output=True, text=True)
    if out.returncode: raise RuntimeError(out.stderr[-3000:])
    return json.loads(out.stdout.strip().splitlines()[-1])


def profile(n):
    "Processor time by operation, the largest first, and what part of it the backward pass is."
    import torch
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], schedule=torch.profiler.schedule(wait=0, warmup=1, active=n-1)) as p:
        cost = steps(n, p.step)
    rows = sorted(p.key_averages(), key=lambda o: -o.self_cpu_time_total)
    whole = sum(o.self_cpu_time_total for o in rows)
    return dict(cost, by_operation=[dict(name=o.key, share=o.self_cpu_time_total/whole, calls_a_step=o.count/(n-1)) for o in rows[:25]])


def keep(**more):
    from ssm_nb.core.files import write_json
    write_json(RESULTS, (json.loads(RESULTS.read_text()) if RESULTS.exists() else {})|more)


def compare(n, commit):
    "This tree and an older one, twice each, alternately."
    with tempfile.TemporaryDirectory() as tmp:
        old = Path(tmp)/'old'
        subprocess.run(['git', 'worktree', 'add', '--detach', str(old), commit], cwd=ROOT, check=True, capture_output=True)
        try: rows = [dict(tree=k, **measured(t, n)) for _ in range(2) for k,t in (('now', ROOT), (commit, old))]
        finally: subprocess.run(['git', 'worktree', 'remove', '--force', str(old)], cwd=ROOT, check=True)
    mean = lambda k,s: sum(r[s] for r in rows if r['tree']==k)/2
    cpu = {k:mean(k, 'user')+mean(k, 'system') for k in ('now', commit)}
    return dict(commit=commit, rows=rows, cpu_seconds_a_step=cpu, ratio=cpu['now']/cpu[commit], peak_mb={k:mean(k, 'peak_mb') for k in cpu})


def main(*args):
    if args[:1]==('steps',): print(json.dumps(steps(int(args[1]))))
    elif args[:1]==('profile',): keep(profile=profile(int(args[1]) if args[1:] else 12))
    else: keep(compared=compare(int(args[0]) if args else 40, args[1] if args[1:] else '795f86b'))


if __name__=='__main__': main(*sys.argv[1:])
