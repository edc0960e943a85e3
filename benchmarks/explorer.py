"""How fast the explorer answers in a browser: hover, a counterfactual, a step of an epoch, a face; and what the page weighs.

The system's Chromium without a GPU, on this machine. Times are of the work that an event starts, until everything it
changes is drawn, 95th percentile; `longest_task` is the longest time the page was busy in one piece, loading included.

Run: python benchmarks/explorer.py PAGE    (an explorer.html, such as `ssm-explore RUN` writes; writes benchmarks/results/explorer.json)
"""
import os, platform, sys
from pathlib import Path
sys.path.insert(0, str(Path(__file__).parents[1]/'tests'))
from browser import browser, until
from ssm_nb.core.files import write_json

MEASURE = '''async () => {
    const app = await globalThis.explorer, {store, update, box} = app, spec = store.spec, times = {hover: [], counterfactual: [], epoch_step: [], face_320: []};
    const time = (name, f) => { const t = performance.now(); f(); times[name].push(performance.now() - t); }, rest = () => new Promise(r => setTimeout(r, 4));
    const stage = box.querySelector('.sx-stage'), at = stage.getBoundingClientRect(), labels = spec.labels;
    for (let k = 0; k < 200; k++) {
        const way = k % 2 ? 'au2fe' : 'fe2au', expression = labels.expressions[k % labels.expressions.length], au = labels.aus[k % labels.aus.length];
        time('hover', () => stage.dispatchEvent(new PointerEvent('pointermove', {clientX: at.left + (k * 37) % at.width, clientY: at.top + (k * 13) % at.height})));
        time('counterfactual', () => { store.setEdits([{kind: 'scale', way, expression, au, by: 1 + k / 100}]); store.result; });
        await rest();
        time('epoch_step', () => { store.cache.clear(); store.set({base: k % spec.epochs.length}); update(); });
        await rest();
        time('face_320', () => { store.left.fill(k / 400); store.right.fill(k / 300); store.posed = 'by hand'; app.face(); });
        await rest();
    }
    return times;
}'''

def p95(x): return sorted(x)[int(.95*len(x))]

def main(page):
    with browser() as b:
        p = b.new_page(viewport=dict(width=1400, height=900))
        p.add_init_script("globalThis.tasks = []; new PerformanceObserver(l => tasks.push(...l.getEntries().map(e => e.duration))).observe({type: 'longtask', buffered: true});")
        p.goto(Path(page).resolve().as_uri())
        until(p, "!!document.querySelector('.sx-cursor')"); p.wait_for_timeout(1000)
        loading = p.evaluate('Math.max(0, ...tasks)'); p.evaluate('tasks.length = 0')
        times = p.evaluate(MEASURE)
        p.wait_for_timeout(500)
        found = dict(page_bytes=Path(page).stat().st_size, p95_ms={k:round(p95(v), 2) for k,v in times.items()}, median_ms={k:round(sorted(v)[len(v)//2], 2) for k,v in times.items()},
            longest_task_ms=dict(loading=loading, afterwards=p.evaluate('Math.max(0, ...tasks)')), browser=b.version, cores=os.cpu_count(), load=[round(o, 1) for o in os.getloadavg()], machine=platform.machine())
    write_json(Path(__file__).parent/'results'/'explorer.json', found)
    print(found)

if __name__=='__main__':
    if len(sys.argv)!=2: sys.exit(__doc__)
    main(sys.argv[1])
