"What `make clean` takes out of a notebook, what it leaves, and what the style counts count."
import sys
from copy import deepcopy
from pathlib import Path
import pytest
from fastcore.nbio import mk_cell, new_nb, nb2dict, write_nb

sys.path.insert(0, str(Path(__file__).parents[1]/'.ci'))
import notebooks as N

def out(**data): return dict(output_type='display_data', metadata={}, data=data)

@pytest.fixture
def nb():
    d = nb2dict(new_nb([mk_cell('# a title', 'markdown'), mk_cell('#| export\nx = 1\n\ny = 2'), mk_cell('test_eq(x, 1)\nx'), mk_cell('test_set = x')]))
    d['metadata'] = dict(kernelspec=dict(name='my_env', display_name='Mine', language='python'), widgets=dict(state=dict(a='x'*10**6)), language_info={})
    d['cells'][1].update(execution_count=7, metadata=dict(tags=['x'], scrolled=True), outputs=[
        out(**{N.PLOTLY: dict(data=[]), 'text/html': '<div>'}), out(**{'text/plain': 'a' * 70_000}), out(**{'image/png': 'a' * 70_000}),
        out(**{'image/png': 'a' * 250_000}), out(**{'image/png': 'aaa', 'image/jpeg': 'a'}), out(**{N.WIDGET: {}, 'text/plain': 'Box()'}),
        out(**{'text/plain': '<object at 0x7f00aa>'})])
    return d

def test_clean_drops_what_does_not_belong_into_git(nb):
    before = deepcopy(nb)
    got = N.cleaned(nb)
    assert nb==before, 'the notebook itself was changed'
    assert got['metadata'] == dict(kernelspec=dict(display_name='python3', language='python', name='python3'))
    code = got['cells'][1]
    assert code['execution_count'] is None and code['metadata']=={}
    assert [o['data'] for o in code['outputs']] == [{N.PLOTLY: dict(data=[])}, {'image/png': 'a' * 70_000}, {'image/jpeg': 'a'},
        {'text/plain': 'Box()'}, {'text/plain': '<object>'}]
    assert [(c['id'], c['source']) for c in got['cells']] == [(c['id'], c['source']) for c in before['cells']]

def test_clean_twice_is_clean_once(nb):
    once = N.cleaned(nb)
    assert N.cleaned(once)==once

def test_style_counts(nb, tmp_path):
    "One exported cell of two lines; one cell that asserts; a name that begins with test_ does not."
    write_nb(nb, tmp_path/'a.ipynb')
    assert N.counts(tmp_path/'a.ipynb') == ([2], 1)
