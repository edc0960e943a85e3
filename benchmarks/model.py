"""The model at ViT-B/16 shapes on the CPU (random weights, short batches): one branch against both, prototypes kept against computed again,
experts sorted against a loop over masks, activation checkpointing against none. Ratios in one run.

Run: python benchmarks/model.py    (writes benchmarks/results/model.json)
"""
import resource, subprocess, sys, time
from pathlib import Path
from statistics import median
import torch
from torch.nn import functional as F
from ssm_nb.model.backbone import clip_config
from ssm_nb.model.routing import experts_run, route, sorted_mixture
from ssm_nb.labels.facs import label_space
from ssm_nb.core.files import write_json
from ssm_nb.model.ssm import build_ssm
from ssm_nb.labels.prior import ssm_prior
from ssm_nb.model.prototypes import released_prompts

AU_CLIPS,FE_CLIPS = 2,3   # the release evaluates 8 and 12 at a time


def model():
    "A ViT-B/16 SSM."
    space = label_space('bp4d', 7)
    return build_ssm(clip_config('ViT-B-16-quickgelu'), space, ssm_prior(space), *released_prompts(space), n_expert_blocks=6)


def clips(n): return torch.randn(n, 16, 3, 224, 224, generator=torch.Generator().manual_seed(n))


def against(fast, slow, repeats):
    "Median seconds of both, called in turn, and how many times longer the slow one takes."
    times = ([],[])
    fast(); slow()                                                             # warm-up
    for _ in range(repeats):
        for f,out in zip((fast, slow), times): begun = time.perf_counter(); f(); out.append(time.perf_counter()-begun)
    f,s = map(median, times)
    return dict(fast_seconds=f, slow_seconds=s, ratio=s/f)


@torch.no_grad()
def branches(m):
    "AU evaluation: only the AU branch, against both branches as in the release."
    au,fe = clips(AU_CLIPS),clips(FE_CLIPS)
    assert torch.allclose(m(au_clip=au).au, m(fe, au).au, atol=1e-4)
    return against(lambda: m(au_clip=au), lambda: m(fe, au), 3)


@torch.no_grad()
def prototypes(m):
    "Prototypes in eval mode; keeping them includes comparing every weight."
    for a,b in zip(m.prototypes(), m.prototypes.compute()): assert torch.equal(a, b)
    return against(m.prototypes, m.prototypes.compute, 5)


def masked_mixture(x, weights, run, params):
    "A loop over experts and slots, each with a mask over the tokens."
    out = torch.zeros_like(x)
    for e,(w1,b1,w2,b2) in enumerate(zip(*params)):
        for s in range(run.shape[1]):
            mine = run[:,s]==e
            y = F.linear(F.gelu(F.linear(x[mine], w1, b1)), w2, b2)*weights[mine,s,None]
            out = out.index_put((mine.nonzero()[:,0],), y, accumulate=True)
    return out


def experts(frames=64, d=768, h=512, n_experts=4):
    "The mixture of one block, forward and backward."
    g = torch.Generator().manual_seed(0)
    r = lambda *shape: (torch.randn(*shape, generator=g)*shape[-1]**-.5).requires_grad_()
    x,params = r(frames*197,d),(r(n_experts,h,d), r(n_experts,h), r(n_experts,d,h), r(n_experts,d))
    weights,chosen = route(torch.randn(len(x), n_experts, generator=g))
    weights,run,above = weights.detach().requires_grad_(),experts_run(chosen),torch.randn(len(x), d, generator=g)/len(x)
    leaves = x,weights,*params
    grads = lambda mixture: torch.autograd.grad(mixture(x, weights, run, params), leaves, above)
    for a,b in zip(grads(sorted_mixture), grads(masked_mixture)): torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
    return against(lambda: grads(sorted_mixture), lambda: grads(masked_mixture), 9)


def step(m, checkpointing):
    "Gradients of one step on one clip of each task, router noise from one seed."
    m.train().image.recompute = checkpointing
    noise = torch.randn(1, 16, *m.image.noise_shape, generator=torch.Generator().manual_seed(0))
    out = m(clips(1), clips(1), noise, noise)
    (out.fe.square().mean()+out.au.square().mean()).backward()
    grads = [p.grad for p in m.parameters() if p.grad is not None]
    m.zero_grad()
    return grads


def peak(checkpointing):
    "Largest memory of a process that does one step, GiB, and its seconds."
    code = f'import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import model; model.child({checkpointing})'
    gib,seconds = map(float, subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True, capture_output=True, text=True).stdout.split()[-2:])
    return dict(peak_gib=gib, seconds=seconds)


def child(checkpointing):
    m = model(); begun = time.perf_counter(); step(m, checkpointing)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/2**20, time.perf_counter()-begun)


def checkpointing():
    "Memory of the whole process during one training step, and whether the gradients are the same."
    plain,saved = peak(False),peak(True)
    m = model()
    a,b = step(m, False),step(m, True)
    off = max(((x-y).abs().max()/x.abs().max().clamp(min=1e-12)).item() for x,y in zip(a, b))
    assert len(a)==len(b) and off<1e-5
    return dict(plain=plain, checkpointing=saved, memory_share=saved['peak_gib']/plain['peak_gib'], largest_gradient_difference=off)


def main():
    out = dict(threads=torch.get_num_threads(), torch=torch.__version__, au_clips=AU_CLIPS, fe_clips=FE_CLIPS)
    m = model().eval()
    for name,f in dict(au_only_against_both=lambda: branches(m), prototypes_kept_against_computed=lambda: prototypes(m),
            experts_sorted_against_masks=experts, activation_checkpointing=checkpointing).items():
        print(name, '…', flush=True)
        out[name] = f(); print(out[name])
    write_json(Path(__file__).parent/'results'/'model.json', out)


if __name__=='__main__': main()
