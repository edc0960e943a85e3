"The observed map: quantification in clips that nobody coded"
import numpy as np, pytest
from dataclasses import replace
from hypothesis import given, settings, strategies as st
from scipy.stats import norm
from ssm_nb.evaluation.observed import ClipAUs, clip_strength, cross_talk, fit_shares, lab_windows, observed_map
from ssm_nb.evaluation.protocols import AUTracks
from ssm_nb.labels.facs import LabelSpace
from ssm_nb.labels.prior import OTHER
from ssm_nb.labels.tables import load_prior, save_prior

SPACE = LabelSpace((1,6,12), ('neutral','happiness','fear','anger'))

def squash(z): return 1/(1+np.exp(-z))

def world(seed, clips=60, t=8, moved=1.5, lab_people=6):
    "Wild clips with known shares, seen by a detector that the laboratory knows at another level; 15 wild people"
    rng = np.random.default_rng(seed)
    share = np.vstack([[.02]*3, rng.choice([.02,.3,.8], (3,3))])
    label = np.repeat(np.arange(4), clips)
    shown = rng.random((4*clips,3))<share[label]
    z = moved+2.5*shown+rng.normal(0, .7, shown.shape)
    wild = ClipAUs(SPACE, np.repeat(squash(z)[:,None], t, axis=1), label, rng.integers(0, 15, len(z)), f'wild {seed}')
    y = (rng.random((lab_people*10,3))<.4).repeat(t, axis=0).astype(float)
    p = squash((-1+rng.normal(0, .7, (lab_people*10,3))).repeat(t, axis=0)+2.5*y)
    who = np.repeat([f'F{i}' for i in range(lab_people)], 10*t)
    return share,wild,AUTracks(SPACE, p, y, np.full(lab_people, 10*t), who, 0, f'lab {seed}')

def naive_shares(z, label, lift, neutral, trust=10, steps=60):
    "One AU, clip by clip, as the equations read"
    groups = {e:[v for v,l in zip(z, label) if l==e] for e in range(4)}
    low,var = np.mean(groups[neutral]),np.var(groups[neutral])+.05
    high,pi = low+lift,{e:.2 for e in groups}
    for _ in range(steps):
        pi[neutral] = OTHER
        r = [pi[l]*norm.pdf(v, high, var**.5) for v,l in zip(z, label)]
        r = [a/(a+(1-pi[l])*norm.pdf(v, low, var**.5)) for a,v,l in zip(r, z, label)]
        pi = {e:np.clip(np.mean([a for a,l in zip(r, label) if l==e]), 1e-3, 1) for e in groups}
        low = sum((1-a)*v for a,v in zip(r, z))/sum(1-a for a in r)
        high = (trust*(low+lift)+sum(a*v for a,v in zip(r, z)))/(trust+sum(r))
        var = np.mean([a*(v-high)**2+(1-a)*(v-low)**2 for a,v in zip(r, z)])+.05
    pi[neutral] = OTHER
    return [pi[e] for e in range(4)]

@pytest.mark.parametrize('seed', range(3))
def test_em_reads_like_the_equations(seed):
    _,wild,_ = world(seed, clips=25)
    z = clip_strength(wild.probs)
    fast = fit_shares(z, np.eye(4)[wild.labels], np.array([2.5,2.,3.]), 0)
    for j,lift in enumerate((2.5,2.,3.)):
        np.testing.assert_allclose(fast[:,j], naive_shares(z[:,j], wild.labels, lift, 0), atol=1e-6)

def test_a_weight_of_two_is_a_clip_twice():
    _,wild,_ = world(0, clips=20)
    z,w = clip_strength(wild.probs),np.random.default_rng(0).integers(1, 4, 80)
    again = np.repeat(np.arange(80), w)
    one = fit_shares(z, np.eye(4)[wild.labels]*w[:,None], np.full(3, 2.5), 0)
    two = fit_shares(z[again], np.eye(4)[wild.labels[again]], np.full(3, 2.5), 0)
    np.testing.assert_allclose(one, two, atol=1e-9)

def test_a_moved_detector_is_corrected():
    "Counting answers finds every AU everywhere; the map is near the truth, and its intervals hold it"
    found = [(share,observed_map(wild, lab, times=60)) for share,wild,lab in map(world, range(6))]
    held = [((o.low<=share) & (share<=o.high))[1:].mean() for share,o in found]
    error = [abs(o.share-share)[1:].mean() for share,o in found]
    counted = [abs(np.stack([(clip_strength(s.probs)>0)[s.labels==k].mean(0) for k in range(4)])-share)[1:].mean() for share,s,_ in map(world, range(6))]
    assert np.mean(held)>.9 and np.mean(error)<.07<.4<np.mean(counted), (held, error, counted)

@settings(max_examples=15, deadline=None)
@given(st.floats(-4,4), st.permutations([0,1,2]))
def test_a_shift_of_all_strengths_and_the_order_of_aus_change_nothing(shift, order):
    _,wild,_ = world(1, clips=20)
    z,member,lift = clip_strength(wild.probs),np.eye(4)[wild.labels],np.array([2.5,2.,3.])
    want = fit_shares(z, member, lift, 0)
    np.testing.assert_allclose(fit_shares((z+shift)[:,order], member, lift[order], 0), want[:,order], atol=1e-6)

def test_windows_by_hand():
    rng = np.random.default_rng(2)
    y = (rng.random((50,2))<.3).astype(float); y[7,1] = np.nan
    tracks = AUTracks(LabelSpace((1,2), ('neutral','fear')), rng.random((50,2)), y, np.array([20,3,27]), np.repeat(['a','b','c'], [20,3,27]))
    strength,present,who = lab_windows(tracks, 8)
    starts = [0,8,23,31,39]
    assert who.tolist()==['a','a','c','c','c']
    for k,s in enumerate(starts):
        for j in range(2):
            seen = y[s:s+8,j]
            want = np.nan if np.isnan(seen).any() else 1 if seen.sum()>=2 else 0 if seen.sum()==0 else np.nan
            np.testing.assert_equal(present[k,j], want)
        np.testing.assert_allclose(strength[k], clip_strength(tracks.probs[None,s:s+8])[0])

def test_unknown_people_are_clips(tmp_path):
    _,wild,lab = world(3)
    o = observed_map(replace(wild, people=None), lab, times=20)
    assert o.people==len(wild.labels) and (o.low<=o.share+1e-9).all() and (o.share<=o.high+1e-9)[1:].all()

def test_saved_as_a_prior(tmp_path):
    o = observed_map(*world(4)[1:], times=20)
    save_prior(o.prior(), tmp_path/'observed.csv')
    again = load_prior(tmp_path/'observed.csv', SPACE)
    np.testing.assert_allclose(again.matrix, o.share)
    assert (again.matrix[0]==OTHER).all()

def test_same_seed_same_map():
    a,b,c = (observed_map(*world(5)[1:], times=20, seed=s) for s in (0,0,1))
    np.testing.assert_array_equal(a.low, b.low)
    assert not np.array_equal(a.high, c.high)

@pytest.mark.parametrize('spoil,words', [(lambda s,l: (replace(s, labels=np.maximum(s.labels, 1)), l), 'at least two neutral clips'),
    (lambda s,l: (s, replace(l, targets=l.targets*[1,0,1])), 'AU6: no held-out laboratory window'),
    (lambda s,l: (s, replace(l, lengths=np.full(len(l.probs)//4, 4))), 'no segment has 8 frames'),
    (lambda s,l: (s, l.only((1,6))), 'not among the action units')])
def test_what_cannot_be_calibrated_is_said(spoil, words):
    with pytest.raises(ValueError, match=words): observed_map(*spoil(*world(0)[1:]), times=5)
