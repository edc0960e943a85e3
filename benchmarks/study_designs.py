"""Forms of the bridge that were tried, on design people: nobody here is in the study. That a second form was needed was seen there (see study.py);
which form it became was chosen here.

People are those of `embedded_data(…, seed=100)`, seeds begin at 1000; seed k tests on every third laboratory person and every fifth wild person,
beginning with k mod 3 and k mod 5. The setting is that of the study (see study.py), with its regimes. Each design is compared with the single tasks of
the same seed: action units with `au_only`, expressions with `fe_only`.

Run: python benchmarks/study_designs.py [seconds]    (goes on where results/study_designs.json stops; writes results/study_designs.md; several processes
     may share the work)
"""
import json, sys, time
from pathlib import Path
import numpy as np
import torch
from filelock import FileLock
from torch.nn import functional as F
from ssm_nb.core.files import write_json, write_text
from ssm_nb.core.settings import load_settings
from ssm_nb.evaluation.bootstrap import mean_ci
from ssm_nb.model.bridge import Bridge
from study import REGIMES, SAME, SPACE, VARIANTS, evaluate, left, read_all, train
from study_table import ALSO, SCORES, verdict

RESULTS = Path(__file__).parent/'results'/'study_designs.json'
WORLD,SEEDS = 100,range(1000, 1005)
LESS = ('au_f1', 'au_auc', 'wild_f1', 'wild_auc', 'uar', 'war')


class Spoken(Bridge):
    "AUs that the model sees in a clip are evidence beside its expression classifier, with a learned weight; laboratory clips teach no expressions."
    def __init__(self, prior, weight=.3):
        super().__init__(prior, teaching=0.)
        self.weight = torch.nn.Parameter(torch.tensor(weight))

    def speak(self, au):
        q = au.topk(au.shape[1]//2, dim=1).values.mean(1).sigmoid()
        return self.weight*self.evidence(q[:,None])


class Silent(Spoken):
    "The same at the test; in training AUs say nothing about expressions."
    def speak(self, au): return au.new_zeros(len(au), len(self.table)) if self.training else super().speak(au)


class Rows(Silent):
    "Every frame of a clip gets the prior's row as its targets (the sketch in the study's issue)."
    def loss(self, au, label, done=1.):
        return .3*min(max((done-1/6)/.2, 0), 1)*F.binary_cross_entropy_with_logits(au, self.start[label][:,None].expand_as(au))


class Clips(Silent):
    "A clip, pooled over the half of the frames where an action unit is strongest, gets the row."
    def loss(self, au, label, done=1.):
        pooled = au.topk(au.shape[1]//2, dim=1).values.mean(1)
        return .3*min(max((done-1/6)/.2, 0), 1)*F.binary_cross_entropy_with_logits(pooled, self.start[label])


class One(Spoken):
    "Evidence has the weight 1 of naive Bayes from the start."
    def __init__(self, prior): super().__init__(prior, weight=1.)


class Always(Bridge):
    "Laboratory clips teach expressions at full weight, however many expression clips there are."
    def teach(self, fe, au, ratio, blend): return super().teach(fe, au, 3., blend)


# what trains, and what it is called at which weight of the evidence at the test (None: as it was learned)
TRAININGS = dict(
    fe_only=(VARIANTS['fe_only'], dict(fe_only=None)), au_only=(VARIANTS['au_only'], dict(au_only=None)),
    rows=(dict(bridge=True, form=Rows), dict(rows=0.)),
    clips=(dict(bridge=True, form=Clips), dict(clips=0.)),
    shift=(dict(bridge=True, form=Silent), dict(shift=0., late=1.)),
    still=(dict(bridge=True, form=Silent, tower=False), dict(still=0., still_late=1.)),
    bridge=(dict(bridge=True, form=Spoken), dict(bridge=None, bridge_late=1.)),
    one=(dict(bridge=True, form=One), dict(one=None)),
    taught=(dict(bridge=True), dict(taught=None)), always=(dict(bridge=True, form=Always), dict(always=None)))
WORDS = dict(
    rows='each frame gets the prior’s row', clips='each clip, pooled, gets the row',
    shift='smallest shift of the answers that obeys the learned table', late='the same, and at the test naive Bayes of the AUs beside the classifier',
    still='as `shift`, but the image tower does not feel it', still_late='as `late`, but the image tower does not feel the shift',
    bridge='shift, evidence with weight 0.3 in training and test, table learned',
    bridge_late='the same, weight 1 at the test', one='shift, evidence with weight 1 in training and test, table learned',
    always='shift, table learned, and the AUs of laboratory clips teach expressions with weight 1',
    taught='the same, with a weight that falls to 0 as expression clips outnumber AU clips: the form of the study')


def design_parts(data, seed, au_people=0, fe_clips=0):
    "Clips to train and to test on."
    g = np.random.RandomState(seed+977)
    lab,wild,y = [n.split('_')[0] for n in data['au_name']],data['wild_person'],data['fe_label'].numpy()
    def fold(who, k, order=None):
        test = {p:i%k==seed%k for i,p in enumerate(sorted(set(who), key=order))}
        return [[i for i,p in enumerate(who) if test[p]==t] for t in (False, True)]
    au,fe = fold(lab, 3),fold(wild, 5, int)
    if au_people:
        some = set(g.permutation(sorted({lab[i] for i in au[0]}))[:au_people])
        au[0] = [i for i in au[0] if lab[i] in some]
    if fe_clips: fe[0] = np.concatenate([g.permutation([i for i in fe[0] if y[i]==e])[:fe_clips//SPACE.n_expressions] for e in range(SPACE.n_expressions)]).tolist()
    return {k:[torch.tensor(o) for o in v] for k,v in (('au', au), ('fe', fe))}


def one(data, training, regime, seed):
    "A training, and a row for each way to read it."
    t,(kind,readings) = time.process_time(),TRAININGS[training]
    rows = design_parts(data, seed, **REGIMES[regime])
    m,out = train(data, rows, kind, seed),[]
    for name,weight in readings.items():
        if weight is not None: m.bridge.weight.data.fill_(weight)
        res = evaluate(m, data, rows, kind)
        out.append(dict(seed=seed, training=training, design=name, regime=regime, **{k:res[k] for k in (*LESS, 'gates', 'map_distance') if k in res}))
    for r in out: r['cpu_seconds'] = round(time.process_time()-t, 1)
    return out


def planned():
    "Trainings in the order of their importance."
    new = [(s, t, r) for s in SEEDS for r in ('few_fe', 'full', 'few_au') for t in ('fe_only', 'au_only', 'taught', 'always') if (t, r) not in SAME]
    old = [(s, 'shift', 'few_fe') for s in SEEDS[:3]]                         # elsewhere it is the same as `taught`
    return new+old+[(s, t, r) for r in ('few_fe', 'full', 'few_au') for s in SEEDS[:3] for t in ('bridge', 'still', 'one', 'rows', 'clips')]


def differences(runs):
    "Paired differences of each design and the single task of the same seed."
    at = {(r['seed'], r['design'], r['regime']):r for r in runs}
    for (s,d,r),run in list(at.items()):
        if r=='full' and d in ALSO: at[s,d,ALSO[d]] = run                       # it does not see what the other lacks
    out = []
    for regime in REGIMES:
        for design in WORDS:
            for score in LESS:
                single = 'fe_only' if score in ('uar', 'war') else 'au_only'
                d = [at[s,design,regime][score]-at[s,single,regime][score] for s in SEEDS if {(s,design,regime), (s,single,regime)}<=at.keys()]
                if len(d)>1: out.append(dict(regime=regime, design=design, against=single, score=score, **mean_ci(d)._asdict()))
    return out


def markdown(kept):
    "The table for people."
    at = {(o['regime'], o['design'], o['score']):o for o in kept['differences']}
    shown = ('au_f1', 'wild_f1', 'uar')
    lines = ['| regime | design | '+' | '.join(f'{SCORES[s]}: difference to the single task' for s in shown)+' |', '|'+'---|'*5]
    cell = lambda o: '–' if o is None else f"{o['mean']:+.3f} ± {o['half']:.3f} ({o['n']}) {verdict(o)}"
    for r in REGIMES:
        lines += [f"| {r} | `{d}`: {w} | "+' | '.join(cell(at.get((r, d, s))) for s in shown)+' |' for d,w in WORDS.items() if any((r, d, s) in at for s in shown)]
    return '\n'.join(['# Designs of the bridge', '', *kept['setting'], '', 'Mean of paired differences ± half of the 95 % interval (Student t, seeds in brackets).', '', *lines, ''])


def kept():
    "Results so far."
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else dict(setting=__doc__.strip().split('\n\n')[:2], designs=WORDS, runs=[])


def keep(rows):
    "Results and one training more."
    with FileLock(load_settings().paths.cache/'study-designs.lock'):
        all_ = kept()
        all_['runs'] += rows
        all_['differences'] = differences(all_['runs'])
        write_json(RESULTS, all_)
        write_text(RESULTS.with_suffix('.md'), markdown(all_))


def main(seconds=1e9):
    torch.set_num_threads(1)
    settings,begun = load_settings(),time.time()
    data = read_all(settings, WORLD)
    is_done = lambda *run: any((r['seed'], r['training'], r['regime'])==run for r in kept()['runs'])
    for seed,training,regime in left(planned(), is_done, settings.paths.cache/'study-designs-claims'):
        if time.time()-begun>seconds: return
        keep(rows := one(data, training, regime, seed))
        for r in rows: print(seed, r['design'], regime, ' '.join(f'{k} {r[k]:.3f}' for k in LESS if k in r), flush=True)


if __name__=='__main__': main(*map(float, sys.argv[1:]))
