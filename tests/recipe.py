"Weights of the reference models, drawn from their names, and the reference files themselves"
import json, zlib
from pathlib import Path
import numpy as np

GOLDEN = Path(__file__).parent/'golden'
MODELS = {'ssm_bp4d_dfew_seed11': 'small_schema_bp4d_dfew', 'ssm_disfa_mafw_seed12': 'small_schema_disfa_mafw'}
ONES = ('ln_1.weight','ln_2.weight','ln_pre.weight','ln_post.weight','ln_final.weight','norm.weight','.ln.weight','_net.gate')

def draw(name, shape):
    "The float32 value that the recipe gives the tensor `name`"
    scale = 0.1 if len(shape)<2 else 1/np.sqrt(np.prod(shape[1:]))
    w = float(name.endswith(ONES)) + scale*np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    return w.astype(np.float32)

def golden(model):
    "The stored arrays of one whole small model, and its drawn state by released name"
    z = np.load(GOLDEN/f'{model}.npz')
    schema = json.loads((GOLDEN/f'{MODELS[model]}.json').read_text())
    return z,{n: draw(n, shape) for n,shape,_ in schema if n!='init_map' and not n.startswith('row_targets')}
