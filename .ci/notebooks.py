"""Keep the notebooks fit for git: `clean` them, `check` that they are clean, count their `style`.

clean   what nbdev-clean does, in nbs/ and tutorials/, and beyond it: no widget state, one kernel name, no HTML twin of a
        Plotly figure, no picture both as PNG and as JPEG, no warnings (they hold paths of the machine), no output over
        60 kB (200 kB with a picture)
check   name what `clean` would change, and change nothing
style   the house numbers over nbs/: assert cells per exported cell, lines per exported cell
"""
import re, sys
from copy import deepcopy
from json import dumps, loads
from pathlib import Path
from statistics import median, quantiles
import fastcore.test
from fastcore.nbio import nb2str, read_nb, write_nb
from nbdev.clean import clean_nb

ROOT = Path(__file__).resolve().parents[1]
MAX_OUTPUT, MAX_PICTURE = 60_000, 200_000 # bytes of an output as it stands in the file
PLOTLY, WIDGET = 'application/vnd.plotly.v1+json', 'application/vnd.jupyter.widget-view+json'
MIN_ASSERTS, MAX_MEDIAN, MAX_P90 = 0.9, 8, 22 # of the house style

def notebooks(*folders): return [f for d in folders for f in sorted((ROOT/d).rglob('*.ipynb'))]

# clean ------------------------------------------------------------------------------------------------------------

def slim(o):
    "Drop from output `o` what only a live kernel could use, or what stands there twice."
    data = o.get('data', {})
    data.pop(WIDGET, None)
    if PLOTLY in data: data.pop('text/html', None)
    pictures = sorted((k for k in ('image/png', 'image/jpeg') if k in data), key=lambda k: len(data[k]))
    for k in pictures[1:]: del data[k]
    return o

def fits(o):
    "Does output `o` belong into git?"
    return o.get('name')!='stderr' and len(dumps(o)) <= (MAX_PICTURE if any(k.startswith('image/') for k in o.get('data', {})) else MAX_OUTPUT)

def cleaned(nb):
    "A clean copy of `nb`, a notebook as JSON."
    nb = deepcopy(nb)
    clean_nb(nb)
    nb['metadata'] = dict(kernelspec=dict(display_name='python3', language='python', name='python3'))
    for c in nb['cells']:
        if c['cell_type']=='code': c['outputs'] = [o for o in map(slim, c['outputs']) if fits(o)]
    return nb

def clean():
    for f in notebooks('nbs', 'tutorials'): write_nb(cleaned(loads(f.read_text(encoding='utf-8'))), f)

def check():
    dirty = [f for f in notebooks('nbs', 'tutorials') if (t := f.read_text(encoding='utf-8')) != nb2str(cleaned(loads(t)))]
    for f in dirty: print(f'not clean: {f.relative_to(ROOT)}')
    return not dirty

# style ------------------------------------------------------------------------------------------------------------

TESTS = [o for o in fastcore.test.__all__ if o.startswith('test')] + ['expect_fail', r'assert_\w+']
ASSERTION = re.compile(rf"^\s*assert\b|\b({'|'.join(TESTS)})\(", re.M)

def exported(c): return bool({'export', 'exporti', 'exports'} & c.directives.keys())

def code_lines(c): return len([l for l in c.source.splitlines() if l.strip() and not l.startswith('#|')])

def counts(f):
    "Lines of each exported cell of notebook `f`, and its number of assert cells."
    code = [c for c in read_nb(f).cells if c.cell_type=='code']
    return ([code_lines(c) for c in code if exported(c)],
            sum(bool(ASSERTION.search(c.source)) for c in code if not exported(c)))

def p90(ns): return quantiles(ns, n=10, method='inclusive')[-1] if len(ns)>1 else ns[0]

def row(name, lines, asserts):
    ratio,mid,high = asserts/len(lines), median(lines), p90(lines)
    print(f'{name:24}{len(lines):9}{asserts:9}{ratio:9.2f}{mid:8.1f}{high:8.1f}')
    return ratio>=MIN_ASSERTS, mid<=MAX_MEDIAN, high<=MAX_P90

def style():
    print(f"{'':24}{'exported':>9}{'asserts':>9}{'ratio':>9}{'median':>8}{'p90':>8}")
    found = {f'{f.parent.name}/{f.stem}':n for f in notebooks('nbs') if (n := counts(f))[0]}
    for k,n in found.items(): row(k, *n)
    ok = row('all', [l for ls,_ in found.values() for l in ls], sum(a for _,a in found.values()))
    limits = f'assert cells per exported cell >= {MIN_ASSERTS}', f'median lines <= {MAX_MEDIAN}', f'90th percentile <= {MAX_P90}'
    for good,limit in zip(ok, limits): print('ok  ' if good else 'NOT ', limit)
    return all(ok)

if __name__=='__main__':
    cmds = dict(clean=clean, check=check, style=style)
    if len(sys.argv)!=2 or sys.argv[1] not in cmds: sys.exit(f'usage: notebooks.py {"|".join(cmds)}')
    if cmds[sys.argv[1]]() is False: sys.exit(1)
