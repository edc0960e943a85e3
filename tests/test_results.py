"metrics.json, metrics.csv and report.html of a run: the same numbers and the same caveats in all three"
import csv, json, re
from dataclasses import replace
import numpy as np, pytest
from ssm_nb.evaluation.protocols import AUProtocols, AUTracks, FEPredictions, au_protocols, fe_evaluation
from ssm_nb.labels.facs import LabelSpace, label_space
from ssm_nb.evaluation.results import Results

def tracks(seed, names, space, frames=12):
    rng = np.random.default_rng(seed)
    y = (rng.random((len(names)*frames,space.n_aus))<0.4).astype(float)
    probs = np.clip(0.4*y+0.6*rng.random(y.shape), 0, 1)
    y[:,-1] = np.nan # the last AU is not annotated
    return AUTracks(space, probs, y, np.full(len(names), frames), np.repeat(np.array(names, object), frames), 3, f'seed {seed}', 'bp4d')

def wild(seed, space, n=60):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, space.n_expressions-1, n) # the last class does not occur
    return FEPredictions(space, rng.normal(size=(n,space.n_expressions))+np.eye(space.n_expressions)[labels], labels)

SPACE = label_space('bp4d', 7)
HELD = tracks(1, ['d','e','f'], SPACE)

@pytest.fixture(scope='module', params=['validation','test'])
def results(request):
    return Results(request.param, au_protocols(tracks(0, ['a','b','c'], SPACE), HELD, times=100), fe_evaluation(wild(2, SPACE), times=100),
        dict(disfa=au_protocols(replace(tracks(3, ['x','y'], LabelSpace((1,2,12,4), ('fear',))), dataset='disfa'), HELD, times=100)),
        {'mafw, <all>':fe_evaluation(wild(4, label_space('bp4d', 11)), times=100)})

def written(results, *args):
    "Files by ending"
    return {o.suffix[1:]:o for o in results.write(*args)}

@pytest.fixture(scope='module')
def files(results, tmp_path_factory): return written(results, tmp_path_factory.mktemp('run'), 'BP4D & DFEW', dict(seed=3))

def every_number(results):
    for task,part in results.parts().items():
        by = part.intervals if isinstance(part, AUProtocols) else {'':part.intervals}
        for p,scores in by.items():
            for k,of in scores.items():
                for l,o in of.items(): yield (task,p,l,k),o

def same(x, v): return (x in (None,'') and np.isnan(v)) or float(x)==v

def test_csv_holds_every_number(results, files):
    with open(files['csv'], newline='') as f: rows = list(csv.DictReader(f))
    found = {(r['task'],r['protocol'],r['label'],r['score']):r for r in rows}
    want = dict(every_number(results))
    assert len(rows)==len(found)==len(want) and found.keys()==want.keys()
    for key,o in want.items():
        r = found[key]
        assert same(r['value'], o.value) and same(r['low'], o.low) and same(r['high'], o.high) and int(r['n'])==o.n
        assert (r['over'],r['of'])==(tuple(map(str, o.basis)) if o.basis else ('','')) and r['selection']==results.selection

def test_json_holds_every_number(results, files):
    d = json.loads(files['json'].read_text())
    assert d['selection']==results.selection and d['made']==dict(seed=3) and list(d['protocols'])==['fixed','tuned','oracle']
    for (task,p,l,k),o in every_number(results):
        got = (d[task]['protocols'][p] if p else d[task]['scores'])[k][l]
        assert same(got['value'], o.value) and got['n']==o.n
        assert got['why']==o.why if o.why else same(got['low'], o.low) and same(got['high'], o.high)
        assert (got.get('over'),got.get('of'))==(tuple(o.basis) if o.basis else (None,None))
    assert d['fe']['confusion']==results.fe.scores.confusion.tolist() and d['au']['skipped']==3
    for p,f in results.au.settings.items(): assert d['au']['settings'][p]['threshold']==f.threshold and d['au']['settings'][p]['K']==f.K

def test_page_says_how_it_came_about(results, files):
    html = files['html'].read_text()
    text = re.sub(r'<script.*?</script>', '', html, flags=re.S)
    for word in ('held-out training subjects, then frozen','on the very labels that are reported','3 clips could not be read','Transfer to disfa','Zero-shot mafw, &lt;all&gt;','undefined'): assert word in text, word
    warned = 'Epochs were chosen on the test set' in text
    assert warned==(results.selection=='test')==('(epochs chosen on the test set)</title>' in html)==('<strong>Warning.</strong>' in text)
    assert f"{results.au.intervals['tuned']['f1']['mean'].value:.2f}" in text
    assert not re.search(r'(src|href)="?https?:', text)

def test_unknown_people_are_said(tmp_path):
    r = Results('validation', au_protocols(replace(tracks(0, ['a','b'], SPACE), subjects=None), times=20))
    files = written(r, tmp_path, 'x')
    assert 'rests on 1' in files['html'].read_text() and all(not row['low'] for row in csv.DictReader(files['csv'].open()))
    assert list(json.loads(files['json'].read_text())['au']['protocols'])==['fixed','oracle']

def test_write_replaces_and_leaves_nothing_else(results, tmp_path):
    for _ in range(2): results.write(tmp_path, 'x')
    assert sorted(o.name for o in tmp_path.iterdir())==['metrics.csv','metrics.json','report.html']

def test_nothing_measured():
    with pytest.raises(ValueError, match='nothing was measured'): Results('test')
    with pytest.raises(ValueError, match="'best'; it is one of validation, test"): Results('best', fe=fe_evaluation(wild(0, SPACE), times=10))

def test_every_mean_says_over_how_many(results, files):
    "In the table, in the numbers, on the page; and the same under every protocol"
    means = {(task,k,l):set() for (task,p,l,k),o in every_number(results) if 'mean' in l or k=='uar'}
    for (task,p,l,k),o in every_number(results):
        if (task,k,l) in means: means[task,k,l].add(o.basis)
    assert all(len(o)==1 and None not in o for o in means.values())
    html = files['html'].read_text()
    for words in ('mean of 11 of 12 AUs','mean as released, 11 of 12 AUs','over 6 of 7 expressions','mean F1 as released'): assert words in html, words
