"The course: each tutorial asks one question and says what it is for and how long it takes; the ten questions have their answers where they say"
import json, re
from pathlib import Path
import pytest

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT/'tutorials').glob('*.ipynb'))

def cells(file): return json.loads(file.read_text(encoding='utf-8'))['cells']
def markdown(file): return [''.join(c['source']) for c in cells(file) if c['cell_type']=='markdown']
def plain(text): return re.sub(r'[*`]', '', re.sub(r'\s+', ' ', text))

@pytest.mark.parametrize('file', TUTORIALS, ids=lambda f: f.stem)
def test_a_tutorial_says_what_it_is_for(file):
    top = '\n'.join(markdown(file)[:2])
    questions = re.findall(r'^> (.+)$', top, re.M)
    assert len(questions)==1 and questions[0].endswith('?'), f'one question, in a line of its own that begins with >: {questions}'
    assert 'At the end you' in top, 'say what a reader will be able to do'
    assert re.search(r'(second|minute)s? of computing', top), 'say how long the computing takes'

def questions():
    "Number, text and answer of each of the ten"
    for text in markdown(ROOT/'tutorials'/'00_ten_questions.ipynb'):
        if m := re.search(r'\*\*(\d+)\. (.+?)\*\*\s+<details><summary>Answer</summary>(.+?)</details>', text, re.S): yield pytest.param(m[3], id=m[1])

def test_there_are_ten(): assert [q.id for q in questions()]==[str(i) for i in range(1, 11)]

@pytest.mark.parametrize('answer', list(questions()))
def test_an_answer_stands_where_it_says(answer):
    "The words that an answer quotes are those of the tutorial that it names, one of the four that a reader has read"
    named,quoted = re.search(r'Where: \[[^]]+\]\((\w+\.ipynb)\), (.+)\.', answer).groups()
    assert named[:2] in ('01', '02', '03', '06')
    said = plain(' '.join(markdown(ROOT/'tutorials'/named)))
    for words in quoted.split('* and *'): assert plain(words) in said, f'{named} does not say {words!r}'

# README --------------------------------------------------------------------------------------------------------------

README = (ROOT/'README.md').read_text(encoding='utf-8')

def test_the_readme_lists_every_tutorial_with_its_question():
    listed = dict(re.findall(r'^\| `(\w+\.ipynb)` (.+) \|$', README, re.M))
    asked = {f.name:' | '.join(re.search(rf'^{mark} (.+)$', '\n'.join(markdown(f)), re.M)[1] for mark in '#>') for f in TUTORIALS}
    assert listed==asked, 'the table in nbs/index.ipynb has a line for each tutorial: its file, its title, its question'

def test_the_pictures_of_the_readme_are_there():
    "Beside it, or where the repository is: README.md and nbs/index.ipynb stand in two folders, so no one relative path suits both"
    repository = re.search(r'^Repository = "https://github.com/(.+?)"', (ROOT/'pyproject.toml').read_text(encoding='utf-8'), re.M)[1]
    pictures = re.findall(r'!\[[^]]*\]\(([^)]+)\)', README)
    assert pictures and all((ROOT/o.removeprefix(f'https://raw.githubusercontent.com/{repository}/main/')).stat().st_size for o in pictures)

@pytest.mark.parametrize('line,score,alone,constant', [('12 action units, mean F1', 'au_f1_mean', 'au_only', 'trivial_au_f1'), ('7 expressions, mean recall (UAR)', 'uar', 'fe_only', 'trivial_uar')])
def test_the_numbers_of_the_readme_are_those_stored(line, score, alone, constant):
    stored = json.loads((ROOT/'benchmarks'/'results'/'quickstart_seeds.json').read_text(encoding='utf-8'))
    said = [o.strip() for o in next(l for l in README.splitlines() if l.startswith(f'| {line}')).strip('|').split('|')]
    both,one = (stored['summary'][k][score] for k in ('joint', alone))
    assert both['n']==3 and said[1:]==[f"{o['mean']:.2f} ± {o['half']:.2f}" for o in (both, one)]+[f"{stored['runs']['joint'][0][constant]:.2f}"]

def test_what_the_readme_concludes():
    "Joint training gains nothing that the intervals could tell from chance, and both are above the constant answer"
    stored = json.loads((ROOT/'benchmarks'/'results'/'quickstart_seeds.json').read_text(encoding='utf-8'))
    for score,alone,constant in (('au_f1_mean', 'au_only', 'trivial_au_f1'), ('uar', 'fe_only', 'trivial_uar')):
        both,one = (stored['summary'][k][score] for k in ('joint', alone))
        assert abs(both['mean']-one['mean'])<both['half']+one['half']
        assert both['mean']-both['half']>stored['runs']['joint'][0][constant]

# glossary ------------------------------------------------------------------------------------------------------------

GLOSSARY = re.findall(r'^\| (.+?) \| (.+?) \| \[(.+?)\]\((.+?)\) \|$', (ROOT/'nbs'/'glossary.md').read_text(encoding='utf-8'), re.M)

def words(text): return re.sub('[-_]', ' ', plain(text)).lower()

@pytest.mark.parametrize('term,meaning,name,link', GLOSSARY, ids=lambda o: o if len(o)<20 else '')
def test_a_term_of_the_glossary_is_explained_where_it_says(term, meaning, name, link):
    assert link==f'{name}.ipynb' and re.search(rf'\b{re.escape(words(term))}', words(' '.join(markdown(ROOT/'nbs'/link)))), f'{link} never says {term!r}'
    assert meaning.endswith('.') and meaning.count('. ')==0, 'one sentence'

def test_the_glossary_is_in_order():
    terms = [t.lower() for t,*_ in GLOSSARY]
    assert terms==sorted(set(terms)) and len(terms)>=50
