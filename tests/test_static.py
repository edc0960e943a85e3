"Every notebook in a viewer that runs no scripts: each figure is there as a picture"
import logging, re, sys
from copy import deepcopy
from pathlib import Path
import nbformat, pytest
from nbconvert import HTMLExporter

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT/'.ci'))
import house, notebooks as N

EXPORTER = HTMLExporter(template_name='basic', log=logging.getLogger('quiet'))
EXPORTER.log.setLevel(logging.CRITICAL) # it misses alternative texts
FILES = N.notebooks('nbs', 'tutorials')

def shown(nb):
    "A notebook as HTML without scripts, and how many pictures that has; its code, whose colours take long, is left out"
    nb = deepcopy(nb)
    for c in nb.cells:
        if c.cell_type=='code': c.source = ''
    html = re.sub(r'<script.*?</script>', '', EXPORTER.from_notebook_node(nb)[0], flags=re.S)
    badges = r'<a [^>]*><img [^>]*></a>' # of Colab
    return html,len(re.findall(r'<img\b|<svg\b', re.sub(badges, '', html)))

@pytest.mark.parametrize('file', FILES, ids=lambda f: f'{f.parent.name}/{f.stem}')
def test_every_figure_shows(file):
    nb = nbformat.read(file, 4)
    html,n = shown(nb)
    outputs = [o.get('data', {}) for c in nb.cells if c.cell_type=='code' for o in c.outputs]
    figures = [d for d in outputs if N.PLOTLY in d or any(k.startswith('image/') for k in d)]
    for d in figures:
        picture = next((k for k in ('image/svg+xml', 'image/png', 'image/jpeg') if k in d), None)
        assert picture, 'a figure without a picture: make pictures'
        assert picture=='image/svg+xml' or ''.join(d[picture]).replace('\n', '')[:400] in html.replace('\n', '')
    assert n==house.course(file)['pictures']>=len(figures)

def test_a_figure_that_needs_scripts_does_not_show():
    "What the test above rests on"
    from nbformat.v4 import new_code_cell, new_notebook, new_output
    cell = lambda **data: new_code_cell('1', outputs=[new_output('display_data', data=data)])
    count = lambda **data: shown(new_notebook(cells=[cell(**data)]))[1]
    assert count(**{N.PLOTLY: dict(data=[], layout={})})==0
    assert count(**{N.PLOTLY: dict(data=[], layout={}), 'image/png': 'iVBORw0KGgo='})==1
    assert count(**{'text/html': '<div id="a"></div><script>document.write("<img src=a>")</script>'})==0
    assert count(**{'image/svg+xml': '<svg xmlns="http://www.w3.org/2000/svg"></svg>'})==1
