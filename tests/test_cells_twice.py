"A notebook cell that is run a second time ends where it ended the first time"
from dataclasses import replace
import pytest, torch
from killed_run import PRESET, data, learner
from ssm_nb.data.folds import make_folds
from ssm_nb.data.annotations import write_manifest
from ssm_nb.model.released import load_model, save_model
from ssm_nb.training.learner import train

SHORT = replace(PRESET, epochs=1)


@pytest.fixture(scope='module')
def sets(tmp_path_factory): return data(tmp_path_factory.mktemp('faces'))


def files(folder): return {str(o.relative_to(folder)):o.read_bytes() for o in sorted(folder.rglob('*')) if o.is_file() and 'tensorboard' not in o.parts}


def same(a, b): return a.keys()==b.keys() and all(torch.equal(v, b[k]) for k,v in a.items())


def fitted(folder, sets):
    "The cell: a model, a learner in a folder, its training"
    learn = learner(folder, sets, preset=SHORT)
    with learn.no_bar(), learn.no_logging(): train(learn, SHORT)
    return learn


def test_a_learner_built_and_trained_twice_in_one_folder(sets, tmp_path):
    "The second finds the first's last checkpoint, so there is nothing left to train"
    torch.manual_seed(0)
    first = fitted(tmp_path, sets)
    left = files(tmp_path)
    again = fitted(tmp_path, sets)
    assert same(first.model.state_dict(), again.model.state_dict()) and files(tmp_path)==left
    assert first.step_log.rows==again.step_log.rows


def test_the_line_that_trains_run_twice(sets, tmp_path):
    "The same learner once more: it stands at its end, and stays there"
    torch.manual_seed(0)
    learn = fitted(tmp_path, sets)
    was,left = {k:v.clone() for k,v in learn.model.state_dict().items()},files(tmp_path)
    with learn.no_bar(), learn.no_logging(): train(learn, SHORT)
    assert same(learn.model.state_dict(), was) and files(tmp_path)==left


def test_a_model_saved_twice(sets, tmp_path):
    model = learner(tmp_path, sets, preset=SHORT).model
    save_model(model, tmp_path/'m.safetensors')
    first = (tmp_path/'m.safetensors').read_bytes()
    save_model(load_model(tmp_path/'m.safetensors'), tmp_path/'m.safetensors')
    assert (tmp_path/'m.safetensors').read_bytes()==first and not list(tmp_path.glob('*.tmp*'))


def test_manifests_and_folds_written_twice(sets, tmp_path):
    _,au,*_ = sets
    for _ in range(2):
        write_manifest(tmp_path/'all.list', au.records)
        make_folds(tmp_path, au.records, k=2)
        left = files(tmp_path) if _==0 else left
    assert files(tmp_path)==left
