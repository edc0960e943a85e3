"Priors against the released tables, and round trips for any prior that can be written down"
import hashlib
import numpy as np, networkx as nx, pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from ssm_nb.labels.facs import ACTION_UNITS, EXPRESSIONS, LabelOrderError, LabelSpace, label_space
from ssm_nb.labels.choice import PRIORS, choose_prior, compare, prior_record
from ssm_nb.labels.cooccurrence import CoOccurrence, dataset_cooccurrence
from ssm_nb.labels.prior import Prior, PriorError, du2014_prior, emfacs_prior, ssm_prior
from ssm_nb.labels.tables import load_cooccurrence, load_prior, save_cooccurrence, save_prior

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
@pytest.mark.parametrize('make', (ssm_prior, emfacs_prior, du2014_prior))
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
    save_prior(prior, path)
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
    save_cooccurrence(counts, path)
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
    save_prior(ssm_prior(label_space("bp4d")), path)
    old = path.read_bytes()
    monkeypatch.setattr(nx, 'write_graphml_xml', lambda g, p: p.write_text('<graphml') and 1/0)
    with pytest.raises(ZeroDivisionError): save_prior(du2014_prior(label_space("bp4d")), path)
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
    save_prior(ssm_prior(space).to(LabelSpace(space.aus, space.expressions[:-1])), path)
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
    with pytest.raises(PriorError, match='directed'): Prior.from_graph(dataset_cooccurrence('bp4d').to_graph())

# the prior of a run -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize('word', PRIORS)
@pytest.mark.parametrize('space', [label_space('bp4d', 11), label_space('disfa').union(label_space('bp4d')), LabelSpace((27, 12, 5, 20), ('contempt', 'neutral', 'fear', 'anger')),
                                   LabelSpace((26, 1), ('surprise', 'sadness'))])
def test_every_word_gives_a_prior_for_any_labels(word, space):
    "Exactly these labels, a resting face shows nothing, and whatever is silent is said"
    prior = choose_prior(word, space)
    assert prior.space == space and (space.neutral is None or len(set(prior.matrix[space.neutral])) == 1)
    linked = prior.matrix > 0.02
    silent = [au for j,au in enumerate(space.au_labels) if not linked[:,j].any()] + [e for i,e in enumerate(space.expressions) if e != 'neutral' and not linked[i].any()]
    assert all(label in prior.source.split('silent about')[-1] for label in silent)
    assert bool(silent) == ('silent about' in prior.source)

@pytest.mark.parametrize('aus,n', [('bp4d', 7), ('bp4d', 11), ('disfa', 7), ('disfa', 11)])
def test_ssm_is_the_released_table_for_released_labels(aus, n):
    assert np.array_equal(choose_prior('ssm', label_space(aus, n)).matrix, ssm_prior(label_space(aus, n)).matrix)

@given(st.sampled_from([('bp4d', 7), ('bp4d', 11), ('disfa', 7), ('disfa', 11)]), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_controls_say_as_much_and_mean_nothing(key, seed):
    space = label_space(*key)
    ssm, uniform, shuffled = ssm_prior(space), choose_prior('uniform', space), choose_prior('shuffled', space, seed)
    rows = [i for i in range(space.n_expressions) if i != space.neutral]
    assert np.isclose(uniform.matrix.sum(), ssm.matrix.sum()) and np.ptp(uniform.matrix[rows]) == 0
    assert sorted(map(tuple, shuffled.matrix)) == sorted(map(tuple, ssm.matrix)) and np.array_equal(shuffled.matrix[space.neutral], ssm.matrix[space.neutral])
    assert not any(np.array_equal(shuffled.matrix[i], ssm.matrix[i]) for i in rows)
    assert shuffled == choose_prior('shuffled', space, seed)

@pytest.mark.parametrize('suffix', ['csv', 'graphml', 'CSV'])
def test_a_file_is_brought_to_the_models_labels_by_name(tmp_path, suffix):
    "Another order is put right by the names; labels that the file lacks come from a rule, and the source says which"
    file, space = tmp_path/f'mine.{suffix}', LabelSpace((20, 12, 1), ('fear', 'happiness'))
    save_prior(Prior([[.1, .2], [.3, .4]], LabelSpace((1, 12), ("happiness", "fear"))), file)
    prior = choose_prior(str(file), space)
    assert np.array_equal(prior.matrix, [[1, .4, .3], [.02, .2, .1]]) and 'pairs of AU20 from EMFACS' in prior.source
    record = prior_record(file, prior)
    assert record['file_sha256'] == hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_bytes(file.read_bytes()+b'\n')
    assert prior_record(file, prior)['sha256'] == record['sha256'] and prior_record(file, prior)['file_sha256'] != record['file_sha256']

def test_a_drawn_graph_without_positions_is_a_prior_too(tmp_path):
    nx.write_graphml_xml(nx.Graph([('fear', 'AU4', dict(weight=.5))]), tmp_path/'drawn.graphml')
    assert choose_prior(tmp_path/'drawn.graphml', LabelSpace((1, 4), ('fear', 'anger'))).matrix.tolist() == [[.02, .5], [.02, .02]]

@pytest.mark.parametrize('which,words', [('emfac', "did you mean 'emfacs'"), ('', 'nor a prior: valid: ssm'), ('prior.xlsx', 'nor a prior: valid: ssm'), ('no/such.csv', 'no/such.csv: no such file'), ('.', 'is neither')])
def test_a_choice_that_does_not_exist(which, words):
    with pytest.raises(PriorError, match=words): choose_prior(which, label_space('bp4d'))

TABLE = 'expression,AU1,AU4\nfear,1,0.02\n'
@pytest.mark.parametrize('data,words', [
    (TABLE.replace(',', ';').encode(), r':1: cells are separated by semicolons'), (TABLE.replace(',', '\t').encode(), r':1: cells are separated by tabs'),
    (('# name: x\n\n'+TABLE.replace(',', ';').replace('.', ',')).encode(), ':3: cells are separated by semicolons'), (TABLE.replace(',', '|').encode(), 'bars'),
    (TABLE.encode('utf-16'), 'this is UTF-16 text'), (b'\xfe\xff'+TABLE.encode('utf-16-be'), 'UTF-16 text'), (TABLE.encode('utf-16-le'), 'UTF-16 text or no text'),
    (TABLE.encode('utf-32'), 'UTF-16 text'), (b'PK\x03\x04rest', 'an Excel or OpenDocument workbook'), (b'\xd0\xcf\x11\xe0rest', 'an old Excel workbook'),
    (TABLE.replace('fear', 'peur—').encode('cp1252'), 'byte 23 is not UTF-8')])
@pytest.mark.parametrize('load', [load_prior, lambda p: choose_prior(p, LabelSpace((1, 4), ('fear',))), load_cooccurrence])
def test_tables_of_spreadsheets_are_named(tmp_path, data, words, load):
    "What a file is instead of a CSV with commas, and what to save it as"
    (tmp_path/'t.csv').write_bytes(data)
    with pytest.raises(PriorError, match=rf't\.csv.*{words}.*save it as CSV UTF-8') as e: load(tmp_path/'t.csv')
    assert e.type is PriorError

def test_an_excel_file_written_by_its_own_name(tmp_path):
    for name in ('a.xlsx', 'a.XLS', 'a.ods'):
        with pytest.raises(PriorError, match='Save the sheet as CSV UTF-8'): load_prior(tmp_path/name)

def test_a_byte_order_mark_and_windows_lines_are_no_matter(tmp_path):
    (tmp_path/'t.csv').write_bytes(TABLE.replace('\n', '\r\n').encode('utf-8-sig'))
    assert load_prior(tmp_path/'t.csv').matrix.tolist() == [[1, .02]]
