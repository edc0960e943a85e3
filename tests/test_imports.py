"Label spaces and priors are used where PyTorch is not installed or not wanted: importing them must not load it"
import subprocess, sys
import pytest

@pytest.mark.parametrize('module', ['labels.facs', 'labels.prior', 'labels.cooccurrence', 'labels.choice'])
@pytest.mark.parametrize('heavy', ['torch', 'fastai', 'plotly'])
def test_module_stays_light(module, heavy):
    code = f'import sys, ssm_nb.{module}; sys.exit({heavy!r} in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0

def test_training_draws_nothing():
    "The loop that trains, its log and its checkpoints do without the figures"
    code = "import sys, ssm_nb.training.checkpoint; sys.exit('ssm_nb.show.plots' in sys.modules)"
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
