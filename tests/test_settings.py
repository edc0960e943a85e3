"settings.ini: what can be written can be read, and nothing else gets through silently."
import sys, subprocess
from pathlib import Path
from typing import Literal, get_args, get_origin
import pytest
from hypothesis import given, strategies as st
from ssm_nb.core.settings import (Count, Paths, PresetName, PriorChoice, PriorName, Run, SetFiles, SetNames, Settings, SettingsError, Share, Weights,
    check_entries, keys_of, load_settings, option_words, read_entries)

ROOT = Path(__file__).parents[1]
KEYS = [(s, k, t) for s,kind in keys_of(Settings).items() for k,t in keys_of(kind).items()]

def write(path, text, newline='\n', bom=False):
    path.write_bytes((b'\xef\xbb\xbf' if bom else b'') + text.replace('\n', newline).encode())
    return path

def test_the_shipped_file_names_every_key():
    entries = check_entries(read_entries(ROOT/'settings.ini'))
    entries['ferv39k'].setdefault('fold', 1) # it has one split, so the file leaves the fold out
    assert {(s, k) for s,ks in entries.items() for k in ks} == {(s, k) for s,k,_ in KEYS}

def test_the_shipped_file_says_the_defaults(): assert load_settings(ROOT/'settings.ini').run == Run()

def comment_above(lines, at):
    "The comment lines directly above a line, as one text"
    first = at
    while lines[first-1].startswith('# '): first -= 1
    return ' '.join(o[2:].strip() for o in lines[first:at])

@pytest.mark.parametrize('section,key,words', [(s, k, w) for s,cls in dict(paths=Paths, run=Run).items() for k,w in option_words(cls).items()])
def test_the_shipped_file_says_what_the_library_says(section, key, words):
    "An option is described once: the comment of its field stands above its key"
    lines = (ROOT/'settings.ini').read_text(encoding='utf-8').splitlines()
    start = lines.index(f'[{section}]')
    at = next(i for i,l in enumerate(lines) if i>start and l.split('=')[0].strip()==key)
    assert comment_above(lines, at)==words

def test_the_shipped_file_describes_a_data_set():
    text = (ROOT/'settings.ini').read_text(encoding='utf-8')
    assert {*option_words(SetFiles)}=={*keys_of(SetFiles)} and all(f'# {k}: {w}' in text for k,w in option_words(SetFiles).items())

def test_presets_can_all_be_named():
    from ssm_nb.training.recipe import PRESETS
    assert {*get_args(PresetName)} == {'pair', *PRESETS}

folder = st.text('abcÄé_-.#; \'', min_size=1, max_size=8).map(lambda s: Path(f'/data/{s}'))
NUMBERS = {PriorChoice:st.sampled_from([*get_args(PriorName), '/data/Ä #1/map.csv', '/data/b.graphml']), int:st.integers(0, 10**9), Count:st.integers(1, 10**9), Share:st.integers(1, 999).map(lambda n: n/1000), bool:st.booleans()}
def value(key, typ):
    if typ is SetNames: return st.lists(st.sampled_from(Settings().set_names(key)), min_size=1, unique=True).map(' '.join)
    if typ is Weights: return st.lists(st.sampled_from(['1', '2', '0.5']), max_size=3).map(' '.join)
    return NUMBERS[typ] if typ in NUMBERS else st.sampled_from(get_args(typ)) if get_origin(typ) is Literal else folder
def written(v):
    "A value as one would write it: in quotes where a sign of a comment stands in it, or a space at its end"
    if isinstance(v, bool): return ('no', 'yes')[v]
    return f'"{v}"' if set(str(v)) & {*'#;'} or str(v)!=str(v).strip() else v

@given(values=st.fixed_dictionaries({}, optional={(s, k): value(k, t) for s,k,t in KEYS}),
       newline=st.sampled_from(['\n', '\r\n']), bom=st.booleans())
def test_what_is_written_is_read(tmp_path_factory, values, newline, bom):
    text = '\n'.join(f'[{s}]\n  {k} ={written(v)}  # said' for (s,k),v in values.items())
    got = load_settings(write(tmp_path_factory.mktemp('ini')/'settings.ini', text, newline, bom))
    for (s,k),v in values.items(): assert getattr(getattr(got, s), k) == v

@given(st.lists(st.text('[]=#; \tseedrunpathsout0123é', max_size=20), max_size=6))
def test_any_text_is_settings_or_one_error_that_names_its_line(tmp_path_factory, lines):
    file = write(tmp_path_factory.mktemp('ini')/'settings.ini', '\n'.join(lines))
    try: load_settings(file)
    except SettingsError as e:
        assert str(e).startswith(f'{file}:{e.entry.line}: ')
        assert 1 <= e.entry.line <= len(lines)

@pytest.mark.parametrize('section,key,typ', KEYS)
def test_every_typo_finds_its_key(tmp_path, section, key, typ):
    typo = key[0] + key[2:] # one letter forgotten
    with pytest.raises(SettingsError, match=f"settings.ini:2: unknown key '{typo}' in \\[{section}\\] \\(value '1'\\): did you mean '{key}'"):
        load_settings(write(tmp_path/'settings.ini', f'[{section}]\n{typo} = 1'))

def test_settings_import_nothing_heavy():
    code = "import sys, ssm_nb.core.settings; print([m for m in ('torch', 'fastai', 'plotly', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '[]'

# what a reader could take for something else ---------------------------------------------------------------------------

@pytest.mark.parametrize('line,why', {'data = /disk 2/set #3/faces':"is '#3/faces' a comment or a part of the path", 'out = out ;old':"is ';old' a comment", 'cache = /a # b/c':"is '# b/c' a comment",
    'clip = "/models/clip.pt':'begins with a quotation mark', "data = 'a' b":'begins with a quotation mark', 'data = "a"b"':'begins with a quotation mark',
    'data = $DATA':"'$DATA' is not filled in here", 'out = /scratch/%USERNAME%/out':"'%USERNAME%' is not filled in", 'out = /a/${SLURM_JOB_ID}':'is not filled in', 'out = %(data)s':'is not filled in', 'out = /a/{Fold}':"'{Fold}' is not filled in here", 'out = /a/{fold:02}/b':"'{fold:02}' is not filled in here", 'data = gs://bucket/faces':"'gs:/' begins an address",
    'clip = ‘/models/clip.pt’':'not a straight one', 'data = /faces\u202e':'the invisible character U+202E', 'out = a\0b':'the invisible character U+0000'}.items())
def test_a_line_that_can_be_read_in_two_ways_is_asked_about(line, why, tmp_path):
    with pytest.raises(SettingsError, match='settings.ini:2: ') as e: load_settings(write(tmp_path/'settings.ini', f'[paths]\n{line}\n'))
    assert why in str(e.value)

@pytest.mark.parametrize('line,path', {'data = "/disk 2/set #3/faces"':'/disk 2/set #3/faces', "data = '/a;b' ; quoted":'/a;b', 'data = /set#3':'/set#3', 'data = /a ; on the big disk':'/a', "data = /O'Brien":"/O'Brien",
    'data = "/a \'b\' c"':"/a 'b' c"}.items())
def test_a_line_that_can_be_read_in_one_way(line, path, tmp_path):
    assert load_settings(write(tmp_path/'settings.ini', f'[paths]\n{line}\n')).paths.data==Path(path)

FOREIGN = {'nbdev':'[DEFAULT]\nrepo = smile\nlib_name = smile\n', 'desktop':'[Settings]\ngtk-theme-name: dark\n', 'no equals':'[mysqld]\nskip-networking\n', 'two':'[core]\na=1\n[remote "origin"]\nb=2\n'}

@pytest.mark.parametrize('text', FOREIGN.values(), ids=FOREIGN)
def test_the_file_of_another_program(text, tmp_path, monkeypatch):
    write(tmp_path/'settings.ini', text)
    (tmp_path/'below').mkdir(); monkeypatch.chdir(tmp_path/'below')
    with pytest.raises(SettingsError, match='settings.ini:1: belongs to another program.*--settings FILE'): load_settings()

def test_a_typo_is_not_another_program(tmp_path):
    with pytest.raises(SettingsError, match=r"unknown section \[dfww\]: did you mean 'dfew'"): load_settings(write(tmp_path/'settings.ini', '[dfww]\nfold = 1'))

# data sets of one's own ------------------------------------------------------------------------------------------------

OWN = '[ward]\ntask = au\nlabels = AU4, AU43\nimages = frames\ntrain = a_{fold}.csv\ntest = b_{fold}.csv\n'

def test_a_section_of_ones_own_is_a_data_set(tmp_path):
    got = load_settings(write(tmp_path/'settings.ini', f'[run]\nau = ward\n{OWN}fold = 3\nsubject = who\n'))
    assert got.run.au=='ward' and got.set_names('au')==['bp4d', 'disfa', 'ward'] and got.set_names('fe')==['dfew', 'ferv39k', 'mafw']
    where = got.data_set('ward')
    assert (where.labels, where.subject, where.train)==('AU4, AU43', 'who', tmp_path/'data'/'a_3.csv') and where.at_fold(1).test.name=='b_1.csv'

def test_a_file_with_nothing_but_a_set_of_ones_own_is_ours(tmp_path):
    assert list(load_settings(write(tmp_path/'settings.ini', OWN)).own)==['ward']

@pytest.mark.parametrize('change,why', {
    'labels = AU4, AU43':r"settings.ini:1: \[ward\] has no line 'labels'", 'images = frames':r"settings.ini:1: \[ward\] has no line 'images'"}.items())
def test_what_a_set_of_ones_own_lacks(change, why, tmp_path):
    with pytest.raises(SettingsError, match=why): load_settings(write(tmp_path/'settings.ini', OWN.replace(f'{change}\n', '')))

@pytest.mark.parametrize('text,why', {
    OWN.replace('task = au', 'task = mouth'):"settings.ini:2: task = 'mouth' is not one of the choices",
    OWN+'expressions = fear\n':"settings.ini:7: 'expressions' does not go with task = au: give labels",
    OWN+'lables = AU1\n':r"settings.ini:7: unknown key 'lables' in \[ward\] \(value 'AU1'\): did you mean 'labels'",
    OWN.replace('ward', 'my ward'):"settings.ini:2: a data set cannot be called 'my ward'",
    '[run]\nau = wrad\n'+OWN:"settings.ini:2: au = 'wrad' is not one of the choices: did you mean 'ward'",
    '[run]\nfe = ward\n'+OWN:"settings.ini:2: fe = 'ward' is not one of the choices",
    '[run]\nau = bp4d, wrad\n'+OWN:"settings.ini:2: au = 'wrad' is not one of the choices: did you mean 'ward'",
    '[run]\nau = ward bp4d ward\n'+OWN:"settings.ini:2: au names 'ward' twice: name each data set once",
    '[run]\nau = ,\n'+OWN:"settings.ini:2: 'au' is empty",
    '[run]\nau_weights = 1, x\n'+OWN:"settings.ini:2: au_weights = '1, x': give each data set a number above 0",
    '[bp4d]\ntask = au\n':r"settings.ini:2: unknown key 'task' in \[bp4d\]"}.items())
def test_what_is_wrong_with_a_set_of_ones_own(text, why, tmp_path):
    with pytest.raises(SettingsError, match=why): load_settings(write(tmp_path/'settings.ini', text))
