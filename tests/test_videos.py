"Frames out of videos: how they are shown, what is damaged, what ends early, killed extractions"
import os, signal, struct, subprocess, sys, tracemalloc
from fractions import Fraction
from pathlib import Path
import numpy as np, pytest
from PIL import Image
from ssm_nb.data.formats import ManifestError
from ssm_nb.data.clips import frame_names
from ssm_nb.data.videos import extract_videos, missing_bytes, video_frames
av = pytest.importorskip('av')

def jpeg(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (8, 8)).save(path)

def video(path, n=12, codec='mpeg4', size=48):
    "Frame i is a grey of its own"
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), 'w') as out:
        stream = out.add_stream(codec, rate=10, width=size, height=size, pix_fmt='yuvj420p' if codec=='mjpeg' else 'yuv420p')
        for i in range(n):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((size, size, 3), 10+i*200//n, np.uint8), 'rgb24')))
        out.mux(stream.encode(None))
    return path

# How a picture is to be shown ------------------------------------------------------------------------------------------

CORNERS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8) # red green / blue white

def corners(image):
    "The four colours of a picture, each at the middle of its quarter, as letters"
    h,w = image.shape[:2]
    name = lambda c: 'rgbw'[int(np.abs(CORNERS.reshape(4, 3).astype(int)-c.astype(int)).sum(1).argmin())]
    return ''.join(name(image[y,x]) for y in (h//4, 3*h//4) for x in (w//4, 3*w//4))

def painted(path, size=(96, 64), codec='libx264', pix='yuv444p', n=5, aspect=None, matrix=None, tags={}, rate=10, times=None, color_range=None):
    "A video of four colours"
    image = CORNERS.repeat(-(-size[1]//2), 0).repeat(-(-size[0]//2), 1)[:size[1],:size[0]]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), 'w') as out:
        s = out.add_stream(codec, rate=rate, width=size[0], height=size[1], pix_fmt=pix)
        if aspect: s.codec_context.sample_aspect_ratio = aspect
        if times: s.codec_context.time_base = Fraction(1, 1000)
        if color_range: s.codec_context.color_range = color_range
        s.metadata.update(tags)
        for i in range(n):
            f = av.VideoFrame.from_ndarray(image, 'rgb24').reformat(format=pix, dst_color_range=color_range)
            if times: f.pts,f.time_base = times[i],Fraction(1, 1000)
            out.mux(s.encode(f))
        out.mux(s.encode(None))
    if matrix:
        data = bytearray(path.read_bytes())
        at = data.index(b'tkhd')+44
        data[at:at+36] = struct.pack('>9i', *(round(matrix[k]*65536) if k>=0 else 0 for k in (0, 1, -1, 2, 3, -1, -1, -1)), 1<<30)
        path.write_bytes(data)
    return path

@pytest.mark.parametrize('aspect, width', [(2, 320), (Fraction(4, 3), 213), (Fraction(16, 15), 171), (Fraction(1, 2), 80), (1, 160)])
@pytest.mark.parametrize('name', ['a.mp4', 'a.mkv', 'a.avi'])
def test_pixels_that_are_not_square(name, aspect, width, tmp_path):
    seen = next(video_frames(painted(tmp_path/name, (160, 96), 'mpeg4', 'yuv420p', aspect=aspect))).image
    assert seen.shape==(96, width, 3) and corners(seen)=='rgbw'

@pytest.mark.parametrize('aspect', [Fraction(1, 100), 50])
def test_pixels_no_screen_has(aspect, tmp_path):
    with pytest.raises(ManifestError, match='shape of pixels'): next(video_frames(painted(tmp_path/'a.mkv', (160, 96), 'mpeg4', 'yuv420p', aspect=aspect)))

@pytest.mark.parametrize('matrix, seen', [((1, 0, 0, 1), 'rgbw'), ((0, 1, -1, 0), 'brwg'), ((-1, 0, 0, -1), 'wbgr'), ((0, -1, 1, 0), 'gwrb'),
                                          ((-1, 0, 0, 1), 'grwb'), ((1, 0, 0, -1), 'bwrg'), ((0, 1, 1, 0), 'rbgw'), ((0, -1, -1, 0), 'wgbr')])
def test_turns_and_mirrors(matrix, seen, tmp_path):
    "What FACS calls left must not become right"
    image = next(video_frames(painted(tmp_path/'a.mp4', matrix=matrix))).image
    assert corners(image)==seen and image.shape[:2]==((64, 96) if matrix[0] else (96, 64))
    assert image.flags.c_contiguous

def test_turned_and_not_square(tmp_path):
    assert next(video_frames(painted(tmp_path/'a.mp4', (96, 64), aspect=2, matrix=(0, 1, -1, 0)))).image.shape==(192, 64, 3)

@pytest.mark.parametrize('matrix', [(.7071, .7071, -.7071, .7071), (1, .3, 0, 1), (.9397, .342, -.342, .9397)])
def test_turned_by_no_quarter(matrix, tmp_path):
    painted(tmp_path/'videos'/'a.mp4', matrix=matrix)
    with pytest.raises(ManifestError, match='turned by no quarter.*a.mp4'): extract_videos(tmp_path/'videos', tmp_path/'frames')

@pytest.mark.parametrize('tag, seen', [('90', 'brwg'), ('180', 'wbgr'), ('-90', 'gwrb'), ('270.0', 'gwrb'), ('0', 'rgbw'), ('ninety', None), ('45', None)])
def test_the_tag_of_old_telephones(tag, seen, tmp_path):
    file = painted(tmp_path/'a.mkv', tags=dict(rotate=tag))
    if seen: assert corners(next(video_frames(file)).image)==seen
    else:
        with pytest.raises(ManifestError, match=f"turned by no quarter.*a.mkv.*rotate='{tag}'"): next(video_frames(file))

@pytest.mark.parametrize('codec, pix', [('libx264', 'yuv444p10le'), ('libx265', 'yuv420p10le'), ('ffv1', 'yuv420p10le'), ('ffv1', 'gray16le'), ('ffv1', 'bgra')])
def test_more_bits(codec, pix, tmp_path):
    image = next(video_frames(painted(tmp_path/'a.mkv', codec=codec, pix=pix))).image
    assert image.dtype==np.uint8
    if pix=='gray16le': assert image[48,72].min()>245 and image[16,24].max()<100
    else: assert corners(image)=='rgbw' and np.abs(image[16,24].astype(int)-[255, 0, 0]).max()<20

@pytest.mark.parametrize('color_range', [1, 2]) # limited, full
@pytest.mark.parametrize('pix', ['yuv420p', 'yuv444p10le'])
def test_limited_and_full_range(color_range, pix, tmp_path):
    "Black is black and white is white, whichever numbers the file writes for them"
    file = painted(tmp_path/'a.mkv', codec='ffv1', pix=pix, color_range=color_range)
    with av.open(str(file)) as c: assert c.streams.video[0].codec_context.color_range==color_range
    image = next(video_frames(file)).image
    assert image[48,72].min()>=250 and image[16,24,1:].max()<=10 and image[16,24,0]>=245

@pytest.mark.parametrize('size', [(47, 33), (33, 48), (1, 1), (15, 2)])
def test_odd_sizes(size, tmp_path):
    image = next(video_frames(painted(tmp_path/'a.mkv', size, 'ffv1', 'yuv444p'))).image
    assert image.shape==(size[1], size[0], 3)
    if min(size)>20: assert corners(image)=='rgbw'

# When, and how many ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('name', ['a.mp4', 'a.mkv'])
def test_variable_rate(name, tmp_path):
    times = [0, 40, 50, 1000, 1010, 5000]
    seen = list(video_frames(painted(tmp_path/name, n=6, times=times)))
    assert [o.number for o in seen]==[1, 2, 3, 4, 5, 6]
    assert np.abs(np.array([o.time for o in seen])-np.array(times)/1000).max()<.002

@pytest.mark.parametrize('name, codec', [('a.mp4', 'libx264'), ('a.mkv', 'ffv1'), ('a.avi', 'mjpeg'), ('a.webm', 'libvpx-vp9'), ('a.flv', 'flv'), ('a.wmv', 'wmv2'), ('a.mpg', 'mpeg2video'), ('a.ts', 'libx264')])
def test_one_frame(name, codec, tmp_path):
    rate,pix = (25 if codec=='mpeg2video' else 10),'yuvj420p' if codec=='mjpeg' else 'yuv420p'
    seen = list(video_frames(painted(tmp_path/name, codec=codec, pix=pix, n=1, rate=rate)))
    assert [(o.number, o.time) for o in seen]==[(1, 0)] and corners(seen[0].image)=='rgbw'

@pytest.mark.parametrize('name, codec, sound', [('a.mkv', 'mpeg4', 'aac'), ('a.webm', 'libvpx', 'libopus'), ('a.mp4', 'mpeg4', 'aac'), ('a.flv', 'flv', 'aac')])
def test_longer_sound(name, codec, sound, tmp_path):
    "Ten frames in a second, four seconds of sound: whole"
    with av.open(str(tmp_path/name), 'w') as out:
        s,a = out.add_stream(codec, rate=10, width=64, height=48, pix_fmt='yuv420p'),out.add_stream(sound, rate=48000, layout='mono')
        for i in range(10): out.mux(s.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20*i, np.uint8), 'rgb24')))
        out.mux(s.encode(None))
        for i in range(0, 4*48000, 960):
            f = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), 'fltp', 'mono')
            f.sample_rate,f.pts,f.time_base = 48000,i,Fraction(1, 48000)
            out.mux(a.encode(f))
        out.mux(a.encode(None))
    with av.open(str(tmp_path/name)) as c: assert c.duration>3_800_000
    assert len(list(video_frames(tmp_path/name)))==10

def box(name, body): return struct.pack('>I4s', 8+len(body), name)+body

def test_trimmed(tmp_path):
    "An edit list shows frames 11 to 20 of 40: whole, though 40 are announced"
    file = video(tmp_path/'a.mp4', 40)
    data = bytearray(file.read_bytes())
    at = data.index(b'elst')+4
    assert struct.unpack('>II', data[at:at+8])==(0, 1) # one entry: duration, first time, rate
    scale = struct.unpack('>I', data[(k := data.index(b'mdhd')+16):k+4])[0]
    movie = struct.unpack('>I', data[(k := data.index(b'mvhd')+16):k+4])[0]
    data[at+8:at+16] = struct.pack('>Ii', movie, scale) # a second, from second 1 on
    file.write_bytes(data)
    with av.open(str(file)) as c: assert c.streams.video[0].frames==40
    seen = list(video_frames(file))
    assert len(seen)==10 and abs(seen[0].image.mean()-60)<4 and seen[0].time==0
    assert extract_videos(tmp_path, tmp_path/'frames').frames.to_dict()==dict(a=10)

def test_a_wrong_number_of_frames(tmp_path):
    file = video(tmp_path/'a.avi', 12, 'mjpeg')
    data = bytearray(file.read_bytes())
    for name,offset in ((b'avih', 24), (b'strh', 40)):
        at = data.index(name)+offset
        assert struct.unpack('<I', data[at:at+4])==(12,)
        data[at:at+4] = struct.pack('<I', 500)
    file.write_bytes(data)
    assert len(list(video_frames(file)))==12

@pytest.mark.parametrize('name', ['a.mp4', 'a.mov', 'a.avi', 'a.mkv'])
@pytest.mark.parametrize('lost', [1, 100, .1, .5, .9])
def test_really_cut(name, lost, tmp_path):
    data = video(tmp_path/name, 30).read_bytes()
    n = lost if lost>=1 else int(lost*len(data))
    (tmp_path/name).write_bytes(data[:-n])
    assert missing_bytes(tmp_path/name)==n or n>100 # of an MP4 the index at the end may be gone too
    assert missing_bytes(tmp_path/name)>0
    with pytest.raises(ManifestError, match='video ends early'): list(video_frames(tmp_path/name))

def test_streamed_in_pieces_is_whole(tmp_path):
    "A fragmented MP4, and an MP4 whose index comes first"
    for name,options in (('a.mp4', dict(movflags='frag_keyframe+empty_moov')), ('b.mp4', dict(movflags='faststart'))):
        with av.open(str(tmp_path/name), 'w', options=options) as out:
            s = out.add_stream('mpeg4', rate=10, width=64, height=48, pix_fmt='yuv420p')
            for i in range(30): out.mux(s.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 8*i, np.uint8), 'rgb24')))
            out.mux(s.encode(None))
        assert len(list(video_frames(tmp_path/name)))==30

@pytest.mark.parametrize('name, codec', [('a.mp4', 'mpeg4'), ('a.mkv', 'ffv1'), ('a.flv', 'flv'), ('a.mpg', 'mpeg2video')])
def test_damage_is_not_painted_over(name, codec, tmp_path):
    g = np.random.default_rng(0)
    image = g.integers(0, 255, (10, 12, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(tmp_path/name), 'w') as out:
        s = out.add_stream(codec, rate=25, width=96, height=80, pix_fmt='yuv420p')
        for i in range(40): out.mux(s.encode(av.VideoFrame.from_ndarray(np.roll(image, 2*i, 1), 'rgb24')))
        out.mux(s.encode(None))
    data = bytearray((tmp_path/name).read_bytes())
    assert len(list(video_frames(tmp_path/name)))==40
    for k in (2, 3, 4): data[len(data)*k//6:len(data)*k//6+30] = bytes(g.integers(0, 255, 30, dtype=np.uint8))
    (tmp_path/name).write_bytes(data)
    with pytest.raises(ManifestError, match='damaged video|unreadable video'): list(video_frames(tmp_path/name))
    with pytest.raises(ManifestError, match='damaged video|unreadable video'): list(video_frames(tmp_path/name)) # said again, not once

def test_the_log_of_ffmpeg_is_left_as_it_was(tmp_path):
    before = av.logging.get_level(),av.logging.get_skip_repeated()
    list(video_frames(painted(tmp_path/'a.mp4')))
    assert (av.logging.get_level(),av.logging.get_skip_repeated())==before

def test_memory_is_flat(tmp_path):
    peaks = []
    for n in (50, 500):
        file = video(tmp_path/f'{n}.mp4', n, size=128)
        tracemalloc.start()
        assert sum(1 for _ in video_frames(file))==n
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1]<peaks[0]+128*128*3*5 # five frames, not 450

# Extraction ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('name, codec', [('a.mp4', 'mpeg4'), ('a.AVI', 'mjpeg'), ('sub/a b.mkv', 'mpeg4'), ('a.mov', 'mjpeg')])
def test_frames_are_those_of_the_video(name, codec, tmp_path):
    video(tmp_path/'videos'/name, codec=codec)
    done = extract_videos(tmp_path/'videos', tmp_path/'frames')
    folder = name.rpartition('.')[0]
    assert done.frames.to_dict()=={folder: 12}
    frames = [np.asarray(Image.open(tmp_path/'frames'/folder/o)) for o in frame_names(tmp_path/'frames'/folder)]
    assert np.abs(np.array([o.mean() for o in frames])-[10+i*200//12 for i in range(12)]).max()<4 # all, in order

def test_names_and_quality(tmp_path):
    video(tmp_path/'videos'/'RightVideoSN001_comp.avi', size=96)
    kinds = {q: extract_videos(tmp_path/'videos', tmp_path/f'q{q}', quality=q, name='frame_{}.jpg', ending='_comp') for q in (30, 95)}
    folders = [tmp_path/f'q{q}'/'RightVideoSN001' for q in kinds]
    assert {f'frame_{i}.jpg' for i in range(1, 13)}=={*frame_names(folders[0])}
    tables = [sum(map(sum, Image.open(o/'frame_1.jpg').quantization.values())) for o in folders]
    assert tables[0]>4*tables[1] # coarser steps

@pytest.mark.parametrize('spoil', [lambda b: b'', lambda b: b'no video', lambda b: b[:len(b)//3], lambda b: b[:len(b)*2//3]])
@pytest.mark.parametrize('name', ['b.mp4', 'b.avi', 'b.mkv', 'b.mov'])
def test_a_spoilt_video_leaves_nothing(name, spoil, tmp_path):
    for o in ('a.mp4', name, 'c.mp4'): video(tmp_path/'videos'/o, 30)
    bad = tmp_path/'videos'/name
    bad.write_bytes(spoil(bad.read_bytes()))
    with pytest.raises(ManifestError, match='unreadable video|video ends early|no picture in it|damaged video') as e: extract_videos(tmp_path/'videos', tmp_path/'frames')
    assert name in str(e.value) and 'from the release again' in str(e.value)
    faults = []
    done = extract_videos(tmp_path/'videos', tmp_path/'frames', faults=faults)
    assert len(faults)==1 and done.frames.to_dict()==dict(a=30, c=30)
    assert sorted(os.listdir(tmp_path/'frames'))==['a', 'c']

@pytest.mark.parametrize('name', ['a.mkv', 'a.avi'])
def test_what_is_finished_is_whole(name, tmp_path):
    "Wherever a file is cut, it is a fault: its boxes tell"
    whole,finished = video(tmp_path/'whole'/name, 40).read_bytes(),0
    for k in range(1, 21):
        folder = tmp_path/f'cut{k}'
        (folder/'videos').mkdir(parents=True)
        (folder/'videos'/name).write_bytes(whole[:len(whole)*k//20])
        done = extract_videos(folder/'videos', folder/'frames', faults=(faults := []))
        assert len(done)+len(faults)==1
        finished += len(done)
    assert finished==1 # the whole one

def test_sound_is_no_video(tmp_path):
    (tmp_path/'videos').mkdir()
    with av.open(str(tmp_path/'videos'/'a.mp4'), 'w') as out:
        stream = out.add_stream('aac', rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), 'fltp', 'mono')
        frame.sample_rate = 8000
        out.mux(stream.encode(frame)); out.mux(stream.encode(None))
    with pytest.raises(ManifestError, match='no picture in it'): extract_videos(tmp_path/'videos', tmp_path/'frames')

# ends its own process, as SIGKILL does, at the moment it opens the fifth frame of the second video
_KILLED = """
import os, signal, sys
from ssm_nb.data.videos import extract_videos
def watch(event, args):
    if event=='open' and str(args[0]).endswith(os.path.join('b', '00005.jpg')): os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
extract_videos(*sys.argv[1:])
"""

def test_killed_in_the_middle_goes_on(tmp_path):
    for o in 'ab': video(tmp_path/'videos'/f'{o}.mp4')
    job = subprocess.run([sys.executable, '-c', _KILLED, tmp_path/'videos', tmp_path/'frames'], stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[1])
    assert job.returncode==-signal.SIGKILL
    assert [len(list(o.iterdir())) for o in (tmp_path/'frames').glob('.b.*/b')]==[4] and not (tmp_path/'frames'/'b').exists()
    kept = (tmp_path/'frames'/'a'/'00001.jpg').stat().st_mtime_ns
    done = extract_videos(tmp_path/'videos', tmp_path/'frames')
    assert done.to_dict()==dict(frames=dict(a=12, b=12), new=dict(a=False, b=True))
    assert (tmp_path/'frames'/'a'/'00001.jpg').stat().st_mtime_ns==kept # not made twice
    assert sorted(os.listdir(tmp_path/'frames'))==['a', 'b']

def test_only_what_is_known_to_be_whole_is_passed_over(tmp_path):
    for o in 'ab': video(tmp_path/'videos'/f'{o}.mp4')
    again = lambda **how: extract_videos(tmp_path/'videos', tmp_path/'frames', **how)
    jpeg(tmp_path/'frames'/'a'/'00001.jpg') # half a video, by some other program
    with pytest.raises(ManifestError, match='frames that were not extracted here.*frames/a'): again()
    assert again(faults=(faults := [])).index.tolist()==['b'] and len(faults)==1
    (tmp_path/'frames'/'a'/'00001.jpg').unlink()
    assert again().new.to_dict()==dict(a=True, b=False)
    with pytest.raises(ManifestError, match='frames extracted in another way.*quality'): again(quality=50)
    with pytest.raises(ManifestError, match='frames extracted in another way'): again(name='{}.jpg')
    (tmp_path/'frames'/'b'/'00003.jpg').unlink() # somebody lost one
    with pytest.raises(ManifestError, match="frames extracted in another way.*frames/b.*'frames': 12.*'frames': 11"): again()
    video(tmp_path/'videos'/'b.mp4', 15) # and got a longer copy of the video
    with pytest.raises(ManifestError, match='frames extracted in another way'): again()


def test_linked_folders_and_what_is_left_out(tmp_path, capsys):
    video(tmp_path/'elsewhere'/'a.MP4')
    (tmp_path/'videos').mkdir()
    (tmp_path/'videos'/'linked').symlink_to(tmp_path/'elsewhere', target_is_directory=True)
    (tmp_path/'elsewhere'/'round').symlink_to(tmp_path/'videos', target_is_directory=True) # leads back
    for o in ('._a.mp4', 'notes.txt'): (tmp_path/'videos'/o).touch()
    assert extract_videos(tmp_path/'videos', tmp_path/'frames').index.tolist()==['linked/a']
    printed = capsys.readouterr().out
    assert '1 hidden, or of another system (._a.mp4)' in printed and '1 of another kind (notes.txt)' in printed and 'a link to a folder listed already' in printed

# Times ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('name', ['a.avi', 'a.mp4', 'a.mkv', 'a.ts'])
def test_frames_that_are_stored_out_of_order_have_times_in_order(name, tmp_path):
    "AVI stores no time of showing: what it says of frames that refer to later ones goes back and forth"
    with av.open(str(tmp_path/name), 'w') as out:
        s = out.add_stream('libx264', rate=10, width=64, height=64, pix_fmt='yuv420p', options={'bf': '3'})
        for i in range(24): out.mux(s.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), 10+10*i, np.uint8), 'rgb24')))
        out.mux(s.encode(None))
    seen = list(video_frames(tmp_path/name))
    assert np.diff([o.image.mean() for o in seen]).min()>0
    assert np.allclose([o.time for o in seen], np.arange(24)/10, atol=.002)

@pytest.mark.parametrize('more', [b'hello world, this is no box', b'\0\0\0\0', b'SEFT'*30])
def test_what_a_camera_writes_behind_the_video_is_no_missing_end(more, tmp_path):
    whole = video(tmp_path/'a.mp4')
    (tmp_path/'b.mp4').write_bytes(whole.read_bytes()+more)
    assert missing_bytes(tmp_path/'b.mp4')==0 and len(list(video_frames(tmp_path/'b.mp4')))==12
