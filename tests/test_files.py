"What the operating system refuses: the old file stays, nothing is left over, and the error names the file"
import os,shutil,subprocess,sys
import pytest
from ssm_nb.core.files import replacing

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
    code,said = attempt(how, path, limit)
    assert code==1 and said.startswith('OSError: [Errno') and f"{why}; not written, and what was there before is untouched: '{path}'" in said, said
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
