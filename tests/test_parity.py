"The parity report: its numbers are those of today, and the comparison sees what is wrong"
import json
from dataclasses import asdict, replace
from pathlib import Path
import pytest, torch
from ssm_nb.training import parity as P, reference as R, rules as W

ROOT = Path(__file__).parents[1]
FILE = json.loads((ROOT/'benchmarks'/'results'/'parity.json').read_text(encoding='utf-8'))


@pytest.fixture(scope='module')
def checks(): return P.parity_checks(R.reference_folder(ROOT))


def test_the_committed_numbers_are_those_of_today(checks):
    assert P.stale(FILE['checks'], checks)==[], 'make it anew: ssm-parity'
    assert FILE['departures']==[asdict(d) for d in P.DEPARTURES]


def test_everything_is_within_its_tolerance(checks): assert [c for c in checks if not c.ok]==[]


def test_every_part_of_the_method_is_compared(checks):
    assert {c.part for c in checks}=={*P.PARITY_PARTS} and len(checks)>=45
    words = ' '.join(c.rule for c in checks)
    for what in ('experts', 'head', 'pairs of frames', 'prior', 'map_fe2au', 'text_features', 'ramp', 'one λ', 'learning rates', 'crop', 'turned', 'UAR', 'F1', 'oracle'): assert what in words, what


@pytest.mark.parametrize('change', [dict(worst=.5), dict(tolerance=7.), dict(rule='another rule'), dict(ours='`another`')], ids=str)
def test_a_changed_number_or_word_is_stale(checks, change):
    c = next(c for c in checks if c.tolerance)
    assert P.stale(FILE['checks'], [replace(o, **change) if o is c else o for o in checks])


def test_other_crops_ramps_and_draws_are_seen(monkeypatch):
    "The rules written out fail for what the package did before it followed the release"
    preset = W.PRESETS['bp4d_dfew']
    monkeypatch.setattr(W, 'AUGMENTATIONS', dict(W.AUGMENTATIONS, dfew=replace(W.AUGMENTATIONS['dfew'], aspect='log')))
    assert not W.crop_check().ok
    monkeypatch.setattr(W, 'PRESETS', dict(bp4d_dfew=replace(preset, ramp_pace=preset.epochs/2, lam_of='clip')))
    assert not W.ramp_check().ok and not W.mixup_checks()[0].ok and not W.constants_check().ok


def test_the_buffer_without_neutral_is_seen(monkeypatch):
    "A reader that takes the stored column sums for the mass without neutral fails the map, and only what depends on it"
    folder = R.reference_folder(ROOT)
    stored,state = R.released_model('ssm_bp4d_dfew_seed11', folder)
    wrong = dict(state, row_targets_emo2au=state['row_targets_emo2au']-torch.tensor(stored['prior'][2]))
    monkeypatch.setattr(R, 'released_model', lambda name, folder: (stored, wrong))
    try: bad = [c.rule for c in R.model_checks('ssm_bp4d_dfew_seed11', folder) if not c.ok]
    except ValueError as e: bad = [str(e)] # refused outright is as good
    assert bad


def test_the_command_writes_page_and_says_what_is_stale(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(P, 'parity_checks', lambda folder: [R.Check('recipe', 'a rule', 'ours', 2., 1.), *(R.Check(p, p, 'ours', 0., 0.) for p in P.PARITY_PARTS)])
    monkeypatch.chdir(ROOT)
    assert P.parity_command(['--check', '--page', str(tmp_path/'page.html')])==1
    printed = capsys.readouterr().out
    assert 'outside its tolerance: a rule' in printed and 'stale: a rule: not in the file' in printed
    assert '<td>NO</td>' in (tmp_path/'page.html').read_text()
