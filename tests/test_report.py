"The report page fetches nothing, is well-formed, and draws its figures in a browser, in both themes."
import re, shutil, subprocess
from html.parser import HTMLParser
import numpy as np
import plotly.graph_objects as go
import pytest
from PIL import Image
from ssm_nb.core.files import write_json
from ssm_nb.show.report import Section, write_page

VOID = {'meta', 'img', 'br', 'hr', 'link', 'input'}
SVG = re.compile(r'<svg class="main-svg')

@pytest.fixture(scope='module')
def page(tmp_path_factory):
    clear = dict(paper_bgcolor='rgba(0,0,0,0)', plot_bgcolor='rgba(0,0,0,0)')
    loss = go.Figure(go.Scatter(y=[3, 2, 1]), layout=dict(clear, title='Loss', xaxis_title='step'))
    heat = go.Figure(go.Heatmap(z=np.eye(3), texttemplate='%{z:.2f}'), layout=clear)
    points = go.Figure(go.Scattergl(x=[1, 2], y=[2, 1], mode='markers'), layout=clear)
    return write_page(tmp_path_factory.mktemp('page')/'page.html', 'Two tasks & <one> map', [
        Section('Curves', ['Markdown with **bold** and ![an image from elsewhere](https://example.org/x.png)', loss, heat]),
        Section('Points </script><script>alert(1)</script>', [points, [dict(AU='AU12', F1=np.float32(.5)), dict(AU='<b>', F1=np.nan)]]),
        Section('Frames', [Image.new('RGB', (8, 8), 'red')])], intro='An <i>introduction</i>.', footer=dict(seed=0, date='2020-01-01'))

class Reader(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open,self.fetched,self.ids = [],[],[]
        self.feed(text)
    def handle_starttag(self, tag, attrs):
        if tag not in VOID: self.open.append(tag)
        d = dict(attrs)
        self.fetched += [(tag, d[k]) for k in ('src', 'srcset', 'data', 'poster', 'href') if k in d]
        if 'id' in d: self.ids.append(d['id'])
    def handle_endtag(self, tag):
        if tag not in VOID: assert self.open.pop()==tag # a void tag closes itself: <br />

def test_every_tag_is_closed_and_every_id_is_used_once(page):
    r = Reader(page.read_text())
    assert r.open == []
    assert len(r.ids)==len(set(r.ids))
    assert {o[1:] for t,o in r.fetched if t=='a'} <= set(r.ids)

def test_nothing_outside_is_asked_for_but_what_the_policy_blocks(page):
    text = page.read_text()
    outside = [o for o in Reader(text).fetched if not o[1].startswith(('#', 'data:'))]
    assert outside == [('img', 'https://example.org/x.png')], 'only what this test put into the Markdown'
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', text)[1]
    assert policy.startswith("default-src 'none';") and 'http' not in policy and '*' not in policy
    assert '<script>alert' not in text and '&lt;script&gt;alert' in text

def test_the_page_replaces_the_old_one_whole_or_not_at_all(tmp_path):
    file = write_page(tmp_path/'a.html', 'old', [])
    old = file.read_text()
    with pytest.raises(TypeError, match="section 'new': a object cannot be shown"):
        write_page(file, 'new', [Section('new', ['fine', object()])])
    assert file.read_text()==old and [o.name for o in tmp_path.iterdir()]==['a.html']

def test_json_keeps_every_digit_of_a_score(tmp_path):
    import json
    x = np.random.default_rng(0).random(100)
    assert json.loads(write_json(tmp_path/'a.json', dict(x=x)).read_text())['x'] == x.tolist()

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)

def browse(page, folder, *args):
    cmd = [CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-dev-shm-usage',
           f'--user-data-dir={folder/"profile"}', '--virtual-time-budget=8000', '--enable-logging=stderr', *args, page.as_uri()]
    return subprocess.run(cmd, capture_output=True, text=True, timeout=120, check=True)

@pytest.mark.skipif(not CHROMIUM, reason='no chromium on this machine')
def test_the_browser_draws_every_figure_and_is_refused_the_outside(page, tmp_path):
    r = browse(page, tmp_path, '--dump-dom')
    for i in ('s0-1', 's0-2', 's1-0'):
        assert SVG.search(r.stdout.split(f'id="{i}"')[1][:3000]), f'figure {i} was not drawn'
    assert 'data-title="Download plot as a PNG"' in r.stdout and 'data-title="Share' not in r.stdout, 'faces must not be sent to a cloud by a click'
    messages = [l for l in r.stderr.splitlines() if 'CONSOLE' in l and 'WebGL' not in l]
    assert messages and all('Content Security Policy' in l and 'example.org' in l for l in messages), messages

@pytest.mark.skipif(not CHROMIUM, reason='no chromium on this machine')
@pytest.mark.parametrize('theme,setting', [('dark', 0), ('light', 1)])
def test_the_ground_follows_the_theme(page, tmp_path, theme, setting):
    shot = tmp_path/'shot.png'
    browse(page, tmp_path, f'--blink-settings=preferredColorScheme={setting}', '--window-size=800,900', f'--screenshot={shot}')
    im = np.asarray(Image.open(shot).convert('L'))
    assert (np.median(im)>200) == (theme=='light')
    assert im.std()>5, 'the page is empty'
