"""What tutorials, lessons and the README say of the study stands in the study.

A number is followed by its source, which readers of the page do not see: `+0.103 ± 0.017<!-- study full ssm_bridge-au_only wild_f1 gains -->`: regime,
pair, score, and the word for what may be said of it, if the sentence rests on that. The tables that the numbers come from are those of the stored runs.
"""
import json, sys
from pathlib import Path
import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT/'benchmarks'))
import study_table

STUDY = json.loads((ROOT/'benchmarks'/'results'/'study.json').read_text(encoding='utf-8'))
AT = {(o['regime'], o['pair'], o['score']):o for o in STUDY['differences']}

def texts():
    "Prose of all notebooks, and the README."
    yield 'README.md',(ROOT/'README.md').read_text(encoding='utf-8')
    for f in sorted([*(ROOT/'nbs').rglob('*.ipynb'), *(ROOT/'tutorials').glob('*.ipynb')]):
        cells = json.loads(f.read_text(encoding='utf-8'))['cells']
        yield f.relative_to(ROOT).as_posix(),'\n'.join(''.join(c['source']) for c in cells if c['cell_type']=='markdown')


CITATIONS = [pytest.param(m[1], m[2], *m.groups()[3:], id=f'{name}: {m[4]} {m[5]} {m[6]}') for name,text in texts() for m in study_table.CITED.finditer(text)]


@pytest.mark.parametrize('mean,half,regime,pair,score,word', CITATIONS)
def test_a_number_is_that_of_the_study(mean, half, regime, pair, score, word):
    o = AT[regime, pair, score]
    assert mean==f"{o['mean']:+.3f}" and half in (None, f" ± {o['half']:.3f}")
    assert word in (None, study_table.verdict(o))


def test_every_source_is_read():
    "A source that the pattern does not match would not be tested."
    assert CITATIONS and len(CITATIONS)==sum(text.count('<!-- study ') for _,text in texts())


@pytest.mark.parametrize('low,high,word', [(.01, .03, 'gains'), (-.03, -.01, 'loses'), (-.009, .02, 'no loss above .01'), (-.02, .02, 'open')])
def test_the_words(low, high, word): assert study_table.verdict(dict(mean=(low+high)/2, half=(high-low)/2))==word


def test_differences_by_hand():
    "One pair with plain Python; `au_only` of `full` stands for `few_fe`, whose laboratory is the same."
    of = lambda v,r: {o['seed']:o['wild_f1'] for o in STUDY['runs'] if (o['variant'], o['regime'])==(v, r)}
    for regime,single in (('full', 'full'), ('few_au', 'few_au'), ('few_fe', 'full')):
        a,b = of('ssm_bridge', regime),of('au_only', single)
        d = [a[s]-b[s] for s in sorted(a.keys()&b.keys())]
        n,mean = len(d),sum(d)/len(d)
        half = {5:2.776445, 30:2.045230}[n]*(sum((o-mean)**2 for o in d)/(n-1)/n)**.5
        o = AT[regime, 'ssm_bridge-au_only', 'wild_f1']
        assert (o['n'], round(o['mean'], 9), round(o['half'], 5))==(n, round(mean, 9), round(half, 5))


def test_the_tables_are_of_the_stored_runs():
    "Written by hand, or left over from fewer runs? Then this says so."
    assert study_table.differences(STUDY['runs'])==STUDY['differences']
    assert (ROOT/'benchmarks'/'results'/'study.md').read_text(encoding='utf-8')==study_table.markdown(STUDY)


def test_the_tables_of_the_designs_are_of_the_stored_runs():
    import study_designs
    kept = study_designs.kept()
    assert study_designs.differences(kept['runs'])==kept['differences'] and len({o['design'] for o in kept['differences']})>=5
    assert study_designs.RESULTS.with_suffix('.md').read_text(encoding='utf-8')==study_designs.markdown(kept)
