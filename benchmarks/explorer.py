"""How fast the explorer answers in a browser: hover, a counterfactual, a step of an epoch, a face; and what the page weighs.

The system's Chromium without a GPU, on this machine. Times are of the work that an event starts, until everything it
changes is drawn by the page; what the browser then lays out and paints comes on top. Of 200 events the 95th percentile and
the median, in five rounds: the middle round's, and every round's 95th percentile, as a shared machine has slow moments. A
step of an epoch computes maps, prototypes, logits and scores anew and draws every view that shows them, the face included.

Once `at_rest`: an event comes when the browser has laid out and painted what the last one changed. And once `in_haste`: it
comes 4 ms after the last one, with that one's layout still to do, or while other threads paint it.

`longest_task_ms` is the longest time that the page was busy in one piece, the browser's share included: while it loads,
for each of five loads, and while it is used, for each round.

Run: python benchmarks/explorer.py PAGE    (an explorer.html, such as `ssm-explore RUN` writes; writes benchmarks/results/explorer.json)
"""
import os, platform, sys
from pathlib import Path
from statistics import median
sys.path.insert(0, str(Path(__file__).parents[1]/'tests'))
from browser import browser
from ssm_nb.core.files import write_json

WATCH = '''globalThis.tasks = [];
new PerformanceObserver(l => tasks.push(...l.getEntries().map(e => e.duration))).observe({type: 'longtask', buffered: true});'''

MEASURE = '''async at_rest => {
    const {store, update, box, face} = await globalThis.explorer, {expressions, aus} = store.spec.labels;
    const times = {hover: [], counterfactual: [], epoch_step: [], face_320: []}, pick = (x, k) => x[k % x.length];
    const wait = ms => new Promise(r => setTimeout(r, ms));
    const rest = () => at_rest ? new Promise(requestAnimationFrame).then(() => wait(30)) : wait(4);
    const time = async (name, f) => { const t = performance.now(); f(); times[name].push(performance.now() - t); await rest(); };
    const stage = box.querySelector('.sx-stage'), at = stage.getBoundingClientRect();
    for (let k = 0; k < 220; k++) {
        const move = {clientX: at.left + (k * 37) % at.width, clientY: at.top + (k * 13) % at.height};
        const edit = {kind: 'scale', way: pick(['fe2au', 'au2fe'], k), expression: pick(expressions, k), au: pick(aus, k), by: 1 + k / 100};
        await time('hover', () => stage.dispatchEvent(new PointerEvent('pointermove', move)));
        await time('counterfactual', () => { store.setEdits([edit]); store.result; });
        store.poseRow('learned', pick(expressions, k)); update(); await rest();
        await time('epoch_step', () => { store.cache.clear(); store.set({base: k % store.spec.epochs.length}); update(); });
        await time('face_320', () => { store.left.fill(k / 400); store.right.fill(k / 300); store.posed = 'by hand'; face(); });
    }
    return Object.fromEntries(Object.entries(times).map(([k, v]) => [k, v.slice(20)])); // the first ones compile
}'''

ROUNDS = 5

def quantile(x, q): return round(sorted(x)[int(q*len(x))], 2)

def summary(rounds):
    "Milliseconds of each kind of event: of the middle round, and of all"
    p95,half = ({k:[quantile(r[k], q) for r in rounds] for k in rounds[0]} for q in (.95, .5))
    return dict(p95_ms={k:median(v) for k,v in p95.items()}, p95_ms_of_rounds=p95, median_ms={k:median(v) for k,v in half.items()})

def loaded(b, page):
    "The page, and the longest task while it was loading"
    p = b.new_page(viewport=dict(width=1400, height=900))
    p.add_init_script(WATCH)
    p.goto(Path(page).resolve().as_uri())
    p.evaluate('globalThis.explorer.then(() => 1)')
    p.wait_for_timeout(500)
    return p,p.evaluate('Math.max(0, ...tasks)')

def main(page):
    with browser() as b:
        loads = []
        for _ in range(5):
            p,longest = loaded(b, page)
            loads.append(longest)
            if len(loads)<5: p.close()
        times,used = dict(at_rest=[], in_haste=[]),[]
        for how in ROUNDS*[*times]:
            p.evaluate('tasks.length = 0')
            times[how].append(p.evaluate(MEASURE, how=='at_rest'))
            p.wait_for_timeout(500)
            used.append(p.evaluate('Math.max(0, ...tasks)'))
        found = dict(page_bytes=Path(page).stat().st_size, **{how:summary(rounds) for how,rounds in times.items()},
                     longest_task_ms=dict(loading=loads, in_use=used), browser=b.version,
                     cores=os.cpu_count(), load=[round(o, 1) for o in os.getloadavg()], machine=platform.machine())
    write_json(Path(__file__).parent/'results'/'explorer.json', found)
    print(found)

if __name__=='__main__':
    if len(sys.argv)!=2: sys.exit(__doc__)
    main(sys.argv[1])
