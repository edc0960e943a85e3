"Label spaces: any order survives a round trip, and any two orders that differ are told apart"
import json
import numpy as np
import pytest
from hypothesis import given, strategies as st
from ssm_nb.labels.facs import ACTION_UNITS, BP4D_AUS, DISFA_AUS, EXPRESSIONS, LabelOrderError, LabelSpace, action_unit, expression, label_space

aus = st.lists(st.sampled_from(list(ACTION_UNITS)), unique=True)
expressions = st.lists(st.sampled_from(EXPRESSIONS), unique=True)
spaces = st.builds(LabelSpace, aus, expressions)

@given(spaces)
def test_json_round_trip(space):
    back = LabelSpace.from_dict(json.loads(json.dumps(space.to_dict())))
    assert back == space and hash(back) == hash(space)

@given(spaces)
def test_every_label_finds_its_position(space):
    for i,(label,name,number) in enumerate(zip(space.au_labels, space.au_names, space.aus)):
        assert space.au_index(label) == space.au_index(name) == space.au_index(number) == i
    for i,name in enumerate(space.expressions): assert space.expression_index(name.upper()) == i

@given(spaces, spaces)
def test_check_agrees_with_equality(a, b):
    if a == b: assert a.check(b) is a
    else:
        with pytest.raises(LabelOrderError) as e: a.check(b)
        differing = [l for x,y in ((a.au_labels, b.au_labels), (a.expressions, b.expressions)) if x != y for l in (x, y)]
        assert all(', '.join(l) in str(e.value) for l in differing)

def test_names_are_unambiguous():
    for field in ('name', 'number'): assert len({getattr(u, field) for u in ACTION_UNITS.values()}) == len(ACTION_UNITS)
    for n,u in ACTION_UNITS.items(): assert action_unit(u.name) is action_unit(str(n)) is u

def test_vocabularies_are_in_facs(): assert set(BP4D_AUS + DISFA_AUS) <= set(ACTION_UNITS)

@pytest.mark.parametrize('bad', [True, 12.0, None, '', 'AU', 'AU012', 'au-12', -1])
def test_unknown_action_units(bad):
    with pytest.raises(ValueError, match='is not an action unit'): action_unit(bad)

@pytest.mark.parametrize('d', [{}, None, {'aus': [1]}, {'aus': 1, 'expressions': []}, {'aus': [], 'expressions': 'fear'}])
def test_bad_descriptions(d):
    with pytest.raises(ValueError): LabelSpace.from_dict(d)

@pytest.mark.parametrize('make', [lambda: action_unit(np.str_('AU3')), lambda: expression(np.str_('joyful')), lambda: LabelSpace(np.array(['AU1', 'AU2']), ()),
    lambda: label_space('bp4d', np.int64(8)), lambda: label_space(np.str_('gft')), lambda: LabelSpace([np.int64(33)], ()), lambda: LabelSpace((1,), ('fear',)).au_index(np.str_('AU2')),
    lambda: LabelSpace.from_dict([np.str_('aus')])])
def test_messages_print_plain_text(make):
    "Labels out of NumPy and pandas are shown as they were written"
    with pytest.raises(ValueError) as e: make()
    assert 'np.' not in str(e.value) and 'array(' not in str(e.value)
