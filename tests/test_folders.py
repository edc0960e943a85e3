"One listing, one order, one cut: whatever reads frames reads the same ones"
import os
from pathlib import Path
import numpy as np,pytest
from hypothesis import given,strategies as st
from PIL import Image
from ssm_nb.data.clips import check_files,eval_clips,find_segments,folder_segments,frame_names
from ssm_nb.data.datasets import AUClips,FEClips
from ssm_nb.data.folders import frame_twins,in_order,list_files,list_folders,near_names,order_question
from ssm_nb.data.formats import ManifestError
from ssm_nb.data.manifests import read_manifest
from ssm_nb.labels.facs import label_space

SPACE = label_space('bp4d', 7)

def write(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for o in names: Image.new('RGB', (8, 8), (1, 2, 3)).save(folder/o)
    return folder

# Order and gaps ---------------------------------------------------------------------------------------------------------

@given(st.lists(st.integers(0, 99_999), unique=True, min_size=1, max_size=30), st.sampled_from(['frame_{:05}.jpg', '{:05}.PNG', 'a 3_{:05}.webp']))
def test_names_with_zeros_keep_the_order_of_text(ns, name):
    names = [name.format(n) for n in ns]
    assert in_order(names)==sorted(names) and order_question(names) is None

@given(ns=st.lists(st.integers(0, 400), unique=True, min_size=2, max_size=60), name=st.sampled_from(['{}.jpg', 'frame_{}.png', 'cam2_take07_{:03}.jpg']))
def test_a_folder_is_cut_as_its_manifest(ns, name, tmp_path_factory):
    names = [name.format(n) for n in ns]
    file = tmp_path_factory.getbasetemp()/'cut.txt'
    file.write_text('\n'.join(f'2F01_01/{o} '+' '.join('0'*12) for o in names))
    records = read_manifest(file, 'bp4d', SPACE)
    train,there = find_segments(records),folder_segments(in_order(names))
    assert [[records.paths[r].split('/')[1] for r in train[i]] for i in range(len(train))]==[[in_order(names)[r] for r in there[i]] for i in range(len(there))]
    for i in range(len(there)): assert (np.diff([int(''.join(c for c in in_order(names)[r].split('_')[-1] if c.isdigit())) for r in there[i]])==1).all()

@pytest.mark.parametrize('name', ['{}.jpg', 'frame_{}.jpg', 'take2 {}.bmp'])
def test_training_and_prediction_read_one_order(name, tmp_path):
    write(tmp_path/'00001', [name.format(n) for n in range(1, 21)])
    (tmp_path/'m.txt').write_text('00001 20 1\n')
    ds = FEClips(read_manifest(tmp_path/'m.txt', 'dfew', SPACE), tmp_path)
    by_number = [name.format(n) for n in range(1, 21)]
    assert frame_names(tmp_path/'00001')==by_number
    assert ds.paths(0)==[f'00001/{by_number[int((i+.5)*20/16)]}' for i in range(16)]
    assert order_question(by_number)

def test_two_recordings_in_one_folder_are_asked_about(tmp_path):
    names = frame_names(write(tmp_path/'f', ['left_1.jpg', 'left_2.jpg', 'right_1.jpg']))
    with pytest.raises(ManifestError, match='right_1.jpg.*left_1.jpg has it too'): folder_segments(names)

# What counts ------------------------------------------------------------------------------------------------------------

def test_what_is_left_out_is_counted_and_said(tmp_path):
    folder = write(tmp_path/'f', ['1.JPG', '2.Jpeg', '3.tif', '4.WEBP', '5.bmp'])
    for o in ('._1.JPG', '.DS_Store', 'desktop.ini', 'list.csv', '6.heic', '7.jpg.part'): (folder/o).write_bytes(b'x')
    os.symlink(folder/'gone.png', folder/'8.png')
    (folder/'more').mkdir()
    found = list_files(folder)
    assert found.names==['1.JPG', '2.Jpeg', '3.tif', '4.WEBP', '5.bmp']
    assert {k: len(v) for k,v in found.skipped.items()}=={'hidden, or of another system': 3, 'of another kind': 3, 'a link that leads nowhere': 1, 'a folder': 1}
    assert '3 of another kind (6.heic, 7.jpg.part, list.csv)' in str(found)

def test_tables_in_capitals_and_linked_folders(tmp_path):
    for o in ('a/F001.CSV', 'a/._F001.CSV', 'b/F002.csv'):
        (tmp_path/'real'/o).parent.mkdir(parents=True, exist_ok=True); (tmp_path/'real'/o).write_text('x')
    (tmp_path/'seen').mkdir(); os.symlink(tmp_path/'real', tmp_path/'seen'/'link')
    os.symlink(tmp_path/'seen', tmp_path/'real'/'b'/'back')
    assert list_files(tmp_path/'seen', ('.csv',), deep=True).names==['link/a/F001.CSV', 'link/b/F002.csv']

@pytest.mark.parametrize('pair', [('1.jpg', '1.png'), ('0003.JPG', '3.jpg'), ('frame_7.bmp', 'frame_07.webp'), ('face.jpeg', 'FACE.png')])
def test_a_frame_saved_twice_is_a_fault_with_a_line(pair, tmp_path):
    write(tmp_path/'00002', [*pair, '8.jpg', '9.jpg'])
    write(tmp_path/'00001', ['1.jpg'])
    (tmp_path/'m.txt').write_text('00001 1 1\n00002 4 1\n')
    records,faults = read_manifest(tmp_path/'m.txt', 'dfew', SPACE),[]
    assert check_files(records, tmp_path, faults).lines.tolist()==[1] and [(f.problem, f.line) for f in faults]==[('two files of one frame', 2)]
    with pytest.raises(ManifestError, match='line 2: two files of one frame'): FEClips(records, tmp_path)
    with pytest.raises(ManifestError, match='line 2: two files of one frame'): FEClips(records, tmp_path, check=False)[1]

def test_an_image_folder_of_a_frame_manifest_is_checked_too(tmp_path):
    write(tmp_path/'2F01_01', [f'{i}.jpg' for i in range(16)]+['3.png'])
    (tmp_path/'m.txt').write_text('\n'.join(f'2F01_01/{i}.jpg '+' '.join('0'*12) for i in range(16)))
    with pytest.raises(ManifestError, match='line 1: two files of one frame'): AUClips(read_manifest(tmp_path/'m.txt', 'bp4d', SPACE), tmp_path)

# Names ------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('a,b', [('S01', 'S1'), ('F001', 'F001 '), ('anna', 'Anna'), ('subject-3', 'Subject_03'), ('Zoë', 'Zoe'), ('participant 12', 'particpant 12'), ('P７', 'P7')])
def test_near_names_are_found(a, b): assert [set(o) for o in near_names([a, 'X99', b])]==[{a, b}]

@pytest.mark.parametrize('a,b', [('S01', 'S02'), ('F001', 'M001'), ('2F23_10', '2F23_11'), ('LeftVideoSN001', 'RightVideoSN001'), ('S1_2', 'S12'), ('Anna', 'Hanno')])
def test_other_names_are_not(a, b): assert near_names([a, b])==[]

@given(st.lists(st.integers(0, 500), unique=True, max_size=40))
def test_numbered_frames_are_no_twins(ns): assert frame_twins([f'{n}.jpg' for n in ns])==[]

@pytest.mark.parametrize('data,kind', [(b'PK\x03\x04\x14\0', 'a workbook'), (b'\xd0\xcf\x11\xe0\xa1\xb1', 'an old workbook'), (b'\x1f\x8b\x08', 'a packed file')])
def test_files_that_are_no_text_say_what_they_are(data, kind, tmp_path):
    (tmp_path/'m.txt').write_bytes(data)
    with pytest.raises(ManifestError, match=f"m.txt, line 1: not a text file: '{kind}"): read_manifest(tmp_path/'m.txt', 'dfew', SPACE)

@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'utf-16-le', 'utf-16-be'])
def test_other_encodings_are_read(encoding, tmp_path):
    (tmp_path/'m.txt').write_bytes('00001 20 1\r\nÄrger/2 9 3\n'.encode(encoding))
    assert read_manifest(tmp_path/'m.txt', 'dfew', SPACE).paths.tolist()==['00001', 'Ärger/2']

@pytest.mark.parametrize('name,line', [('dfew', '00001;20;1'), ('mafw', '00001,20,1'), ('ferv39k', 'Action/Happy/0267|20|1'), ('bp4d', '2F01_01/1.jpg;'+';'.join('0'*12)), ('bp4d', 'path,'+','.join(SPACE.au_labels))])
def test_other_separators_are_named(name, line, tmp_path):
    (tmp_path/'m.txt').write_text(line+'\n')
    with pytest.raises(ManifestError, match='line 1: fields parted by .*Part them by blanks'): read_manifest(tmp_path/'m.txt', name, SPACE)

def test_folders_that_begin_like_a_workbook_are_read(tmp_path):
    (tmp_path/'m.txt').write_text('PK01 20 1\n')
    assert read_manifest(tmp_path/'m.txt', 'dfew', SPACE).paths.tolist()==['PK01']

@pytest.mark.parametrize('value,text', [(np.str_('F001'), "'F001'"), ([np.str_('a'), np.int64(3)], "['a', 3]"), (np.float64(.5), '0.5'), (Path('a/b'), "'a/b'")])
def test_values_are_printed_plainly(value, text): assert str(ManifestError('odd', value))==f'odd: {text}. '

def test_links_that_go_round_are_left_out_and_said(tmp_path):
    for o in ('a/1.jpg', 'b/2.jpg'): write((tmp_path/o).parent, [o[2:]])
    (tmp_path/'a'/'self.jpg').symlink_to('self.jpg')
    (tmp_path/'a'/'up').symlink_to(tmp_path, target_is_directory=True)
    (tmp_path/'round').symlink_to('round')
    found = list_files(tmp_path, deep=True)
    assert found.names==['a/1.jpg', 'b/2.jpg'] and found.skipped['a link that leads nowhere']==['a/self.jpg']
    assert list_folders(tmp_path)==['a', 'b'] and list_files(tmp_path/'round').names==[]

def test_a_minus_is_asked_about_wherever_frames_are_read(tmp_path):
    write(tmp_path/'clip', [f'frame_{i}.jpg' for i in range(-3, 3)])
    with pytest.raises(ManifestError, match='negative frame number'): frame_names(tmp_path/'clip')

@pytest.mark.parametrize('a, b', [('é1.jpg', 'e\u03011.jpg'), ('Clip 1.JPG', 'clip 1.png'), ('١.jpg', '1.jpg')])
def test_frames_that_look_alike_are_one(a, b): assert [{*o} for o in frame_twins([a, 'x9.jpg', b])]==[{a, b}]

def test_digits_of_any_script_are_digits(): assert in_order(['f١٠.jpg', 'f٩.jpg', 'f٢.jpg'])==['f٢.jpg', 'f٩.jpg', 'f١٠.jpg']
