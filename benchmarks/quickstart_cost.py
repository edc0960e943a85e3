"""What the quickstart costs on a processor: this tree beside an older commit, alternately and in one go, so that what else the machine does meets both.

`whole` runs tutorials/01_quickstart.ipynb as `make quickstart` does, with the faces already in the cache (the second run of a newcomer): processor
minutes of user and system together, and peak memory of the process. `steps` trains a few steps only: processor seconds a step; the first steps, in
which frames are decoded for the first time, are left out of the seconds, not of the peak. Let nothing else run meanwhile: other work makes caches
cold, and processor seconds grow with it.

Run: python benchmarks/quickstart_cost.py whole [rounds] [commit]    (two rounds of each tree take about half an hour; commit 795f86b by default)
     python benchmarks/quickstart_cost.py steps [steps] [commit]     (40 steps by default, a few minutes)
     python benchmarks/quickstart_cost.py profile [steps]            (where the time of this tree goes, by operation)
Each writes its part of results/quickstart_cost.json.
"""
import json, os, platform, resource, subprocess, sys, tempfile, time
from contextlib import contextmanager
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


def environment_of(tree):
    "Variables of a process that uses the sources of a tree."
    return dict(os.environ, PYTHONPATH=str(tree), PLOTLY_RENDERER='plotly_mimetype', **MEMORY)


def measured_steps(tree, n):
    "The same in a process of its own, with the sources of a tree."
    out = subprocess.run([sys.executable, __file__, 'here', str(n)], env=environment_of(tree), cwd=tree, capture_output=True, text=True)
    if out.returncode: raise RuntimeError(out.stderr[-3000:])
    return json.loads(out.stdout.strip().splitlines()[-1])


def draw_faces(tree):
    "Let a tree draw its faces, if they are not in the cache."
    code = 'from ssm_nb.core.settings import load_settings; from ssm_nb.faces.embedded import SMALL, embedded_data; embedded_data(load_settings().paths.cache, SMALL)'
    subprocess.run([sys.executable, '-c', code], env=environment_of(tree), cwd=tree, check=True, capture_output=True)


def measured_quickstart(tree):
    "The whole quickstart of a tree."
    live = 'import sys, fastprogress, IPython; IPython.start_ipython(sys.argv[1:])' # as the Makefile has it
    begun,results = time.time(),tree/'out'/'quickstart.json'
    with tempfile.TemporaryFile('w+') as log:
        p = subprocess.Popen([sys.executable, '-c', live, '--no-term-title', '01_quickstart.ipynb'], env=environment_of(tree), cwd=tree/'tutorials',
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        _,status,used = os.wait4(p.pid, 0)
        log.seek(0)
        if status or not results.exists() or results.stat().st_mtime<begun: raise RuntimeError(f'the quickstart of {tree} did not end well:\n{log.read()[-3000:]}')
    return dict(cpu_minutes=(used.ru_utime+used.ru_stime)/60, wall_minutes=(time.time()-begun)/60, peak_gb=used.ru_maxrss/2**20)


def profile(n):
    "Processor time by operation, the largest first, and what part of it the backward pass is."
    import torch
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], schedule=torch.profiler.schedule(wait=0, warmup=1, active=n-1), acc_events=True) as p:
        cost = steps(n, p.step)
    rows = sorted(p.key_averages(), key=lambda o: -o.self_cpu_time_total)
    whole = sum(o.self_cpu_time_total for o in rows)
    return dict(cost, by_operation=[dict(name=o.key, share=o.self_cpu_time_total/whole, calls_a_step=o.count/(n-1)) for o in rows[:25]])


def keep(**more):
    from ssm_nb.core.files import write_json
    write_json(RESULTS, (json.loads(RESULTS.read_text()) if RESULTS.exists() else {})|more)


@contextmanager
def two_trees(commit):
    "This tree, and an older one in a folder of its own."
    with tempfile.TemporaryDirectory() as tmp:
        old = Path(tmp)/'old'
        subprocess.run(['git', 'worktree', 'add', '--detach', str(old), commit], cwd=ROOT, check=True, capture_output=True)
        try: yield {'now':ROOT, commit:old}
        finally: subprocess.run(['git', 'worktree', 'remove', '--force', str(old)], cwd=ROOT, check=True)


def compare(measure, rounds, commit, cost):
    "Each tree in each round; means, and how much of the older tree's `cost` this one has."
    with two_trees(commit) as trees:
        for tree in trees.values(): draw_faces(tree)
        rows = [dict(tree=k, **measure(tree)) for _ in range(rounds) for k,tree in trees.items()]
    keys = [k for k,v in rows[0].items() if isinstance(v, float)]
    means = {t:{k:sum(r[k] for r in rows if r['tree']==t)/rounds for k in keys} for t in trees}
    return dict(commit=commit, processor=platform.processor() or platform.machine(), cores=os.cpu_count(), rows=rows, means=means,
        ratio=cost(means['now'])/cost(means[commit]))


def main(what='', n=None, commit='795f86b'):
    if what=='here': print('\n'+json.dumps(steps(int(n)))) # below the progress bar
    elif what=='profile': keep(profile=profile(int(n or 12)))
    elif what=='steps': keep(steps=compare(lambda tree: measured_steps(tree, int(n or 40)), 2, commit, lambda m: m['user']+m['system']))
    elif what=='whole': keep(whole=compare(measured_quickstart, int(n or 2), commit, lambda m: m['cpu_minutes']))
    else: sys.exit(__doc__)


if __name__=='__main__': main(*sys.argv[1:])
