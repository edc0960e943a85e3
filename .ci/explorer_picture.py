"""Draw nbs/images/explorer.gif: the explorer while someone touches it, from the run that comes with the library.

Chooses happiness and its link to AU12, removes it, looks at what changes, and takes it back. Needs a Chromium or Chrome
of the system, and Playwright. Run: python .ci/explorer_picture.py
"""
import io, sys, tempfile
from pathlib import Path
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT/'tests'))
from browser import browser, settle
from ssm_nb.explore.example import example_spec
from ssm_nb.explore.page import write_explorer

PICTURE = ROOT/'nbs'/'images'/'explorer.gif'
SIZE = 1060,1010  # of the window, pixels
WIDTH = 760       # of the picture
CSS = '''.sx-head .sx-soft, .sx-sliders, .sx-drawer textarea, .sx-drawer textarea + button,
  .sx-bar:has(> .sx-seg + .sx-seg + .sx-seg) > :last-child, .sx-drawer dl, .sx-pics, .sx-tracks p,
  section[aria-label^=Epochs], section[aria-label=Prototypes], .sx-honest { display: none !important }
  .touch { position: fixed; z-index: 9; width: 26px; height: 26px; margin: -13px; border-radius: 50%; border: 3px solid #c2410c;
  background: #fb923c66; pointer-events: none }'''

class Film:
    "Frames of a page, with a circle where it is touched"
    def __init__(self, page): self.page,self.frames,self.at = page,[],(500, 600)
    def show(self, ms):
        "One more frame, shown for so long"
        settle(self.page)
        picture = Image.open(io.BytesIO(self.page.screenshot())).convert('RGB')
        height = round(picture.height*WIDTH/picture.width)
        self.frames.append((picture.resize((WIDTH, height), Image.LANCZOS), ms))
    def move(self, x, y):
        self.page.evaluate('([x, y]) => Object.assign(touch.style, {left: `${x}px`, top: `${y}px`})', [x, y])
    def touch(self, target, ms):
        "Go there in three steps, press, and look"
        o = target.bounding_box()
        x,y = o['x']+o['width']/2,o['y']+o['height']/2
        for k in (1, 2, 3):
            self.move(*(a+(b-a)*k/3 for a,b in zip(self.at, (x, y))))
            self.show(90 if k<3 else 300)
        self.at = x,y
        self.page.mouse.click(x, y)
        self.page.mouse.move(1, 1)
        self.show(ms)
    def save(self, path):
        "An animation of one palette"
        pictures,ms = zip(*self.frames)
        palette = pictures[-1].quantize(256, method=Image.Quantize.MEDIANCUT)
        small = [o.quantize(palette=palette, dither=Image.Dither.NONE) for o in pictures]
        path.parent.mkdir(exist_ok=True)
        small[0].save(path, save_all=True, append_images=small[1:], duration=list(ms), loop=0, optimize=True, disposal=1)

def main():
    with tempfile.TemporaryDirectory() as folder, browser() as b:
        page = b.new_page(viewport=dict(zip(('width', 'height'), SIZE)), color_scheme='light', device_scale_factor=1.5)
        page.goto(write_explorer(Path(folder)/'explorer.html', example_spec()).as_uri())
        page.evaluate('() => globalThis.explorer.then(() => 1)')
        page.evaluate('''css => { document.querySelector('.sx').append(Object.assign(document.createElement('style'), {textContent: css}));
            globalThis.touch = Object.assign(document.createElement('i'), {className: 'touch'}); document.body.append(touch); }''', CSS)
        choose = page.get_by_label('Clip', exact=True)
        happy = next(o for o in choose.locator('option').all_inner_texts() if o.startswith('happiness'))
        choose.select_option(label=happy)
        film,drawer = Film(page),page.locator('.sx-drawer')
        film.move(*film.at); film.show(1200)
        film.touch(page.locator('.sx-lab', has_text='happiness').first, 1000)
        film.touch(page.locator('.sx-lab[aria-label^="AU12 "]').first, 1000)
        film.touch(page.locator('.sx-lab', has_text='happiness').first, 900)
        film.touch(drawer.get_by_role('button', name='Remove', exact=True), 2600)
        film.touch(drawer.get_by_role('button', name='Undo', exact=True), 1400)
        film.save(PICTURE)
    print(f'{PICTURE.relative_to(ROOT)}: {len(film.frames)} frames, {PICTURE.stat().st_size/1000:.0f} kB')

if __name__=='__main__': main()
