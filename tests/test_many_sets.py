"A run over two AU sets and two expression sets: rendered faces dressed as BP4D, DISFA, DFEW and MAFW, each read from disk in its own format."
import json, shutil
from dataclasses import replace
import numpy as np
import pytest, torch
from ssm_nb.model.backbone import clip_config
from ssm_nb.data.manifests import read_manifest
from ssm_nb.data.datasets import AUClips, ClipSets, FEClips
from ssm_nb.data.stream import JointBatches, JointLoader
from ssm_nb.faces.embedded import ALL_AUS, PRESENT, TINY, embedded_data
from ssm_nb.evaluation.protocols import score
from ssm_nb.labels.facs import DISFA_AUS, label_space
from ssm_nb.training.learner import ssm_learner, train
from ssm_nb.training.recipe import PRESETS
from ssm_nb.model.losses import JointLoss
from ssm_nb.model.ssm import build_ssm
from ssm_nb.labels.prior import ssm_prior
from ssm_nb.model.prototypes import facs_prompts

SPACES = dict(bp4d=label_space('bp4d', 7), disfa=label_space('disfa', 7), dfew=label_space('bp4d', 7), mafw=label_space('bp4d', 11))
WIDE = SPACES['bp4d'].union(SPACES['disfa'], SPACES['mafw'])


def dress_as_disfa(data, split, root):
    "The lab recordings as DISFA videos; returns the manifest."
    truth,lines = data.truth(split)['lab'],[]
    for k,(folder,x) in enumerate(zip(sorted(data.lab_images.iterdir(), key=lambda f: f.name[2:])[0 if split=='train' else 2:], truth)):
        video = root/f'RightVideoSN{k+10*(split=="test"):03d}'; video.mkdir(parents=True)
        for n,row in enumerate(x, 1):
            shutil.copy(folder/f'{n}.jpg', video/f'frame_{n}.jpg')
            active = [a for a in DISFA_AUS if row[ALL_AUS.index(a)]>=PRESENT]
            lines.append(json.dumps(dict(img_path=f'{video.name}/frame_{n}.jpg', AUs=active+[999]*(8-len(active)))))
    manifest = root/f'disfa_{split}.txt'; manifest.write_text('\n'.join(lines)+'\n')
    return manifest


@pytest.fixture(scope='module')
def sets(tmp_path_factory):
    "Training and test clips of the four sets."
    tmp,one,two = tmp_path_factory.mktemp('many'),*(embedded_data(tmp_path_factory.mktemp('faces'), TINY, seed) for seed in (0,1))
    def clips(name, manifest, root, split):
        records,test = read_manifest(manifest, name, SPACES[name]),split=='test'
        return AUClips(records, root, size=32, cover=test) if records.dataset.task=='au' else FEClips(records, root, size=32)
    return {s:dict(bp4d=clips('bp4d', one.lab(s), one.lab_images, s), disfa=clips('disfa', dress_as_disfa(two, s, tmp/'disfa'), tmp/'disfa', s),
        dfew=clips('dfew', one.wild(s), one.wild_images, s), mafw=clips('mafw', two.wild(s), two.wild_images, s)) for s in ('train','test')}


def joined(sets, weights=None): return [ClipSets([sets[n] for n in names], WIDE, weights) for names in (('dfew','mafw'),('bp4d','disfa'))]


def small_model():
    cfg = clip_config('small'); cfg['vision_cfg'] |= dict(image_size=32, width=64, layers=2)
    prior = ssm_prior(WIDE)
    return build_ssm(cfg, WIDE, prior, *facs_prompts(WIDE, prior), n_expert_blocks=1, expert_hidden=32)


def test_union_of_labels_and_priors():
    assert WIDE.aus==(1,2,4,6,7,10,12,14,15,17,23,24,9,25,26) and WIDE.expressions==SPACES['mafw'].expressions
    prior = ssm_prior(WIDE)
    for aus in ('bp4d','disfa'):
        own = ssm_prior(label_space(aus, 11))
        np.testing.assert_array_equal(prior.matrix[:,[WIDE.au_index(a) for a in own.space.aus]], own.matrix)


def test_losses_equal_a_hand_computed_one(sets):
    *clips,fe_label,au_label = JointLoader(JointBatches(*joined(sets['train']), 4, 2)).one_batch()
    out,loss = small_model().eval()(*clips),JointLoss(pace=6)
    loss.start_epoch(3)
    raw = loss(out, fe_label, au_label).raw.numpy()
    def ce(logits):
        each = []
        for z,y in zip(logits.detach().double().numpy(), fe_label.numpy()):
            known = [c for c in range(len(y)) if not np.isnan(y[c])]
            each.append(np.log(sum(np.exp(z[c]) for c in known))-z[list(y).index(1)])
        return np.mean(each)
    def bce(logits):
        p = 1/(1+np.exp(-logits.detach().double().numpy()))
        return np.mean([-np.log(p[i]) if y else -np.log(1-p[i]) for i,y in np.ndenumerate(au_label.numpy()) if not np.isnan(y)])
    np.testing.assert_allclose(raw, [ce(out.fe), bce(out.au), ce(out.fe_semantic), bce(out.au_semantic)], rtol=1e-5)
    assert fe_label.isnan().any() and au_label.isnan().any()


def test_unknown_labels_are_nan_and_never_absent(sets):
    fe,au = joined(sets['train'])
    for k,own in ((0,'bp4d'),(1,'disfa')):
        label = au.label(int(au.first[k]))
        known = [a in SPACES[own].aus for a in WIDE.aus]
        assert (~label[0].isnan()).tolist()==known
        np.testing.assert_array_equal(label[:,[WIDE.au_index(a) for a in SPACES[own].aus]], sets['train'][own].label(0))
    assert fe.label(0).isnan().sum()==4 and not fe.label(int(fe.first[1])).isnan().any()


def test_trains_and_reports_each_set(sets):
    preset = replace(PRESETS['small'], epochs=2, fe_bs=4, au_bs=2)
    learn = ssm_learner(small_model(), *joined(sets['train'], weights=(1,1)), preset)
    train(learn, preset)
    assert np.isfinite(learn.step_log.column('total')).all()
    with learn.ema.applied(): scores = {n:score(learn.model, ds) for n,ds in sets['test'].items()}
    assert [s.space for s in scores.values()]==[SPACES[n] for n in scores]
    assert len(scores['disfa'].f1)==8 and scores['mafw'].confusion.shape==(11,11) and scores['dfew'].confusion.sum()==len(sets['test']['dfew'])


def test_one_set_in_clip_sets_is_the_set_itself(sets):
    "The same clips in the same order with the same pixels: one pair stays the released recipe."
    fe,au = sets['train']['dfew'],sets['train']['bp4d']
    plain,joint = JointBatches(fe, au, 2, 1, seed=3),JointBatches(ClipSets([fe], fe.space), ClipSets([au], au.space), 2, 1, seed=3)
    for place in ((0,0),(0,2),(1,1)):
        a,b = plain[place],joint[place]
        assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) and torch.equal(a[3], b[3]) and a[2].tolist()==b[2].argmax(1).tolist()
