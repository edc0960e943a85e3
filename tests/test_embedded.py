"The cache of rendered faces: made once by whoever comes first, named after what the renderer draws"
import os, subprocess, sys
import pytest
from ssm_nb.faces import embedded, scenes

START = "import sys; from ssm_nb.faces.embedded import TINY, embedded_data; root = embedded_data(sys.argv[1], TINY).root; print(); print(root)"


def test_two_processes_start_on_one_empty_cache(tmp_path):
    "Both get the same folder, whole; nothing half-made stays"
    starts = [subprocess.Popen([sys.executable, '-c', START, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=dict(os.environ, OMP_NUM_THREADS='1')) for _ in range(3)]
    outputs = [p.communicate(timeout=300) for p in starts]
    assert [p.returncode for p in starts]==[0]*3, [e[-1500:] for _,e in outputs]
    roots = {out.splitlines()[-1] for out,_ in outputs}
    assert len(roots)==1 and sum('Rendering faces' in out for out,_ in outputs)==1
    folders = [p for p in tmp_path.iterdir() if p.is_dir()]
    assert [str(p) for p in folders]==[*roots] and len([*folders[0].rglob('*.jpg')])>100


@pytest.mark.parametrize('where,name,other', [
    (scenes, 'shade', lambda *args: SHADE(*args)*1.02), (embedded, 'exclusive', lambda on: on.new_zeros(on.shape)),
    (embedded, 'PRESENT', .01), (embedded, '_PROBE', embedded.Size((1,1), 1, 2, (1,1), 1, 2, 24))], ids=['light', 'movement', 'labels', 'size'])
def test_what_is_drawn_makes_the_name(where, name, other, monkeypatch):
    monkeypatch.setattr(where, name, other)
    assert embedded.fingerprint.__wrapped__()!=BEFORE


SHADE,BEFORE = scenes.shade,embedded.fingerprint()


def test_the_name_does_not_depend_on_threads():
    one,two = (subprocess.run([sys.executable, '-c', 'from ssm_nb.faces.embedded import fingerprint; print(fingerprint())'], capture_output=True, text=True,
        env=dict(os.environ, OMP_NUM_THREADS=str(n))).stdout for n in (1, 2))
    assert one.strip()==two.strip()==BEFORE
