"""What runs in the page of `lm inspect`: one head's weights, drawn; asks nothing of a network."""

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1200px; margin: 2em auto;
  padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em; }
.text { background: #f4f5f7; padding: .6em .8em; white-space: pre-wrap; border-radius: 4px; }
.note { color: #666; font-size: .9em; }
.controls label { margin-right: 1em; } select { font: inherit; }
.wide { overflow-x: auto; } img { max-width: 100%; }
#said { min-height: 1.6em; font-variant-numeric: tabular-nums; }
#strip span { display: inline-block; padding: 1px 4px; margin: 1px; border-radius: 3px;
  font-family: ui-monospace, monospace; }
#looks span { cursor: pointer; border: 1px solid #ccc; display: inline-block; padding: 1px 4px;
  margin: 1px; border-radius: 3px; font-family: ui-monospace, monospace; }
#looks span.chosen { border-color: #b3263a; color: #b3263a; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin-bottom: 1.5em; }
th, td { padding: 2px 12px; text-align: right; border-bottom: 1px solid #eee; }
td.token { text-align: left; font-family: ui-monospace, monospace; white-space: pre; }
td.none { color: #bbb; } caption { text-align: left; font-weight: 600; padding: .4em 0; }
"""

SCRIPT = """
'use strict';
const maps = JSON.parse(document.getElementById('maps').textContent);
const byId = (name) => document.getElementById(name);
const [kind, layer, head, canvas] = ['kind', 'layer', 'head', 'canvas'].map(byId);
for (const map of maps) {  // weights are whole numbers of 1 / 65535, two bytes each, low first
  const bytes = atob(map.weights);
  map.weights = new Float32Array(bytes.length / 2);
  for (let i = 0; i < map.weights.length; i++) {
    map.weights[i] = (bytes.charCodeAt(2 * i) + 256 * bytes.charCodeAt(2 * i + 1)) / 65535;
  }
}
let map = maps[0], row = 0, cell = 20, left = 0, top_ = 0;

function fill(select, values) {
  const chosen = select.value;
  select.replaceChildren(...values.map(([value, words]) => new Option(words, value)));
  if (values.some(([value]) => String(value) === chosen)) select.value = chosen;
}

function weight(t, s) {  // of the head that is chosen, or the mean of all heads
  const size = map.rows.length * map.columns.length, at = t * map.columns.length + s;
  const first = Number(layer.value) * map.heads;
  if (head.value !== 'mean') return map.weights[(first + Number(head.value)) * size + at];
  let sum = 0;
  for (let h = 0; h < map.heads; h++) sum += map.weights[(first + h) * size + at];
  return sum / map.heads;
}

const shade = (w) => `rgba(8, 69, 148, ${Math.sqrt(w).toFixed(4)})`;

function draw() {
  const rows = map.rows, columns = map.columns, pen = canvas.getContext('2d');
  cell = Math.max(3, Math.min(26, Math.floor(900 / Math.max(rows.length, columns.length))));
  const every = Math.ceil(12 / cell), font = '12px ui-monospace, monospace';
  pen.font = font;
  const longest = (words) => Math.max(...words.map((word) => pen.measureText(word).width)) + 10;
  left = longest(rows);
  top_ = longest(columns);
  const ratio = window.devicePixelRatio || 1;
  const width = left + cell * columns.length + 1, height = top_ + cell * rows.length + 1;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  canvas.style.width = width + 'px';
  canvas.style.height = height + 'px';
  pen.scale(ratio, ratio);
  pen.font = font;
  pen.textBaseline = 'middle';
  for (let t = 0; t < rows.length; t++) {
    const y = top_ + cell * t;
    for (let s = 0; s < columns.length; s++) {
      pen.fillStyle = shade(weight(t, s));
      pen.fillRect(left + cell * s, y, cell, cell);
    }
    if (t % every) continue;
    pen.fillStyle = t === row ? '#b3263a' : '#222';
    pen.textAlign = 'right';
    pen.fillText(rows[t], left - 5, y + cell / 2);
  }
  pen.fillStyle = '#222';
  pen.textAlign = 'left';
  for (let s = 0; s < columns.length; s += every) {
    pen.save();
    pen.translate(left + cell * (s + 0.5), top_ - 5);
    pen.rotate(-Math.PI / 2);
    pen.fillText(columns[s], 0, 0);
    pen.restore();
  }
  pen.strokeStyle = '#b5b9c0';
  pen.strokeRect(left, top_, cell * columns.length, cell * rows.length);
  pen.strokeStyle = '#b3263a';
  pen.strokeRect(left, top_ + cell * row, cell * columns.length, cell);
  strips();
}

function strips() {
  byId('looks').replaceChildren(...map.rows.map((word, t) => {
    const chip = document.createElement('span');
    chip.textContent = word;
    if (t === row) chip.className = 'chosen';
    chip.onclick = () => { row = t; draw(); };
    return chip;
  }));
  byId('strip').replaceChildren(...map.columns.map((word, s) => {
    const chip = document.createElement('span'), w = weight(row, s);
    chip.textContent = word;
    chip.title = w.toFixed(4);
    chip.style.background = shade(w);
    if (w > 0.3) chip.style.color = 'white';
    return chip;
  }));
}

function choose() {
  map = maps[Number(kind.value)];
  row = Math.min(row, map.rows.length - 1);
  fill(layer, map.layers.map((number, i) => [i, number]));
  const heads = Array.from({length: map.heads}, (_, i) => [i, i]);
  fill(head, [...heads, ['mean', 'mean of all']]);
  draw();
}

function at(event) {
  const box = canvas.getBoundingClientRect();
  const s = Math.floor((event.clientX - box.left - left) / cell);
  const t = Math.floor((event.clientY - box.top - top_) / cell);
  const inside = s >= 0 && t >= 0 && s < map.columns.length && t < map.rows.length;
  return inside ? [t, s] : null;
}

canvas.onmousemove = (event) => {
  const place = at(event);
  byId('said').textContent = place === null ? '' :
    `${map.rows[place[0]]} looks at ${map.columns[place[1]]}: ${weight(...place).toFixed(4)}`;
};
canvas.onclick = (event) => {
  const place = at(event);
  if (place !== null) { row = place[0]; draw(); }
};
fill(kind, maps.map((each, i) => [i, each.title]));
kind.onchange = choose;
layer.onchange = head.onchange = draw;
choose();
"""
