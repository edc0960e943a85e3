"""Prototypes in eval mode: kept, against computed again, at the text shapes of ViT-B/16 (random weights).

One run, same values; prints the ratio. Keeping them includes comparing every weight.
    python benchmarks/prototypes.py [repeats]
"""
import sys
import torch
from open_clip import CLIP
from statistics import median
from time import perf_counter
from ssm_nb.facs import label_space
from ssm_nb.prototypes import Prototypes, released_prompts

def seconds(f, n):
    "Median time of `f` over `n` calls"
    out = []
    for _ in range(n):
        start = perf_counter(); f()
        out.append(perf_counter()-start)
    return median(out)

@torch.no_grad()
def main(repeats=5):
    clip = CLIP(embed_dim=512, vision_cfg=dict(image_size=32, patch_size=16, width=64, layers=1),
        text_cfg=dict(width=512, heads=8, layers=12), quick_gelu=True)
    protos = Prototypes(clip, *released_prompts(label_space('bp4d', 7)), torch.Generator().manual_seed(0)).eval()
    for a,b in zip(protos(), protos.compute()): assert torch.equal(a, b)
    kept,again = seconds(protos, repeats),seconds(protos.compute, repeats)
    print(f'kept {1000*kept:.1f} ms, computed again {1000*again:.0f} ms, ratio {again/kept:.0f}')

if __name__=='__main__': main(*map(int, sys.argv[1:]))
