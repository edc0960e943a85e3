"What `make clean` takes out of a notebook, what it leaves, and what the style counts count."
import sys
from copy import deepcopy
from pathlib import Path
import pytest
from fastcore.nbio import mk_cell, new_nb, nb2dict, write_nb

sys.path.insert(0, str(Path(__file__).parents[1]/'.ci'))
import house, notebooks as N

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

def test_a_progress_bar_keeps_its_last_state():
    said = N.slim(dict(output_type='stream', name='stdout', text=['Faces\n', '█\r\r |--| 0 %\r |██| 100 %\n', 'Done\r    \r5 1.8\n', 'as  it \n']))['text']
    assert said==['Faces\n', ' |██| 100 %\n', '5 1.8\n', 'as  it \n']
    assert N.slim(dict(text='a\r\nb'))['text']==['a\n', 'b'] and N.slim(dict(text='plain '))['text']=='plain '
    assert N.last_state('longer line\rshort')=='shortr line'

def figure(*traces): # as a notebook holds it, with a template in full
    import json, plotly.graph_objects as go, plotly.io as pio
    return {N.PLOTLY: json.loads(pio.to_json(go.Figure([*traces], layout=dict(template='plotly_white'))))}

def test_a_template_keeps_what_the_figure_uses():
    "Every default that a figure of these traces could take stays; those of others go"
    import plotly.graph_objects as go
    for trace,subplot in ((go.Scatter(y=[1]), None), (go.Heatmap(z=[[1]]), None), (go.Scatter3d(x=[1], y=[1], z=[1]), 'scene'), (go.Scatterpolar(r=[1]), 'polar')):
        full = figure(trace)[N.PLOTLY]
        kept = N.slim(dict(output_type='display_data', data=figure(trace)))['data'][N.PLOTLY]
        assert kept['data']==full['data'] and [*kept['layout']['template']['data']]==[trace.type]
        assert kept['layout']['template']['data'][trace.type]==full['layout']['template']['data'][trace.type]
        for k,v in full['layout']['template']['layout'].items():
            if k not in ('geo', 'mapbox', 'map', 'polar', 'scene', 'smith', 'ternary') or k==subplot: assert kept['layout']['template']['layout'][k]==v
        assert ('scene' in kept['layout']['template']['layout'])==(subplot is not None)

def test_a_picture_is_drawn_on_white():
    "Figures have no background, so that they fit light and dark pages; their pictures, which are opaque, have a white one"
    import io, shutil, plotly.graph_objects as go
    from base64 import b64decode
    from PIL import Image
    if not any(map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))): pytest.skip('no chromium on this machine')
    pytest.importorskip('kaleido')
    clear = figure(go.Scatter(y=[1, 2]))[N.PLOTLY]
    clear['layout'].update(paper_bgcolor='rgba(0,0,0,0)', plot_bgcolor='rgba(0,0,0,0)')
    drawn = Image.open(io.BytesIO(b64decode(N.png(clear)))).convert('RGB')
    assert {drawn.getpixel(at) for at in ((0, 0), (899, 0), (0, 449), (899, 449))}=={(255, 255, 255)}

# style ---------------------------------------------------------------------------------------------------------------

def test_style_counts(nb, tmp_path):
    "One exported cell of two lines; one cell that asserts; a name that begins with test_ does not; a title of three words"
    write_nb(nb, tmp_path/'a.ipynb')
    assert house.counts(tmp_path/'a.ipynb') == ([2], 1, 4, 3)

def found(tmp_path, *cells):
    write_nb(new_nb([mk_cell(*(c if isinstance(c, tuple) else (c,))) for c in cells]), tmp_path/'a.ipynb')
    return [o for _,o in house.findings(tmp_path/'a.ipynb')]

GOOD = """#| export
def smile(
    au:int=12, # its number
    size:int=224, # pixels
): # nothing
    "Draw a smile"
    print(au, size)"""

def test_a_good_notebook_has_no_findings(tmp_path):
    assert not found(tmp_path, ('AU12 → happiness, `a->b`', 'markdown'), '#| export\nfrom ssm_nb.core.files import plain\nimport re', GOOD, 'assert smile', 'test_eq(1, 1)')

BAD = {
    'columns: break it': f"#| export\nx = '{'a'*140}'",
    'imports stand beside other code': '#| export\nimport re\nx = 1',
    'relative import of core.files': '#| export\nfrom ..core.files import plain',
    'list the names': '#| export\nfrom ssm_nb.core.files import *',
    'ends with a full stop': '#| export\ndef f():\n    "It draws."',
    'has 3 lines': '#| export\ndef f():\n    """It\n\n    draws"""',
    'no type for size': '#| export\ndef f(self, size):\n    "It draws"',
    '4 parameters in one line': '#| export\ndef f(a:int, b:int, c:int, d:int): pass',
    'two parameters in one of several lines': '#| export\ndef f(a:int, b:int, # both\n    c:int, # the third\n): pass',
    'no comment for b': '#| export\ndef f(\n    a:int, # the first\n    b:int,\n): pass',
    'write →': '#| export\nx = 1 # a -> b',
    'add lessons': '#| export\nx = 1',
    'lines in the median': '#| export\n'+'\n'.join(f'x = {i}' for i in range(9)),
    'more than': '#| export\n'+'\n'.join(f'x = {i}' for i in range(23))}

@pytest.mark.parametrize('what', BAD)
def test_style_finds(what, tmp_path):
    assert any(what in o for o in found(tmp_path, BAD[what])), found(tmp_path, BAD[what])

@pytest.mark.parametrize('what,cells', {'91 cells': ['x']*91, '1301 words': [('word '*1301, 'markdown')], 'write →': [('a -> b', 'markdown')]}.items())
def test_style_finds_in_the_whole(what, cells, tmp_path): assert any(what in o for o in found(tmp_path, *cells))

def test_what_a_reader_gets_is_counted(tmp_path):
    "Equations beside code, pictures for a viewer without scripts, words, exercises"
    image,interactive,table = out(**{'image/png': 'a', N.PLOTLY: {}}),out(**{N.PLOTLY: {}}),out(**{'text/html': '<table>'})
    cells = [mk_cell('Two: $$a$$ and\n$$\nb\n$$ and `$$`', 'markdown'), mk_cell('x = 1'), mk_cell('beside $$c$$', 'markdown'), mk_cell('far $$d$$', 'markdown'), mk_cell('', 'markdown'),
             mk_cell('![a drawing](https://a.svg) [![a badge](https://b.svg)](https://c)', 'markdown'), mk_cell('# exercise: one'), mk_cell('print("# exercise: none")')]
    cells[1].outputs = [image, interactive, table, out(**{'image/svg+xml': 'a'}), out(**{'text/html': '<svg>'})]
    write_nb(new_nb(cells), tmp_path/'a.ipynb')
    got = house.course(tmp_path/'a.ipynb')
    assert got==dict(equations=3, pictures=4, words=16, exercises=1), got

@pytest.mark.parametrize('chapter,wanting', [('model', ['no picture', 'fewer than two exercises']), ('data', ['fewer than two exercises']), ('show', [])])
def test_a_notebook_of_the_method_has_a_picture_and_exercises(chapter, wanting, tmp_path):
    (tmp_path/chapter).mkdir()
    f = tmp_path/chapter/'a.ipynb'
    for exercises in ([], [mk_cell('# exercise: one')], [mk_cell('# exercise: one'), mk_cell('# exercise: two')]):
        write_nb(new_nb([mk_cell('x = 1'), *exercises]), f)
        assert [o.split(':')[0] for _,o in house.findings(f)]==[o for o in wanting if len(exercises)<2 or 'exercises' not in o]

def test_the_time_of_each_tutorial_is_printed_and_bounded(capsys):
    assert N.too_long(dict(quick=3.2, slow=1201.))==['slow'] and N.too_long({})==[]
    assert capsys.readouterr().out.split()==['slow', '1201', 's', 'quick', '3', 's']

def test_a_tutorial_that_fails_is_named(tmp_path, monkeypatch, capfd):
    "Two real notebooks, run as CI runs them"
    for name,source in (('fine', 'assert 1+1==2'), ('broken', 'assert 1+1==3')): write_nb(new_nb([mk_cell(source)]), tmp_path/f'{name}.ipynb')
    monkeypatch.setattr(N, 'notebooks', lambda folder: sorted(tmp_path.glob('*.ipynb')))
    assert N.tutorials() is False
    said = capfd.readouterr().out
    assert 'tutorials/broken.ipynb failed' in said and 'fine.ipynb failed' not in said

# citations -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('text', ['[settings](nbs/core/01_settings.ipynb)', '`tests/test_files.py` does it', 'see nbs/core/02_files.ipynb.', 'a [page](https://a.b/c.md)',
    'python -m ssm_nb.runs.commands', '`ssm_nb.core.files.replacing`', 'CHANGELOG.md', 'and/or', '01_settings.ipynb', 'nbs/', 'folds.md'])
def test_what_is_there_may_be_cited(text): assert not [*house.cited(text, N.ROOT)]

@pytest.mark.parametrize('text', ['[settings](nbs/00_settings.ipynb)', f'`{"tests"}/test_nothing.py` does it', 'see nbs/02_files.ipynb.', 'ssm_nb.doctor', '`ssm_nb.core.files.absent`', 'FACS.md',
    '00_settings.ipynb', '[x](../x.md#part)', 'benchmarks/prototypes.py'])
def test_what_is_not_there_is_found(text): assert [*house.cited(text, N.ROOT)]
