"One rule for pixels: what a file says of how it is shown holds for every reader, and no complaint of a decoder is lost"
from collections import Counter
from io import BytesIO
from pathlib import Path
from struct import pack
from tempfile import TemporaryDirectory
from zlib import compress,crc32
import numpy as np,pytest,torch
from hypothesis import given,settings,strategies as st
from PIL import Image,ImageOps
from simplejpeg import decode_jpeg
from ssm_nb.data.augment import AUGMENTATIONS,TrainingView,train_transform
from ssm_nb.data.datasets import FEClips,keyed_generator
from ssm_nb.data.frames import FrameCache,decode_frame
from ssm_nb.data.formats import ManifestError
from ssm_nb.data.manifests import read_manifest
from ssm_nb.labels.facs import label_space

def scene(w=48, h=32):
    "Every quarter another colour, so that no turn or mirror image is the same"
    x = np.zeros((h, w, 3), np.uint8)
    x[:h//2,:w//2],x[:h//2,w//2:],x[h//2:,:w//2],x[h//2:,w//2:] = (230, 40, 40),(40, 200, 60),(50, 60, 220),(210, 210, 60)
    return Image.fromarray(x)

def read(tmp_path, data, name='x.jpg', **kwargs):
    (tmp_path/name).write_bytes(data)
    return decode_frame(tmp_path/name, **kwargs).numpy()

def saved(img, kind, **kwargs):
    out = BytesIO()
    img.save(out, kind, **kwargs)
    return out.getvalue()

def exif(orientation):
    e = Image.Exif(); e[0x112] = orientation
    return e

# Orientation ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_shown_as_it_was_seen(kind, orientation, tmp_path):
    "The file is made the other way round: the upright scene, laid down as a camera would store it"
    T = Image.Transpose
    laid = {1: None, 2: T.FLIP_LEFT_RIGHT, 3: T.ROTATE_180, 4: T.FLIP_TOP_BOTTOM, 5: T.TRANSPOSE, 6: T.ROTATE_90, 7: T.TRANSVERSE, 8: T.ROTATE_270}[orientation]
    stored = scene() if laid is None else scene().transpose(laid)
    lossless = dict(quality=95, subsampling=0) if kind=='JPEG' else dict(lossless=True) if kind=='WEBP' else {}
    seen = read(tmp_path, saved(stored, kind, exif=exif(orientation), **lossless))
    assert seen.shape==(32, 48, 3) and abs(seen.astype(int)-np.asarray(scene())).max()<=(12 if kind=='JPEG' else 0)

def test_orientation_in_xmp_and_at_a_reduced_scale(tmp_path):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    assert read(tmp_path, saved(scene().transpose(Image.Transpose.ROTATE_90), 'JPEG', quality=95, xmp=xmp)).shape==(32, 48, 3)
    large = scene(480, 320).transpose(Image.Transpose.ROTATE_90)
    small = read(tmp_path, saved(large, 'JPEG', quality=95, exif=exif(6)), at_least=80)
    assert small.shape==(80, 120, 3) and abs(small.astype(int)-np.asarray(scene(120, 80))).max(-1)[:30,:50].max()<12

def test_orientation_that_means_nothing_is_ignored(tmp_path):
    assert read(tmp_path, saved(scene(), 'JPEG', exif=exif(9))).shape==(32, 48, 3)

def test_a_clip_of_sideways_frames_is_upright(tmp_path):
    (tmp_path/'00001').mkdir()
    for i in range(20): (tmp_path/'00001'/f'{i}.jpg').write_bytes(saved(scene().transpose(Image.Transpose.ROTATE_90), 'JPEG', quality=95, exif=exif(6)))
    (tmp_path/'m.txt').write_text('00001 20 1\n')
    clip,_ = FEClips(read_manifest(tmp_path/'m.txt', 'dfew', label_space('bp4d', 7)), tmp_path, size=32)[0]
    assert (clip[:,:,4,4].float()-torch.tensor([230., 40, 40])).abs().max()<12

# Depth, transparency, inks ------------------------------------------------------------------------------------------------

GREY = np.linspace(0, 65535, 32*48).astype(np.uint16).reshape(32, 48)

@pytest.mark.parametrize('kind', ['PNG', 'TIFF'])
def test_sixteen_bits_are_scaled(kind, tmp_path):
    seen = read(tmp_path, saved(Image.fromarray(GREY), kind), f'x.{kind}')
    assert (seen==np.round(GREY/257).astype(np.uint8)[...,None]).all()

@pytest.mark.parametrize('mode,kind', [('RGBA', 'PNG'), ('LA', 'PNG'), ('RGBA', 'WEBP'), ('P', 'PNG')])
def test_transparent_is_black(mode, kind, tmp_path):
    img = scene().convert('RGBA')
    img.putalpha(Image.fromarray(np.where(np.arange(48)<24, 0, 255).astype(np.uint8)[None].repeat(32, 0)))
    img = img.quantize(16) if mode=='P' else img.convert(mode)
    seen = read(tmp_path, saved(img, kind, **(dict(lossless=True) if kind=='WEBP' else {})))
    assert (seen[:,:24]==0).all() and (seen[:,24:].max(-1)>=100).all()

def test_half_transparent_is_half_as_bright(tmp_path):
    img = Image.new('RGBA', (4, 4), (200, 100, 50, 128))
    assert abs(read(tmp_path, saved(img, 'PNG')).astype(int)-[100, 50, 25]).max()<=1

@pytest.mark.parametrize('mode,kind,off', [('L', 'JPEG', 4), ('L', 'PNG', 0), ('1', 'PNG', 255), ('P', 'PNG', 3), ('P', 'BMP', 3), ('CMYK', 'JPEG', 40), ('CMYK', 'TIFF', 3)])
def test_other_colours_become_rgb(mode, kind, off, tmp_path):
    img = scene().quantize(64) if mode=='P' else scene().convert(mode)
    seen,want = read(tmp_path, saved(img, kind, **(dict(quality=95) if kind=='JPEG' else {}))),np.asarray(img.convert('RGB')).astype(int)
    assert seen.shape==want.shape and abs(seen-want).mean()<=off/4 and (mode!='CMYK' or abs(seen[4,4].astype(int)-[230, 40, 40]).max()<off)

# Complaints -----------------------------------------------------------------------------------------------------------------

def rich(): return Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
def cut(d): return d[:len(d)*2//3]
def without_end(d): return d[:-2]
def bit(d): return d[:len(d)//2]+bytes([d[len(d)//2]^1])+d[len(d)//2+1:]
def marker(d): return d[:len(d)//2]+b'\xff\x77\x12\x34'+d[len(d)//2:]
def without_iend(d): return d[:-12]

@pytest.mark.parametrize('kind,damage', [('JPEG', cut), ('JPEG', without_end), ('JPEG', marker), ('PNG', cut), ('PNG', bit), ('PNG', without_iend), ('WEBP', cut), ('BMP', cut), ('TIFF', cut)])
def test_what_a_decoder_objects_to_is_a_fault(kind, damage, tmp_path):
    with pytest.raises(ManifestError, match='unreadable image'): read(tmp_path, damage(saved(rich(), kind)))

def test_cmyk_cut_short_is_a_fault(tmp_path):
    with pytest.raises(ManifestError, match='unreadable image'): read(tmp_path, cut(saved(rich().convert('CMYK'), 'JPEG')))

def test_extraneous_bytes_that_the_tolerant_decoder_skips(tmp_path):
    "Bytes between two segments of the header: Pillow reads on without a word"
    d = saved(scene(), 'JPEG')
    at = d.index(b'\xff\xdb')
    odd = d[:at]+b'\x00\x01\x02'+d[at:]
    assert Image.open(BytesIO(odd)).convert('RGB').size==(48, 32)
    with pytest.raises(ManifestError, match='unreadable image'): read(tmp_path, odd)

def test_a_checksum_that_the_tolerant_decoder_skips(tmp_path):
    chunk = lambda kind,body: pack('>I', len(body))+kind+body+pack('>I', crc32(kind+body))
    rows = b''.join(b'\0'+bytes(12) for _ in range(4))
    good = b'\x89PNG\r\n\x1a\n'+chunk(b'IHDR', pack('>IIBBBBB', 4, 4, 8, 2, 0, 0, 0))+chunk(b'IDAT', compress(rows))+chunk(b'IEND', b'')
    assert read(tmp_path, good).shape==(4, 4, 3)
    bad = bytearray(good); bad[-13] ^= 255
    assert np.asarray(Image.open(BytesIO(bytes(bad)))).shape==(4, 4, 3)
    with pytest.raises(ManifestError, match='unreadable image'): read(tmp_path, bytes(bad))

@pytest.mark.parametrize('kind', ['TIFF', 'WEBP', 'PNG'])
def test_several_pictures_in_a_file_are_asked_about(kind, tmp_path):
    with pytest.raises(ManifestError, match='2 pictures in one file'): read(tmp_path, saved(scene(), kind, save_all=True, append_images=[rich().resize((48, 32))]))

def test_floating_point_is_refused(tmp_path):
    with pytest.raises(ManifestError, match='floating-point'): read(tmp_path, saved(Image.new('F', (4, 4)), 'TIFF'))

# Sizes ----------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('kinds', [('jpg', 'jpg'), ('png', 'bmp'), ('webp', 'jpg')])
def test_crops_of_several_sizes_in_one_clip(kinds, tmp_path):
    for i,size in enumerate([(40, 40), (37, 44), (80, 80), (40, 40)]): scene().resize(size).save(tmp_path/f'{i}.{kinds[i%2]}')
    paths = [f'{i}.{kinds[i%2]}' for i in range(4)]
    for cache_mb in (0, 10):
        clip = FrameCache(tmp_path, cache_mb).clip([*paths, paths[-1]])
        assert clip.shape==(5, 3, 40, 40) and torch.equal(clip[3], clip[4])
        for i in (0, 3): assert (clip[i].permute(1, 2, 0).numpy()==decode_frame(tmp_path/paths[i]).numpy()).all()
        assert (clip[1:3,:,5,5].float()-clip[0,:,5,5]).abs().max()<16

# A training view is taken while frames are decoded ---------------------------------------------------------------------------

@pytest.mark.parametrize('cache_mb', [0, .02, 10])
@pytest.mark.parametrize('name', AUGMENTATIONS)
def test_taken_from_each_frame_or_from_the_whole_clip(name, cache_mb, tmp_path):
    "Sideways, grey, transparent and large frames, one of them twice; read twice, as memory is used again"
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
    files = noise,noise.convert('L'),noise.transpose(Image.Transpose.ROTATE_90),noise.resize((90, 70)),noise.convert('CMYK')
    for i,o in enumerate(files): o.save(tmp_path/f'{i}.jpg', **(dict(exif=exif(6)) if i==2 else {}))
    noise.convert('RGBA').save(tmp_path/'5.png')
    paths,a = [f'{i}.jpg' for i in (0, 1, 2, 3, 2, 4)]+['5.png'],AUGMENTATIONS[name]
    whole,cache = FrameCache(tmp_path).clip(paths),FrameCache(tmp_path, cache_mb)
    for seed in (0, 1, 0, 1):
        view = TrainingView(a, 24, keyed_generator(seed))
        got = view.finish(cache.clip(paths, None, view.part, view.channels))
        assert torch.equal(got, train_transform(whole, a, 24, keyed_generator(seed))) and torch.equal(got[2], got[4])

@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'TIFF'])
def test_four_bytes_a_pixel_are_three_and_one(kind, tmp_path):
    "Also turned upright, and put into a place that is there already"
    data = saved(scene(), kind, exif=exif(6))
    for place in (None, torch.zeros(48, 32, 4, dtype=torch.uint8), torch.zeros(32, 48, 4, dtype=torch.uint8)):
        assert (read(tmp_path, data, channels=4, out=place)[...,:3]==read(tmp_path, data)).all()

# Only as many rows as are wanted ---------------------------------------------------------------------------------------------

def soft(seed, h, w):
    "A picture as smooth as photographs, so that a JPEG of it is small"
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (-(-h//9), -(-w//9), 3), dtype=np.uint8)).resize((w, h), Image.Resampling.BICUBIC)

@given(seed=st.integers(0, 99), h=st.integers(1, 90), w=st.integers(1, 70), rows=st.integers(1, 95), channels=st.sampled_from([3, 4]), grey=st.booleans(),
    how=st.fixed_dictionaries(dict(quality=st.integers(5, 100), subsampling=st.sampled_from(['4:4:4', '4:2:2', '4:2:0']), progressive=st.booleans(),
        optimize=st.booleans(), restart_marker_rows=st.integers(0, 2))))
@settings(max_examples=150, deadline=None)
def test_the_first_rows_are_those_of_the_whole(seed, h, w, rows, channels, grey, how):
    with TemporaryDirectory() as tmp:
        img,path = soft(seed, h, w),Path(tmp)/'a.jpg'
        (img.convert('L') if grey else img).save(path, **how)
        place = torch.full((h, w, channels), 7, dtype=torch.uint8)
        got = decode_frame(path, None, place, channels, rows)
        assert torch.equal(got[:rows,:,:3], torch.from_numpy(np.array(Image.open(path).convert('RGB')))[:rows])
        if not (how['progressive'] or how['restart_marker_rows']) and rows+2<h: assert (got[rows+2:]==7).all() # not decoded, so the place is as it was

def damaged(data, rng):
    "One of four accidents somewhere behind the first 700 bytes"
    d,at = bytearray(data),int(rng.integers(700, len(data)-2))
    match rng.integers(4):
        case 0: del d[at:]                                                     # cut short
        case 1: del d[at:at+int(rng.integers(1, 900))]                         # a piece is missing
        case 2: d[at:at+512] = bytes(len(d[at:at+512]))                        # a sector is empty
        case 3: d[at] ^= 1 << int(rng.integers(8))                             # a bit
    return bytes(d)

@pytest.mark.parametrize('marked', [0, 1])
def test_damage_where_only_rows_are_wanted(marked, tmp_path):
    """No frame is refused that is not refused whole, and no row differs from what the tolerant decoder sees. Cut short: always a fault.
    With restart markers: a fault wherever it is one whole. Without: some damage in the wanted rows is not met, as the notebook says."""
    rng,path,met = np.random.default_rng(0),tmp_path/'a.jpg',Counter()
    soft(1, 200, 200).save(path, quality=90, restart_marker_rows=marked)
    data = path.read_bytes()
    good = decode_frame(path)
    for _ in range(400):
        d = damaged(data, rng)
        rows = int(rng.integers(20, 190))
        path.write_bytes(d)
        try: whole = decode_frame(path)
        except ManifestError: whole = None
        try: part = decode_frame(path, None, torch.zeros(200, 200, 3, dtype=torch.uint8), 3, rows)
        except ManifestError as e: part = None; assert marked or 'extraneous' not in str(e)
        if len(d)<len(data) and d==data[:len(d)]: assert part is None and whole is None
        if part is None: assert whole is None
        else: assert np.array_equal(part[:rows].numpy(), decode_jpeg(d, strict=False)[:rows])
        torn = part is not None and not torch.equal(part[:rows], good[:rows])
        met['refused' if part is None else 'torn' if torn else 'right', whole is None] += 1
    assert met['refused', True]>90 and met['right', False]>10 and met['torn', False]>10 # the last: a bit that no decoder misses
    assert (met['right', True] and met['torn', True]) if not marked else not (met['right', True] or met['torn', True])

def test_strict_sets_decode_whole_frames_in_training(tmp_path):
    "An empty sector in every frame but the first, which is always decoded whole: met by each draw of a strict set, by some of another"
    (tmp_path/'1').mkdir()
    for i in range(16):
        d = bytearray(saved(soft(i, 200, 200), 'JPEG', quality=90))
        if i: d[len(d)//2:len(d)//2+512] = bytes(512)
        (tmp_path/'1'/f'{i}.jpg').write_bytes(d)
    (tmp_path/'m.txt').write_text('1 16 0\n')
    def met(strict):
        ds = FEClips(read_manifest(tmp_path/'m.txt', 'dfew', label_space('bp4d', 7)), tmp_path, size=32, strict=strict)
        def one(seed):
            try: ds.draw(0, keyed_generator(seed)); return False
            except ManifestError as e: return 'unreadable image' in str(e)
        return [one(k) for k in range(12)]
    assert all(met(True)) and not all(met(None))

def test_rows_where_a_reduced_picture_is_enough(tmp_path):
    soft(0, 96, 96).save(tmp_path/'a.jpg')
    place = torch.zeros(96, 96, 3, dtype=torch.uint8)
    assert torch.equal(decode_frame(tmp_path/'a.jpg', 24, place, 3, 10), decode_frame(tmp_path/'a.jpg', 24))

def test_rows_of_a_picture_of_another_size_or_turned_are_all_decoded(tmp_path):
    for i,(img,how) in enumerate([(soft(0, 40, 50), {}), (soft(1, 64, 64), dict(exif=exif(6))), (soft(2, 64, 64), dict(exif=exif(3)))]):
        img.save(tmp_path/f'{i}.jpg', **how)
        got = decode_frame(tmp_path/f'{i}.jpg', None, torch.zeros(64, 64, 3, dtype=torch.uint8), 3, 8)
        assert torch.equal(got, decode_frame(tmp_path/f'{i}.jpg'))
