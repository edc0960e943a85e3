"""The house style, notebook by notebook, and what prose cites.

Every finding names the notebook, the cell and what to do. `python .ci/notebooks.py style` prints them.
"""
import ast, io, re, tokenize
from pathlib import Path
from statistics import median, quantiles
import fastcore.test
from fastcore.nbio import read_nb

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = ('core', 'labels', 'model', 'show', 'data', 'faces', 'evaluation', 'training', 'runs', 'explore') # the order of the house
SKIP_FIRST = 'core', 'show'                    # a first reader leaves these out
MIN_ASSERTS, MAX_MEDIAN, MAX_P90 = 0.9, 8, 22  # of a notebook: assert cells per exported cell, lines of exported cells
MAX_CELLS, MAX_WORDS, MAX_COLUMNS = 90, 1300, 140
MAX_PARAMS = 3                                 # that may stand in one line without comments
TESTS = [o for o in fastcore.test.__all__ if o.startswith('test')] + ['expect_fail', r'assert_\w+']
ASSERTION = re.compile(rf"^\s*assert\b|\b({'|'.join(TESTS)})\(", re.M)

def exported(c): return c.cell_type=='code' and bool({'export', 'exporti', 'exports'} & c.directives.keys())

def parameter_lines(source):
    "Numbers of the lines that hold nothing but a parameter of a function and its comment"
    found = set()
    for n in ast.walk(ast.parse(source)):
        if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min((a.lineno for a in (*n.args.posonlyargs, *n.args.args, *n.args.kwonlyargs)), default=n.lineno)
            found |= {*range(max(first, n.lineno+1), n.body[0].lineno)}
    return found

def code_lines(c):
    "Lines of a cell to follow: neither blank, nor directives, nor the parameters that the style wants one a line"
    skip = parameter_lines(c.source) if exported(c) else ()
    return len([l for n,l in enumerate(c.source.splitlines(), 1) if l.strip() and not l.startswith('#|') and n not in skip])

def counts(f):
    "Lines of each exported cell of notebook `f`, its number of assert cells, all its cells, the words of its prose"
    cells = read_nb(f).cells
    code = [c for c in cells if c.cell_type=='code']
    words = sum(len(c.source.split()) for c in cells if c.cell_type=='markdown')
    return ([code_lines(c) for c in code if exported(c)],
            sum(bool(ASSERTION.search(c.source)) for c in code if not exported(c)), len(cells), words)

DISPLAY = re.compile(r'\$\$.+?\$\$', re.S)
PICTURE = re.compile(r'<svg|<img|!\[[^\]]*\]\(')
METHOD = 'labels', 'model' # chapters whose notebooks each have a picture
EXERCISED = *METHOD, 'data', 'evaluation' # chapters whose notebooks each have two exercises

def pictures(outputs):
    "How many outputs of a cell are pictures for a viewer without scripts"
    def is_picture(data): return any(k.startswith('image/') for k in data) or bool(PICTURE.search(''.join(data.get('text/html', ''))))
    return sum(is_picture(o.get('data', {})) for o in outputs)

def course(f):
    "What notebook `f` gives a reader: display equations beside code, pictures, words, exercises"
    cells = [c for c in read_nb(f).cells if c.source.strip()]
    kinds = [c.cell_type for c in cells]
    beside = [c for i,c in enumerate(cells) if c.cell_type=='markdown' and 'code' in kinds[max(0, i-1):i+2]]
    prose = [plain_text(c.source) for c in cells if c.cell_type=='markdown']
    return dict(equations=sum(len(DISPLAY.findall(plain_text(c.source))) for c in beside),
                pictures=sum(pictures(c.outputs) for c in cells if c.cell_type=='code')+sum(len(PICTURE.findall(re.sub(r'\[!\[.*?\)\]\(', '', o))) for o in prose),
                words=sum(len(c.source.split()) for c in cells if c.cell_type=='markdown'),
                exercises=sum(c.cell_type=='code' and c.source.startswith('# exercise:') for c in cells))

def p90(ns): return quantiles(ns, n=10, method='inclusive')[-1] if len(ns)>1 else ns[0]

# rules for a cell: each yields what is wrong and how to mend it ------------------------------------------------------

def long_lines(c):
    for n,l in enumerate(c.source.splitlines(), 1):
        if len(l)>MAX_COLUMNS: yield f'line {n} has {len(l)} columns: break it, {MAX_COLUMNS} are the limit'

def imports(c):
    "Import cells hold only imports; absolute, each name listed"
    tree = ast.parse(c.source)
    is_import = lambda n: isinstance(n, (ast.Import, ast.ImportFrom)) or isinstance(n, ast.Try) and all(is_import(o) for o in n.body)
    kinds = {bool(is_import(n)) for n in tree.body}
    if kinds=={True, False}: yield 'imports stand beside other code: give them a cell of their own'
    for n in ast.walk(tree):
        if not isinstance(n, ast.ImportFrom): continue
        if n.level: yield f"relative import of {n.module or '.'}: write it out, `from ssm_nb.…`"
        if any(o.name=='*' for o in n.names): yield f'`from {n.module} import *`: list the names'

def functions(c): return [n for n in ast.walk(ast.parse(c.source)) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]

def docstrings(c):
    "One line, no full stop at its end"
    for n in [*functions(c), *(n for n in ast.walk(ast.parse(c.source)) if isinstance(n, ast.ClassDef))]:
        doc = ast.get_docstring(n)
        if doc is None: continue
        if '\n' in doc.strip(): yield f'the docstring of {n.name} has {len(doc.strip().splitlines())} lines: one, and the rest in markdown'
        elif doc.rstrip().endswith('.') and not doc.rstrip().endswith('..'): yield f'the docstring of {n.name} ends with a full stop: leave it out'

def is_public(n, patched_private=False): return not n.name.startswith('_') or n.name=='__init__'

def in_private_class(c): return {id(f) for n in ast.walk(ast.parse(c.source)) if isinstance(n, ast.ClassDef) and n.name.startswith('_') for f in ast.walk(n)}

def parameters(n):
    "Parameters that a caller gives: neither self or cls, nor *args and **kwargs"
    args = [*n.args.posonlyargs, *n.args.args, *n.args.kwonlyargs]
    return [a for i,a in enumerate(args) if not (i==0 and a.arg in ('self', 'cls', 'ctx'))]

def signatures(c):
    "Parameters of public functions have types; where more than fit, one a line with a comment"
    tree,lines = ast.parse(c.source),c.source.splitlines()
    private = {id(f) for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name.startswith('_') for f in ast.walk(n)}
    inner = {id(f) for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) for f in ast.walk(n) if f is not n}
    for n in ast.walk(tree):
        if not isinstance(n, ast.FunctionDef) or id(n) in private|inner or not is_public(n): continue
        params = parameters(n)
        untyped = [a.arg for a in params if a.annotation is None]
        if untyped: yield f"{n.name}: no type for {', '.join(untyped)}"
        at = [a.lineno for a in params]
        spread = len(set(at))>1
        if len(params)>MAX_PARAMS and not spread: yield f'{n.name} has {len(params)} parameters in one line: one a line, each with a comment'
        if spread and len(set(at))<len(at): yield f'{n.name} has two parameters in one of several lines: one a line'
        elif spread and (bare := [a.arg for a in params if '#' not in lines[a.lineno-1]]): yield f"{n.name}: no comment for {', '.join(bare)}"

def comments(source):
    "The comments of a cell"
    try: return [t.string for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type==tokenize.COMMENT]
    except (tokenize.TokenError, IndentationError, SyntaxError): return []

def plain_text(source):
    "Markdown without code"
    return re.sub(r'`[^`\n]*`', '', re.sub(r'```.*?```', '', source, flags=re.S))

def arrows(c):
    "One form of an arrow, in prose, comments and docstrings: →"
    if c.cell_type=='markdown': texts = [plain_text(c.source)]
    else:
        try: docs = [ast.get_docstring(n) or '' for n in ast.walk(ast.parse(c.source)) if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
        except SyntaxError: docs = [] # a cell of IPython magic
        texts = [*comments(c.source), *docs]
    for s in texts:
        if re.search(r'[-=]>', s): yield f"an arrow of two characters in {s.strip()[:60]!r}: write →"

RULES = (long_lines, imports, docstrings, signatures)

def findings(f):
    "(cell id, what to do) for everything in notebook `f` that is outside the style"
    lines,asserts,cells,words = counts(f)
    if cells>MAX_CELLS: yield '',f'{cells} cells: split it by what it teaches, {MAX_CELLS} are the limit'
    if words>MAX_WORDS: yield '',f'{words} words of markdown: split or shorten it, {MAX_WORDS} are the limit'
    if lines:
        if asserts/len(lines)<MIN_ASSERTS: yield '',f'{asserts} cells with an assertion for {len(lines)} exported ones: add lessons, {MIN_ASSERTS} each are asked'
        if median(lines)>MAX_MEDIAN: yield '',f'exported cells have {median(lines):.1f} lines in the median: split them, {MAX_MEDIAN} are the limit'
        if p90(lines)>MAX_P90: yield '',f'a tenth of the exported cells has more than {p90(lines):.0f} lines: split them, {MAX_P90} are the limit'
    if f.parent.name in METHOD and not course(f)['pictures']: yield '','no picture: a notebook of the method has one at least'
    if f.parent.name in EXERCISED and course(f)['exercises']<2: yield '','fewer than two exercises: write one that the reader can get wrong'
    for c in read_nb(f).cells:
        for rule in (*(RULES if exported(c) else ()), *((arrows,) if c.cell_type in ('markdown', 'code') else ())):
            for o in rule(c): yield c.id,o

# cited paths ---------------------------------------------------------------------------------------------------------

FOLDERS = 'nbs', 'tests', 'benchmarks', 'tutorials', 'ssm_nb', '.ci', '.github'
PATH = re.compile(rf"(?<![\w/.~-])((?:\.\./)*(?:{'|'.join(map(re.escape, FOLDERS))})/(?:[\w./-]*[^\W_])?/?)(?![\w{{])")
LINK = re.compile(r'\]\(([^)\s]+)\)')
NAMED = re.compile(r'(?<![\w/.-])((?:[A-Z][A-Z_]+\.md)|(?:[0-9]{2}_\w+\.ipynb)|(?:pyproject\.toml|environment\.yml|Makefile))\b')
MODULE = re.compile(r'\bssm_nb((?:\.[a-z_]\w*)+)')

def module_exists(dotted):
    "Is `.chapter.module.name` there, as far as the sources say?"
    where,parts = ROOT/'ssm_nb',dotted.strip('.').split('.')
    for i,o in enumerate(parts):
        if (where/o).is_dir(): where = where/o
        elif (where/f'{o}.py').is_file():
            rest = parts[i+1:]
            return not rest or bool(re.search(rf'^\s*(?:def |class |){rest[0]}\b', (where/f'{o}.py').read_text(encoding='utf-8'), re.M))
        else: return False
    return True

def cited(text, here):
    "What a text cites that is not there; relative links start at folder `here`"
    for o in LINK.findall(text):
        target = o.split('#')[0]
        if target and not re.match(r'[a-z]+:', target) and not (here/target).exists(): yield f'link to {o}: no such file'
    for o in PATH.findall(LINK.sub('', text)):
        if not any((base/o).exists() for base in (ROOT, here)): yield f'{o}: no such path'
    for o in NAMED.findall(LINK.sub('', text)):
        if not ((ROOT/o).exists() or (here/o).exists() or [*(ROOT/'nbs').rglob(o), *(ROOT/'tutorials').rglob(o)]): yield f'{o}: no such file'
    for o in MODULE.findall(text):
        if not module_exists(o): yield f'ssm_nb{o}: no such module or name'

def prose(source):
    "Comments and texts of a code cell or file, where paths are cited"
    texts = comments(source)
    try: texts += [n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant) and isinstance(n.value, str) and len(n.value.split())>2]
    except SyntaxError: pass
    return '\n'.join(texts)

def citations():
    "(file, cell id, what is wrong) for every citation that leads nowhere"
    for f in [f for d in ('nbs', 'tutorials') for f in sorted((ROOT/d).rglob('*.ipynb'))]:
        for c in read_nb(f).cells:
            text = c.source if c.cell_type=='markdown' else prose(c.source)
            for o in cited(text, f.parent): yield f.relative_to(ROOT),c.id,o
    for f in [*sorted(ROOT.glob('*.md')), ROOT/'settings.ini', ROOT/'Makefile', ROOT/'environment.yml', *sorted(ROOT.glob('.github/**/*.y*ml'))]:
        if f.is_file():
            for o in cited(f.read_text(encoding='utf-8'), f.parent): yield f.relative_to(ROOT),'',o
    for f in [*sorted((ROOT/'tests').rglob('*.py')), *sorted((ROOT/'benchmarks').rglob('*.py')), *sorted((ROOT/'.ci').glob('*.py'))]:
        for o in cited(prose(f.read_text(encoding='utf-8')), f.parent): yield f.relative_to(ROOT),'',o
