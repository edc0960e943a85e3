"Variants of the method as runs: each trains what it says, goes on bit for bit, and the method without the bridge is what it was."
import json
from dataclasses import replace
import pytest, torch
from ssm_nb.core.settings import load_settings
from ssm_nb.model.released import load_model
from ssm_nb.model.ssm import SSMOutput
from ssm_nb.runs.config import check_folder, description, run_config, run_sets
from ssm_nb.runs.runs import WILD_CLIPS, evaluate_run, run_model, train_run


@pytest.fixture(scope='module')
def settings(tmp_path_factory):
    s = load_settings('/dev/null')
    return replace(s, paths=replace(s.paths, cache=tmp_path_factory.mktemp('cache'), out=tmp_path_factory.mktemp('out')))


def moved(settings, folder, **given):
    "Names of the weights that a run of one epoch moved; its last model."
    config = run_config(settings, embedded='tiny', **given)
    before = dict(run_model(config, settings).named_parameters())
    train_run(config, settings, folder, 'cpu')
    model = load_model(folder/'best.safetensors')
    return {n for n,p in model.named_parameters() if not torch.equal(p, before[n])},model


@pytest.mark.parametrize('variant,still,moving', [
    ('au_only', ('fe_head', 'fe_temporal', 'prototypes.fe', 'mapping'), ('au_head.weight', 'prototypes.au.ctx', 'image.visual.proj')),
    ('fe_only', ('au_head', 'au_temporal', 'smoother', 'prototypes.au', 'mapping'), ('fe_head.weight', 'prototypes.fe.ctx')),
    ('shared', ('prototypes', 'mapping'), ('fe_head.weight', 'au_head.weight')),
    ('fixed_prior', ('mapping.d',), ('mapping.alpha', 'mapping.beta')),
    ('ssm_bridge', (), ('mapping.d1', 'fe_head.weight', 'au_head.weight'))])
def test_trains_what_it_says(settings, tmp_path, variant, still, moving):
    names,model = moved(settings, tmp_path, variant=variant)
    assert not [n for n in names if n.startswith(still)] if still else True
    assert set(moving)<=names
    results = evaluate_run(tmp_path, settings, device='cpu')
    assert (results.au is None, results.fe is None)==(variant=='fe_only', variant=='au_only')
    assert (WILD_CLIPS in results.transfer)==(variant!='fe_only')                # a branch that did not train has no score, in no domain
    assert [k for k in json.loads((tmp_path/'metrics.json').read_text()) if k=='au' or k.startswith('transfer')]==([] if variant=='fe_only' else ['au', f'transfer to {WILD_CLIPS}'])
    assert json.loads((tmp_path/'config.json').read_text())['config']['variant']==variant


def test_without_the_bridge_nothing_changes(settings):
    "A model without it has no weight, no state and no output more, and its first weights are those of a model with it."
    plain,bridged = (run_model(run_config(settings, embedded='tiny', variant=v), settings) for v in ('ssm', 'ssm_bridge'))
    assert not [n for n in plain.state_dict() if 'bridge' in n] and plain.bridge is None
    for n,p in plain.state_dict().items(): assert torch.equal(p, bridged.state_dict()[n]), n
    assert plain(torch.zeros(1, 16, 3, 64, 64))._fields==SSMOutput._fields


def test_a_run_of_before_goes_on(settings, tmp_path):
    "The config of a run that knew no variants is that of the method."
    config = run_config(settings, embedded='tiny')
    about = description(config, run_sets(config, settings))
    old = json.loads(json.dumps(about))
    for k in ('variant', 'au_people', 'fe_clips'): del old['config'][k]
    (tmp_path/'config.json').write_text(json.dumps(old))
    check_folder(tmp_path, about)
    with pytest.raises(ValueError, match='variant was ssm, is now shared'):
        other = replace(config, variant='shared')
        check_folder(tmp_path, description(other, run_sets(other, settings)))
