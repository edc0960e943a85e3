"""Frames a second of the batched renderer against the naive one: one frame at a time, every triangle and pixel in a loop.

Run: python benchmarks/rendering.py    (both in one run; writes benchmarks/results/rendering.json)
"""
import platform, time
from pathlib import Path
import numpy as np
import torch
from fastprogress.fastprogress import progress_bar
from ssm_nb.faces.camera import project, rasterize, rotation
from ssm_nb.faces.scenes import LAB, render, sample_scene
from ssm_nb.faces.skin import sample_people
from ssm_nb.core.files import write_json
from ssm_nb.faces.mesh import load_basis, vertices

SIZE,BATCH,REPEATS,NAIVE_FRAMES = 112,64,12,2


def naive_frame(pts, triangles, size):
    "Nearest triangle at each pixel: a loop over triangles, and over the pixels of each one's box."
    best,depth = np.full((size,size), -1),np.full((size,size), np.inf)
    cross = lambda a, b: a[0]*b[1]-a[1]*b[0]
    for n,(p0,p1,p2) in enumerate(pts[triangles].astype(np.float64)):
        area = cross((p1-p0)[:2], (p2-p0)[:2])
        if area>=0: continue
        x0,y0 = np.clip(np.min([p0,p1,p2], 0)[:2], 0, size-1).astype(int)
        x1,y1 = np.clip(np.max([p0,p1,p2], 0)[:2], 0, size-1).astype(int)
        for y in range(y0, y1+1):
            for x in range(x0, x1+1):
                q = np.array([x+.5, y+.5])
                l0,l1 = cross(p1[:2]-q, p2[:2]-q)/area,cross(p2[:2]-q, p0[:2]-q)/area
                z = l0*p0[2]+l1*p1[2]+(1-l0-l1)*p2[2]
                if min(l0, l1, 1-l0-l1)>=0 and z<depth[y,x]: best[y,x],depth[y,x] = n,z
    return best


def main():
    g = torch.Generator().manual_seed(0)
    basis = load_basis(); people = sample_people(basis, 8, g)
    actions = torch.rand(BATCH, 1, len(basis.action_names), generator=g)*.3
    scene = sample_scene(LAB, torch.arange(BATCH)%8, actions, g)
    one = lambda i: type(scene)(*(x[i:i+1] for x in scene))
    render(basis, people, scene, SIZE, g)                                      # warm-up
    fast,single = [],[]
    for _ in progress_bar(range(REPEATS)):
        t = time.perf_counter(); render(basis, people, scene, SIZE, g); fast.append(BATCH/(time.perf_counter()-t))
        t = time.perf_counter(); [render(basis, people, one(i), SIZE, g) for i in range(8)]; single.append(8/(time.perf_counter()-t))
    verts = vertices(basis, people.identity[scene.person], scene.actions)@rotation(scene.pose).transpose(1,2)
    pts = project(verts, SIZE, scene.scale, scene.shift)
    t = time.perf_counter(); slow = [naive_frame(pts[i].numpy(), basis.triangles.numpy(), SIZE) for i in progress_bar(range(NAIVE_FRAMES))]
    naive = NAIVE_FRAMES/(time.perf_counter()-t)
    for i,best in enumerate(slow):                                             # the same picture
        fr = rasterize(pts[i:i+1], basis.triangles, SIZE)
        assert (best.flatten()[fr.pixel.numpy()]==fr.triangle.numpy()).mean()>.98
    batched,alone = float(np.median(fast)),float(np.median(single))
    out = dict(pixels=SIZE, batch=BATCH, threads=torch.get_num_threads(), torch=torch.__version__, processor=platform.processor() or platform.machine(),
        batched_fps=dict(median=batched, min=min(fast), max=max(fast)), one_at_a_time_fps=alone, naive_loops_fps=naive,
        batched_over_one_at_a_time=batched/alone, batched_over_naive_loops=batched/naive)
    write_json(Path(__file__).parent/'results'/'rendering.json', out)
    for k,v in out.items(): print(f'{k}: {v}')


if __name__=='__main__': main()
