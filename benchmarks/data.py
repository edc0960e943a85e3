"""How fast clips are read and manifests indexed, against the plain way of doing it, and what five indexes weigh.

Clips: 16 frames of 224 px from 400 x 400 JPEGs, per core. The plain way is Pillow and torchvision's transforms, frame by
frame, up to normalised floats; ours are `FrameCache.clip` with a `TrainingView` or `eval_transform`, and `normalise`. Indexing:
BP4D fold 1, against a reader that goes line by line and looks for each file; every listed image counts as present.
All sides take turns, and processor time is counted, so other work on the machine disturbs little. `ratio` is the median of the
turns: how much faster ours was than the plain way in the same turn.

Run: python benchmarks/data.py [folder of the split files]    (writes benchmarks/results/data.json)
"""
import gc, os, platform, sys, tracemalloc
from collections import defaultdict
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import process_time
import numpy as np
import torch
import torchvision
from fastprogress.fastprogress import progress_bar
from PIL import Image
from torchvision import transforms as T
from ssm_nb.data.formats import DATA_SETS
from ssm_nb.data.manifests import clean_frames, read_manifest
from ssm_nb.data.clips import find_segments, train_clips
from ssm_nb.data.frames import decode_frame, FrameCache
from ssm_nb.data.augment import CLIP_MEAN, CLIP_STD, eval_transform, normalise, AUGMENTATIONS, TrainingView
from ssm_nb.data.datasets import keyed_generator
from ssm_nb.labels.facs import label_space
from ssm_nb.core.files import write_json

SIZE,FRAMES,REPEATS = 224,16,41
BP4D = 'bp4d/train_1f_data.list','bp4d/test_1f_data.list'
SPLITS = {**{o:'bp4d' for o in BP4D}, 'disfa/DISFA_test1.json':'disfa', 'DFEW/DFEW_set_1_train.txt':'dfew', 'DFEW/DFEW_set_1_test.txt':'dfew',
    'FERV39K/FERV39K_train.txt':'ferv39k', 'FERV39K/FERV39K_test.txt':'ferv39k', 'MAFW/MAFW_set_1_train.txt':'mafw', 'MAFW/MAFW_set_1_test.txt':'mafw'}


def in_turns(ways, repeats):
    "Processor seconds of each way, by name, one a turn; they take turns."
    took = defaultdict(list)
    for f in ways.values(): f()                                                # warm-up
    gc.collect()
    for _ in progress_bar(range(repeats)):
        for name,f in ways.items():
            start = process_time(); f(); took[name].append(process_time()-start)
    return took


def times_as_fast(took, plain, ours):
    "The median, over the turns, of how much faster one way was than another in the same turn."
    return median(p/o for p,o in zip(took[plain], took[ours]))


def picture(rng, n):
    "n x n pixels whose detail falls with frequency as it does in photographs."
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(n), np.fft.rfftfreq(n), indexing='ij')); f[0,0] = 1
    def field(power):
        x = np.fft.irfft2(np.exp(2j*np.pi*rng.random(f.shape))/f**power, (n,n))
        return x/x.std()
    light = field(1.6)
    return Image.fromarray(np.stack([128+45*light+12*field(1.8) for _ in range(3)], -1).clip(0, 255).astype(np.uint8))


def write_clip(folder, pixels):
    "A clip's frames as JPEG, quality 90; mean bytes of a file."
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for i in range(FRAMES): picture(rng, pixels).save(folder/f'{i}.jpg', quality=90)
    return sum(o.stat().st_size for o in folder.iterdir())/FRAMES


def plain(name, training):
    "torchvision's transforms of a data set, for one frame."
    r,big = AUGMENTATIONS[name],round(SIZE*256/224)
    crop = T.RandomResizedCrop(SIZE, r.scale, r.ratio)
    first = [] if r.resize is None else [T.Resize(big if r.resize=='short' and training else (big, big))]
    turn = [T.RandomRotation(r.rotation)]*(r.rotation>0)                       # the whole frame, nearest pixels, before the crop
    change = [T.ColorJitter(r.brightness)]*(r.brightness>0)
    last = [T.ToTensor(), T.Normalize(CLIP_MEAN, CLIP_STD)]
    if training: return T.Compose([*first, *turn, crop, T.RandomHorizontalFlip(r.flip), *change, *last])
    return T.Compose([*first, *([T.CenterCrop(SIZE)] if first else [T.Resize((SIZE, SIZE))]), *last])


def clip_ways(folder, name, training):
    "The plain way and ours of getting one clip."
    paths,cache,g,tfm = [f'{i}.jpg' for i in range(FRAMES)],FrameCache(folder),keyed_generator(0, 'benchmark'),plain(name, training)
    at_least = round(SIZE*256/224) if training and AUGMENTATIONS[name].resize else None
    def ours():
        if not training: return eval_transform(cache.clip(paths), AUGMENTATIONS[name], SIZE)
        view = TrainingView(AUGMENTATIONS[name], SIZE, g)
        return view.finish(cache.clip(paths, at_least, view.part, view.channels))
    return dict(plain=lambda: torch.stack([tfm(Image.open(folder/o).convert('RGB')) for o in paths]), ours=lambda: normalise(ours()[None]))


def clips(tmp):
    "Clips a second and core of each data set, plain and ours, and how much decoding alone takes."
    size = write_clip(tmp/'400', 400)
    sets = [(name, training) for training in (True, False) for name in AUGMENTATIONS]
    took = in_turns({(*o, way):f for o in sets for way,f in clip_ways(tmp/'400', *o).items()}, REPEATS)  # all sets too: a slow moment strikes all alike
    out = {f"{name} {'training' if training else 'evaluation'}": dict(plain=1/median(took[name, training, 'plain']), ours=1/median(took[name, training, 'ours']),
        ratio=times_as_fast(took, (name, training, 'plain'), (name, training, 'ours'))) for name,training in sets}
    files = [tmp/'400'/f'{i}.jpg' for i in range(FRAMES)]
    t = in_turns(dict(plain=lambda: [Image.open(o).load() for o in files], ours=lambda: [decode_frame(o) for o in files]), REPEATS)
    return dict(pixels=400, kB=size/1000, clips_per_second=out, decoding_alone=dict(pillow=1/median(t['plain']), ours=1/median(t['ours'])))


def reduced(tmp):
    "Frames of 1040 px, as BP4D's originals: what decoding at a reduced scale saves and changes."
    size = write_clip(tmp/'1040', 1040)
    t = in_turns(clip_ways(tmp/'1040', 'bp4d', True), 5)
    cache,paths = FrameCache(tmp/'1040'),[f'{i}.jpg' for i in range(FRAMES)]
    a,b = (eval_transform(cache.clip(paths, o), AUGMENTATIONS['bp4d'], SIZE).float() for o in (None, 256))
    off = (a-b).abs()
    return dict(pixels=1040, kB=size/1000, decoded_to=cache.clip(paths, 256).shape[-1], plain=1/median(t['plain']), ours=1/median(t['ours']), ratio=times_as_fast(t, 'plain', 'ours'),
        levels_apart=dict(mean=off.mean().item(), p99=off.flatten()[::7].quantile(.99).item(), max=off.max().item()))


def space(name): return label_space('disfa' if name=='disfa' else 'bp4d', 11 if name=='mafw' else 7)


def line_by_line(files, root):
    "The plain index of BP4D: each line split, each file looked for, labels as floats."
    out = []
    for f in files:
        with open(f) as lines:
            for line in lines:
                path,*labels = line.split()
                os.path.exists(os.path.join(root, path))                       # the answer is not used: all count as present
                seq,name = path.split('/')
                out.append((path, seq, int(name.split('.')[0]), [float(o) for o in labels]))
    return out


def indexing(splits, tmp):
    "BP4D fold 1: seconds of the plain reader, of ours with and without a kept index; the same rows from all."
    files,sp = [splits/o for o in BP4D],space('bp4d')
    ways = dict(plain=lambda: line_by_line(files, tmp/'images'), ours=lambda: [read_manifest(o, 'bp4d', sp) for o in files],
        ours_kept=lambda: [read_manifest(o, 'bp4d', sp, cache=tmp/'index') for o in files])
    rows = ways['plain']()
    for way in ('ours', 'ours_kept', 'ours_kept'):
        found = ways[way]()
        assert [p for r in found for p in r.paths]==[o[0] for o in rows] and np.array_equal(np.concatenate([r.labels for r in found]), [o[3] for o in rows])
    assert all(clean_frames(o.read_bytes(), sp.n_aus) for o in files)
    t = in_turns(ways, 5)
    return dict(lines=len(rows), seconds={k:median(v) for k,v in t.items()}, ratio=times_as_fast(t, 'plain', 'ours'), ratio_kept=times_as_fast(t, 'plain', 'ours_kept'))


def memory(splits):
    "What all five indexes weigh, with the segments and clips of the frame-labelled ones: traced MB, held and at the peak."
    gc.collect(); tracemalloc.start()
    held = []
    for file,name in SPLITS.items():
        r = read_manifest(splits/file, name, space(name))
        held.append((r, train_clips(find_segments(r)) if r.dataset.task=='au' else None))
    now,peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert {r.dataset.name for r,_ in held}==set(DATA_SETS)
    return dict(lines=sum(len(r) for r,_ in held), held_MB=now/1e6, peak_MB=peak/1e6)


def main(splits):
    torch.set_num_threads(1)
    with TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        out = dict(processor=platform.processor() or platform.machine(), torch=torch.__version__, torchvision=torchvision.__version__, threads=1, repeats=REPEATS,
            clips=clips(tmp), reduced_scale=reduced(tmp), indexing=indexing(splits, tmp), memory=memory(splits))
    write_json(Path(__file__).parent/'results'/'data.json', out)
    for part in ('clips', 'reduced_scale', 'indexing', 'memory'): print(part, out[part])


if __name__=='__main__':
    splits = Path(sys.argv[1] if len(sys.argv)>1 else os.environ.get('SSM_SPLITS') or Path(__file__).resolve().parents[2]/'shared'/'splits')
    if not (splits/BP4D[0]).exists(): sys.exit(f'no split files in {splits}: name their folder')
    main(splits)
