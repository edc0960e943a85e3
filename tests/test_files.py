"What the operating system refuses: the old file stays, nothing is left over, and the error names the file"
import os,shutil,subprocess,sys
import pytest
from ssm_nb.core.files import new_folder, replacing

WRITERS = { # ways to put 3 MB into `new`
    'bytes': "new.write_bytes(bytes(3_000_000))",
    'npz': "import numpy as np\n    with open(new, 'wb') as f: np.savez(f, a=np.zeros(3_000_000, np.uint8))",
    'safetensors': "import torch\n    from safetensors.torch import save_file\n    save_file({'a':torch.zeros(3_000_000, dtype=torch.uint8)}, new)"}

SCRIPT = '''
import sys
from ssm_nb.core.files import replacing
path,limit = sys.argv[1],int(sys.argv[2])
if limit:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
with replacing(path) as new:
    {}
'''

def attempt(how, path, limit=0):
    "Exit status and last line of what a process says that writes `path`"
    done = subprocess.run([sys.executable, '-c', SCRIPT.format(WRITERS[how]), path, str(limit)], capture_output=True, text=True)
    return done.returncode,(done.stderr.strip().splitlines() or [''])[-1]

@pytest.fixture(params=WRITERS)
def how(request): return request.param

def check_refused(how, folder, why, limit=0):
    path = folder/'weights'
    path.write_bytes(b'the old one')
    code,error = attempt(how, path, limit)
    assert code==1 and error.startswith('OSError: [Errno') and f"{why}; not written, and what was there before is untouched: '{path}'" in error, error
    assert path.read_bytes()==b'the old one' and os.listdir(folder)==['weights']

@pytest.mark.skipif(sys.platform!='linux', reason='RLIMIT_FSIZE')
def test_file_size_limit(how, tmp_path): check_refused(how, tmp_path, 'File too large', 1_000_000)

@pytest.fixture
def small_disk(tmp_path):
    "A disk of 1 MB"
    disk = tmp_path/'disk'; disk.mkdir()
    done = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk], capture_output=True, text=True) if shutil.which('mount') else None
    if done is None or done.returncode: pytest.skip(f'cannot mount a tmpfs: {done.stderr.strip() if done else "no mount"}')
    yield disk
    subprocess.run(['umount', disk], check=True)

def test_full_disk(how, small_disk): check_refused(how, small_disk, 'No space left on device')

def test_it_can_be_written_when_there_is_room(how, tmp_path):
    path = tmp_path/'weights'
    path.write_bytes(b'the old one')
    assert attempt(how, path)==(0, '')
    assert path.stat().st_size>=3_000_000 and os.listdir(tmp_path)==['weights']

@pytest.mark.skipif(os.name!='posix' or os.geteuid()==0, reason='nothing is read-only for root')
def test_read_only_folder(tmp_path):
    (tmp_path/'weights').write_bytes(b'the old one'); tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match='not written.*weights'):
        with replacing(tmp_path/'weights') as new: new.write_bytes(b'new')
    tmp_path.chmod(0o700)

def test_a_folder_of_that_name(tmp_path):
    (tmp_path/'weights').mkdir()
    with pytest.raises(IsADirectoryError, match='Is a directory; not written.*weights'):
        with replacing(tmp_path/'weights') as new: new.write_bytes(b'new')
    assert os.listdir(tmp_path)==['weights']

@pytest.mark.skipif(os.name!='posix', reason='SIGKILL')
def test_killed_while_writing(tmp_path):
    path = tmp_path/'weights'
    path.write_bytes(b'the old one')
    kill = "import os,signal\nfrom ssm_nb.core.files import replacing\nimport sys\nwith replacing(sys.argv[1]) as new: new.write_bytes(bytes(1000)); os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, '-c', kill, path]).returncode==-9
    assert path.read_bytes()==b'the old one' and len(os.listdir(tmp_path))==2 # the dead one's half
    with replacing(path) as new: new.write_bytes(b'the new one')
    assert path.read_bytes()==b'the new one' and os.listdir(tmp_path)==['weights']

# folders ---------------------------------------------------------------------------------------------------------------

MAKER = '''
import os, sys, time
from pathlib import Path
from ssm_nb.core.files import made_once, new_folder
folder,how = Path(sys.argv[1]),sys.argv[2]
def fill(new):
    for i in range(20): (new/f'{i}.jpg').write_text(str(os.getpid())); time.sleep(.05)
print('ready', flush=True); sys.stdin.readline()
if how=='once': made_once(folder, fill)
else:
    with new_folder(folder) as new: fill(new)
assert len(list(folder.iterdir()))==20
'''

@pytest.mark.parametrize('how', ['once', 'each'])
def test_processes_that_make_one_folder(tmp_path, how):
    "Four start at the same moment on an empty cache: all end well on one whole folder of one maker, and nothing is left over"
    folder = tmp_path/'cache'/'faces'
    makers = [subprocess.Popen([sys.executable, '-c', MAKER, folder, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for p in makers: assert p.stdout.readline()=='ready\n'
    for p in makers: p.stdin.write('go\n'); p.stdin.flush()
    outputs = [p.communicate(timeout=120) for p in makers]
    assert [p.returncode for p in makers]==[0]*4, outputs
    assert len({o.read_text() for o in folder.iterdir()})==1
    assert [o for o in os.listdir(folder.parent) if o!='faces'] in ([], ['.faces.lock'])
    if how=='once': assert sum('another process makes it' in out for out,_ in outputs)==3

@pytest.mark.skipif(os.name!='posix', reason='SIGKILL')
def test_killed_while_making_a_folder(tmp_path):
    folder = tmp_path/'faces'
    maker = lambda: subprocess.Popen([sys.executable, '-c', MAKER, folder, 'once'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    p = maker()
    p.stdin.write('go\n'); p.stdin.flush()
    while not list(tmp_path.glob('.faces.*.new/faces/3.jpg')): assert p.poll() is None
    p.kill(); p.wait()
    assert not folder.exists()
    p = maker()
    assert 'another process' not in p.communicate('go\n', timeout=60)[0] and p.returncode==0 # a dead maker holds no lock
    assert len(os.listdir(folder))==20 and sorted(os.listdir(tmp_path)) in (['faces'], ['.faces.lock', 'faces'])

def test_a_folder_on_a_full_disk(small_disk):
    with pytest.raises(OSError, match='No space left on device; not written.*faces'):
        with new_folder(small_disk/'faces') as new:
            for i in range(30): (new/f'{i}.jpg').write_bytes(bytes(100_000))
    assert os.listdir(small_disk)==[]
