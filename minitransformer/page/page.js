// Draws what the JSON of this page holds: for each model its heads as thumbnails, the chosen one large, and its tokens
// joined by lines. The form of controls says what is shown, and the address bar keeps it. `draw` shows it; `paint`
// redraws what follows the pointer, the focus and the step.

const PAGE = 48; // the tokens of a long text that are shown at once
const AXES = ["queries", "keys"];

const $ = (selector, within = document) => within.querySelector(selector);
const range = (first, last) => Array.from({ length: last - first }, (_, i) => first + i);
const clamp = (value, least, most) => Math.max(least, Math.min(most, value));
const short = (share) => share?.toFixed(3).replace(/^0/, "") ?? "";
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);
const data = JSON.parse($("#data").textContent);
const form = $("#controls");
const fields = form.elements;
const kinds = [...form.querySelectorAll("#kind input")];
const NAMES = Object.fromEntries(kinds.map(({ value, labels }) => [value, labels[0].textContent]));
let models = [];
let hovered = null; // what the pointer or the focus is on: { model, axis, index }

function make(tag, properties, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

// Weights

const WEIGHT = Float32Array.from({ length: 256 }, (_, byte) => (byte / 255) ** 2);

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8ClampedArray(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

const decoded = (maps) => maps.map((map) => ({ ...map, bytes: bytesOf(map.bytes) }));

// The rows first to last of the chosen layer and head: the mean or maximum of their maps, or the rollout.
function weightsOf({ grid, layer, head, how }, first, last) {
  const size = grid.keys.length;
  const isChosen = (map) => [map.layer, "all"].includes(layer) && [map.head, "all"].includes(head);
  const maps = how === "rollout" ? [grid.rollout.findLast(isChosen)] : grid.maps.filter(isChosen);
  return range(first, last).map((t) => {
    const row = new Float32Array(size);
    for (const { bytes } of maps) {
      for (let s = 0; s < size; s++) {
        const weight = WEIGHT[bytes[t * size + s]];
        row[s] = how === "maximum" ? Math.max(row[s], weight) : row[s] + weight / maps.length;
      }
    }
    return row;
  });
}

function described({ grid, layer, head, how }) {
  if (grid.maps.length === 1) return NAMES[grid.kind];
  const layers = layer === "all" ? "all layers" : `${how === "rollout" ? "layers up to" : "layer"} ${layer}`;
  return `${how && `${how} of `}${layers}, ${head === "all" ? "all heads" : `head ${head}`}`;
}

// The form, and the address that keeps what differs from its defaults

let usual = null;

function read() {
  form.reset();
  usual = new FormData(form);
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
    Object.assign(fields.namedItem(name) ?? {}, { value });
  }
  draw();
}

function change(values = {}) {
  for (const [name, value] of Object.entries(values)) fields[name].value = value;
  const kept = [...new FormData(form)].filter(([name, value]) => value !== usual.get(name));
  history.replaceState(null, "", `#${kept.map((pair) => pair.join("=")).join("&")}`);
  draw();
}

// The layer or head of a model: "all", or the number that the form has at its place, or the nearest below that exists.
function chosen(name, numbers, place) {
  const values = fields[name].value.split(",");
  const wanted = values[place] ?? values[0];
  if (wanted === "all" && numbers.length > 1) return "all";
  return numbers.findLast((number) => number <= (parseInt(wanted, 10) || Infinity)) ?? numbers[0];
}

function choose(model, layer, head) {
  const all = (name, value) => models.map((each) => (each === model ? value : each[name])).join(",");
  change({ layer: all("layer", layer), head: all("head", head) });
}

// The step in which the model made a row.
function goTo(place) {
  const step = place?.axis === "queries" ? place.model.grid.rows.indexOf(place.index) : -1;
  if (step >= 0) change({ step: step + 1, queries: "" });
}

// The first and last token of the page that the form names, from 1, or else of the one with this token.
function pageOf(axis, { grid }, token) {
  const count = grid[axis].length;
  const number = fields[axis].value;
  const page = clamp(Math.floor(number ? number - 1 : token / PAGE), 0, Math.ceil(count / PAGE) - 1);
  return [page * PAGE, Math.min(count, (page + 1) * PAGE)];
}

// Cells

// The colour of each byte, as a pixel of an ImageData.
function palette() {
  const pen = make("canvas", { width: 256, height: 1 }).getContext("2d");
  const scale = pen.createLinearGradient(0, 0, 256, 0);
  ["low", "middle", "high"].forEach((name, i) => scale.addColorStop(i / 2, colour(name)));
  pen.fillStyle = scale;
  pen.fillRect(0, 0, 256, 1);
  return new Uint32Array(pen.getImageData(0, 0, 256, 1).data.buffer);
}

// A pixel for each cell; the style makes them larger.
function drawCells(canvas, width, height, byteAt, colours) {
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = colours[byteAt(i)];
  Object.assign(canvas, { width, height }).getContext("2d").putImageData(image, 0, 0);
}

// What the pointer is on: a token, a row of the map or a cell of the image.
function pointed(model, { target, offsetX, offsetY }) {
  if (!target.matches(".cells canvas")) return target.closest(".token")?.place ?? null;
  const labels = $(".labels.queries", model.article).children;
  const [rows, columns] = model.grid.cells ?? [labels.length, 1];
  const placeIn = (offset, size, count) => clamp(Math.floor((offset / size) * count), 0, count - 1);
  const row = placeIn(offsetY, target.offsetHeight, rows);
  if (!model.grid.cells) return labels[row].place;
  return { model, axis: "keys", index: row * columns + placeIn(offsetX, target.offsetWidth, columns) };
}

// The active row or column

function hover(next) {
  if (next === hovered) return;
  hovered = next;
  paint();
}

// That of the token under the pointer or focus, or of its like in another model, else that of the step.
function activeIn(model) {
  if (hovered) {
    const index = model === hovered.model ? hovered.index : linked(hovered, model.grid);
    if (index >= 0) return { axis: hovered.axis, index };
  }
  const { rows } = model.grid; // a model that made fewer steps stays at its last one
  return rows.length ? { axis: "queries", index: rows[Math.min(fields.step.value, rows.length) - 1] } : null;
}

// The place in `to` of a token elsewhere: that of the same step, or the same place if all tokens up to it are the same.
function linked({ model, axis, index }, to) {
  const step = axis === "queries" ? model.grid.rows.indexOf(index) : -1;
  if (step >= 0 && to.rows.length) return to.rows[step] ?? -1;
  return range(0, index + 1).every((i) => model.grid[axis][i] === to[axis][i]) ? index : -1;
}

// A group of buttons is one stop of the Tab key; arrow keys move in it.
function focusIn({ target }) {
  hover(target.place ?? null);
  for (const each of target.closest(".rove")?.children ?? []) each.tabIndex = each === target ? 0 : -1;
}

function moveIn(event) {
  const group = event.target.closest(".rove");
  const columns = group && getComputedStyle(group).gridTemplateColumns.split(" ").length; // 1 if it is no grid
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -Infinity, End: Infinity };
  if (!group || !(event.key in moves)) return;
  event.preventDefault();
  const buttons = [...group.children];
  buttons[clamp(buttons.indexOf(event.target) + moves[event.key], 0, buttons.length - 1)].focus();
}

// Drawing

function modelOf(view) {
  const article = $("#model").content.cloneNode(true).firstElementChild;
  const picture = view.image && new ImageData(bytesOf(view.image.pixels), view.image.width);
  const grids = view.grids.map((grid) => ({ ...grid, maps: decoded(grid.maps), rollout: decoded(grid.rollout) }));
  const model = { ...view, article, picture, grids, drawn: {} };
  $("h2", article).textContent = view.title;
  article.onpointermove = (event) => hover(pointed(model, event));
  article.onpointerleave = () => hover(null);
  article.onclick = (event) => goTo(pointed(model, event));
  return model;
}

function draw() {
  if (!models.length) return;
  hovered = null; // its token may be gone
  const colours = palette();
  $("#stepped").value = `${fields.step.value} of ${fields.step.max}`;
  models.forEach((model, place) => {
    const grid = (model.grid = model.grids.find(({ kind }) => kind === fields.kind.value) ?? model.grids[0]);
    model.article.dataset.kind = grid.kind;
    model.layer = chosen("layer", grid.layers, place);
    model.head = chosen("head", grid.heads, place);
    model.how = [model.layer, model.head].includes("all") ? fields.how.value : "";
    if (model.how === "rollout") model.head = "all"; // it has the mean of the heads
    model.shown = { queries: pageOf("queries", model, activeIn(model)?.index ?? 0), keys: pageOf("keys", model, 0) };
    model.values = weightsOf(model, ...model.shown.queries);
    drawStep(model);
    drawHeads(model, colours);
    for (const axis of AXES) drawAxis(model, axis);
    drawMap(model, colours);
  });
  paint();
  for (const box of document.querySelectorAll("h1, .sofar, .map")) {
    const scrolls = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    box.tabIndex = scrolls ? 0 : -1; // so that the keyboard scrolls it
  }
}

// Whether a part of a model must be drawn, as one of these values changed. What stays keeps the focus.
function isNew(model, part, ...values) {
  const before = model.drawn[part];
  model.drawn[part] = `${values}`;
  return model.drawn[part] !== before;
}

function drawStep({ grid, article, steps, text }) {
  const heads = grid.maps.length > 1 ? `, ${grid.layers.length} × ${grid.heads.length} heads` : "";
  const other = grid.kind === fields.kind.value ? "" : `, as there is no ${NAMES[fields.kind.value]}`;
  $(".about", article).textContent = `${NAMES[grid.kind]}${heads}${other}${text === models[0].text ? "" : `: ${text}`}`;
  const step = steps[Math.min(fields.step.value, steps.length) - 1];
  $(".sofar", article).textContent = step?.text;
  const items = (step?.likeliest ?? []).map(([token, share]) => {
    const number = make("data", { value: share, textContent: short(share) });
    return make("li", { style: `--share: ${share}` }, make("bdi", { textContent: token }), number);
  });
  $(".likeliest", article).replaceChildren(...items);
}

function drawHeads(model, colours) {
  const { grid, article } = model;
  const [group, order] = [$(".heads", article), fields.order.value];
  const buttonOf = ({ layer, head, entropy, distance, bytes }) => {
    const onclick = () => choose(model, layer, head);
    const button = make("button", { map: `${[layer, head]}`, tabIndex: -1, onclick });
    button.ariaLabel = described({ grid, layer, head, how: "" });
    if (!bytes) return Object.assign(button, { textContent: layer === "all" ? head : layer });
    const canvas = make("canvas");
    drawCells(canvas, grid.keys.length, grid.queries.length, (i) => bytes[i], colours);
    const place = order === "layer" ? "" : `${layer}.${head}: `;
    button.append(canvas, make("small", { textContent: `${place}${entropy.toFixed(1)} ${distance.toFixed(1)}` }));
    button.ariaLabel += `: entropy ${entropy.toFixed(2)} bits, distance ${distance.toFixed(2)} tokens`;
    return button;
  };
  const edge = ["all", ...grid.heads].map((head) => ({ layer: "all", head }));
  const rowOf = (layer) => [{ layer, head: "all" }, ...grid.maps.filter((map) => map.layer === layer)];
  const sorted = () => grid.maps.toSorted((one, other) => one[order] - other[order]);
  if (isNew(model, "heads", grid.kind, order, colours)) {
    const buttons = (order === "layer" ? [...edge, ...grid.layers.flatMap(rowOf)] : sorted()).map(buttonOf);
    buttons[0].tabIndex = 0;
    group.replaceChildren(...(grid.maps.length > 1 ? buttons : []));
    group.style = `--heads: ${grid.heads.length}; --ratio: ${grid.keys.length / grid.queries.length}`;
    group.dataset.order = order;
  }
  for (const button of group.children) button.ariaPressed = button.map === `${[model.layer, model.head]}`;
}

// The row of tokens, the labels of the map, and the buttons that turn the pages.
function drawAxis(model, axis) {
  const { grid, article } = model;
  const [first, last] = model.shown[axis];
  if (!isNew(model, axis, grid.kind, first)) return;
  const tokens = grid[axis].slice(first, last);
  const placed = (i, more = "") => ({ place: { model, axis, index: first + i }, className: `token ${more}` });
  const buttons = tokens.map((textContent, i) =>
    make("button", { ...placed(i), tabIndex: i ? -1 : 0 }, make("bdi", { textContent }), make("data")),
  );
  const labels = tokens.map((textContent, i) => make("bdi", { ...placed(i, textContent[2] && "long"), textContent }));
  $(`.tokens.${axis}`, article).replaceChildren(...buttons);
  $(`.labels.${axis}`, article).replaceChildren(...(grid.cells ? [] : labels));
  const [earlier, said, later] = $(`.pages .${axis}`, article).children;
  said.value = `${axis} ${first + 1} to ${last} of ${grid[axis].length}`;
  Object.assign(earlier, { disabled: !first, onclick: () => change({ [axis]: first / PAGE }) });
  Object.assign(later, { disabled: last === grid[axis].length, onclick: () => change({ [axis]: first / PAGE + 2 }) });
}

// The chosen map, keys across and queries down. `paint` draws an image.
function drawMap(model, colours) {
  const { grid, article, shown, values } = model;
  const canvas = $(".map canvas", article);
  const [height, width] = AXES.map((axis) => shown[axis][1] - shown[axis][0]);
  $("figcaption", article).textContent = described(model);
  canvas.ariaLabel = `${described(model)}: ${grid.queries.length} queries, ${grid.keys.length} keys`;
  $(".plot", article).style = `--queries: ${height}; --keys: ${width}`;
  const weight = (i) => values[Math.floor(i / width)][shown.keys[0] + (i % width)];
  if (!grid.cells) drawCells(canvas, width, height, (i) => Math.round(255 * Math.sqrt(weight(i))), colours);
}

// What follows the pointer, the focus and the step

function paint() {
  for (const model of models) {
    const { grid, article, shown, values } = model;
    const active = activeIn(model);
    const first = shown.queries[0];
    const rowAt = (index) => values[index - first] ?? weightsOf(model, index, index + 1)[0];
    const row = active?.axis === "queries" && rowAt(active.index);
    const weight = (index) => (row ? row[index] : values[index - first][active.index]);
    for (const token of article.querySelectorAll(".token")) {
      const { axis, index } = token.place;
      token.ariaCurrent = active?.axis === axis && active.index === index;
      const share = active && active.axis !== axis ? weight(index) : null;
      token.style.setProperty("--weight", Math.sqrt(share ?? 0));
      Object.assign($("data", token) ?? {}, { value: share?.toFixed(6) ?? "", textContent: short(share) });
    }
    if (grid.cells) paintImage(model, active, weight);
    else paintLinks(model, active);
    $(".reading", article).textContent = active ? reading(model, active, weight) : "";
  }
  const said = hovered?.model ?? models[0];
  $("#said").textContent = `${said.title}: ${$(".reading", said.article).textContent}`;
}

// The five largest weights of a row or column in words; a column has the rows that are shown.
function reading({ grid, shown }, { axis, index }, weight) {
  const [other, verb] = axis === "queries" ? ["keys", "reads"] : ["queries", "is read by"];
  const others = axis === "queries" ? range(0, grid.keys.length) : range(...shown.queries);
  const best = others.sort((one, two) => weight(two) - weight(one)).slice(0, 5);
  const said = best.filter((place, i) => !i || weight(place) >= 0.005);
  const quoted = (token) => `“\u2068${token}\u2069”`; // isolated, as it may run from right to left
  const parts = said.map((place) => `${quoted(grid[other][place])} ${short(weight(place))}`);
  return `${quoted(grid[axis][index])} ${verb} ${parts.join(" · ")}`;
}

// The image, and over it the weights of the active row.
function paintImage({ grid, article, picture }, active, weight) {
  const [rows, columns] = grid.cells;
  const [height, width] = [picture.height / rows, picture.width / columns];
  const canvas = Object.assign($(".map canvas", article), { width: picture.width, height: picture.height });
  const pen = canvas.getContext("2d");
  pen.putImageData(picture, 0, 0);
  pen.fillStyle = colour("over");
  for (let s = 0; s < rows * columns; s++) {
    pen.globalAlpha = active?.axis === "queries" ? 0.85 * Math.sqrt(weight(s)) : Number(active?.index === s);
    pen.fillRect((s % columns) * width, Math.floor(s / columns) * height, width, height);
  }
}

// The frame around the active row or column of the map, and the lines between the tokens.
function paintLinks({ article, shown, values }, active) {
  const [first, from] = AXES.map((axis) => shown[axis][0]);
  const frame = $(".cells i", article);
  const [begin, end] = shown[active?.axis ?? "keys"];
  const place = active && active.index - begin + 1;
  frame.hidden = !active || active.index < begin || active.index >= end;
  frame.style.gridArea = active?.axis === "keys" ? `1 / ${place} / -1 / auto` : `${place} / 1 / auto / -1`;

  const middleOf = (button) => button.offsetLeft + button.offsetWidth / 2;
  const [xs, ends] = AXES.map((axis) => [...$(`.tokens.${axis}`, article).children].map(middleOf));
  const width = Math.max(...xs, ...ends) + 16;
  const canvas = $(".lanes canvas", article);
  Object.assign(canvas, { width: 2 * width, height: 128, style: `width: ${width}px` }); // twice as fine as the style
  const pen = canvas.getContext("2d");
  pen.scale(2, 2);
  pen.strokeStyle = colour("accent");
  xs.forEach((x, t) => {
    ends.forEach((to, s) => {
      const share = values[t][from + s];
      const isShown = !active || active.index === (active.axis === "queries" ? first + t : from + s);
      if (!isShown || share < 0.01) return;
      Object.assign(pen, { globalAlpha: Math.sqrt(share), lineWidth: 0.5 + 2.5 * share });
      pen.stroke(new Path2D(`M ${x} 0 C ${x} 32 ${to} 32 ${to} 64`));
    });
  });
}

// The page, and the same page typed into

function show({ views, notes }) {
  models = views.map(modelOf);
  $("#text").textContent = data.explore ? "" : models[0].text;
  $("#notes").replaceChildren(...notes.map((note) => make("li", { textContent: note })));
  $("#models").replaceChildren(...models.map((model) => model.article));
  const has = ({ value }) => models.some((model) => model.grids.some(({ kind }) => kind === value));
  for (const input of kinds) input.labels[0].hidden = !has(input);
  for (const input of kinds) input.defaultChecked = input === kinds.find(has);
  fields.step.max = Math.max(1, ...models.map((model) => model.steps.length));
  read();
}

async function ask(text) {
  let found = { refusal: `the text is longer than ${data.explore} characters` };
  if ([...text].length <= data.explore) {
    const answer = await fetch("view", { method: "POST", body: text }).catch(() => null);
    found = answer?.ok ? await answer.json() : { refusal: "the server does not answer" };
  }
  if (text !== $("#typed").value) return; // a later text is on its way
  if (!found.refusal) show(found);
  $("#answered").textContent = found.refusal ?? "";
}

let typing = 0;
$("#ask").hidden = !data.explore;
$("#typed").oninput = ({ target }) => {
  clearTimeout(typing);
  typing = setTimeout(ask, 150, target.value);
};
addEventListener("input", ({ target }) => {
  if (target.form === form) change(target.name === "step" ? { queries: "" } : {}); // to the page with its row
});
addEventListener("focusin", focusIn);
addEventListener("focusout", () => hover(null));
addEventListener("keydown", moveIn);
addEventListener("hashchange", read);
// The canvases have the colours of the screen or of paper.
for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).onchange = draw;
show(data);
document.documentElement.dataset.ready = "";
