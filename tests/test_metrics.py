import json, numpy as np, pytest
from fractions import Fraction
from hypothesis import given, settings, strategies as st
from math import ceil
from recipe import GOLDEN
from sklearn.metrics import f1_score, recall_score
from ssm_nb.facs import LabelSpace, label_space
from ssm_nb.metrics import apply_vote, au_scores, fe_scores, mean_ci, rule_share, trivial_au_f1, vote_search

REFERENCE = json.loads((GOLDEN/'vote.json').read_text())

@pytest.mark.parametrize('want', REFERENCE, ids=lambda o: f"seed{o['seed']}")
def test_golden_vote(want):
    z,s = np.load(GOLDEN/'vote.npz'),want['seed']
    got = vote_search(z[f's{s}_probs'], z[f's{s}_targets'], z[f's{s}_lengths'])._asdict()
    assert set(got)==set(want)-{'seed'}
    for k,v in got.items():
        if k in ('f1','per_au_f1'): np.testing.assert_allclose(v, want[k], rtol=0, atol=1e-12)
        else: assert v==want[k], k

def windowed(x, lengths, K):
    "Each frame's window, segments apart, edges repeated: by hand"
    out,start = [],0
    for l in lengths:
        seg = x[start:start+l]; start += l
        out += [[seg[min(max(i+o,0),l-1)] for o in range(-K,K+1)] for i in range(l)]
    return np.array(out) # (n, 2K+1, a)

SHARES = {Fraction(j, 2*k+1) for k in range(8) for j in range(1, 2*k+2)}

def brute_force(probs, targets, lengths):
    "Every threshold and rule, one by one; among the best, the tie rule as it is written"
    found = []
    for K in range(8):
        w = windowed(probs, lengths, K)
        for m in range(1, 2*K+2):
            p = min((s for s in SHARES if ceil(s*(2*K+1))==m), key=lambda s: abs(s-Fraction(3,10)))
            for t in range(1, 100):
                yes = (w>=t/100).sum(1)>=m # (n, a)
                f1 = []
                for j in range(probs.shape[1]):
                    known = ~np.isnan(targets[:,j])
                    if not known.any(): continue
                    tp = int((yes[known,j]*targets[known,j]).sum())
                    both = int(yes[known,j].sum()+targets[known,j].sum())
                    f1.append(Fraction(2*tp, both) if both else Fraction(0))
                found.append((-sum(f1)/len(f1), abs(K-3), abs(p-Fraction(3,10)), abs(t-50), K, p, t, m))
    best = min(found)
    return float(-best[0]),best[4],best[7],best[6]/100

@st.composite
def films(draw):
    "Few frames, coarse probabilities (so that thresholds and ties matter), missing labels"
    lengths = draw(st.lists(st.integers(1,7), min_size=1, max_size=3))
    n,a = sum(lengths),draw(st.integers(1,2))
    rng = np.random.default_rng(draw(st.integers(0,10**6)))
    probs = np.round(rng.random((n,a)), draw(st.sampled_from([1,2,4])))
    targets = (rng.random((n,a))<draw(st.sampled_from([0.,0.2,0.5,1.]))).astype(float)
    targets[rng.random((n,a))<draw(st.sampled_from([0.,0.3]))] = np.nan
    targets[0,0] = draw(st.sampled_from([0.,1.]))
    return probs,targets,lengths

@settings(max_examples=12)
@given(films())
def test_vote_search_is_exhaustive(film):
    got = vote_search(*film)
    f1,K,m,t = brute_force(*film)
    assert (got.K,got.required_votes,got.threshold)==(K,m,t)
    np.testing.assert_allclose(got.f1, f1, rtol=0, atol=1e-12)

@settings(max_examples=30)
@given(films())
def test_the_setting_found_scores_what_it_says(film):
    probs,targets,lengths = film
    got = vote_search(*film)
    positive = apply_vote(probs, lengths, got.threshold, got.K, got.required_votes)
    for j,f in enumerate(got.per_au_f1):
        known = ~np.isnan(targets[:,j])
        if known.any(): np.testing.assert_allclose(f, f1_score(targets[known,j], positive[known,j], zero_division=0), atol=1e-12)
        else: assert np.isnan(f)

def test_ties_go_to_the_middle():
    "Every threshold up to 0.71 and every rule is perfect: 0.5, K=3, and the votes that p=4/13 asks of seven frames"
    got = vote_search(np.full((20,1), 0.71), np.ones((20,1)), [20])
    assert (got.f1,got.threshold,got.K,got.required_votes)==(1,0.5,3,3) and rule_share(3,3)==Fraction(4,13)

def test_ties_are_exact():
    "Thresholds up to 0.30, and 0.70 to 0.75, are equally good; 0.3 and 0.7 are equally near 0.5, though not in floating point"
    probs,y = np.array([[0.30],[0.75],[0.695],[0.30]]),np.array([[1.],[1.],[0.],[0.]])
    got = vote_search(probs, y, [1]*4)
    np.testing.assert_allclose(got.f1, 2/3)
    assert got.threshold==0.3 and abs(0.7-0.5)<abs(0.3-0.5)

def test_thresholds_are_inclusive():
    got = vote_search(np.array([[0.29],[0.285]]), np.array([[1.],[0.]]), [1,1]) # only 0.29 separates
    assert (got.f1,got.threshold)==(1,0.29)

@given(st.integers(1,200), st.floats(0,1), st.integers(0,999))
def test_trivial_f1_is_the_best_constant(n, p, seed):
    y = (np.random.default_rng(seed).random((n,1))<p).astype(float)
    best = max(f1_score(y[:,0], np.full(n,c), zero_division=0) for c in (0,1))
    np.testing.assert_allclose(trivial_au_f1(y), [best])

def test_au_scores_against_scikit_learn():
    rng,space = np.random.default_rng(0),label_space('bp4d', 7)
    probs,targets = rng.random((300,12)),(rng.random((300,12))<0.3).astype(float)
    s = au_scores(probs, targets, space)
    np.testing.assert_allclose(s.f1, [f1_score(targets[:,j], probs[:,j]>=0.5) for j in range(12)])
    assert s.protocol=='fixed' and s.notes()==[] and s.frames.tolist()==[300]*12

def test_missing_labels_do_not_count():
    rng,space = np.random.default_rng(1),LabelSpace((1,2), ('fear','anger'))
    probs,targets = rng.random((50,2)),(rng.random((50,2))<0.5).astype(float)
    more = np.concatenate([targets, np.full((30,2), np.nan)])
    a,b = au_scores(probs, targets, space),au_scores(np.concatenate([probs, rng.random((30,2))]), more, space)
    for k in ('f1','auc','precision','recall','base_rate','trivial_f1','frames'): np.testing.assert_array_equal(getattr(a,k), getattr(b,k))

@given(st.integers(1,60), st.integers(0,999))
def test_uar_and_war(n, seed):
    rng,space = np.random.default_rng(seed),label_space('disfa', 11)
    labels,logits = rng.integers(0, 11, n),rng.normal(size=(n,11))
    s = fe_scores(logits, labels, space)
    said = logits.argmax(1)
    np.testing.assert_allclose(s.war, (said==labels).mean())
    np.testing.assert_allclose(s.uar, recall_score(labels, said, labels=np.unique(labels), average='macro', zero_division=0))
    assert s.confusion.sum()==n and s.trivial_war>=s.trivial_uar-1e-12

@pytest.mark.parametrize('lengths', [[3,3],[4],[0,5],[-1,6],[]])
def test_segments_that_do_not_fit(lengths):
    with pytest.raises(ValueError, match='sum to the 5 frames'): vote_search(np.full((5,1),0.5), np.ones((5,1)), lengths)

def test_nothing_annotated():
    with pytest.raises(ValueError, match='No frame is annotated'): vote_search(np.full((3,1),0.5), np.full((3,1),np.nan), [3])

def test_interval_of_two_seeds():
    "t(0.975, 1) = 12.706"
    np.testing.assert_allclose(mean_ci([0.5,0.6]).half, 12.7062*np.std([0.5,0.6], ddof=1)/np.sqrt(2), rtol=1e-5)
