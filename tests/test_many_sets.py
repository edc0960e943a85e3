"A run over two AU sets and two expression sets: rendered faces dressed as BP4D, DISFA, DFEW and MAFW, each read from disk in its own format; and, with tables of one's own, from the shell."
import json, shutil
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
import numpy as np
import pytest, torch
from fastai.callback.core import Callback
from ssm_nb.core.settings import load_settings
from ssm_nb.model.backbone import clip_config
from ssm_nb.data.augment import normalise
from ssm_nb.data.doctor import ssm_doctor
from ssm_nb.data.manifests import read_manifest
from ssm_nb.data.datasets import AUClips, ClipSets, FEClips, keyed_generator
from ssm_nb.data.stream import JointBatches, JointLoader
from ssm_nb.faces.embedded import ALL_AUS, PRESENT, TINY, embedded_data
from ssm_nb.evaluation.protocols import score
from ssm_nb.explore.example import read_page
from ssm_nb.explore.page import ssm_explore
from ssm_nb.labels.facs import DISFA_AUS, label_space
from ssm_nb.runs.commands import ssm_evaluate, ssm_train
from ssm_nb.runs.config import description, read_config, run_config, run_data, run_sets
from ssm_nb.runs.folds import all_folds, pair_row
from ssm_nb.runs.predict_command import ssm_predict
from ssm_nb.runs.runs import best_model, run_learner, run_model
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


# from the shell ---------------------------------------------------------------------------------------------------------

INI = '''[paths]
data = .
out = out
[run]
au = ward, clinic
fe = moods looks
fe_weights = 1, 2
preset = small
held_out = 0.4
every = 1
[ward]
task = au
labels = AU1, AU4, AU12
images = {one}
train = ward_train.csv
test = ward_test.csv
[clinic]
task = au
labels = AU12, AU25, AU4
images = {two}
train = clinic_train.csv
test = clinic_test.csv
[moods]
task = fe
expressions = neutral, happiness, pain
images = {one_wild}
train = moods_{{fold}}_train.csv
test = moods_{{fold}}_test.csv
[looks]
task = fe
expressions = happiness, boredom, pain (lowered brows and closed eyes), fear
images = {two_wild}
train = looks_train.csv
test = looks_test.csv
'''
OWN = dict(ward=(1,4,12), clinic=(12,25,4), moods=('neutral','happiness','pain'), looks=('happiness','boredom','pain','fear'))
FEW = '--epochs 1 --fe-bs 3 --au-bs 2'.split()


def write_frames(data, file, aus, people):
    "A table of frames, without a label here and there"
    folders,truth = sorted(data.lab_images.iterdir(), key=lambda f: f.name[2:]),np.concatenate([data.truth(s)['lab'] for s in ('train','test')])
    rows = ['frame,subject,'+','.join(f'AU{a}' for a in aus)]
    for k in people:
        for n,x in enumerate(truth[k], 1):
            labels = ['' if (n+a)%9==0 else str(int(x[ALL_AUS.index(a)]>=PRESENT/2)) for a in aus]
            rows.append(','.join([f'{folders[k].name}/{n}.jpg', f'Person {"ABC"[k]*3}', *labels]))
    file.write_text('\n'.join(rows)+'\n')


def write_clips(data, names, words):
    "Two tables of clips, the last four of them for the test"
    clips = [f.name for f in sorted(data.wild_images.iterdir()) if f.is_dir()]
    for file,part,shift in zip(names, (clips[:-4], clips[-4:]), (0, len(clips)-4)):
        file.write_text('clip,expression\n'+''.join(f'{c},{words[(i+shift)%len(words)]}\n' for i,c in enumerate(part)))


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    "Two AU sets and two expression sets of rendered faces, in a settings.ini"
    tmp = tmp_path_factory.mktemp('shell')
    one,two = (embedded_data(tmp/'faces', TINY, seed) for seed in (0,1))
    for data,name in ((one,'ward'),(two,'clinic')):
        for part,people in (('train',(0,1)),('test',(2,))): write_frames(data, tmp/f'{name}_{part}.csv', OWN[name], people)
    write_clips(one, [tmp/f'moods_1_{p}.csv' for p in ('train','test')], OWN['moods'])
    write_clips(two, [tmp/f'looks_{p}.csv' for p in ('train','test')], OWN['looks'])
    (tmp/'settings.ini').write_text(INI.format(one=one.lab_images, two=two.lab_images, one_wild=one.wild_images, two_wild=two.wild_images))
    return tmp


def shell(place, command, *args):
    "A command as a shell starts it"
    settings = ['--settings', str(place/'settings.ini')]
    return command([*map(str, args), *settings, *([] if command is ssm_doctor else ['--device', 'cpu'])])


@pytest.fixture(scope='module')
def ran(place):
    "A run of all four, trained and evaluated, and what it printed"
    with redirect_stdout(StringIO()) as said: assert shell(place, ssm_train, place/'run', *FEW)==0
    return place/'run',said.getvalue()


def test_the_model_has_the_labels_of_all_and_says_whose(ran):
    model = best_model(ran[0])
    assert model.space.aus==(1,4,12,25) and model.space.expressions==('neutral','happiness','pain','boredom','fear')
    assert dict(model.space.described)==dict(pain='lowered brows and closed eyes', boredom='')
    assert {k:tuple(o['aus'] or o['expressions']) for k,o in model.config['sets'].items()}==OWN
    kept = json.loads((ran[0]/'config.json').read_text())
    assert (kept['config']['au'], kept['config']['fe_weights'])==('ward clinic', '1 2')
    assert {k for k in kept['manifests']}=={f'{k}_{n}_{p}' for k,ns in (('au',('ward','clinic')),('fe',('moods','looks'))) for n in ns for p in ('train','test')}
    assert 'no source for pain, boredom' in kept['prior']['source'] and 'The prior (Li et al. 2026' in (ran[0]/'report.html').read_text()


def test_each_set_is_scored_in_its_own_labels_as_by_hand(place, ran):
    "Every clip alone through the model, the answers among the labels of its set, F1 and recall counted one by one"
    folder,said = ran
    settings,model = load_settings(place/'settings.ini'),best_model(folder)
    data,kept = run_data(read_config(folder), settings),json.loads((folder/'metrics.json').read_text())
    for ds in data.au_test.each:
        name,aus,found = ds.records.dataset.name,OWN[ds.records.dataset.name],{}
        for i in range(len(ds)):
            clip,label = ds[i]
            with torch.no_grad(): p = model(au_clip=normalise(clip)[None]).au[0].sigmoid()
            for t,j in np.argwhere(~np.isnan(label.numpy())): found.setdefault(aus[j], []).append((label[t,j]==1, p[t,model.space.au_index(aus[j])]>=.5))
        f1 = {a:2*sum(y and d for y,d in o)/(sum(y for y,_ in o)+sum(d for _,d in o)) for a,o in found.items() if any(y for y,_ in o)}
        part = kept[f'au {name}']
        assert part['aus']==[f'AU{a}' for a in aus] and list(part['protocols'])==['fixed','tuned','oracle']
        scores = part['protocols']['fixed']['f1']
        for a in aus: assert scores[f'AU{a}']['value']==(pytest.approx(f1[a]) if a in f1 else None)
        assert scores['mean']['value']==pytest.approx(np.mean(list(f1.values()))) and (scores['mean']['over'], scores['mean']['of'])==(len(f1), 3)
        assert f'AU mean F1, {name}, {len(f1)} of 3 AUs: fixed {np.mean(list(f1.values())):.3f}' in said
    for ds in data.fe_test.each:
        name,words,recall = ds.records.dataset.name,OWN[ds.records.dataset.name],{}
        for i in range(len(ds)):
            with torch.no_grad(): z = model(normalise(ds[i][0])[None]).fe[0]
            answer = max(words, key=lambda w: z[model.space.expression_index(w)])
            recall.setdefault(words[int(ds[i][1])], []).append(answer==words[int(ds[i][1])])
        part = kept[f'fe {name}']
        assert part['expressions']==list(words) and part['scores']['uar']['all']['value']==pytest.approx(np.mean([np.mean(o) for o in recall.values()]))
    rows = [l.split(',')[0] for l in (folder/'metrics.csv').read_text().splitlines()[1:]]
    assert set(rows)=={'au ward','au clinic','fe moods','fe looks'} and 'Expressions, looks' in (folder/'report.html').read_text()
    columns = (folder/'validation.csv').read_text().splitlines()[0].split(',')
    assert {'au_f1','uar','au_f1 clinic','uar looks'}<={*columns} and {'AU F1 tuned clinic','UAR moods'}<={*pair_row(folder)}


def test_weights_decide_what_is_drawn(place):
    settings = load_settings(place/'settings.ini')
    drawn = lambda **k: Counter(data.fe_train.at(i)[0].records.dataset.name for data in [run_data(run_config(settings, fe_bs=3, au_bs=2, **k), settings)]
                                for i in data.fe_train.order(keyed_generator(0, 'order')))
    plain,weighted = drawn(fe='moods looks'),drawn()
    data = run_data(run_config(settings, fe='moods looks', fe_bs=3, au_bs=2), settings)
    assert plain=={o.records.dataset.name:len(o) for o in data.fe_train.each}
    assert weighted.total()==plain.total() and abs(weighted['looks']-2*weighted['moods'])<=2


class Dark(Callback):
    "The power fails in the third step"
    order = 95
    def after_batch(self):
        if self.training and self.train_iter==3: raise SystemError('dark')


def test_a_run_that_was_cut_short_ends_as_the_whole_one(place, ran):
    settings,folder = load_settings(place/'settings.ini'),place/'cut'
    config = read_config(ran[0])
    learn = run_learner(config, run_data(config, settings), run_model(config, settings), folder, 'cpu')
    with pytest.raises(SystemError, match='dark'):
        with learn.no_bar(), learn.no_logging(), learn.added_cbs([Dark()]): train(learn, config.constants)
    assert not (folder/'best.safetensors').exists()
    assert shell(place, ssm_train, folder, *FEW, '--no-evaluate')==0
    for name in ('best.safetensors','last.safetensors','steps.csv','validation.csv'): assert (folder/name).read_bytes()==(ran[0]/name).read_bytes()


def test_every_command_takes_the_run(place, ran, capsys):
    folder = ran[0]
    (place/'settings.ini').write_text((text := (place/'settings.ini').read_text())+'\n'+text[text.index('[clinic]'):text.index('[moods]')].replace('[clinic]', '[third]').replace(', AU4', ''))
    assert shell(place, ssm_evaluate, folder, '--transfer', 'third')==0
    kept = json.loads((folder/'metrics.json').read_text())
    assert kept['transfer to third']['aus']==['AU12','AU25'] and 'tuned' in kept['transfer to third']['protocols']
    assert 'this run has several' in kept['observed_map']['why']
    (place/'settings.ini').write_text(text)
    assert shell(place, ssm_explore, folder)==0 and (folder/'explorer.html').stat().st_size>10_000
    assert {len(o.classes) for o in read_page(folder/'explorer.html').clips if o.classes}=={4, 3} # each clip may be called what its own set knows
    clip = load_settings(place/'settings.ini').data_set('looks').images/'1'
    clip = clip if clip.is_dir() else next(f for f in clip.parent.iterdir() if f.is_dir())
    assert shell(place, ssm_predict, clip, '--no-detect', '--model', folder, '--out', place/'told')==0
    head = next((place/'told').glob('*.csv')).read_text().splitlines()[0].split(',')
    assert {'AU1','AU25','pain','boredom'}<={*head}
    capsys.readouterr()
    assert shell(place, ssm_doctor, '--quick', 1, *FEW[2:])==0, capsys.readouterr().out # a set with fewer clips than a step takes is no fault here
    assert shell(place, ssm_doctor, '--quick', 1)==1 and 'batches of' in capsys.readouterr().out # all together have fewer than a step of the release
    settings = load_settings(place/'settings.ini')
    assert all_folds(run_config(settings), settings, 'fe')==[1]


SAYS = {'--au ward ward':"au names 'ward' twice: name each data set once", '--fe moods mafww':"invalid choice: 'mafww'",
    '--fe-weights 1 2 3':"fe_weights is '1 2 3': give a number above 0 for each of several data sets, which here are moods, looks, or none",
    '--au ward clinic --au-people 1':'au_people is 1: that is for one data set; au names several, ward, clinic', '--embedded tiny --au ward clinic':'not as ward clinic and dfew'}

@pytest.mark.parametrize('given,why', SAYS.items())
def test_what_cannot_be_meant_is_one_line(place, capsys, given, why):
    with pytest.raises(SystemExit) as e: shell(place, ssm_train, place/'never', *given.split())
    assert e.value.code==2 and why in (err := capsys.readouterr().err) and len(err.splitlines())==1 and not (place/'never').exists()


def test_words_with_two_meanings_and_films_on_two_sides_are_refused(place, capsys):
    text = (place/'settings.ini').read_text()
    (place/'settings.ini').write_text(text.replace('neutral, happiness, pain', 'neutral, happiness, pain (teeth)'))
    for command in (ssm_train, ssm_doctor):
        with pytest.raises(SystemExit): shell(place, command, *['moods'][:command is ssm_doctor])
        assert "'pain' means 'teeth' in moods and 'lowered brows and closed eyes' in looks: give it the same description" in capsys.readouterr().err
    one,two = (l for l in text.splitlines() if l.startswith('images') and 'DFEW' in l)
    (place/'settings.ini').write_text(text.replace(two, one))
    assert shell(place, ssm_train, place/'never', *FEW)==1 and 'trains on frames that' in capsys.readouterr().err and not (place/'never').exists()
    (place/'settings.ini').write_text(text)


def test_one_of_each_is_no_joined_set(place):
    "One pair goes the way it went before there were several: plain data sets, integer classes, the names in its folder"
    settings = load_settings(place/'settings.ini')
    config = run_config(settings, au='ward', fe='looks', fe_bs=3, au_bs=1)
    data = run_data(config, settings)
    assert [type(o) for o in data[1:]]==[FEClips, AUClips]*3 and data.fe_train.label(0).ndim==0 and config.fe_weights==''
    assert 'sets' not in run_model(config, settings).config
    assert set(description(config, run_sets(config, settings))['manifests'])=={'au_train','au_test','fe_train','fe_test'}
