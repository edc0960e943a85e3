"Twelve steps of the package beside a plain loop written from reference/SSM.md, sections 6 and 7; only the forward model is shared."
from copy import deepcopy
from dataclasses import replace
from math import exp
import numpy as np
import pytest, torch
from fastai.callback.core import Callback
from torch.nn import functional as F
from ssm_nb.data.datasets import AUClips, FEClips
from ssm_nb.data.manifests import read_manifest
from ssm_nb.faces.embedded import TINY, embedded_data
from ssm_nb.labels.facs import label_space
from ssm_nb.model.released import from_released
from ssm_nb.training.learner import ssm_learner, train
from ssm_nb.training.recipe import PRESETS
from test_golden import released_state

EPOCHS = 4                                                   # of three steps; learning rates fall after the second and the third


class Keep(Callback):
    "What each step was given (clips before blending, noise, λ, partners), and what it left."
    order = 13
    def before_fit(self): self.given,self.left = [],[]
    def before_batch(self): self.clean = [x.clone() for x in self.xb],[y.clone() for y in self.yb]


class KeepAfter(Callback):
    order = 75
    def after_step(self):
        (x,y),mix = self.learn.keep.clean,self.loss_func.mixup
        self.learn.keep.given.append(dict(epoch=self.epoch, clips=x, labels=y, noise=[n.clone() for n in self.xb[2:]], lam=mix.lam.clone(), partner=mix.partner.clone()))
        snapshot = lambda ps: [p.detach().clone() for p in ps]
        self.learn.keep.left.append(dict(raw=self.loss_func.raw.clone(), total=self.loss.detach().clone(),
            weights=snapshot(self.learn.ema.weights), average=snapshot(self.learn.ema.average)))


def plain_run(model, given):
    "The recipe in plain torch: yields raw losses, total, weights and averages after each step."
    text = {n for n,_ in model.named_parameters() if n.startswith('prototypes.text.')}
    named = {n:p for n,p in model.named_parameters() if n not in text}
    for n,p in model.named_parameters(): p.requires_grad_(n not in text)
    pick = lambda f: [p for n,p in named.items() if f(n)]
    image,maps = (lambda n: n.startswith('image.')),(lambda n: n in ('mapping.d1', 'mapping.d2'))
    base = [1e-6, 1e-2, 1e-4]
    opt = torch.optim.AdamW([dict(params=pick(f), lr=lr) for f,lr in zip((image, maps, lambda n: not image(n) and not maps(n)), base)], weight_decay=1e-4)
    params = list(named.values())
    ema,means,last = [p.detach().clone() for p in params],None,None
    model.train()
    for step in given:
        epoch,(fe,au),(fe_label,au_label) = step['epoch'],step['clips'],step['labels']
        if epoch!=last: means,last = [None]*4,epoch          # moving means restart
        drops = (epoch>=EPOCHS/2)+(epoch>=round(EPOCHS*25/30))
        for group,lr in zip(opt.param_groups, base): group['lr'] = lr*.1**drops
        lam,partner = step['lam'],step['partner']            # one number for the whole batch
        out = model(fe, lam*au+(1-lam)*au[partner], *step['noise'])
        bce = lambda z: lam*F.binary_cross_entropy_with_logits(z, au_label) + (1-lam)*F.binary_cross_entropy_with_logits(z, au_label[partner])
        raw = [F.cross_entropy(out.fe, fe_label), bce(out.au), F.cross_entropy(out.fe_semantic, fe_label), bce(out.au_semantic)]
        means = [l.item() if m is None else .95*m+.05*l.item() for l,m in zip(raw, means)]
        l1,l2,l3,l4 = (l/(m+1e-8) for l,m in zip(raw, means))
        r = 2/(1+exp(-10*epoch/30))-1
        total = (l1+2*l2+r*(l3+l4))/3
        opt.zero_grad(); total.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.)
        opt.step()
        ema = [.99*e+.01*p.detach() for e,p in zip(ema, params)]
        yield torch.stack(raw).detach(),total.detach(),dict(zip(named, [p.detach().clone() for p in params])),dict(zip(named, ema))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    "The package's own twelve steps from a released model's weights, with the release's preset but small batches"
    space,data = label_space('bp4d', 7),embedded_data(tmp_path_factory.mktemp('faces'), TINY)
    preset = replace(PRESETS['bp4d_dfew'], epochs=EPOCHS, fe_bs=2, au_bs=2)
    fe = FEClips(read_manifest(data.wild('train'), 'dfew', space), data.wild_images, 32, augmentation=preset.fe_augmentation)
    au = AUClips(read_manifest(data.lab('train'), 'bp4d', space), data.lab_images, 32, augmentation=preset.au_augmentation)
    model = from_released(released_state('ssm_bp4d_dfew_seed11')[1])
    twin = deepcopy(model)
    learn = ssm_learner(model, fe, au, preset, seed=3, cbs=[Keep(), KeepAfter()], device='cpu')
    with learn.no_bar(), learn.no_logging(): train(learn, preset)
    assert len(learn.keep.given)==12
    return learn,twin


def test_one_lambda_a_batch_another_each_batch(run):
    lams = [s['lam'] for s in run[0].keep.given]
    assert all((l==l[0]).all() for l in lams) and len({l[0].item() for l in lams})==12
    assert any((s['partner']!=torch.arange(2)).any() for s in run[0].keep.given)


def worst(got, want):
    "Largest difference, relative to the largest value of the tensor"
    return max((((a-b).abs().max())/b.abs().max().clamp(min=1e-12)).item() for a,b in zip(got, want))


def test_twelve_steps_are_the_written_recipe(run):
    learn,twin = run
    names = {id(p):n for n,p in learn.model.named_parameters()}
    order = [names[id(p)] for p in learn.ema.weights]
    given = [dict(s, lam=s['lam'][0]) for s in learn.keep.given]
    for left,(raw,total,weights,average) in zip(learn.keep.left, plain_run(deepcopy(twin), given), strict=True):
        np.testing.assert_allclose(left['raw'], raw, rtol=1e-5)
        np.testing.assert_allclose(left['total'], total, rtol=1e-5)
        assert sorted(order)==sorted(weights)
        assert worst(left['weights'], [weights[n] for n in order])<1e-5
        assert worst(left['average'], [average[n] for n in order])<1e-5


def test_the_comparison_would_see_another_ramp(run):
    "Steps of the second epoch, told that they were of the third, end elsewhere"
    learn,twin = run
    wrong = [dict(s, lam=s['lam'][0], epoch=s['epoch']*2) for s in learn.keep.given[:5]]
    totals = [t for _,t,*_ in plain_run(deepcopy(twin), wrong)]
    assert abs(totals[4]/learn.keep.left[4]['total']-1)>1e-3
