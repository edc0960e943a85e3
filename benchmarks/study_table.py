"""What the stored study says: paired differences of variants, with 95 % intervals over seeds (Student t) and over people or clips (bootstrap).

Prose that cites a difference names its place behind the number, `+0.103 ± 0.017<!-- study full ssm_bridge-au_only wild_f1 gains -->`, and gets the
number from here; whether the word (gains, loses, …) still holds is tested.

Run: python benchmarks/study_table.py    (reads and completes results/study.json, writes results/study.md and the numbers in the notebooks' prose)
"""
import json, re
from collections import Counter
from pathlib import Path
from ssm_nb.core.files import write_json, write_text
from ssm_nb.evaluation.bootstrap import mean_ci
from ssm_nb.runs.study import COUNTED, people_interval

ROOT = Path(__file__).parents[1]
RESULTS = ROOT/'benchmarks'/'results'/'study.json'
PAIRS = ('shared-au_only', 'shared-fe_only', 'ssm-au_only', 'ssm-fe_only', 'no_exchange-shared', 'ssm-shared', 'fixed_prior-no_exchange', 'ssm-no_exchange', 'ssm-fixed_prior',
         'ssm-au2fe_only', 'ssm-fe2au_only', 'ssm_uniform-ssm', 'ssm_shuffled-ssm', 'ssm_bridge-au_only', 'ssm_bridge-fe_only', 'ssm_bridge-ssm', 'ssm_bridge-shared',
         'bridge_uniform-ssm_bridge', 'bridge_shuffled-ssm_bridge')
SCORES = dict(au_f1='AU F1, laboratory', au_auc='AU AUC, laboratory', wild_f1='AU F1, wild', wild_auc='AU AUC, wild', uar='UAR', war='WAR')
ALSO = dict(au_only='few_fe', fe_only='few_au')                               # a single task's run of `full` is also that of this regime


def over_units(both, score):
    "95 % interval of the mean difference when each seed's test people (AU) or clips (expressions) are drawn again; {} where a score has no such unit."
    kind = dict(au_f1='au_counts', wild_f1='wild_counts', uar='right').get(score)
    if kind is None: return {}
    units = lambda r: r[kind] if score!='uar' else [r[kind][k] for k in sorted(r[kind])]
    name = dict(au_f1='AU F1', wild_f1='wild AU F1', uar='UAR')[score]
    return people_interval([tuple({COUNTED[name]:units(r)} for r in pair) for pair in both], name)


def differences(runs):
    "One row a regime, pair and score."
    at,out = {(r['seed'], r['variant'], r['regime']):r for r in runs},[]
    for (s,v,r),run in list(at.items()):
        if r=='full' and v in ALSO: at[s,v,ALSO[v]] = run
    for regime in ('full', 'few_au', 'few_fe'):
        for pair in PAIRS:
            a,b = pair.split('-')
            both = [(at[s,a,regime], at[s,b,regime]) for s in sorted({s for s,*_ in at}) if {(s,a,regime), (s,b,regime)}<=at.keys()]
            for score in SCORES:
                d = [x[score]-y[score] for x,y in both if score in x and score in y]
                if len(d)<2: continue
                out.append(dict(regime=regime, pair=pair, score=score, **mean_ci(d)._asdict(), **over_units(both, score)))
    return out


def levels(runs):
    "Mean and interval of each variant's own scores."
    groups = {}
    for r in runs: groups.setdefault((r['regime'], r['variant']), []).append(r)
    return [dict(regime=r, variant=v, n=len(rows), **{s:mean_ci([o[s] for o in rows])._asdict() for s in (*SCORES, 'map_distance') if s in rows[0]}) for (r,v),rows in groups.items()]


def verdict(row):
    "One word: what the interval over seeds allows to say."
    low,high = row['mean']-row['half'],row['mean']+row['half']
    return 'gains' if low>0 else 'loses' if high<0 else 'no loss above .01' if low>-.01 else 'open'


def made_on(runs):
    "A sentence on the processors of the runs; those of old runs were not recorded."
    names = Counter(r.get('processor', 'a processor that was not recorded') for r in runs)
    return 'Made on '+', '.join(f'{name} ({n} runs)' for name,n in names.items())+'.'


def markdown(kept):
    "The table for people."
    part = lambda o,s: '–' if s not in o else f"{o[s]['mean']:.3f}"+(f" ± {o[s]['half']:.3f}" if o[s]['half']==o[s]['half'] else '')
    head = '| regime | variant | seeds | '+' | '.join(SCORES.values())+' | map to truth |'
    rows = [head, '|'+'---|'*(len(SCORES)+4)]+[f"| {o['regime']} | {o['variant']} | {o['n']} | "+' | '.join(part(o, s) for s in (*SCORES, 'map_distance'))+' |' for o in kept['levels']]
    diff = ['| regime | pair | score | difference ± (seeds) | over people or clips | seeds | |', '|---|---|---|---|---|---|---|']
    for o in kept['differences']:
        over = f"{o['low']:+.3f} … {o['high']:+.3f}" if 'low' in o else ''
        diff.append(f"| {o['regime']} | {o['pair'].replace('-', ' − ')} | {SCORES[o['score']]} | {o['mean']:+.3f} ± {o['half']:.3f} | {over} | {o['n']} | {verdict(o)} |")
    return '\n'.join(['# The study', '', *kept['setting'], '', f"{len(kept['runs'])} runs. 95 % intervals. {made_on(kept['runs'])}", '', *rows, '', *diff, ''])


CITED = re.compile(r'([+-]\d\.\d+)( ± \d\.\d+)?(\s*<!-- study (\S+) (\S+) (\S+?)(?: ([^>]+?))? -->)')


def cited(text, kept):
    "The text with the numbers of the study."
    at = {(o['regime'], o['pair'], o['score']):o for o in kept['differences']}
    def number(m):
        o = at[m[4],m[5],m[6]]
        return f"{o['mean']:+.3f}"+f" ± {o['half']:.3f}"*bool(m[2])+m[3]
    return CITED.sub(number, text)


def prose():
    "Files whose prose may cite the study."
    return [*sorted((ROOT/'nbs').rglob('*.ipynb')), *sorted((ROOT/'tutorials').glob('*.ipynb')), ROOT/'README.md']


def main():
    kept = json.loads(RESULTS.read_text())
    kept['runs'].sort(key=lambda r: (r['seed'], r['regime'], r['variant']))
    kept |= dict(levels=levels(kept['runs']), differences=differences(kept['runs']))
    write_json(RESULTS, kept)
    write_text(RESULTS.with_suffix('.md'), markdown(kept))
    for f in prose():
        text = f.read_text(encoding='utf-8')
        if (new := cited(text, kept))!=text: write_text(f, new)


if __name__=='__main__': main()
