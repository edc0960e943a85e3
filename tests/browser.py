"A real Chromium for tests of the explorer; without one they are skipped"
import base64, json, os, shutil, signal, socket, subprocess, sys, time, urllib.request
from contextlib import contextmanager
import pytest

CHROMIUM = os.environ.get('CHROMIUM') or shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')

@contextmanager
def browser():
    "A browser with the system's Chromium"
    if CHROMIUM is None: pytest.skip('no chromium on this machine (apt-get install chromium, or set CHROMIUM)')
    api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed (pip install playwright)')
    with api.sync_playwright() as p:
        b = p.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox', '--disable-gpu'])
        try: yield b
        finally: b.close()

def _free_port():
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); return s.getsockname()[1]

@contextmanager
def jupyterlab(root, own):
    "JupyterLab on the files of `root`; what it keeps for itself goes into `own`. Its address"
    port,kept = _free_port(),{v:str(own/f'.{v.lower()}') for v in ('JUPYTER_CONFIG_DIR', 'JUPYTER_DATA_DIR', 'JUPYTER_RUNTIME_DIR', 'IPYTHONDIR')}
    url,log = f'http://127.0.0.1:{port}',own/'lab.log'
    with open(log, 'w') as out:
        p = subprocess.Popen([sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', '--ip', '127.0.0.1', '--port', str(port), f'--ServerApp.root_dir={root}', '--IdentityProvider.token=',
            '--ServerApp.disable_check_xsrf=True', '--LabApp.news_url=None', '--LabApp.expose_app_in_browser=True', '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate'], env={**os.environ, **kept}, stdout=out, stderr=out, start_new_session=True)
    try:
        for _ in range(240):
            assert p.poll() is None, log.read_text()[-2000:]
            try: urllib.request.urlopen(f'{url}/api/status', timeout=2); break
            except OSError: time.sleep(.5)
        yield url
    finally:
        os.killpg(p.pid, signal.SIGTERM)
        try: p.wait(20)
        except subprocess.TimeoutExpired: os.killpg(p.pid, signal.SIGKILL)

def until(page, script, seconds=20):
    "Poll `script` from here: the page's policy may forbid the browser to do it from a text"
    for _ in range(int(seconds*20)):
        if v := page.evaluate(script): return v
        page.wait_for_timeout(50)
    raise AssertionError(f'not within {seconds} s: {script}')

def settle(page):
    "Wait until what was asked for is drawn: a view is drawn in the next frame"
    page.evaluate('() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))')

TOOLS = '{compute, cellOf, Face, faceWords, readSpec, unpack, setting, similarities, parts, called, changes, mount, isDark, readable, contrast, rgbOf, SpecError, EditError}'

def module_page(browser, js):
    "A page with the module's functions in `ssm`"
    page = browser.new_page()
    page.set_content('<!doctype html><html lang="en"><title>tools</title><body></body></html>')
    page.add_script_tag(content=f'{js}\nglobalThis.ssm = {TOOLS};', type='module')
    until(page, '!!globalThis.ssm')
    return page

def floats(page, script, arg=None):
    "An array of numbers, as base64 of float64, which is quick and exact"
    import numpy as np
    text = page.evaluate(f'async arg => {{ const x = Float64Array.from(await ({script})(arg)), b = new Uint8Array(x.buffer); let s = ""; for (let i = 0; i < b.length; i += 8192) s += String.fromCharCode(...b.subarray(i, i + 8192)); return btoa(s); }}', arg)
    return np.frombuffer(base64.b64decode(text), '<f8')
