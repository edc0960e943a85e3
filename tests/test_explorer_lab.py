"The widget in JupyterLab, driven by the system's Chromium; `pytest -s` prints how soon it is ready"
import json, urllib.request
from contextlib import contextmanager
import pytest
from browser import browser, jupyterlab, until

pytest.importorskip('jupyterlab', reason='jupyterlab is not installed')

CELLS = ['''from ssm_nb.explore.widget import explore
from ssm_nb.explore.spec import Spec
from pathlib import Path
spec = Spec.from_payload(Path('payload.txt').read_text())''', 'w = explore(spec)\nw', 'w', "print('selected', w.selection['expression'], len(w.edits))", "w.selection = dict(way='au2fe', expression='fear', au=4)"]

def notebook(cells=CELLS): return dict(nbformat=4, nbformat_minor=5, metadata=dict(kernelspec=dict(display_name='python3', language='python', name='python3')),
    cells=[dict(cell_type='code', id=f'c{i}', execution_count=None, metadata={}, outputs=[], source=s) for i,s in enumerate(cells)])

@contextmanager
def lab_with(top, name, cells=CELLS):
    "JupyterLab on this machine, with a notebook and the payload of a small model. Its address"
    from test_explorer import a_model, a_spec, spaces
    spec,_ = a_spec(a_model(spaces()['neutral'], 'clip', 1), 1)
    (top/'payload.txt').write_text(spec.payload())
    (top/name).write_text(json.dumps(notebook(cells)))
    with jupyterlab(top, top) as url: yield url

@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    top = tmp_path_factory.mktemp('lab')
    with lab_with(top, 'explorer.ipynb') as url: yield top,url

def run_cell(page, i):
    page.locator('.jp-Notebook .jp-Cell').nth(i).locator('.cm-content').click()
    page.keyboard.press('Control+Enter')

def test_in_jupyterlab(lab):
    top,url = lab
    with browser() as b:
        page = b.new_page(viewport=dict(width=1400, height=1000))
        away,errors = [],[]
        page.on('request', lambda r: None if r.url.startswith((url, 'ws'+url[4:], 'data:', 'blob:')) else away.append(r.url))
        page.on('pageerror', lambda e: errors.append(str(e)))
        page.goto(f'{url}/lab/tree/explorer.ipynb?reset')
        until(page, "document.querySelectorAll('.jp-Notebook .jp-Cell').length>=5", 120)
        until(page, "document.body.innerText.includes('| Idle')", 120) # the kernel is connected
        cells = "document.querySelectorAll('.jp-Notebook .jp-Cell').length"
        run_cell(page, 0)
        until(page, "document.querySelectorAll('.jp-InputPrompt')[0].innerText.includes('[1]')", 240)
        page.evaluate('''globalThis.ready = null; new MutationObserver(() => { if (!ready && document.querySelector('.sx-cursor')) ready = performance.now(); }).observe(document.body, {childList: true, subtree: true});''')
        page.locator('.jp-Notebook .jp-Cell').nth(1).locator('.cm-content').click()
        page.evaluate('began = performance.now()')
        page.keyboard.press('Control+Enter')
        until(page, 'ready', 60)
        seconds = page.evaluate('(ready-began)/1000')
        run_cell(page, 2)
        until(page, "document.querySelectorAll('.sx-cursor').length===2", 60)

        # two views in step, and Python sees what is selected and edited
        page.locator('.sx-cursor').first.scroll_into_view_if_needed(); page.locator('.sx-cursor').first.focus()
        n = page.evaluate(cells)
        for k in ('ArrowRight', 'b', 'a', 'd', 'd', 'ArrowLeft', 'ArrowDown', 'Delete'): page.keyboard.press(k)
        until(page, "(() => { const l = Array.from(document.querySelectorAll('.sx-cursor'), e => e.getAttribute('aria-label')); return l[0] === l[1] && l[0].includes('edited: reweight'); })()")
        assert page.evaluate(cells)==n # no shortcut of the notebook
        page.wait_for_timeout(500)
        run_cell(page, 3)
        until(page, "Array.from(document.querySelectorAll('.jp-OutputArea-output')).some(e => /selected \\w+ 1/.test(e.innerText))", 60)
        run_cell(page, 4)
        until(page, "Array.from(document.querySelectorAll('.sx-cursor')).every(e => e.getAttribute('aria-label').startsWith('AU4 brow lowerer → fear'))", 60)

        # the lab has rules of its own for lists of terms: bold, floating, a fifth of the width
        term = page.evaluate("(o => [o.float, o.fontWeight])(getComputedStyle(document.querySelector('.sx-drawer dt')))")
        assert term==['none', '400'], term

        # the theme of the lab, not of the system
        assert page.evaluate("document.querySelector('.sx').dataset.dark")=='false'
        page.evaluate("document.body.dataset.jpThemeLight = 'false'"); until(page, "document.querySelector('.sx').dataset.dark==='true'")
        page.evaluate("document.body.dataset.jpThemeLight = 'true'")

        # a run again, saved small
        run_cell(page, 1); page.wait_for_timeout(1500)
        until(page, "document.querySelectorAll('.sx-cursor').length>=1", 60)
        page.keyboard.press('Escape'); page.keyboard.press('Control+s'); page.wait_for_timeout(2500)
        grown = (top/'explorer.ipynb').stat().st_size-len(json.dumps(notebook()))
        assert grown<=20_000, grown

        # the kernel is gone: a badge, and what is here goes on
        sessions = json.loads(urllib.request.urlopen(f'{url}/api/kernels').read())
        for k in sessions: urllib.request.urlopen(urllib.request.Request(f"{url}/api/kernels/{k['id']}", method='DELETE'))
        until(page, "Array.from(document.querySelectorAll('.sx-loud')).some(e => !e.hidden && e.innerText.includes('kernel not answering'))", 30)
        c = page.locator('.sx-cursor').first
        c.focus(); was = c.get_attribute('aria-label'); page.keyboard.press('ArrowRight'); page.wait_for_timeout(300)
        assert c.get_attribute('aria-label')!=was
        assert away==[], away[:5] # no request has left the machine
        print(f'ready {seconds:.2f} s after the import; the notebook grew by {grown} bytes')
