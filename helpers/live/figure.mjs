// The figure around a network: sliders, buttons, a pad and a drawing field in front of it, images, strips, curves, a
// plane and numbers behind it.
// figure.py writes the `spec`; `mount` turns it into elements; every change is drawn at once, inside the event
// that brought it.

import { MOST, Network, bytesOf, fail, finite } from "./engine.mjs";

function element(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "circle", "rect", "text", "line"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const clamp = (x, [low, high]) => Math.min(Math.max(x, low), high);
const written = (x, digits = 2) => x.toFixed(digits).replace("-", "\u2212");
const tick = (x) => String(x).replace("-", "\u2212");

/** Standard normal draw (Box and Muller). */
const gaussian = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());

/** As Python rounds the pixels of a drawing. */
const rounded = (x) => Math.round(1e4 * x) / 1e4;

/** Numbers from 0 to 1 as pixels: grey ones as dark ink on paper, three channels as colours. */
function paint(canvas, data, width = canvas.width, left = 0) {
  const context = canvas.getContext("2d"), pixels = context.createImageData(width, canvas.height);
  const n = width * canvas.height, channels = data.length / n;
  for (let p = 0; p < n; p++) {
    for (let c = 0; c < 3; c++) {
      const x = data[p * channels + (c % channels)];
      pixels.data[4 * p + c] = 255 * (channels === 1 ? 1 - x : x);
    }
    pixels.data[4 * p + 3] = 255;
  }
  context.putImageData(pixels, left, 0);
}

/** A series as an SVG path, and the function that draws it. One that does not depend on the network is drawn once, here. */
function plot({ style, x, y, base, colour }, network, px, py) {
  const numbers = (what) => (Number.isInteger(what?.output) ? network.outputs[what.output].data : what);
  const at = (values, i) => (typeof values === "number" ? values : values.length === 1 ? values[0] : values[i]);
  const node = element("path", { class: `live-${style}`, style: `--ink: ${colour}` });
  const [xs, ys, bases] = [x, y, base].map(numbers);
  const n = Math.max(...[xs, ys, bases].map((v) => v.length ?? 1));
  const draw = () => {
    let d = "";
    for (let i = 0; i < n; i++) {
      const X = px(at(xs, i)).toFixed(1), Y = py(at(ys, i)).toFixed(1), B = py(at(bases, i)).toFixed(1);
      if (style === "dots") d += `M${X} ${Y}h0`;
      else if (style === "bars") d += `M${X} ${B}V${Y}`;
      else d += `${d ? "L" : "M"}${X} ${Y}`;
    }
    if (style === "area") for (let i = n - 1; i >= 0; i--) d += `L${px(at(xs, i)).toFixed(1)} ${py(at(bases, i)).toFixed(1)}`;
    node.setAttribute("d", d);
  };
  draw();
  return [node, [x, y, base].some((what) => numbers(what) !== what) ? draw : () => {}];
}

/** A square with axes, codes and the names of their classes; `place` puts a node to a position in it. */
function square({ names, limits, points, labels, colours, centres }, attributes) {
  const [xs, ys] = limits;
  const canvas = element("canvas", { "aria-hidden": "true", width: 600, height: 600 });
  const node = element("div", { class: "live-pad", ...attributes }, canvas);
  const place = (node, x, y) => {
    node.style.left = `${(100 * (x - xs[0])) / (xs[1] - xs[0])}%`;
    node.style.top = `${(100 * (ys[1] - y)) / (ys[1] - ys[0])}%`;
    return node;
  };
  if (points) {
    const at = new Uint16Array(bytesOf(points).buffer), kinds = bytesOf(labels), context = canvas.getContext("2d");
    context.globalAlpha = 0.75;
    for (let i = 0; i < kinds.length; i++) {
      context.fillStyle = colours[kinds[i]];
      context.beginPath();
      context.arc((600 * at[2 * i]) / 65535, 600 - (600 * at[2 * i + 1]) / 65535, 3.2, 0, 7);
      context.fill();
    }
  }
  for (const [text, x, y] of centres) node.append(place(element("b", { "aria-hidden": "true" }, text), x, y));
  limits.forEach(([low, high], axis) => {
    for (const [end, text] of [["low", tick(low)], ["name", names[axis]], ["high", tick(high)]])
      node.append(element("i", { class: `live-${"xy"[axis]} live-${end}`, "aria-hidden": "true" }, text));
  });
  return { node, canvas, place };
}

/** Lines [[x, y], ...], scaled and moved, with a round pen. */
function trace(context, strokes, scale, [left, top], width) {
  Object.assign(context, { lineWidth: width, lineCap: "round", lineJoin: "round" });
  context.clearRect(0, 0, context.canvas.width, context.canvas.height);
  context.beginPath();
  for (const stroke of strokes) {
    context.moveTo(left + scale * stroke[0][0] + 0.01, top + scale * stroke[0][1]); // so that a dot has a length
    for (const [x, y] of stroke) context.lineTo(left + scale * x, top + scale * y);
  }
  context.stroke();
}

const PEN = 2.4 / 28; // how wide MNIST's ink is: its area by its length, on average over the digits

/**
 * A drawing as numbers from 0 to 1, prepared as MNIST's digits were: scaled, its shape kept, until the ink just fits 20
 * of 28 pixels, and moved until its centre of mass is the middle, which in MNIST is the middle of pixel (14, 14). Lines
 * can be scaled and moved before they become pixels: nothing is resampled. The first round finds out how far to move.
 */
function prepare(strokes, context) {
  const { width, height } = context.canvas, unit = width / 28;
  const along = [0, 1].map((axis) => strokes.flat().map((point) => point[axis]));
  const ends = along.map((v) => [Math.min(...v), Math.max(...v)]);
  const reach = Math.max(0.05, ...ends.map(([low, high]) => high - low)); // a dot stays a dot
  const scale = (20 * unit - PEN * width) / reach;
  const at = ends.map(([low, high]) => 14.5 * unit - (scale * (low + high)) / 2);
  let ink;
  for (let round = 0; round < 2; round++) {
    trace(context, strokes, scale, at, PEN * width);
    const { data } = context.getImageData(0, 0, width, height);
    ink = Array.from({ length: width * height }, (_, p) => data[4 * p + 3] / 255);
    const mass = [0, 0];
    ink.forEach((x, p) => [p % width, Math.floor(p / width)].forEach((i, axis) => (mass[axis] += (i + 0.5) * x)));
    const all = ink.reduce((sum, x) => sum + x);
    for (const axis of [0, 1]) at[axis] += 14.5 * unit - mass[axis] / all;
  }
  return ink.map(rounded);
}

// ------------------------------------------------------------------------------------------------- views
// (spec of the view, network, alt) -> [element, function that draws the network's outputs]

const VIEWS = {
  image({ height, width, output, label }, network, alt) {
    const canvas = element("canvas", { class: "live-image", width, height, role: "img", "aria-label": label || alt });
    const draw = () => paint(canvas, network.outputs[output].data);
    if (!label) return [canvas, draw];
    return [element("div", { class: "live-labelled" }, canvas, element("span", { "aria-hidden": "true" }, label)), draw];
  },

  plane({ series, ...spec }, network, alt) {
    const { node } = square(spec, { role: "img", "aria-label": alt });
    const [px, py] = spec.limits.map(([low, high]) => (x) => (300 * (clamp(x, [low, high]) - low)) / (high - low));
    const plots = series.map((item) => plot(item, network, px, (y) => 300 - py(y)));
    node.append(element("svg", { class: "live-curves", viewBox: "0 0 300 300" }, ...plots.map(([path]) => path)));
    return [node, () => plots.forEach(([, draw]) => draw())];
  },

  curves({ series, xlim, ylim, xlabel, ylabel, xticks, yticks }, network, alt) {
    const [left, right, top, bottom] = [44, 352, 8, 196];
    const px = (x) => left + ((x - xlim[0]) / (xlim[1] - xlim[0])) * (right - left);
    const py = (y) => clamp(bottom + ((y - ylim[0]) / (ylim[1] - ylim[0])) * (top - bottom), [-1e3, 1e3]);
    const svg = element("svg", { class: "live-curves", viewBox: "0 0 360 236", role: "img", "aria-label": alt });
    const inner = element("svg", { x: left, y: top, width: right - left, height: bottom - top, viewBox: `${left} ${top} ${right - left} ${bottom - top}` });
    svg.append(inner, element("path", { class: "live-axes", d: `M${left} ${top}V${bottom}H${right}` }));
    for (const x of xticks) svg.append(element("text", { x: px(x), y: bottom + 15, "text-anchor": "middle" }, tick(x)));
    for (const y of yticks) svg.append(element("text", { x: left - 5, y: py(y) + 4, "text-anchor": "end" }, tick(y)));
    svg.append(element("text", { x: (left + right) / 2, y: bottom + 33, "text-anchor": "middle" }, xlabel));
    const middle = `${11} ${(top + bottom) / 2}`;
    svg.append(element("text", { transform: `translate(${middle}) rotate(-90)`, "text-anchor": "middle" }, ylabel));
    const key = element("div", { class: "live-key" });
    const draws = series.map((item) => {
      const [node, draw] = plot(item, network, px, py);
      inner.append(node);
      key.append(element("span", {}, element("i", { class: `live-${item.style}`, style: `background: ${item.colour}` }), item.label));
      return draw;
    });
    return [element("div", { class: "live-panel" }, svg, key), () => draws.forEach((draw) => draw())];
  },

  numbers({ rows }, network) {
    const shown = rows.map(() => element("output"));
    const list = element("dl", { class: "live-numbers" });
    rows.forEach(({ label, unit }, i) => list.append(element("div", {}, element("dt", {}, label), element("dd", {}, shown[i], ` ${unit}`))));
    return [list, () => rows.forEach(({ output, digits }, i) => (shown[i].value = written(network.outputs[output].data[0], digits)))];
  },
};

// ------------------------------------------------------------------------------------------------- figure

/**
 * Builds a figure inside `stage` and draws it. Returns { network, values, set, show }. `values` maps each input's name
 * to its numbers, or, for a choice, to the index of the chosen label. `show` changes values and redraws; `set` does so
 * on the reader's behalf and then calls `changed(values)`.
 */
function build(stage, spec, network, changed = () => {}) {
  match(spec, network);
  const start = Object.fromEntries(spec.inputs.map((input) => [input.name, input.value]));
  const values = structuredClone(start);
  const updates = []; // what keeps each control equal to `values`
  const strips = []; // what redraws each strip
  const views = spec.views.map((view) => VIEWS[view.kind](view, network, spec.alt));

  function show(next) {
    Object.assign(values, structuredClone(next));
    spec.inputs.forEach(({ name, labels }, i) => {
      const { data } = network.inputs[i];
      if (labels) data.fill(0)[values[name]] = 1;
      else data.set(values[name]);
    });
    for (const strip of strips) strip();
    network.run();
    for (const [, draw] of views) draw();
    for (const update of updates) update();
  }
  function set(next) {
    show(next);
    changed(values);
  }

  const controls = element("div", { class: "live-controls" }), buttons = element("div", { class: "live-buttons" });
  for (const input of spec.inputs)
    if (input.labels) controls.append(choice(input));
    else if (input.drawing) controls.append(drawing(input));
    else controls.append(...group(input));
  buttons.append(button("Reset", () => set(start)));
  if (spec.prior) buttons.append(sample("z", spec.inputs.filter((input) => input.limits)));
  controls.append(buttons);
  if (spec.pad) stage.append(pad(spec.inputs.find(({ name }) => name === spec.pad.input), spec.pad));
  const nodes = views.map(([node]) => node), small = (node) => node.matches(".live-numbers");
  const side = element("div", { class: "live-side" }, ...nodes.filter(small));
  const drawn = spec.inputs.some((input) => input.drawing);
  stage.classList.toggle("live-drawn", drawn);
  (drawn ? stage : side).append(controls); // below the drawing field, or beside the views
  stage.append(...nodes.filter((node) => !small(node)), side);
  // JupyterLab would take the arrow keys for itself.
  for (const node of stage.querySelectorAll("input, button, .live-pad")) node.dataset.lmSuppressShortcuts = "";
  show({});
  return { network, values, set, show };

  /** The sliders of an input, each above its strip where there are strips; in a frame of their own below a title. */
  function group(input) {
    const rows = input.names.flatMap((_, i) => (input.strip ? [slider(input, i), strip(input, i)] : slider(input, i)));
    if (!input.title) return rows;
    if (input.sample) rows.unshift(sample(input.sample, [input]));
    return [element("fieldset", { class: "live-group" }, element("legend", {}, input.title), ...rows)];
  }

  /** What the image becomes where one number runs over its limits and all others stay; a frame marks where it is. */
  function strip(input, i) {
    const { name, names, limits, strip: { steps, view } } = input, [low, high] = limits[i];
    const { height, width, output } = spec.views[view], { data } = network.inputs[spec.inputs.indexOf(input)];
    const label = `${names[i]} from ${tick(low)} to ${tick(high)}`;
    const canvas = element("canvas", { width: steps * width, height, role: "img", "aria-label": label });
    const mark = element("i");
    let drawn;
    strips.push(() => {
      const others = JSON.stringify({ ...values, [name]: values[name].with(i, 0) });
      if (others === drawn) return;
      drawn = others;
      for (let k = 0; k < steps; k++) {
        data[i] = low + ((high - low) * k) / (steps - 1);
        network.run();
        paint(canvas, network.outputs[output].data, width, k * width);
      }
      data[i] = values[name][i];
    });
    updates.push(() => {
      const share = (clamp(values[name][i], limits[i]) - low) / (high - low);
      mark.style.left = `${(100 * share * (steps - 1)) / steps}%`;
    });
    return element("div", { class: "live-strip", style: `--steps: ${steps}` }, canvas, mark);
  }

  function slider({ name, names, limits, step, strip }, i) {
    const range = element("input", { type: "range", min: limits[i][0], max: limits[i][1], step, "aria-label": names[i] });
    const shown = element("output", { "aria-hidden": "true" });
    range.addEventListener("input", () => set({ [name]: values[name].with(i, range.valueAsNumber) }));
    updates.push(() => {
      range.value = values[name][i];
      shown.value = written(values[name][i]);
      range.setAttribute("aria-valuetext", shown.value);
    });
    if (strip) range.style.setProperty("--steps", strip.steps);
    return element("label", {}, element("span", {}, names[i]), range, shown);
  }

  function choice({ name, labels }) {
    const group = `live-${Math.random()}`;
    const boxes = labels.map((_, i) => element("input", { type: "radio", name: group, value: i }));
    boxes.forEach((box, i) => box.addEventListener("change", () => set({ [name]: i })));
    updates.push(() => (boxes[values[name]].checked = true));
    const options = boxes.map((box, i) => element("label", {}, box, element("span", {}, labels[i])));
    return element("fieldset", { class: "live-choice" }, element("legend", {}, name), ...options);
  }

  function button(text, action) {
    const node = element("button", { type: "button" }, text);
    node.addEventListener("click", action);
    return node;
  }

  /** A button that draws these inputs from the prior, within their limits. */
  function sample(text, inputs) {
    const draw = ({ name, limits }) => [name, limits.map((range) => clamp(gaussian(), range))];
    return button(`Sample ${text}`, () => set(Object.fromEntries(inputs.map(draw))));
  }

  /** Puts a field to draw in on the stage, and returns sample images to choose from. */
  function drawing({ name, drawing: { height, width, samples, names } }) {
    const label = "Drawing field: draw a digit with mouse, pen or finger, or choose a sample digit";
    const field = element("canvas", { class: "live-field", width: 560, height: 560, role: "img", "aria-label": label });
    const context = field.getContext("2d"), small = element("canvas", { width, height });
    const brush = small.getContext("2d", { willReadFrequently: true });
    let strokes = [], drawn;
    field.addEventListener("pointerdown", (event) => {
      if (!event.isPrimary || event.button) return;
      field.setPointerCapture(event.pointerId);
      strokes.push([]);
      follow(event);
    });
    field.addEventListener("pointermove", (event) => {
      // Every finger has the field's capture, asked for or not: only the first one draws.
      if (event.isPrimary && field.hasPointerCapture(event.pointerId)) follow(event);
    });
    function follow({ clientX, clientY }) {
      const box = field.getBoundingClientRect();
      const share = [(clientX - box.left) / box.width, (clientY - box.top) / box.height];
      if (!strokes.length) strokes.push([]); // Python may have set another image meanwhile
      strokes.at(-1).push(share.map((x) => clamp(x, [0, 1])));
      const image = prepare(strokes, brush);
      drawn = String(image);
      set({ [name]: image });
    }

    const bytes = bytesOf(samples), size = width * height;
    const images = names.map((_, i) => Array.from(bytes.subarray(i * size, (i + 1) * size), (x) => rounded(x / 255)));
    const options = images.map((image, i) => {
      const thumb = element("canvas", { width, height });
      paint(thumb, image);
      const node = button(thumb, () => set({ [name]: image }));
      node.title = names[i];
      node.setAttribute("aria-label", names[i]);
      return node;
    });
    const texts = images.map(String);
    buttons.append(button("Clear", () => set({ [name]: images[0].map(() => 0) })));
    updates.push(() => {
      const now = String(values[name]);
      options.forEach((option, i) => option.setAttribute("aria-pressed", now === texts[i]));
      if (strokes.length && now === drawn) return trace(context, strokes, field.width, [0, 0], PEN * field.width);
      strokes = [];
      paint(small, values[name]);
      context.imageSmoothingEnabled = false;
      context.drawImage(small, 0, 0, field.width, field.height);
    });
    stage.append(field);
    return element("div", { class: "live-samples", role: "group", "aria-label": "Samples" }, ...options);
  }

  /** Two numbers as a plane, with points behind the one that moves. */
  function pad({ name, names, limits, step }, spec) {
    const [xs, ys] = limits;
    const point = element("span", { class: "live-point" });
    const what = `Plane of ${names[0]} and ${names[1]}: drag the point, or move it with the arrow keys`;
    const role = { role: "application", "aria-roledescription": "two-dimensional slider", "aria-label": what };
    const { node: plane, canvas, place } = square({ names, limits, ...spec }, { tabindex: 0, ...role });
    plane.append(point);
    updates.push(() => place(point, clamp(values[name][0], xs), clamp(values[name][1], ys)));

    const move = (x, y) => set({ [name]: [clamp(x, xs), clamp(y, ys)] });
    const follow = ({ clientX, clientY }) => {
      const { left, top, width, height } = canvas.getBoundingClientRect();
      move(xs[0] + ((clientX - left) / width) * (xs[1] - xs[0]), ys[1] - ((clientY - top) / height) * (ys[1] - ys[0]));
    };
    plane.addEventListener("pointerdown", (event) => {
      plane.setPointerCapture(event.pointerId);
      follow(event);
    });
    plane.addEventListener("pointermove", (event) => plane.hasPointerCapture(event.pointerId) && follow(event));
    plane.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] }[event.key];
      if (!by) return;
      event.preventDefault();
      const far = event.shiftKey ? 10 * step : step;
      move(values[name][0] + by[0] * far, values[name][1] + by[1] * far);
    });
    return plane;
  }
}

/** Throws unless the description fits the network: the same inputs, and views of outputs that are there. */
function match({ inputs, views }, network) {
  const ensure = (fine, what) => fine || fail(`its description does not fit it (${what})`);
  const length = (what) => (Number.isInteger(what?.output) ? network.outputs[what.output].data : what).length ?? 1;
  ensure(inputs.length === network.inputs.length, "inputs");
  inputs.forEach(({ name, size, value, labels, names, limits, strip }, i) => {
    const { name: own, data } = network.inputs[i];
    ensure(name === own && size === data.length, `input ${own}`);
    ensure(labels ? labels.length === size && value in labels : value.length === size && value.every(finite), `value of ${own}`);
    if (limits) ensure(limits.length === size && names.length === size && limits.every(([low, high]) => low < high), `limits of ${own}`);
    if (strip) ensure(strip.steps > 1 && strip.steps <= 100 && views[strip.view].kind === "image", `strip of ${own}`);
  });
  for (const { kind, height, width, output, rows, series } of views) {
    ensure(Object.hasOwn(VIEWS, kind), `view ${kind}`);
    if (kind === "image") ensure([1, 3].includes(length({ output }) / (height * width)), "image");
    for (const row of rows ?? []) ensure(length(row) === 1, row.label);
    for (const { x, y, base, label } of series ?? []) ensure(new Set([x, y, base].map(length).filter((n) => n !== 1)).size < 2, label);
  }
}

/** The bytes of a compressed part of the page. */
async function unpacked(text) {
  if (typeof DecompressionStream === "undefined") throw new Error("This browser is too old for the live figure.");
  const chunks = [];
  let total = 0;
  try {
    const reader = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
    for (let part; !(part = await reader.read()).done; chunks.push(part.value)) {
      total += part.value.length;
      if (total > 4 * MOST) throw new Error("too long");
    }
  } catch (error) {
    fail(`it cannot be unpacked (${error.message})`);
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

/** Says in the figure's place what went wrong; the still picture stays. */
function report(figure, { message }) {
  figure.querySelector(".live-stage")?.replaceChildren();
  const text = message.startsWith("This ") ? message : `This figure cannot be shown: ${message}`;
  figure.prepend(element("p", { class: "live-error", role: "alert" }, text));
}

/** The model of a figure, as text. A page may keep it in a script of its own: then it is asked for once the page is shown. */
async function modelOf(part) {
  const { src } = part.dataset;
  if (src) {
    if (document.readyState !== "complete") await new Promise((done) => addEventListener("load", done, { once: true }));
    await new Promise((done, failed) => {
      const script = element("script", { src });
      script.onload = done;
      script.onerror = () => failed(new Error("This figure's model could not be loaded. Open the page again to try once more."));
      document.head.append(script);
    });
  }
  return part.textContent;
}

/** Brings a figure on a page to life: reads its parts, replaces the still picture by the controls. */
async function mount(figure) {
  try {
    const [spec, part] = ["spec", "model"].map((name) => figure.querySelector(`script[data-part="${name}"]`));
    const model = await modelOf(part), { textContent: text } = spec;
    const digest = await globalThis.crypto.subtle?.digest("SHA-256", new TextEncoder().encode(model + text)); // none over plain http
    const key = digest && Array.from(new Uint8Array(digest), (x) => x.toString(16).padStart(2, "0")).join("");
    if (key && !key.startsWith(figure.dataset.live)) fail("some of its characters have changed");
    const network = new Network(await unpacked(model)), stage = element("div", { class: "live-stage" });
    await new Promise((resume) => setTimeout(resume)); // what waits for the page meanwhile, such as a scroll, comes first
    figure.live = build(stage, JSON.parse(text), network);
    // A browser without scroll anchoring moves what is being read when something above it changes its height.
    const { bottom, height } = CSS.supports("overflow-anchor", "auto") ? {} : figure.getBoundingClientRect();
    figure.querySelector(".live-poster").replaceWith(stage);
    if (bottom < 0) scrollBy(0, figure.getBoundingClientRect().height - height);
  } catch (error) {
    report(figure, error);
  }
}

export function mountAll(key) {
  for (const figure of document.querySelectorAll(`figure.live[data-live="${key}"]:not([data-mounted])`)) {
    figure.dataset.mounted = "";
    mount(figure);
  }
}

// The same figure as a widget in a live kernel (anywidget): `value` is shared with Python in both directions.
function render({ model, el }) {
  const stage = element("div", { class: "live-stage" });
  const figure = element("figure", { class: "live" }, stage);
  el.append(figure);
  function show() {
    const view = model.get("model");
    const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    stage.replaceChildren();
    try {
      figure.live = build(stage, { ...model.get("spec") }, new Network(bytes), (values) => {
        model.set("value", structuredClone(values));
        model.save_changes();
      });
      follow();
    } catch (error) {
      report(figure, error);
    }
  }
  const follow = () => figure.live.show(model.get("value"));
  show();
  model.on("change:value", follow);
}

export default { render };
