"The page, opened from the disk in a real Chromium: silent, self-contained, usable with a keyboard alone"
import json, os, shutil, subprocess
from dataclasses import replace
from pathlib import Path
import pytest
from browser import browser, settle, until
from ssm_nb.explore.page import write_explorer
from ssm_nb.explore.sources import prior_spec
from ssm_nb.explore.small import explore_aus
from ssm_nb.explore.spec import Spec
from ssm_nb.labels.facs import label_space
from ssm_nb.labels.prior import emfacs_prior, ssm_prior
from test_explorer import a_model, a_spec, spaces

WIDE,NARROW = dict(width=1400, height=900), dict(width=400, height=800)

@pytest.fixture(scope='module')
def chromium():
    with browser() as b: yield b

@pytest.fixture(scope='module')
def file(tmp_path_factory):
    "A page of a model with random weights, with a face"
    folder = tmp_path_factory.mktemp('page')
    spec,_ = a_spec(a_model(spaces()['neutral'], 'clip', 1), 1)
    return write_explorer(folder/'explorer.html', spec)

def open_page(chromium, file, viewport=WIDE, dark=False, **context):
    "A page from file://, with everything it said and asked for"
    page = chromium.new_page(viewport=viewport, color_scheme='dark' if dark else 'light', **context)
    page.messages,page.asked = [],[]
    page.on('console', lambda m: page.messages.append(m.text)); page.on('pageerror', lambda e: page.messages.append(str(e)))
    page.on('request', lambda r: page.asked.append(r.url))
    page.goto(file.as_uri())
    page.evaluate('() => globalThis.explorer.then(() => 1)') # built, or refused
    settle(page)
    return page

def key(page, *names):
    for n in names: page.keyboard.press(n)
    settle(page)

def label(page): return page.locator('.sx-cursor').get_attribute('aria-label')

def test_the_page_asks_for_nothing_and_says_nothing(chromium, file):
    page = open_page(chromium, file)
    for name in ('learned', 'prior', 'difference', 'graph', 'expressions → AUs'):
        page.locator('.sx-card button', has_text=name).first.click(); settle(page)
    page.get_by_role('button', name='Remove', exact=True).click()
    page.locator('input[aria-label=Epoch]').fill('0')
    settle(page)
    assert page.messages==[] and page.asked==[file.as_uri()]
    assert file.stat().st_size<1_000_000
    page.close()

def test_a_keyboard_alone_selects_inspects_removes_compares_and_undoes(chromium, file):
    page = open_page(chromium, file)
    for _ in range(40): # Tab to the map
        key(page, 'Tab')
        if page.evaluate("document.activeElement.classList.contains('sx-cursor')"): break
    else: raise AssertionError('Tab does not reach the map')
    start = label(page)
    key(page, 'ArrowRight'); assert label(page)!=start
    key(page, 'ArrowLeft'); assert label(page)==start
    if 'neutral' in start: key(page, 'ArrowDown')
    key(page, 'Delete'); assert 'edited: reweight' in label(page)
    impact = page.locator('.sx-drawer p[aria-live]').inner_text(); assert 'not retraining' in impact
    key(page, 'Control+z'); assert 'edited' not in label(page)
    key(page, 'Control+Shift+z'); assert 'edited: reweight' in label(page)
    key(page, 'u'); assert 'edited' not in label(page)
    key(page, 'Shift+Delete'); assert 'edited: cut' in label(page)
    key(page, 'r'); assert 'edited' not in label(page)
    legend = page.locator('section[aria-label=Map] p').inner_text()
    page.keyboard.down('p'); settle(page); held = page.locator('section[aria-label=Map] p').inner_text(); page.keyboard.up('p'); settle(page)
    assert held!=legend and page.locator('section[aria-label=Map] p').inner_text()==legend
    key(page, 'Enter'); assert page.evaluate("document.activeElement.tagName")=='H3'
    page.close()

def test_keys_do_not_leave_the_explorer(chromium, file):
    page = open_page(chromium, file)
    page.evaluate("globalThis.leaked = []; document.addEventListener('keydown', e => leaked.push(e.key));")
    page.locator('.sx-cursor').focus()
    key(page, 'b', 'a', 'd', 'ArrowDown', 'Enter', 'Escape')
    assert page.evaluate('leaked')==[]
    page.close()

def test_every_view_follows_an_edit(chromium, file):
    "Map, face, drawer, tracks, prototypes: linked without a kernel"
    page = open_page(chromium, file)
    page.locator('details', has_text='Change gates').locator('summary').click(); page.locator('summary', has_text='Prototypes').click()
    pictures = "Array.from(document.querySelectorAll('section')).map(s => [s.getAttribute('aria-label') ?? 'edge', Array.from(s.querySelectorAll('canvas')).map(c => c.toDataURL()).join() + s.innerText])"
    before = dict(page.evaluate(pictures))
    page.locator('input[aria-label="gate AUs → expressions"]').fill('0.97'); page.locator('input[aria-label="gate expressions → AUs"]').fill('0.97')
    page.locator('select[aria-label="Another prior"]').select_option('other')
    page.locator('.sx-lab', has_text='fear').first.click()
    settle(page)
    after = dict(page.evaluate(pictures))
    assert [k for k in before if before[k]==after[k]]==['What this can and cannot show']
    assert "dict(kind='prior', name='other')" in page.locator('textarea').input_value()
    page.close()

def test_the_sign_is_visible_without_colour(chromium, file):
    "An increase and a decrease differ in their shape: triangles in the matrix, dashes in the graph, words for a screen reader"
    page = open_page(chromium, file)
    layer = page.locator('section[aria-label=Map] [aria-label="what is shown"] button')
    layer.filter(has_text='learned').click(); settle(page)
    page.evaluate('''globalThis.drawn = []; const own = CanvasRenderingContext2D.prototype.fillText;
        CanvasRenderingContext2D.prototype.fillText = function (t, ...o) { drawn.push(t); return own.call(this, t, ...o); }; 0''')
    layer.filter(has_text='difference').click(); settle(page)
    drawn = page.evaluate('drawn')
    assert any(t.startswith('▲') for t in drawn) and any(t.startswith('▼') for t in drawn)
    assert '▲' in label(page) or '▼' in label(page)
    page.close()

@pytest.mark.parametrize('viewport', [WIDE, NARROW, dict(width=700, height=450)], ids=['1400', '400', '200 % of 1400'])
@pytest.mark.parametrize('dark', [False, True], ids=['light', 'dark'])
def test_nothing_is_cut_off(chromium, file, viewport, dark):
    "No part is wider than the window; 200 % zoom is a window of half the width in CSS pixels"
    page = open_page(chromium, file, viewport, dark)
    assert page.evaluate('document.documentElement.scrollWidth')<=viewport['width']
    assert page.evaluate("document.querySelector('.sx').dataset.dark")==str(dark).lower()
    wide = page.evaluate("Array.from(document.querySelectorAll('.sx-card *')).filter(e => e.scrollWidth > e.clientWidth + 2 && !['hidden', 'auto'].includes(getComputedStyle(e).overflowX) && getComputedStyle(e).display === 'block').map(e => e.className + e.tagName)")
    assert wide==[]
    page.close()

HOSTILE = '</script><img src=x onerror=alert(1)>&"\'`{{x}}'

def test_hostile_labels_are_texts(chromium, tmp_path):
    spec,_ = a_spec(a_model(spaces()['neutral'], 'clip', 1), 1)
    bad = replace(spec, title=HOSTILE, labels=replace(spec.labels, expressions=[HOSTILE, *spec.labels.expressions[1:]], au_names=[HOSTILE]*12), clips=[replace(o, name=HOSTILE, recording=HOSTILE+str(i)) for i,o in enumerate(spec.clips)],
        priors=[replace(spec.priors[0], name=HOSTILE, sources=[HOSTILE]*2), *spec.priors[1:]])
    page = open_page(chromium, write_explorer(tmp_path/'bad.html', bad))
    page.on('dialog', lambda d: page.messages.append('a dialog'))
    page.locator('.sx-lab').first.click(); page.get_by_role('button', name='Cut', exact=True).click(); settle(page)
    assert page.messages==[] and len(page.asked)==1 and page.locator('img').count()==0 and page.title()==HOSTILE
    assert HOSTILE in page.locator('h2').inner_text()
    page.close()

def test_a_page_that_cannot_be_shown_says_why(chromium, tmp_path, file):
    text = file.read_text(encoding='utf-8')
    (tmp_path/'cut.html').write_text(text.replace('id="payload">', 'id="payload">!'), encoding='utf-8')
    page = open_page(chromium, tmp_path/'cut.html')
    assert page.locator('[role=alert]').inner_text()=='The explorer cannot show this: the payload is not base64'
    page.close()

def test_without_webgl(chromium, file):
    "The face is drawn without it: no context is ever asked for"
    page = chromium.new_page()
    page.add_init_script("const own = HTMLCanvasElement.prototype.getContext; globalThis.kinds = []; HTMLCanvasElement.prototype.getContext = function (k, ...o) { kinds.push(k); return k === '2d' ? own.call(this, k, ...o) : null; };")
    page.goto(file.as_uri()); page.evaluate('() => globalThis.explorer.then(() => 1)'); settle(page)
    assert set(page.evaluate('kinds'))=={'2d'}
    assert page.evaluate("(() => { const c = document.querySelector('.sx-face canvas'), d = c.getContext('2d').getImageData(100, 100, 120, 120).data; return new Set(d).size; })()")>50
    page.close()

@pytest.mark.parametrize('make', [lambda: prior_spec(ssm_prior(label_space('bp4d', 7)), emfacs_prior(label_space('bp4d', 7))), lambda: explore_aus().spec], ids=['priors', 'action units'])
def test_small_explorers(chromium, tmp_path, make):
    page = open_page(chromium, write_explorer(tmp_path/'small.html', make()))
    page.locator('.sx-lab, .sx-dict button').nth(3).click(); settle(page)
    assert page.messages==[] and 'AU' in page.locator('.sx-face canvas').get_attribute('aria-label')
    page.close()

@pytest.fixture(scope='module')
def axe(tmp_path_factory):
    "axe-core from the registry, into a temporary folder"
    folder,npm = tmp_path_factory.mktemp('axe'),shutil.which('npm')
    if npm is None: pytest.skip('npm is not here to fetch axe-core with')
    done = subprocess.run([npm, 'install', '--no-audit', '--no-fund', '--ignore-scripts', '--prefix', str(folder), 'axe-core@4'], capture_output=True, text=True, timeout=180)
    if done.returncode: pytest.skip(f'axe-core could not be fetched: {done.stderr[-200:]}')
    return (folder/'node_modules'/'axe-core'/'axe.min.js').read_text(encoding='utf-8')

@pytest.mark.parametrize('dark', [False, True], ids=['light', 'dark'])
def test_axe_finds_nothing_serious(chromium, file, axe, dark):
    page = open_page(chromium, file, dark=dark)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    page.get_by_role('button', name='Remove', exact=True).click(); settle(page)
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.filter(v => ['serious', 'critical'].includes(v.impact)).map(v => [v.id, v.nodes.slice(0, 3).map(n => n.html.slice(0, 160))]))")
    assert found==[]
    page.close()
