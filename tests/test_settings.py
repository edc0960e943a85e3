"settings.ini: what can be written can be read, and nothing else gets through silently."
import sys, subprocess
from dataclasses import fields
from pathlib import Path
from typing import Literal, get_args, get_origin
import pytest
from hypothesis import given, strategies as st
from ssm_nb.core.settings import Count, PresetName, Run, Settings, SettingsError, Share, check_entries, keys_of, load_settings, read_entries

ROOT = Path(__file__).parents[1]
KEYS = [(s.name, k, t) for s in fields(Settings) for k,t in keys_of(s.type).items()]

def write(path, text, newline='\n', bom=False):
    path.write_bytes((b'\xef\xbb\xbf' if bom else b'') + text.replace('\n', newline).encode())
    return path

def test_the_shipped_file_names_every_key():
    said = check_entries(read_entries(ROOT/'settings.ini'))
    said['ferv39k'].setdefault('fold', 1) # it has one split, so the file leaves the fold out
    assert {(s, k) for s,ks in said.items() for k in ks} == {(s, k) for s,k,_ in KEYS}

def test_the_shipped_file_says_the_defaults(): assert load_settings(ROOT/'settings.ini').run == Run()

def test_presets_can_all_be_named():
    from ssm_nb.training.recipe import PRESETS
    assert {*get_args(PresetName)} == {'pair', *PRESETS}

folder = st.text('abcÄé_-.', min_size=1, max_size=8).map(lambda s: Path(f'/data/{s}'))
NUMBERS = {int:st.integers(0, 10**9), Count:st.integers(1, 10**9), Share:st.integers(1, 999).map(lambda n: n/1000), bool:st.booleans()}
def value(typ): return NUMBERS[typ] if typ in NUMBERS else st.sampled_from(get_args(typ)) if get_origin(typ) is Literal else folder
def written(v): return ('no', 'yes')[v] if isinstance(v, bool) else v

@given(values=st.fixed_dictionaries({}, optional={(s, k): value(t) for s,k,t in KEYS}),
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
