"Ways of training that must not change what is learned."
from dataclasses import replace
import numpy as np
import pytest, torch
from ssm_nb.model.losses import LOSS_NAMES
from killed_run import PRESET, data, run
from test_distributed import close

BATCHES = replace(PRESET, epochs=5, fe_bs=4, au_bs=2)         # 5 steps of 4 + 2 clips


@pytest.fixture(scope='module')
def sets(tmp_path_factory): return data(tmp_path_factory.mktemp('faces'))

@pytest.fixture(scope='module')
def whole(sets, tmp_path_factory): return run(tmp_path_factory.mktemp('whole'), sets, preset=BATCHES)


def rows(learn): return np.array([[r[n] for n in (*LOSS_NAMES,'total','grad_norm','alpha','fe2au_moved')] for r in learn.step_log.rows])


@pytest.mark.parametrize('how', [dict(accumulate=4), dict(accumulate=3), dict(recompute=True), dict(accumulate=2, recompute=True), dict(workers=2)], ids=str)
def test_same_losses_and_weights(how, whole, sets, tmp_path):
    "Accumulation x4 is the large batch, to 1e-5: losses, gradient norms, weights, averages after 5 steps"
    learn = run(tmp_path, sets, preset=BATCHES, **how)
    np.testing.assert_allclose(rows(learn), rows(whole), rtol=1e-5, atol=1e-7)
    assert close(learn.model.state_dict(), whole.model.state_dict())<1e-5
    assert max((a-b).abs().max() for a,b in zip(learn.ema.average, whole.ema.average))<1e-5


def test_without_a_device_training_goes_where_fastai_goes(sets, tmp_path, monkeypatch):
    "A GPU if there is one; here the meta device stands for it, which holds no numbers but knows where things are"
    import ssm_nb.training.learner as module
    from killed_run import learner
    monkeypatch.setattr(module, 'default_device', lambda: torch.device('meta'))
    learn = learner(tmp_path, sets, device=None)
    assert learn.dls.device==torch.device('meta') and learn.dls.train.device==torch.device('meta')
    from fastai.callback.core import TrainEvalCallback
    next(cb for cb in learn.cbs if isinstance(cb, TrainEvalCallback)).before_fit()
    assert next(learn.model.parameters()).device.type=='meta'


def test_compiled_blocks_give_the_same_gradients(sets, tmp_path):
    "Traced and differentiated ahead of time, but not made into machine code, which takes minutes on a CPU"
    from killed_run import learner
    model,noise = learner(tmp_path, sets).model.train(),lambda x: torch.randn(*x.shape[:2], *model.image.noise_shape, generator=torch.Generator().manual_seed(0))
    clips = [torch.randn(n, 4, 3, 32, 32, generator=torch.Generator().manual_seed(n)) for n in (3,2,3)]
    def grads():
        model.zero_grad()
        for x in clips: model.frame_features(x, noise(x)).square().sum().backward()
        return {n:p.grad.clone() for n,p in model.image.named_parameters()}
    plain = grads()
    model.image.compile_blocks(backend='aot_eager')
    assert close({n:g/g.abs().max().clamp(min=1e-3) for n,g in grads().items()}, {n:g/g.abs().max().clamp(min=1e-3) for n,g in plain.items()})<1e-4


def test_tensorboard_says_what_the_log_says(whole):
    tensorboard = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    seen = tensorboard.EventAccumulator(str(whole.step_log.folder/'tensorboard')); seen.Reload()
    for name in ('fe','grad_norm','alpha','au2fe_moved','lr_image'):
        np.testing.assert_allclose([o.value for o in seen.Scalars(name)], whole.step_log.column(name), rtol=1e-6)


def test_all_of_a_step_is_logged(whole):
    assert set(whole.step_log.rows[0])=={'epoch','step',*LOSS_NAMES,'total','grad_norm','alpha','beta','au2fe_moved','fe2au_moved','lr_image','lr_residuals','lr_rest'}
    maps = whole.model.mapping
    assert whole.step_log.rows[0]['au2fe_moved']>0 and (maps.au2fe()-maps.prior).abs().sum()>0
