// The explorer of a trained SSM. One module without dependencies: a notebook (anywidget) and a page show it alike.
// 1 reading a specification · 2 the method's maps, prototypes and logits · 3 the face · 4 what is selected and edited
// 5 drawing · 6 the views · 7 putting it together

// 1 ── reading a specification ───────────────────────────────────────────────────────────────────────────────────────

export const FORMAT = 'ssm-explorer/1';

// What a specification holds, as ssm_nb.explore.spec says it (a lesson there compares the two).
/* schema */
export const SCHEMA = {
  "Labels": {"aus": "[whole] a", "au_names": "[text] a", "muscles": "[text] a", "expressions": "[text] e",
    "neutral": "whole?"},
  "PriorTable": {"name": "text", "matrix": "float32 e a", "sources": "[text]", "source_of": "uint8 e a"},
  "Matrix": {"source": "text", "table": "table e a"},
  "Epoch": {"epoch": "whole", "d1": "float32 e a", "d2": "float32 a e", "alpha": "number", "beta": "number",
    "gram": "float32 n n", "taps": "float32 a k", "au_f1": "number?", "uar": "number?", "fe_head": "float32 c e?",
    "fe_dot": "float32 c n?", "au_head": "float32 f a?", "au_dot": "float32 f n?"},
  "Clip": {"name": "text", "recording": "text", "task": "au|fe", "frames": "whole", "expression": "whole?",
    "classes": "[whole]?", "aus": "[text]?", "tiles": "[whole]?"},
  "Pictures": {"jpeg": "text", "size": "whole", "columns": "whole"},
  "Evidence": {"source": "text", "support": "table e a", "together": "table e a", "lift": "table e a", "low": "table e a",
    "high": "table e a", "cut_au2fe": "table e a", "cut_fe2au": "table a e", "cut_on": "text", "seeds": "whole",
    "seeds_au2fe": "table e a", "seeds_fe2au": "table a e"},
  "FaceModel": {"aus": "[whole] u", "au_names": "[text] u", "muscles": "[text] u", "regions": "[text] u",
    "sides": "[text] m", "weights": "float32 u m", "mean": "float32 v 3", "actions": "float16 m v 3",
    "triangles": "int16 t 3", "uv": "float16 v 2", "atlas": "uint8 h w 3", "folds": "uint8 h w x",
    "fold_shares": "float32 m x", "light": "[number]", "camera": "number", "field": "number", "ambient": "number",
    "background": "number"},
  "Provenance": {"data": "text", "rendered": "yes|no|unknown", "split": "text", "protocol": "text", "seed": "whole?",
    "versions": "text", "made": "text", "hash": "text"},
  "Spec": {"format": "text", "title": "text", "labels": "Labels", "priors": "[PriorTable]", "truth": "Matrix?",
    "observed": "Matrix?", "epochs": "[Epoch]", "chosen": "whole", "smoothing": "pairs|clip", "clips": "[Clip] c",
    "pictures": "Pictures?", "evidence": "Evidence?", "face": "FaceModel?", "provenance": "Provenance"}
};
/* end of schema */

export class SpecError extends Error {}
const fail = (where, what) => {
  throw new SpecError(`${where} ${what}`);
};
const shown = shape => `(${shape.join(', ')}${shape.length === 1 ? ',' : ''})`;
const BYTES = {float32: Float32Array, float16: Uint16Array, int16: Int16Array, uint8: Uint8Array};

// Work is done in slices: whoever awaits `breathe` lets the browser draw and listen, if this slice has lasted long.
const SLICE = 10; // ms
let sliceEnds = 0;
function nextTask() {
  return new Promise(resolve => {
    const {port1, port2} = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(0);
  });
}
async function breathe() {
  if (performance.now() < sliceEnds) return;
  await nextTask();
  sliceEnds = performance.now() + SLICE;
}

function nextFrame() {
  // a hidden page draws no frames, so a timer waits beside
  return new Promise(resolve => {
    const timer = setTimeout(resolve, 100);
    requestAnimationFrame(() => {
      clearTimeout(timer);
      nextTask().then(resolve);
    });
  });
}

function bytesOf(text, where) {
  if (text.length % 4 || /\s/.test(text)) fail(where, 'is not base64');
  try {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
    return Uint8Array.from(atob(text), c => c.charCodeAt(0));
  } catch {
    return fail(where, 'is not base64');
  }
}

const MOST = 256 * 2 ** 20; // bytes: nothing that is shown is larger

async function inflate(bytes, format, where, most = MOST) {
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream(format)).getReader();
  const parts = [];
  let n = 0;
  try {
    for (let o = await reader.read(); !o.done && n <= most; o = await reader.read()) {
      parts.push(o.value);
      n += o.value.length;
    }
  } catch {
    fail(where, 'cannot be inflated');
  }
  if (n > most) fail(where, `inflates to more than ${most} bytes`);
  const out = new Uint8Array(n);
  parts.reduce((at, o) => (out.set(o, at), at + o.length), 0);
  return out;
}

function half(h) {
  // a 16-bit float as a number
  const e = (h >> 10) & 31;
  const f = h & 1023;
  const s = h & 0x8000 ? -1 : 1;
  if (e === 31) return f ? NaN : s * Infinity;
  return s * (e ? (1 + f / 1024) * 2 ** (e - 15) : (f / 1024) * 2 ** -14);
}

let halves = null;
async function widen(data) {
  // 16-bit floats as 32-bit ones
  halves ??= Float32Array.from({length: 65536}, (_, h) => half(h));
  await breathe();
  const wide = new Float32Array(data.length);
  for (let i = 0; i < data.length; i++) wide[i] = halves[data[i]];
  return wide;
}

function infiniteAt(data) {
  for (let i = 0; i < data.length; i++) if (data[i] - data[i] !== 0) return i;
  return -1;
}

const isWhole = x => Number.isSafeInteger(x) && x >= 0;
const isText = x => typeof x === 'string' && !/\p{Surrogate}/u.test(x); // in characters, none of them half of one
const ARRAY = ['shape', 'dtype', 'data', 'deflate'];

async function readArray(kind, x, where, dims) {
  const [dtype, ...letters] = kind.split(' ');
  if (typeof x !== 'object' || !Array.isArray(x.shape) || !isText(x.dtype) || !isText(x.data))
    fail(where, 'is not an array with shape, dtype and data');
  for (const k of Object.keys(x))
    if (!ARRAY.includes(k)) fail(`${where}.${k}`, `is not known; an array has ${ARRAY.join(', ')}`);
  if (!x.shape.every(isWhole)) fail(`${where}.shape`, 'is not a list of whole numbers from 0');
  if (![undefined, true, false].includes(x.deflate)) fail(`${where}.deflate`, 'is neither true nor false');
  if (x.dtype !== dtype) fail(where, `has dtype ${x.dtype}; expected ${dtype}`);
  const known = letters.map(l => (/^\d/.test(l) ? Number(l) : (dims[l] ?? '…')));
  if (x.shape.length !== known.length || known.some((k, i) => k !== '…' && k !== x.shape[i]))
    fail(where, `has shape ${shown(x.shape)}; expected ${shown(known)}`);
  letters.forEach((l, i) => {
    dims[l] = x.shape[i];
  });
  await breathe();
  let bytes = bytesOf(x.data, where);
  const type = BYTES[dtype];
  const n = x.shape.reduce((p, q) => p * q, 1);
  if (n * type.BYTES_PER_ELEMENT > MOST) fail(where, `needs more than ${MOST} bytes`);
  if (x.deflate) bytes = await inflate(bytes, 'deflate', where, n * type.BYTES_PER_ELEMENT);
  if (bytes.length !== n * type.BYTES_PER_ELEMENT)
    fail(where, `has ${bytes.length} bytes; expected ${n * type.BYTES_PER_ELEMENT}`);
  let data = new type(bytes.buffer, bytes.byteOffset, n);
  if (dtype === 'float16') data = await widen(data);
  const bad = dtype.startsWith('float') ? infiniteAt(data) : -1;
  if (bad >= 0) fail(where, `is not finite at position ${bad}; what was not measured is null`);
  return Object.assign(data, {shape: x.shape});
}

function readTable(kind, x, where, dims) {
  const [r, c] = kind
    .split(' ')
    .slice(1)
    .map(l => dims[l]);
  const width = Array.isArray(x) && x.length && Array.isArray(x[0]) ? x[0].length : 0;
  if (!Array.isArray(x) || x.length !== r || x.some(row => !Array.isArray(row) || row.length !== c))
    fail(where, `has shape ${shown([Array.isArray(x) ? x.length : 0, width])}; expected ${shown([r, c])}`);
  x.forEach((row, i) =>
    row.forEach((v, j) => {
      if (v !== null && !Number.isFinite(v)) fail(`${where}[${i}][${j}]`, 'is neither a number nor null');
    }),
  );
  return x;
}

async function readList(kind, x, where, dims) {
  const [, item, letter] = kind.match(/^\[(.+?)\](?: (\w))?$/);
  if (!Array.isArray(x)) fail(where, 'is not a list');
  if (letter && letter in dims && x.length !== dims[letter])
    fail(where, `has ${x.length} entries; expected ${dims[letter]}`);
  if (letter) dims[letter] = x.length;
  const out = [];
  for (let i = 0; i < x.length; i++) out.push(await readKind(item, x[i], `${where}[${i}]`, dims));
  return out;
}

async function readKind(kind, x, where, dims) {
  if (x === undefined) fail(where, 'is missing; what was not measured is null');
  if (kind.endsWith('?')) {
    if (x === null) return null;
    kind = kind.slice(0, -1);
  }
  if (x === null) fail(where, 'is null; it is needed');
  if (kind.startsWith('[')) return readList(kind, x, where, dims);
  if (kind in SCHEMA) return readRecord(kind, x, where, dims);
  if (kind.split(' ')[0] in BYTES) return readArray(kind, x, where, dims);
  if (kind.startsWith('table ')) return readTable(kind, x, where, dims);
  if ((kind === 'text' || kind.includes('|')) && !isText(x)) fail(where, 'is not a text');
  if (kind === 'number' && !Number.isFinite(x)) fail(where, 'is not a finite number');
  if (kind === 'whole' && !isWhole(x)) fail(where, 'is not a whole number from 0');
  if (kind.includes('|') && !kind.split('|').includes(x))
    fail(where, `is ${JSON.stringify(x)}; expected ${kind.split('|').join(' or ')}`);
  return x;
}

async function readRecord(kind, x, where, dims) {
  if (typeof x !== 'object' || Array.isArray(x)) fail(where, 'is not a record');
  const fields = SCHEMA[kind],
    dot = where ? `${where}.` : '',
    out = {};
  for (const k of Object.keys(x))
    if (!Object.hasOwn(fields, k))
      fail(`${dot}${k}`, `is not known; ${where || 'a specification'} has ${Object.keys(fields).join(', ')}`);
  for (const [k, f] of Object.entries(fields)) out[k] = await readKind(f, x[k], `${dot}${k}`, dims);
  return out;
}

// What no contract of a field can say, in the order and in the words of ssm_nb.explore.spec.

const once = (values, where) => {
  const twice = values.find((v, i) => values.indexOf(v) !== i);
  if (twice !== undefined) fail(where, `holds ${JSON.stringify(twice)} twice`);
};
const inside = (v, size, where) => {
  if (v !== null && v >= size) fail(where, `is ${v}; expected less than ${size}`);
};
const atLeast = (v, least, where) => {
  if (v < least) fail(where, `is ${v}; expected at least ${least}`);
};
const share = (v, where) => {
  if (v !== null && !(v >= 0 && v <= 1)) fail(where, 'is not between 0 and 1');
};
const cells = (table, where, wrong, what) =>
  table.forEach((row, i) => row.forEach((v, j) => v !== null && wrong(v, i, j) && fail(`${where}[${i}][${j}]`, what)));

function checkParts({labels, priors, epochs, clips, chosen}) {
  const [e, a] = [labels.expressions.length, labels.aus.length];
  once(labels.aus, 'labels.aus');
  once(labels.expressions, 'labels.expressions');
  once(
    priors.map(o => o.name),
    'priors',
  );
  const name = (x, where) => /[^ \t\n\r]/.test(x) || fail(where, 'is empty');
  labels.expressions.forEach((x, i) => name(x, `labels.expressions[${i}]`));
  priors.forEach((o, i) => name(o.name, `priors[${i}].name`));
  epochs.slice(1).forEach((o, i) => {
    if (o.epoch <= epochs[i].epoch) fail(`epochs[${i + 1}].epoch`, `is ${o.epoch}; expected more than ${epochs[i].epoch}`);
  });
  inside(labels.neutral, e, 'labels.neutral');
  if (priors.length && !(e && a)) fail('labels', 'has no expression or no action unit; a prior needs both');
  if (epochs.length && !priors.length) fail('priors', 'is empty; epochs need the one that the model was trained with');
  if (clips.length && !epochs.length) fail('epochs', 'is empty; clips need one');
  if (epochs.length) inside(chosen, epochs.length, 'chosen');
}

// Products of vectors with themselves: lengths, the same both ways, no sum of them shorter than 0; up to rounding.
function checkGram(G, where) {
  const n = G.shape[0];
  const at = (i, j) => G[i * n + j];
  let top = 0;
  for (let p = 0; p < n; p++) {
    if (!(at(p, p) > 0)) fail(where, `is not above 0 on its diagonal, at row ${p}`);
    top = Math.max(top, at(p, p));
  }
  const odd = G.findIndex((v, p) => Math.abs(v - at(p % n, Math.floor(p / n))) > 1e-4 * top);
  if (odd >= 0) fail(where, `is not symmetric at position ${odd}`);
  const L = new Float64Array(n * n); // its Cholesky factor
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) {
      let v = at(i, j) + (i === j ? 1e-4 * top : 0);
      for (let k = 0; k < j; k++) v -= L[i * n + k] * L[j * n + k];
      if (i === j && !(v > 0)) fail(where, 'holds products that no vectors have');
      L[i * n + j] = i === j ? Math.sqrt(v) : v / L[j * n + j];
    }
}

function checkNumbers({priors, truth, observed, epochs}) {
  priors.forEach((p, i) => {
    const bad = p.matrix.findIndex(v => v < 0);
    if (bad >= 0) fail(`priors[${i}].matrix`, `is below 0 at position ${bad}`);
    const last = p.source_of.reduce((most, v) => Math.max(most, v), 0);
    inside(last, p.sources.length, `priors[${i}].source_of`);
  });
  for (const [name, o] of [
    ['truth', truth],
    ['observed', observed],
  ])
    if (o) cells(o.table, `${name}.table`, v => v < 0 || v > 1, 'is not between 0 and 1');
  epochs.forEach((k, i) => {
    share(k.au_f1, `epochs[${i}].au_f1`);
    share(k.uar, `epochs[${i}].uar`);
    checkGram(k.gram, `epochs[${i}].gram`);
    const taps = k.taps.shape[1];
    if (taps % 2 === 0) fail(`epochs[${i}].taps`, `has ${taps} entries a filter; expected an odd number`);
  });
  epochs.forEach((k, i) => {
    for (const part of ['fe_head', 'fe_dot', 'au_head', 'au_dot']) {
      const first = `${part.slice(0, 2)}_head`;
      if ((k[part] === null) !== (epochs[0][first] === null))
        fail(`epochs[${i}].${part}`, `and epochs[0].${first} are null together or not at all`);
    }
  });
}

function checkEvidence(ev) {
  for (const k of ['support', 'together', 'lift', 'low', 'high', 'seeds_au2fe', 'seeds_fe2au'])
    cells(ev[k], `evidence.${k}`, v => v < 0, 'is below 0');
  for (const k of ['support', 'together']) cells(ev[k], `evidence.${k}`, v => !isWhole(v), 'is not a whole number');
  const most = (i, j) => ev.support[i][j] ?? 0;
  cells(ev.together, 'evidence.together', (v, i, j) => v > most(i, j), 'is more than the support');
  const low = (i, j) => ev.low[i][j] ?? Infinity;
  cells(ev.high, 'evidence.high', (v, i, j) => v < low(i, j), 'is below the lower end');
}

function checkClasses({classes, expression}, where, e) {
  if (!classes) return;
  if (!classes.length) fail(`${where}.classes`, 'is empty; all of them are null');
  classes.forEach((i, k) => inside(i, e, `${where}.classes[${k}]`));
  once(classes, `${where}.classes`);
  if (expression !== null && !classes.includes(expression))
    fail(`${where}.expression`, `is ${expression}, which is not among its classes`);
}

function checkClip(o, where, {labels, smoothing, pictures}) {
  atLeast(o.frames, 1, `${where}.frames`);
  inside(o.expression, labels.expressions.length, `${where}.expression`);
  checkClasses(o, where, labels.expressions.length);
  if (smoothing === 'pairs' && o.frames % 2)
    fail(`${where}.frames`, `is ${o.frames}; smoothing in pairs needs an even number`);
  for (const k of ['aus', 'tiles'])
    if (o[k] && o[k].length !== o.frames) fail(`${where}.${k}`, `has ${o[k].length} entries; expected ${o.frames}`);
  (o.aus ?? []).forEach((t, k) => {
    const a = labels.aus.length;
    if (t.length !== a || /[^01?]/.test(t))
      fail(`${where}.aus[${k}]`, `is ${JSON.stringify(t)}; expected ${a} letters of 0, 1 and ?`);
  });
  if (o.tiles && !pictures) fail(`${where}.tiles`, 'numbers pictures, but there are none');
}

function checkPictures(o) {
  atLeast(o.size, 1, 'pictures.size');
  atLeast(o.columns, 1, 'pictures.columns');
  bytesOf(o.jpeg, 'pictures.jpeg');
}

function checkFace(f) {
  once(f.aus, 'face.aus');
  f.sides.forEach((s, i) => {
    if (!['left', 'right', 'centre'].includes(s))
      fail(`face.sides[${i}]`, `is ${JSON.stringify(s)}; expected left, right or centre`);
  });
  const [n] = f.mean.shape;
  const bad = f.triangles.findIndex(v => v < 0 || v >= n);
  if (bad >= 0) fail('face.triangles', `is not the number of a vertex at position ${bad}`);
  if (f.light.length !== 3) fail('face.light', `has ${f.light.length} entries; expected 3`);
  const length = f.light.reduce((n, v) => n + v * v, 0);
  if (!(Math.abs(length - 1) <= 1e-3)) fail('face.light', 'is not of length 1');
  for (const k of ['camera', 'field']) if (!(f[k] > 0)) fail(`face.${k}`, 'is not above 0');
  for (const k of ['ambient', 'background']) share(f[k], `face.${k}`);
  if (!f.atlas.length) fail('face.atlas', 'is empty');
}

// Checks everything that a specification promises, decodes its arrays, or throws one sentence that names the field.
export async function readSpec(x) {
  if (typeof x !== 'object' || x === null || Array.isArray(x)) throw new SpecError('the specification is not a record');
  const given = isText(x.format) ? JSON.stringify(x.format) : 'not a text';
  if (x.format !== FORMAT) fail('format', `is ${given}; this explorer reads "${FORMAT}"`);
  const list = v => (Array.isArray(v) ? v : []);
  const [e, a] = [list(x.labels?.expressions).length, list(x.labels?.aus).length];
  const f = list(x.clips).reduce((n, o) => n + (isWhole(o?.frames) ? o.frames : 0), 0);
  const spec = await readRecord('Spec', x, '', {e, a, n: e + a, c: list(x.clips).length, f});
  checkParts(spec);
  checkNumbers(spec);
  if (spec.evidence) checkEvidence(spec.evidence);
  spec.clips.forEach((o, i) => checkClip(o, `clips[${i}]`, spec));
  if (spec.pictures) checkPictures(spec.pictures);
  if (spec.face) checkFace(spec.face);
  let first = 0;
  for (const o of spec.clips) {
    o.first = first;
    first += o.frames;
  }
  // 1 active, 0 not, -1 unknown: (frames, AUs)
  const letters = o => (o.aus ? o.aus.join('') : '?'.repeat(o.frames * a));
  spec.coded = Int8Array.from(spec.clips.map(letters).join(''), l => (l === '?' ? -1 : Number(l)));
  return spec;
}

// The text that a page or a kernel hands over: gzipped JSON in base64.
export async function unpack(text) {
  const bytes = await inflate(bytesOf(text, 'the payload'), 'gzip', 'the payload');
  await breathe();
  let x = null;
  try {
    x = JSON.parse(new TextDecoder('utf-8', {fatal: true, ignoreBOM: true}).decode(bytes));
  } catch {
    fail('the payload', 'is not JSON');
  }
  return readSpec(x);
}

// 2 ── the method's maps, prototypes and logits ──────────────────────────────────────────────────────────────────────
// Way 0 ('au2fe') has rows of expressions and columns of AUs, way 1 ('fe2au') the other way round; maps are flat arrays.

export const WAYS = ['au2fe', 'fe2au'];
const EPS = 1e-8,
  TEMPERATURE = 10; // the floor below log; 0.1 / 0.01
const sigmoid = x => 1 / (1 + Math.exp(-x));
export class EditError extends Error {}

const sizes = spec => {
  const e = spec.labels.expressions.length,
    a = spec.labels.aus.length;
  return {
    e,
    a,
    n: e + a,
    shape: [
      [e, a],
      [a, e],
    ],
  };
};

// Position in a flat map of the edge that a selection or an edit names.
export function cellOf(spec, {way, expression, au}) {
  const w = WAYS.indexOf(way),
    i = spec.labels.expressions.indexOf(expression),
    j = spec.labels.aus.indexOf(au),
    {e, a} = sizes(spec);
  if (w < 0) throw new EditError(`way is ${JSON.stringify(way)}; expected au2fe or fe2au`);
  const among = (key, what, labels) => {
    throw new EditError(`${JSON.stringify(key)} is not among the ${what} here: ${labels.join(', ')}`);
  };
  if (i < 0) among(expression, 'expressions', spec.labels.expressions);
  if (j < 0) among(au, 'action units', spec.labels.aus);
  return {w, i, j, at: w ? j * e + i : i * a + j, row: w ? j : i, column: w ? i : j};
}

function epochOf(spec, epoch) {
  // position of an epoch
  const at = spec.epochs.findIndex(k => k.epoch === epoch);
  if (at < 0) throw new EditError(`epoch ${epoch} is not among ${spec.epochs.map(k => k.epoch).join(', ')}`);
  return at;
}

const MUCH = 1000;

function inRange(edit, key, low, high) {
  const v = edit[key];
  if (!(Number.isFinite(v) && v >= low && v <= high))
    throw new EditError(`${key} is ${JSON.stringify(v)}; expected a number from ${low} to ${high}`);
}

const EDITS = {
  cut: (s, spec, o) => {
    const {w, at} = cellOf(spec, o);
    s.cut[w][at] = 1;
  },
  reweight: (s, spec, o) => {
    inRange(o, 'factor', 0, MUCH);
    const {w, at} = cellOf(spec, o);
    s.factor[w][at] = o.factor;
  },
  restore: (s, spec, o) => {
    const {w, at} = cellOf(spec, o);
    s.cut[w][at] = 0;
    s.factor[w][at] = 1;
    s.scale[w][at] = 1;
  },
  scale: (s, spec, o) => {
    inRange(o, 'by', -MUCH, MUCH);
    if (o.expression === undefined && o.au === undefined) {
      if (!WAYS.includes(o.way)) cellOf(spec, o);
      s.scale[WAYS.indexOf(o.way)].fill(o.by);
      return;
    }
    const {w, at} = cellOf(spec, o);
    s.scale[w][at] = o.by;
  },
  gate: (s, spec, o) => {
    inRange(o, 'value', 0, 1);
    if (!WAYS.includes(o.way)) throw new EditError(`way is ${JSON.stringify(o.way)}; expected au2fe or fe2au`);
    s.gate[WAYS.indexOf(o.way)] = o.value;
  },
  epoch: (s, spec, o) => {
    const found = spec.epochs[epochOf(spec, o.epoch)];
    Object.assign(s, {d: [found.d1, found.d2], gate: [sigmoid(found.alpha), sigmoid(found.beta)]});
  },
  prior: (s, spec, o) => {
    const found = spec.priors.find(k => k.name === o.name);
    if (!found)
      throw new EditError(
        `${JSON.stringify(o.name)} is not a prior here; there are ${spec.priors.map(k => k.name).join(', ')}`,
      );
    s.prior = found.matrix;
  },
};

// The model of epoch number `base`, with the edits in order.
export function setting(spec, base, edits) {
  const {e, a} = sizes(spec),
    k = spec.epochs[base];
  if (!k) throw new EditError('no model was trained here: there is nothing to edit');
  const full = v => [0, 1].map(() => new Float64Array(e * a).fill(v));
  const s = {
    epoch: k,
    d: [k.d1, k.d2],
    gate: [sigmoid(k.alpha), sigmoid(k.beta)],
    prior: spec.priors[0].matrix,
    scale: full(1),
    factor: full(1),
    cut: full(0),
  };
  for (const o of edits) {
    if (typeof o !== 'object' || o === null) throw new EditError(`an edit is ${JSON.stringify(o)}; expected a record`);
    if (!Object.keys(EDITS).includes(o.kind))
      throw new EditError(
        `${JSON.stringify(o.kind)} is not a kind of edit; there are ${Object.keys(EDITS).join(', ')}`,
      );
    EDITS[o.kind](s, spec, o);
  }
  return s;
}

// The map of one way: within a row the prior re-weighted by the residual, the row's mass kept, neutral as in the prior; then
// the cuts.
function mapOf(spec, s, w) {
  const {e, a, shape} = sizes(spec),
    N = spec.labels.neutral,
    [rows, cols] = shape[w],
    [prior, d, scale, factor, cut] = [s.prior, s.d[w], s.scale[w], s.factor[w], s.cut[w]],
    out = new Float64Array(e * a),
    P = (r, c) => (w ? prior[c * a + r] : prior[r * a + c]);
  for (let r = 0; r < rows; r++) {
    let mass = 0,
      sum = 0,
      some = false, // links that are learned
      top = -Infinity;
    const learned = c => (w ? c !== N : r !== N),
      residual = at => scale[at] * d[at];
    for (let c = 0, at = r * cols; c < cols; c++, at++)
      if (learned(c)) {
        some = true;
        mass += P(r, c);
        if (factor[at] > 0) top = Math.max(top, residual(at));
      }
    for (let c = 0, at = r * cols; c < cols; c++, at++)
      if (learned(c)) sum += out[at] = factor[at] ? factor[at] * (P(r, c) + EPS) * Math.exp(residual(at) - top) : 0;
    if (some && !(sum > 0))
      throw new EditError(
        `every link of ${rowLabel(spec, w, r)} was re-weighted to 0, but its row keeps its mass; cut one instead`,
      );
    for (let c = 0, at = r * cols; c < cols; c++, at++)
      out[at] = cut[at] ? 0 : learned(c) ? (out[at] / sum) * mass : P(r, c);
  }
  return out;
}

const rowLabel = (spec, w, r) => (w ? `AU${spec.labels.aus[r]}` : spec.labels.expressions[r]);

const TINY = 1e-12; // keeps a division from 0

// Where a prototype draws from: itself, and those of the other task.
function nonzero(z) {
  const some = [];
  for (let p = 0; p < z.length; p++) if (z[p]) some.push(p);
  return some;
}

// Each prototype of one way after the exchange, as weights (own, e + a) of those before it, divided by its length.
function exchanged(spec, s, map, w) {
  const {e, n, shape} = sizes(spec),
    G = s.epoch.gram,
    [own, other] = shape[w],
    at = [0, e][w],
    from = [e, 0][w],
    out = new Float64Array(own * n);
  for (let r = 0; r < own; r++) {
    const z = out.subarray(r * n, (r + 1) * n);
    z[at + r] = 1;
    for (let c = 0; c < other; c++) z[from + c] = s.gate[w] * map[r * other + c];
    const some = nonzero(z);
    let square = 0;
    for (let k = 0; k < some.length; k++) {
      const row = some[k] * n;
      let sum = 0;
      for (let l = 0; l < some.length; l++) sum += z[some[l]] * G[row + some[l]];
      square += z[some[k]] * sum;
    }
    const length = Math.max(TINY, Math.sqrt(Math.max(0, square)));
    for (let k = 0; k < some.length; k++) z[some[k]] /= length;
  }
  return out;
}

function logits(head, dot, z, n) {
  // head (rows, own) + 10 · dot (rows, n) @ zᵀ (n, own)
  const own = z.length / n,
    rows = dot.length / n,
    out = new Float64Array(rows * own);
  for (let i = 0; i < own; i++) {
    const weights = z.subarray(i * n, (i + 1) * n),
      some = nonzero(weights);
    for (let r = 0; r < rows; r++) {
      let cos = 0;
      for (let k = 0; k < some.length; k++) cos += dot[r * n + some[k]] * weights[some[k]];
      out[r * own + i] = head[r * own + i] + TEMPERATURE * cos;
    }
  }
  return out;
}

// One filter an AU, along each clip, or within pairs of frames; zeros beyond the ends.
function smooth(spec, x, taps) {
  const {a} = sizes(spec),
    k = taps.shape[1],
    mid = k >> 1,
    out = new Float64Array(x.length);
  for (const clip of spec.clips) {
    const step = spec.smoothing === 'pairs' ? 2 : clip.frames;
    for (let lo = clip.first; lo < clip.first + clip.frames; lo += step)
      for (let t = lo; t < lo + step; t++)
        for (let j = 0; j < a; j++) {
          const first = t - mid, // the frame of the first tap
            end = Math.min(k, lo + step - first);
          let sum = 0;
          for (let q = Math.max(0, lo - first); q < end; q++) sum += taps[j * k + q] * x[(first + q) * a + j];
          out[t * a + j] = sum;
        }
  }
  return out;
}

// Whether a branch was trained, 'fe' or 'au'. One that was not says nothing: its logits and scores are null.
const learned = (spec, task) => spec.epochs.every(k => k[`${task}_head`] !== null);
const absent = (spec, task) => (learned(spec, task) ? 'not measured' : 'not trained');

let computed = 0;

// Whether two settings say the same of one way, 0 or 1.
function alike(s, t, w) {
  const equal = (x, y) => x === y || x.every((v, k) => v === y[k]);
  return (
    s.epoch === t.epoch &&
    s.prior === t.prior &&
    s.gate[w] === t.gate[w] &&
    ['d', 'scale', 'factor', 'cut'].every(k => equal(s[k][w], t[k][w]))
  );
}

// Everything that follows from an epoch and its edits. `id` tells results apart. `before`: the same without edits, if it
// is known; what edits leave as it is, is taken from there.
export function compute(spec, base, edits, before = null) {
  const {n} = sizes(spec),
    s = setting(spec, base, edits),
    k = s.epoch,
    kept = [0, 1].map(w => before !== null && alike(s, before.setting, w)),
    maps = kept.map((same, w) => (same ? before.maps[w] : mapOf(spec, s, w))),
    z = kept.map((same, w) => (same ? before.z[w] : exchanged(spec, s, maps[w], w)));
  const fe = kept[0] ? before.fe : k.fe_head && logits(k.fe_head, k.fe_dot, z[0], n);
  const au = kept[1] ? before.au : k.au_head && smooth(spec, logits(k.au_head, k.au_dot, z[1], n), k.taps);
  return {id: ++computed, setting: s, maps, z, fe, au, ...scores(spec, fe, au)};
}

// The expression that a clip is called: of those that its data set has, the one with the largest logit.
export function called(spec, fe, c) {
  const {e} = sizes(spec);
  const some = spec.clips[c].classes ?? Array.from({length: e}, (_, i) => i);
  return some.reduce((best, i) => (fe[c * e + i] > fe[c * e + best] ? i : best));
}

// Mean F1 over AUs (probability ≥ 0.5) and UAR, on the clips that are here, as ssm_nb.evaluation.scores has them; null
// where undefined, which the labels alone decide: an AU that is nowhere labelled active, an expression without a clip.
function scores(spec, fe, au) {
  const {e, a} = sizes(spec),
    {coded} = spec,
    f1 = [],
    recall = [];
  for (let j = 0; j < a; j++) {
    let tp = 0,
      fn = 0,
      fp = 0;
    for (let k = j; au && k < coded.length; k += a) {
      const yes = au[k] >= 0;
      if (coded[k] === 1) {
        if (yes) tp++;
        else fn++;
      } else if (yes && coded[k] === 0) fp++;
    }
    f1.push(tp + fn ? (2 * tp) / (2 * tp + fn + fp) : null);
  }
  for (let i = 0; i < e; i++) {
    const mine = spec.clips.map((o, c) => [o.expression, c]).filter(([l]) => l === i);
    recall.push(fe && mine.length ? mine.filter(([, c]) => called(spec, fe, c) === i).length / mine.length : null);
  }
  const defined = x => x.filter(v => v !== null);
  const mean = x => (defined(x).length ? defined(x).reduce((p, q) => p + q, 0) / defined(x).length : null);
  return {f1, recall, meanF1: mean(f1), uar: mean(recall), over: {au: defined(f1).length, fe: defined(recall).length}};
}

// How one logit comes about: the classifier, its own prototype, and each prototype that the exchange added.
export function parts(spec, result, way, row, target) {
  // row: a clip (way 0) or a frame (way 1); target: which class
  const {e, n} = sizes(spec),
    w = WAYS.indexOf(way),
    k = result.setting.epoch,
    z = result.z[w],
    own = z.length / n;
  const head = (w ? k.au_head : k.fe_head)[row * own + target],
    dot = w ? k.au_dot : k.fe_dot,
    at = [0, e][w] + target;
  const part = p => TEMPERATURE * dot[row * n + p] * z[target * n + p];
  const names = [...spec.labels.expressions, ...spec.labels.aus.map(u => `AU${u}`)];
  const others = names.map((name, p) => ({name, value: part(p)})).filter((o, p) => p !== at && z[target * n + p]);
  return [{name: 'classifier', value: head}, {name: 'own prototype', value: part(at)}, ...others];
}

// Cosines between all prototypes, before (s null) or after the exchange.
export function similarities(spec, epoch, z) {
  const {n} = sizes(spec),
    G = epoch.gram;
  if (!z) return Float64Array.from(G);
  const Z = new Float64Array(n * n),
    H = new Float64Array(n * n),
    out = new Float64Array(n * n);
  Z.set(z[0]);
  Z.set(z[1], z[0].length);
  const times = (A, B, C, transpose) => {
    for (let i = 0; i < n; i++)
      for (let j = 0; j < n; j++) {
        let v = 0;
        for (let k = 0; k < n; k++) v += A[i * n + k] * (transpose ? B[j * n + k] : B[k * n + j]);
        C[i * n + j] = v;
      }
  };
  times(Z, G, H, false);
  times(H, Z, out, true);
  return out;
}

// 3 ── the face ──────────────────────────────────────────────────────────────────────────────────────────────────────
// What ssm_nb.faces.render draws of a `still` scene: the same mesh, camera, atlas, folds and light. A frame allocates
// nothing. Light and highlight are computed at the vertices, which are some pixels apart, and interpolated like the rest.

const LEVELS = 16383;
let SRGB = null; // of linear light
// Up to twice the brightest, which is white too: so nothing is compared with the end of the table.
function srgbTable() {
  const out = new Uint8Array(2 * LEVELS + 1).fill(255);
  for (let i = 0; i < LEVELS; i++) out[i] = Math.round(255 * (i / LEVELS) ** (1 / 2.2));
  return out;
}
const OPAQUE = 0xff000000;
const FACE = 320; // pixels of the face in a page

export class Face {
  constructor(face) {
    SRGB ??= srgbTable();
    this.face = face;
    this.n = face.mean.length / 3;
    this.m = face.sides.length;
    this.verts = new Float32Array(this.n * 3);
    this.normals = new Float32Array(this.n * 3);
    this.screen = new Float32Array(this.n * 3); // x and y in pixels, depth in cm
    this.light = new Float32Array(this.n); // what a texel of 1 of 255 sends back, of LEVELS
    this.gloss = new Float32Array(this.n); // the highlight, of LEVELS, and a half to round
    this.keep = new Float32Array(face.atlas.length / 3); // the share of light that folds leave, at each texel
    this.folded = '';
    this.actions = new Float64Array(this.m);
    this.triangles = this.nearestFirst();
    this.texture = this.inside();
    this.skin = this.packed();
    this.touched = []; // vertices of each action and texels of each fold, found when first asked for
    this.lines = [];
  }

  inside() {
    // columns and rows of the atlas, so far from its border that a pixel between vertices cannot leave it
    const {uv, atlas} = this.face;
    const [rows, columns] = atlas.shape;
    return Float32Array.from(uv, (x, i) => Math.max(0, Math.min(x, (i % 2 ? rows : columns) - 0.001)));
  }

  packed() {
    // the atlas with a number a texel: red, then green, then blue in its bytes
    const {atlas} = this.face;
    const out = new Int32Array(atlas.length / 3);
    for (let x = 0; x < out.length; x++) out[x] = atlas[3 * x] | (atlas[3 * x + 1] << 8) | (atlas[3 * x + 2] << 16);
    return out;
  }

  nearestFirst() {
    // the order in which few pixels are painted twice: by depth at rest
    const {triangles: T, mean} = this.face;
    const depth = new Float32Array(T.length / 3);
    for (let t = 0; t < T.length; t++) depth[(t / 3) | 0] += mean[3 * T[t] + 2];
    const order = Uint16Array.from(depth.keys()).sort((p, q) => depth[p] - depth[q] || p - q);
    const out = new Uint16Array(T.length);
    order.forEach((k, t) => out.set(T.subarray(3 * k, 3 * k + 3), 3 * t));
    return out;
  }

  movedBy(k) {
    // vertices that an action moves
    const d = this.face.actions.subarray(k * this.n * 3, (k + 1) * this.n * 3);
    const out = [];
    for (let v = 0; v < this.n; v++) if (d[3 * v] || d[3 * v + 1] || d[3 * v + 2]) out.push(v);
    return Uint16Array.from(out);
  }

  foldedBy(j) {
    // texels that a fold darkens
    const {folds} = this.face;
    const k = folds.shape[2];
    const out = [];
    for (let x = 0; x < this.keep.length; x++) if (folds[x * k + j]) out.push(x);
    return Uint32Array.from(out);
  }

  // Mesh actions for AU intensities of the person's left and right side; AUs that share an action add up to at most 1.
  pose(left, right) {
    const {weights, sides} = this.face;
    for (let k = 0; k < this.m; k++) {
      let sum = 0;
      for (let u = 0; u < left.length; u++) {
        const v = sides[k] === 'left' ? left[u] : sides[k] === 'right' ? right[u] : Math.max(left[u], right[u]);
        sum += weights[u * this.m + k] * v;
      }
      this.actions[k] = Math.min(1, sum);
    }
    return this;
  }

  morph() {
    // the mean, moved by the actions
    const {mean, actions} = this.face;
    const v = this.verts;
    v.set(mean);
    for (let k = 0; k < this.m; k++) {
      const w = this.actions[k];
      if (!w) continue;
      const at = k * this.n * 3;
      const touched = (this.touched[k] ??= this.movedBy(k));
      for (let i = 0; i < touched.length; i++) {
        const d = 3 * touched[i];
        v[d] += w * actions[at + d];
        v[d + 1] += w * actions[at + d + 1];
        v[d + 2] += w * actions[at + d + 2];
      }
    }
  }

  turn(yaw, pitch) {
    if (!yaw && !pitch) return;
    const v = this.verts;
    const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    for (let i = 0; i < v.length; i += 3) {
      const x = cy * v[i] + sy * v[i + 2];
      const z = cy * v[i + 2] - sy * v[i];
      const y = v[i + 1];
      v[i] = x;
      v[i + 1] = cp * y - sp * z;
      v[i + 2] = sp * y + cp * z;
    }
  }

  faceNormals() {
    // sums of the triangles' normals at each vertex, not yet of length 1
    const {triangles} = this.face;
    const v = this.verts;
    const N = this.normals;
    N.fill(0);
    for (let t = 0; t < triangles.length; t += 3) {
      const a = 3 * triangles[t];
      const b = 3 * triangles[t + 1];
      const c = 3 * triangles[t + 2];
      const ux = v[c] - v[a];
      const uy = v[c + 1] - v[a + 1];
      const uz = v[c + 2] - v[a + 2];
      const wx = v[b] - v[a];
      const wy = v[b + 1] - v[a + 1];
      const wz = v[b + 2] - v[a + 2];
      const x = uy * wz - uz * wy;
      const y = uz * wx - ux * wz;
      const z = ux * wy - uy * wx;
      N[a] += x;
      N[a + 1] += y;
      N[a + 2] += z;
      N[b] += x;
      N[b + 1] += y;
      N[b + 2] += z;
      N[c] += x;
      N[c + 1] += y;
      N[c + 2] += z;
    }
  }

  illuminate() {
    const N = this.normals;
    const {ambient} = this.face;
    const [lx, ly, lz] = this.face.light;
    const hz = lz - 1; // half-way between the light and the camera
    const h = 1 / Math.sqrt(lx * lx + ly * ly + hz * hz);
    const wrap = 0.5 * ambient;
    const lit = ((1 - ambient) * 1.4) / (1 + wrap);
    const shiny = LEVELS * 0.06 * (1 - ambient);
    for (let i = 0, k = 0; i < this.n; i++, k += 3) {
      const s = 1 / Math.max(1e-12, Math.sqrt(N[k] * N[k] + N[k + 1] * N[k + 1] + N[k + 2] * N[k + 2]));
      const plane = N[k] * lx + N[k + 1] * ly;
      const facing = Math.max(0, s * (plane + N[k + 2] * lz) + wrap);
      const g = Math.max(0, s * h * (plane + N[k + 2] * hz));
      const g3 = g * g * g;
      const g12 = g3 * g3 * g3 * g3;
      this.light[i] = ((ambient + lit * facing) * LEVELS) / 255;
      this.gloss[i] = shiny * g12 * g12 + 0.5;
    }
  }

  project(size) {
    const {camera, field} = this.face;
    const v = this.verts;
    const S = this.screen;
    for (let i = 0; i < v.length; i += 3) {
      const s = ((camera / (camera + v[i + 2])) * size) / field;
      S[i] = size / 2 + v[i] * s;
      S[i + 1] = size / 2 - v[i + 1] * s;
      S[i + 2] = v[i + 2];
    }
  }

  crease() {
    // how dark each fold is, where it has changed since the last frame
    const {fold_shares: shares, folds} = this.face;
    const k = shares.shape[1];
    const show = new Array(k).fill(0);
    for (let i = 0; i < this.m; i++)
      if (this.actions[i]) for (let j = 0; j < k; j++) show[j] += this.actions[i] * shares[i * k + j];
    if (this.folded === (this.folded = show.join())) return;
    this.keep.fill(1);
    for (let j = 0; j < k; j++) {
      if (!show[j]) continue;
      const s = show[j] / 255;
      const line = (this.lines[j] ??= this.foldedBy(j));
      for (let i = 0; i < line.length; i++) this.keep[line[i]] -= s * folds[line[i] * k + j];
    }
  }

  // A square picture (RGBA bytes), `size` pixels wide.
  draw(size, yaw = 0, pitch = 0) {
    for (const _ of this.steps(size, yaw, pitch));
    return this.out;
  }

  // The first picture of a page: the loops are not compiled yet and slow, so the page breathes between the steps.
  async drawFirst(size) {
    for (const _ of this.steps(size, 0, 0, 3 * 500)) await breathe();
    return this.out;
  }

  // `slice`: entries of the triangles that are painted in a step.
  *steps(size, yaw, pitch, slice = this.triangles.length) {
    if (this.size !== size) this.resize(size);
    const grey = SRGB[Math.round(LEVELS * this.face.background)];
    this.pixels.fill((OPAQUE | (grey << 16) | (grey << 8) | grey) >>> 0);
    this.depth.fill(Infinity);
    this.crease();
    yield;
    this.morph();
    yield;
    this.turn(yaw, pitch);
    this.faceNormals();
    yield;
    this.illuminate();
    this.project(size);
    for (let t = 0; t < this.triangles.length; t += slice) {
      yield;
      this.rasterise(t, Math.min(t + slice, this.triangles.length));
    }
  }

  resize(size) {
    this.size = size;
    this.depth = new Float32Array(size * size);
    this.out = new Uint8ClampedArray(size * size * 4);
    this.pixels = new Uint32Array(this.out.buffer);
    return this.out;
  }

  // Every pixel centre inside a triangle, where it is nearer than what is there: row by row, from the edge on the left
  // to the edge on the right. Triangles that share an edge compute it alike, from its upper end.
  rasterise(first, end) {
    const {size, depth, pixels, keep, light, gloss, screen: S, triangles: T, texture: uv, skin} = this;
    const columns = this.face.atlas.shape[1];
    const last = size - 1;
    for (let t = first; t < end; t += 3) {
      const i = T[t];
      const j = T[t + 1];
      const k = T[t + 2];
      const x2 = S[3 * k] - 0.5;
      const y2 = S[3 * k + 1] - 0.5;
      const x0 = S[3 * i] - 0.5;
      const y0 = S[3 * i + 1] - 0.5;
      const x1 = S[3 * j] - 0.5;
      const y1 = S[3 * j + 1] - 0.5;
      const area = (y1 - y2) * (x0 - x2) - (x1 - x2) * (y0 - y2);
      if (area >= 0) continue; // seen from behind
      let a = i; // the corners from the top down
      let b = j;
      let c = k;
      if (S[3 * b + 1] < S[3 * a + 1]) [a, b] = [b, a];
      if (S[3 * c + 1] < S[3 * b + 1]) [b, c] = [c, b];
      if (S[3 * b + 1] < S[3 * a + 1]) [a, b] = [b, a];
      const xa = S[3 * a] - 0.5;
      const ya = S[3 * a + 1] - 0.5;
      const xb = S[3 * b] - 0.5;
      const yb = S[3 * b + 1] - 0.5;
      const xc = S[3 * c] - 0.5;
      const yc = S[3 * c + 1] - 0.5;
      const top = Math.ceil(Math.max(ya, 0)) | 0; // | 0: whole numbers, which index fast
      const bottom = Math.floor(Math.min(yc, last)) | 0;
      if (top > bottom) continue;
      const long = (xc - xa) / (yc - ya || 1); // how far each edge moves from row to row
      const upper = (xb - xa) / (yb - ya || 1);
      const lower = (xc - xb) / (yc - yb || 1);
      const right = xa + long * (yb - ya) < xb; // the side of the two short edges
      const ax = (y1 - y2) / area; // how much the barycentric coordinates of i and j grow by a pixel
      const ay = (x2 - x1) / area;
      const bx = (y2 - y0) / area;
      const by = (x0 - x2) / area;
      const z2 = S[3 * k + 2];
      const z0 = S[3 * i + 2] - z2;
      const z1 = S[3 * j + 2] - z2;
      const zx = ax * z0 + bx * z1;
      const zy = ay * z0 + by * z1;
      const u2 = uv[2 * k];
      const u0 = uv[2 * i] - u2;
      const u1 = uv[2 * j] - u2;
      const ux = ax * u0 + bx * u1;
      const uy = ay * u0 + by * u1;
      const v2 = uv[2 * k + 1];
      const v0 = uv[2 * i + 1] - v2;
      const v1 = uv[2 * j + 1] - v2;
      const vx = ax * v0 + bx * v1;
      const vy = ay * v0 + by * v1;
      const f2 = light[k];
      const f0 = light[i] - f2;
      const f1 = light[j] - f2;
      const fx = ax * f0 + bx * f1;
      const fy = ay * f0 + by * f1;
      const g2 = gloss[k];
      const g0 = gloss[i] - g2;
      const g1 = gloss[j] - g2;
      const gx = ax * g0 + bx * g1;
      const gy = ay * g0 + by * g1;
      for (let y = top; y <= bottom; y++) {
        const e = xa + long * (y - ya);
        const d = y < yb ? xa + upper * (y - ya) : xb + lower * (y - yb);
        const from = Math.ceil(Math.max(right ? e : d, 0)) | 0;
        const to = Math.floor(Math.min(right ? d : e, last)) | 0;
        const dy = y - y2;
        const row = y * size;
        for (let x = from; x <= to; x++) {
          const dx = x - x2;
          const z = z2 + dy * zy + dx * zx;
          if (z >= depth[row + x]) continue;
          depth[row + x] = z;
          const u = u2 + dy * uy + dx * ux;
          const v = v2 + dy * vy + dx * vx;
          const texel = (Math.imul(v | 0, columns) + (u | 0)) | 0;
          const shine = (f2 + dy * fy + dx * fx) * keep[texel];
          const glare = g2 + dy * gy + dx * gx;
          const colour = skin[texel];
          const red = SRGB[((colour & 255) * shine + glare) | 0];
          const green = SRGB[(((colour >> 8) & 255) * shine + glare) | 0];
          const blue = SRGB[((colour >> 16) * shine + glare) | 0];
          pixels[row + x] = OPAQUE | (blue << 16) | (green << 8) | red;
        }
      }
    }
  }
}

// What the face does, for those who do not see it.
export function faceWords(face, left, right) {
  const pct = v => `${Math.round(100 * v)}%`;
  const rows = face.aus
    .map((u, i) => ({u, i, v: Math.max(left[i], right[i])}))
    .filter(o => o.v >= 0.05)
    .sort((p, q) => q.v - p.v || p.u - q.u);
  const side = i =>
    left[i] === right[i]
      ? ''
      : !right[i]
        ? ' on the left'
        : !left[i]
          ? ' on the right'
          : ` on the left, ${pct(right[i])} on the right`;
  return rows.length
    ? `A face with ${rows.map(({u, i, v}) => `AU${u} ${face.au_names[i]} ${pct(left[i] || v)}${side(i)}`).join('; ')}.`
    : 'A face at rest.';
}

// 4 ── what is selected and edited ───────────────────────────────────────────────────────────────────────────────────

const posedRow = posed => {
  // the row of a matrix that a face is posed by
  const found = posed.match(/^(learned|truth|observed|prior(?::\d+)?) (.+)$/s);
  return found && {layer: found[1], expression: found[2]};
};
const same = (p, q) => JSON.stringify(p) === JSON.stringify(q);
const NONE = []; // no edits

const SHARED = ['base', 'selection', 'edits', 'past', 'future'];

// What all views of one model share, each in its own store: epoch, chosen edge, edits, and what can be undone.
export class Common {
  constructor(spec) {
    Object.assign(this, {spec, base: spec.chosen, edits: NONE, past: [], future: []});
    this.trained = spec.epochs.length > 0;
    this.stores = new Set();
    this.cache = new Map();
    this.heard = () => {}; // of every change, after the stores
    this.selection = spec.priors.length ? this.largest('au2fe') : null;
  }
  set(values) {
    Object.assign(this, values);
    for (const store of this.stores) store.heed(values);
    this.heard();
  }

  // Results, kept for each list of edits and each epoch. A list of edits never changes; another takes its place.
  at(base, edits) {
    const list = edits.length ? edits : NONE;
    if (!this.cache.has(list)) {
      if (this.cache.size > 40) this.cache.clear();
      this.cache.set(list, []);
    }
    const known = this.cache.get(list);
    return (known[base] ??= compute(this.spec, base, list, list === NONE ? null : this.at(base, NONE)));
  }

  // The edge that training moved most; without training, the one on which two priors differ most, or the first link.
  largest(way) {
    const {e, a} = sizes(this.spec),
      w = WAYS.indexOf(way),
      p = this.spec.priors[0].matrix,
      other = this.spec.priors[1]?.matrix;
    const m = this.trained ? this.at(this.base, NONE).maps[w] : null;
    let best = 0,
      most = -1;
    for (let i = 0; i < e; i++)
      for (let j = 0; j < a; j++) {
        const size = m
          ? Math.abs(m[w ? j * e + i : i * a + j] - p[i * a + j])
          : other
            ? Math.abs(other[i * a + j] - p[i * a + j])
            : p[i * a + j];
        if (size > most) {
          most = size;
          best = i * a + j;
        }
      }
    return {way, expression: this.spec.labels.expressions[(best / a) | 0], au: this.spec.labels.aus[best % a]};
  }

  // An edge that is not there, and edits that the method does not allow, are refused with their reason.
  select({way, expression, au}) {
    const selection = {way, expression, au};
    if (same(selection, this.selection)) return;
    cellOf(this.spec, selection);
    this.set({selection});
  }
  setEpoch(epoch) {
    const base = epochOf(this.spec, epoch);
    if (base !== this.base) this.set({base});
  }
  setEdits(edits) {
    if (same(edits, this.edits)) return;
    this.at(this.base, edits);
    this.set({edits, past: [...this.past, this.edits], future: []});
  }
  undo() {
    if (!this.past.length) return;
    this.set({edits: this.past.at(-1), past: this.past.slice(0, -1), future: [...this.future, this.edits]});
  }
  redo() {
    if (!this.future.length) return;
    this.set({edits: this.future.at(-1), past: [...this.past, this.edits], future: this.future.slice(0, -1)});
  }
}

// What one view shows: what is shared, and what is its own.
export class Store {
  constructor(spec, common = new Common(spec)) {
    const {trained} = common;
    Object.assign(this, {
      spec,
      common,
      trained,
      form: 'matrix',
      clip: 0,
      frame: 0,
      held: false,
      note: '',
      listeners: new Set(),
    });
    this.layer = trained ? 'difference' : spec.priors.length > 1 ? 'difference' : 'prior';
    const n = spec.face ? spec.face.aus.length : 0;
    this.left = new Float64Array(n);
    this.right = new Float64Array(n);
    this.side = 'both';
    this.posed = 'by hand';
    this.unknown = [];
    if (spec.face && this.selection) this.poseRow('learned', this.selection.expression);
    const first = spec.clips.findIndex(o => o.task === 'au');
    this.go(Math.max(0, first), 0, true);
    common.stores.add(this);
  }
  close() {
    this.common.stores.delete(this);
  }
  changed() {
    for (const f of this.listeners) f();
  }
  set(values) {
    const shared = Object.entries(values).filter(([k]) => SHARED.includes(k));
    Object.assign(this, values);
    if (shared.length) this.common.set(Object.fromEntries(shared));
    else this.changed();
  }
  heed(values) {
    // something shared has changed
    if ('edits' in values) this.note = '';
    if ('base' in values || 'edits' in values) this.follow();
    this.changed();
  }

  // A face that is posed by what the model says keeps saying it.
  follow() {
    const row = posedRow(this.posed);
    if (row && ['learned', 'prior'].includes(row.layer.split(':')[0])) this.poseRow(row.layer, row.expression);
    else if (this.posed === 'frame model') this.poseFrame('model');
  }

  at(base, edits) {
    return this.common.at(base, edits);
  }
  get result() {
    return this.at(this.base, this.edits);
  }
  get before() {
    return this.at(this.base, NONE);
  }
  get computedAs() {
    // tells apart what views draw
    return this.trained
      ? `${this.result.id}|${this.before.id}|${JSON.stringify(this.selection)}`
      : JSON.stringify(this.selection);
  }

  select(selection) {
    this.common.select(selection);
  }
  setEdits(edits) {
    try {
      this.common.setEdits(edits);
    } catch (e) {
      if (!(e instanceof EditError)) throw e;
      this.set({note: e.message});
    }
  }
  // A later edit of the same thing takes the place of the earlier one.
  edit(o) {
    const key = k => JSON.stringify([k.kind, k.way, k.expression, k.au]),
      one = o.expression !== undefined;
    let kept = this.edits.filter(k => key(k) !== key(o));
    if (o.kind === 'restore') {
      kept = kept.filter(k => !(k.way === o.way && k.expression === o.expression && k.au === o.au));
      return this.setEdits(
        this.edits.some(k => k.kind === 'scale' && k.expression === undefined && k.way === o.way) ? [...kept, o] : kept,
      );
    }
    if (one) kept = kept.filter(k => !(k.kind === 'restore' && key({...k, kind: o.kind}) === key(o)));
    return this.setEdits([...kept, o]);
  }
  undo() {
    this.common.undo();
  }
  redo() {
    this.common.redo();
  }
  python() {
    const hex = c => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`;
    const py = v => (typeof v === 'string' ? `'${v.replace(/['\\\p{Cc}]/gu, c => (/\p{Cc}/u.test(c) ? hex(c) : `\\${c}`))}'` : v);
    return `edited_model(model, [${this.edits
      .map(
        o =>
          `dict(${Object.entries(o)
            .map(([k, v]) => `${k}=${py(v)}`)
            .join(', ')})`,
      )
      .join(', ')}], spec)`;
  }

  // What a map view shows: values in [0, …], signed differences, or null where nobody measured.
  layers() {
    const {spec, trained} = this,
      named = spec.priors.map((p, k) => [`prior:${k}`, k ? p.name : trained ? 'prior' : p.name]);
    return trained
      ? [
          ['prior:0', 'prior'],
          ['learned', 'learned'],
          ['difference', 'difference'],
          ...(this.edits.length ? [['edited', 'what edits changed']] : []),
          ...(spec.observed ? [['observed', 'observed']] : []),
          ...(spec.truth ? [['truth', 'truth']] : []),
        ]
      : [...named, ...(spec.priors.length > 1 ? [['difference', 'difference']] : [])];
  }
  value(layer, way) {
    const {spec} = this,
      {e, a} = sizes(spec),
      w = WAYS.indexOf(way),
      flat = m => (w ? (i, j) => m[j * e + i] : (i, j) => m[i * a + j]),
      table = t => (i, j) => t[i][j];
    if (layer === 'prior') layer = 'prior:0';
    const first = this.trained ? this.result.setting.prior : spec.priors[0].matrix,
      own = (i, j) => first[i * a + j];
    if (layer === 'prior:0' && this.trained) return own;
    if (layer.startsWith('prior:')) return (i, j) => spec.priors[Number(layer.slice(6))].matrix[i * a + j];
    if (layer === 'observed') return table(spec.observed.table);
    if (layer === 'truth') return table(spec.truth.table);
    if (layer === 'difference' && !this.trained)
      return (i, j) => spec.priors[1].matrix[i * a + j] - spec.priors[0].matrix[i * a + j];
    const now = flat(this.result.maps[w]),
      then = flat(this.before.maps[w]);
    return layer === 'learned'
      ? now
      : layer === 'edited'
        ? (i, j) => now(i, j) - then(i, j)
        : (i, j) => now(i, j) - own(i, j);
  }
  signed(layer) {
    return layer === 'difference' || layer === 'edited';
  }
  edits_of({way, expression, au}) {
    return this.edits.filter(o => o.way === way && o.expression === expression && o.au === au);
  }

  // The face: a row of a prior or of the learned map, intensities at most 1; or what is said of a frame.
  pose(values, posed) {
    // values: AU number -> intensity; null: nobody knows, and the face is at rest there
    this.unknown = this.spec.labels.aus.filter(u => values[u] === null);
    this.spec.face?.aus.forEach((u, i) => {
      this.left[i] = this.right[i] = Math.min(1, Math.max(0, values[u] ?? 0));
    });
    this.posed = posed;
  }
  rowOf(layer, expression) {
    const i = this.spec.labels.expressions.indexOf(expression),
      f = this.value(layer, 'au2fe');
    return Object.fromEntries(this.spec.labels.aus.map((u, j) => [u, f(i, j)]));
  }
  poseRow(layer, expression) {
    if (layer === 'learned' && !this.trained) layer = 'prior:0';
    this.pose(this.rowOf(layer, expression), `${layer} ${expression}`);
  }
  poseFrame(what) {
    // 'model' or 'truth'
    const o = this.spec.clips[this.clip],
      {a} = sizes(this.spec),
      at = (o.first + this.frame) * a;
    this.pose(
      Object.fromEntries(
        this.spec.labels.aus.map((u, j) => [
          u,
          what === 'model' ? sigmoid(this.result.au[at + j]) : {1: 1, 0: 0, '?': null}[o.aus[this.frame][j]],
        ]),
      ),
      `frame ${what}`,
    );
  }
  go(clip, frame, quiet) {
    Object.assign(this, {clip, frame});
    if (this.posed.startsWith('frame')) {
      const labelled = this.posed.slice(6) === 'truth' && this.spec.clips[clip].aus;
      if (labelled || learned(this.spec, 'au')) this.poseFrame(labelled ? 'truth' : 'model');
      else this.pose({}, 'by hand');
    }
    if (!quiet) this.changed();
  }
}

for (const k of [...SHARED, 'cache'])
  Object.defineProperty(Store.prototype, k, {
    get() {
      return this.common[k];
    },
    set(v) {
      this.common[k] = v;
    },
  });

// 5 ── drawing ───────────────────────────────────────────────────────────────────────────────────────────────────────

const FOCUSABLE = ['button', 'select', 'input', 'textarea', 'summary'];
function h(tag, props = {}, ...children) {
  // an element; texts are texts, never HTML
  const el = document.createElement(tag);
  for (const [k, v] of Object.entries(props)) {
    if (v === undefined || v === null) continue;
    if (k.startsWith('on')) el.addEventListener(k.slice(2), v);
    else if (k === 'class') el.className = v;
    else if (k in el && !k.includes('-') && k !== 'list') el[k] = v;
    else el.setAttribute(k, v);
  }
  if (FOCUSABLE.includes(tag) || props.tabIndex !== undefined) el.setAttribute('data-lm-suppress-shortcuts', 'true');
  el.append(...children.flat().filter(c => c !== null && c !== undefined));
  return el;
}
const text = (el, s) => {
  // in the place of the text that is there: a new one would be laid out from the beginning
  const old = el.firstChild;
  if (old?.nodeType !== Node.TEXT_NODE || old.nextSibling) el.textContent = s;
  else if (old.data !== s) old.data = s;
};
const setValue = (input, v) => {
  // of a slider, only if it moves: the browser lays it out again
  if (Math.abs(Number(input.value) - v) > Number(input.step) / 2) input.value = v;
};
const num = (v, d = 2, none = 'not measured') =>
  v === null || v === undefined ? none : (v < 0 ? '−' : '') + Math.abs(v).toFixed(d);
const change = (v, d = 2) =>
  v === null || v === undefined
    ? 'not measured'
    : `${v > 5e-10 ? '▲' : v < -5e-10 ? '▼' : '='} ${Math.abs(v).toFixed(d)}`;
const auName = (spec, u) => {
  const j = spec.labels.aus.indexOf(Number(u));
  return `AU${u} ${spec.labels.au_names[j]}`;
};
const arrow = (spec, {way, expression, au}) =>
  way === 'au2fe' ? `${auName(spec, au)} → ${expression}` : `${expression} → ${auName(spec, au)}`;

function sizeCanvas(canvas, width, height) {
  // CSS pixels; sharp on any screen and at any zoom
  const k = Math.min(3, window.devicePixelRatio || 1),
    W = Math.max(1, Math.round(width * k)),
    H = Math.max(1, Math.round(height * k));
  if (canvas.width !== W || canvas.height !== H) {
    canvas.width = W;
    canvas.height = H;
    canvas.style.height = `${height}px`;
  }
  const ctx = canvas.getContext('2d');
  ctx.setTransform(k, 0, 0, k, 0, 0);
  ctx.clearRect(0, 0, width, height);
  return ctx;
}
function shade(ctx, ink, alpha, x, y, width, height) {
  ctx.fillStyle = ink;
  ctx.globalAlpha = alpha;
  ctx.fillRect(x, y, width, height);
  ctx.globalAlpha = 1;
}
function rgbOf(ink) {
  // of '#rrggbb' or '#rgb'
  const long = ink.length === 4 ? ink.replace(/[^#]/g, d => d + d) : ink;
  return [1, 3, 5].map(k => parseInt(long.slice(k, k + 2), 16));
}
// Relative luminance and contrast, as WCAG 2 defines them.
function luminance(rgb) {
  const [r, g, b] = rgb.map(v => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function contrast(p, q) {
  const [low, high] = [luminance(p), luminance(q)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}
// The first colour of words that can be read (WCAG 2 AA: 4.5) on `ink` laid over the ground; and that ground. Of black
// and white one always can. Found once for each.
const legible = new Map();
function readable(ink, alpha, c) {
  const key = `${c.ground}${c.text}${ink}${alpha}`;
  if (!legible.has(key)) legible.set(key, findReadable(ink, alpha, c));
  return legible.get(key);
}
function findReadable(ink, alpha, c) {
  const over = rgbOf(ink),
    mixed = rgbOf(c.ground).map((v, k) => Math.round(v * (1 - alpha) + over[k] * alpha));
  const words = [c.text, c.on, '#000', '#fff'].find(k => contrast(rgbOf(k), mixed) >= 4.5);
  return [words, `rgb(${mixed})`];
}
function hatch(ctx, x, y, w, hh, ink) {
  ctx.save();
  ctx.beginPath();
  ctx.rect(x, y, w, hh);
  ctx.clip();
  ctx.strokeStyle = ink;
  ctx.globalAlpha = 0.35;
  ctx.lineWidth = 1;
  ctx.beginPath();
  for (let s = -hh; s < w; s += 6) {
    ctx.moveTo(x + s, y + hh);
    ctx.lineTo(x + s + hh, y);
  }
  ctx.stroke();
  ctx.restore();
}

export function isDark(el) {
  const root = el.ownerDocument.documentElement,
    body = el.ownerDocument.body;
  const lab = body.dataset.jpThemeLight ?? root.dataset.jpThemeLight;
  if (lab !== undefined) return lab === 'false'; // JupyterLab, Notebook
  if (root.getAttribute('theme')) return root.getAttribute('theme') === 'dark'; // Colab
  if (/\bvscode-(dark|high-contrast(?!-light))\b/.test(body.className)) return true;
  if (/\bvscode-/.test(body.className)) return false;
  const scheme = getComputedStyle(el.parentElement ?? el).colorScheme;
  return scheme === 'dark' || (scheme !== 'light' && matchMedia('(prefers-color-scheme: dark)').matches);
}

const CSS = `
.sx {
  --ground:#fff; --card:#f5f7f9; --text:#1b1f24; --soft:#57606a; --line:#d3d9e0; --ink:#1662b8; --up:#a34700;
  --down:#1a5fb4; --focus:#0a58ca; --on:#fff; container-type: inline-size; background: var(--ground); color: var(--text);
  font: 14px/1.45 system-ui, sans-serif; text-align: left; color-scheme: light }
.sx[data-dark=true] {
  --ground:#14171b; --card:#1d2229; --text:#e8eaed; --soft:#a6b0bb; --line:#39414b; --ink:#7db7ff; --up:#ffb347;
  --down:#8fbdf5; --focus:#9ecbff; --on:#10151b; color-scheme: dark }
.sx *, .sx *::before { box-sizing: border-box }
.sx [hidden] { display: none !important }
.sx-head { padding: 12px 14px 6px }
.sx h2 { font-size: 19px; line-height: 1.25; margin: 0 0 4px; color: var(--text) }
.sx h3 { font-size: 15px; margin: 0 0 6px; color: var(--text) }
.sx p { margin: 0 0 6px }
.sx-story { font-size: 15px; max-width: 62em }
.sx-soft { color: var(--soft); font-size: 13px }
.sx-grid { display: grid; gap: 12px; padding: 6px 14px 14px }
.sx-card {
  contain: layout style; /* laid out by itself, which is quick */
  background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px; min-width: 0 }
@container (min-width: 820px) {
  .sx-grid { grid-template-columns: minmax(0,1.75fr) minmax(270px,1fr) }
  .sx-wide { grid-column: 1 / -1 }
  .sx-face { grid-column: 2; grid-row: 1 / span 2 }
  .sx-drawer dl, .sx-honest dl { grid-template-columns: max-content 1fr }
  .sx-drawer dt { max-width: 16em }
}
.sx-bar { display: flex; flex-wrap: wrap; gap: 6px 10px; align-items: center; margin-bottom: 8px }
.sx-ends { justify-content: space-between }
.sx button, .sx select, .sx textarea {
  font: inherit; color: var(--text); background: var(--ground); border: 1px solid var(--line); border-radius: 6px;
  padding: 3px 9px; min-height: 28px }
.sx button { cursor: pointer }
.sx button:disabled { opacity: .55; cursor: default }
.sx button[aria-pressed=true] { background: var(--ink); color: var(--on); border-color: var(--ink) }
.sx-seg { display: inline-flex; flex-wrap: wrap }
.sx-seg button { border-radius: 0; margin-left: -1px }
.sx-seg button:first-child { border-radius: 6px 0 0 6px; margin: 0 }
.sx-seg button:last-child { border-radius: 0 6px 6px 0 }
.sx :focus-visible { outline: 3px solid var(--focus); outline-offset: 1px }
.sx label { display: inline-flex; gap: 6px; align-items: center }
.sx label > span { white-space: nowrap }
.sx input[type=range] { accent-color: var(--ink); min-width: 60px }
.sx-badge {
  display: inline-block; border: 1px solid var(--line); border-radius: 10px; padding: 0 8px; margin: 0 6px 4px 0;
  font-size: 12px; color: var(--soft); background: var(--card) }
.sx-badge.sx-loud { color: var(--on); background: var(--up); border-color: var(--up); font-weight: 600 }
.sx-map { display: grid; grid-template-columns: max-content minmax(0,1fr) }
.sx-cols { display: grid; grid-column: 2 }
.sx-rows { display: grid }
.sx-stage { position: relative; min-width: 0 }
.sx canvas { display: block; width: 100% }
.sx-map button.sx-lab {
  border: 0; background: none; padding: 0 5px 0 0; min-height: 24px; text-align: right; color: var(--soft); font-size: 13px;
  overflow: hidden; white-space: nowrap }
.sx-cols button.sx-lab { text-align: center; padding: 0 }
.sx-cols button.sx-lab { text-overflow: ellipsis }
.sx-narrow .sx-long { display: none }
.sx-narrow .sx-short { display: inline }
.sx-map .sx-narrow button.sx-lab { writing-mode: vertical-rl; min-height: 30px; font-size: 11px; line-height: 1; overflow: visible }
.sx-narrow .sx-between:not(.sx-on) span { visibility: hidden }
.sx-map button.sx-lab.sx-on { color: var(--text); font-weight: 700 }
.sx .sx-cursor {
  position: absolute; background: none; border: 2px solid var(--text); border-radius: 4px; padding: 0; min-height: 0 }
.sx-tip {
  position: absolute; z-index: 3; pointer-events: none; background: var(--text); color: var(--ground); font-size: 12px;
  padding: 3px 7px; border-radius: 5px; max-width: min(260px, 100%); width: max-content }
.sx-graph { display: grid; grid-template-columns: max-content minmax(60px,1fr) max-content }
.sx-graph .sx-right button.sx-lab { text-align: left; padding: 0 0 0 5px }
.sx-short { display: none }
@container (max-width: 560px) {
  .sx-long { display: none }
  .sx-short { display: inline }
  .sx-map button.sx-lab { font-size: 12px }
  .sx-head, .sx-grid { padding-left: 8px; padding-right: 8px }
  .sx-card { padding: 8px }
}
.sx-face { display: grid; gap: 8px; justify-items: center; align-content: start }
.sx-face canvas { width: min(100%, 320px); aspect-ratio: 1; border-radius: 8px; touch-action: none; cursor: grab }
.sx-face > * { max-width: 100% }
.sx-sliders { width: 100%; display: grid; gap: 1px }
.sx-sliders label { display: grid; grid-template-columns: minmax(0,1fr) 88px 38px; font-size: 13px; min-height: 24px }
.sx-sliders span:first-child { overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.sx-sliders input { width: 100%; min-width: 0 }
.sx-dict button { text-align: left; width: 100%; margin-bottom: 3px }
.sx-drawer dl, .sx-honest dl { display: grid; gap: 2px 12px; margin: 0 0 8px }
.sx.sx dt { float: none; width: auto; margin: 0; padding: 0; font-weight: 400; color: var(--soft) } /* twice: over a lab's own */
.sx.sx dd { float: none; width: auto; margin: 0 0 4px; padding: 0; overflow-wrap: anywhere }
.sx-pics { display: flex; flex-wrap: wrap; gap: 8px; margin: 6px 0 8px }
.sx-pics button { display: flex; gap: 8px; align-items: center; text-align: left; padding: 4px 8px }
.sx-pics canvas { width: 48px; height: 48px; border-radius: 4px; flex: none }
.sx-tracks { display: grid; gap: 10px }
@container (min-width: 820px) {
  .sx-tracks { grid-template-columns: minmax(0,1.7fr) minmax(0,1fr) }
}
.sx-row { display: grid; grid-template-columns: max-content minmax(0,1fr) }
.sx-lane { position: relative; min-width: 0 }
.sx-now { position: absolute; width: 2px; margin-left: -1px; background: var(--text); pointer-events: none }
.sx-names { font-size: 12px; color: var(--soft); text-align: right; padding-right: 6px }
.sx table { border-collapse: collapse; width: 100%; font-size: 13px; background: none }
.sx table + h3 { margin-top: 10px }
.sx th, .sx td { text-align: left; padding: 1px 6px 1px 0; border: 0; background: none; color: var(--text) }
.sx td.sx-n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.sx .sx-fill { position: relative; width: 45% }
.sx-fill i { position: absolute; top: 4px; bottom: 4px; background: var(--ink); border-radius: 2px }
.sx-fill i.sx-was { background: none; border: 1px solid var(--soft); top: 1px; bottom: 1px }
.sx-fill i.sx-neg { background: var(--down) }
.sx-fill i.sx-pos { background: var(--up) }
.sx textarea {
  width: 100%; resize: vertical; font: 12px/1.4 ui-monospace, monospace; min-height: 44px; max-height: 180px;
  field-sizing: content }
.sx details > summary { cursor: pointer; color: var(--text); min-height: 24px }
.sx kbd {
  border: 1px solid var(--line); border-radius: 4px; padding: 0 4px; background: var(--ground); color: var(--text);
  font-size: 12px; box-shadow: none }
.sx-say { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
.sx-note { color: var(--up); font-weight: 600 }
.sx-error { padding: 12px; border: 2px solid var(--up); border-radius: 8px }
`;

function segmented(name, get, set, options) {
  // buttons of which one is pressed
  const el = h('span', {class: 'sx-seg', role: 'group', 'aria-label': name});
  return {
    el,
    update() {
      const now = options();
      if (el.dataset.keys !== now.map(o => o[0]).join()) {
        el.dataset.keys = now.map(o => o[0]).join();
        el.replaceChildren(
          ...now.map(([k, label]) => h('button', {type: 'button', value: k, onclick: () => set(k)}, label)),
        );
      }
      for (const b of el.children) b.setAttribute('aria-pressed', String(b.value === get()));
    },
  };
}

// 6 ── the views ─────────────────────────────────────────────────────────────────────────────────────────────────────
// Each is a function of the store and a context (colours, requests to redraw) that returns an element, how to draw its
// canvases and how to update the rest.

// Where a map has what: cells of a matrix, or edges of a graph. w is 0 for AUs → expressions and 1 for the other way.
function mapBox(w, graph, width, {e, a}) {
  const [nr, nc] = w ? [a, e] : [e, a],
    rh = w ? 27 : 36,
    cw = width / nc,
    height = graph ? Math.max(e, a) * 30 : nr * rh;
  return {
    w,
    graph,
    width,
    height,
    cw,
    rh,
    ye: i => ((i + 0.5) * height) / e, // middle of an expression, in the graph
    ya: j => ((j + 0.5) * height) / a, // middle of an AU
    cell: (i, j) => (w ? [i * cw, j * rh] : [j * cw, i * rh]), // a corner, in the matrix
  };
}

// The cell or the edge at a point, or null. An edge is hit within 14 pixels, a strong one a little further.
function hitMap(box, x, y, {e, a}, value) {
  if (!box.graph) {
    const c = Math.floor(x / box.cw),
      k = Math.floor(y / box.rh),
      [i, j] = box.w ? [c, k] : [k, c];
    return i >= 0 && j >= 0 && i < e && j < a ? {i, j, x, y} : null;
  }
  const t = x / box.width,
    s = t * t * (3 - 2 * t); // how far the curves have come from left to right
  let best = null;
  for (let i = 0; i < e; i++)
    for (let j = 0; j < a; j++) {
      const d = Math.abs(box.ye(i) * (1 - s) + box.ya(j) * s - y) - 4 * Math.abs(value(i, j) ?? 0);
      if (!best || d < best.d) best = {i, j, d, x, y};
    }
  return best.d < 14 ? best : null;
}

// What a cell says: ? where nothing was measured, nothing where there is next to nothing; without room one digit, or the sign.
function cellWord(v, signed, small) {
  if (v === null) return '?';
  if (Math.abs(v) < 0.005) return '';
  const digits = n => Math.abs(v).toFixed(n).replace(/^0/, '');
  if (signed) return (v > 0 ? '▲' : '▼') + (small ? '' : digits(2));
  return digits(small ? 1 : 2);
}

// An edited edge: a frame, and a cross if it is gone.
function markEdited(ctx, x, y, w, hh, edits, c) {
  if (!edits.length) return;
  ctx.strokeStyle = c.text;
  ctx.lineWidth = 1.5;
  ctx.setLineDash([4, 3]);
  ctx.strokeRect(x + 2, y + 2, w - 4, hh - 4);
  ctx.setLineDash([]);
  if (!edits.some(o => o.kind === 'cut' || o.factor === 0)) return;
  ctx.beginPath();
  ctx.moveTo(x + 4, y + 4);
  ctx.lineTo(x + w - 4, y + hh - 4);
  ctx.moveTo(x + w - 4, y + 4);
  ctx.lineTo(x + 4, y + hh - 4);
  ctx.stroke();
}

// Cells are {i, j, v, strong, fixed, edits}: a value or null, its share of the strongest, and what was done to it.
function drawMatrix(ctx, box, cells, signed, c) {
  const {cw, rh} = box,
    small = cw < 40;
  ctx.font = `${Math.min(small ? 11 : 12.5, cw)}px system-ui, sans-serif`;
  ctx.textAlign = 'center';
  ctx.textBaseline = 'middle';
  const ink = v => (signed ? (v > 0 ? c.up : c.down) : c.ink),
    shadeOf = ({v, strong}) => (strong > 0.01 && Math.abs(v) >= 0.005 ? Math.round(8 + 87 * strong) / 100 : 0),
    inner = ({i, j}) => {
      const [x, y] = box.cell(i, j);
      return [x + 1, y + 1, cw - 2, rh - 2];
    };
  // one colour after the other: a change of colours costs more than a rectangle
  ctx.fillStyle = c.ground;
  for (const o of cells) ctx.fillRect(...inner(o));
  for (const o of cells) if (shadeOf(o)) shade(ctx, ink(o.v), shadeOf(o), ...inner(o));
  for (const o of cells) {
    if (o.v === null || o.fixed) hatch(ctx, ...inner(o), c.soft);
    markEdited(ctx, ...inner(o), o.edits, c);
  }
  for (const o of cells) {
    const said = cellWord(o.v, signed, small);
    if (!said) continue;
    const [x, y] = box.cell(o.i, o.j),
      [text, ground] = readable(ink(o.v), shadeOf(o), c);
    if (o.edits.length) {
      ctx.strokeStyle = ground; // the word stands before the cross
      ctx.lineWidth = 7;
      ctx.lineJoin = 'round';
      ctx.strokeText(said, x + cw / 2, y + rh / 2);
    }
    ctx.fillStyle = text;
    ctx.fillText(said, x + cw / 2, y + rh / 2);
  }
}

// Edges are as wide as strong; a decrease is dashed; what is chosen or under the pointer stands out.
function drawGraph(ctx, box, cells, signed, c, {chosen, pointed}) {
  for (const o of cells.sort((p, q) => Math.abs(p.v ?? 0) - Math.abs(q.v ?? 0))) {
    const lit = chosen(o) || pointed(o);
    if (o.strong < 0.04 && !chosen(o) && !o.edits.length) continue;
    ctx.strokeStyle = lit ? c.text : signed ? (o.v > 0 ? c.up : c.down) : c.ink;
    ctx.globalAlpha = lit ? 1 : 0.25 + 0.6 * o.strong;
    ctx.lineWidth = 1 + 7 * o.strong;
    ctx.setLineDash(signed && o.v < 0 ? [7, 4] : o.edits.length ? [2, 3] : []);
    const y0 = box.ye(o.i),
      y1 = box.ya(o.j),
      m = box.width / 2;
    ctx.beginPath();
    ctx.moveTo(0, y0);
    ctx.bezierCurveTo(m, y0, m, y1, box.width, y1);
    ctx.stroke();
  }
  ctx.setLineDash([]);
  ctx.globalAlpha = 1;
}

// The line below a map: what the shown layer is, and what its signs mean.
function mapLegend(store, layer, signed) {
  const {spec} = store;
  const what = {
    learned: 'The map after training, and after your edits.',
    difference: store.trained ? '▲ above the prior, ▼ below it.' : `▲ more in ${spec.priors[1]?.name}, ▼ less.`,
    edited: '▲ more than the trained map, ▼ less.',
    observed: spec.observed?.source,
    truth: spec.truth?.source,
  };
  const source = what[layer] ?? spec.priors[Number(layer.slice(6)) || 0]?.sources.slice(-1)[0] ?? '';
  const gaps = ['observed', 'truth'].includes(layer) ? '. ? = not measured.' : '';
  const dashed = store.form === 'graph' && signed ? ' Dashed: less.' : '';
  const fixed =
    store.trained && spec.labels.neutral !== null ? ' Hatched: neutral is kept at the prior by the method.' : '';
  return (store.held ? 'While the key is held: the prior.' : source + gaps) + dashed + fixed;
}

// Labels of rows and columns are buttons: an expression poses the face by its row, an AU by itself.
function mapLabels(store) {
  const {spec} = store;
  const button = (key, n, name, onclick, long, short) =>
    h(
      'button',
      {type: 'button', class: 'sx-lab', [key]: n, title: name, onclick},
      h('span', {class: 'sx-long'}, long),
      h('span', {class: 'sx-short'}, short),
    );
  return {
    expression(i, letters) {
      const name = spec.labels.expressions[i];
      const pose = () => {
        store.poseRow('learned', name);
        store.select({...store.selection, expression: name});
        store.changed();
      };
      return button('data-i', i, name, pose, name, name.slice(0, letters));
    },
    au(j, named) {
      const u = spec.labels.aus[j];
      const pose = () => {
        store.pose({[u]: 1}, `AU${u}`);
        store.select({...store.selection, au: u});
        store.changed();
      };
      const name = auName(spec, u),
        el = button('data-j', j, name, pose, named ? name : `AU${u}`, named ? `AU${u}` : String(u));
      el.setAttribute('aria-label', name);
      return el;
    },
  };
}

function mapView(store, ui) {
  const {spec} = store,
    {e, a} = sizes(spec),
    canvas = h('canvas', {'aria-hidden': 'true'}),
    tip = h('div', {class: 'sx-tip', hidden: true});
  const cursor = h('button', {type: 'button', class: 'sx-cursor', 'aria-describedby': ui.id('keys')}),
    stage = h('div', {class: 'sx-stage'}, canvas, cursor, tip);
  const cols = h('div', {class: 'sx-cols'}),
    rows = h('div', {class: 'sx-rows'}),
    right = h('div', {class: 'sx-rows sx-right'}),
    map = h('div', {class: 'sx-map'}),
    legend = h('p', {class: 'sx-soft'});
  const way = segmented(
    'direction',
    () => store.selection.way,
    k => store.select({...store.selection, way: k}),
    () => [
      ['au2fe', 'AUs → expressions'],
      ['fe2au', 'expressions → AUs'],
    ],
  );
  const layer = segmented(
    'what is shown',
    () => store.layer,
    k => store.set({layer: k}),
    () => store.layers(),
  );
  const form = segmented(
    'form',
    () => store.form,
    k => store.set({form: k}),
    () => [
      ['matrix', 'matrix'],
      ['graph', 'graph'],
    ],
  );
  const el = h(
    'section',
    {class: 'sx-card', 'aria-label': 'Map'},
    store.trained ? h('div', {class: 'sx-bar sx-ends'}, way.el, form.el) : null,
    h('div', {class: 'sx-bar sx-ends'}, layer.el, store.trained ? null : form.el),
    map,
    legend,
  );
  const labels = mapLabels(store);
  let built = '',
    marked = '', // which names of rows and columns stand out
    box = null,
    hover = null;

  const wayNumber = () => WAYS.indexOf(store.selection.way);
  const at = o => ({way: store.selection.way, expression: spec.labels.expressions[o.i], au: spec.labels.aus[o.j]});
  const many = (n, f) => Array.from({length: n}, (_, k) => f(k));

  function build(w) {
    // labels of rows and columns, if they are not there yet
    const graph = store.form === 'graph',
      key = `${graph}${w}`;
    if (key === built) return;
    built = key;
    marked = '';
    map.className = graph ? 'sx-map sx-graph' : 'sx-map';
    if (graph) {
      rows.replaceChildren(...many(e, i => labels.expression(i, 9)));
      right.replaceChildren(...many(a, j => labels.au(j, true)));
      map.replaceChildren(rows, stage, right);
      return;
    }
    rows.replaceChildren(...many(w ? a : e, k => (w ? labels.au(k, true) : labels.expression(k, 9))));
    cols.replaceChildren(...many(w ? e : a, k => (w ? labels.expression(k, 4) : labels.au(k, false))));
    cols.style.gridTemplateColumns = `repeat(${w ? e : a}, minmax(0, 1fr))`;
    map.replaceChildren(h('span'), cols, rows, stage);
  }

  // All cells of the shown layer, and what they are drawn with.
  function cellsOf(layerNow) {
    const value = store.value(layerNow, store.selection.way),
      cells = [];
    for (let i = 0; i < e; i++)
      for (let j = 0; j < a; j++)
        cells.push({i, j, v: value(i, j), fixed: fixed(i), edits: store.edits_of(at({i, j}))});
    // prior and learned share their scale, so that switching between them shows what grew
    const compared =
      layerNow === 'learned' || layerNow.startsWith('prior') ? ['prior', ...(store.trained ? ['learned'] : [])] : null;
    const shown = compared ? compared.map(k => store.value(k, store.selection.way)) : [value];
    const top = Math.max(1e-9, ...shown.flatMap(f => cells.map(o => Math.abs(f(o.i, o.j) ?? 0))));
    for (const o of cells) o.strong = Math.min(1, Math.abs(o.v ?? 0) / top);
    return cells;
  }
  const fixed = i => i === spec.labels.neutral && store.trained;

  function fitColumns() {
    // names of narrow columns stand upright, as many as there is room for
    cols.classList.toggle('sx-narrow', box.cw < 20);
    const every = Math.ceil(12 / box.cw);
    Array.from(cols.children).forEach((b, k) => b.classList.toggle('sx-between', k % every > 0));
  }

  function markLabels(i, j) {
    // the names of the chosen row and column
    const key = `${i} ${j}`;
    if (key === marked) return;
    marked = key;
    for (const b of map.querySelectorAll('.sx-lab'))
      b.classList.toggle('sx-on', b.dataset.i !== undefined ? Number(b.dataset.i) === i : Number(b.dataset.j) === j);
  }

  const shownLayer = () => (store.held ? 'prior' : store.layer);
  function draw() {
    const layerNow = shownLayer(),
      signed = store.signed(layerNow),
      c = ui.colours();
    box = mapBox(wayNumber(), store.form === 'graph', Math.max(120, ui.width(stage)), {e, a});
    fitColumns();
    const ctx = sizeCanvas(canvas, box.width, box.height),
      cells = cellsOf(layerNow);
    if (box.graph)
      drawGraph(ctx, box, cells, signed, c, {
        chosen: o =>
          spec.labels.expressions[o.i] === store.selection.expression && spec.labels.aus[o.j] === store.selection.au,
        pointed: o => hover !== null && hover.i === o.i && hover.j === o.j,
      });
    else drawMatrix(ctx, box, cells, signed, c);
  }

  function hit(ev) {
    const r = canvas.getBoundingClientRect(),
      value = store.value(store.layer, store.selection.way);
    return hitMap(box, ev.clientX - r.left, ev.clientY - r.top, {e, a}, value);
  }
  const words = (s, layers = ['prior', ...(store.trained ? ['learned'] : [])]) => {
    const {i, j} = cellOf(spec, s);
    return layers.map(k => `${k} ${num(store.value(k, s.way)(i, j))}`).join(', ');
  };
  function point(o) {
    hover = o;
    tip.hidden = !o;
    if (o) {
      text(tip, `${arrow(spec, at(o))}: ${words(at(o))}`);
      tip.style.left = `${o.x}px`; // below the pointer, and moved so far to the left that it stays within the map
      tip.style.transform = `translateX(-${(100 * o.x) / box.width}%)`;
      tip.style.top = `${o.y + 16}px`;
    }
    if (box?.graph) draw();
  }
  stage.addEventListener('pointermove', ev => point(hit(ev)));
  stage.addEventListener('pointerleave', () => point(null));
  stage.addEventListener('click', ev => {
    const o = ev.detail ? hit(ev) : null;
    if (o) {
      store.select(at(o));
      cursor.focus({preventScroll: true});
    }
  });

  function move(di, dj) {
    const {i, j} = cellOf(spec, store.selection);
    store.select(at({i: (i + di + e) % e, j: (j + dj + a) % a}));
  }
  cursor.addEventListener('keydown', ev => {
    const turned = wayNumber() && store.form !== 'graph', // AUs are the rows
      vertical = turned ? [0, 1] : [1, 0],
      across = turned ? [1, 0] : [0, 1],
      keys = {ArrowDown: vertical, ArrowUp: vertical.map(v => -v), ArrowRight: across, ArrowLeft: across.map(v => -v)};
    if (ev.ctrlKey || ev.metaKey || ev.altKey) return;
    if (keys[ev.key]) {
      ev.preventDefault();
      move(...keys[ev.key]);
    } else if (store.trained && (ev.key === 'Delete' || ev.key === 'Backspace')) {
      ev.preventDefault();
      store.edit({kind: ev.shiftKey ? 'cut' : 'reweight', ...store.selection, ...(ev.shiftKey ? {} : {factor: 0})});
    } else if (store.trained && ev.key === 'r') store.edit({kind: 'restore', ...store.selection});
    else if (ev.key === 'Enter' || ev.key === ' ') {
      ev.preventDefault();
      ui.inspect();
    }
  });

  // The cursor lies over the chosen cell, and says in words what the cell shows.
  function placeCursor(i, j, signed, layerNow) {
    const [x, y] = box.graph ? [box.width / 2 - 12, (box.ye(i) + box.ya(j)) / 2 - 12] : box.cell(i, j);
    Object.assign(cursor.style, {
      left: `${x}px`,
      top: `${y}px`,
      width: `${box.graph ? 24 : box.cw}px`,
      height: `${box.graph ? 24 : box.rh}px`,
    });
    const kinds = store.edits_of(store.selection).map(o => o.kind);
    cursor.setAttribute(
      'aria-label',
      `${arrow(spec, store.selection)}: ${words(store.selection)}` +
        (signed ? `, ${layerNow} ${change(store.value(layerNow, store.selection.way)(i, j))}` : '') +
        (fixed(i) ? ', kept fixed by the method' : '') +
        (kinds.length ? `, edited: ${kinds.join(', ')}` : ''),
    );
  }

  return {
    el,
    key: () => `${store.computedAs}|${store.layer}|${store.form}|${store.held}`,
    focus: () => cursor.focus(),
    draw() {
      const shown = store.layers().map(([k]) => k);
      if (!shown.includes(store.layer)) store.layer = shown.includes('difference') ? 'difference' : shown[0];
      build(wayNumber());
      draw();
    },
    update() {
      const {i, j} = cellOf(spec, store.selection),
        layerNow = shownLayer(),
        signed = store.signed(layerNow);
      for (const o of [way, layer, form]) o.update();
      rows.style.gridTemplateRows = `repeat(${rows.children.length}, ${box.height / rows.children.length}px)`;
      if (box.graph) right.style.gridTemplateRows = `repeat(${a}, ${box.height / a}px)`;
      markLabels(i, j);
      placeCursor(i, j, signed, layerNow);
      text(legend, mapLegend(store, layerNow, signed));
    },
  };
}

function posedBy({spec, posed, unknown}) {
  const row = posedRow(posed);
  const blank = unknown.length ? `Not measured, so at rest: ${unknown.map(u => `AU${u}`).join(', ')}. ` : '';
  if (!row) return posed.startsWith('frame') ? `Posed by the frame below. ${blank}` : '';
  const names = {learned: 'the learned map', truth: 'the truth', observed: 'what was observed'};
  const source = names[row.layer] ?? `the prior ${spec.priors[Number(row.layer.slice(6)) || 0].name}`;
  return `Posed by the row ${row.expression} of ${source}. ${blank}`;
}

// A menu of poses: the rows of each map, and what a clip shows. `update` chooses the entry that says how the face is posed.
function poseMenu(store) {
  const {spec} = store;
  const el = h('select', {
    'aria-label': 'Pose the face',
    onchange: () => {
      const [kind, layer, name] = JSON.parse(el.value);
      if (kind === 'row') store.poseRow(layer, name);
      else if (kind === 'frame') store.poseFrame(layer);
      store.changed();
    },
  });
  const option = (value, label) => h('option', {value: JSON.stringify(value)}, label);
  const rows = (layer, label) =>
    h(
      'optgroup',
      {label},
      spec.labels.expressions.map(x => option(['row', layer, x], x)),
    );
  const hand = option(['hand'], 'by hand');
  const labelled = option(['frame', 'truth'], 'as it is labelled'); // where it is
  el.append(hand);
  if (spec.labels.expressions.length) {
    if (store.trained) el.append(rows('learned', 'Learned map'));
    el.append(...spec.priors.map((p, k) => rows(`prior:${k}`, `Prior: ${p.name}`)));
    if (spec.truth) el.append(rows('truth', 'Truth'));
    if (spec.observed) el.append(rows('observed', 'Observed'));
  }
  if (spec.clips.length) {
    const frame = h('optgroup', {label: 'The frame below'});
    if (learned(spec, 'au')) frame.append(option(['frame', 'model'], 'as the model sees it'));
    if (spec.clips.some(o => o.aus)) frame.append(labelled);
    el.append(frame);
  }
  const values = new Set(Array.from(el.options, o => o.value));
  function entry() {
    const row = posedRow(store.posed);
    if (row) return ['row', row.layer === 'prior' ? 'prior:0' : row.layer, row.expression];
    return store.posed.startsWith('frame') ? ['frame', store.posed.slice(6)] : ['hand'];
  }
  return {
    el,
    update() {
      const value = JSON.stringify(entry());
      labelled.disabled = !spec.clips[store.clip]?.aus;
      el.value = values.has(value) ? value : hand.value;
    },
  };
}

const auTitle = (face, i) => `AU${face.aus[i]} ${face.au_names[i]}: ${face.muscles[i]}`;

// A slider for each AU of the face; those that the model knows come first.
function auSliders(store) {
  const {spec} = store,
    {face} = spec,
    known = i => spec.labels.aus.includes(face.aus[i]),
    order = [...face.aus.keys()].sort((p, q) => (store.trained ? known(q) - known(p) : 0));
  const el = h('div', {class: 'sx-sliders', role: 'group', 'aria-label': 'Intensity of each action unit'});
  function setAU(i, v) {
    if (store.side !== 'right') store.left[i] = v;
    if (store.side !== 'left') store.right[i] = v;
    store.posed = 'by hand';
    store.changed();
  }
  const rows = order.map(i => {
    const title = auTitle(face, i),
      input = h('input', {
        type: 'range',
        min: 0,
        max: 1,
        step: 0.01,
        'aria-label': title,
        oninput: () => setAU(i, Number(input.value)),
      }),
      out = h('span', {class: 'sx-soft'});
    el.append(h('label', {title}, h('span', {}, `AU${face.aus[i]} ${face.au_names[i]}`), input, out));
    return {i, input, out};
  });
  return {
    el,
    update(left, right) {
      for (const {i, input, out} of rows) {
        const v = store.side === 'right' ? right[i] : store.side === 'left' ? left[i] : Math.max(left[i], right[i]);
        setValue(input, v);
        text(out, left[i] === right[i] ? `${Math.round(100 * v)}%` : 'L≠R');
      }
    },
  };
}

// A button for each AU, which shows it alone.
function auDictionary(store) {
  const {face} = store.spec;
  const buttons = face.aus.map((u, i) => {
    const show = () => {
      store.pose({[u]: 1}, `AU${u}`);
      store.changed();
    };
    const title = auTitle(face, i);
    return h('button', {type: 'button', 'data-u': u, title, onclick: show}, `AU${u} ${face.au_names[i]}`);
  });
  return {
    el: h('div', {class: 'sx-sliders sx-dict', role: 'group', 'aria-label': 'Action units'}, ...buttons),
    update() {
      for (const b of buttons) b.setAttribute('aria-pressed', String(store.posed === `AU${b.dataset.u}`));
    },
  };
}

// Dragging on a canvas turns a head: {yaw, pitch} in radians.
function turnedBy(canvas, changed) {
  const turn = {yaw: 0, pitch: 0};
  let drag = null;
  canvas.addEventListener('pointerdown', ev => {
    drag = [ev.clientX, ev.clientY, turn.yaw, turn.pitch];
    canvas.setPointerCapture(ev.pointerId);
  });
  canvas.addEventListener('pointermove', ev => {
    if (!drag) return;
    turn.yaw = Math.max(-1, Math.min(1, drag[2] + (ev.clientX - drag[0]) / 160));
    turn.pitch = Math.max(-0.6, Math.min(0.6, drag[3] + (ev.clientY - drag[1]) / 160));
    changed();
  });
  canvas.addEventListener('pointerup', () => {
    drag = null;
  });
  return turn;
}

function faceView(store, ui, drawer) {
  const {face} = store.spec,
    dictionary = !store.spec.priors.length,
    canvas = h('canvas', {width: FACE, height: FACE, role: 'img'}),
    ctx = canvas.getContext('2d', {willReadFrequently: true}), // kept where it is written
    picture = new ImageData(drawer.resize(FACE), FACE, FACE),
    words = h('p', {class: 'sx-soft', 'aria-live': 'off'}),
    turn = turnedBy(canvas, () => ui.redraw()),
    list = dictionary ? auDictionary(store) : auSliders(store),
    menu = dictionary ? null : poseMenu(store);
  const side = segmented(
    'side',
    () => store.side,
    k => store.set({side: k}),
    () => [
      ['both', 'both sides'],
      ['left', 'left'],
      ['right', 'right'],
    ],
  );
  const relax = () => {
    turn.yaw = turn.pitch = 0;
    store.pose({}, 'by hand');
    store.changed();
  };
  const ask = ui.link?.ask
      ? h('button', {type: 'button', class: 'sx-ask', onclick: () => ui.ask()}, 'Ask the model')
      : null,
    answer = h('p', {class: 'sx-soft', role: 'status'});
  const el = h(
    'section',
    {class: 'sx-card sx-face', 'aria-label': 'Face'},
    h('h3', {}, 'Face'),
    canvas,
    words,
    menu ? h('label', {}, 'Pose', menu.el) : null,
    h(
      'div',
      {class: 'sx-bar'},
      dictionary ? null : side.el,
      h('button', {type: 'button', onclick: relax}, 'Reset'),
      ask,
    ),
    list.el,
    answer,
  );

  // Left and right intensities that are shown: those of the store, or, while the key is held, the prior's row.
  function shown() {
    if (!store.held || !store.selection) return [store.left, store.right];
    const row = store.rowOf('prior', store.selection.expression),
      both = Float64Array.from(face.aus, u => Math.min(1, row[u] ?? 0));
    return [both, both];
  }
  let drawn = '';
  function draw(left, right) {
    const {yaw, pitch} = turn,
      key = `${[...left]}|${[...right]}|${yaw}|${pitch}`;
    if (key === drawn) return;
    drawn = key;
    drawer.pose(left, right);
    drawer.draw(FACE, yaw, pitch);
    ctx.putImageData(picture, 0, 0);
  }
  function tellPose(left, right) {
    const said = faceWords(face, left, right),
      one = dictionary ? face.aus.findIndex(u => store.posed === `AU${u}`) : -1;
    text(words, posedBy(store) + said + (one < 0 ? '' : ` Muscle: ${face.muscles[one]}.`));
    canvas.setAttribute('aria-label', said);
  }
  return {
    el,
    answer,
    key: () =>
      [
        store.selection?.expression,
        [...store.left, ...store.right],
        turn.yaw,
        turn.pitch,
        store.held,
        store.side,
        store.posed,
        store.clip,
      ].join('|'),
    update() {
      const [left, right] = shown();
      draw(left, right);
      tellPose(left, right);
      list.update(left, right);
      if (dictionary) return;
      menu.update();
      side.update();
    },
  };
}

// A slider with its number beside it. `set` is what a drag does; `show` is what an update says.
function numberSlider(label, max, step, name, set) {
  const out = h('span'),
    input = h('input', {
      type: 'range',
      min: 0,
      max,
      step,
      'aria-label': name,
      oninput: () => set(Number(input.value)),
    });
  return {
    el: h('label', {}, label, input, out),
    show(value, words) {
      setValue(input, value);
      text(out, words);
    },
  };
}

const CURVES = [
  {name: 'UAR', of: k => k.uar, ink: 'ink', dash: []},
  {name: 'AU F1', of: k => k.au_f1, ink: 'up', dash: [6, 3]},
  {name: 'gate AUs → expressions', of: k => sigmoid(k.alpha), ink: 'text', dash: [2, 2]},
  {name: 'gate expressions → AUs', of: k => sigmoid(k.beta), ink: 'soft', dash: [1, 4]},
];

function stroke(ctx, ...points) {
  ctx.beginPath();
  points.forEach(([x, y], i) => ctx[i ? 'lineTo' : 'moveTo'](x, y));
  ctx.stroke();
}

const CURVE = 84; // pixels of the curves' height

// Where the curves of the epochs stand, and their legend: beside them, or below.
function epochBox(width, n) {
  const wide = width > 500,
    right = wide ? 190 : 0;
  return {
    wide,
    right,
    x: i => 12 + (n > 1 ? i / (n - 1) : 0.5) * (width - right - 24),
    y: v => CURVE - 10 - v * (CURVE - 20),
  };
}

// Scores and gates over the epochs, with lines at 0, ½ and 1.
function drawEpochs(canvas, width, epochs, c) {
  const {wide, right, x, y} = epochBox(width, epochs.length),
    ctx = sizeCanvas(canvas, width, CURVE + (wide ? 0 : 84));
  ctx.strokeStyle = c.line;
  ctx.lineWidth = 1;
  for (const v of [0, 0.5, 1]) stroke(ctx, [8, y(v)], [width - right - 8, y(v)]);
  ctx.font = '12px system-ui, sans-serif';
  ctx.textBaseline = 'middle';
  CURVES.forEach(({name, of, ink, dash}, n) => {
    const measured = epochs.map((o, i) => [x(i), of(o)]).filter(([, v]) => v !== null),
      [lx, ly] = wide ? [width - right + 4, 12 + n * 20] : [12, CURVE + 12 + n * 20];
    ctx.strokeStyle = ctx.fillStyle = c[ink];
    ctx.lineWidth = 2;
    ctx.setLineDash(dash);
    stroke(ctx, ...measured.map(([p, v]) => [p, y(v)]));
    stroke(ctx, [lx, ly], [lx + 26, ly]);
    ctx.setLineDash([]);
    for (const [p, v] of measured) {
      ctx.beginPath();
      ctx.arc(p, y(v), 2.5, 0, 7);
      ctx.fill();
    }
    ctx.fillStyle = c.text;
    ctx.fillText(name, lx + 32, ly);
  });
}

function epochView(store, ui) {
  const {spec} = store,
    last = spec.epochs.length - 1,
    ways = ['AUs → expressions', 'expressions → AUs'];
  const slider = h('input', {
      type: 'range',
      min: 0,
      max: last,
      step: 1,
      'aria-label': 'Epoch',
      oninput: () => ui.epoch(Number(slider.value)),
    }),
    said = h('span', {'aria-live': 'polite'}),
    heldOut = k => `UAR ${num(k.uar, 2, absent(spec, 'fe'))}, AU F1 ${num(k.au_f1, 2, absent(spec, 'au'))}`,
    measured = spec.epochs.map(k => `epoch ${k.epoch}: ${heldOut(k)}`).join('; '),
    canvas = h('canvas', {role: 'img', 'aria-label': measured}),
    line = h('i', {class: 'sx-now', style: `height:${CURVE}px;top:0`}),
    stage = h('div', {class: 'sx-lane'}, canvas, line);
  const gates = WAYS.map((way, w) =>
    numberSlider(`Gate ${ways[w]}`, 1, 0.01, `gate ${ways[w]}`, value => store.edit({kind: 'gate', way, value})),
  );
  const scales = WAYS.map((way, w) =>
    numberSlider(`Residual ${ways[w]}`, 2, 0.05, `residual ${ways[w]}`, by => store.edit({kind: 'scale', way, by})),
  );
  const swap = h(
    'select',
    {'aria-label': 'Another prior', onchange: () => store.edit({kind: 'prior', name: swap.value})},
    spec.priors.map(p => h('option', {}, p.name)),
  );
  const transplant = h(
    'select',
    {
      'aria-label': 'Maps of another epoch',
      onchange: () => {
        if (transplant.value) store.edit({kind: 'epoch', epoch: Number(transplant.value)});
        else store.setEdits(store.edits.filter(o => o.kind !== 'epoch'));
      },
    },
    h('option', {value: ''}, 'its own'),
    spec.epochs.map(k => h('option', {value: k.epoch}, `epoch ${k.epoch}`)),
  );
  const el = h(
    'section',
    {class: 'sx-card sx-wide', 'aria-label': 'Epochs, gates, prior'},
    h('div', {class: 'sx-bar'}, h('label', {}, h('b', {}, 'Epoch'), slider), said),
    stage,
    h(
      'details',
      {},
      h('summary', {}, 'Change gates, residuals, prior'),
      h(
        'div',
        {class: 'sx-bar'},
        ...gates.map(g => g.el),
        ...scales.map(g => g.el),
        h('label', {}, 'Prior', swap),
        h('label', {}, 'Maps and gates of', transplant),
      ),
    ),
  );
  let drawn = null,
    width = 0;
  const scaled = way => store.edits.find(o => o.kind === 'scale' && o.way === way && o.expression === undefined)?.by ?? 1;
  return {
    el,
    key: () => store.computedAs,
    draw() {
      if (drawn === ui.version()) return; // no edit changes the curves
      drawn = ui.version();
      width = Math.max(160, ui.width(stage));
      drawEpochs(canvas, width, spec.epochs, ui.colours());
    },
    update() {
      const k = spec.epochs[store.base],
        {setting} = store.result,
        chosen = store.base === spec.chosen ? ', the one that was chosen' : '';
      setValue(slider, store.base);
      text(
        said,
        `${k.epoch} of ${spec.epochs[last].epoch}${chosen}. Held out: ${heldOut(k)}.`,
      );
      line.style.left = `${epochBox(width, spec.epochs.length).x(store.base)}px`;
      WAYS.forEach((way, w) => {
        gates[w].show(setting.gate[w], num(setting.gate[w]));
        scales[w].show(scaled(way), `× ${num(scaled(way))}`);
      });
      swap.value = spec.priors.find(p => p.matrix === setting.prior).name;
      transplant.value = String(store.edits.find(o => o.kind === 'epoch')?.epoch ?? '');
    },
  };
}

// How much of what the model says changes.
export function changes(store) {
  const {spec} = store,
    {e, a} = sizes(spec),
    [p, q] = [store.before, store.result],
    [fe, au] = ['fe', 'au'].map(task => p[task] !== q[task]), // what may differ at all
    rows = [];
  let flips = 0;
  spec.clips.forEach((o, c) => {
    let most = 0,
      at = o.first * a,
      aus = 0;
    for (let k = o.first * a; au && k < (o.first + o.frames) * a; k++) {
      if (p.au[k] >= 0 !== q.au[k] >= 0) aus++;
      const d = Math.abs(p.au[k] - q.au[k]);
      if (d > most) {
        most = d;
        at = k;
      }
    }
    for (let i = 0; fe && i < e; i++) most = Math.max(most, Math.abs(p.fe[c * e + i] - q.fe[c * e + i]));
    flips += aus;
    rows.push({
      c,
      most,
      aus,
      frame: Math.floor(at / a) - o.first,
      was: p.fe && called(spec, p.fe, c),
      is: q.fe && called(spec, q.fe, c),
    });
  });
  return {
    flips,
    answers: rows.filter(o => o.was !== o.is).length,
    rows: rows.filter(o => o.most > 1e-9).sort((x, y) => y.most - x.most),
  };
}

// What speaks for an edge: pairs of a heading and a sentence.
function evidenceOf(store) {
  const {spec, selection: s} = store;
  const {i, j, w, at} = cellOf(spec, s);
  const ij = i * spec.labels.aus.length + j;
  const prior = store.trained ? store.result.setting.prior : spec.priors[0].matrix;
  const table = spec.priors.find(o => o.matrix === prior);
  const sourced = o => `${num(o.matrix[ij])}, ${o.sources[o.source_of[ij]]}`;
  if (!store.trained) return [['Prior', sourced(table)], ...spec.priors.slice(1).map(o => [o.name, sourced(o)])];
  const [then, now] = [store.before.maps[w][at], store.result.maps[w][at]];
  const moved = then - prior[ij];
  const edited = now === then ? '' : `; now ${num(now)}`;
  const fixed = i === spec.labels.neutral ? '. Neutral is kept at the prior.' : '';
  return [
    ['Prior', sourced(table)],
    ['Learned', `${num(then)} (${change(moved)} against the prior)${edited}${fixed}`],
    ...(spec.evidence ? measuredOf(spec, s, w, i, j, moved) : [['Evidence', 'not measured']]),
    ...(spec.truth ? [['Truth', `P(AU${s.au} | ${s.expression}) = ${num(spec.truth.table[i][j])}`]] : []),
  ];
}

function measuredOf(spec, s, w, i, j, moved) {
  const ev = spec.evidence;
  const [all, some] = [ev.support[i][j], ev.together[i][j]];
  const counted =
    some === null
      ? `${all} ${s.expression} clips; in how many the AU was seen: not measured`
      : `the AU was seen in ${some} of ${all} ${s.expression} clips`;
  const support = all === null ? absent(spec, 'au') : counted;
  const [lift, low, high] = [ev.lift[i][j], ev.low[i][j], ev.high[i][j]];
  const interval =
    low === null || high === null
      ? ', no interval: too few clips, or all alike'
      : ` (95 % interval ${num(low)} to ${num(high)}${low > 1 || high < 1 ? '' : ', includes 1'})`;
  const unknown = learned(spec, 'au') ? 'undefined: too little was seen' : 'not trained';
  const effect = w ? ev.cut_fe2au[j][i] : ev.cut_au2fe[i][j];
  const cut = effect === null ? absent(spec, w ? 'au' : 'fe') : `${w ? 'AU F1' : 'UAR'} ${change(effect, 3)}`;
  const sd = w ? ev.seeds_fe2au[j][i] : ev.seeds_au2fe[i][j];
  const seeds =
    ev.seeds < 2 || sd === null
      ? `not measured: ${ev.seeds < 2 ? 'one run' : 'no value'}`
      : `standard deviation ${num(sd, 3)} over ${ev.seeds} runs${Math.abs(moved) < sd ? '; more than this edge moved' : ''}`;
  return [
    ['Support', support],
    ['Lift', lift === null ? unknown : num(lift) + interval],
    [`Cut, on ${ev.cut_on}`, cut],
    ['Over seeds', seeds],
  ];
}

function impactOf(store, changed) {
  // what the edits do to answers and scores, in a sentence
  const {spec} = store;
  const n = spec.clips.length;
  if (!n) return '';
  const [b, q] = [store.before, store.result];
  const score = (task, x) => `${task === 'fe' ? 'UAR' : 'AU F1'} ${num(x, 2, absent(spec, task))}`;
  const {e, a} = sizes(spec);
  const over = task => ` (over ${b.over[task]} of ${task === 'fe' ? `${e} expressions` : `${a} AUs`})`;
  const based = (task, x) => (x === null ? '' : over(task));
  if (!changed)
    return (
      `On the ${n} clips here: ${score('fe', b.uar)}${based('fe', b.uar)}, ` +
      `${score('au', b.meanF1)}${based('au', b.meanF1)}. Remove the edge to see what changes.`
    );
  const then = (task, x, y) => {
    if (x === null) return score(task, null);
    return score(task, x) + (Math.abs(x - y) > 5e-4 ? ` → ${num(y)}` : ', the same') + over(task);
  };
  const [answers, decisions] = [`${changed.answers} expression answers`, `${changed.flips} AU decisions`];
  const counted = [learned(spec, 'fe') && answers, learned(spec, 'au') && decisions].filter(Boolean).join(' and ');
  return (
    `This trained model with another map (not retraining). On the ${n} clips here: ${counted} change; ` +
    `${then('fe', b.uar, q.uar)}; ${then('au', b.meanF1, q.meanF1)}.`
  );
}

function clipWords({labels, clips}, o) {
  // a clip that an edit changed
  const c = clips[o.c];
  const name = c.task === 'fe' && c.expression !== null ? labels.expressions[c.expression] : c.recording;
  const answers = `${labels.expressions[o.was]} → ${labels.expressions[o.is]}`;
  const what = o.was !== o.is ? answers : o.aus ? `${o.aus} AU decisions` : 'same answers';
  return `${name}: ${what}, logits by up to ${num(o.most)}`;
}

// Buttons and a slider that edit the chosen edge, and the edits as Python.
function editBar(store, ui) {
  const press = (label, title, onclick) => h('button', {type: 'button', title, onclick}, label);
  const edit = o => store.edit({...o, ...store.selection});
  const remove = press('Remove', 'The weight becomes 0; the row keeps its mass, so its other links gain (Delete)', () =>
    edit({kind: 'reweight', factor: 0}),
  );
  const cut = press('Cut', 'The entry becomes 0; the row loses this mass (Shift+Delete)', () => edit({kind: 'cut'}));
  const restore = press('Restore', 'As it was learned (r)', () => edit({kind: 'restore'}));
  const slider = h('input', {
    type: 'range',
    min: 0,
    max: 2,
    step: 0.05,
    'aria-label': 'Scale the residual of this edge',
  });
  slider.addEventListener('input', () => edit({kind: 'scale', by: Number(slider.value)}));
  const out = h('span');
  const undo = press('Undo', 'Ctrl+Z', () => store.undo());
  const redo = press('Redo', 'Ctrl+Shift+Z', () => store.redo());
  const clear = press('Remove all edits', '', () => store.setEdits([]));
  const code = h('textarea', {readOnly: true, rows: 2, 'aria-label': 'The edits as one Python call'});
  const call = h(
    'div',
    {},
    code,
    press('Copy as one Python call', '', () => ui.copy(code)),
  );
  return {
    bars: [
      h('div', {class: 'sx-bar'}, remove, cut, restore, h('label', {}, 'residual', slider, out)),
      h('div', {class: 'sx-bar'}, undo, redo, clear),
    ],
    call,
    update() {
      const edits = store.edits_of(store.selection);
      const by = edits.find(o => o.kind === 'scale')?.by ?? 1;
      setValue(slider, by);
      text(out, `× ${num(by)}`);
      restore.disabled = !edits.length;
      undo.disabled = !store.past.length;
      redo.disabled = !store.future.length;
      clear.disabled = !store.edits.length;
      call.hidden = !store.edits.length;
      code.value = store.python();
    },
  };
}

// A list of terms; made once, filled again and again.
function fillTerms(list, pairs) {
  if (list.children.length !== 2 * pairs.length)
    list.replaceChildren(...pairs.flatMap(() => [h('dt'), h('dd')]));
  pairs.flat().forEach((words, k) => text(list.children[k], words));
}

// A button that goes to a clip that an edit changed; filled again and again.
function clipButton(store, ui) {
  const canvas = h('canvas', {width: 96, height: 96, 'aria-hidden': 'true'}),
    words = h('span');
  let shown = null,
    painted = '';
  return {
    el: h('button', {type: 'button', hidden: true, onclick: () => store.go(shown.c, shown.frame)}, canvas, words),
    fill(o) {
      // of `changes`; undefined: nothing
      shown = o;
      this.el.hidden = !o;
      if (!o) return;
      text(words, clipWords(store.spec, o));
      canvas.hidden = !ui.sheet() || !store.spec.clips[o.c].tiles;
      const key = `${o.c} ${o.frame}`;
      if (canvas.hidden || key === painted) return;
      painted = key;
      ui.paint(canvas.getContext('2d'), o.c, o.frame, 0, 0, 96);
    },
  };
}

function drawerView(store, ui) {
  const {spec} = store;
  const heading = h('h3', {tabIndex: -1, id: ui.id('edge')});
  const list = h('dl');
  const clips = Array.from({length: 4}, () => clipButton(store, ui));
  const pics = h(
    'div',
    {class: 'sx-pics'},
    clips.map(o => o.el),
  );
  const impact = h('p', {'aria-live': 'polite'});
  const note = h('p', {class: 'sx-note', role: 'alert'});
  const bar = editBar(store, ui);
  const editing = store.trained ? [...bar.bars, note, impact, pics, bar.call] : [];
  const el = h('section', {class: 'sx-card sx-drawer', 'aria-labelledby': ui.id('edge')}, heading, list, editing);
  return {
    el,
    key: () => `${store.computedAs}|${store.note}|${store.past.length}|${store.future.length}|${!ui.sheet()}`,
    focus: () => heading.focus(),
    update() {
      text(heading, arrow(spec, store.selection));
      fillTerms(list, evidenceOf(store));
      if (!store.trained) return;
      bar.update();
      text(note, store.note);
      const changed = store.edits.length ? changes(store) : null;
      text(impact, impactOf(store, changed));
      clips.forEach((o, k) => o.fill(changed?.rows[k]));
    },
  };
}

// The clips of a recording, one after the other.
class Film {
  constructor(store) {
    this.store = store;
    this.recordings = new Map();
    store.spec.clips.forEach((o, c) => {
      if (!this.recordings.has(o.recording)) this.recordings.set(o.recording, []);
      this.recordings.get(o.recording).push(c);
    });
  }
  frames(c) {
    return this.store.spec.clips[c].frames;
  }
  get name() {
    return this.store.spec.clips[this.store.clip].recording;
  }
  get clips() {
    return this.recordings.get(this.name);
  }
  get total() {
    return this.clips.reduce((s, c) => s + this.frames(c), 0);
  }
  get now() {
    const before = this.clips.slice(0, this.clips.indexOf(this.store.clip));
    return before.reduce((s, c) => s + this.frames(c), 0) + this.store.frame;
  }
  find(t) {
    // the clip that holds frame `t` of the recording, and the frame within
    for (const c of this.clips) {
      if (t < this.frames(c)) return [c, t];
      t -= this.frames(c);
    }
    const last = this.clips[this.clips.length - 1];
    return [last, this.frames(last) - 1];
  }
  go(t) {
    this.store.go(...this.find(t));
  }
  label(recording) {
    const {clips, labels} = this.store.spec;
    const o = clips[this.recordings.get(recording)[0]];
    if (o.task === 'au') return `AU recording ${recording}`;
    return o.expression === null ? recording : `${labels.expressions[o.expression]} (${recording})`;
  }
}

// Rows of a name, a bar and a number; made once, filled again and again.
function bars(n) {
  const rows = Array.from({length: n}, () => {
    const [name, was, now, said] = [
      h('th', {scope: 'row'}),
      h('i', {class: 'sx-was'}),
      h('i'),
      h('td', {class: 'sx-n'}),
    ];
    return {name, was, now, said, el: h('tr', {}, name, h('td', {class: 'sx-fill'}, was, now), said)};
  });
  const place = (el, from, size) => {
    el.style.left = `${100 * from}%`;
    el.style.width = `${100 * size}%`;
  };
  return {
    el: h(
      'table',
      {},
      rows.map(r => r.el),
    ),
    fill(items) {
      // name, value from -1 to 1 or null, said; was: the value before; from: where 0 stands
      rows.forEach((r, k) => {
        const o = items[k];
        r.el.hidden = !o;
        if (!o) return;
        const from = o.from ?? 0;
        text(r.name, o.name);
        text(r.said, o.said);
        r.now.hidden = o.value === null;
        r.now.className = !from ? '' : o.value < 0 ? 'sx-neg' : 'sx-pos';
        place(r.now, Math.min(from, from + o.value), Math.max(0.005, Math.abs(o.value)));
        r.was.hidden = o.was === undefined;
        if (!r.was.hidden) place(r.was, from, o.was);
      });
    },
  };
}

// How probable a clip's expressions are, of those that its data set has; null for the others.
function probabilitiesOf(spec, fe, c) {
  const {e} = sizes(spec);
  const x = fe.subarray(c * e, (c + 1) * e);
  const allowed = i => spec.clips[c].classes?.includes(i) ?? true;
  const most = x[called(spec, fe, c)];
  const z = Array.from(x, (v, i) => (allowed(i) ? Math.exp(v - most) : null));
  const sum = z.reduce((p, q) => p + q, 0);
  return z.map(v => v === null ? null : v / sum);
}

const TRACK = 16; // pixels of an AU's row
const STRIP = 48; // of the pictures above
const FOOT = 20; // of the answers below

function tracksView(store, ui, film) {
  const {spec} = store;
  const {a} = sizes(spec);
  const canvas = h('canvas', {role: 'img'});
  const strip = h('canvas', {'aria-hidden': 'true'});
  const line = h('i', {class: 'sx-now', style: `height:${a * TRACK}px`});
  const lane = h('div', {class: 'sx-lane'}, strip, canvas, line);
  const gap = h('div'); // beside the pictures
  const style = `height:${TRACK}px;line-height:${TRACK}px`;
  const names = h(
    'div',
    {class: 'sx-names', 'aria-hidden': 'true'},
    spec.labels.aus.map(u => h('div', {style}, `AU${u}`)),
  );
  canvas.addEventListener('pointerdown', ev => {
    const r = canvas.getBoundingClientRect();
    const t = Math.floor(((ev.clientX - r.left) / r.width) * film.total);
    film.go(Math.min(film.total - 1, Math.max(0, t)));
  });
  const walk = f => {
    // every clip, with the frame of the recording that it starts at
    let x = 0;
    for (const c of film.clips) {
      f(spec.clips[c], c, x);
      x += film.frames(c);
    }
  };

  let pictured = '';
  function drawPictures(width) {
    // no edit changes them
    const key = `${film.name}|${ui.version()}|${!ui.sheet()}`;
    if (key === pictured) return;
    pictured = key;
    const sheet = ui.sheet();
    strip.hidden = !sheet;
    gap.style.height = line.style.top = sheet ? `${STRIP}px` : 0;
    if (!sheet) return;
    const ctx = sizeCanvas(strip, width, STRIP);
    const n = Math.max(1, Math.floor(width / STRIP));
    for (let k = 0; k < n; k++) {
      const [c, t] = film.find(Math.floor(((k + 0.5) / n) * film.total));
      ui.paint(ctx, c, t, (k * width) / n, 0, Math.min(STRIP, width / n));
    }
  }
  const small = h('canvas'); // a clip, a pixel a frame and AU, to be enlarged as it is
  function drawProbabilities(ctx, fw, ink) {
    const {au} = store.result;
    const rgb = rgbOf(ink);
    ctx.imageSmoothingEnabled = false;
    walk((o, c, x0) => {
      Object.assign(small, {width: o.frames, height: a});
      const picture = new ImageData(o.frames, a);
      for (let t = 0; t < o.frames; t++)
        for (let j = 0; j < a; j++) {
          const share = 0.06 + 0.8 * sigmoid(au[(o.first + t) * a + j]);
          picture.data.set([...rgb, Math.round(255 * share)], 4 * (j * o.frames + t));
        }
      small.getContext('2d').putImageData(picture, 0, 0);
      const from = Math.round(x0 * fw); // whole pixels leave no seams
      const width = Math.round((x0 + o.frames) * fw) - from;
      for (let j = 0; j < a; j++) ctx.drawImage(small, 0, j, o.frames, 1, from, j * TRACK + 1, width, TRACK - 5);
    });
  }
  function drawLabels(ctx, fw, ink) {
    // below a row: a line where the AU is labelled active, a dot where nobody annotated it
    ctx.fillStyle = ink;
    walk((o, c, x0) => {
      for (let j = 0; o.aus && j < a; j++)
        for (let t = 0; t < o.frames; t++) {
          const from = t;
          while (t < o.frames && o.aus[t][j] === '1') t++;
          if (t > from) ctx.fillRect((x0 + from) * fw, (j + 1) * TRACK - 3, (t - from) * fw + 0.3, 2);
          if (o.aus[t]?.[j] === '?') ctx.fillRect((x0 + t + 0.5) * fw - 1, (j + 1) * TRACK - 3, 2, 2);
        }
    });
  }
  function drawFlips(ctx, fw, colours) {
    // a triangle, where an edit changed the decision
    const [now, then] = [store.result.au, store.before.au];
    walk((o, c, x0) => {
      for (let t = 0; now !== then && t < o.frames; t++)
        for (let j = 0; j < a; j++) {
          const at = (o.first + t) * a + j;
          const up = now[at] >= 0;
          if (up === then[at] >= 0) continue;
          const x = (x0 + t + 0.5) * fw;
          const [tip, base] = up ? [2, 9] : [TRACK - 5, 4];
          ctx.fillStyle = up ? colours.up : colours.text;
          ctx.beginPath();
          ctx.moveTo(x, j * TRACK + tip);
          ctx.lineTo(x - 4, j * TRACK + base);
          ctx.lineTo(x + 4, j * TRACK + base);
          ctx.fill();
        }
    });
  }
  function answer(c) {
    // what the model calls a clip, and what it called it before the edits
    if (!learned(spec, 'fe')) return 'not trained';
    const [was, is] = [store.before, store.result].map(o => spec.labels.expressions[called(spec, o.fe, c)]);
    return was === is ? is : `${was} → ${is}`;
  }
  function drawAnswers(ctx, fw, colours) {
    walk((o, c, x0) => {
      ctx.save();
      ctx.beginPath();
      ctx.rect(x0 * fw, a * TRACK, o.frames * fw - 2, FOOT);
      ctx.clip();
      ctx.fillStyle = colours.text;
      ctx.fillText(answer(c), x0 * fw + 3, a * TRACK + 11);
      ctx.restore();
      ctx.strokeStyle = colours.line;
      ctx.strokeRect(x0 * fw + 0.5, a * TRACK + 0.5, o.frames * fw - 1, FOOT - 1);
    });
  }
  function describe() {
    const clip = spec.clips[store.clip];
    const at = (clip.first + store.frame) * a;
    const list = f =>
      spec.labels.aus
        .filter((_, j) => f(j))
        .map(u => `AU${u}`)
        .join(', ');
    const {au, fe} = store.result;
    const seen = au ? `the model sees ${list(j => au[at + j] >= 0) || 'no AU'}` : 'AUs: not trained';
    const letter = l => list(j => clip.aus[store.frame][j] === l);
    const blank = clip.aus && letter('?') ? `; not annotated ${letter('?')}` : '';
    const labelled = clip.aus ? `; labelled ${letter('1') || 'none'}${blank}` : '';
    const is = fe && spec.labels.expressions[called(spec, fe, store.clip)];
    const answered = fe ? `it calls this clip ${is}` : 'expressions: not trained';
    return `Frame ${film.now + 1}: ${seen}${labelled}; ${answered}`;
  }

  return {
    el: h('div', {class: 'sx-row'}, h('div', {class: 'sx-names'}, gap, names), lane),
    draw() {
      const key = `${film.name}|${store.result.id}|${store.before.id}|${ui.version()}|${!ui.sheet()}`;
      if (key === this.shown) return;
      this.shown = key;
      const width = Math.max(120, ui.width(lane));
      drawPictures(width);
      const colours = ui.colours();
      const ctx = sizeCanvas(canvas, width, a * TRACK + FOOT);
      const fw = width / film.total;
      ctx.font = '12px system-ui, sans-serif';
      ctx.textBaseline = 'middle';
      ctx.textAlign = 'left';
      ctx.lineWidth = 1;
      if (store.result.au) drawProbabilities(ctx, fw, colours.ink);
      drawLabels(ctx, fw, colours.text);
      drawFlips(ctx, fw, colours);
      drawAnswers(ctx, fw, colours);
    },
    update() {
      line.style.left = `${(100 * (film.now + 0.5)) / film.total}%`;
      canvas.setAttribute('aria-label', describe());
    },
  };
}

// The expression of a clip: how probable each is, and how a logit comes about.
function answersView(store) {
  const {spec} = store;
  const {e} = sizes(spec);
  const {expressions} = spec.labels;
  const head = h('h3');
  const why = h('h3');
  const probabilities = bars(e);
  const reasons = bars(8);

  function showProbabilities(clip) {
    const labelled = clip.expression === null ? ' (not labelled)' : `, labelled ${expressions[clip.expression]}`;
    if (!learned(spec, 'fe')) {
      text(head, `Expression of this clip${labelled}: not trained`);
      probabilities.fill([]);
      return;
    }
    text(head, `Expression of this clip${labelled}`);
    const now = probabilitiesOf(spec, store.result.fe, store.clip);
    const was = store.edits.length ? probabilitiesOf(spec, store.before.fe, store.clip) : [];
    probabilities.fill(
      expressions.map((x, i) => {
        const name = `${x}${clip.expression === i ? ' ✓' : ''}`;
        if (now[i] === null) return {name, value: null, said: 'not in its data'};
        return {name, value: now[i], was: was[i], said: `${Math.round(100 * now[i])}%`};
      }),
    );
  }
  function showReasons(clip) {
    const s = store.selection;
    const {w, i, j} = cellOf(spec, s);
    const what = w ? `AU${s.au}, in this frame` : `${s.expression}, in this clip`;
    if (!learned(spec, w ? 'au' : 'fe')) {
      text(why, `Why ${what}: not trained`);
      reasons.fill([]);
      return;
    }
    const rows = parts(spec, store.result, s.way, w ? clip.first + store.frame : store.clip, w ? j : i);
    const most = Math.max(1e-9, ...rows.map(o => Math.abs(o.value)));
    const sum = rows.reduce((p, o) => p + o.value, 0);
    text(why, `Why ${what}: logit ${num(sum)}${w ? ' before smoothing' : ''}`);
    const largest = rows.slice(2).sort((x, y) => Math.abs(y.value) - Math.abs(x.value));
    reasons.fill(
      [rows[0], rows[1], ...largest.slice(0, 6)].map(o => {
        const said = `${o.value < 0 ? '−' : '+'} ${Math.abs(o.value).toFixed(2)}`;
        return {name: o.name, value: o.value / most / 2, from: 0.5, said};
      }),
    );
  }
  return {
    el: h('div', {}, head, probabilities.el, why, reasons.el),
    update() {
      const clip = spec.clips[store.clip];
      showProbabilities(clip);
      showReasons(clip);
    },
  };
}

function clipView(store, ui) {
  const {spec} = store;
  const film = new Film(store);
  const options = [...film.recordings.keys()].map(r => h('option', {value: r}, film.label(r)));
  const choose = h('select', {'aria-label': 'Clip'}, options);
  choose.addEventListener('change', () => store.go(film.recordings.get(choose.value)[0], 0));
  const frame = h('input', {type: 'range', min: 0, step: 1, 'aria-label': 'Frame'});
  frame.addEventListener('input', () => film.go(Number(frame.value)));
  const play = h('button', {type: 'button', onclick: () => (timer ? stop() : start())}, 'Play');
  const said = h('span', {class: 'sx-soft'});
  const tracks = tracksView(store, ui, film);
  const answers = answersView(store);
  let timer = null;
  const stop = () => {
    clearInterval(timer);
    timer = null;
    text(play, 'Play');
  };
  const start = () => {
    text(play, 'Pause');
    timer = setInterval(() => (el.isConnected ? film.go((film.now + 1) % film.total) : stop()), 120);
  };
  const filled = learned(spec, 'au') ? 'Filled: the probability that the model gives. ' : 'Action units: not trained. ';
  const dots = spec.clips.some(o => o.aus?.some(t => t.includes('?'))) ? 'Dots: not annotated. ' : '';
  const legend =
    `${filled}Line below a row: labelled active. ${dots}A triangle: your edits changed the decision there.`;
  const el = h(
    'section',
    {class: 'sx-card sx-wide', 'aria-label': 'Clips'},
    h('div', {class: 'sx-bar'}, h('label', {}, h('b', {}, 'Clip'), choose), play, h('label', {}, 'Frame', frame), said),
    h('div', {class: 'sx-tracks'}, h('div', {}, tracks.el, h('p', {class: 'sx-soft'}, legend)), answers.el),
  );
  const labels = ({aus, expression}) => {
    if (aus) return expression === null ? ', AUs are labelled, the expression is not' : '';
    return expression === null ? ', nothing is labelled' : ', the expression is labelled, AUs are not';
  };
  return {
    el,
    stop,
    key: () => `${store.computedAs}|${store.clip}|${store.frame}|${!ui.sheet()}`,
    draw: () => tracks.draw(),
    update() {
      choose.value = film.name;
      if (Number(frame.max) !== film.total - 1) frame.max = film.total - 1;
      setValue(frame, film.now);
      text(said, `${film.now + 1} of ${film.total}${labels(spec.clips[store.clip])}`);
      tracks.update();
      answers.update();
    },
  };
}

function prototypeView(store, ui) {
  const {spec} = store,
    {n, e} = sizes(spec),
    canvas = h('canvas', {role: 'img'}),
    stage = h('div', {}, canvas),
    said = h('p', {class: 'sx-soft'}),
    names = [...spec.labels.expressions, ...spec.labels.aus.map(u => `AU${u}`)];
  const open = h(
      'details',
      {ontoggle: () => ui.redraw()},
      h('summary', {}, h('b', {}, 'Prototypes: how alike are they, before and after the exchange?')),
      stage,
      said,
    ),
    el = h('section', {class: 'sx-card sx-wide', 'aria-label': 'Prototypes'}, open);
  if (!spec.clips.length) open.open = true;
  let line = '';
  return {
    el,
    key: () => `${store.computedAs}|${open.open}`,
    draw() {
      if (!open.open) return;
      const c = ui.colours(),
        width = Math.max(200, Math.min(720, ui.width(stage))),
        left = 84,
        side = (width - left - 22) / n, // the last name leans over
        top = 46,
        ctx = sizeCanvas(canvas, width, top + n * side + 4);
      canvas.style.width = `${width}px`;
      const b = similarities(spec, store.result.setting.epoch, null),
        q = similarities(spec, store.result.setting.epoch, store.result.z);
      ctx.font = `${Math.min(12, side * 0.75)}px system-ui, sans-serif`;
      ctx.fillStyle = c.text;
      ctx.textBaseline = 'middle';
      names.forEach((x, i) => {
        ctx.textAlign = 'right';
        ctx.fillText(x.slice(0, 12), left - 6, top + (i + 0.5) * side);
        ctx.save();
        ctx.translate(left + (i + 0.5) * side, top - 6);
        ctx.rotate(-Math.PI / 3);
        ctx.textAlign = 'left';
        ctx.fillText(x.slice(0, 6), 0, 0);
        ctx.restore();
      });
      let most = 0,
        pair = [0, 1];
      for (let i = 0; i < n; i++)
        for (let j = 0; j < n; j++) {
          const v = i === j ? 1 : j > i ? q[i * n + j] : b[i * n + j],
            d = q[i * n + j] - b[i * n + j];
          if (Math.abs(d) > Math.abs(most)) {
            most = d;
            pair = [i, j];
          }
          const [x, y] = [left + j * side + 0.5, top + i * side + 0.5];
          shade(ctx, v < 0 ? c.down : c.ink, Math.min(1, Math.abs(v)), x, y, side - 1, side - 1);
        }
      ctx.strokeStyle = c.text;
      ctx.lineWidth = 1;
      ctx.strokeRect(left + 0.5, top + 0.5, n * side - 1, n * side - 1);
      ctx.beginPath();
      ctx.moveTo(left, top);
      ctx.lineTo(left + n * side, top + n * side);
      ctx.moveTo(left + e * side, top);
      ctx.lineTo(left + e * side, top + n * side);
      ctx.moveTo(left, top + e * side);
      ctx.lineTo(left + n * side, top + e * side);
      ctx.stroke();
      const [before, after] = [b, q].map(x => num(x[pair[0] * n + pair[1]]));
      line =
        'Cosines; below the diagonal before the exchange, above it after. ' +
        `The gates stand at ${store.result.setting.gate.map(v => num(v)).join(' and ')}. ` +
        `Most changed: ${names[pair[0]]} and ${names[pair[1]]}, ${before} → ${after}.`;
    },
    update() {
      text(said, line);
      canvas.setAttribute('aria-label', line);
    },
  };
}

function honestView({spec}) {
  const p = spec.provenance;
  const labelled = spec.clips.filter(o => o.expression !== null).length;
  const frames = spec.clips.reduce((n, o) => n + (o.aus ? o.frames : 0), 0);
  const faces = {yes: 'drawn by a computer: real faces vary in more ways', no: 'of real people', unknown: 'unknown'};
  const facts = [
    ['Faces', faces[p.rendered]],
    ['Expressions', 'are what faces show, not what people feel'],
    ['Data', p.data],
    ['Scores', `${p.split}; protocol ${p.protocol}`],
  ];
  if (spec.clips.length)
    facts.push(
      [
        'Small numbers',
        `scores that follow your edits are over ${labelled} labelled expression clips and ${frames} labelled frames: ` +
          'single clips move them',
      ],
      ['Exact', 'maps, prototypes, logits, decisions and scores here are computed in your browser, as the model does'],
      ['Computed before', 'support, lift, effect of a cut: when this page was made'],
      [
        'What an edit is',
        'this trained model with another map; not retraining. AU outputs do not feed expression logits: an edge moves ' +
          'a prototype. “What if AU12 were stronger in the picture” means drawing and running again, with a kernel',
      ],
    );
  if (spec.evidence) facts.push(['Evidence', `${spec.evidence.source}. An association, not a cause.`]);
  const seed = p.seed === null ? '' : `, seed ${p.seed}`;
  facts.push(['Made', `${p.made}${seed}, ${p.versions}, SHA-256 ${p.hash.slice(0, 16)}`]);
  const list = h(
    'dl',
    {},
    facts.flatMap(([k, v]) => [h('dt', {}, k), h('dd', {}, v)]),
  );
  const title = 'What this can and cannot show';
  const open = spec.epochs.length ? true : null;
  const el = h(
    'section',
    {class: 'sx-card sx-wide sx-honest', 'aria-label': title},
    h('details', {open}, h('summary', {}, h('b', {}, title)), list),
  );
  return {el, key: () => '', update() {}};
}

// 7 ── putting it together ───────────────────────────────────────────────────────────────────────────────────────────

let instances = 0;

function badgesOf({provenance, epochs}) {
  const faces = {yes: 'drawn faces', no: 'real faces', unknown: null}[provenance.rendered];
  const trained = epochs.length ? [`scores on ${provenance.split}`, 'association, not cause'] : [];
  const said = [faces, trained[0], 'an expression is not an emotion', trained[1]].filter(Boolean);
  return said.map(o => h('span', {class: 'sx-badge'}, o));
}

function keysHelp(id) {
  const k = s => h('kbd', {}, s);
  const map = ['On the map: ', k('arrows'), ' select, ', k('Enter'), ' inspect, ', k('Delete'), ' remove, '];
  const more = [k('Shift+Delete'), ' cut, ', k('r'), ' restore. Anywhere: ', k('p'), ' held compares with the prior, '];
  const undo = [k('u'), ' or ', k('Ctrl+Z'), ' undo, ', k('Ctrl+Shift+Z'), ' redo.'];
  return h('details', {class: 'sx-soft', id}, h('summary', {}, 'Keys'), h('p', {}, ...map, ...more, ...undo));
}

function introOf({epochs, clips, priors}) {
  if (epochs.length && clips.length)
    return (
      'A model has learned how facial movements (action units, AUs) and expressions go together. ' +
      'Choose a link, see it on the face, take it away: what would the model answer then?'
    );
  if (priors.length > 1)
    return 'Where two sources agree, and where they do not. Choose a link, and pose the face by a row.';
  return priors.length ? '' : 'Each action unit is the work of few muscles. Press one.';
}

function tell(store) {
  // the first sentence: what this is about
  const {spec, selection} = store;
  if (!selection) return store.posed.startsWith('AU') ? '' : 'Choose an action unit to see it on the face.';
  const {i, j, w, at} = cellOf(spec, selection);
  const link = arrow(spec, selection);
  const own = spec.priors[0].matrix[i * spec.labels.aus.length + j];
  if (!store.trained) {
    const [first, second] = spec.priors;
    if (!second) return `${link}: ${num(own)}.`;
    return `${link}: ${first.name} says ${num(own)}, ${second.name} says ${num(second.matrix[i * spec.labels.aus.length + j])}.`;
  }
  const v = store.before.maps[w][at];
  const now = store.result.maps[w][at];
  const d = v - own;
  const moved =
    Math.abs(d) < 0.005
      ? `left the link ${link} at ${num(own)}`
      : `${d > 0 ? 'strengthened' : 'weakened'} the link ${link}: ${num(own)} before, ${num(v)} after (${change(d)})`;
  return `Training ${moved}${Math.abs(now - v) < 0.005 ? '' : `; your edits make it ${num(now)}`}.`;
}

function listenToKeys(box, store, say) {
  const typing = t => t.matches('textarea, select') || t.matches('input:not([type=range])');
  const undo = back => {
    if (back) store.undo();
    else store.redo();
    say(`${store.edits.length} edits`);
  };
  const let_go = () => {
    if (store.held) store.set({held: false});
  };
  box.addEventListener('keydown', ev => {
    ev.stopPropagation(); // no shortcut of the notebook
    if ((ev.ctrlKey || ev.metaKey) && ev.key.toLowerCase() === 'z') {
      ev.preventDefault();
      undo(!ev.shiftKey);
      return;
    }
    if (typing(ev.target) || ev.ctrlKey || ev.metaKey || ev.altKey) return;
    if (ev.key === 'u') undo(true);
    if (ev.key === 'p' && !store.held && store.selection) store.set({held: true});
  });
  box.addEventListener('keyup', ev => {
    ev.stopPropagation();
    if (ev.key === 'p') let_go();
  });
  box.addEventListener('focusout', let_go);
}

// Calls `dress` whenever the page may have become light or dark; returns how to stop.
function watchTheme(dress) {
  const media = matchMedia('(prefers-color-scheme: dark)');
  const watcher = new MutationObserver(dress);
  const attributeFilter = ['class', 'style', 'theme', 'data-jp-theme-light', 'data-theme'];
  for (const node of [document.documentElement, document.body])
    watcher.observe(node, {attributes: true, attributeFilter});
  media.addEventListener('change', dress);
  return () => {
    watcher.disconnect();
    media.removeEventListener('change', dress);
  };
}

// What views share: colours, widths, pictures, and requests to draw again.
class Room {
  constructor(box, spec, me) {
    Object.assign(this, {
      box,
      spec,
      me,
      changes: 0,
      widths: new Map(),
      palette: null,
      pictures: null,
      queued: 0,
      draw: null,
    });
    this.sizer = new ResizeObserver(entries => this.resized(entries));
  }
  id(k) {
    return `${this.me}-${k}`;
  }
  version() {
    return this.changes;
  } // of what a view's picture depends on beside the store
  redraw() {
    if (this.queued || !this.draw) return;
    this.queued = requestAnimationFrame(() => {
      this.queued = 0;
      this.draw();
    });
  }
  changed() {
    this.changes++;
    this.redraw();
  }
  colours() {
    if (!this.palette) {
      const style = getComputedStyle(this.box);
      const names = ['ground', 'card', 'text', 'soft', 'line', 'ink', 'up', 'down', 'on'];
      this.palette = Object.fromEntries(names.map(k => [k, style.getPropertyValue(`--${k}`).trim()]));
    }
    return this.palette;
  }
  dress() {
    const dark = String(isDark(this.box));
    if (this.box.dataset.dark === dark) return;
    this.box.dataset.dark = dark;
    this.palette = null;
    this.changed();
  }
  // Asking an element for its width makes the browser lay out the page, so it is asked once and then observed.
  width(el) {
    if (!this.widths.has(el)) {
      this.widths.set(el, el.clientWidth);
      this.sizer.observe(el);
    }
    return this.widths.get(el);
  }
  resized(entries) {
    for (const {target} of entries) {
      const width = target.clientWidth; // rounded as the first time; the page has just been laid out
      if (width === this.widths.get(target)) continue;
      this.widths.set(target, width);
      this.changed();
    }
  }
  sheet() {
    return this.pictures;
  }
  loadPictures() {
    if (!this.spec.pictures) return;
    const img = new Image();
    img.src = `data:image/jpeg;base64,${this.spec.pictures.jpeg}`;
    const show = sheet => {
      this.pictures = sheet;
      this.redraw(); // of views whose key names them
    };
    const never = () => {}; // a picture that cannot be read is not shown
    img
      .decode()
      .then(() => createImageBitmap(img)) // decoded once, not at every use
      .then(show, never);
  }
  paint(ctx, clip, frame, x, y, size) {
    const {size: s, columns} = this.spec.pictures;
    const k = this.spec.clips[clip].tiles?.[frame];
    if (k === undefined) return;
    ctx.drawImage(this.pictures, (k % columns) * s, Math.floor(k / columns) * s, s, s, x, y, size, size);
  }
  close() {
    this.sizer.disconnect();
    cancelAnimationFrame(this.queued);
  }
}

const LOST = 'kernel not answering: what is here goes on working, “Ask the model” rests';

// Shows a specification in an element. `link` is what a kernel adds: ask(pose), and `common`, what other views share.
// The page is built in slices, one view a frame, so that nothing is blocked meanwhile.
export async function mount(root, spec, link = null) {
  const box = h('div', {class: 'sx'}, h('style', {}, CSS));
  root.replaceChildren(box);
  const ui = new Room(box, spec, `sx${++instances}`);
  ui.dress(); // while there is little to lay out
  await breathe();
  const store = new Store(spec, link?.common);
  const story = h('p', {class: 'sx-story'});
  const polite = h('div', {class: 'sx-say', role: 'status'});
  const lost = h('span', {class: 'sx-badge sx-loud', role: 'status', hidden: true}, LOST);
  const edited = h('span', {class: 'sx-badge sx-loud', hidden: true});
  const grid = h('div', {class: 'sx-grid'});
  const intro = h('p', {class: 'sx-soft'}, introOf(spec));
  const badges = h('p', {}, edited, lost, ...badgesOf(spec));
  box.append(
    h('div', {class: 'sx-head'}, h('h2', {}, spec.title), intro, story, badges, keysHelp(ui.id('keys'))),
    grid,
    polite,
  );

  const views = [];
  const say = s => text(polite, s);
  const find = kind => views.find(v => v.kind === kind);
  Object.assign(ui, {
    link,
    inspect: () => find('drawer')?.focus(),
    epoch: base => store.set({base}),
    copy(area) {
      area.focus();
      area.select();
      document.execCommand('copy');
      say('Copied.');
    },
    ask() {
      text(find('face').answer, 'The model is looking …');
      link.ask({aus: spec.face.aus, left: [...store.left], right: [...store.right]});
    },
  });

  // Shows views again that show something that has changed. Canvases come first: text on a canvas makes the browser
  // lay out what has changed in the page, so that nothing should have.
  function refresh(some) {
    const stale = some.filter(v => v.shown !== (v.shown = `${ui.version()}|${v.key()}`));
    for (const v of stale) v.draw?.();
    for (const v of stale) v.update();
  }
  function update() {
    refresh(views);
    const n = store.edits.length;
    text(story, tell(store));
    text(edited, `${n} edit${n === 1 ? '' : 's'}: this trained model with another map; not retraining`);
    edited.hidden = !n;
  }
  const add = async (kind, make) => {
    await nextFrame();
    const v = Object.assign(make(), {kind});
    views.push(v);
    grid.append(v.el);
    await breathe();
    refresh([v]);
  };

  store.listeners.add(() => ui.redraw());
  listenToKeys(box, store, say);
  const stopWatching = watchTheme(() => ui.dress());
  ui.draw = update;

  let drawer = null;
  if (spec.face) {
    await breathe();
    drawer = new Face(spec.face);
    await drawer.pose(store.left, store.right).drawFirst(FACE);
  }
  update();
  if (spec.priors.length) await add('map', () => mapView(store, ui));
  if (spec.face) await add('face', () => faceView(store, ui, drawer));
  if (spec.priors.length) await add('drawer', () => drawerView(store, ui));
  if (spec.epochs.length) await add('epochs', () => epochView(store, ui));
  if (spec.clips.length) await add('clips', () => clipView(store, ui));
  if (spec.epochs.length) await add('prototypes', () => prototypeView(store, ui));
  await add('honest', () => honestView(store));
  ui.loadPictures();

  return {
    store,
    update,
    box,
    face: () => find('face')?.update(),
    answer: s => find('face') && text(find('face').answer, s),
    alive: ok => {
      lost.hidden = ok;
      for (const b of box.querySelectorAll('.sx-ask')) b.disabled = !ok;
    },
    close() {
      stopWatching();
      store.close();
      ui.close();
      for (const v of views) v.stop?.();
    },
  };
}

export function complain(root, error) {
  // what went wrong, in one sentence, where it can be seen
  root.replaceChildren(
    h(
      'div',
      {class: 'sx'},
      h('style', {}, CSS),
      h('p', {class: 'sx-error', role: 'alert'}, `The explorer cannot show this: ${error.message}`),
    ),
  );
  if (!(error instanceof SpecError)) throw error;
}

// A page: the payload stands in an element of the document.
export async function showPage(root, payload) {
  try {
    return await mount(root, await unpack(payload));
  } catch (e) {
    complain(root, e);
    return null;
  }
}

const TRAITS = ['selection', 'edits', 'epoch'];

// A widget of a notebook, with one or more views. The payload comes once, in pieces, by message; the state that all views
// share is in step with the model's traits from before the first view is built until the model is gone.
class Widget {
  constructor(model) {
    this.model = model;
    this.common = null;
    this.busy = false;
    this.ready = null;
    for (const k of TRAITS) model.on(`change:${k}`, () => this.heed());
  }
  shared() {
    // the state of all views, once the payload is here
    this.ready ??= this.payload().then(async text => this.begin(await unpack(text)));
    return this.ready;
  }
  payload() {
    const {model} = this;
    return new Promise(resolve => {
      const pieces = [];
      const onMessage = m => {
        if (m.kind !== 'piece') return;
        pieces[m.i] = m.data;
        if (pieces.filter(Boolean).length < m.n) return;
        model.off('msg:custom', onMessage);
        resolve(pieces.join(''));
      };
      model.on('msg:custom', onMessage);
      model.send({kind: 'ready'});
    });
  }
  begin(spec) {
    this.common = new Common(spec);
    this.heed();
    this.common.heard = () => this.share();
    this.share(); // a selection, if there was none
    return this.common;
  }
  share() {
    if (this.busy) return;
    this.busy = true;
    const {model, common} = this;
    try {
      model.set('selection', common.selection ?? {});
      model.set('edits', common.edits);
      model.set('epoch', common.spec.epochs[common.base]?.epoch ?? 0);
      model.save_changes();
    } catch {
      // no kernel: what is here goes on, and a badge says so
    }
    this.busy = false;
  }
  heed() {
    // traits that cannot be are refused with their reason, and become again what is shown
    if (this.busy || !this.common) return;
    const {model, common} = this;
    const [selection, edits, epoch] = TRAITS.map(k => model.get(k));
    const refused = [];
    const attempt = f => {
      try {
        f();
      } catch (e) {
        if (!(e instanceof EditError)) throw e;
        refused.push(e.message);
      }
    };
    this.busy = true;
    if (common.trained) attempt(() => common.setEpoch(epoch));
    if (Object.keys(selection).length) attempt(() => common.select(selection));
    attempt(() => common.setEdits(edits));
    this.busy = false;
    if (!refused.length) return;
    for (const store of common.stores) store.set({note: refused.join('; ')});
    this.share();
  }
}

// A view of a widget.
function show(widget, {model, el}) {
  let shown = null,
    closed = false,
    last = Date.now();
  const root = h('div'),
    wait = h('p', {}, 'Loading the explorer …');
  root.append(wait);
  el.append(root);
  const send = message => {
    try {
      model.send(message);
    } catch {
      shown?.alive(false); // no kernel: what is here goes on
    }
  };
  const onMessage = m => {
    if (m.kind === 'pong') {
      last = Date.now();
      shown?.alive(true);
    }
    if (m.kind === 'answer') shown?.answer(m.text);
  };
  model.on('msg:custom', onMessage);
  const beat = setInterval(() => {
    send({kind: 'ping'});
    if (shown && Date.now() - last > 5000) shown.alive(false);
  }, 1500);
  widget
    .shared()
    .then(async common => {
      if (closed) return;
      last = Date.now();
      shown = await mount(root, common.spec, {common, ask: pose => send({kind: 'ask', ...pose})});
      if (closed) shown.close();
    })
    .catch(e => complain(root, e));
  return () => {
    closed = true;
    clearInterval(beat);
    model.off('msg:custom', onMessage);
    shown?.close();
  };
}

// Called once for each model.
export default () => {
  let widget = null;
  return {
    initialize({model}) {
      widget = new Widget(model);
    },
    render(view) {
      return show(widget, view);
    },
  };
};
