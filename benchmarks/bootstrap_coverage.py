"""Do 95 % bootstrap intervals hold the truth 95 % of the time? Invented people and clips whose true scores are known.

People differ in how often they show an AU, how visibly, and how the detector is biased by their face; frames of one person
hang together. The truth is the score of a crowd. Expression clips are independent; classes are unequally frequent.
For each score: share of data sets whose interval holds the truth, for the expanded percentile interval of `ssm_nb.evaluation.bootstrap`
and for the plain one, with the Monte-Carlo standard error, and the share of data sets that got no interval.

The last part asks about means when a resample loses a rare label: an AU that one or two of nine people show, and a class of
which there are one or two clips. `kept` is the interval that `au_bootstrap` and `fe_bootstrap` give, which replace what is lost;
`dropped` leaves those resamples out, as was done before; `lost` is the share of resamples concerned.

Run: python benchmarks/bootstrap_coverage.py [part …]    (people, clips, rare; default: all; writes benchmarks/results/bootstrap_coverage.json)
"""
import json, sys
import numpy as np
from fastprogress.fastprogress import progress_bar
from pathlib import Path
from ssm_nb.labels.facs import LabelSpace, label_space
from ssm_nb.core.files import write_json
from ssm_nb.evaluation.bootstrap import (PersonCounts, au_bootstrap, bootstrap_interval, draw_confusions, draw_people, fe_bootstrap,
                                         person_counts, score_intervals, weighted_scores)
from ssm_nb.evaluation.scores import FEScores, recalls

PEOPLE = {'a fold of DISFA':9, 'a fold of BP4D':14, 'DISFA':27, 'BP4D':41}
CLIPS = {'200 clips':200, '1000 clips':1000, '2341 clips':2341}
RATES = dict(AU1=-3.5, AU4=-1.5, AU12=0.) # log odds of the AU in a typical person: rare, usual, common
SPACE,SEVEN,TIMES = LabelSpace((1,4,12), ('neutral','happiness')),label_space('bp4d', 7),1000
SETS = dict(people=2000, clips=2000, rare=800) # simulated data sets, by part
NINE,RARE,AUS,WILD = 9,(1,2),(2,3,8),200 # people; who show the rare AU, or clips of the rare class; AUs averaged; clips
SHARES,RIGHT = np.array([.25,.2,.2,.15,.12,.02,.06]),np.array([.9,.6,.7,.65,.5,.15,.4]) # of invented expression clips: frequency, recall


def crowd(rng, s, frames=100, rates=tuple(RATES.values()), shows=True):
    "Probabilities and labels (s*frames, a) of s people; `shows` (s, a): does a person show an AU at all?"
    a = len(rates)
    y = rng.random((s,frames,a)) < 1/(1+np.exp(-rng.normal(rates, 1, (s,1,a))))
    y &= np.broadcast_to(shows, (s,a))[:,None]
    seen,bias = rng.normal(2, 0.5, (s,1,a)),rng.normal(0, 0.5, (s,1,a))
    logit = rng.normal(size=y.shape)+bias+seen*y-1.2
    return 1/(1+np.exp(-logit.reshape(-1, a))),y.reshape(-1, a).astype(float)


def true_scores(rng, s=20_000):
    "Scores of a crowd: `s` people taken as one, since AUC compares all pairs"
    probs,y = crowd(rng, s)
    return {k:v[0] for k,v in weighted_scores(person_counts(probs, y, probs>=0.5, np.zeros(len(y), int), 1), np.ones((1,1))).items()}


def holds(low, high, truth): return np.nan if np.isnan(low) else float(low-1e-12<=truth<=high+1e-12)


def plain_bounds(probs, y, who, s, seed):
    "Plain percentile bounds of every score: {score: (2, a)}"
    drawn = np.random.default_rng(seed).multinomial(s, np.full(s, 1/s), TIMES)
    draws = weighted_scores(person_counts(probs, y, probs>=0.5, who, s), drawn)
    with_mean = {k:np.column_stack([v, v.mean(1)]) for k,v in draws.items()}
    return {k:np.nanquantile(v, (0.025,0.975), axis=0) for k,v in with_mean.items()}


def au_hits(s, n, truth):
    "Did the intervals of `n` data sets of `s` people hold the truth: {(score, label): (n, 2) expanded and plain, NaN without an interval}"
    who,hits = np.repeat(np.arange(s), 100),{}
    for i in progress_bar(range(n)):
        probs,y = crowd(np.random.default_rng((1,s,i)), s)
        found,plain = au_bootstrap(probs, y, who, SPACE, times=TIMES, seed=i),plain_bounds(probs, y, who, s, i)
        for k,of in found.items():
            for j,(label,o) in enumerate(of.items()):
                t = truth[k][j] if label!='mean' else truth[k].mean()
                hits.setdefault((k,label), []).append((holds(o.low, o.high, t), holds(*plain[k][:,j], t)))
    return hits


def fe_hits(clips, n):
    "The same over clips; the plain interval is the same but for its tails, so only the expanded one is tried"
    hits,truth = {},dict(uar=dict(all=RIGHT.mean()), war=dict(all=RIGHT@SHARES), recall=dict(zip(SEVEN.expressions, RIGHT)))
    for i in progress_bar(range(n)):
        rng = np.random.default_rng((2,clips,i))
        wrong = (1-RIGHT)[:,None]*(1-np.eye(7))/6
        confusion = rng.multinomial(clips, (SHARES[:,None]*(wrong+np.diag(RIGHT))).ravel()).reshape(7, 7)
        for k,of in fe_bootstrap(FEScores(SEVEN, confusion), TIMES, seed=i).items():
            for label,o in of.items(): hits.setdefault((k,label), []).append((holds(o.low, o.high, truth[k][label]),))
    return hits


def table(hits):
    "Coverage, its standard error, and the share without an interval, for each score"
    out = {}
    for (k,label),h in hits.items():
        h = np.array(h)
        known = ~np.isnan(h[:,0])
        row = dict(expanded=h[known,0].mean(), no_interval=1-known.mean()) | (dict(plain=np.nanmean(h[:,1])) if h.shape[1]>1 else {})
        out.setdefault(k, {})[label] = row | dict(standard_error=np.sqrt(row['expanded']*(1-row['expanded'])/known.sum()))
    return out


def rare_shows(s, a, k):
    "(s, a) bool: all show all AUs but the last, which k show"
    return np.arange(s)[:,None]<np.r_[np.full(a-1, s), k]


def f1_of(frames, s, weights):
    "F1 (b, a) of weighted people, as `au_bootstrap` has it; AUC, which takes most of the time there, is left out"
    probs,y = frames
    cells = [((y==t) & ((probs>=0.5)==d)).reshape(s, -1, y.shape[1]).sum(1) for t,d in ((1,True),(0,True),(1,False),(0,False))]
    return weighted_scores(PersonCounts(*cells, np.zeros((y.shape[1],s,1))), weights)['f1']


def row(hits, lost):
    "Coverage of the two ways: `hits` (n, 2), NaN without an interval"
    kept,dropped = np.nanmean(hits, 0)
    return dict(kept=kept, dropped=dropped, lost=np.mean(lost), standard_error=np.sqrt(kept*(1-kept)/len(hits)))


def without_lost(value, draws, n):
    "The interval of a mean from those resamples alone that lost nothing"
    return bootstrap_interval(value, draws[~np.isnan(draws).any(1)].mean(1), n)


def rare_aus(k, a, n):
    "Mean F1 of `a` AUs of which one is shown by `k` of nine people"
    many,rates = 2222*NINE,[RATES['AU4']]*a
    common,rare = f1_of(crowd(np.random.default_rng(0), many, rates=rates[:2], shows=rare_shows(many, 2, many*k//NINE)), many, np.ones((1,many)))[0]
    truth,hits,lost = (common*(a-1)+rare)/a,[],[]
    for i in progress_bar(range(n)):
        frames = crowd(np.random.default_rng((3,k,a,i)), NINE, rates=rates, shows=rare_shows(NINE, a, k))
        value,own,draws = (f1_of(frames, NINE, w) for w in (np.ones((1,NINE)), np.eye(NINE), draw_people(NINE, TIMES, i)))
        found = score_intervals(value[0], own, draws, seed=i)[-1]
        if found.basis.over<a: continue                                        # nobody showed it after all
        hits.append([holds(o.low, o.high, truth) for o in (found, without_lost(found.value, draws, NINE))])
        lost.append(np.isnan(draws).any(1).mean())
    return row(hits, lost)


def rare_class(k, n):
    "UAR of clips of which `k` are of the rarest class"
    rarest,hits,lost = SHARES.argmin(),[],[]
    others = np.delete(np.arange(7), rarest)
    answers = np.diag(RIGHT)+(1-RIGHT)[:,None]*(1-np.eye(7))/6
    for i in progress_bar(range(n)):
        rng = np.random.default_rng((4,k,i))
        clips = np.insert(rng.multinomial(WILD-k, SHARES[others]/SHARES[others].sum()), rarest, k)
        confusion = np.stack([rng.multinomial(*o) for o in zip(clips, answers)])
        found,drawn = fe_bootstrap(FEScores(SEVEN, confusion), TIMES, seed=i)['uar']['all'],recalls(draw_confusions(confusion, TIMES, i))
        hits.append([holds(o.low, o.high, RIGHT.mean()) for o in (found, without_lost(found.value, drawn, WILD))])
        lost.append(np.isnan(drawn).any(1).mean())
    return row(hits, lost)


def people(n):
    truth = true_scores(np.random.default_rng(0))
    return dict(true_scores=truth, people={name:dict(people=s, coverage=table(au_hits(s, n, truth))) for name,s in PEOPLE.items()})


def clips(n): return dict(clips={name:dict(clips=c, coverage=table(fe_hits(c, n))) for name,c in CLIPS.items()})


def rare(n):
    return dict(rare=dict(people=NINE, clips=WILD, aus={f'{a} AUs, {k} of nine people':rare_aus(k, a, n) for a in AUS for k in RARE},
        uar={f'{k} clip{"s"*(k>1)} of {WILD}':rare_class(k, n) for k in RARE}))


def main(*parts):
    file = Path(__file__).parent/'results'/'bootstrap_coverage.json'
    found = json.loads(file.read_text()) if file.exists() else {}
    for part in parts or SETS:
        found |= dict(nominal=0.95, data_sets=SETS, resamples=TIMES) | globals()[part](SETS[part])
        write_json(file, found)                                                # each part as soon as it is known
    for part in ('people','clips'):
        for name,o in found[part].items():
            for k,of in o['coverage'].items(): print(f'{name:18}{k:12}', '  '.join(f"{l} {r['expanded']:.3f}"+(f" (plain {r['plain']:.3f})" if 'plain' in r else '') for l,r in of.items()))
    for name,o in {**found['rare']['aus'], **found['rare']['uar']}.items(): print(f'{name:28}', '  '.join(f'{k} {v:.3f}' for k,v in o.items()))


if __name__=='__main__': main(*sys.argv[1:])
