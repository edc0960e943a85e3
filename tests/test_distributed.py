"Two gloo processes against one with the same batches."
import json, os, subprocess, sys
from pathlib import Path
import numpy as np
import pytest, torch
from safetensors.torch import load_file
from ssm_nb.model.losses import LOSS_NAMES
from killed_run import data

HERE = Path(__file__).parent


def launch(n, folder, faces, steps, variant='ssm'):
    folder.mkdir(exist_ok=True)
    one = [sys.executable] if n==1 else [sys.executable, '-m', 'torch.distributed.run', '--standalone', f'--nproc-per-node={n}']
    done = subprocess.run([*one, str(HERE/'several_processes.py'), str(folder), str(faces), str(steps), variant], capture_output=True, text=True, env=dict(os.environ, OMP_NUM_THREADS='1'), timeout=300)
    assert done.returncode==0, done.stderr[-3000:]
    return json.loads((folder/'log.json').read_text()),*(load_file(folder/f'{o}.safetensors') for o in ('weights','average','answers'))


@pytest.fixture(scope='module')
def faces(tmp_path_factory): folder = tmp_path_factory.mktemp('faces'); data(folder); return folder

@pytest.fixture(scope='module')
def one(faces, tmp_path_factory): return launch(1, tmp_path_factory.mktemp('one'), faces, 5)

@pytest.fixture(scope='module')
def two(faces, tmp_path_factory): return launch(2, tmp_path_factory.mktemp('two'), faces, 5)


def close(a, b):
    """Largest difference. Left out: the key's third of attention biases. Softmax ignores them, so their gradient is zero but for rounding,
    and Adam makes steps of any size out of rounding."""
    key = lambda n,x: torch.cat([x[:len(x)//3], x[2*len(x)//3:]]) if n.endswith('in_proj_bias') else x
    return max((key(n, x)-key(n, b[n])).abs().max().item() for n,x in a.items() if x.is_floating_point())


def test_losses_and_weights_are_those_of_one_process(one, two):
    "Mixup across processes, masked means, moving means, router noise: all of the whole batch"
    assert (one[0]['processes'],two[0]['processes'])==(1,2) and len(one[0]['rows'])==len(two[0]['rows'])==5
    for name in (*LOSS_NAMES, 'total', 'grad_norm', 'alpha', 'au2fe_moved'):
        np.testing.assert_allclose([r[name] for r in two[0]['rows']], [r[name] for r in one[0]['rows']], rtol=1e-5, atol=1e-7)
    assert close(one[1], two[1])<1e-5 and close(one[2], two[2])<1e-5 # weights, averages


def test_the_bridge_is_that_of_one_process(faces, tmp_path):
    "It remembers the frames of the whole batch and blends its targets as the whole batch was blended"
    one,two = (launch(n, tmp_path/str(n), faces, 5, 'ssm_bridge') for n in (1, 2))
    np.testing.assert_allclose([r['grad_norm'] for r in two[0]['rows']], [r['grad_norm'] for r in one[0]['rows']], rtol=1e-5, atol=1e-7)
    assert close(one[1], two[1])<1e-5


def test_evaluation_counts_every_clip_once(one, two):
    "The same labels in the same order, and metrics that are identical"
    assert all(torch.equal(one[3][n].nan_to_num(9), two[3][n].nan_to_num(9)) for n in ('fe_label','au_label'))
    assert close(one[3], two[3])<1e-5 and all(one[0][k]==two[0][k] for k in ('uar','f1','skipped'))


def test_goes_on_with_another_number_of_processes(faces, one, tmp_path):
    "Two processes are stopped after three steps; one finishes what they began"
    launch(2, tmp_path/'run', faces, 3)
    rest = launch(1, tmp_path/'run', faces, 5)
    assert [r['step'] for r in rest[0]['rows']]==[r['step'] for r in one[0]['rows']] and close(one[1], rest[1])<1e-5
