"""Frames a second from a video to numbers, and the memory of a long video

python benchmarks/video.py [minutes]

The scene of `faces.walks`, 640×480, two people, repeated to the given length (default: 10 minutes) and compressed as H.264.
In one run: the whole way (decoding, detection in every fifth frame, tracks, crops, the shipped small model) against the same
with a look at every frame, on the first 20 seconds; then the long video, with the largest memory of the process after one
minute and at the end. Writes results/video.json.
"""
import json, platform, resource, sys, tempfile, time
from pathlib import Path
import av, torch
from ssm_nb.core.files import write_json
from ssm_nb.faces.mesh import load_basis
from ssm_nb.faces.skin import sample_people
from ssm_nb.faces.walks import draw_scene, two_walks
from ssm_nb.runs.predicting import TRIAL_MODEL, predict_video, read_model

def loop(path, frames, n, rate=25):
    "A video of `n` frames that repeats `frames` forwards and backwards, so that nobody jumps"
    way = frames+frames[-2:0:-1]
    with av.open(str(path), 'w') as out:
        s = out.add_stream('libx264', rate=rate, options=dict(preset='ultrafast', crf='20'))
        (s.height,s.width),s.pix_fmt = frames[0].shape[:2],'yuv420p'
        for i in range(n): out.mux(s.encode(av.VideoFrame.from_ndarray(way[i%len(way)], format='rgb24')))
        out.mux(s.encode())

def timed(model, path, **kwargs):
    "Rows of the table, seconds by the clock, seconds of processor time"
    wall,cpu = time.perf_counter(),time.process_time()
    table = predict_video(model, path, **kwargs)
    return table,time.perf_counter()-wall,time.process_time()-cpu

def peak_mib(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024

def main(minutes=10):
    here,model = Path(tempfile.mkdtemp()),read_model(TRIAL_MODEL)
    frames = list(draw_scene(two_walks(), sample_people(load_basis(), 2, torch.Generator().manual_seed(6))))
    for name,seconds in dict(short=20, minute=60, long=int(60*minutes)).items(): loop(here/f'{name}.mp4', frames, 25*seconds)
    predict_video(model, here/'short.mp4') # warm
    out = dict(machine=platform.processor() or platform.machine(), threads=torch.get_num_threads(), torch=torch.__version__, size='640x480', people=2)
    for every in (5, 1):
        table,wall,cpu = timed(model, here/'short.mp4', every=every)
        out[f'every_{every}'] = dict(frames=500, frames_a_second=500/wall, cpu_ms_a_frame=1000*cpu/500, rows=len(table))
    out['ratio'] = out['every_1']['cpu_ms_a_frame']/out['every_5']['cpu_ms_a_frame']
    for name in ('minute', 'long'):
        table,wall,_ = timed(model, here/f'{name}.mp4')
        out[name] = dict(frames=int(table.frame.nunique()), frames_a_second=table.frame.nunique()/wall, peak_mib=peak_mib())
    out['growth_mib'] = out['long']['peak_mib']-out['minute']['peak_mib']
    write_json(Path(__file__).parent/'results'/'video.json', out)
    print(json.dumps(out, indent=1))

if __name__=='__main__': main(*map(float, sys.argv[1:]))
