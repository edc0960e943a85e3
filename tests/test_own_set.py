"A data set of one's own, from two CSV files a task and a few lines of settings.ini: every command takes it by its name"
import csv, json
import numpy as np
import pandas as pd
import pytest
from ssm_nb.core.settings import SettingsError, load_settings
from ssm_nb.data.doctor import ssm_doctor
from ssm_nb.explore.page import ssm_explore
from ssm_nb.faces.embedded import ALL_AUS, PRESENT, TINY, embedded_data
from ssm_nb.runs.commands import ssm_evaluate, ssm_folds, ssm_train
from ssm_nb.runs.config import run_config, run_prior, run_space
from ssm_nb.runs.predict_command import ssm_predict

AUS = 'AU5,AU16,AU20,AU27,AU43'
WORDS = ('calm', 'effort', 'pain', 'boredom')
INI = '''[paths]
data = .
out = out
[ward]
task = au
labels = AU5, AU16, AU20, AU27, AU43
images = {lab}
train = ward_{{fold}}_train.csv
test = ward_{{fold}}_test.csv
[moods]
task = fe
expressions = calm, effort (brows drawn together and lips pressed), pain (lowered brows and closed eyes), boredom
images = {wild}
train = moods_train.csv
test = moods_test.csv
'''

def write_table(file, head, rows):
    with open(file, 'w', newline='') as f: csv.writer(f).writerows([head, *rows])

def frames(data, people, blank):
    "Rows of frames: four AUs of the faces' truth, and AU43, which follows the even people and was not looked at in some frames"
    at = [ALL_AUS.index(u) for u in (5, 16, 20, 27)]
    folders = sorted(data.lab_images.iterdir(), key=lambda f: f.name[2:])
    truth = np.concatenate([data.truth(o)['lab'] for o in ('train', 'test')])
    for k in people:
        for n,row in enumerate(truth[k], 1):
            closed = '' if n%7==blank else int(n%3==k%2)
            yield [f'{folders[k].name}/{n}.jpg', f'Person {"ABCDEFG"[k]*3}', *(int(row[i]>=PRESENT/2) for i in at), closed]

@pytest.fixture(scope='module')
def place(tmp_path_factory):
    "Rendered faces with labels of one's own, and the settings"
    tmp,data = tmp_path_factory.mktemp('own'),embedded_data(tmp_path_factory.mktemp('faces'), TINY)
    n = len(np.concatenate([data.truth(o)['lab'] for o in ('train', 'test')]))
    for fold in (1, 2):
        test = [fold-1]
        write_table(tmp/f'ward_{fold}_train.csv', ['frame', 'subject', *AUS.split(',')], frames(data, [k for k in range(n) if k not in test], 3))
        write_table(tmp/f'ward_{fold}_test.csv', ['frame', *AUS.split(',')[::-1], 'subject', 'note'],
                    ([r[0], *r[2:][::-1], r[1], 'x'] for r in frames(data, test, 5)))
    clips = [f.name for f in sorted(data.wild_images.iterdir()) if f.is_dir()]
    write_table(tmp/'moods_train.csv', ['clip', 'expression'], [[c, WORDS[i%4]] for i,c in enumerate(clips[:-4])]+[[clips[-1], '']])
    write_table(tmp/'moods_test.csv', ['clip', 'expression'], [[c, WORDS[i%4]] for i,c in enumerate(clips[-4:-1])])
    (tmp/'settings.ini').write_text(INI.format(lab=data.lab_images, wild=data.wild_images))
    return tmp

FEW = '--au ward --fe moods --preset small --epochs 1 --fe-bs 2 --au-bs 1 --held-out .4'.split()

def shell(place, command, *args):
    "A command as a shell starts it"
    settings = ['--settings', str(place/'settings.ini')]
    return command([*map(str, args), *settings, *([] if command is ssm_doctor else ['--device', 'cpu'])])

@pytest.fixture(scope='module')
def run(place):
    "A run of the two sets, trained and evaluated"
    assert shell(place, ssm_train, place/'run', *FEW)==0
    return place/'run'

def test_the_doctor_knows_it(place, capsys):
    assert shell(place, ssm_doctor, 'ward', 'moods', '--au-bs', 1, '--fe-bs', 2)==0, capsys.readouterr().out
    said = capsys.readouterr().out
    assert 'ward, fold 1: healthy' in said and 'moods, fold 1: healthy' in said
    found = json.loads((place/'out'/'doctor.json').read_text())['counts']
    assert found['ward/1/train']['people']>1 and len(found['ward/1/test']['positives'])==5
    assert sum(found['moods/1/train']['per_class'])==found['moods/1/train']['records'] # the clip without a label is not one

def test_the_doctor_asks_of_all_own_sets_without_names(place, capsys):
    shell(place, ssm_doctor, '--quick', 2, '--au-bs', 1, '--fe-bs', 2)
    assert 'ward, fold 1' in (said := capsys.readouterr().out) and 'moods, fold 1' in said

def test_trained_and_scored_in_its_own_labels(run):
    kept = json.loads((run/'metrics.json').read_text())
    assert kept['au']['aus']==AUS.split(',') and kept['fe']['expressions']==list(WORDS)
    described = json.loads((run/'config.json').read_text())
    assert described['labels']['described']['pain']=='lowered brows and closed eyes'
    assert described['prior']['source'].startswith('Li et al. 2026') and 'AU43' in described['prior']['source'].split('silent about ')[1]
    assert 'pain' in described['prior']['source'].split('silent about ')[1]

def test_the_prompts_say_what_the_settings_say(run):
    from ssm_nb.runs.runs import best_model
    model = best_model(run)
    assert model.prototypes.fe.descriptions[2]=='pain, lowered brows and closed eyes'
    assert model.prototypes.au.descriptions[-1]=='eyes closed, the eyes stay closed' and model.prototypes.au.descriptions[0]=='upper lid raiser'

def test_evaluated_again_and_on_another_set(place, run):
    text = (place/'settings.ini').read_text()
    second = text.replace('[ward]', '[again]').split('[moods]')[0].split('[again]')[1]
    (place/'settings.ini').write_text(text+'\n[again]\n'+second.replace('fold = 1', '')+'fold = 2\n')
    assert shell(place, ssm_evaluate, run, '--transfer', 'again')==0
    kept = json.loads((run/'metrics.json').read_text())
    assert kept['transfer to again']['aus']==AUS.split(',')
    (place/'settings.ini').write_text(text)

def test_the_explorer_shows_it(place, run):
    assert shell(place, ssm_explore, run)==0
    assert 'boredom' in (run/'explorer.html').read_text() or (run/'explorer.html').stat().st_size>10_000

def test_predicts_in_its_own_labels(place, run):
    settings = load_settings(place/'settings.ini')
    folder = settings.data_set('moods').images/pd.read_csv(place/'moods_test.csv', dtype=str)['clip'][0]
    assert shell(place, ssm_predict, folder, '--no-detect', '--model', run, '--out', place/'told')==0
    table = pd.read_csv(next((place/'told').glob('*.csv')))
    assert {*AUS.split(','), *WORDS}<={*table.columns} and table[AUS.split(',')].notna().all().all()

def test_folds_by_its_name(place):
    assert shell(place, ssm_folds, place/'folds', *FEW, '--au-folds', 2)==0
    rows = json.loads((place/'folds'/'folds.json').read_text())['pairs']
    assert [(r['AU fold'], r['FE fold']) for r in rows]==[(2, 1)]

def test_another_description_is_another_run(place, run, capsys):
    text = (place/'settings.ini').read_text()
    (place/'settings.ini').write_text(text.replace('closed eyes)', 'shut eyes)'))
    assert shell(place, ssm_train, run, *FEW)==1 and 'descriptions of words was' in capsys.readouterr().err
    (place/'settings.ini').write_text(text)

@pytest.mark.parametrize('prior,silent', {'ssm':'AU27, AU43, happiness, sadness', 'emfacs':'AU27, AU43, happiness, sadness',
    'du2014':'AU16, AU27, AU43, happiness, sadness, anger, disgust'}.items())
def test_the_prior_is_completed_where_the_labels_allow(place, prior, silent):
    "With known expressions the rules speak about the AUs that they know, and the source says about which they do not"
    (place/'half.ini').write_text((place/'settings.ini').read_text())
    settings = load_settings(place/'half.ini')
    config = run_config(settings, au='ward', fe='dfew', prior=prior)
    found = run_prior(config, settings)
    assert found.space==run_space(config, settings) and found.matrix.max()>.5
    assert found.source.split('silent about ')[1]==silent and (prior!='ssm' or 'AU16, AU20 from EMFACS' in found.source)

@pytest.mark.parametrize('line,why', {
    'labels = AU5, AU3':"settings.ini:6: labels: 'AU3' is not an action unit", 'labels = dfew':"settings.ini:6: labels: 'dfew' has no action units"}.items())
def test_wrong_labels_are_one_line(place, line, why, capsys):
    (place/'bad.ini').write_text((place/'settings.ini').read_text().replace('labels = AU5, AU16, AU20, AU27, AU43', line))
    with pytest.raises(SystemExit) as e: ssm_doctor(['ward', '--settings', str(place/'bad.ini')])
    assert e.value.code==2 and why.replace('settings.ini', 'bad.ini') in capsys.readouterr().err
    with pytest.raises(SystemExit) as e: ssm_train([str(place/'never'), *FEW, '--settings', str(place/'bad.ini')])
    assert e.value.code==2 and why.replace('settings.ini', 'bad.ini') in capsys.readouterr().err and not (place/'never').exists()

def test_a_name_that_is_not_there(place, capsys):
    with pytest.raises(SystemExit): shell(place, ssm_train, place/'never', '--au', 'wards')
    assert "'wards'" in capsys.readouterr().err
    (place/'bad.ini').write_text(INI.format(lab='lab', wild='wild').replace('task = fe', 'task = faces'))
    with pytest.raises(SettingsError, match="task = 'faces' is not one of the choices"): load_settings(place/'bad.ini')
