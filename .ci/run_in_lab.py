"""Run All, in JupyterLab, as a reader does it: each tutorial is opened in a browser, run from its menu, and looked through for errors.

Slow (as long as the tutorials take), so `.ci/run` runs the tutorials without a browser; this is for the day of a release. Needs a
Chromium or Chrome of the system, and Playwright. Works on a copy: nothing here is changed. Exit status 1 if a cell failed.
Run: python .ci/run_in_lab.py [tutorials/04_faces_from_muscles.ipynb …]    (default: all tutorials)
"""
import os, shutil, sys, tempfile, time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT/'tests'))
from browser import browser, jupyterlab, until

MAX_SECONDS = 1800 # of one notebook
# JupyterLab draws only the cells in view: its model, not the page, knows all of them
CELLS = '''(() => {
  const cells = jupyterapp.shell.currentWidget.content.model.cells, out = {left: 0, errors: []};
  for (let i = 0; i < cells.length; i++) {
    const c = cells.get(i).toJSON();
    if (c.cell_type !== 'code' || !c.source.length) continue;
    if (c.execution_count === null) out.left += 1;
    for (const o of c.outputs) if (o.output_type === 'error') out.errors.push(`cell ${i}: ${o.ename}: ${o.evalue}`);
  }
  return out;
})()'''

def run_all(page, url, name):
    "Open a notebook, clear it, run all of it; the errors its cells show"
    page.goto(f'{url}/lab/tree/{name}?reset')
    until(page, "document.body.innerText.includes('| Idle')", 120) # the kernel is connected
    page.evaluate("jupyterapp.commands.execute('editmenu:clear-all')")
    page.evaluate("void jupyterapp.commands.execute('runmenu:run-all')")
    until(page, f'(o => !o.left || o.errors.length)({CELLS})', MAX_SECONDS)
    until(page, "document.body.innerText.includes('| Idle')", 120)
    return page.evaluate(CELLS)['errors']

def main(names):
    failed = []
    with tempfile.TemporaryDirectory() as tmp, browser() as b:
        top,own = Path(tmp)/'project',Path(tmp)/'own'
        own.mkdir()
        shutil.copytree(ROOT, top, ignore=shutil.ignore_patterns('.venv', '.git', '.ipynb_checkpoints', '__pycache__'), symlinks=True)
        os.environ['PYTHONPATH'] = str(top)
        with jupyterlab(top, own) as url:
            for name in names:
                page,start = b.new_page(viewport=dict(width=1400, height=1000)),time.monotonic()
                errors = run_all(page, url, name)
                page.close()
                print(f"{name:48}{time.monotonic()-start:6.0f} s  {'; '.join(errors) or 'no error'}", flush=True)
                failed += [name]*bool(errors)
    return failed

if __name__=='__main__':
    if main(sys.argv[1:] or [str(o.relative_to(ROOT)) for o in sorted((ROOT/'tutorials').glob('*.ipynb'))]): sys.exit(1)
