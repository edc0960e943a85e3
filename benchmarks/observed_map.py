"""Is the observed map near the truth, do its intervals hold it, and is it a better start than a wrong prior?

The map was designed on the people of `embedded_data(…, seed=100)`. These are the people of the study, and seeds with which it trains single tasks and
the bridge only. Each seed trains from the shuffled prior (its rows under wrong names) on its training clips without 4 laboratory people, who
calibrate the detector. Then

- the map observed in the *test* clips, people that the model never saw, is compared with the true P(AU | expression);
- the map observed in the *training* clips, whose AUs nobody annotated, becomes the prior of a second run, without the same 4 people. How far its
  learned map ends from the truth stands beside how far the shuffled prior was, and beside where the first run's map ended.

Run: python benchmarks/observed_map.py [seconds]    (goes on where results/observed_map.json stops, seed by seed)
"""
import json, sys, time
from pathlib import Path
import numpy as np
import torch
from scipy.stats import spearmanr
from ssm_nb.core.files import write_json
from ssm_nb.core.settings import load_settings
from ssm_nb.evaluation.bootstrap import mean_ci
from ssm_nb.evaluation.observed import ClipAUs, observed_map
from ssm_nb.evaluation.protocols import AUTracks
from ssm_nb.evaluation.scores import map_distance
from ssm_nb.faces.embedded import true_probability
from study import COLUMNS, SPACE, VARIANTS, answers, parts, prior_of, read_all, train

RESULTS = Path(__file__).parent/'results'/'observed_map.json'
SEEDS,HELD = range(10, 15),4
TRUTH = true_probability()[:,COLUMNS]


def person(data, i): return data['au_name'][i].split('_')[0]


def without_calibration(data, rows, seed):
    "Rows whose laboratory training lacks `HELD` people, and the clips of these."
    train,test = rows['au']
    people = sorted({person(data, i) for i in train.tolist()})
    held = set(np.random.RandomState(seed).permutation(people)[:HELD])
    is_held = torch.tensor([person(data, i) in held for i in train.tolist()])
    return rows|dict(au=[train[~is_held], test]),train[is_held]


@torch.no_grad()
def observed(m, data, clips, held):
    "The observed map of some wild clips."
    out,wild,_ = answers(m, data['fe'][0,clips], data['au'][0,held])
    t = wild.shape[1]
    seen = ClipAUs(SPACE, wild.sigmoid().double().numpy(), data['fe_label'][clips].numpy(), np.array([data['wild_person'][i] for i in clips]), 'wild clips')
    who = np.repeat([person(data, i) for i in held.tolist()], t)
    flat = lambda x: x.double().flatten(0, 1).numpy()
    return observed_map(seen, AUTracks(SPACE, flat(out.au.sigmoid()), flat(data['au_label'][held]), np.full(len(held), t), who, 0, 'held-out people', 'bp4d'), truth=TRUTH)


def learned(m):
    "How far the learned map and its prior are from the truth."
    of = lambda p: dict(distance=map_distance(p.numpy(), TRUTH, SPACE), spearman=float(spearmanr(p.numpy().ravel(), TRUTH.ravel()).statistic))
    return dict(prior=of(m.mapping.prior), learned=of(m.mapping.au2fe().detach()))


def one(data, settings, seed):
    "A seed's two runs."
    rows,held = without_calibration(data, parts(settings, data, seed), seed)
    first = train(data, rows, VARIANTS['ssm_shuffled'], seed)
    test,train_map = (observed(first, data, rows['fe'][k], held) for k in (1, 0))
    second = train(data, rows, dict(prior=train_map.prior()), seed)
    return dict(seed=seed, test=test.to_dict(), train=train_map.to_dict(), first=learned(first), second=learned(second))


def summary(runs):
    "Means over seeds; coverage also over all intervals of all seeds."
    part = {k:{s:mean_ci([r[k]['against_truth'][s] for r in runs])._asdict() for s in ('spearman', 'distance', 'coverage')} for k in ('test', 'train')}
    ends = {f'{run} run, {k}':mean_ci([r[run][k]['distance'] for r in runs])._asdict() for run in ('first', 'second') for k in ('prior', 'learned')}
    closer = mean_ci([r['first']['prior']['distance']-r['second']['learned']['distance'] for r in runs])._asdict()
    return dict(**part, distance_of_maps=ends, closer_than_shuffled=closer, runs_closer=sum(r['second']['learned']['distance']<r['first']['prior']['distance'] for r in runs))


def main(seconds=1e9):
    torch.set_num_threads(1)
    settings,begun = load_settings(),time.time()
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else dict(setting=__doc__.strip().split('\n\n')[1:3], truth=TRUTH.tolist(), runs=[])
    data = read_all(settings)
    for seed in SEEDS:
        if time.time()-begun>seconds: return
        if any(r['seed']==seed for r in kept['runs']): continue
        kept['runs'].append(one(data, settings, seed))
        kept['summary'] = summary(kept['runs'])
        write_json(RESULTS, kept)
        r = kept['runs'][-1]
        print(seed, {k:r[k]['against_truth'] for k in ('test', 'train')}, {k:r[k] for k in ('first', 'second')}, flush=True)


if __name__=='__main__': main(*map(float, sys.argv[1:]))
