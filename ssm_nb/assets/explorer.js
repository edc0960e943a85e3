// The explorer of a trained SSM. One module without dependencies: a notebook (anywidget) and a page show it alike.
// 1 reading a specification · 2 the method's maps, prototypes and logits · 3 the face · 4 what is selected and edited
// 5 drawing · 6 the views · 7 putting it together

// 1 ── reading a specification ───────────────────────────────────────────────────────────────────────────────────────

export const FORMAT = 'ssm-explorer/1';

// What a specification holds, as ssm_nb.explore.spec says it (a lesson there compares the two).
/* schema */
export const SCHEMA = {
  "Labels": {"aus": "[whole] a", "au_names": "[text] a", "muscles": "[text] a", "expressions": "[text] e", "neutral": "whole?"},
  "PriorTable": {"name": "text", "matrix": "float32 e a", "sources": "[text]", "source_of": "uint8 e a"},
  "Matrix": {"source": "text", "table": "table e a"},
  "Epoch": {"epoch": "whole", "d1": "float32 e a", "d2": "float32 a e", "alpha": "number", "beta": "number", "gram": "float32 n n", "taps": "float32 a k", "au_f1": "number?", "uar": "number?", "fe_head": "float32 c e", "fe_dot": "float32 c n", "au_head": "float32 f a", "au_dot": "float32 f n"},
  "Clip": {"name": "text", "recording": "text", "task": "au|fe", "frames": "whole", "expression": "whole?", "aus": "[text]?", "tiles": "[whole]?"},
  "Pictures": {"jpeg": "text", "size": "whole", "columns": "whole"},
  "Evidence": {"source": "text", "support": "table e a", "together": "table e a", "lift": "table e a", "low": "table e a", "high": "table e a", "cut_au2fe": "table e a", "cut_fe2au": "table a e", "cut_on": "text", "seeds": "whole", "seeds_au2fe": "table e a", "seeds_fe2au": "table a e"},
  "FaceModel": {"aus": "[whole] u", "au_names": "[text] u", "muscles": "[text] u", "regions": "[text] u", "sides": "[text] m", "weights": "float32 u m", "mean": "float32 v 3", "actions": "float16 m v 3", "triangles": "int16 t 3", "uv": "float16 v 2", "atlas": "uint8 h w 3", "folds": "uint8 h w x", "fold_shares": "float32 m x", "light": "[number]", "camera": "number", "field": "number", "ambient": "number", "background": "number"},
  "Provenance": {"data": "text", "rendered": "yes|no|unknown", "split": "text", "protocol": "text", "seed": "whole?", "versions": "text", "made": "text", "hash": "text"},
  "Spec": {"format": "text", "title": "text", "labels": "Labels", "priors": "[PriorTable]", "truth": "Matrix?", "observed": "Matrix?", "epochs": "[Epoch]", "chosen": "whole", "smoothing": "pairs|clip", "clips": "[Clip] c", "pictures": "Pictures?", "evidence": "Evidence?", "face": "FaceModel?", "provenance": "Provenance"}
};
/* end of schema */

export class SpecError extends Error {}
const fail = (where, what) => { throw new SpecError(`${where} ${what}`); };
const shown = shape => `(${shape.join(', ')}${shape.length === 1 ? ',' : ''})`;
const BYTES = {float32: Float32Array, float16: Uint16Array, int16: Int16Array, uint8: Uint8Array};

function bytesOf(text, where) {
  let raw;
  try { raw = atob(text); } catch { fail(where, 'is not base64'); }
  return Uint8Array.from(raw, c => c.charCodeAt(0));
}

async function inflate(bytes, format) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream(format));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function half(h) { // a 16-bit float as a number
  const e = (h >> 10) & 31, f = h & 1023, s = h & 0x8000 ? -1 : 1;
  if (e === 31) return f ? NaN : s * Infinity;
  return s * (e ? (1 + f / 1024) * 2 ** (e - 15) : f / 1024 * 2 ** -14);
}

async function readArray(kind, x, where, dims) {
  const [dtype, ...letters] = kind.split(' ');
  if (typeof x !== 'object' || !Array.isArray(x.shape) || typeof x.data !== 'string') fail(where, 'is not an array with shape, dtype and data');
  if (x.dtype !== dtype) fail(where, `has dtype ${x.dtype}; expected ${dtype}`);
  const known = letters.map(l => /^\d/.test(l) ? Number(l) : dims[l] ?? '…');
  if (x.shape.length !== known.length || known.some((k, i) => k !== '…' && k !== x.shape[i])) fail(where, `has shape ${shown(x.shape)}; expected ${shown(known)}`);
  letters.forEach((l, i) => { dims[l] = x.shape[i]; });
  let bytes = bytesOf(x.data, where);
  if (x.deflate) try { bytes = await inflate(bytes, 'deflate'); } catch { fail(where, 'cannot be inflated'); }
  const type = BYTES[dtype], n = x.shape.reduce((p, q) => p * q, 1);
  if (bytes.length !== n * type.BYTES_PER_ELEMENT) fail(where, `has ${bytes.length} bytes; expected ${n * type.BYTES_PER_ELEMENT}`);
  let data = new type(bytes.buffer, bytes.byteOffset, n);
  if (dtype === 'float16') { const table = new Map(), of = h => table.get(h) ?? (table.set(h, half(h)), table.get(h)); data = Float32Array.from(data, of); }
  const bad = dtype.startsWith('float') ? data.findIndex(v => !Number.isFinite(v)) : -1;
  if (bad >= 0) fail(where, `is not finite at position ${bad}; what was not measured is null`);
  return Object.assign(data, {shape: x.shape});
}

function readTable(kind, x, where, dims) {
  const [r, c] = kind.split(' ').slice(1).map(l => dims[l]);
  const width = Array.isArray(x) && x.length && Array.isArray(x[0]) ? x[0].length : 0;
  if (!Array.isArray(x) || x.length !== r || x.some(row => !Array.isArray(row) || row.length !== c)) fail(where, `has shape ${shown([Array.isArray(x) ? x.length : 0, width])}; expected ${shown([r, c])}`);
  x.forEach((row, i) => row.forEach((v, j) => { if (v !== null && !Number.isFinite(v)) fail(`${where}[${i}][${j}]`, 'is neither a number nor null'); }));
  return x;
}

async function readList(kind, x, where, dims) {
  const [, item, letter] = kind.match(/^\[(.+?)\](?: (\w))?$/);
  if (!Array.isArray(x)) fail(where, 'is not a list');
  if (letter && letter in dims && x.length !== dims[letter]) fail(where, `has ${x.length} entries; expected ${dims[letter]}`);
  if (letter) dims[letter] = x.length;
  const out = [];
  for (let i = 0; i < x.length; i++) out.push(await readKind(item, x[i], `${where}[${i}]`, dims));
  return out;
}

async function readKind(kind, x, where, dims) {
  if (x === undefined) fail(where, 'is missing; what was not measured is null');
  if (kind.endsWith('?')) { if (x === null) return null; kind = kind.slice(0, -1); }
  if (x === null) fail(where, 'is null; it is needed');
  if (kind.startsWith('[')) return readList(kind, x, where, dims);
  if (kind in SCHEMA) return readRecord(kind, x, where, dims);
  if (kind.split(' ')[0] in BYTES) return readArray(kind, x, where, dims);
  if (kind.startsWith('table ')) return readTable(kind, x, where, dims);
  if (kind === 'text' && typeof x !== 'string') fail(where, 'is not a text');
  if (kind === 'number' && !Number.isFinite(x)) fail(where, 'is not a finite number');
  if (kind === 'whole' && !(Number.isInteger(x) && x >= 0)) fail(where, 'is not a whole number from 0');
  if (kind.includes('|') && !kind.split('|').includes(x)) fail(where, `is ${JSON.stringify(x)}; expected ${kind.split('|').join(' or ')}`);
  return x;
}

async function readRecord(kind, x, where, dims) {
  if (typeof x !== 'object' || Array.isArray(x)) fail(where, 'is not a record');
  const fields = SCHEMA[kind], dot = where ? `${where}.` : '', out = {};
  for (const k of Object.keys(x)) if (!(k in fields)) fail(`${dot}${k}`, `is not known; ${where || 'a specification'} has ${Object.keys(fields).join(', ')}`);
  for (const [k, f] of Object.entries(fields)) out[k] = await readKind(f, x[k], `${dot}${k}`, dims);
  return out;
}

// Checks everything that a specification promises, decodes its arrays, or throws one sentence that names the field.
export async function readSpec(x) {
  if (typeof x !== 'object' || x === null || Array.isArray(x)) throw new SpecError('the specification is not a record');
  if (x.format !== FORMAT) fail('format', `is ${JSON.stringify(x.format ?? null)}; this explorer reads "${FORMAT}"`);
  const lab = x.labels ?? {}, n = k => Array.isArray(lab[k]) ? lab[k].length : 0, clips = Array.isArray(x.clips) ? x.clips : [];
  const e = n('expressions'), a = n('aus');
  const spec = await readRecord('Spec', x, '', {e, a, n: e + a, c: clips.length, f: clips.reduce((s, o) => s + (o?.frames ?? 0), 0)});
  const inside = (v, size, where) => { if (v !== null && v >= size) fail(where, `is ${v}; expected less than ${size}`); };
  inside(spec.labels.neutral, e, 'labels.neutral');
  if (spec.epochs.length) inside(spec.chosen, spec.epochs.length, 'chosen');
  spec.priors.forEach((p, i) => { const bad = p.matrix.findIndex(v => v < 0); if (bad >= 0) fail(`priors[${i}].matrix`, `is below 0 at position ${bad}`); });
  spec.clips.forEach((o, i) => {
    inside(o.expression, e, `clips[${i}].expression`);
    if (spec.smoothing === 'pairs' && o.frames % 2) fail(`clips[${i}].frames`, `is ${o.frames}; smoothing in pairs needs an even number`);
    if (o.aus && o.aus.length !== o.frames) fail(`clips[${i}].aus`, `has ${o.aus.length} entries; expected ${o.frames}`);
    (o.aus ?? []).forEach((t, k) => { if (t.length !== a || /[^01?]/.test(t)) fail(`clips[${i}].aus[${k}]`, `is ${JSON.stringify(t)}; expected ${a} letters of 0, 1 and ?`); });
  });
  let first = 0;
  for (const o of spec.clips) { o.first = first; first += o.frames; }
  return spec;
}

// The text that a page or a kernel hands over: gzipped JSON in base64.
export async function unpack(text) {
  const bytes = await inflate(bytesOf(text, 'the payload'), 'gzip');
  return readSpec(JSON.parse(new TextDecoder().decode(bytes)));
}

// 2 ── the method's maps, prototypes and logits ──────────────────────────────────────────────────────────────────────
// Way 0 ('au2fe') has rows of expressions and columns of AUs, way 1 ('fe2au') the other way round; maps are flat arrays.

export const WAYS = ['au2fe', 'fe2au'];
const EPS = 1e-8, TEMPERATURE = 10; // the floor below log; 0.1 / 0.01
const sigmoid = x => 1 / (1 + Math.exp(-x));
export class EditError extends Error {}

const sizes = spec => { const e = spec.labels.expressions.length, a = spec.labels.aus.length; return {e, a, n: e + a, shape: [[e, a], [a, e]]}; };

// Position in a flat map of the edge that a selection or an edit names.
export function cellOf(spec, {way, expression, au}) {
  const w = WAYS.indexOf(way), i = spec.labels.expressions.indexOf(expression), j = spec.labels.aus.indexOf(Number(au)), {e, a} = sizes(spec);
  if (w < 0) throw new EditError(`way is ${JSON.stringify(way)}; expected au2fe or fe2au`);
  if (i < 0) throw new EditError(`${JSON.stringify(expression)} is not an expression of this model`);
  if (j < 0) throw new EditError(`AU${au} is not an action unit of this model`);
  return {w, i, j, at: w ? j * e + i : i * a + j, row: w ? j : i, column: w ? i : j};
}

const EDITS = {
  cut: (s, spec, o) => { const {w, at} = cellOf(spec, o); s.cut[w][at] = 1; },
  reweight: (s, spec, o) => {
    if (!(Number.isFinite(o.factor) && o.factor >= 0)) throw new EditError(`factor is ${o.factor}; expected a number from 0`);
    const {w, at} = cellOf(spec, o); s.factor[w][at] = o.factor;
  },
  restore: (s, spec, o) => { const {w, at} = cellOf(spec, o); s.cut[w][at] = 0; s.factor[w][at] = 1; s.scale[w][at] = 1; },
  scale: (s, spec, o) => {
    if (!Number.isFinite(o.by)) throw new EditError(`by is ${o.by}; expected a number`);
    if (o.expression === undefined && o.au === undefined) { if (!WAYS.includes(o.way)) cellOf(spec, o); s.scale[WAYS.indexOf(o.way)].fill(o.by); return; }
    const {w, at} = cellOf(spec, o); s.scale[w][at] = o.by;
  },
  gate: (s, spec, o) => {
    if (!(o.value >= 0 && o.value <= 1)) throw new EditError(`value is ${o.value}; a gate is between 0 and 1`);
    if (!WAYS.includes(o.way)) throw new EditError(`way is ${JSON.stringify(o.way)}; expected au2fe or fe2au`);
    s.gate[WAYS.indexOf(o.way)] = o.value;
  },
  epoch: (s, spec, o) => {
    const found = spec.epochs.find(k => k.epoch === o.epoch);
    if (!found) throw new EditError(`epoch ${o.epoch} is not among ${spec.epochs.map(k => k.epoch).join(', ')}`);
    Object.assign(s, {d: [found.d1, found.d2], gate: [sigmoid(found.alpha), sigmoid(found.beta)]});
  },
  prior: (s, spec, o) => {
    const found = spec.priors.find(k => k.name === o.name);
    if (!found) throw new EditError(`${JSON.stringify(o.name)} is not a prior here; there are ${spec.priors.map(k => k.name).join(', ')}`);
    s.prior = found.matrix;
  },
};

// The model of epoch number `base`, with the edits in order.
export function setting(spec, base, edits) {
  const {e, a} = sizes(spec), k = spec.epochs[base], full = v => [0, 1].map(() => new Float64Array(e * a).fill(v));
  const s = {epoch: k, d: [k.d1, k.d2], gate: [sigmoid(k.alpha), sigmoid(k.beta)], prior: spec.priors[0].matrix, scale: full(1), factor: full(1), cut: full(0)};
  for (const o of edits) {
    if (!(o.kind in EDITS)) throw new EditError(`${JSON.stringify(o.kind)} is not a kind of edit; there are ${Object.keys(EDITS).join(', ')}`);
    EDITS[o.kind](s, spec, o);
  }
  return s;
}

// Both maps: within a row the prior re-weighted by the residual, the row's mass kept, neutral as in the prior; then the cuts.
export function mapsOf(spec, s) {
  const {e, a, shape} = sizes(spec), N = spec.labels.neutral;
  return [0, 1].map(w => {
    const [rows, cols] = shape[w], out = new Float64Array(e * a), P = (r, c) => w ? s.prior[c * a + r] : s.prior[r * a + c];
    for (let r = 0; r < rows; r++) {
      let mass = 0, sum = 0, top = -Infinity;
      const learned = c => w ? c !== N : r !== N, residual = c => s.scale[w][r * cols + c] * s.d[w][r * cols + c];
      for (let c = 0; c < cols; c++) if (learned(c)) { mass += P(r, c); if (s.factor[w][r * cols + c] > 0) top = Math.max(top, residual(c)); }
      for (let c = 0; c < cols; c++) if (learned(c)) sum += out[r * cols + c] = s.factor[w][r * cols + c] ? s.factor[w][r * cols + c] * (P(r, c) + EPS) * Math.exp(residual(c) - top) : 0;
      if (!(sum > 0) && (w || r !== N)) throw new EditError(`every link of ${rowLabel(spec, w, r)} was re-weighted to 0, but its row keeps its mass; cut one instead`);
      for (let c = 0; c < cols; c++) out[r * cols + c] = s.cut[w][r * cols + c] ? 0 : learned(c) ? out[r * cols + c] / sum * mass : P(r, c);
    }
    return out;
  });
}

const rowLabel = (spec, w, r) => w ? `AU${spec.labels.aus[r]}` : spec.labels.expressions[r];

// Each prototype after the exchange, as weights (own, e + a) of those before it, divided by its length.
export function exchanged(spec, s, maps) {
  const {e, a, n, shape} = sizes(spec), G = s.epoch.gram;
  return [0, 1].map(w => {
    const [own, other] = shape[w], at = [0, e][w], from = [e, 0][w], out = new Float64Array(own * n);
    for (let r = 0; r < own; r++) {
      const z = out.subarray(r * n, (r + 1) * n);
      z[at + r] = 1;
      for (let c = 0; c < other; c++) z[from + c] = s.gate[w] * maps[w][r * other + c];
      let square = 0;
      for (let p = 0; p < n; p++) if (z[p]) for (let q = 0; q < n; q++) square += z[p] * z[q] * G[p * n + q];
      const length = Math.sqrt(square);
      for (let p = 0; p < n; p++) z[p] /= length;
    }
    return out;
  });
}

function logits(head, dot, z, n) { // head (rows, own) + 10 · dot (rows, n) @ zᵀ (n, own)
  const own = z.length / n, rows = dot.length / n, out = new Float64Array(rows * own);
  for (let r = 0; r < rows; r++) for (let i = 0; i < own; i++) {
    let cos = 0;
    for (let p = 0; p < n; p++) cos += dot[r * n + p] * z[i * n + p];
    out[r * own + i] = head[r * own + i] + TEMPERATURE * cos;
  }
  return out;
}

// One filter an AU, along each clip, or within pairs of frames; zeros beyond the ends.
function smooth(spec, x, taps) {
  const {a} = sizes(spec), k = taps.shape[1], mid = k >> 1, out = new Float64Array(x.length);
  for (const clip of spec.clips) {
    const step = spec.smoothing === 'pairs' ? 2 : clip.frames;
    for (let lo = clip.first; lo < clip.first + clip.frames; lo += step) for (let t = lo; t < lo + step; t++) for (let j = 0; j < a; j++) {
      let sum = 0;
      for (let q = 0; q < k; q++) { const u = t + q - mid; if (u >= lo && u < lo + step) sum += taps[j * k + q] * x[u * a + j]; }
      out[t * a + j] = sum;
    }
  }
  return out;
}

// Everything that follows from an epoch and its edits.
export function compute(spec, base, edits) {
  const {n} = sizes(spec), s = setting(spec, base, edits), maps = mapsOf(spec, s), z = exchanged(spec, s, maps), k = s.epoch;
  const fe = spec.clips.length ? logits(k.fe_head, k.fe_dot, z[0], n) : new Float64Array(0);
  const au = spec.clips.length ? smooth(spec, logits(k.au_head, k.au_dot, z[1], n), k.taps) : new Float64Array(0);
  return {setting: s, maps, z, fe, au, ...scores(spec, fe, au)};
}

export function argmax(x, from, n) { let best = 0; for (let i = 1; i < n; i++) if (x[from + i] > x[from + best]) best = i; return best; }

// Mean F1 over AUs (probability ≥ 0.5) and UAR, on the clips that are here; null where undefined.
function scores(spec, fe, au) {
  const {e, a} = sizes(spec), f1 = [], recall = [];
  for (let j = 0; j < a; j++) {
    let tp = 0, wrong = 0, known = 0;
    for (const o of spec.clips) if (o.aus) for (let t = 0; t < o.frames; t++) {
      const y = o.aus[t][j], yes = au[(o.first + t) * a + j] >= 0;
      if (y === '?') continue;
      known++; if (yes && y === '1') tp++; else if (yes !== (y === '1')) wrong++;
    }
    f1.push(known && tp + wrong ? 2 * tp / (2 * tp + wrong) : null);
  }
  for (let i = 0; i < e; i++) {
    const mine = spec.clips.map((o, c) => [o.expression, c]).filter(([l]) => l === i);
    recall.push(mine.length ? mine.filter(([, c]) => argmax(fe, c * e, e) === i).length / mine.length : null);
  }
  const mean = x => { const y = x.filter(v => v !== null); return y.length ? y.reduce((p, q) => p + q, 0) / y.length : null; };
  return {f1, recall, meanF1: mean(f1), uar: mean(recall)};
}

// How one logit comes about: the classifier, its own prototype, and each prototype that the exchange added.
export function parts(spec, result, way, row, target) { // row: a clip (way 0) or a frame (way 1); target: which class
  const {e, n} = sizes(spec), w = WAYS.indexOf(way), k = result.setting.epoch, z = result.z[w], own = z.length / n;
  const head = (w ? k.au_head : k.fe_head)[row * own + target], dot = w ? k.au_dot : k.fe_dot, at = [0, e][w] + target;
  const part = p => TEMPERATURE * dot[row * n + p] * z[target * n + p];
  const names = [...spec.labels.expressions, ...spec.labels.aus.map(u => `AU${u}`)];
  const others = names.map((name, p) => ({name, value: part(p)})).filter((o, p) => p !== at && z[target * n + p]);
  return [{name: 'classifier', value: head}, {name: 'own prototype', value: part(at)}, ...others];
}

// Cosines between all prototypes, before (s null) or after the exchange.
export function similarities(spec, epoch, z) {
  const {n} = sizes(spec), G = epoch.gram;
  if (!z) return Float64Array.from(G);
  const Z = new Float64Array(n * n), H = new Float64Array(n * n), out = new Float64Array(n * n);
  Z.set(z[0]); Z.set(z[1], z[0].length);
  const times = (A, B, C, transpose) => { for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) { let v = 0; for (let k = 0; k < n; k++) v += A[i * n + k] * (transpose ? B[j * n + k] : B[k * n + j]); C[i * n + j] = v; } };
  times(Z, G, H, false); times(H, Z, out, true);
  return out;
}

// 3 ── the face ──────────────────────────────────────────────────────────────────────────────────────────────────────
// What ssm_nb.faces.render draws of a `still` scene: the same mesh, camera, atlas, folds and light.

export class Face {
  constructor(face) {
    this.face = face;
    this.n = face.mean.length / 3;
    this.m = face.sides.length;
    this.verts = new Float32Array(this.n * 3); this.normals = new Float32Array(this.n * 3); this.screen = new Float32Array(this.n * 3);
    this.actions = new Float64Array(this.m);
    this.touched = Array.from({length: this.m}, (_, k) => { // vertices that an action moves
      const d = face.actions.subarray(k * this.n * 3, (k + 1) * this.n * 3), out = [];
      for (let v = 0; v < this.n; v++) if (d[3 * v] || d[3 * v + 1] || d[3 * v + 2]) out.push(v);
      return Uint16Array.from(out);
    });
  }

  // Mesh actions for AU intensities of the person's left and right side; AUs that share an action add up to at most 1.
  pose(left, right) {
    const {weights, sides} = this.face, m = this.m;
    for (let k = 0; k < m; k++) {
      let sum = 0;
      for (let u = 0; u < left.length; u++) sum += weights[u * m + k] * (sides[k] === 'left' ? left[u] : sides[k] === 'right' ? right[u] : Math.max(left[u], right[u]));
      this.actions[k] = Math.min(1, sum);
    }
    return this;
  }

  shape(yaw, pitch) {
    const {mean, actions, triangles} = this.face, v = this.verts, N = this.normals, n = this.n;
    v.set(mean);
    for (let k = 0; k < this.m; k++) {
      const w = this.actions[k], at = k * n * 3;
      if (w) for (const i of this.touched[k]) for (let d = 3 * i; d < 3 * i + 3; d++) v[d] += w * actions[at + d];
    }
    if (yaw || pitch) {
      const cy = Math.cos(yaw), sy = Math.sin(yaw), cp = Math.cos(pitch), sp = Math.sin(pitch);
      for (let i = 0; i < 3 * n; i += 3) {
        const x = cy * v[i] + sy * v[i + 2], z = cy * v[i + 2] - sy * v[i], y = v[i + 1];
        v[i] = x; v[i + 1] = cp * y - sp * z; v[i + 2] = sp * y + cp * z;
      }
    }
    N.fill(0);
    for (let t = 0; t < triangles.length; t += 3) {
      const a = 3 * triangles[t], b = 3 * triangles[t + 1], c = 3 * triangles[t + 2];
      const ux = v[c] - v[a], uy = v[c + 1] - v[a + 1], uz = v[c + 2] - v[a + 2], wx = v[b] - v[a], wy = v[b + 1] - v[a + 1], wz = v[b + 2] - v[a + 2];
      const x = uy * wz - uz * wy, y = uz * wx - ux * wz, z = ux * wy - uy * wx;
      N[a] += x; N[a + 1] += y; N[a + 2] += z; N[b] += x; N[b + 1] += y; N[b + 2] += z; N[c] += x; N[c + 1] += y; N[c + 2] += z;
    }
    for (let i = 0; i < 3 * n; i += 3) {
      const s = 1 / Math.max(1e-12, Math.sqrt(N[i] * N[i] + N[i + 1] * N[i + 1] + N[i + 2] * N[i + 2]));
      N[i] *= s; N[i + 1] *= s; N[i + 2] *= s;
    }
  }

  // A square picture (RGBA bytes), `size` pixels wide.
  draw(size, yaw = 0, pitch = 0) {
    this.shape(yaw, pitch);
    const {triangles: T, camera, field, light, ambient, background, fold_shares: shares} = this.face;
    const v = this.verts, S = this.screen, n = this.n, F = this.folds();
    if (this.size !== size) Object.assign(this, {size, depth: new Float32Array(size * size), owner: new Int32Array(size * size), out: new Uint8ClampedArray(size * size * 4)});
    const {depth, owner, out} = this;
    for (let i = 0; i < 3 * n; i += 3) {
      const s = camera / (camera + v[i + 2]) * size / field;
      S[i] = size / 2 + v[i] * s; S[i + 1] = size / 2 - v[i + 1] * s; S[i + 2] = v[i + 2];
    }
    depth.fill(Infinity); owner.fill(-1);
    for (let t = 0; t < T.length; t += 3) this.triangle(t, size);
    const grey = Math.round(255 * background ** (1 / 2.2));
    for (let p = 0, q = 0; p < size * size; p++, q += 4) {
      if (owner[p] < 0) { out[q] = out[q + 1] = out[q + 2] = grey; out[q + 3] = 255; continue; }
      this.pixel(p, q, size, F, light, ambient);
    }
    return out;
  }

  triangle(t, size) { // every pixel centre inside, where it is nearer than what is there
    const {triangles: T} = this.face, S = this.screen, depth = this.depth, owner = this.owner;
    const a = 3 * T[t], b = 3 * T[t + 1], c = 3 * T[t + 2], x0 = S[a], y0 = S[a + 1], x1 = S[b], y1 = S[b + 1], x2 = S[c], y2 = S[c + 1];
    const area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0);
    if (area >= 0) return; // seen from behind
    const lx = Math.max(0, Math.ceil(Math.min(x0, x1, x2) - .5)), hx = Math.min(size - 1, Math.floor(Math.max(x0, x1, x2) - .5));
    const ly = Math.max(0, Math.ceil(Math.min(y0, y1, y2) - .5)), hy = Math.min(size - 1, Math.floor(Math.max(y0, y1, y2) - .5));
    const ax = (y1 - y2) / area, ay = (x2 - x1) / area, bx = (y2 - y0) / area, by = (x0 - x2) / area;
    const za = S[a + 2] - S[c + 2], zb = S[b + 2] - S[c + 2], zc = S[c + 2];
    for (let y = ly; y <= hy; y++) for (let x = lx; x <= hx; x++) {
      const dx = x + .5 - x2, dy = y + .5 - y2, l0 = ax * dx + ay * dy, l1 = bx * dx + by * dy;
      if (l0 < 0 || l1 < 0 || l0 + l1 > 1) continue;
      const z = za * l0 + zb * l1 + zc, p = y * size + x;
      if (z < depth[p]) { depth[p] = z; owner[p] = t; }
    }
  }

  folds() { // how strongly each fold shows
    const {fold_shares: shares} = this.face, k = shares.shape[1], out = new Float64Array(k);
    for (let i = 0; i < this.m; i++) if (this.actions[i]) for (let j = 0; j < k; j++) out[j] += this.actions[i] * shares[i * k + j];
    return out;
  }

  pixel(p, q, size, F, light, amb) {
    const {triangles: T, uv, atlas, folds} = this.face, S = this.screen, N = this.normals, out = this.out, t = this.owner[p];
    const va = T[t], vb = T[t + 1], vc = T[t + 2], a = 3 * va, b = 3 * vb, c = 3 * vc;
    const area = (S[b] - S[a]) * (S[c + 1] - S[a + 1]) - (S[c] - S[a]) * (S[b + 1] - S[a + 1]);
    const dx = p % size + .5 - S[c], dy = (p / size | 0) + .5 - S[c + 1];
    const l0 = ((S[b + 1] - S[c + 1]) * dx + (S[c] - S[b]) * dy) / area, l1 = ((S[c + 1] - S[a + 1]) * dx + (S[a] - S[c]) * dy) / area, l2 = 1 - l0 - l1;
    const [h, w] = atlas.shape, k = F.length;
    const u = Math.min(w - 1, Math.max(0, Math.trunc(l0 * uv[2 * va] + l1 * uv[2 * vb] + l2 * uv[2 * vc])));
    const r = Math.min(h - 1, Math.max(0, Math.trunc(l0 * uv[2 * va + 1] + l1 * uv[2 * vb + 1] + l2 * uv[2 * vc + 1])));
    const texel = r * w + u;
    let fold = 0;
    for (let j = 0; j < k; j++) if (F[j]) fold += F[j] * folds[texel * k + j] / 255;
    const nx = l0 * N[a] + l1 * N[b] + l2 * N[c], ny = l0 * N[a + 1] + l1 * N[b + 1] + l2 * N[c + 1], nz = l0 * N[a + 2] + l1 * N[b + 2] + l2 * N[c + 2];
    const wrap = .5 * amb, diffuse = Math.max(0, nx * light[0] + ny * light[1] + nz * light[2] + wrap) / (1 + wrap);
    const hz = light[2] - 1, hl = Math.sqrt(light[0] * light[0] + light[1] * light[1] + hz * hz);
    const gloss = .06 * (1 - amb) * Math.max(0, (nx * light[0] + ny * light[1] + nz * hz) / hl) ** 24, shine = (amb + (1 - amb) * 1.4 * diffuse) * (1 - fold);
    for (let d = 0; d < 3; d++) out[q + d] = Math.round(255 * Math.min(1, Math.max(0, atlas[3 * texel + d] / 255 * shine + gloss)) ** (1 / 2.2));
    out[q + 3] = 255;
  }
}
