"Every exercise of every notebook: the stub is not attempted, the folded solution is right, each named mistake gets its own words."
import ast, json, re
from pathlib import Path
import pytest
from ssm_nb.core.exercises import NOT_ATTEMPTED

ROOT = Path(__file__).parents[1]

def exercises():
    "Notebook, title, source of the cell, Markdown below it"
    for f in sorted([*(ROOT/'nbs').rglob('*.ipynb'), *(ROOT/'tutorials').glob('*.ipynb')]):
        cells = json.loads(f.read_text(encoding='utf-8'))['cells']
        for cell,below in zip(cells, cells[1:]+[None]):
            source = ''.join(cell['source'])
            if cell['cell_type']=='code' and (m := re.match(r'# exercise: (.+)', source)):
                yield pytest.param(source, ''.join(below['source']) if below and below['cell_type']=='markdown' else '', id=f'{f.parent.name}/{f.stem}: {m[1]}')

def verdict(source, answer=None):
    "What the last line says, after `answer`, more source, has replaced the function; and the mistakes it knows"
    tree = ast.parse(source)
    space,last = {},tree.body.pop()
    exec(compile(tree, 'exercise', 'exec'), space)
    if answer: exec(answer, space)
    call = last.value
    known = next((eval(compile(ast.Expression(k.value), 'exercise', 'eval'), space) for k in call.keywords if k.arg=='mistakes'), {})
    checked = eval(compile(ast.Expression(call), 'exercise', 'eval'), space)
    return checked,known,call.args[0].id,space

@pytest.mark.parametrize("source,below", list(exercises()))
def test_exercise(source, below):
    checked,known,name,space = verdict(source)
    assert not checked.passed and checked.text==NOT_ATTEMPTED
    solution = re.search(r'<summary>Solution</summary>\s*```python\n(.*?)```', below, re.S)
    assert solution, 'no folded solution below the exercise'
    assert '<summary>Hint</summary>' in below, 'no hint below the exercise'
    assert verdict(source, solution[1])[0].passed, verdict(source, solution[1])[0]
    assert len(known)>=2, 'fewer than two mistakes with words of their own'
    for i,words in enumerate(known):
        wrong = verdict(source, f'{name} = list(({ast.unparse(mistakes_of(source))}).values())[{i}]')[0]
        assert not wrong.passed and wrong.text==words

def mistakes_of(source):
    return next(k.value for k in ast.parse(source).body[-1].value.keywords if k.arg=='mistakes')

def test_there_are_exercises(): assert len(list(exercises()))>=1
