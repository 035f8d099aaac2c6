// Draws what the JSON of this page holds: for each model its heads as thumbnails, the chosen one large, and its tokens
// joined by lines. One state, kept in the address bar, says what is shown. `draw` shows it; `paint` redraws what follows
// the pointer, the focus and the step.

const PAGE = 48; // the tokens of a long text that are shown at once
const NAMES = {
  encoder: "encoder self-attention",
  decoder: "decoder self-attention",
  cross: "cross-attention",
  pooling: "pooling",
  image: "attention to the image",
};

const $ = (selector, within = document) => within.querySelector(selector);
const range = (first, last) => Array.from({ length: last - first }, (_, i) => first + i);
const clamp = (value, least, most) => Math.max(least, Math.min(most, value));
const short = (share) => share.toFixed(3).replace(/^0/, "");
const root = document.documentElement;
const state = {};
let models = [];
let hovered = null; // what the pointer or the focus is on: { model, axis: "query" or "key", index }

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

// Weights

const WEIGHT = Float32Array.from({ length: 256 }, (_, byte) => (byte / 255) ** 2);

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

function gridOf(given) {
  const grid = { ...given, bytes: bytesOf(given.weights), T: given.queries.length, S: given.keys.length };
  const place = (head) => ({ layer: Math.floor(head / given.heads.length), head: head % given.heads.length });
  const measures = given.entropy.map((entropy, i) => ({ ...place(i), entropy, distance: given.distance[i] }));
  const sizes = { L: given.layers.length, H: given.heads.length };
  return Object.assign(grid, sizes, { measures, self: given.kind.endsWith("coder") });
}

// The rows first to last of some layers and heads as one map, their mean or maximum.
function combined(grid, layers, heads, first, last, maximum = false) {
  const values = new Float32Array((last - first) * grid.S);
  for (const layer of layers) {
    for (const head of heads) {
      const start = ((layer * grid.H + head) * grid.T + first) * grid.S;
      for (let i = 0; i < values.length; i++) {
        const weight = WEIGHT[grid.bytes[start + i]];
        values[i] = maximum ? Math.max(values[i], weight) : values[i] + weight;
      }
    }
  }
  return maximum ? values : values.map((value) => value / (layers.length * heads.length));
}

// Attention rollout (Abnar and Zuidema 2020): rows of the product of (A + I) / 2 over the layers, the last one first,
// where A is the mean of the heads. Cross-attention and pooling are carried on through the encoder below them.
function rollout({ grid, grids }, layers, heads, first, last) {
  const below = grid.self ? grid : grids.find((other) => other.self && `${other.keys}` === `${grid.keys}`);
  if (!below) return combined(grid, layers, heads, first, last);
  const size = below.S;
  const own = (_, i) => Number(i % size === first + Math.floor(i / size));
  let rows = grid.self
    ? Float32Array.from({ length: (last - first) * size }, own)
    : combined(grid, layers, heads, first, last);
  for (const layer of (grid.self ? layers : range(0, below.L)).toReversed()) {
    const map = combined(below, [layer], grid.self ? heads : range(0, below.H), 0, size);
    const next = rows.map((value) => value / 2);
    for (let t = 0; t < size; t++) {
      const from = map.subarray(t * size, (t + 1) * size);
      const sum = from.reduce((total, value) => total + value, 0) || 1;
      for (let r = 0; r < last - first; r++) {
        const share = rows[r * size + t] / 2 / sum;
        if (share) for (let s = 0; s < size; s++) next[r * size + s] += share * from[s];
      }
    }
    rows = next;
  }
  return rows;
}

// The rows first to last of the chosen layer and head.
function weightsOf(model, first, last) {
  const { grid } = model;
  const [layer, head] = chosen(model);
  const heads = head === "all" ? range(0, grid.H) : [head];
  if (state.how === "rollout" && (layer === "all" || head === "all")) {
    return rollout(model, range(0, layer === "all" ? grid.L : layer + 1), heads, first, last);
  }
  return combined(grid, layer === "all" ? range(0, grid.L) : [layer], heads, first, last, state.how === "maximum");
}

// The places of the chosen layer and head: "all", or that of its number, or of the nearest below that there is.
function chosen({ grid, layer, head }) {
  const place = (numbers, wanted) =>
    wanted === "all" && numbers.length > 1 ? "all" : Math.max(0, numbers.findLastIndex((number) => number <= wanted));
  return [place(grid.layers, layer), place(grid.heads, head)];
}

function described(model) {
  const { grid } = model;
  const [layer, head] = chosen(model);
  if (grid.L * grid.H === 1) return NAMES[grid.kind];
  const all = layer === "all" || head === "all";
  const upTo = state.how === "rollout" && all ? "layers up to" : "layer";
  const parts = [layer === "all" ? "all layers" : `${all ? upTo : "layer"} ${grid.layers[layer]}`];
  parts.push(head === "all" ? "all heads" : `head ${grid.heads[head]}`);
  return (all ? `${state.how} of ` : "") + parts.join(", ");
}

// State and address

function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  const has = (kind) => models.some((model) => model.grids.some((grid) => grid.kind === kind));
  const kinds = Object.keys(NAMES).filter(has);
  const choice = (name, values, usual = values[0]) => {
    state[name] = values.includes(given.get(name)) ? given.get(name) : usual;
    const fieldset = $(`#${name}`);
    if (!fieldset) return;
    const labels = values.map((value) => {
      const input = make("input", { type: "radio", name, value, checked: state[name] === value });
      input.onchange = () => change({ [name]: value });
      return make("label", {}, input, make("span", { textContent: NAMES[value] ?? value }));
    });
    fieldset.replaceChildren(fieldset.firstElementChild, ...labels);
    fieldset.hidden = values.length < 2; // of the kinds; `draw` hides the others
  };
  choice("kind", kinds, has("cross") ? "cross" : kinds[0]);
  choice("how", ["mean", "maximum", "rollout"]);
  choice("order", ["layer", "entropy", "distance"]);
  state.shade = ["light", "dark"].includes(given.get("shade")) ? given.get("shade") : "";
  for (const [name, usual] of [["step", 1], ["rows", 0], ["keys", 1]]) {
    state[name] = Math.max(usual, parseInt(given.get(name), 10) || usual);
  }
  const numbers = (name, usual) => {
    const values = (given.get(name) ?? "").split(",");
    return (number) => {
      const value = values[number] ?? values[0];
      return value === "all" ? value : parseInt(value, 10) || usual;
    };
  };
  const [layer, head] = [numbers("layer", Infinity), numbers("head", "all")];
  models.forEach((model, number) => Object.assign(model, { layer: layer(number), head: head(number) }));
}

function change(changes = {}) {
  Object.assign(state, "step" in changes ? { rows: 0 } : {}, changes);
  const same = (values) => (new Set(values).size === 1 ? `${values[0]}` : values.join(","));
  const now = { ...state, layer: same(models.map(({ layer }) => layer)), head: same(models.map(({ head }) => head)) };
  const usual = { how: "mean", order: "layer", shade: "", step: 1, rows: 0, keys: 1, layer: "Infinity", head: "all" };
  const kept = Object.entries(now).filter(([name, value]) => value !== usual[name]);
  history.replaceState(null, "", `#${kept.map((pair) => pair.join("=")).join("&")}`);
  draw();
}

// Colours

function colour(name) {
  const [, ...parts] = /#(..)(..)(..)/.exec(getComputedStyle(root).getPropertyValue(`--${name}`));
  return parts.map((part) => parseInt(part, 16));
}

// The colour of each byte, as a pixel of an ImageData.
function palette() {
  const stops = ["low", "middle", "high"].map(colour);
  return Uint32Array.from({ length: 256 }, (_, byte) => {
    const [from, to] = byte < 128 ? stops : stops.slice(1);
    const share = byte < 128 ? byte / 128 : (byte - 128) / 127;
    return from.reduce((pixel, value, i) => pixel | (Math.round(value + share * (to[i] - value)) << (8 * i)), 255 << 24);
  });
}

function pictureOf(width, height, pixelAt) {
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = pixelAt(i);
  const canvas = make("canvas", { width, height });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// A canvas made this large, in the pixels of the screen.
function penOf(canvas, width, height) {
  Object.assign(canvas, { width: width * devicePixelRatio, height: height * devicePixelRatio });
  Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  const pen = canvas.getContext("2d");
  pen.scale(devicePixelRatio, devicePixelRatio);
  return pen;
}

// Tokens

function label(token) {
  if (!token) return "◌"; // one of several tokens that spell a character together
  const shown = (token.trim() || token.replace(/ /g, "␣")).replace(/\n/g, "↵").replace(/\t/g, "⇥");
  const plain = shown.replace(/\p{Cc}/gu, (control) => `\\x${control.charCodeAt(0).toString(16).padStart(2, "0")}`);
  const parts = Array.from(new Intl.Segmenter().segment(plain), ({ segment }) => segment);
  return parts.length > 16 ? `${parts.slice(0, 15).join("")}…` : plain;
}

function nameOf({ cells, keys, queries }, axis, index) {
  if (axis === "key" && cells) return `row ${Math.floor(index / cells[1]) + 1}, column ${(index % cells[1]) + 1}`;
  return `“${label((axis === "key" ? keys : queries)[index])}”`;
}

// The row or column to show: of the token under the pointer or focus, or its like in another model, else of the step.
function activeIn(model) {
  const { grid } = model;
  if (hovered) {
    const { axis } = hovered;
    const index = model === hovered.model ? hovered.index : linked(hovered, grid);
    if (index >= 0) return { axis, index };
  }
  const row = grid.rows[Math.min(state.step, grid.rows.length) - 1];
  return row === undefined ? null : { axis: "query", index: row };
}

// The place in `to` of a token elsewhere: that of the same step, or the same place if all tokens up to it are the same.
function linked({ model, axis, index }, to) {
  const step = axis === "query" ? model.grid.rows.indexOf(index) : -1;
  if (step >= 0 && to.rows.length) return to.rows[step] ?? -1;
  const [ours, theirs] = axis === "query" ? [model.grid.queries, to.queries] : [model.grid.keys, to.keys];
  return range(0, index + 1).every((i) => ours[i] === theirs[i]) ? index : -1;
}

function hover(next) {
  const same = ["model", "axis", "index"].every((name) => next?.[name] === hovered?.[name]);
  hovered = next;
  if (!same) paint();
}

// A click on a row goes to the step in which the model made it.
function goTo(place) {
  const step = place?.axis === "query" ? place.model.grid.rows.indexOf(place.index) : -1;
  if (step >= 0) change({ step: step + 1 });
}

// One stop of the Tab key for a group of buttons, in which the arrow keys move.
function rove(group, columns) {
  const buttons = [...group.children];
  const stop = (button) => buttons.forEach((each) => (each.tabIndex = each === button ? 0 : -1));
  stop(buttons[0]);
  group.onfocusin = (event) => stop(event.target);
  group.onkeydown = (event) => {
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -Infinity, End: Infinity };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const to = clamp(buttons.indexOf(event.target) + moves[event.key], 0, buttons.length - 1);
    stop(buttons[to]);
    buttons[to].focus();
  };
}

// Drawing

function modelOf(view) {
  const article = $("#model").content.cloneNode(true).firstElementChild;
  const model = { ...view, article, grids: view.grids.map(gridOf), drawn: {} };
  $("h2", article).textContent = view.title;
  const canvas = $(".map canvas", article);
  canvas.onpointermove = (event) => hover(model.found(event.offsetX, event.offsetY));
  canvas.onpointerleave = () => hover(null);
  canvas.onclick = () => goTo(hovered);
  return model;
}

function draw() {
  hovered = null; // its token may be gone
  root.dataset.shade = state.shade;
  const dark = state.shade ? state.shade === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const steps = Math.max(1, ...models.map((model) => model.steps.length));
  state.step = Math.min(state.step, steps);
  Object.assign($("#shade"), { textContent: dark ? "Light" : "Dark", value: dark ? "light" : "dark" });
  $("#steps").hidden = steps < 2;
  Object.assign($("#step"), { max: steps, value: state.step });
  $("#stepped").textContent = `${state.step} of ${steps}`;
  const colours = palette();
  for (const model of models) {
    const grid = (model.grid = model.grids.find(({ kind }) => kind === state.kind) ?? model.grids[0]);
    const page = (number, count) => PAGE * Math.floor((Math.min(number, count) - 1) / PAGE);
    const row = grid.rows[Math.min(state.step, grid.rows.length) - 1] ?? 0;
    const [first, from] = [page(state.rows || row + 1, grid.T), grid.cells ? 0 : page(state.keys, grid.S)];
    const to = grid.cells ? 0 : Math.min(grid.S, from + PAGE);
    Object.assign(model, { first, last: Math.min(grid.T, first + PAGE), from, to });
    model.values = weightsOf(model, first, model.last);
    drawStep(model);
    drawHeads(model, colours);
    drawTokens(model);
    (grid.cells ? drawImage : drawMap)(model, colours);
  }
  for (const name of ["how", "order"]) $(`#${name}`).hidden = models.every(({ grid }) => grid.L * grid.H === 1);
  paint();
  for (const box of document.querySelectorAll("h1, .sofar, .map")) {
    const scrolls = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    box.tabIndex = scrolls ? 0 : -1; // so that the keyboard scrolls it
  }
}

function drawStep({ grid, article, steps, text }) {
  const heads = grid.L * grid.H > 1 ? `, ${grid.L} × ${grid.H} heads` : "";
  const other = grid.kind === state.kind ? "" : `, as there is no ${NAMES[state.kind]}`;
  $(".about", article).textContent = `${NAMES[grid.kind]}${heads}${other}${text === models[0].text ? "" : `: ${text}`}`;
  const step = steps[Math.min(state.step, steps.length) - 1];
  $(".step", article).hidden = !step;
  $(".sofar", article).textContent = step?.text;
  const items = (step?.likeliest ?? []).map(([token, share]) => {
    const bar = make("i");
    bar.style.width = `${100 * share}%`;
    const number = make("data", { value: share, textContent: short(share) });
    return make("li", {}, make("bdi", { textContent: label(token) }), make("span", {}, bar), number);
  });
  $(".likeliest", article).replaceChildren(...items);
}

function drawHeads(model, colours) {
  const { grid, article, drawn } = model;
  const group = $(".heads", article);
  const pick = (layer, head, name, ...children) => {
    const button = make("button", { type: "button", ariaLabel: name, place: `${[layer, head]}` }, ...children);
    button.onclick = () => {
      Object.assign(model, { layer: grid.layers[layer] ?? "all", head: grid.heads[head] ?? "all" });
      change();
    };
    return button;
  };
  const thumbnail = ({ layer, head, entropy, distance }) => {
    const start = (layer * grid.H + head) * grid.T * grid.S;
    const canvas = pictureOf(grid.S, grid.T, (i) => colours[grid.bytes[start + i]]);
    canvas.style.aspectRatio = clamp(grid.S / grid.T, 0.5, 2);
    const place = state.order === "layer" ? "" : `${grid.layers[layer]}.${grid.heads[head]}: `;
    const figures = make("small", { textContent: `${place}${entropy.toFixed(1)} ${distance.toFixed(1)}` });
    const says = `entropy ${entropy.toFixed(2)} bits, distance ${distance.toFixed(2)} tokens`;
    return pick(layer, head, `layer ${grid.layers[layer]}, head ${grid.heads[head]}: ${says}`, canvas, figures);
  };
  if (drawn.heads !== `${[grid.kind, state.order, colours]}`) {
    drawn.heads = `${[grid.kind, state.order, colours]}`;
    const inOrder = () => [
      pick("all", "all", "all layers, all heads", "all"),
      ...grid.heads.map((number, head) => pick("all", head, `all layers, head ${number}`, `${number}`)),
      ...grid.layers.flatMap((number, layer) => [
        pick(layer, "all", `layer ${number}, all heads`, `${number}`),
        ...grid.measures.slice(layer * grid.H, (layer + 1) * grid.H).map(thumbnail),
      ]),
    ];
    const sorted = () => grid.measures.toSorted((one, other) => one[state.order] - other[state.order]).map(thumbnail);
    group.replaceChildren(...(state.order === "layer" ? inOrder() : sorted()));
    group.style.setProperty("--heads", grid.H);
    group.dataset.order = state.order;
    group.hidden = grid.L * grid.H === 1;
    rove(group, state.order === "layer" ? grid.H + 1 : grid.H);
  }
  for (const button of group.children) button.ariaPressed = button.place === `${chosen(model)}`;
}

function drawTokens(model) {
  const { grid, article, drawn, first, last, from, to } = model;
  const side = (axis, tokens, begin, end) => {
    const group = $(`.${axis}`, article);
    const buttons = range(begin, end).map((index) => {
      const token = make("bdi", { textContent: label(tokens[index]) });
      const button = make("button", { type: "button", title: tokens[index] }, token, make("data"));
      button.onpointerenter = button.onfocus = () => hover({ model, axis, index });
      button.onpointerleave = button.onblur = () => hover(null);
      button.onclick = () => goTo({ model, axis, index });
      return button;
    });
    group.replaceChildren(...buttons);
    if (buttons.length) rove(group, 1);
    return buttons.map((button) => button.offsetLeft + button.offsetWidth / 2);
  };
  const turner = (name, what, begin, end, count) => {
    const turn = (arrow, says, target, disabled) => {
      const button = make("button", { type: "button", textContent: arrow, ariaLabel: `${says} ${what}`, disabled });
      button.onclick = () => change({ [name]: target + 1 });
      return button;
    };
    const numbers = `${what} ${begin + 1} to ${end} of ${count}`;
    return make("span", {}, turn("←", "earlier", begin - PAGE, !begin), numbers, turn("→", "later", end, end === count));
  };
  if (drawn.tokens === `${[grid.kind, first, from]}`) return;
  drawn.tokens = `${[grid.kind, first, from]}`;
  for (const part of [".lanes canvas", ".key"]) $(part, article).hidden = Boolean(grid.cells);
  model.places = { query: side("query", grid.queries, first, last), key: side("key", grid.keys, from, to) };
  const focused = document.activeElement.ariaLabel;
  const pages = [["rows", "queries", first, last, grid.T], ["keys", "keys", from, to, grid.cells ? 0 : grid.S]];
  $(".pages", article).replaceChildren(...pages.filter((page) => page.at(-1) > PAGE).map((page) => turner(...page)));
  [...$(".pages", article).querySelectorAll("button")].find((button) => button.ariaLabel === focused)?.focus();
}

// The chosen map: keys across, queries down.
function drawMap(model, colours) {
  const { grid, article, first, last, from, to, values } = model;
  const canvas = $(".map canvas", article);
  const { font, color } = getComputedStyle(canvas);
  const accent = `rgb(${colour("accent")})`;
  const measure = Object.assign(canvas.getContext("2d"), { font });
  const widthOf = (text) => Math.ceil(measure.measureText(text).width) + 8;
  const [rows, keys] = [grid.queries.slice(first, last).map(label), grid.keys.slice(from, to).map(label)];
  const left = Math.max(...rows.map(widthOf));
  const cell = Math.floor(clamp(($(".map", article).clientWidth - left - 2) / keys.length, 11, 32));
  const turned = (text) => text.length > 2 || widthOf(text) > cell + 6;
  const top = Math.max(20, ...keys.filter(turned).map(widthOf));
  const [width, height] = [keys.length * cell, rows.length * cell];
  const valueAt = (i) => values[Math.floor(i / keys.length) * grid.S + from + (i % keys.length)];
  const picture = pictureOf(keys.length, rows.length, (i) => colours[Math.round(255 * Math.sqrt(valueAt(i)))]);
  $("figcaption", article).textContent = described(model);
  canvas.ariaLabel = `Map of ${described(model)}: ${grid.T} queries, ${grid.S} keys`;
  model.found = (x, y) => {
    const [s, t] = [Math.floor((x - left) / cell), Math.floor((y - top) / cell)];
    if (t >= 0 && t < rows.length && s < keys.length) return { model, axis: "query", index: first + t };
    return t < 0 && s >= 0 && s < keys.length ? { model, axis: "key", index: from + s } : null;
  };
  model.paint = (active) => {
    const pen = penOf(canvas, left + width + 2, top + height + 2);
    const write = (text, isActive, x, y, turn, textAlign) => {
      const style = { font: isActive ? `bold ${font}` : font, fillStyle: isActive ? accent : color, textAlign };
      Object.assign(pen, style, { textBaseline: "middle" }).save();
      pen.translate(x, y);
      pen.rotate(turn);
      pen.fillText(text, 0, 0);
      pen.restore();
    };
    const [t, s] = ["query", "key"].map((axis, i) => (active?.axis === axis ? active.index - [first, from][i] : -1));
    pen.imageSmoothingEnabled = false;
    pen.drawImage(picture, left, top, width, height);
    rows.forEach((text, i) => write(text, i === t, left - 6, top + (i + 0.5) * cell, 0, "right"));
    keys.forEach((text, i) => {
      const [above, turn, align] = turned(text) ? [5, -Math.PI / 2, "left"] : [9, 0, "center"];
      write(text, i === s, left + (i + 0.5) * cell, top - above, turn, align);
    });
    Object.assign(pen, { strokeStyle: accent, lineWidth: 1.5 });
    if (t >= 0 && t < rows.length) pen.strokeRect(left, top + t * cell, width, cell);
    if (s >= 0 && s < keys.length) pen.strokeRect(left + s * cell, top, cell, height);
  };
}

// The image, and over it the weights of the active row.
function drawImage(model) {
  const { grid, article, image } = model;
  const canvas = $(".map canvas", article);
  const [height, width, channels = 1] = image.shape;
  const bytes = bytesOf(image.pixels);
  const pixel = (i) => [0, 1, 2].reduce((sum, k) => sum | (bytes[i * channels + (k % channels)] << (8 * k)), 255 << 24);
  const picture = pictureOf(width, height, pixel);
  const scale = Math.min(360, $(".map", article).clientWidth) / width;
  const [down, across] = [(height * scale) / grid.cells[0], (width * scale) / grid.cells[1]];
  $("figcaption", article).textContent = described(model);
  canvas.ariaLabel = `Image with the weights of ${described(model)}`;
  model.found = (x, y) => {
    const [row, column] = [Math.floor(y / down), Math.floor(x / across)];
    const inside = row >= 0 && column >= 0 && row < grid.cells[0] && column < grid.cells[1];
    return inside ? { model, axis: "key", index: row * grid.cells[1] + column } : null;
  };
  model.paint = (active, weight) => {
    const pen = penOf(canvas, width * scale, height * scale);
    pen.drawImage(picture, 0, 0, width * scale, height * scale);
    pen.fillStyle = `rgb(${colour("over")})`;
    for (let s = 0; s < grid.S; s++) {
      pen.globalAlpha = active?.axis === "query" ? 0.85 * Math.sqrt(weight(s)) : Number(active?.index === s);
      pen.fillRect((s % grid.cells[1]) * across, Math.floor(s / grid.cells[1]) * down, across, down);
    }
  };
}

// What follows the pointer, the focus and the step

function paint() {
  for (const model of models) {
    const { grid, article, first, last, from, values } = model;
    const active = activeIn(model);
    const row = active?.axis === "query" && rowOf(model, active.index);
    const weight = (index) => (row ? row[index] : values[(index - first) * grid.S + active.index]);
    for (const [axis, start] of [["query", first], ["key", from]]) {
      [...$(`.${axis}`, article).children].forEach((button, i) => {
        button.ariaCurrent = active?.axis === axis && active.index === start + i;
        const share = active && active.axis !== axis ? weight(start + i) : null;
        button.style.setProperty("--weight", Math.sqrt(share ?? 0));
        const number = { value: share?.toFixed(6) ?? "", textContent: share === null ? "" : short(share) };
        Object.assign(button.lastChild, number);
      });
    }
    model.paint(active, weight);
    if (!grid.cells) paintLinks(model, active, weight);
    $(".reading", article).textContent = active ? reading(model, active, weight) : "";
  }
  const said = hovered?.model ?? models[0];
  $("#said").textContent = `${said.title}: ${$(".reading", said.article).textContent}`;
}

function rowOf(model, index) {
  const { grid, first, last, values } = model;
  if (index < first || index >= last) return weightsOf(model, index, index + 1);
  return values.subarray((index - first) * grid.S, (index - first + 1) * grid.S);
}

// The five largest weights of a row or column in words; a column has the rows that are shown.
function reading({ grid, first, last }, { axis, index }, weight) {
  const others = axis === "query" ? range(0, grid.S) : range(first, last);
  const best = others.sort((one, other) => weight(other) - weight(one)).slice(0, 5);
  const said = best.filter((place, i) => !i || weight(place) >= 0.005);
  const parts = said.map((place) => `${nameOf(grid, axis === "query" ? "key" : "query", place)} ${short(weight(place))}`);
  return `${nameOf(grid, axis, index)} ${axis === "query" ? "reads" : "is read by"} ${parts.join(" · ")}`;
}

function paintLinks({ grid, article, first, from, places, values }, active, weight) {
  const height = 64;
  const pen = penOf($(".lanes canvas", article), Math.max(...places.query, ...places.key) + 16, height);
  pen.strokeStyle = `rgb(${colour("accent")})`;
  places.query.forEach((x, t) => {
    places.key.forEach((end, s) => {
      const place = active?.axis === "query" ? [first + t, from + s] : [from + s, first + t];
      if (active && place[0] !== active.index) return;
      const share = active ? weight(place[1]) : values[t * grid.S + from + s];
      if (share < 0.01) return;
      Object.assign(pen, { globalAlpha: Math.sqrt(share), lineWidth: 0.5 + 2.5 * share });
      pen.beginPath();
      pen.moveTo(x, 0);
      pen.bezierCurveTo(x, height / 2, end, height / 2, end, height);
      pen.stroke();
    });
  });
}

// The page, and the same page typed into

function show(data) {
  models = data.views.map(modelOf);
  $("#text").textContent = data.explore ? "" : models[0].text;
  $("#text").classList.toggle("long", $("#text").textContent.length > 150);
  $("#notes").replaceChildren(...data.notes.map((note) => make("li", { textContent: note })));
  $("#models").replaceChildren(...models.map((model) => model.article));
  $("#controls").hidden = !models.length;
  if (models.length) redraw();
}

function redraw() {
  read();
  draw();
}

let asked = 0;
async function ask(text) {
  const number = ++asked;
  const started = performance.now();
  let found = { refusal: `the text is longer than ${data.explore} characters` };
  if ([...text].length <= data.explore) {
    const answer = await fetch("view", { method: "POST", body: text }).catch(() => null);
    found = answer?.ok ? await answer.json() : { refusal: "the server does not answer" };
  }
  if (number !== asked) return; // a later text is on its way
  if (!found.refusal) show(found);
  $("#answered").textContent = found.refusal ?? `${Math.round(performance.now() - started)} ms`;
}

const data = JSON.parse($("#data").textContent);
let typing = 0;
$("#ask").hidden = !data.explore;
$("#ask").onsubmit = (event) => event.preventDefault();
$("#typed").oninput = ({ target }) => {
  clearTimeout(typing);
  typing = setTimeout(ask, 150, target.value);
};
$("#step").oninput = ({ target }) => change({ step: Number(target.value) });
$("#shade").onclick = ({ target }) => change({ shade: target.value });
addEventListener("hashchange", redraw);
addEventListener("resize", () => models.length && draw());
for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).onchange = () => models.length && draw();
show(data);
root.dataset.ready = "";
