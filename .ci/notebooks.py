"""Keep the notebooks fit for git: `clean` them, `check` that they are clean, count their `style`.

clean   what nbdev-clean does, in nbs/ and tutorials/, and beyond it: no widget state, one kernel name, no HTML twin of a
        Plotly figure, of its template only what the figure uses, no picture both as PNG and as JPEG, no warnings (they
        hold paths of the machine), of a progress bar its last state, no output over 40 kB (200 kB with a picture); a
        large figure keeps its picture only; and nbs/sidebar.yml, the table of contents, and nbs/counts.md
check   name what `clean` would change, figures without a picture, and a course that has grown too large; change nothing
pictures  give each Plotly figure the picture that viewers without scripts show, drawn by a Chromium or Chrome of the system;
        `pictures all` draws them anew
style   the rules of the house (`house.py`), notebook by notebook; `style runs/` looks at some only
tutorials  run each tutorial, print how long it took, and name those that failed or took more than twenty minutes
paths   the paths, links and modules that prose, docstrings and messages cite: each must exist
"""
import re, sys
from copy import deepcopy
from json import dumps, loads
from pathlib import Path
from statistics import median
from fastcore.nbio import nb2str, write_nb
from nbdev.clean import clean_nb
import house

ROOT = Path(__file__).resolve().parents[1]
MAX_OUTPUT, MAX_PICTURE = 40_000, 200_000 # bytes of an output as it stands in the file
MAX_COURSE = 8_000_000                    # bytes of nbs/ and tutorials/
PLOTLY, WIDGET = 'application/vnd.plotly.v1+json', 'application/vnd.jupyter.widget-view+json'

def notebooks(*folders): return [f for d in folders for f in sorted((ROOT/d).rglob('*.ipynb'))]

# clean ------------------------------------------------------------------------------------------------------------

FLAT = {'scatter', 'scattergl', 'bar', 'box', 'violin', 'histogram', 'histogram2d', 'heatmap', 'contour', 'image', 'table', 'pie'}

def used(figure):
    "The template of a Plotly figure, as JSON, without defaults for traces and subplots that the figure has not"
    template = figure['layout']['template']
    kinds = {t.get('type', 'scatter') for f in (figure, *figure.get('frames', [])) for t in f.get('data', [])}
    absent = {'geo', 'mapbox', 'map', 'polar', 'scene', 'smith', 'ternary'} if kinds<=FLAT else set()
    return {k:{n:v for n,v in part.items() if n in kinds} if k=='data' else {n:v for n,v in part.items() if n not in absent} for k,part in template.items()}

def last_state(text):
    "What a terminal shows of `text` at its end: after a carriage return, letters stand over earlier ones"
    def shown(line):
        over = ''
        for part in line.split('\r'): over = part+over[len(part):]
        return over.rstrip(' ') if '\r' in line else over
    return '\n'.join(map(shown, text.replace('\r\n', '\n').split('\n')))

def slim(o):
    "Drop from output `o` what only a live kernel could use, what stands there twice, or what a later letter overwrote"
    if '\r' in (text := ''.join(o.get('text', ''))): o['text'] = last_state(text).splitlines(keepends=True)
    data = o.get('data', {})
    data.pop(WIDGET, None)
    if PLOTLY in data:
        data.pop('text/html', None)
        if 'template' in data[PLOTLY].get('layout', {}): data[PLOTLY]['layout']['template'] = used(data[PLOTLY])
    if 'image/png' in data and len(dumps(data.get(PLOTLY))) > MAX_OUTPUT: del data[PLOTLY] # running the cell brings it back
    pictures = sorted((k for k in ('image/png', 'image/jpeg') if k in data), key=lambda k: len(data[k]))
    for k in pictures[1:]: del data[k]
    return o

def fits(o):
    "Does output `o` belong into git? A figure without a picture stays for `pictures` to draw."
    if PLOTLY in (data := o.get('data', {})) and 'image/png' not in data: return True
    return o.get('name')!='stderr' and len(dumps(o)) <= (MAX_PICTURE if any(k.startswith('image/') for k in o.get('data', {})) else MAX_OUTPUT)

def cleaned(nb):
    "A clean copy of `nb`, a notebook as JSON."
    nb = deepcopy(nb)
    clean_nb(nb)
    nb['metadata'] = dict(kernelspec=dict(display_name='python3', language='python', name='python3'))
    for c in nb['cells']:
        if c['cell_type']=='code': c['outputs'] = [o for o in map(slim, c['outputs']) if fits(o)]
    return nb

def sidebar():
    "The table of contents of the documentation: chapters in the order of the house, as YAML."
    lines = ['# written by `make clean`', 'website:', '  sidebar:', '    contents:', '      - index.ipynb']
    for chapter in house.CHAPTERS:
        files = sorted((ROOT/'nbs'/chapter).glob('*.ipynb'))
        if not files: continue
        lines += [f"      - section: {chapter}{' (skip first)' if chapter in house.SKIP_FIRST else ''}", '        contents:', *(f'          - {chapter}/{f.name}' for f in files)]
    return '\n'.join(lines)+'\n'

def counted():
    "What each notebook gives a reader, as a table in Markdown"
    rows = {f:house.course(f) for f in notebooks('nbs', 'tutorials')}
    columns = [*next(iter(rows.values()))]
    lines = ['# What is in each notebook', '', 'Written by `make clean`. Equations are displayed ones in a cell beside code; pictures are those that a viewer without scripts shows.', '',
             f"| notebook | {' | '.join(columns)} |", '|---|'+'--:|'*len(columns)]
    lines += [f"| {f.parent.name}/{f.stem} | {' | '.join(f'{n:,}' for n in o.values())} |" for f,o in rows.items()]
    return '\n'.join(lines)+'\n'

SIDEBAR,COUNTS = ROOT/'nbs'/'sidebar.yml',ROOT/'nbs'/'counts.md'
WRITTEN = {SIDEBAR: sidebar, COUNTS: counted} # files that follow from the notebooks

def clean():
    for f in notebooks('nbs', 'tutorials'): write_nb(cleaned(loads(f.read_text(encoding='utf-8'))), f)
    for f,text in WRITTEN.items(): f.write_text(text(), encoding='utf-8')

# pictures ---------------------------------------------------------------------------------------------------------

def figures(nb):
    "The outputs of notebook `nb` that are Plotly figures"
    return [o['data'] for c in nb['cells'] for o in c.get('outputs', []) if PLOTLY in o.get('data', {})]

def pictureless():
    "Notebooks with a figure that has no picture"
    return [f for f in notebooks('nbs', 'tutorials') if any('image/png' not in d for d in figures(loads(f.read_text(encoding='utf-8'))))]

def png(figure, width=900):
    "A Plotly figure, as JSON, drawn on white where it is transparent: base64 of a PNG with 64 colours"
    import kaleido, plotly.graph_objects as go
    from base64 import b64encode
    from io import BytesIO
    from PIL import Image
    fig = go.Figure(data=figure['data'], layout=figure['layout'], frames=figure.get('frames'), skip_invalid=True)
    size = dict(width=fig.layout.width or width, height=fig.layout.height or 450, scale=1)
    drawn = Image.open(BytesIO(kaleido.calc_fig_sync(fig, opts=dict(format='png', **size)))).convert('RGBA')
    drawn = Image.alpha_composite(Image.new('RGBA', drawn.size, 'white'), drawn).convert('RGB')
    small = BytesIO()
    drawn.quantize(64, dither=Image.Dither.NONE).save(small, 'PNG', optimize=True)
    return b64encode(small.getvalue()).decode()

def pictures(which='missing'):
    "Draw the pictures that are missing, or `all` of them anew"
    todo = notebooks('nbs', 'tutorials') if which=='all' else pictureless()
    if not todo: return
    import kaleido
    kaleido.start_sync_server()
    for f in todo:
        nb = loads(f.read_text(encoding='utf-8'))
        for data in figures(nb):
            if which=='all' or 'image/png' not in data: data['image/png'] = png(data[PLOTLY])
        write_nb(cleaned(nb), f)
        print(f'drawn: {f.relative_to(ROOT)}')
    kaleido.stop_sync_server()

def size(): return sum(f.stat().st_size for d in ('nbs', 'tutorials') for f in (ROOT/d).rglob('*') if f.is_file() and '.ipynb_checkpoints' not in f.parts)

def check():
    if large := size()>MAX_COURSE: print(f'nbs/ and tutorials/ have {size():,} bytes, {MAX_COURSE:,} are the limit: smaller or fewer figures')
    for f in pictureless(): print(f'a figure without a picture: {f.relative_to(ROOT)}')
    dirty = [f for f in notebooks('nbs', 'tutorials') if (t := f.read_text(encoding='utf-8')) != nb2str(cleaned(loads(t)))]
    dirty += [f for f,text in WRITTEN.items() if not f.exists() or f.read_text(encoding='utf-8')!=text()]
    for f in dirty: print(f'not clean: {f.relative_to(ROOT)}')
    return not (large or dirty or pictureless())

# style ------------------------------------------------------------------------------------------------------------

def style(only=''):
    "Print the counts of each notebook and all findings; of all notebooks, or of those with `only` in their path"
    found = [f for f in notebooks('nbs') if house.counts(f)[0] and only in str(f.relative_to(ROOT))]
    print(f"{'':28}{'cells':>6}{'words':>7}{'exported':>9}{'asserts':>8}{'ratio':>7}{'median':>7}{'p90':>6}{'to do':>6}")
    wrong = {f:[*house.findings(f)] for f in found}
    for f in found:
        lines,asserts,cells,words = house.counts(f)
        name = f'{f.parent.name}/{f.stem}'
        print(f'{name:28}{cells:6}{words:7}{len(lines):9}{asserts:8}{asserts/len(lines):7.2f}{median(lines):7.1f}{house.p90(lines):6.1f}{len(wrong[f]):6}')
    for f,os in wrong.items():
        for cell,o in os: print(f"{f.relative_to(ROOT)}{f' [{cell}]' if cell else ''}: {o}")
    print(f"{sum(map(len, wrong.values()))} findings in {sum(map(bool, wrong.values()))} of {len(found)} notebooks")
    return not any(wrong.values())

MAX_MINUTES = 20 # of a tutorial, on two cores

def too_long(seconds, most=60*MAX_MINUTES):
    "Of the seconds that each tutorial took, those beyond the limit; all are printed, the longest first"
    for name,t in sorted(seconds.items(), key=lambda o: -o[1]): print(f'{name:40}{t:6.0f} s')
    return [name for name,t in seconds.items() if t>most]

def tutorials():
    "Run every tutorial, one after the other"
    from nbdev.config import get_config
    from nbdev.test import test_nb
    config = get_config(ROOT)
    flags = config.tst_flags.split() if isinstance(config.tst_flags, str) else config.tst_flags
    ran = {f.stem:test_nb(f, flags, do_print=True, basepath=ROOT, verbose=True, cell_timeout=60*MAX_MINUTES) for f in notebooks('tutorials')}
    failed,slow = [name for name,(passed,_) in ran.items() if not passed],too_long({name:t for name,(_,t) in ran.items()})
    for name in failed: print(f'tutorials/{name}.ipynb failed, see above')
    for name in slow: print(f'tutorials/{name}.ipynb took more than {MAX_MINUTES} minutes: fewer or smaller steps')
    return not (failed or slow)

def paths():
    "Print every path, link and module that prose cites and that is not there"
    wrong = [*house.citations()]
    for f,cell,o in wrong: print(f"{f}{f' [{cell}]' if cell else ''}: {o}")
    return not wrong

if __name__=='__main__':
    cmds = dict(clean=clean, check=check, pictures=pictures, style=style, paths=paths, tutorials=tutorials)
    if len(sys.argv)<2 or sys.argv[1] not in cmds: sys.exit(f'usage: notebooks.py {"|".join(cmds)}')
    if cmds[sys.argv[1]](*sys.argv[2:]) is False: sys.exit(1)
