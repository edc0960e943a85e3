"Priors against the released tables, and round trips for any prior that can be written down"
import numpy as np, networkx as nx, pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from ssm_nb.labels.facs import ACTION_UNITS, EXPRESSIONS, LabelOrderError, LabelSpace, label_space
from ssm_nb.labels.choice import compare
from ssm_nb.labels.cooccurrence import CoOccurrence, cooccurrence, load_cooccurrence
from ssm_nb.labels.prior import PRIORS, Prior, PriorError, du2014_prior, emfacs_prior, load_prior, ssm_prior

# '#' where the released prior is 1.00, '.' where it is 0.02; one row an expression, one column an AU
RELEASED = {('bp4d', 7): '''...#..#.....
                            #.#.....#...
                            ............
                            ..#.#.....#.
                            ##..........
                            .....#...#..
                            ###.#.......''',
            ('disfa', 11): '''...#.#..
                              #.#.....
                              ........
                              ..#.....
                              ##.....#
                              ....#...
                              ###....#
                              .....#..
                              #.#...#.
                              #.#....#
                              #.#...#.'''}

@pytest.mark.parametrize('key', RELEASED)
def test_ssm_prior_is_the_released_table(key):
    table = np.array([[1.0 if c == '#' else 0.02 for c in row.strip()] for row in RELEASED[key].splitlines()])
    assert np.array_equal(ssm_prior(label_space(*key)).matrix, table)

@pytest.mark.parametrize('aus', ['bp4d', 'disfa'])
@pytest.mark.parametrize('n', [7, 11])
@pytest.mark.parametrize('make', PRIORS.values())
def test_neutral_is_linked_to_nothing(aus, n, make):
    space = label_space(aus, n)
    prior = make(space)
    assert set(prior.matrix[space.neutral]) == {0.02} and not prior.links('neutral')
    assert all(prior.links(e) for e in ('happiness', 'sadness', 'anger', 'surprise', 'disgust', 'fear'))

def test_rules_do_not_depend_on_order():
    space = LabelSpace(tuple(ACTION_UNITS), EXPRESSIONS)
    turned = LabelSpace(space.aus[::-1], space.expressions[::-1])
    for make in (emfacs_prior, du2014_prior): assert np.array_equal(make(space).matrix, make(turned).matrix[::-1, ::-1])

text = st.text(max_size=20).map(str.strip).filter(str.isprintable)

@st.composite
def priors(draw):
    space = LabelSpace(tuple(draw(st.permutations(list(ACTION_UNITS)))[:draw(st.integers(1, 6))]), tuple(draw(st.permutations(EXPRESSIONS))[:draw(st.integers(1, 5))]))
    return Prior(draw(arrays(np.float64, (space.n_expressions, space.n_aus), elements=st.floats(0, 1))), space, draw(text), draw(text))

@st.composite
def counted(draw):
    space = LabelSpace(tuple(draw(st.permutations(list(ACTION_UNITS)))[:draw(st.integers(1, 5))]), ())
    labels = draw(arrays(np.int64, (draw(st.integers(0, 12)), space.n_aus), elements=st.integers(0, 1)))
    return labels, CoOccurrence.from_labels(labels, space, draw(text), draw(text))

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

@few
@given(priors())
@pytest.mark.parametrize('suffix', ['csv', 'graphml'])
def test_any_prior_survives_a_file(tmp_path, suffix, prior):
    path = tmp_path/f'p.{suffix}'
    prior.save(path)
    back = load_prior(path, prior.space)
    assert back == prior and back.matrix.tobytes() == prior.matrix.tobytes()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]

@few
@given(priors())
def test_any_prior_survives_its_graph(prior):
    assert Prior.from_graph(prior.to_graph()) == prior
    assert Prior.from_graph(nx.relabel_nodes(prior.to_graph(), lambda n: n.lower()), prior.space) == prior

@few
@given(counted())
@pytest.mark.parametrize('suffix', ['csv', 'graphml'])
def test_any_counts_survive_a_file(tmp_path, suffix, drawn):
    counts, path = drawn[1], tmp_path/f'c.{suffix}'
    counts.save(path)
    assert load_cooccurrence(path) == counts

@few
@given(counted())
def test_counts_against_frames_one_by_one(drawn):
    labels, counts = drawn
    for i in range(counts.space.n_aus):
        for j in range(counts.space.n_aus):
            both, row, col = (sum(1 for f in labels if f[i] and f[j]), sum(1 for f in labels if f[i]), sum(1 for f in labels if f[j]))
            assert counts.support[i,j] == both
            np.testing.assert_allclose(counts.conditional()[i,j], both/row if row else np.nan)
            np.testing.assert_allclose(counts.lift()[i,j], (both/len(labels))/(row/len(labels)*(col/len(labels))) if row and col else np.nan)

def test_comparison_is_sorted_and_complete():
    space = label_space('bp4d')
    a, b = ssm_prior(space), du2014_prior(space)
    rows = compare(a, b).rows
    sizes = [abs(r - l) for *_,l,r in rows]
    assert sizes == sorted(sizes, reverse=True) and len(rows) == (a.matrix != b.matrix).sum()
    assert all(a.matrix[space.expression_index(e), space.au_index(au)] == l and b.matrix[space.expression_index(e), space.au_index(au)] == r for e,au,l,r in rows)

def test_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path/'p.graphml'
    ssm_prior(label_space('bp4d')).save(path)
    old = path.read_bytes()
    monkeypatch.setattr(nx, 'write_graphml_xml', lambda g, p: p.write_text('<graphml') and 1/0)
    with pytest.raises(ZeroDivisionError): du2014_prior(label_space('bp4d')).save(path)
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]

def test_spreadsheet_export_with_bom_and_crlf(tmp_path):
    path = tmp_path/'excel.csv'
    path.write_bytes('\ufeffexpression,AU1,"AU4"\r\nfear,0.5,1\r\n\r\n'.encode())
    prior = load_prior(path)
    assert prior.name == 'excel' and prior.matrix.tolist() == [[0.5, 1.0]] and prior.space == LabelSpace((1, 4), ('fear',))

@pytest.mark.parametrize('body, message', [
    ('', ":1: the header must be"),
    ('expression\nfear\n', ":1: the header must be"),
    ('# only a comment\n', ":1: the header must be"),
    ('expression,AU1\nfear\n', ':2: 1 cells'),
    ('expression,AU1\nfear,-0.1\n', "2 column 2 (fear, AU1): '-0.1'"),
    ('expression,AU1\nfear,inf\n', "2 column 2 (fear, AU1): 'inf'"),
    ('expression,AU1\nfear,\n', "2 column 2 (fear, AU1): ''"),
    ('expression,AU1\nfear,1\nfear,1\n', "expressions lists 'fear' twice")])
def test_bad_csv(tmp_path, body, message):
    path = tmp_path/'bad.csv'
    path.write_text(body)
    with pytest.raises(PriorError) as e: load_prior(path)
    assert str(e.value).startswith(str(path)) and message in str(e.value)

def test_missing_expression_prints_both_orders(tmp_path):
    path, space = tmp_path/'short.csv', label_space('bp4d')
    ssm_prior(space).to(LabelSpace(space.aus, space.expressions[:-1])).save(path)
    with pytest.raises(LabelOrderError, match='fear / nothing') as e: load_prior(path, space)
    assert str(path) in str(e.value)

@pytest.mark.parametrize('change, message', [
    (lambda g: g.edges['fear', 'AU1'].update(weight=2.0), '2.0 at row'),
    (lambda g: g.edges['fear', 'AU1'].update(weight=float('nan')), 'nan at row'),
    (lambda g: g.edges['fear', 'AU1'].pop('weight'), "has the weight None"),
    (lambda g: g.nodes['AU1'].pop('position'), "not every node has a 'position'"),
    (lambda g: g.add_edge('AU1', 'AU2', weight=1.0), 'does not link an expression'),
    (lambda g: g.add_edge('AU1', 'AU3', weight=1.0), "node 'AU3' is neither")])
def test_bad_graph(tmp_path, change, message):
    g, path = ssm_prior(label_space('bp4d')).to_graph(), tmp_path/'bad.graphml'
    change(g)
    nx.write_graphml_xml(g, path)
    with pytest.raises(PriorError) as e: load_prior(path)
    assert str(path) in str(e.value) and message in str(e.value)

def test_directed_graph_is_no_prior():
    with pytest.raises(PriorError, match='directed'): Prior.from_graph(cooccurrence('bp4d').to_graph())
