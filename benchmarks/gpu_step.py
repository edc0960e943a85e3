"""One training step at full size on a GPU: ViT-B/16, 12 expression and 8 AU clips of 16 frames at 224 px, random weights and pixels.
fp32 and bf16, with and without compiled blocks and activation checkpointing: clips a second, peak memory, share of the card's bf16 peak.

Run: python benchmarks/gpu_step.py          (writes benchmarks/results/gpu_step_<card>.json; a compiled run takes a minute or two to start)
     python benchmarks/gpu_step.py --small  (a tiny model on any machine, to see that the script works; writes nothing)
"""
import argparse, itertools, platform, re, sys, time
from contextlib import nullcontext
from pathlib import Path
from statistics import median
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from ssm_nb import __version__
from ssm_nb.model.backbone import clip_config
from ssm_nb.labels.facs import label_space
from ssm_nb.core.files import write_json
from ssm_nb.training.learner import adapt_model
from ssm_nb.training.recipe import PRESETS
from ssm_nb.training.step import TrainingLoss
from ssm_nb.model.mixup import draw_mixup
from ssm_nb.model.ssm import build_ssm, param_groups
from ssm_nb.labels.prior import ssm_prior
from ssm_nb.model.prototypes import released_prompts

PEAKS = {'H200':989, 'H100 PCIe':756, 'H100 NVL':835, 'H100':989, 'A100':312, 'L40S':362, 'L40':181, 'L4':121, 'A10':125, 'RTX 4090':165, 'RTX 3090':71}   # vendors' figures, dense bf16, TFLOP/s; the first that fits


class Step:
    "Everything a training step does, on one batch that stays on the device."
    def __init__(self, device, small, precision, **how):
        space,self.preset = label_space('bp4d', 7),PRESETS['small' if small else 'bp4d_dfew']
        cfg = clip_config(self.preset.clip)
        self.model = build_ssm(cfg, space, ssm_prior(space), *released_prompts(space), n_expert_blocks=self.preset.n_expert_blocks,
            expert_hidden=self.preset.expert_hidden, routing=self.preset.routing, smoothing=self.preset.smoothing).to(device).train()
        adapt_model(self.model, **how)
        g,size = torch.Generator().manual_seed(0),cfg['vision_cfg']['image_size']
        b1,b2 = (2,1) if small else (self.preset.fe_bs, self.preset.au_bs)
        rand = lambda *shape: torch.randn(*shape, generator=g).to(device)
        self.clips,self.noise = [rand(b, 16, 3, size, size) for b in (b1,b2)],[rand(b, 16, *self.model.image.noise_shape) for b in (b1,b2)]
        self.labels = torch.randint(7, (b1,), generator=g).to(device),(torch.rand(b2, 16, 12, generator=g)<.3).float().to(device)
        self.loss,self.mixup = TrainingLoss(30).to(device),draw_mixup(b2, g, .4)
        self.loss.mixup = self.mixup; self.loss.joint.start_epoch(5)
        self.opt = torch.optim.AdamW([dict(params=p, lr=lr) for p,lr in zip(param_groups(self.model), self.preset.lrs)], weight_decay=self.preset.wd)
        self.params = [p for p in self.model.parameters() if p.requires_grad]
        self.average = [p.detach().clone() for p in self.params]
        self.cast = lambda: torch.autocast(device.type, torch.bfloat16) if precision=='bf16' else nullcontext()

    def forward(self):
        with self.cast(): out = self.model(self.clips[0], self.mixup.clips(self.clips[1]), *self.noise)
        return self.loss(type(out)(*(o.float() for o in out)), *self.labels)

    def __call__(self):
        loss = self.forward()
        loss.backward()
        nn.utils.clip_grad_norm_(self.params, self.preset.clip_norm)
        self.opt.step(); self.opt.zero_grad()
        torch._foreach_lerp_(self.average, [p.detach() for p in self.params], 1-self.preset.ema)
        return loss


def flops(step):
    "Multiply-adds of one step counted twice, forward and backward, without what checkpointing adds."
    with FlopCounterMode(display=False) as count: step.forward().backward()
    step.opt.zero_grad()
    return count.get_total_flops()


def matmul_rate(device, n):
    "TFLOP/s of one large bf16 product on this device: what it reaches at best."
    a = torch.randn(n, n, device=device, dtype=torch.bfloat16)
    return 2*n**3/seconds(lambda: a@a, device, 20)/1e12


def seconds(f, device, repeats):
    "Median time of a call, after three to warm up."
    wait = torch.cuda.synchronize if device.type=='cuda' else lambda: None
    for _ in range(3): f()
    times = []
    for _ in range(repeats): wait(); begun = time.perf_counter(); f(); wait(); times.append(time.perf_counter()-begun)
    return median(times)


def measure(device, small, work, peak, precision, **how):
    "One way of training; an error, such as too little memory, is a result too."
    if device.type=='cuda': torch.cuda.empty_cache(); torch.cuda.reset_peak_memory_stats()
    row = dict(precision=precision, **how)
    try:
        step = Step(device, small, precision, **how)
        begun = time.perf_counter(); step(); losses = step.loss.raw.tolist(); first = time.perf_counter()-begun
        s = seconds(step, device, 3 if small else 10)
    except torch.OutOfMemoryError: return row|dict(error='out of memory')
    memory = torch.cuda.max_memory_allocated()/2**30 if device.type=='cuda' else None
    clips = sum(map(len, step.clips))
    return row|dict(seconds=s, first_seconds=first, clips_per_second=clips/s, peak_gib=memory, tflops=work/s/1e12, share_of_bf16_peak=peak and work/s/1e12/peak, first_losses=losses)


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--small', action='store_true', help='a tiny model on any machine; writes nothing')
    small = p.parse_args().small
    if not small and not torch.cuda.is_available(): sys.exit('This benchmark needs a CUDA device: torch.cuda.is_available() is False here. Try --small to see the script work.')
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    card = torch.cuda.get_device_name() if device.type=='cuda' else platform.processor() or 'cpu'
    peak = next((v for k,v in PEAKS.items() if k in card), None)
    first = Step(device, small, 'fp32')
    work,clips = flops(first),dict(zip(('fe','au'), map(len, first.clips)))
    del first                                                                        # its memory is not part of what is measured
    rate = matmul_rate(device, 512 if small else 8192)
    rows = []
    for precision,compile,recompute in itertools.product(('fp32','bf16'), (False,) if small else (False,True), (False,True)):
        rows.append(measure(device, small, work, peak, precision, compile=compile, recompute=recompute)); print(rows[-1], flush=True)
    out = dict(card=card, gib=torch.cuda.get_device_properties(0).total_memory/2**30 if device.type=='cuda' else None, torch=torch.__version__, ssm_nb=__version__, clips=clips, frames=16,
        tflop_per_step=work/1e12, bf16_peak_tflops=peak, bf16_matmul_tflops=rate, steps=rows)
    if not small: write_json(Path(__file__).parent/'results'/f"gpu_step_{re.sub('[^a-z0-9]+', '_', card.lower())}.json", out)


if __name__=='__main__': main()
