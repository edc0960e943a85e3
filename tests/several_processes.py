"""What one of several processes does, for `test_distributed.py`: five steps and an evaluation, the results into a folder.

torchrun --nproc-per-node 2 several_processes.py FOLDER FACES STEPS VARIANT
"""
import sys
from dataclasses import replace
from pathlib import Path
import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.distributed import teardown_distrib
from safetensors.torch import save_file
from ssm_nb.core.distributed import rank_and_size
from ssm_nb.evaluation.protocols import fe_predictions, au_tracks
from ssm_nb.training.learner import train
from ssm_nb.core.files import write_json
from killed_run import PRESET, data, learner

STEPS = replace(PRESET, epochs=3, fe_bs=3, au_bs=2)           # parts of different sizes


class StopAfter(Callback):
    order = 99
    def __init__(self, steps): self.steps = steps
    def after_batch(self):
        if self.training and self.train_iter==self.steps: raise CancelFitException()


def main(folder, faces, steps, variant):
    folder,sets = Path(folder),data(Path(faces))
    learn = learner(folder, sets, [StopAfter(steps)], STEPS, every=3, variant=variant)
    with learn.no_bar(), learn.no_logging(), learn.distrib_ctx(): 
        train(learn, STEPS)
        _,size = rank_and_size()
    with learn.ema.applied(): fe,au = fe_predictions(learn.model, sets[2], bs=2), au_tracks(learn.model, sets[3], bs=1)
    rank,_ = rank_and_size()
    teardown_distrib()
    if rank: return
    save_file({n:t.contiguous() for n,t in learn.model.state_dict().items()}, folder/'weights.safetensors')
    save_file({str(i):t for i,t in enumerate(learn.ema.average)}, folder/'average.safetensors')
    answers = dict(fe=fe.logits, fe_label=fe.labels, au=au.probs, au_label=au.targets)
    save_file({n:torch.tensor(x).contiguous() for n,x in answers.items()}, folder/'answers.safetensors')
    write_json(folder/'log.json', dict(rows=learn.step_log.rows, processes=size, uar=fe.scores().uar, f1=au.scores().mean('f1'), skipped=fe.skipped+au.skipped))


if __name__=='__main__': main(*sys.argv[1:3], int(sys.argv[3]), sys.argv[4])
