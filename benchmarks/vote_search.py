"""Oracle vote search: every threshold and rule at once, against one after the other.

One run, same frames, same answer.

Run: python benchmarks/vote_search.py [frames]    (writes benchmarks/results/vote_search.json)
"""
import sys
import numpy as np
from pathlib import Path
from time import perf_counter
from ssm_nb.core.files import write_json
from ssm_nb.evaluation.votes import THRESHOLDS, VOTE_RULES, apply_vote, vote_search

def film(rng, lengths, a=12, stay=0.95, noise=1.2):
    "AUs that switch rarely, seen through noise"
    y = np.concatenate([(np.cumsum(rng.random((l,a))>stay, axis=0)+rng.integers(0,2,a))%2 for l in lengths]).astype(float)
    return 1/(1+np.exp(-(2*y-2+noise*rng.normal(size=y.shape)))),y

def brute_force(probs, targets, lengths):
    "Mean F1 of every rule and threshold, one by one"
    f1,total = np.zeros((len(VOTE_RULES), len(THRESHOLDS))),targets.sum(0)
    for r,(K,m) in enumerate(VOTE_RULES):
        for k,t in enumerate(THRESHOLDS):
            positive = apply_vote(probs, lengths, t, K, m)
            f1[r,k] = (2*(positive*targets).sum(0)/np.maximum(positive.sum(0)+total, 1)).mean()
    return f1

def main(frames=2000):
    lengths = [frames//8]*8
    probs,targets = film(np.random.default_rng(0), lengths)
    vote_search(probs[:50], targets[:50], [50]) # warm up
    start = perf_counter(); found = vote_search(probs, targets, lengths)
    fast = perf_counter()-start
    start = perf_counter(); f1 = brute_force(probs, targets, lengths)
    slow = perf_counter()-start
    at = VOTE_RULES.index((found.K, found.required_votes)),THRESHOLDS.tolist().index(found.threshold)
    assert abs(f1.max()-found.f1)<1e-12 and abs(f1[at]-f1.max())<1e-12, 'the two searches disagree'
    write_json(Path(__file__).parent/'results'/'vote_search.json', dict(frames=frames, aus=12, at_once_seconds=fast, one_by_one_seconds=slow, ratio=slow/fast, f1=found.f1))
    print(f'{frames} frames: at once {fast:.3f} s, one by one {slow:.1f} s, ratio {slow/fast:.0f}; best {found.f1:.4f} both')

if __name__=='__main__': main(*map(int, sys.argv[1:]))
