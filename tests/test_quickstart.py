"What `make quickstart` leaves behind; `make test` runs the tutorials first, so the files are there."
import json
import pytest
from ssm_nb.labels.facs import BP4D_AUS
from ssm_nb.core.settings import load_settings

out = load_settings().paths.out
there = pytest.mark.skipif(not (out/'quickstart.json').exists(), reason='no out/quickstart.json: run make quickstart first')
KEYS = {'au_f1_mean','au_f1','uar','war','protocol','seed','seconds','trivial_au_f1','trivial_uar'}


@there
def test_numbers_are_complete_and_better_than_a_guess():
    n = json.loads((out/'quickstart.json').read_text())
    assert KEYS<=set(n) and n['protocol']=='fixed'
    assert list(n['au_f1'])==[f'AU{a}' for a in BP4D_AUS]
    assert abs(sum(n['au_f1'].values())/len(BP4D_AUS)-n['au_f1_mean'])<1e-9
    assert n['au_f1_mean']>max(.6, n['trivial_au_f1']+.2) and n['uar']>.6


@there
@pytest.mark.parametrize('heading', ['Result','Two label sets','Training','One test recording','The learned map','The two gates'])
def test_page_has_every_part(heading):
    assert heading in (out/'quickstart.html').read_text()
