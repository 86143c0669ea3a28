// Runs a Keras graph that exporter.py has written: parse, plan, run. No dependencies, no network.
//
//   const network = new Network(bytes);          // throws an Error that says what is wrong with the bytes
//   network.inputs[0].data.set([0.5, -1]);       // float32, in the Keras layout without the batch axis
//   network.run();
//   network.outputs[0].data;                     // the same, overwritten by the next run
//
// All numbers live in one block of memory, laid out once, so that a run allocates nothing. Convolutions
// are turned into matrix products; the product itself is kernel.wat, or the same loop in JavaScript
// where WebAssembly is not to be had.

const VERSION = 1;
export const MOST = 2 ** 26; // numbers in memory, 256 MB: far above any figure, and still no harm to a phone
const WORK = 2 ** 30; // multiplications in a run: a second, where a figure takes a few milliseconds
const KERNEL =
  "AGFzbQEAAAABCwFgB39/f39/f38AAg8BA2VudgZtZW1vcnkCAAADAgEABwgBBGdlbW0AAArhAgHeAgMEfwR7A38gBkECdCEHAkAgBEUNAANAIAMgAiAH/AoAACABIQggBSEJAkADQCAJQQRIDQEgAP0JAgAhCyAA/QkCBCEMIAD9CQIIIQ0gAP0JAgwhDiAIIAdqIQ8gDyAHaiEQIBAgB2ohEUEAIQoDQCADIApqIAMgCmr9AAQAIAsgCCAKav0ABAD95gEgDCAPIApq/QAEAP3mAf3kASANIBAgCmr9AAQA/eYBIA4gESAKav0ABAD95gH95AH95AH95AH9CwQAIApBEGoiCiAHSQ0ACyAAQRBqIQAgESAHaiEIIAlBBGshCQwACwsCQANAIAlFDQEgAP0JAgAhC0EAIQoDQCADIApqIAMgCmr9AAQAIAsgCCAKav0ABAD95gH95AH9CwQAIApBEGoiCiAHSQ0ACyAAQQRqIQAgCCAHaiEIIAlBAWshCQwACwsgAyAHaiEDIARBAWsiBA0ACwsLAIYBBG5hbWUCSAEAEgABYQEBdwIBYgMBeQQBbQUBawYBbgcFYnl0ZXMIAndrCQRsZWZ0CgFqCwJhMAwCYTENAmEyDgJhMw8CdzEQAncyEQJ3MwM1AQAIAARkb25lAQNyb3cCBHRhaWwDBGZvdXIEBmNvbHVtbgUEbmV4dAYDb25lBwZjb2x1bW4=";

const size = (shape) => shape.reduce((a, b) => a * b, 1);
export function bytesOf(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  // A loop: Uint8Array.from would call a function for each of some hundred thousand characters.
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

// ---------------------------------------------------------------------------------------------- the file

/** Gives up on a file, with a reason that stands in the figure's place. */
export function fail(why) {
  throw new Error(`This figure's model cannot be read: ${why}.`);
}

/** Splits a file into its header and its payload, or says what is wrong with it. */
export function parse(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 20 || String.fromCharCode(...bytes.subarray(0, 4)) !== "LIVE") fail("it is no exported model");
  const [version, total, checksum, headerSize] = [4, 8, 12, 16].map((at) => view.getUint32(at, true));
  if (version !== VERSION) fail(`it has format version ${version}, and this page reads version ${VERSION}`);
  if (bytes.length !== total) fail(`it has ${bytes.length} bytes where ${total} were written`);
  let a = 1, b = 0; // Adler-32, in runs short enough for b to stay exact
  for (let at = 16; at < total; ) {
    for (const end = Math.min(at + 3800, total); at < end; at++) b += a += bytes[at];
    a %= 65521;
    b %= 65521;
  }
  if ((b * 65536 + a) >>> 0 !== checksum) fail("its checksum is wrong, so some bytes have changed");
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(20, 20 + headerSize))), payload = bytes.subarray(20 + headerSize);
  check(header, payload.length);
  return [header, payload];
}

/** Throws unless each part of the header fits all others, the payload of `room` bytes, and what a run may cost. */
function check({ inputs, outputs, shapes, ops, weights }, room) {
  const ensure = (fine, what) => fine || fail(`its header is damaged (${what})`);
  const known = new Set(); // tensors that have been written
  let work = 0;
  function write(id) {
    ensure(natural(id) && id < shapes.length && !known.has(id), `tensor ${id}`);
    known.add(id);
  }
  function shapeOf(weight) {
    if (weight === undefined) return;
    ensure(natural(weight) && weight < weights.length, `weight ${weight}`);
    return weights[weight].shape;
  }
  shapes.forEach((shape, i) => ensure(naturals(shape, 1) && size(shape) <= MOST, `shape ${i}`));
  weights.forEach(({ shape, dtype, at }, i) => {
    const scales = dtype === "int8" ? 4 * shape.at(-1) : 0;
    ensure(has(BYTES, dtype) && naturals(shape, 1) && shape.length && natural(at) && at + scales + size(shape) * BYTES[dtype] <= room, `weight ${i}`);
  });
  for (const { id, shape, name } of inputs) {
    write(id);
    ensure(equal(shape, shapes[id]) && typeof name === "string", `input ${id}`);
  }
  for (const op of ops) {
    if (!has(RULES, op.op)) throw new Error(`This figure's model needs "${op.op}", which this page does not know.`);
    ensure(op.in.every((id) => known.has(id)), `inputs of tensor ${op.out}`);
    write(op.out);
    const to = shapes[op.out], [w, b] = [op.weight, op.bias].map(shapeOf);
    const [shape, cost] = RULES[op.op](op, op.in.map((id) => shapes[id]), to, w) || [];
    ensure(shape && equal(shape, to) && (!b || equal(b, [to.at(-1)])), `${op.op} ${op.out}`);
    work += cost ?? 0;
  }
  for (const { id, shape } of outputs) ensure(known.has(id) && equal(shape, shapes[id]), `output ${id}`);
  if (work > WORK) fail(`a run would take ${Math.ceil(work / 1e9)} billion steps`);
}

const BYTES = { float32: 4, float16: 2, int8: 1 };
const has = (table, name) => typeof name === "string" && Object.hasOwn(table, name);
export const finite = (x) => typeof x === "number" && Number.isFinite(Math.fround(x)); // as float32, too
const natural = (x) => Number.isInteger(x) && x >= 0 && x <= MOST;
const naturals = (list, least = 0, most = MOST) => Array.isArray(list) && list.every((x) => natural(x) && x >= least && x <= most);
const equal = (a, b) => a.length === b.length && a.every((x, i) => x === b[i]);

// One entry per operation: (op, shapes of the inputs, stated shape of the output, shape of the weight) -> the shape that
// the output must have, and the multiplications that it takes (a number that is looked up counts as 64 of them). Nothing,
// or a shape that is not the stated one, where the operation is impossible.
const RULES = {
  dense: (_, [x], to, w) => w.length === 2 && w[0] === x.at(-1) && [[...x.slice(0, -1), w[1]], size(x) * w[1]],
  conv({ size: k, stride, dilation, pad }, [x], to, [rows, columns]) {
    const fits = x.length === 3 && [k, stride, dilation].every((pair) => naturals(pair, 1)) && [0, 1].every((i) => {
      const reach = (k[i] - 1) * dilation[i] + 1, same = Math.ceil(x[i] / stride[i]);
      const margin = Math.floor(Math.max((same - 1) * stride[i] + reach - x[i], 0) / 2);
      return (to[i] === same && pad[i] === margin) || (to[i] === Math.ceil((x[i] - reach + 1) / stride[i]) && pad[i] === 0);
    });
    return fits && rows === k[0] * k[1] * x[2] && [[to[0], to[1], columns], to[0] * to[1] * (rows * columns + 64 * k[0] * k[1])];
  },
  conv_transpose({ size: k, stride, pad }, [x], to, [rows, columns]) {
    const fits = x.length === 3 && [k, stride].every((pair) => naturals(pair, 1)) && [0, 1].every((i) => {
      const more = Math.max(k[i] - stride[i], 0);
      return to[i] === x[i] * stride[i] + (pad[i] === 0 ? more : 0) || (to[i] === x[i] * stride[i] && pad[i] === Math.floor(more / 2));
    });
    return fits && rows === x[2] && columns === k[0] * k[1] * to[2] && [to.slice(0, 3), size(x) * columns];
  },
  affine: ({ bias }, [x], to, w) => bias !== undefined && equal(w, [x.at(-1)]) && [x, size(x)],
  unary: ({ act }, [x]) => act && [x, 16 * size(x)],
  binary({ fn, value, swap }, [a, b, more]) {
    if (!has(BINARY, fn) || more) return;
    if (!b) return finite(value) && typeof swap === "boolean" && [a, 64 * size(a)];
    const rank = Math.max(a.length, b.length), axes = Array.from({ length: rank }, (_, i) => [a.at(i - rank) ?? 1, b.at(i - rank) ?? 1]);
    const wide = axes.map(([m, n]) => (m === n || n === 1 ? m : m === 1 ? n : NaN));
    return swap === undefined && [wide, 128 * size(wide)];
  },
  concat({ axis }, [x, ...rest]) {
    const alike = axis < x.length && rest.every((y) => equal(y.with(axis, 1), x.with(axis, 1)));
    return natural(axis) && alike && [x.with(axis, rest.reduce((sum, y) => sum + y[axis], x[axis]))];
  },
  constant: (_, given, to, w) => !given.length && size(w) === size(to) && [to],
  sum: ({ axis, scale }, [x]) => natural(axis) && axis < x.length && finite(scale) && [x.toSpliced(axis, 1), size(x)],
  view: (_, [x], to) => size(x) === size(to) && [to],
  gather({ permute, repeat, index }, [x], to) {
    if (index) return naturals(index, 0, size(x) - 1) && index.length === size(to) && [to];
    if (permute) return naturals(permute, 0, x.length - 1) && new Set(permute).size === x.length && [permute.map((axis) => x[axis]), 64 * size(x)];
    return naturals(repeat, 1) && repeat.length === x.length && [x.map((n, i) => n * repeat[i]), 64 * size(to)];
  },
};

/** The value of a float16, given as its 16 bits. */
function half(bits) {
  const exponent = (bits >> 10) & 31, fraction = bits & 1023, sign = bits & 32768 ? -1 : 1;
  if (exponent === 31) return NaN;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
}

/** Writes stored weight `w` into `out`, each row of `columns` numbers padded with zeros to `stride`. */
function unpack(payload, w, out, columns, stride) {
  const view = new DataView(payload.buffer, payload.byteOffset + w.at);
  const read = {
    float32: (i) => view.getFloat32(4 * i, true),
    float16: (i) => half(view.getUint16(2 * i, true)),
    int8: (i) => view.getFloat32(4 * (i % columns), true) * view.getInt8(4 * columns + i),
  }[w.dtype];
  for (let i = 0, n = size(w.shape); i < n; i++) {
    const x = read(i);
    if (!finite(x)) fail("it holds a weight that is not finite");
    out[Math.floor(i / columns) * stride + (i % columns)] = x;
  }
}

// ------------------------------------------------------------------------------------- functions of numbers

/** erf by Abramowitz and Stegun 7.1.26: absolute error below 1.5e-7. */
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - p * Math.exp(-x * x));
}
const sigmoid = (x) => 1 / (1 + Math.exp(-x));

const UNARY = {
  relu: (slope = 0, top = Infinity, from = 0) => (x) => (x >= from ? Math.min(x, top) : slope * (x - from)),
  elu: (alpha = 1) => (x) => (x > 0 ? x : alpha * Math.expm1(x)),
  gelu: () => (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
  gelu_tanh: () => (x) => 0.5 * x * (1 + Math.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))),
  silu: () => (x) => x * sigmoid(x),
  sigmoid: () => sigmoid,
  tanh: () => Math.tanh,
  softplus: () => (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  exp: () => Math.exp,
  log: () => Math.log,
  sqrt: () => Math.sqrt,
  square: () => (x) => x * x,
  negative: () => (x) => -x,
  abs: () => Math.abs,
};

const BINARY = {
  add: (a, b) => a + b,
  subtract: (a, b) => a - b,
  multiply: (a, b) => a * b,
  divide: (a, b) => a / b,
  maximum: Math.max,
  minimum: Math.min,
  power: Math.pow,
};

/** Row-major strides of `shape` seen as `wide`: an axis that is repeated has stride 0. */
function strides(shape, wide) {
  const padded = [...Array(wide.length - shape.length).fill(1), ...shape];
  let step = 1;
  return padded.map((_, i) => {
    const axis = padded.length - 1 - i, here = padded[axis] === 1 ? 0 : step;
    step *= padded[axis];
    return here;
  }).reverse();
}

/** For each element of `shape` in order, the offset that `steps` (one per axis) leads to. */
function offsets(shape, steps) {
  let all = [0];
  shape.forEach((n, axis) => {
    all = all.flatMap((base) => Array.from({ length: n }, (_, i) => base + i * steps[axis]));
  });
  return Int32Array.from(all);
}

// ------------------------------------------------------------------------------------------------ the plan

export class Network {
  constructor(bytes, { wasm = true } = {}) {
    try {
      this.plan(...parse(bytes), wasm);
    } catch (error) {
      if (error.message.startsWith("This figure")) throw error;
      fail(`its header is damaged (${error.message})`);
    }
  }

  plan(header, payload, wasm) {
    this.header = header;
    this.top = 0;
    this.fills = []; // to do once the memory is there
    this.steps = []; // to do in every run
    this.at = []; // where each tensor starts; a view starts where its source does
    for (const { id } of header.inputs) this.at[id] = this.reserve(size(header.shapes[id]));
    for (const { op, in: [x], out } of header.ops) this.at[out] = op === "view" ? this.at[x] : this.reserve(size(header.shapes[out]));
    this.weights = header.weights.map((w) => {
      const columns = w.shape.at(-1), stride = (columns + 3) & ~3, at = this.reserve((size(w.shape) / columns) * stride);
      this.fills.push(() => unpack(payload, w, this.f32.subarray(at), columns, stride));
      return at;
    });
    for (const op of header.ops.filter(({ op }) => op !== "view")) {
      this.steps.push(OPS[op.op](this, op, op.in.map((i) => header.shapes[i]), header.shapes[op.out]));
    }
    const pages = Math.ceil(this.top / 16384) || 1;
    try {
      if (!wasm) throw 0;
      const memory = new WebAssembly.Memory({ initial: pages });
      const kernel = new WebAssembly.Module(bytesOf(KERNEL));
      const { gemm } = new WebAssembly.Instance(kernel, { env: { memory } }).exports;
      this.gemm = (a, w, b, y, m, k, n) => gemm(4 * a, 4 * w, 4 * b, 4 * y, m, k, n);
      this.f32 = new Float32Array(memory.buffer);
      this.engine = "WebAssembly";
    } catch {
      this.f32 = new Float32Array(16384 * pages);
      this.engine = "JavaScript";
    }
    this.fills.forEach((fill) => fill());
    const tensor = ({ id, shape, name }) => ({ name, shape, data: this.f32.subarray(this.at[id], this.at[id] + size(shape)) });
    this.inputs = header.inputs.map(tensor);
    this.outputs = header.outputs.map(tensor);
  }

  run() {
    for (const step of this.steps) step();
  }

  /** Room for n numbers, aligned to 16 bytes. */
  reserve(n) {
    const at = this.top;
    if (at + n > MOST) fail("it needs more memory than a page should take");
    this.top += (n + 3) & ~3;
    return at;
  }

  /** y = a·w + b, as kernel.wat does it. Arguments are offsets in numbers, then the sizes. */
  gemm(a, w, b, y, m, k, n) {
    const f = this.f32;
    for (let row = 0; row < m; row++, a += k, y += n) {
      f.copyWithin(y, b, b + n);
      let i = 0, at = w;
      for (; i + 3 < k; i += 4, at += 4 * n) {
        const a0 = f[a + i], a1 = f[a + i + 1], a2 = f[a + i + 2], a3 = f[a + i + 3];
        const w1 = at + n, w2 = w1 + n, w3 = w2 + n;
        for (let j = 0; j < n; j++) f[y + j] += a0 * f[at + j] + a1 * f[w1 + j] + (a2 * f[w2 + j] + a3 * f[w3 + j]);
      }
      for (; i < k; i++, at += n) for (let j = 0; j < n; j++) f[y + j] += f[a + i] * f[at + j];
    }
  }

  /** A step for y = a·w + b that leaves rows of `n` numbers at `y`; `bias` undefined stands for zero. */
  product(a, weight, bias, y, m, k, n) {
    const wide = (n + 3) & ~3; // the kernel's rows
    const target = wide === n ? y : this.reserve(m * wide);
    const b = bias === undefined ? this.reserve(wide) : this.weights[bias], w = this.weights[weight];
    return () => {
      this.gemm(a, w, b, target, m, k, wide);
      if (target !== y) for (let i = 0; i < m; i++) this.f32.copyWithin(y + i * n, target + i * wide, target + i * wide + n);
    };
  }

  /** A step that applies activation `act` = [name, ...parameters], or nothing, to n numbers in place. */
  activation(act, at, n) {
    if (!act) return () => {};
    const [name, ...parameters] = act;
    if (!has(UNARY, name)) throw new Error(`This figure's model needs the function "${name}", which this page does not know.`);
    const fine = (p, i) => finite(p) || (name === "relu" && i === 1 && p === null); // null: no limit
    if (parameters.length > ({ relu: 3, elu: 1 }[name] ?? 0) || !parameters.every(fine)) fail(`its header is damaged (parameters of ${name})`);
    const f = UNARY[name](...parameters.map((p) => p ?? undefined));
    return () => {
      const x = this.f32;
      for (let i = at; i < at + n; i++) x[i] = f(x[i]);
    };
  }
}

// One entry per operation: (network, op, shapes of the inputs, shape of the output) -> a step.
const OPS = {
  dense(net, { in: [x], out, weight, bias, act }, [shape], to) {
    const k = shape.at(-1), n = to.at(-1), m = size(shape) / k;
    const product = net.product(net.at[x], weight, bias, net.at[out], m, k, n);
    const activate = net.activation(act, net.at[out], m * n);
    return () => (product(), activate());
  },

  // Each output pixel's window becomes one row of a matrix (im2col). Which numbers move where is worked
  // out once; numbers that lie outside the image are never written and stay zero.
  conv(net, { in: [x], out, weight, bias, act, size: [kh, kw], stride, dilation, pad }, [[h, w, c]], [oh, ow, n]) {
    const k = kh * kw * c, rows = net.reserve(oh * ow * k), moves = [];
    for (let p = 0; p < oh * ow; p++)
      for (let t = 0; t < kh * kw; t++) {
        const i = Math.floor(p / ow) * stride[0] + Math.floor(t / kw) * dilation[0] - pad[0];
        const j = (p % ow) * stride[1] + (t % kw) * dilation[1] - pad[1];
        if (i < 0 || i >= h || j < 0 || j >= w) continue;
        const to = rows + p * k + t * c, from = net.at[x] + (i * w + j) * c, last = moves.length - 3;
        // The next tap of the same row of the window continues the run before it.
        if (last >= 0 && moves[last] + moves[last + 2] === to && moves[last + 1] + moves[last + 2] === from) moves[last + 2] += c;
        else moves.push(to, from, c);
      }
    const plan = Int32Array.from(moves);
    const product = net.product(rows, weight, bias, net.at[out], oh * ow, k, n);
    const activate = net.activation(act, net.at[out], oh * ow * n);
    return () => {
      const f = net.f32;
      for (let i = 0; i < plan.length; i += 3) {
        const to = plan[i], from = plan[i + 1], run = plan[i + 2];
        if (run > 64) f.copyWithin(to, from, from + run);
        else for (let j = 0; j < run; j++) f[to + j] = f[from + j];
      }
      product();
      activate();
    };
  },

  // Each input pixel times the kernel gives a patch of the output; overlapping patches add up.
  conv_transpose(net, { in: [x], out, weight, bias, act, size: [kh, kw], stride, pad }, [[h, w, c]], [oh, ow, n]) {
    const k = kh * kw * n, patches = net.reserve(h * w * k), y = net.at[out];
    const product = net.product(net.at[x], weight, undefined, patches, h * w, c, k);
    const activate = net.activation(act, y, oh * ow * n);
    return () => {
      const f = net.f32;
      product();
      if (bias === undefined) f.fill(0, y, y + oh * ow * n);
      else for (let p = 0; p < oh * ow; p++) f.copyWithin(y + p * n, net.weights[bias], net.weights[bias] + n);
      let from = patches;
      for (let i = 0; i < h; i++)
        for (let j = 0; j < w; j++)
          for (let ki = 0; ki < kh; ki++)
            for (let kj = 0; kj < kw; kj++, from += n) {
              const r = i * stride[0] + ki - pad[0], s = j * stride[1] + kj - pad[1];
              if (r < 0 || r >= oh || s < 0 || s >= ow) continue;
              const to = y + (r * ow + s) * n;
              for (let t = 0; t < n; t++) f[to + t] += f[from + t];
            }
      activate();
    };
  },

  // y = x * scale + shift along the last axis: batch normalisation, rescaling.
  affine(net, { in: [x], out, weight, bias }, [shape]) {
    const n = size(shape), c = shape.at(-1), from = net.at[x], to = net.at[out], [s, t] = [net.weights[weight], net.weights[bias]];
    return () => {
      for (let i = 0, f = net.f32; i < n; i++) f[to + i] = f[from + i] * f[s + (i % c)] + f[t + (i % c)];
    };
  },

  unary(net, { in: [x], out, act }, [shape]) {
    const n = size(shape), from = net.at[x], to = net.at[out], activate = net.activation(act, to, n);
    return () => {
      net.f32.copyWithin(to, from, from + n);
      activate();
    };
  },

  // Two tensors, or a tensor and the number `value`, with NumPy's broadcasting. `swap`: the number stands first.
  binary(net, { in: [x, y], out, fn, value, swap }, [a, b], to) {
    const f = BINARY[fn], g = swap ? (p, q) => f(q, p) : f, at = net.at[out], from = net.at[x];
    const left = offsets(to, strides(a, to)), right = b && offsets(to, strides(b, to)), other = net.at[y];
    return () => {
      const m = net.f32;
      for (let i = 0; i < left.length; i++) m[at + i] = g(m[from + left[i]], b ? m[other + right[i]] : value);
    };
  },

  concat(net, { in: inputs, out, axis }, shapes, to) {
    const outer = size(to.slice(0, axis)), row = size(to.slice(axis));
    const parts = shapes.map((shape, i) => [net.at[inputs[i]], size(shape.slice(axis))]);
    return () => {
      for (let r = 0, at; r < outer; r++) {
        at = net.at[out] + r * row;
        for (const [from, n] of parts) {
          net.f32.copyWithin(at, from + r * n, from + (r + 1) * n);
          at += n;
        }
      }
    };
  },

  // Numbers that were known when the model was exported; written once.
  constant(net, { out, weight }, _, to) {
    net.fills.push(() => net.f32.copyWithin(net.at[out], net.weights[weight], net.weights[weight] + size(to)));
    return () => {};
  },

  // The sum over one axis, times `scale` (1, or one over the length for a mean).
  sum(net, { in: [x], out, axis, scale }, [shape]) {
    const inner = size(shape.slice(axis + 1)), n = shape[axis], outer = size(shape) / (n * inner), from = net.at[x], to = net.at[out];
    return () => {
      for (let o = 0, f = net.f32; o < outer; o++)
        for (let i = 0; i < inner; i++) {
          let total = 0;
          for (let k = 0; k < n; k++) total += f[from + (o * n + k) * inner + i];
          f[to + o * inner + i] = scale * total;
        }
    };
  },

  // Every output number is a copy of one input number: permuted axes, repeated rows and columns, or a selection.
  gather(net, { in: [x], out, permute, repeat, index: chosen }, [shape], to) {
    const steps = strides(shape, shape), from = net.at[x], at = net.at[out];
    const index = chosen ?? (permute
      ? offsets(to, permute.map((axis) => steps[axis]))
      : offsets(shape.flatMap((n, i) => [n, repeat[i]]), steps.flatMap((step) => [step, 0])));
    return () => {
      for (let i = 0, f = net.f32; i < index.length; i++) f[at + i] = f[from + index[i]];
    };
  },
};
