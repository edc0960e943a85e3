"What the explorer computes in a real browser, against the model in PyTorch and the renderer"
import base64, gzip, json, zlib
from copy import deepcopy
from dataclasses import replace
import numpy as np
import pytest
import torch
from browser import browser, floats, module_page
from ssm_nb.explore.edits import WAYS, check_edits, edited_model
from ssm_nb.explore.face import face_model, face_words, person
from ssm_nb.explore.sources import model_spec, prior_spec
from ssm_nb.explore.contracts import DTYPES, SpecError, encode
from ssm_nb.explore.spec import Clip, Evidence, FaceModel, Matrix, Pictures, Spec, check_spec, explorer_js
from ssm_nb.evaluation.scores import au_scores, fe_scores
from ssm_nb.data.augment import normalise
from ssm_nb.faces.mesh import load_basis
from ssm_nb.faces.scenes import render, still
from ssm_nb.labels.facs import ACTION_UNITS, LabelSpace, label_space
from ssm_nb.labels.prior import Prior, ssm_prior
from ssm_nb.model.backbone import clip_config
from ssm_nb.model.prototypes import facs_prompts
from ssm_nb.model.ssm import build_ssm
from ssm_nb.training.snapshots import Watched, clip_numbers, map_numbers

@pytest.fixture(scope='module')
def page():
    with browser() as b: yield module_page(b, explorer_js())

def spaces(): # with neutral in the middle, at an end, and without
    bp4d = label_space('bp4d', 7)
    return dict(neutral=bp4d, without=LabelSpace(bp4d.aus[:8], [e for e in bp4d.expressions if e!='neutral']), last=LabelSpace((12, 1, 4, 25), ('fear', 'happiness', 'neutral')))

def shaken(model, seed):
    "Weights that say something: random residuals, gates, filters, contexts"
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p,s in ((model.mapping.d1, 1.5), (model.mapping.d2, 1.5), (model.mapping.alpha, 2), (model.mapping.beta, 2), (model.smoother.conv.weight, .4)): p.copy_(torch.randn(p.shape, generator=g)*s)
    return model.eval()

def a_model(space, smoothing, seed):
    r = np.random.default_rng(seed)
    matrix = np.where(r.random((space.n_expressions, space.n_aus))<.3, 1., .02)
    matrix[0,0] = 0 # the floor below the logarithm
    prior = Prior(matrix, space, 'random', 'test')
    cfg = clip_config('small'); cfg['vision_cfg'] |= dict(image_size=32, width=64, layers=2)
    return shaken(build_ssm(cfg, space, prior, *facs_prompts(space, prior), n_expert_blocks=1, expert_hidden=32, smoothing=smoothing, seed=seed), seed)

def a_spec(model, seed):
    "Two epochs of a model, its clips, and another prior"
    g,space = torch.Generator().manual_seed(seed),model.space
    pixels = torch.randint(0, 256, (3, 16, 3, 32, 32), generator=g, dtype=torch.uint8)
    letters = [''.join('01?'[int(v)] for v in row) for row in torch.randint(0, 3, (16, space.n_aus), generator=g)]
    watched = Watched(pixels, ('a', 'b', 'c'), ('a', 'b', 'b'), ('fe', 'au', 'au'), (0, None, None), (None, tuple(letters), tuple(letters)), 'validation')
    numbers = clip_numbers(model, pixels)
    now = dict(epoch=1, scores=None, **map_numbers(model), **numbers)
    old = dict(now, epoch=0, **{k:torch.randn(v.shape, generator=g) for k,v in now.items() if k in ('d1', 'd2', 'alpha', 'beta')})
    spec = model_spec(model, watched, 'random', [old, now], rendered=False)
    other = prior_spec(Prior(np.random.default_rng(seed+1).random((space.n_expressions, space.n_aus)), space, 'other', 'test')).priors
    return replace(spec, priors=[spec.priors[0], *other]),pixels

def random_edits(rng, spec):
    "One to five edits of any kind; never a whole row re-weighted to nothing"
    out = []
    for _ in range(rng.integers(1, 6)):
        way = str(rng.choice(WAYS))
        at = dict(way=way, expression=str(rng.choice(spec.labels.expressions)), au=int(rng.choice(spec.labels.aus)))
        kind = str(rng.choice(['cut', 'reweight', 'reweight', 'restore', 'scale', 'scale_all', 'gate', 'epoch', 'prior']))
        out.append(dict(cut=dict(kind='cut', **at), restore=dict(kind='restore', **at), reweight=dict(kind='reweight', **at, factor=float(rng.choice([1e-3, .5, 3, 20]))),
            scale=dict(kind='scale', **at, by=float(rng.normal(0, 2))), scale_all=dict(kind='scale', way=way, by=float(rng.normal(1, 1))), gate=dict(kind='gate', way=way, value=float(rng.choice([0, 1, rng.random()]))),
            epoch=dict(kind='epoch', epoch=int(rng.choice([1, 2]))), prior=dict(kind='prior', name=str(rng.choice([o.name for o in spec.priors]))))[kind])
    if rng.random()<.3: out.append(dict(kind='reweight', way='au2fe', expression=spec.labels.expressions[0], au=spec.labels.aus[1], factor=0)) # one link of a row gone
    return out

@pytest.mark.parametrize('smoothing', ['pairs', 'clip'])
@pytest.mark.parametrize('labels', ['neutral', 'without', 'last'])
def test_random_edits(page, smoothing, labels):
    "1,000 in all: logits to 1e-4 of the whole model's, maps to 1e-5, rows that are not cut keep their mass to 1e-6"
    space,seed = spaces()[labels],len(labels)
    model = a_model(space, smoothing, seed)
    spec,pixels = a_spec(model, seed)
    rng,n = np.random.default_rng(seed),167
    all_edits = [random_edits(rng, spec) for _ in range(n)]
    page.evaluate('async text => { globalThis.spec = await ssm.unpack(text); }', spec.payload())
    in_browser = floats(page, '''edits => { const before = ssm.compute(spec, 1, []); // what edits leave as it is, is taken from there
        return edits.flatMap(o => { const r = ssm.compute(spec, 1, o, before); return [...r.fe, ...r.au, ...r.maps[0], ...r.maps[1]]; }); }''', all_edits).reshape(n, -1)
    e,a = space.n_expressions,space.n_aus
    x = normalise(pixels)
    with torch.no_grad():
        features = model.frame_features(x)
        for edits,ours in zip(all_edits, in_browser):
            edited = edited_model(model, edits, spec)
            edited.frame_features = lambda clip, noise=None: features # the image tower knows no map
            out = edited(x, x)
            fe,au,m1,m2 = np.split(ours, np.cumsum([3*e, 48*a, e*a]))
            np.testing.assert_allclose(fe.reshape(3, e), out.fe.numpy(), atol=1e-4, rtol=0, err_msg=str(edits))
            np.testing.assert_allclose(au.reshape(3, 16, a), out.au.numpy(), atol=1e-4, rtol=0, err_msg=str(edits))
            np.testing.assert_allclose(m1.reshape(e, a), out.au2fe.numpy(), atol=1e-5, err_msg=str(edits))
            np.testing.assert_allclose(m2.reshape(a, e), out.fe2au.numpy(), atol=1e-5, err_msg=str(edits))
            mass(m1.reshape(e, a), m2.reshape(a, e), edits, spec, space)

def mass(m1, m2, edits, spec, space):
    "Rows without a cut weigh what their row of the prior weighs, neutral is the prior's: in the method's words, not in the library's"
    name = next((o['name'] for o in reversed(edits) if o['kind']=='prior'), spec.priors[0].name)
    p = next(o.matrix for o in spec.priors if o.name==name).astype(np.float64)
    cut = {(o['way'], o['expression'] if o['way']=='au2fe' else o['au']) for o in edits if o['kind']=='cut'}
    for i,name in enumerate(space.expressions):
        if ('au2fe', name) not in cut: assert abs(m1[i].sum()-p[i].sum())<1e-6
    for j,u in enumerate(space.aus):
        if ('fe2au', u) not in cut: assert abs(m2[j].sum()-p[:,j].sum())<1e-6
    if space.neutral is not None and not cut:
        np.testing.assert_allclose(m1[space.neutral], p[space.neutral], atol=1e-7)
        np.testing.assert_allclose(m2[:,space.neutral], p[space.neutral], atol=1e-7)

@pytest.fixture(scope='module')
def small(page):
    model = a_model(spaces()['neutral'], 'pairs', 0)
    spec,_ = a_spec(model, 0)
    page.evaluate('async text => { globalThis.spec = await ssm.unpack(text); }', spec.payload())
    return model,spec

def test_a_logit_is_the_sum_of_its_parts(page, small):
    model,spec = small
    gap = page.evaluate('''() => { const r = ssm.compute(spec, 1, []); let most = 0;
        for (let c = 0; c < 3; c++) for (let i = 0; i < 7; i++) most = Math.max(most, Math.abs(r.fe[c * 7 + i] - ssm.parts(spec, r, 'au2fe', c, i).reduce((s, o) => s + o.value, 0)));
        return most; }''')
    assert gap<1e-9

def test_similarities_before_and_after_the_exchange(page, small):
    model,spec = small
    with torch.no_grad():
        p = torch.cat(model.prototypes()); z = torch.cat(model.mapping.exchange(*model.prototypes()))
    before,after = floats(page, '() => { const r = ssm.compute(spec, 1, []); return [...ssm.similarities(spec, r.setting.epoch, null), ...ssm.similarities(spec, r.setting.epoch, r.z)]; }').reshape(2, 19, 19)
    np.testing.assert_allclose(before, p@p.T, atol=1e-5)
    np.testing.assert_allclose(after, z@z.T, atol=1e-5)

def random_clips(spec, rng, n=12):
    "Other clips: some expressions without any, AUs that are nowhere active or nobody annotated, data sets that do not know every expression"
    e,a = len(spec.labels.expressions),len(spec.labels.aus)
    present,shares = rng.choice(e, rng.integers(1, e+1), replace=False),rng.choice([0, .3, 1], a)
    clips = []
    for i in range(n):
        label = int(rng.choice(present)) if rng.random()<.7 else None
        some = sorted({*rng.choice(e, rng.integers(1, e), replace=False).tolist(), *([] if label is None else [label])}) if rng.random()<.5 else None
        frames = 2*int(rng.integers(1, 4))
        aus = [''.join('?' if rng.random()<.3 else str(int(rng.random()<p)) for p in shares) for _ in range(frames)] if rng.random()<.7 else None
        clips.append(Clip(f'clip {i}', str(i), 'fe', frames, label, some, aus, None))
    f = sum(o.frames for o in clips)
    f32 = lambda *shape: rng.normal(size=shape).astype(np.float32)
    return replace(spec, clips=clips, epochs=[replace(k, fe_head=f32(n, e), fe_dot=f32(n, e+a), au_head=f32(f, a), au_dot=f32(f, e+a)) for k in spec.epochs])

def test_scores_are_those_of_the_library(page, small):
    "UAR over the expressions that have clips, F1 over the AUs that are labelled active somewhere, each clip in the labels of its data set"
    model,spec = small
    space,undefined = model.space,set()
    for seed in range(40):
        new = random_clips(spec, np.random.default_rng(seed))
        said = page.evaluate('async text => { const spec = await ssm.unpack(text), r = ssm.compute(spec, 1, []); return {...r, fe: [...r.fe], au: [...r.au], maps: 0, z: 0, setting: 0, called: spec.clips.map((_, c) => ssm.called(spec, r.fe, c))}; }', new.payload())
        fe,au = np.array(said['fe']).reshape(12, -1),np.array(said['au']).reshape(-1, 12)
        masked = np.stack([np.where([o.classes is None or i in o.classes for i in range(len(x))], x, -np.inf) for o,x in zip(new.clips, fe)])
        assert said['called']==masked.argmax(1).tolist()
        labelled = [i for i,o in enumerate(new.clips) if o.expression is not None]
        want = fe_scores(masked[labelled], [new.clips[i].expression for i in labelled], space) if labelled else None
        assert said['uar']==(pytest.approx(want.uar, abs=1e-12) if want else None) and said['over']['fe']==(want.basis.over if want else 0)
        letters = [t for o in new.clips for t in o.aus or ['?'*12]*o.frames]
        truth = np.array([[dict(zip('01?', (0, 1, np.nan)))[l] for l in t] for t in letters])
        want = au_scores(1/(1+np.exp(-au)), truth, space)
        assert said['f1']==pytest.approx([None if np.isnan(v) else v for v in want.f1]) and said['over']['au']==want.basis().over
        assert said['meanF1']==(pytest.approx(want.mean()) if want.basis().over else None)
        undefined.add(said['over']['fe']<7 and said['over']['au']<12)
    assert True in undefined

@pytest.mark.parametrize('edit,words', [(dict(kind='gate', way='au2fe', value=1.5), 'value is 1.5; expected a number from 0 to 1'), (dict(kind='melt'), 'is not a kind of edit'), (dict(kind='cut', way='au2fe', expression='joy', au=12), '"joy" is not among the expressions here'),
    (dict(kind='cut', way='au2fe', expression='fear', au=99), '99 is not among the action units here'), (dict(kind='reweight', way='au2fe', expression='fear', au=1, factor=-1), 'expected a number from 0'), (dict(kind='epoch', epoch=9), 'epoch 9 is not among 1, 2'), (dict(kind='prior', name='x'), 'is not a prior here')])
def test_an_edit_that_cannot_be_is_refused_on_both_sides(page, small, edit, words):
    model,spec = small
    assert words in page.evaluate('o => { try { ssm.compute(spec, 1, [o]); return "accepted"; } catch (e) { return e instanceof ssm.EditError ? e.message : "another error: " + e; } }', edit)
    with pytest.raises(ValueError): edited_model(model, [edit], spec)

def test_both_sides_refuse_the_same_edits(page, small):
    "Any edit with any value anywhere: allowed by both or by none; the widget asks `check_edits` before a view sees it"
    model,spec = small
    rng,l = np.random.default_rng(0),spec.labels
    odd = [None, True, False, 0, 1, -1, 1.5, 1001, 1e400, '', 'x', '12', 'au2fe', 'fear', 12, 12., 99, [], {}, [12]]
    def one():
        o = dict(kind=str(rng.choice(['cut', 'reweight', 'restore', 'scale', 'gate', 'epoch', 'prior'])), way=str(rng.choice(WAYS)), expression=str(rng.choice(l.expressions)), au=int(rng.choice(l.aus)),
                 factor=float(rng.choice([0, 2])), by=-1., value=.5, epoch=1, name='other')
        if rng.random()<.5: o[str(rng.choice([*o]))] = odd[rng.integers(len(odd))]
        if rng.random()<.3: del o[str(rng.choice([*o]))]
        return o if rng.random()<.97 else odd[rng.integers(len(odd))]
    asked = [[one() for _ in range(rng.integers(1, 3))] for _ in range(1500)]+[[dict(kind=k)] for k in ('constructor', 'toString', '__proto__')]
    def mine(edits):
        try: check_edits(edits, spec); return True
        except ValueError: return False
    ours = [mine(o) for o in asked]
    theirs = page.evaluate("all => all.map(o => { try { ssm.compute(spec, 1, o); return true; } catch (e) { return e instanceof ssm.EditError ? false : String(e); } })", [[{k:(None if v==float('inf') else v) for k,v in o.items()} if isinstance(o, dict) else o for o in e] for e in asked])
    assert [(o,a,b) for o,a,b in zip(asked, ours, theirs) if a!=b]==[] and .3<np.mean(ours)<.7

# the face ---------------------------------------------------------------------------------------------------------

def poses():
    "20 faces: at rest, single AUs, one side only, many at once"
    g,n = torch.Generator().manual_seed(0),len(ACTION_UNITS)
    out = [(torch.zeros(n), 'both')]+[(torch.eye(n)[k], 'both') for k in (0, 2, 3, 8, 10, 12, 18)]+[(torch.eye(n)[8], s) for s in ('left', 'right')]
    return out+[((torch.rand(n, generator=g)*(torch.rand(n, generator=g)<.3)), ('both', 'left', 'right')[k%3]) for k in range(10)]

@pytest.fixture(scope='module')
def face_page(page):
    "The page with `face`, ready to be posed"
    page.evaluate('async text => { globalThis.facespec = await ssm.unpack(text); globalThis.face = new ssm.Face(facespec.face); }', prior_spec(ssm_prior(label_space('bp4d', 7))).payload())
    return page

@pytest.mark.parametrize('size', [112, 320])
def test_the_face_is_the_one_that_render_draws(face_page, size):
    "Mean difference at most 3 of 255, silhouettes overlap by 0.99"
    basis,people = load_basis(),person()
    worst = 0
    for x,side in poses():
        theirs = (render(basis, people, still(basis, x[None], side=side), size)[0].permute(1, 2, 0)*255).numpy()
        left,right = [(x if side in ('both', s) else torch.zeros_like(x)).tolist() for s in ('left', 'right')]
        ours = floats(face_page, f'([l, r]) => face.pose(l, r).draw({size})', [left, right]).reshape(size, size, 4)[...,:3]
        grey = round(255*.32**(1/2.2))
        a,b = (np.abs(o-grey).max(-1)>1.5 for o in (ours, theirs)) # where the face is
        assert (a&b).sum()/(a|b).sum()>=.99
        worst = max(worst, np.abs(ours-theirs).mean())
    assert worst<=3
    print(f'largest mean difference at {size} px: {worst:.3f} of 255')

def test_every_action_unit_moves_its_own_region(face_page):
    "The pixels that an AU changes lie where its muscle is"
    face = face_model()
    rest = floats(face_page, '() => face.pose(new Float64Array(19), new Float64Array(19)).draw(112)').reshape(112, 112, 4)[...,:3]
    rows = dict(brow=(0, 42), eye=(25, 60), cheek=(32, 78), nose=(15, 75), mouth=(50, 112), chin=(80, 112), jaw=(58, 112)) # of 112; the nose wrinkler draws the brows down with it
    for k,region in enumerate(face.regions):
        x = np.eye(19)[k].tolist()
        moved = np.abs(floats(face_page, '([x]) => face.pose(x, x).draw(112)', [x]).reshape(112, 112, 4)[...,:3]-rest).sum(-1)
        lo,hi = rows[region]
        assert moved.sum()>200 and moved[lo:hi].sum()>.8*moved.sum(), (face.aus[k], region)

def test_the_words_are_the_same(face_page):
    face,g = face_model(),np.random.default_rng(0)
    for _ in range(30):
        l,r = (np.round(g.random(19)*(g.random(19)<.3), 2) for _ in range(2))
        if g.random()<.5: r = l
        mine = face_words(dict(zip(face.aus, l.tolist())), dict(zip(face.aus, r.tolist())))
        assert face_page.evaluate('([l, r]) => ssm.faceWords(facespec.face, l, r)', [l.tolist(), r.tolist()]).replace('%', '')==mine.replace('%', '')

# specifications that are wrong ------------------------------------------------------------------------------------

def places(x, path=()):
    "Every place in a specification, but not inside of arrays"
    yield path
    if isinstance(x, dict) and 'dtype' not in x: 
        for k,v in x.items(): yield from places(v, (*path, k))
    if isinstance(x, list):
        for i,v in enumerate(x[:2]): yield from places(v, (*path, i))

def replaced(d, path, value):
    d = deepcopy(d); inner = d
    for k in path[:-1]: inner = inner[k]
    if value is ...: del inner[path[-1]]
    else: inner[path[-1]] = value
    return d

def verdict(d):
    try: check_spec(d); return 'fine'
    except SpecError as e: return str(e)

def impossible(d, x):
    "Well-formed, but nothing that can be: said twice, out of range, pointing nowhere, missing what another part needs"
    cell = lambda v: [[v, *[None]*11], *[[None]*12]*6]
    put = lambda at,v: replaced(d, tuple(int(k) if k.isdigit() else k for k in at.split('.')), v)
    out = [put('labels.aus.1', d['labels']['aus'][0]), put('labels.expressions.1', d['labels']['expressions'][0]), put('priors.1.name', d['priors'][0]['name']), put('epochs.1.epoch', 1)]
    out += [put(f'evidence.{k}', cell(-1)) for k in ('support', 'together', 'lift', 'low', 'high')]+[put('evidence.together', cell(3)), put('evidence.cut_au2fe.0.0', '0.1'), put('evidence.support.0.0', True)]
    out += [put('truth', dict(source='', table=cell(v))) for v in (-.1, 1.5, 'x')]+[put('observed', dict(source='', table=cell(2)))]
    out += [put('epochs.0.uar', v) for v in (-.1, 1.1, '0.5')]+[put('epochs.0.gram', encode(x.gram*0, 'float32')), put('priors.0.source_of', encode(np.full((7,12), 9), 'uint8'))]
    out += [put('priors', []), put('epochs', []), put('clips.0.tiles', [0]*16), put('clips.0.frames', 0), put('pictures', dict(jpeg='?', size=8, columns=8)), put('pictures', dict(jpeg='', size=0, columns=8))]
    huge = encode(np.zeros((7, 12)), 'float32', deflate=True)
    bomb = encode(np.zeros(4*10**6), 'float32', deflate=True)
    return out+[put('epochs.0.d1', bomb|dict(shape=[7, 12])), put('epochs.0.d1.shape', [7*10**9, 12]), put('epochs.0.d1', huge|dict(data=huge['data'][:8])), put('title', 12), put('chosen', '1')]

def test_both_sides_say_the_same_of_a_wrong_specification(page, small):
    "Every field in turn: missing, null, of another kind, of another shape, not finite"
    d = small[1].to_dict()
    d['evidence'] = dict(source='', cut_on='', seeds=0, **{k:[[None]*12]*7 for k in ('support', 'together', 'lift', 'low', 'high', 'cut_au2fe', 'seeds_au2fe')}, **{k:[[None]*7]*12 for k in ('cut_fe2au', 'seeds_fe2au')})
    d['face'] = None
    assert verdict(d)=='fine'
    wrong = []
    for path in places(d):
        if not path: continue
        for value in (..., None, 'x', -1, 1.5, [], {}, 10**6, True): wrong.append(replaced(d, path, value))
    x = small[1].epochs[0]
    wrong += [replaced(d, ('epochs', 0, 'd1'), encode(v, 'float32')) for v in (x.d1.T, x.d1*np.nan, x.d1[None], np.full((7,12), np.inf))]
    wrong += [replaced(d, ('epochs', 0, 'd1', k), v) for k,v in (('data', 'AAAA'), ('data', '!'), ('data', 'AAA'), ('dtype', 'int16'), ('shape', [7, 11]), ('shape', [7, -12]),
                                                                 ('shape', [7, '12']), ('shape', [True, 12]), ('deflate', True), ('deflate', 'yes'), ('deflate', 1))]
    wrong += [replaced(d, ('priors', 0, 'matrix'), encode(-np.ones((7,12)), 'float32')), replaced(d, ('colour',), 'red'), replaced(d, ('evidence', 'lift'), [[1]]), replaced(d, ('clips', 1, 'aus', 0), '01')]
    wrong += impossible(d, x)
    theirs = page.evaluate('''async all => Promise.all(all.map(async t => { try { await ssm.readSpec(JSON.parse(t)); return 'fine'; } catch (e) { return e instanceof ssm.SpecError ? e.message : 'not a SpecError: ' + e; } }))''', [json.dumps(o) for o in wrong])
    ours = [verdict(o) for o in wrong]
    differ = [(a,b) for a,b in zip(ours, theirs) if a!=b]
    assert not differ, differ[:5]
    assert sum(o!='fine' for o in ours)>.7*len(ours) and all('\n' not in o for o in ours)

def faces_that_cannot_be(f):
    "The face of a specification with one thing wrong"
    yield f|dict(light=[0, 1]); yield f|dict(sides=['up', *f['sides'][1:]]); yield f|dict(camera=0); yield f|dict(ambient=2); yield f|dict(aus=[f['aus'][1], *f['aus'][1:]])
    yield f|dict(triangles=encode(np.full(f['triangles']['shape'], 32000), 'int16')); yield f|dict(triangles=encode(np.full(f['triangles']['shape'], -1), 'int16'))
    yield f|dict(mean=encode(np.full(f['mean']['shape'], np.nan), 'float32')); yield f|dict(actions=encode(np.full(f['actions']['shape'], np.inf), 'float16', deflate=True))

def test_both_sides_say_the_same_of_a_wrong_face(page):
    d = prior_spec(ssm_prior(label_space('bp4d', 7))).to_dict()
    for face in faces_that_cannot_be(d['face']):
        ours = verdict(d|dict(face=face))
        assert ours.startswith('face.')
        assert page.evaluate("async t => { try { await ssm.readSpec(JSON.parse(t)); return 'fine'; } catch (e) { return e.message; } }", json.dumps(d|dict(face=face)))==ours

def test_a_payload_that_was_cut_or_is_something_else(page, small):
    "Truncated gzip, another file, text that is not JSON, NaN: one sentence, the same on both sides"
    coded,whole = lambda raw: base64.b64encode(raw).decode(),small[1].payload()
    packed = lambda raw: coded(gzip.compress(raw))
    for text in (whole[:len(whole)//8*4], whole[:40], whole[1:], '', 'AAAA', '!', packed(b'{'), packed(b'{"format": NaN}'), packed(b'\xff\xfe'), packed(b'\xef\xbb\xbf{}'), packed(b'[]'), packed(b'{}'),
                 whole+'\n\n\n\n', coded(gzip.compress(b'{}')+b'more'), coded(gzip.compress(b'{}')*2), packed(b'{"format": '+b'9'*5000+b'}')):
        with pytest.raises(SpecError) as e: Spec.from_payload(text)
        assert page.evaluate("async t => { try { await ssm.unpack(t); return 'fine'; } catch (e) { return e instanceof ssm.SpecError ? e.message : 'another error: ' + e; } }", text)==str(e.value)

NASTY = [None, True, False, 0, -0., -1, 1, 2, 3., 1.5, 1e-7, 1e21, 1e308, -1e308, 2**53, 2**53-1, 10**22, 10**400, float('nan'), float('inf'), '', ' ', 'x', '0', 'NaN', '01?', '<b>x</b>',
    'ssm-explorer/2', '\ud800', '\u2028"\\', [], [[]], [None], [[None]], [0, 0], ['x'], {}, {'x': None}, {'shape': [], 'dtype': 'float32', 'data': ''}, {'constructor': 1}]
FIELDS = ['extra', 'constructor', '__proto__', 'toString', 'length', '0', '']

def every_place(x, path=()):
    "Every place in a value of JSON"
    yield path
    for k,v in x.items() if isinstance(x, dict) else enumerate(x) if isinstance(x, list) else (): yield from every_place(v, (*path, k))

def mutated(d, rng, paths):
    "The same with one thing wrong, or not: replaced, left out, added, wrapped, said twice, in another order, another number in an array"
    d = deepcopy(d)
    *way,last = paths[rng.integers(len(paths))]
    inner = d
    for k in way: inner = inner[k]
    old,nasty = inner[last],lambda: deepcopy(NASTY[rng.integers(len(NASTY))])
    what = str(rng.choice(['replace', 'replace', 'out', 'add', 'wrap', 'list', 'array']))
    if what=='out': del inner[last]
    elif what=='add' and isinstance(old, dict): old[str(rng.choice(FIELDS))] = nasty()
    elif what=='wrap': inner[last] = [old] if rng.random()<.5 else {str(last): old}
    elif what=='list' and isinstance(old, list) and old: inner[last] = [old+old[:1], old[::-1], old[:-1], old+[nasty()], old[1:]][rng.integers(5)]
    elif what=='array' and isinstance(old, dict) and 'dtype' in old and old['shape']:
        a = np.frombuffer(base64.b64decode(old['data']) if not old['deflate'] else zlib.decompress(base64.b64decode(old['data'])), DTYPES[old['dtype']]).copy()
        if a.size: a[rng.integers(a.size)] = rng.choice([0, 1, 100] if a.dtype.kind in 'iu' else [np.nan, np.inf, -1, 0, 1e-20, 6e4])
        inner[last] = encode(a.reshape(old['shape']), old['dtype'], old['deflate'])
    else: inner[last] = nasty()
    return d

def a_tiny_spec():
    "Everything that a specification can hold, small: three clips of several lengths, evidence, pictures, a face of one triangle"
    space = spaces()['last']
    spec = random_clips(a_spec(a_model(space, 'clip', 1), 1)[0], np.random.default_rng(2), 3)
    e,a,r = 3,4,np.random.default_rng(0)
    spec = replace(spec, clips=[replace(o, tiles=[0]*o.frames) for o in spec.clips], pictures=Pictures('AAAA', 8, 4), truth=Matrix('t', r.random((e, a))), observed=Matrix('o', np.where(r.random((e, a))<.3, np.nan, .5)),
        evidence=Evidence('s', *[np.where(r.random((e, a))<.3, np.nan, 3.)]*2, np.ones((e, a)), np.ones((e, a)), np.ones((e, a))*2, r.normal(size=(e, a)), r.normal(size=(a, e)), 'c', 3, np.ones((e, a)), np.ones((a, e))),
        face=FaceModel([12], ['lip corner puller'], ['zygomaticus major'], ['mouth'], ['left'], np.ones((1,1)), r.random((3,3)), r.random((1,3,3)), np.int16([[0,1,2]]), r.random((3,2)), np.full((1,1,3), 128), np.zeros((1,1,1)), np.ones((1,1)), [0., 0., -1.], 60., 24., .35, .1))
    return spec.to_dict()

def packed(d):
    "A payload as a stranger might write it: unchecked, NaN and half characters too"
    return base64.b64encode(gzip.compress(json.dumps(d).encode())).decode()

UNPACK = """async all => { const out = []; for (const t of all) { try { const s = await ssm.unpack(t); let odd = 'fine';
    for (let b = 0; b < s.epochs.length; b++) { const r = ssm.compute(s, b, []); if (![r.fe, r.au, ...r.maps, ...r.z].every(x => !x || x.every(Number.isFinite))) odd = 'not finite'; }
    out.push(odd); } catch (e) { out.push(e instanceof ssm.SpecError ? e.message : 'not a SpecError: ' + e.stack); } } return out; }"""

def test_both_sides_say_the_same_of_whatever_comes(page):
    "800 random changes at any place, arrays included: refused by both in the same sentence, or by none, and then every number is finite"
    d,rng = a_tiny_spec(),np.random.default_rng(0)
    assert verdict(d)=='fine'
    paths = [p for p in every_place(d) if p]
    texts = [packed(mutated(d, rng, paths)) for _ in range(800)]
    def ours(text):
        try: Spec.from_payload(text); return 'fine'
        except SpecError as e: return str(e)
    mine,theirs = [ours(t) for t in texts],page.evaluate(UNPACK, texts)
    differ = [(a,b) for a,b in zip(mine, theirs) if a!=b]
    assert not differ, (len(differ), differ[:20])
    assert 40<sum(o=='fine' for o in mine)<300 and all('\n' not in o and len(o)<400 for o in mine)

def test_no_line_of_the_module_is_long():
    assert max(map(len, explorer_js().splitlines()))<=140

@pytest.mark.parametrize('x', [None, 3, [], 'text', {}, dict(format='ssm-explorer/9')])
def test_anything_else_is_refused_in_one_sentence(page, x):
    with pytest.raises(SpecError) as e: check_spec(x)
    assert page.evaluate("async x => { try { await ssm.readSpec(x); return ''; } catch (e) { return e.message; } }", x)==str(e.value)

@pytest.mark.parametrize('theme', ['.sx {', '.sx[data-dark=true] {'])
def test_the_words_in_a_cell_can_be_read(page, theme):
    "At every strength of every ink, in both themes: contrast as WCAG 2 computes it, 4.5 or more"
    block = explorer_js().split(theme, 1)[1].split('}', 1)[0]
    colours = dict(o.strip()[2:].split(':') for o in block.split(';') if o.strip().startswith('--'))
    worst = page.evaluate('''c => Math.min(...['ink', 'up', 'down'].flatMap(k => Array.from({length: 96}, (_, n) => {
        const [words, ground] = ssm.readable(c[k], n / 100, c);
        return ssm.contrast(ssm.rgbOf(words), ground.match(/[0-9]+/g).map(Number));
    })))''', colours)
    assert worst>=4.5, worst
