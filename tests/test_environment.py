"The two ways in agree, and the commands that the documentation names exist."
import os, re, subprocess, sys
from pathlib import Path
import pytest, yaml
from fastcore.nbio import read_nb
from nbdev.config import tomllib

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT/'.ci'))
from house import CHAPTERS
CONDA_NAMES = {'pytorch': 'torch'} # conda's name -> PyPI's

def split(req): # 'plotly>=6' -> ('plotly', '>=6')
    return re.fullmatch(r'([A-Za-z0-9_.-]+?)\s*([<>=!~].*)?', req).groups()

@pytest.fixture(scope='module')
def project(): return tomllib.loads((ROOT/'pyproject.toml').read_text())['project']

@pytest.fixture(scope='module')
def conda(): return yaml.safe_load((ROOT/'environment.yml').read_text())['dependencies']

def test_conda_and_pip_ask_for_the_same(project, conda):
    pip = next(o['pip'] for o in conda if isinstance(o, dict))
    want = dict(map(split, project['dependencies'] + project['optional-dependencies']['dev']))
    want['python'] = project['requires-python']
    got = [split(o) for o in conda if isinstance(o, str) and o!='pip'] + [split(o) for o in pip if not o.startswith('-')]
    assert len(got)==len(dict(got)), 'a package stands in environment.yml twice'
    assert {CONDA_NAMES.get(k, k):v for k,v in got} == want

def test_conda_installs_the_checkout_itself(conda):
    assert sum(o.split()[-2:]==['-e', '.'] for d in conda if isinstance(d, dict) for o in d['pip']) == 1

def test_the_notebook_tools_are_pinned(project):
    reqs = dict(map(split, project['dependencies'] + project['optional-dependencies']['dev']))
    assert all(reqs[o].startswith('==') for o in ('nbdev', 'fastcore', 'execnb'))

@pytest.mark.parametrize('command', ['nbdev_export', 'nbdev-export'])
def test_export_works_as_typed(command, tmp_path):
    "Both names of the command turn a notebook into a module, in a project of its own."
    from fastcore.nbio import mk_cell, new_nb, write_nb
    (tmp_path/'nbs').mkdir()
    (tmp_path/'pyproject.toml').write_text('[project]\nname = "demo"\n[tool.nbdev]\n')
    write_nb(new_nb([mk_cell('#| default_exp smile'), mk_cell('#| export\nAU = 12')]), tmp_path/'nbs'/'00_smile.ipynb')
    subprocess.run([Path(sys.executable).parent/command], cwd=tmp_path, check=True)
    assert 'AU = 12' in (tmp_path/'demo'/'smile.py').read_text()

# the repository's address, which stands in pyproject.toml ---------------------------------------------------------------

@pytest.fixture(scope='module')
def repository(project): return project['urls']['Repository']

TUTORIALS = sorted((ROOT/'tutorials').glob('*.ipynb'))

@pytest.mark.parametrize('file', TUTORIALS, ids=[f.stem for f in TUTORIALS])
def test_a_tutorial_installs_from_the_repository_and_opens_in_colab(file, repository):
    cells = read_nb(file).cells
    assert cells[0].source==f'#| hide\n! [ -e /content ] && pip install -Uqq "ssm_nb @ git+{repository}"'
    colab = repository.replace('https://github.com/', 'https://colab.research.google.com/github/')
    assert f']({colab}/blob/main/tutorials/{file.name})' in cells[1].source

@pytest.mark.parametrize('file', ['CITATION.cff', 'nbs/nbdev.yml', 'README.md', 'CONTRIBUTING.md'])
def test_no_other_address_is_cited(file, repository):
    found = re.findall(r'https://github\.com/[\w.-]+/[\w.-]+', (ROOT/file).read_text(encoding='utf-8'))
    assert {o.removesuffix('.git') for o in found} <= {repository}

def test_the_citation_is_of_this_version(project):
    from ssm_nb import __version__
    cff = yaml.safe_load((ROOT/'CITATION.cff').read_text(encoding='utf-8'))
    assert (cff['version'], cff['repository-code'], cff['license'])==(__version__, project['urls']['Repository'], project['license'])

def test_the_documentation_has_every_notebook_once_in_the_order_of_the_chapters():
    "What Quarto is given, where it is installed; `nbdev-docs` itself needs Quarto"
    site = yaml.safe_load((ROOT/'nbs'/'_quarto.yml').read_text(encoding='utf-8'))
    assert site['metadata-files']==['nbdev.yml', 'sidebar.yml'] and (ROOT/'nbs'/site['format']['html']['css']).is_file()
    contents = yaml.safe_load((ROOT/'nbs'/'sidebar.yml').read_text(encoding='utf-8'))['website']['sidebar']['contents']
    files = [o for c in contents for o in (c['contents'] if isinstance(c, dict) else [c])]
    assert sorted(files)==sorted(str(f.relative_to(ROOT/'nbs')) for f in (ROOT/'nbs').rglob('*.ipynb'))
    assert [c['section'].split()[0] for c in contents if isinstance(c, dict)]==[c for c in CHAPTERS if [*(ROOT/'nbs'/c).glob('*.ipynb')]]

@pytest.mark.parametrize('file', sorted((ROOT/'.github').rglob('*.yml')), ids=lambda f: f.name)
def test_the_hosted_files_are_yaml(file): assert yaml.safe_load(file.read_text(encoding='utf-8'))

def test_hosted_ci_runs_what_ci_runs_here():
    steps = yaml.safe_load((ROOT/'.github'/'workflows'/'ci.yml').read_text(encoding='utf-8'))['jobs']['run']['steps']
    assert [o['run'] for o in steps if 'run' in o]==['.ci/run'] and os.access(ROOT/'.ci'/'run', os.X_OK)
