"The two ways in agree, and the commands that the documentation names exist."
import re, subprocess, sys
from pathlib import Path
import pytest, yaml
from nbdev.config import tomllib

ROOT = Path(__file__).parents[1]
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
