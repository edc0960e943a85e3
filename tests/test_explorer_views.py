"Two views of one widget in JupyterLab, used while they are being built, removed and built again, and while Python changes the traits"
import json, random
import pytest
from browser import browser, until
from test_explorer_lab import CELLS, lab_with, run_cell

pytest.importorskip('jupyterlab', reason='jupyterlab is not installed')

PLAY = '''import asyncio, random
async def play(times, r=random.Random(1), l=spec.labels):
    for _ in range(times):
        at = dict(way=r.choice(['au2fe', 'fe2au']), expression=r.choice(l.expressions), au=r.choice(l.aus))
        what = r.choice(['selection', 'edits', 'epoch'])
        setattr(w, what, dict(selection=at, edits=[dict(kind='cut', **at)], epoch=r.choice([1, 2]))[what])
        await asyncio.sleep(r.random()/3)
task = asyncio.get_running_loop().create_task(play(12))'''
TOLD = "import json; print('told', json.dumps([w.selection, w.edits, w.epoch]), 'end')"

@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "JupyterLab on this machine, with a notebook that shows a widget twice"
    with lab_with(tmp_path_factory.mktemp('views'), 'views.ipynb', (CELLS[0], CELLS[1], 'w', PLAY, TOLD)) as url: yield url

STATES = '''() => Array.from(document.querySelectorAll('.sx'), o => [o.querySelector('.sx-cursor').getAttribute('aria-label'), o.querySelector('.sx-drawer textarea').value,
    o.querySelector('input[aria-label=Epoch]').value, ...['Undo', 'Redo'].map(k => Array.from(o.querySelectorAll('button')).find(b => b.textContent === k).disabled)])'''
BUILT = "() => Array.from(document.querySelectorAll('.sx')).length === 2 && Array.from(document.querySelectorAll('.sx')).every(o => o.querySelector('.sx-honest'))"

def press(page, view, name):
    "A button of a view, if it is there already"
    page.evaluate("([k, name]) => { const o = document.querySelectorAll('.sx')[k]; Array.from(o?.querySelectorAll('button') ?? []).find(b => b.textContent === name)?.click(); }", [view, name])

def act(page, r):
    "Something that a hand does, in a view that may not be whole"
    view,what = r.randrange(2),r.choice(['key', 'key', 'key', 'button', 'epoch'])
    if what=='button': return press(page, view, r.choice(['Remove', 'Cut', 'Undo', 'Redo', 'Restore']))
    if what=='epoch':
        return page.evaluate("([k, v]) => { const s = document.querySelectorAll('.sx')[k]?.querySelector('input[aria-label=Epoch]'); if (s) { s.value = v; s.dispatchEvent(new Event('input')); } }", [view, r.choice('01')])
    if page.evaluate("k => { const c = document.querySelectorAll('.sx')[k]?.querySelector('.sx-cursor'); c?.focus({preventScroll: true}); return Boolean(c); }", view):
        page.keyboard.press(r.choice(['ArrowRight', 'ArrowDown', 'ArrowLeft', 'Delete', 'Shift+Delete', 'u', 'Control+z', 'Control+Shift+z', 'r']))

def same_state(page, told):
    "What both views and Python say, once all is quiet: edge, edits, epoch, what can be undone"
    page.wait_for_timeout(1200)
    a,b = page.evaluate(STATES)
    assert a==b, (a, b)
    selection,edits,epoch = told()
    names = dict(edited_model=lambda model, edits, spec: edits, model=None, spec=None)
    assert eval(a[1], names)==edits and int(a[2])+1==epoch
    au,expression = f"AU{selection['au']} ",selection['expression']
    where = a[0].split(': ')[0].split(' → ')
    where = where if selection['way']=='au2fe' else where[::-1]
    assert where[0].startswith(au) and where[1]==expression, (a[0], selection)

def undone(page):
    "As deep as one view goes, so goes the other"
    for i in range(300):
        a,b = page.evaluate(STATES)
        assert a==b, (i, a, b)
        if a[3]: return i
        press(page, i%2, 'Undo')
        page.wait_for_timeout(40)
    raise AssertionError('there is no end to what can be undone')

@pytest.fixture(scope='module')
def page(lab):
    "The notebook, its kernel ready, the specification read"
    with browser() as b:
        page = b.new_page(viewport=dict(width=1400, height=1000))
        page.errors = []
        page.on('pageerror', lambda e: page.errors.append(str(e)))
        page.goto(f'{lab}/lab/tree/views.ipynb?reset')
        until(page, "document.querySelectorAll('.jp-Notebook .jp-Cell').length>=5", 120)
        until(page, "document.body.innerText.includes('| Idle')", 120)
        run_cell(page, 0)
        until(page, "document.querySelectorAll('.jp-InputPrompt')[0].innerText.includes('[1]')", 240)
        yield page

@pytest.fixture
def told(page):
    "Asks Python what it knows"
    def ask():
        page.evaluate("document.querySelectorAll('.jp-Cell')[4].querySelector('.jp-OutputArea')?.replaceChildren()")
        run_cell(page, 4)
        until(page, "document.querySelectorAll('.jp-Cell')[4].innerText.includes(']] end') || / end/.test(document.querySelectorAll('.jp-Cell')[4].querySelector('.jp-OutputArea')?.innerText ?? '')", 60)
        text = page.locator('.jp-Cell').nth(4).locator('.jp-OutputArea-output').inner_text()
        return json.loads(text.split('told ')[1].split(' end')[0])
    return ask

@pytest.mark.parametrize('seed', range(2))
def test_two_views_stay_in_step(page, told, seed):
    "Hands in both views, from before they are whole; one view goes and comes again; Python plays along"
    r = random.Random(seed)
    run_cell(page, 1); run_cell(page, 2)
    if seed: run_cell(page, 3)
    for k in range(45):
        act(page, r)
        page.wait_for_timeout(r.choice([0, 0, 10, 50]))
        if seed and k in (15, 30): run_cell(page, 2)
    until(page, BUILT, 60)
    page.wait_for_timeout(2000 if seed else 0) # until Python is done
    same_state(page, told)
    assert undone(page)>0
    same_state(page, told)
    assert page.errors==[]

def test_a_key_in_a_view_that_is_being_built_loses_no_edit(page, told):
    run_cell(page, 1)
    until(page, "document.querySelectorAll('.sx').length>=1 && document.querySelector('.sx .sx-honest')", 60)
    page.evaluate("document.querySelectorAll('.jp-Cell')[2].querySelector('.jp-OutputArea')?.replaceChildren()")
    page.locator('.sx-cursor').first.focus(); page.keyboard.press('Delete')
    page.evaluate("""globalThis.early = null; new MutationObserver((_, o) => {
        const view = document.querySelectorAll('.sx')[1], c = view?.querySelector('.sx-cursor');
        if (!c) return;
        o.disconnect();
        early = !view.querySelector('.sx-drawer');
        for (const key of ['ArrowRight', 'Delete']) c.dispatchEvent(new KeyboardEvent('keydown', {key, shiftKey: key === 'Delete', bubbles: true}));
    }).observe(document.body, {childList: true, subtree: true}); 0""")
    run_cell(page, 2)
    until(page, BUILT, 60)
    assert page.evaluate('early') is True
    same_state(page, told)
    assert [o['kind'] for o in told()[1]]==['reweight', 'cut']
    assert page.errors==[]
