import json, numpy as np, pytest
from fractions import Fraction
from hypothesis import given, settings, strategies as st
from math import ceil, erfc, sqrt
from recipe import GOLDEN
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score
from ssm_nb.labels.facs import LabelSpace, label_space
from ssm_nb.evaluation.bootstrap import (au_bootstrap, bootstrap_interval, draw_confusions, draw_people, fe_bootstrap, mean_ci,
    person_counts, score_intervals, weighted_scores)
from ssm_nb.evaluation.scores import FEScores, SCORES, au_scores, fe_scores, trivial_au_f1
from ssm_nb.evaluation.votes import apply_vote, rule_share, vote_search

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
    best = max(f1_score(y[:,0], np.full(n,c), zero_division=0) for c in (0,1)) if y.any() else np.nan
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
    predicted = logits.argmax(1)
    np.testing.assert_allclose(s.war, (predicted==labels).mean())
    np.testing.assert_allclose(s.uar, recall_score(labels, predicted, labels=np.unique(labels), average='macro', zero_division=0))
    assert s.confusion.sum()==n and s.trivial_war>=s.trivial_uar-1e-12

@pytest.mark.parametrize('lengths', [[3,3],[4],[0,5],[-1,6],[]])
def test_segments_that_do_not_fit(lengths):
    with pytest.raises(ValueError, match='sum to the 5 frames'): vote_search(np.full((5,1),0.5), np.ones((5,1)), lengths)

def test_nothing_annotated():
    with pytest.raises(ValueError, match='No frame is annotated'): vote_search(np.full((3,1),0.5), np.full((3,1),np.nan), [3])

def test_interval_of_two_seeds():
    "t(0.975, 1) = 12.706"
    np.testing.assert_allclose(mean_ci([0.5,0.6]).half, 12.7062*np.std([0.5,0.6], ddof=1)/np.sqrt(2), rtol=1e-5)

def naive_scores(y, p, yes):
    "By scikit-learn; NaN where no label is positive, whatever was predicted"
    known = ~np.isnan(y)
    y,p,yes = y[known],p[known],yes[known]
    if not y.any(): return [np.nan]*4+[0. if len(y) else np.nan]
    return [f1_score(y, yes), roc_auc_score(y, p) if y.sum()<len(y) else np.nan,
            precision_score(y, yes, zero_division=0), recall_score(y, yes), y.mean()]

@settings(max_examples=25)
@given(st.integers(1,40), st.integers(1,5), st.sampled_from([0.,0.1,0.5]), st.sampled_from([1,3]), st.integers(0,9999))
def test_a_resample_of_people_is_their_frames_one_after_the_other(n, people, missing, digits, seed):
    rng = np.random.default_rng(seed)
    probs,targets,who = rng.random((n,2)).round(digits),(rng.random((n,2))<rng.random()).astype(float),rng.integers(0, people, n)
    targets[rng.random((n,2))<missing] = np.nan
    weights = draw_people(people, 8, seed)
    weights = weights[(weights@np.bincount(who, minlength=people))>0]
    fast = weighted_scores(person_counts(probs, targets, probs>=0.5, who, people), weights)
    for b,w in enumerate(weights):
        rows = np.concatenate([np.flatnonzero(who==s) for s in np.repeat(np.arange(people), w)])
        slow = [naive_scores(targets[rows,j], probs[rows,j], probs[rows,j]>=0.5) for j in range(2)]
        for k,v in zip(SCORES, zip(*slow)): np.testing.assert_allclose(fast[k][b], v, rtol=0, atol=1e-12)
        np.testing.assert_allclose(fast['trivial_f1'][b], trivial_au_f1(targets[rows]), rtol=0, atol=1e-12)

def test_intervals_are_quantiles_of_the_naive_bootstrap():
    "Everything by hand: the same people drawn, frames concatenated, scored, and the quantile at Hesterberg's level"
    rng,space = np.random.default_rng(3),LabelSpace((1,2), ('fear','anger'))
    who = np.repeat(['x','y','z','w','v'], 30)
    targets = (rng.random((150,2))<0.4).astype(float)
    probs = np.clip(0.3*targets+0.7*rng.random((150,2)), 0, 1)
    got = au_bootstrap(probs, targets, who, space, times=300, seed=7)
    drawn = []
    for w in draw_people(5, 300, 7):
        rows = np.concatenate([np.flatnonzero(who==s) for s in np.repeat(np.unique(who), w)])
        s = au_scores(probs[rows], targets[rows], space)
        drawn.append([s.f1[0], s.auc[1], s.mean('precision')])
    tail = erfc(2.7764451*sqrt(5/4)/sqrt(2))/2 # t(0.975, 4) = 2.776; the normal distribution below -x is erfc(x/sqrt 2)/2
    for o,d in zip((got['f1']['AU1'], got['auc']['AU2'], got['precision']['mean']), np.array(drawn).T):
        np.testing.assert_allclose([o.low,o.high], np.quantile(d, [tail,1-tail]), atol=1e-6)
        assert o.n==5 and not o.why

def test_no_interval_says_why():
    space = LabelSpace((1,2,4), ('fear','anger'))
    y = np.array([[1,0,np.nan],[0,0,np.nan],[1,0,1],[0,0,np.nan]])
    got = au_bootstrap(np.array([[.9,.1,.9],[.2,.1,.9],[.8,.1,.9],[.1,.1,.9]]), y, ['a','a','b','b'], space, times=50)
    assert got['f1']['AU1'].value==1 and got['f1']['AU1'].why=='no spread among resamples'
    assert got['recall']['AU2'].why=='undefined' and np.isnan(got['recall']['AU2'].value)
    assert got['f1']['AU4'].why.startswith('rests on 1') and got['f1']['AU4'].value==1
    for subjects in (None, ['a']*4):
        assert all(np.isnan(o.low) and o.why for of in au_bootstrap(np.full((4,3), .5), y, subjects, space, times=20).values() for o in of.values())

def test_same_seed_same_interval():
    rng,space = np.random.default_rng(0),LabelSpace((1,), ('fear',))
    args = rng.random((60,1)),(rng.random((60,1))<0.4).astype(float),rng.integers(0, 6, 60),space
    one,two,other = (au_bootstrap(*args, seed=s)['f1']['AU1'] for s in (0,0,1))
    assert one==two and one.low!=other.low and one.value==other.value

def test_coverage_over_people():
    "400 data sets of 20 invented people; bounds are the Monte-Carlo error (3 standard errors are 0.033) and the known shortfall for skewed scores"
    rng,space,s,frames = np.random.default_rng(5),LabelSpace((1,), ('fear',)),20,40
    def crowd(s):
        y = rng.random((s,frames))<1/(1+np.exp(-rng.normal(-0.5, 1, (s,1))))
        p = 1/(1+np.exp(-(rng.normal(size=y.shape)+rng.normal(0, 0.5, (s,1))+rng.normal(2, 0.5, (s,1))*y-1)))
        return p.reshape(-1, 1),y.reshape(-1, 1).astype(float)
    p,y = crowd(4000)
    truth = {k:v[0,0] for k,v in weighted_scores(person_counts(p, y, p>=0.5, np.zeros(len(p), int), 1), np.ones((1,1))).items()}
    hits = []
    for i in range(400):
        found = au_bootstrap(*crowd(s), np.repeat(np.arange(s), frames), space, times=400, seed=i)
        hits.append([found[k]['AU1'].low<=t<=found[k]['AU1'].high for k,t in truth.items()])
    for k,share in zip(truth, np.mean(hits, 0)): assert 0.90<=share<=0.985, (k, share)

def test_coverage_over_clips():
    rng,space = np.random.default_rng(6),label_space('bp4d', 7)
    shares,right = np.array([.2,.2,.15,.15,.1,.1,.1]),np.array([.9,.6,.7,.65,.5,.4,.3])
    cells = shares[:,None]*np.where(np.eye(7)>0, right[:,None], (1-right)[:,None]/6)
    hits = []
    for i in range(300):
        got = fe_bootstrap(FEScores(space, rng.multinomial(400, cells.ravel()).reshape(7, 7)), times=400, seed=i)
        hits.append([got['uar']['all'].low<=right.mean()<=got['uar']['all'].high, got['war']['all'].low<=right@shares<=got['war']['all'].high])
    for k,share in zip(('uar','war'), np.mean(hits, 0)): assert 0.91<=share<=0.985, (k, share)

def test_a_confusion_draw_is_a_draw_of_clips():
    "Literally resampled clips: the same mean and spread of every cell"
    rng,space = np.random.default_rng(8),label_space('bp4d', 7)
    labels = rng.integers(0, 7, 80); predicted = np.where(rng.random(80)<0.6, labels, rng.integers(0, 7, 80))
    literal = []
    for _ in range(1500):
        i = rng.integers(0, 80, 80)
        m = np.zeros((7,7)); np.add.at(m, (labels[i], predicted[i]), 1); literal.append(m)
    drawn = draw_confusions(fe_scores(np.eye(7)[predicted], labels, space).confusion, 1500, 0)
    np.testing.assert_allclose(np.mean(literal, 0), drawn.mean(0), atol=0.35)
    np.testing.assert_allclose(np.var(literal, 0), drawn.var(0), atol=0.9)
    recalls = [m.diagonal()/m.sum(1) for m in literal if (m.sum(1)>0).all()]
    np.testing.assert_allclose(np.std(recalls, 0), np.std([m.diagonal()/m.sum(1) for m in drawn if (m.sum(1)>0).all()], 0), rtol=0.12)

@settings(max_examples=40)
@given(films(), st.integers(0,10**6))
def test_what_a_mean_rests_on_is_the_labels_business(film, seed):
    "Two detectors, three protocols: every mean over the same AUs"
    probs,targets,lengths = film
    rng,space = np.random.default_rng(seed),LabelSpace((1,2)[:targets.shape[1]], ('fear','anger'))
    scored = [au_scores(rng.random(targets.shape), targets, space, rng.random(targets.shape)<c, 'oracle') for c in (0,0.5,1)]
    scored.append(au_scores(probs, targets, space))
    shown = [int((targets[~np.isnan(targets[:,j]),j]==1).any()) for j in range(targets.shape[1])]
    for s in scored:
        for k in ('f1','precision','recall','trivial_f1'):
            assert s.basis(k)==(sum(shown), len(shown))
            np.testing.assert_array_equal(np.isnan(getattr(s, k)), np.array(shown)==0)
        np.testing.assert_array_equal(np.isnan(s.auc), np.isnan(scored[0].auc))

@settings(max_examples=30)
@given(films())
def test_the_released_mean_is_what_the_search_maximised(film):
    "As the release takes it: the mean of 2TP/(2TP+FP+FN) over annotated AUs, 0 where that is 0/0"
    probs,targets,lengths = film
    got,space = vote_search(*film),LabelSpace((1,2)[:targets.shape[1]], ('fear','anger'))
    positive = apply_vote(probs, lengths, got.threshold, got.K, got.required_votes)
    released = []
    for y,yes in zip(targets.T, positive.T):
        known = ~np.isnan(y)
        tp,fp,fn = ((y[known]==a) & (yes[known]==b) for a,b in ((1,1),(0,1),(1,0)))
        if known.any(): released.append(2*tp.sum()/max(2*tp.sum()+fp.sum()+fn.sum(), 1))
    s = au_scores(probs, targets, space, positive, 'oracle')
    np.testing.assert_allclose([s.released_mean(), got.f1], np.mean(released), rtol=0, atol=1e-12)

def test_both_means_have_intervals():
    rng,space = np.random.default_rng(2),LabelSpace((1,2,4,6), ('fear','anger'))
    y = (rng.random((200,4))<[.4,.3,.5,0]).astype(float); y[:,2] = np.nan
    found = au_bootstrap(rng.random((200,4)), y, np.repeat(np.arange(10), 20), space, times=200)
    mean,released = found['f1']['mean'],found['f1']['released mean']
    assert (mean.basis,released.basis)==((2,4),(3,4))
    np.testing.assert_allclose([released.value,released.low,released.high], np.array([mean.value,mean.low,mean.high])*2/3)

def rare(rng, s, frames=60, a=4):
    "Counts TP, FP, FN (s, a) of people who differ; the last AU is shown by one person in nine"
    shows = rng.random((s,a))<[1]*(a-1)+[1/9]
    y = (rng.random((frames,s,a))<1/(1+np.exp(-rng.normal(-1.5, 1, (s,a)))))&shows
    yes = rng.normal(size=y.shape)+rng.normal(0, .5, (s,a))+rng.normal(2, .5, (s,a))*y>1.2
    return (y&yes).sum(0),(~y&yes).sum(0),(y&~yes).sum(0)

def test_coverage_when_one_person_shows_a_rare_au():
    "300 data sets of nine people, in which one person shows the rare AU; leaving out the resamples that lost it covers about 80 %"
    rng,hits = np.random.default_rng(11),[]
    f1 = lambda tp,fp,fn: np.where(tp+fn>0, 2*tp/np.maximum(2*tp+fp+fn, 1), np.nan)
    truth = f1(*(o.sum(0) for o in rare(rng, 20_000))).mean()
    while len(hits)<300:
        counts = rare(rng, 9)
        if ((counts[0]+counts[2])[:,-1]>0).sum()!=1: continue
        w = draw_people(9, 400, len(hits))
        draws,value = f1(*(w@o for o in counts)),f1(*(o.sum(0) for o in counts))
        new = score_intervals(value, f1(*counts), draws)[-1]
        old = bootstrap_interval(value.mean(), draws.mean(1), 9) # NaN where the AU was lost: left out
        hits.append([o.low<=truth<=o.high for o in (new,old)])
    new,old = np.mean(hits, 0)
    assert new>=.92 and old<new-.04, (new, old)

def test_uar_of_a_class_with_one_clip():
    "Every resample speaks about the same classes; the lost class is as uncertain as one clip is"
    space = LabelSpace((1,), ('fear','anger','neutral'))
    got = fe_bootstrap(FEScores(space, np.array([[30,10,0],[5,15,0],[0,1,0]])), times=500)['uar']['all']
    assert got.basis==(3,3) and got.low<got.value<got.high
    two = fe_bootstrap(FEScores(space, np.array([[30,10,0],[5,15,0],[0,0,0]])), times=500)['uar']['all']
    assert two.basis==(2,3) and got.high-got.low>(two.high-two.low)*2/3
