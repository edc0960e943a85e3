"Whatever the data, a held-out part shares nobody with training and nothing is lost"
import numpy as np,pytest,torch
from hypothesis import given,settings,strategies as st
from ssm_nb.data.formats import ManifestError
from ssm_nb.data.manifests import read_manifest
from ssm_nb.labels.facs import label_space
from ssm_nb.data.splits import held_out_clips,held_out_people,hold_out

SPACE = label_space('bp4d')

def people(path, labels):
    "Records of one frame a row of `labels`: (person, AU digits)"
    path.write_text('\n'.join(f"2F{who+1:02}_01/{i}.jpg {' '.join(au)}" for i,(who,au) in enumerate(labels)))
    return read_manifest(path, 'bp4d', SPACE)

rows = st.lists(st.tuples(st.integers(0, 7), st.text('019', min_size=12, max_size=12)), min_size=1, max_size=60)

@settings(max_examples=60, deadline=None)
@given(rows=rows, share=st.floats(.01, .99), seed=st.integers(0, 5))
def test_by_person(tmp_path_factory, rows, share, seed):
    records = people(tmp_path_factory.mktemp('people')/'train.list', rows)
    who = set(records.subjects)
    if len(who)==1:
        with pytest.raises(ManifestError, match='only one person'): hold_out(records, share, seed)
        return
    train,valid = hold_out(records, share, seed)
    assert set(train.subjects)|set(valid.subjects)==who and not set(train.subjects)&set(valid.subjects) and len(train) and len(valid)
    assert sorted([*train.lines, *valid.lines])==records.lines.tolist()
    assert all((np.diff(o.lines)>0).all() for o in (train, valid))
    assert np.array_equal(hold_out(records, share, seed)[1].lines, valid.lines)
    on = lambda r: (r.labels==1).any(0)
    if len(who)==2: return # nothing to choose
    several = [sum((records.labels[records.subjects==o, a]==1).any() for o in who)>1 for a in range(12)]
    if sum(several)==1: assert (on(train)&on(valid))[several].all() # one AU with a choice: it is on both sides

@settings(max_examples=60, deadline=None)
@given(labels=st.lists(st.integers(0, 6), min_size=1, max_size=200), share=st.floats(.01, .99), seed=st.integers(0, 5))
def test_by_class(labels, share, seed):
    labels = np.array(labels)
    held = held_out_clips(labels, share, torch.Generator().manual_seed(seed))
    for c in set(labels.tolist()):
        n,out = (labels==c).sum(),held[labels==c].sum()
        assert out==0 if n==1 else 1<=out<=n-1 and abs(out-share*n)<=1

def test_two_hundred_people_are_chosen_at_once():
    rng = np.random.default_rng(0)
    shares = rng.random((200, 13)); shares /= shares.sum(0)
    held = held_out_people(shares, .15, torch.Generator().manual_seed(0))
    assert held.sum()==30 and np.abs(shares[held].sum(0)-.15).max()<.01
