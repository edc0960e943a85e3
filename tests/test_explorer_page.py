"The page, opened from the disk in a real Chromium: silent, self-contained, usable with a keyboard alone"
import json, os, shutil, subprocess
from dataclasses import replace
from pathlib import Path
import numpy as np
import pytest
from browser import browser, settle, until
from ssm_nb.core.settings import load_settings
from ssm_nb.explore.page import write_explorer
from ssm_nb.explore.sources import mosaic, prior_spec, run_spec
from ssm_nb.explore.small import explore_aus
from ssm_nb.explore.face import face_model
from ssm_nb.explore.spec import FORMAT, Clip, Epoch, Evidence, Labels, Matrix, PriorTable, Provenance, Spec
from ssm_nb.labels.facs import label_space
from ssm_nb.labels.prior import emfacs_prior, ssm_prior
from ssm_nb.runs.config import run_config
from ssm_nb.runs.runs import train_run
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

@pytest.mark.parametrize('width', [400, 900, 1400])
def test_the_words_at_the_pointer_are_seen_whole(chromium, file, width):
    "Wherever in the map: within it from left to right, and before everything else"
    page = open_page(chromium, file, viewport=dict(width=width, height=900))
    whole = """() => { const tip = document.querySelector('.sx-tip'), stage = document.querySelector('.sx-stage');
        tip.style.pointerEvents = 'auto'; // so that it can be found at a point
        const [r, s] = [tip, stage].map(o => o.getBoundingClientRect());
        const corners = [[r.left+6, r.top+6], [r.right-6, r.top+6], [r.left+6, r.bottom-6], [r.right-6, r.bottom-6]].map(p => document.elementFromPoint(...p)===tip);
        tip.style.pointerEvents = '';
        return [r.left >= s.left-1, r.right <= s.right+1, ...corners]; }"""
    for x in (.02, .3, .49, .51, .8, .98):
        for y in (.05, .5, .97):
            page.mouse.move(*page.evaluate(f"(r => [r.left+r.width*{x}, r.top+r.height*{y}])(document.querySelector('.sx-stage').getBoundingClientRect())")); settle(page)
            assert all(page.evaluate(whole)), (x, y)
    page.close()

def test_the_pictures_above_the_tracks_are_there_from_the_start(chromium, tmp_path):
    spec,pixels = a_spec(a_model(spaces()['neutral'], 'clip', 1), 1)
    pictures,tiles = mosaic(pixels)
    spec = replace(spec, pictures=pictures, clips=[replace(o, tiles=t) for o,t in zip(spec.clips, tiles)])
    page = open_page(chromium, write_explorer(tmp_path/'explorer.html', spec))
    until(page, "(o => !o.hidden && o.getContext('2d').getImageData(0, 0, o.width, o.height).data.some(v => v))(document.querySelector('[aria-label=Clips] .sx-lane canvas'))")
    page.close()

def test_every_linked_interaction_works_on_the_page(chromium, file):
    "Pointer, epochs, frames, poses, sliders: each changes what it is linked with, from file://"
    page = open_page(chromium, file)
    said = lambda where: page.locator(where).first.inner_text()
    face = lambda: page.locator('.sx-face canvas').get_attribute('aria-label')
    drawn = lambda: page.evaluate("Array.from(document.querySelectorAll('section[aria-label=Map] canvas, .sx-face canvas'), c => c.toDataURL())")
    def changes(what, do):
        was = what(); do(); settle(page)
        assert what()!=was, was
    cell = lambda share: page.evaluate(f"(r => [r.left+r.width*{share}, r.top+r.height*.3])(document.querySelector('.sx-stage').getBoundingClientRect())")
    page.mouse.move(*cell(.1)); settle(page)
    assert page.locator('.sx-tip').is_visible() and 'prior' in said('.sx-tip')
    changes(lambda: said('.sx-tip'), lambda: page.mouse.move(*cell(.9)))
    changes(lambda: (said('.sx-drawer h3'), said('.sx-story')), lambda: page.mouse.click(*cell(.9)))
    for name in ('expressions → AUs', 'graph', 'learned', 'matrix', 'AUs → expressions', 'difference'):
        changes(lambda: drawn()[0], lambda: page.locator('section[aria-label=Map] .sx-bar button', has_text=name).first.click())
    changes(face, lambda: page.locator('select[aria-label="Pose the face"]').select_option(index=1))
    page.locator('select[aria-label="Pose the face"]').select_option(index=1)
    changes(lambda: (*drawn(), said('section[aria-label^=Epochs] .sx-bar')), lambda: page.locator('input[aria-label=Epoch]').fill('0')) # map and face follow
    changes(face, lambda: page.locator('.sx-sliders input').first.fill('0.77'))
    changes(face, lambda: page.get_by_role('button', name='Reset', exact=True).click())
    assert face()=='A face at rest.'
    frame = lambda: page.locator('section[aria-label=Clips] canvas[role=img]').get_attribute('aria-label')
    changes(frame, lambda: page.locator('input[aria-label=Frame]').fill('3'))
    changes(frame, lambda: (page.get_by_role('button', name='Play').click(), page.wait_for_timeout(400), page.get_by_role('button', name='Pause').click()))
    changes(frame, lambda: page.locator('select[aria-label=Clip]').select_option(index=0))
    edits = lambda: page.locator('.sx-drawer textarea').input_value()
    changes(edits, lambda: page.get_by_role('button', name='Cut', exact=True).click())
    changes(edits, lambda: page.get_by_role('button', name='Undo', exact=True).click())
    changes(edits, lambda: page.get_by_role('button', name='Redo', exact=True).click())
    page.locator('.sx-pics button').first.click(); settle(page) # the clip that the edit changes most
    changes(frame, lambda: page.locator('.sx-pics button').nth(1).click()) # and the next
    changes(edits, lambda: page.get_by_role('button', name='Remove all edits').click())
    assert page.messages==[] and page.asked==[file.as_uri()]
    page.close()

def test_what_was_not_measured_says_so_and_is_no_zero(chromium, tmp_path):
    "Evidence without numbers, an epoch without scores"
    spec,_ = a_spec(a_model(spaces()['neutral'], 'clip', 1), 1)
    e,a = len(spec.labels.expressions),len(spec.labels.aus)
    nan = lambda *shape: np.full(shape, np.nan)
    empty = Evidence('no clips', *[nan(e, a)]*5, nan(e, a), nan(a, e), 'no clips', 0, nan(e, a), nan(a, e))
    for evidence,want in ((None, {'Evidence': 'not measured'}), (empty, {'Support': 'not measured', 'Lift': 'undefined: too little was seen',
                          'Cut, on no clips': 'not measured', 'Over seeds': 'not measured: one run'})):
        page = open_page(chromium, write_explorer(tmp_path/'bare.html', replace(spec, evidence=evidence, observed=Matrix('nobody looked', nan(e, a)))))
        said = dict(page.evaluate("Array.from(document.querySelectorAll('.sx-drawer dt'), e => [e.innerText, e.nextSibling.innerText])"))
        assert {k:v for k,v in said.items() if k not in ('Prior', 'Learned', 'Truth')}==want
        assert 'UAR not measured, AU F1 not measured' in page.locator('section[aria-label^=Epochs] .sx-bar').first.inner_text()
        page.evaluate('''globalThis.drawn = []; const own = CanvasRenderingContext2D.prototype.fillText;
            CanvasRenderingContext2D.prototype.fillText = function (t, ...o) { drawn.push(t); return own.call(this, t, ...o); }; 0''')
        page.locator('[aria-label="what is shown"] button', has_text='observed').click(); settle(page)
        assert page.evaluate('drawn').count('?')==e*a
        page.close()

@pytest.mark.parametrize('host,dark', [("document.documentElement.setAttribute('theme', 'dark')", True), ("document.documentElement.setAttribute('theme', 'light')", False),
    ("document.body.className = 'vscode-dark'", True), ("document.body.className = 'vscode-light'", False), ("document.body.className = 'vscode-high-contrast'", True),
    ("document.body.className = 'vscode-high-contrast-light'", False), ("document.body.dataset.jpThemeLight = 'false'", True)])
def test_the_colours_of_a_host_win_over_those_of_the_system(chromium, file, host, dark):
    "What Colab, VS Code and a lab say of their theme, with a system that says the opposite; none of these hosts runs here"
    page = open_page(chromium, file, dark=not dark)
    page.evaluate(host); until(page, f"document.querySelector('.sx').dataset.dark==='{str(dark).lower()}'")
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

def any_spec(e, a, neutral, frames, epochs=2):
    "A specification of any size; every second clip has labels, some AUs nobody annotated"
    r = np.random.default_rng(e*100+a)
    f32,(c,f) = lambda *shape: r.normal(size=shape).astype(np.float32),(len(frames), sum(frames))
    labels = Labels([*range(1, a+1)], [f'muscle number {u}' for u in range(a)], ['m']*a, [f'expression number {i}' for i in range(e)], neutral)
    x = r.normal(size=(e+a, 32)); x /= np.linalg.norm(x, axis=1, keepdims=True)
    prior = PriorTable('by hand', r.random((e, a)), ['a source'], np.zeros((e, a)))
    some = lambda i,n: [''.join(r.choice([*'01?'], a)) for _ in range(n)] if i%2 else None
    clips = [Clip(f'clip {i}', f'recording {i//2}', 'au' if i%2 else 'fe', n, None if i%2 or i>3 else i%e, None, some(i, n), None) for i,n in enumerate(frames)]
    epoch = lambda k: Epoch(k+1, f32(e, a), f32(a, e), 0., 0., x@x.T, f32(a, 5), None, None, f32(c, e), f32(c, e+a), f32(f, a), f32(f, e+a))
    holes = Matrix('looked at', np.where(r.random((e, a))<.5, np.nan, r.random((e, a))))
    made = Provenance('random numbers', 'unknown', 'nothing', 'fixed', None, 'none', 'today', '')
    return Spec(FORMAT, 'Any size', labels, [prior], None, holes, [epoch(k) for k in range(epochs)], 0, 'clip', clips, None, None, face_model(), made)

SIZES = {'46 AUs, 11 expressions':(11, 46, 0, [16, 5, 1, 8]), 'one of each':(1, 1, None, [3, 2]), 'one of each, which is neutral':(1, 1, 0, [3, 2]), 'one AU':(7, 1, 6, [4]*6), 'one expression':(1, 12, None, [4, 4]), 'no clips':(3, 4, None, []), 'no epochs':(3, 4, 1, [], 0)}

@pytest.mark.parametrize('size', SIZES.values(), ids=SIZES)
def test_any_size_can_be_shown(chromium, tmp_path, size):
    "Every button that is there does something or nothing, and nothing says NaN; at 400 px nothing is cut off"
    page = open_page(chromium, write_explorer(tmp_path/'any.html', any_spec(*size)), NARROW)
    until(page, "document.querySelector('.sx-honest')")
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.evaluate('document.documentElement.scrollWidth')<=NARROW['width']
    names = page.evaluate("Array.from(document.querySelectorAll('.sx-cols .sx-lab:not(.sx-between) span')).map(b => b.getBoundingClientRect()).filter(r => r.width).map(r => [r.left, r.right])")
    assert names and all(a[1]<=b[0]+1 for a,b in zip(names, names[1:])) # no name of a column lies on the next
    page.evaluate("""async () => { for (let k = 0; k < 2; k++) for (const b of document.querySelectorAll('button')) { if (b.offsetParent && b.textContent !== 'Play' && !b.textContent.startsWith('Copy')) b.click();
        if (b.closest('.sx-drawer, .sx-bar')) await new Promise(requestAnimationFrame); } }""")
    for name in page.locator('select').all():
        for value in name.evaluate('s => Array.from(s.options).filter(o => !o.disabled).map(o => o.value)')[:12]: name.select_option(value, timeout=5000)
    settle(page)
    said = page.evaluate("document.body.innerText + Array.from(document.querySelectorAll('[aria-label]'), e => e.getAttribute('aria-label')).join()")
    assert not [w for w in ('NaN', 'undefined', 'null', 'Infinity', '[object') if w in said] and page.messages==[], page.messages
    page.close()

def test_what_nobody_annotated_is_not_posed_as_if_it_were(chromium, tmp_path):
    "Holes of a matrix, question marks of a frame, a clip without labels: said in words"
    spec = any_spec(3, 4, None, [4, 4])
    page = open_page(chromium, write_explorer(tmp_path/'any.html', spec))
    pose,words = page.locator('select[aria-label="Pose the face"]'),page.locator('.sx-face p').first
    holes = [f'AU{u}' for u,v in zip(spec.labels.aus, spec.observed.table[0]) if np.isnan(v)]
    pose.select_option('["row","observed","expression number 0"]'); settle(page)
    assert holes and f"Not measured, so at rest: {', '.join(holes)}. " in words.inner_text()
    page.locator('input[aria-label=Frame]').fill('4'); pose.select_option('["frame","truth"]'); settle(page)
    blank = [f'AU{u}' for u,l in zip(spec.labels.aus, spec.clips[1].aus[0]) if l=='?']
    assert blank and f"Not measured, so at rest: {', '.join(blank)}. " in words.inner_text()
    assert f"not annotated {', '.join(blank)};" in page.locator('section[aria-label=Clips] canvas[role=img]').get_attribute('aria-label')
    assert 'AUs are labelled, the expression is not' in page.locator('section[aria-label=Clips]').inner_text()
    page.locator('input[aria-label=Frame]').fill('0'); settle(page)
    assert pose.evaluate("s => Array.from(s.options).find(o => o.text === 'as it is labelled').disabled")
    assert 'the expression is labelled, AUs are not' in page.locator('section[aria-label=Clips]').inner_text() and page.messages==[]
    page.close()

HOSTILE = '</script><img src=x onerror=alert(1)>&"\'`{{x}}'

def test_hostile_labels_are_texts(chromium, tmp_path):
    spec,_ = a_spec(a_model(spaces()['neutral'], 'clip', 1), 1)
    bad = replace(spec, title=HOSTILE, labels=replace(spec.labels, expressions=[HOSTILE+'\n\\', *spec.labels.expressions[1:]], au_names=[HOSTILE]*12), clips=[replace(o, name=HOSTILE, recording=HOSTILE+str(i)) for i,o in enumerate(spec.clips)],
        priors=[replace(spec.priors[0], name=HOSTILE, sources=[HOSTILE]*2), *spec.priors[1:]])
    page = open_page(chromium, write_explorer(tmp_path/'bad.html', bad))
    page.on('dialog', lambda d: page.messages.append('a dialog'))
    page.locator('.sx-lab[data-i="0"]').click(); page.get_by_role('button', name='Cut', exact=True).click(); settle(page)
    assert page.messages==[] and len(page.asked)==1 and page.locator('img').count()==0 and page.title()==HOSTILE
    assert HOSTILE in page.locator('h2').inner_text()
    edits = eval(page.locator('.sx-drawer textarea').input_value(), dict(edited_model=lambda model, edits, spec: edits, model=None, spec=None))
    assert edits[0]['expression']==HOSTILE+'\n\\' # as Python, too
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

@pytest.mark.parametrize('variant', ['au_only', 'fe_only'])
def test_a_branch_that_was_not_trained_says_nothing(chromium, tmp_path, variant):
    "A run of one task: its page holds no number of the other branch and says `not trained` in each place that has none"
    settings = load_settings('/dev/null')
    settings = replace(settings, paths=replace(settings.paths, cache=tmp_path/'cache', out=tmp_path/'out'))
    train_run(run_config(settings, embedded='tiny', variant=variant), settings, tmp_path/'run', 'cpu')
    spec,aus = run_spec(tmp_path/'run', settings),variant=='au_only'
    silent,told = ('fe', 'au') if aus else ('au', 'fe')
    assert all(getattr(k, f'{silent}_{o}') is None and getattr(k, f'{told}_{o}') is not None for k in spec.epochs for o in ('head', 'dot'))
    nothing = ('cut_au2fe',) if aus else ('support', 'together', 'lift', 'low', 'high', 'cut_fe2au')
    for name in ('support', 'together', 'lift', 'cut_au2fe', 'cut_fe2au'): assert np.isnan(getattr(spec.evidence, name)).all()==(name in nothing), name
    assert (spec.observed is None)!=aus
    page = open_page(chromium, write_explorer(tmp_path/'one.html', spec))
    terms = lambda: dict(page.evaluate("Array.from(document.querySelectorAll('.sx-drawer dt'), e => [e.innerText, e.nextSibling.innerText])"))
    way = page.locator('section[aria-label=Map] [aria-label=direction] button')
    for name,task in (('AUs → expressions', 'fe'), ('expressions → AUs', 'au')):
        way.filter(has_text=name).click(); settle(page)
        said,why = terms(),page.locator('section[aria-label=Clips] h3').nth(1).inner_text()
        cut = next(v for k,v in said.items() if k.startswith('Cut, on'))
        assert (cut=='not trained', why.endswith(': not trained'))==(task==silent,)*2
        assert [said[k]=='not trained' for k in ('Support', 'Lift')]==[not aus]*2
    score,other = ('UAR', 'AU F1') if aus else ('AU F1', 'UAR')
    page.get_by_role('button', name='Remove', exact=True).click(); settle(page)
    for where in ('.sx-drawer p[aria-live]', 'section[aria-label^=Epochs] .sx-bar'):
        text = page.locator(where).first.inner_text()
        assert f'{score} not trained' in text and f'{other} not trained' not in text, text
    frame = page.locator('section[aria-label=Clips] canvas[role=img]').get_attribute('aria-label')
    assert ('AUs: not trained' in frame, 'expressions: not trained' in frame)==(not aus, aus)
    assert ('not trained' in page.locator('section[aria-label=Clips] h3').first.inner_text())==aus
    assert (page.locator('option', has_text='as the model sees it').count()==1)==aus
    assert page.messages==[]
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
