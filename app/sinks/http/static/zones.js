"use strict";
// -- zones and lines: drawn, dragged, named and saved. The rules of app/session/zone_edit.py ---------
const MOST = { zone: 100, line: 2 }, LEAST = { zone: 3, line: 2 };
let editing = false, shapes = [], chosen = null, draft = null, grip = null, before = null, file = null;
let done = [], undone = [], failed = "", hover = null;

function turned(points) { return [...points.slice(1), points[0]]; }
function middles(points) { const next = turned(points); return points.map(([x, y], i) => [(x + next[i][0]) / 2, (y + next[i][1]) / 2]); }
function tidy([x, y]) { return [x, y].map(v => +Math.min(1, Math.max(0, v)).toFixed(4)); }
function hex([r, g, b]) { return "#" + [r, g, b].map(v => v.toString(16).padStart(2, "0")).join(""); }
function rgb(colour) { const v = parseInt((colour || "#ffffff").slice(1), 16); return [v >> 16, v >> 8 & 255, v & 255]; }
function apart(a, b, reach) { return Math.hypot((a[0] - b[0]) / reach[0], (a[1] - b[1]) / reach[1]); }

function pictureRect() {   // in CSS pixels of the canvas
  const { bitmap } = shown, w = view.clientWidth, h = view.clientHeight;
  const scale = Math.min(w / bitmap.width, h / bitmap.height);
  return { x0: (w - bitmap.width * scale) / 2, y0: (h - bitmap.height * scale) / 2, w: bitmap.width * scale, h: bitmap.height * scale };
}
function pointOf(event) {   // of the frame, 0..1, and how far the pointer may miss
  const at = view.getBoundingClientRect(), p = pictureRect(), miss = event.pointerType === "touch" ? 2 * STYLE.grab : STYLE.grab;
  return { at: [(event.clientX - at.left - p.x0) / p.w, (event.clientY - at.top - p.y0) / p.h], reach: [miss / p.w, miss / p.h] };
}
function inside([x, y], points) {
  let is = false;
  turned(points).forEach(([bx, by], i) => { const [ax, ay] = points[i]; if ((ay > y) !== (by > y) && x < (bx - ax) * (y - ay) / (by - ay) + ax) is = !is; });
  return is;
}
function fromSegment(at, a, b, reach) {
  const ex = (b[0] - a[0]) / reach[0], ey = (b[1] - a[1]) / reach[1], ox = (at[0] - a[0]) / reach[0], oy = (at[1] - a[1]) / reach[1];
  const along = Math.min(1, Math.max(0, (ox * ex + oy * ey) / Math.max(ex * ex + ey * ey, 1e-12)));
  return Math.hypot(ox - along * ex, oy - along * ey);
}
function find(at, reach) {   // a point within reach, else the middle of an edge of the chosen polygon
  const order = shapes.map((_, i) => i).sort((i, j) => (i !== chosen) - (j !== chosen));
  for (const edge of [false, true]) for (const i of order) {
    const s = shapes[i];
    if (edge && (i !== chosen || s.points.length >= MOST[s.kind])) continue;
    const near = (edge ? middles(s.points) : s.points).map((p, k) => [apart(p, at, reach), k]).sort((a, b) => a[0] - b[0])[0];
    if (near[0] <= 1) return { shape: i, point: near[1], edge };
  }
  return null;
}
function shapeAt(at, reach) {
  for (let i = shapes.length - 1; i >= 0; i--) {
    const s = shapes[i], next = turned(s.points);
    if (s.points.some((a, k) => fromSegment(at, a, next[k], reach) <= 1) || s.kind === "zone" && inside(at, s.points)) return i;
  }
  return null;
}

function change(next, select = chosen) { done.push(shapes); if (done.length > 200) done.shift(); undone = []; shapes = next; chosen = select; send(); }
function put(i, changes) { return shapes.map((s, k) => k === i ? { ...s, ...changes } : s); }
function step(from, to) { if (!from.length) return; to.push(shapes); shapes = from.pop(); if (chosen !== null && chosen >= shapes.length) chosen = null; send(); }
function undo() { if (draft) { draft.points.pop(); if (!draft.points.length) draft = null; panel(); } else step(done, undone); }
function finish() {
  if (!draft || draft.points.length < LEAST[draft.kind]) return;
  let n = 1; while (shapes.some(s => s.name === `${draft.kind} ${n}`)) n++;
  const made = { kind: draft.kind, name: `${draft.kind} ${n}`, points: draft.points, colour: hex(colour(shapes.length)), row: null };
  draft = null;
  change([...shapes, made], shapes.length);
}
function rows(kind) {
  return shapes.filter(s => s.kind === kind).map(s => {
    const row = { ...s.row, name: s.name };
    if (s.colour || row.colour !== undefined) row.colour = s.colour;
    if (s.moved || !s.row) {
      if (row.units === "pixels" && row.min_size) row.min_size = row.min_size.map((v, i) => +(v / [shown.bitmap.width, shown.bitmap.height][i]).toFixed(4));
      delete row.units; row.points = s.points;
    }
    return row;
  });
}
function take(told) {
  file = told.file;
  const size = [shown.bitmap.width, shown.bitmap.height];
  return ["zone", "line"].flatMap(kind => told[kind].map(row => ({ kind, name: row.name, colour: row.colour || "", row,
    points: row.points.map(p => tidy(row.units === "pixels" ? [p[0] / size[0], p[1] / size[1]] : p)) })));
}
async function askZones(method, json) { return ask(url("/api/v1/zones"), { method, ...(json && { json }) }); }
let sending = Promise.resolve();
function send(save = false) {   // one after the other: the last one wins
  const body = { zone: rows("zone"), line: rows("line"), ...(save && { save }) };
  sending = sending.then(() => askZones("PUT", body)).then(
    told => { failed = ""; file = told.file; $("zoneSaid").textContent = save ? t("zones.saved", { file }) : ""; },
    error => { failed = error.message; $("zoneSaid").textContent = ""; }).then(panel);
  panel(); draw();
}

// -- what is drawn over the picture -----------------------------------------------------------------
function drawZones(x0, y0, w, h, ratio) {
  const place = ([x, y]) => [x0 + x * w, y0 + y * h];
  const trace = (points, closed) => { pen.beginPath(); points.map(place).forEach(([x, y], i) => i ? pen.lineTo(x, y) : pen.moveTo(x, y)); if (closed) pen.closePath(); };
  const stroke = tone => { pen.strokeStyle = "rgb(0 0 0 / .45)"; pen.lineWidth = (STYLE.line + 2) * ratio; pen.stroke(); pen.strokeStyle = tone; pen.lineWidth = STYLE.line * ratio; pen.stroke(); };
  const dot = (p, tone, size) => { pen.beginPath(); pen.arc(...place(p), size * ratio, 0, 7); pen.fillStyle = tone; pen.fill(); pen.strokeStyle = "#fff"; pen.lineWidth = 1.5 * ratio; pen.stroke(); };
  pen.font = `600 ${STYLE.text * ratio}px system-ui, sans-serif`; pen.textBaseline = "middle";
  shapes.forEach((s, i) => {
    const tone = css(rgb(s.colour)), mine = editing && i === chosen;
    trace(s.points, s.kind === "zone");
    if (editing && s.kind === "zone") { pen.fillStyle = css(rgb(s.colour)).replace(")", mine ? " / .3)" : " / .14)"); pen.fill(); }
    stroke(tone);
    if (s.kind === "line") arrow(s.points.map(place), tone, ratio);
    if (mine) {
      if (s.kind === "zone" && s.points.length < MOST.zone) middles(s.points).forEach(p => dot(p, "rgb(255 255 255 / .55)", STYLE.handle * .6));
      s.points.forEach((p, k) => dot(p, corner !== null && corner % s.points.length === k ? "#fff" : tone, STYLE.handle));
    }
    const [x, y] = place(s.points[0]), height = (1.3 * STYLE.text + 2 * STYLE.pad_y) * ratio, width = pen.measureText(s.name).width + 2 * STYLE.pad_x * ratio;
    const left = Math.max(x0, Math.min(x + 8 * ratio, x0 + w - width)), top = Math.max(y0, y - height - 8 * ratio);
    pen.fillStyle = tone; pen.fillRect(left, top, width, height);
    pen.fillStyle = ink(rgb(s.colour)); pen.fillText(s.name, left + STYLE.pad_x * ratio, top + height / 2);
  });
  if (draft && draft.points.length) {
    trace(hover ? [...draft.points, hover] : draft.points, false); stroke("#fff");
    draft.points.forEach((p, i) => dot(p, i ? "#fff" : css(STYLE.palette[1]), STYLE.handle));
  }
}
function arrow([a, b], tone, ratio) {   // at the middle, towards the side where "in" is
  const dx = b[0] - a[0], dy = b[1] - a[1], long = Math.hypot(dx, dy) || 1, x = (a[0] + b[0]) / 2, y = (a[1] + b[1]) / 2;
  const nx = -dy / long, ny = dx / long, size = STYLE.arrow * ratio, tip = [x + nx * size * 2, y + ny * size * 2];
  pen.beginPath(); pen.moveTo(x, y); pen.lineTo(...tip); pen.strokeStyle = tone; pen.lineWidth = STYLE.line * ratio; pen.stroke();
  pen.beginPath(); pen.moveTo(tip[0] + nx * size, tip[1] + ny * size);
  for (const side of [-1, 1]) pen.lineTo(tip[0] + side * dx / long * size * .7, tip[1] + side * dy / long * size * .7);
  pen.closePath(); pen.fillStyle = tone; pen.fill();
}

// -- the panel --------------------------------------------------------------------------------------
function panel() {
  view.tabIndex = editing ? 0 : -1;
  view.style.touchAction = editing ? "none" : "";
  view.style.cursor = !editing ? "" : draft ? "crosshair" : "default";
  if (!editing) return;
  const s = chosen === null ? null : shapes[chosen];
  $("zoneList").replaceChildren(...shapes.map((each, i) => {
    const dot = make("i"), item = make("button", { type: "button" }, dot, each.name);
    dot.style.background = css(rgb(each.colour)); if (i === chosen) item.setAttribute("aria-current", "true");
    item.onclick = () => { chosen = i; draft = null; panel(); draw(); };
    return item;
  }));
  $("zoneOne").hidden = !s;
  if (s && document.activeElement !== $("zoneName")) $("zoneName").value = s.name;
  if (s) { $("zoneColour").value = s.colour || "#ffffff"; $("zoneTurn").hidden = s.kind !== "line"; }
  $("zoneUndo").disabled = !done.length && !draft; $("zoneRedo").disabled = !undone.length;
  $("zoneSave").disabled = !file;
  $("zoneSave").title = t(file ? "zones.into" : "zones.nofile", { file });
  $("zoneHint").textContent = t(`zones.hint.${draft ? draft.kind : s ? "one" : "none"}`);
  $("zoneFailed").textContent = failed;
}
async function loadZones() { shapes = take(await askZones("GET")); done = []; undone = []; draw(); }
async function edit(on) {
  editing = on; draft = grip = null; chosen = null; failed = "";
  if (on && shown) {
    try { await loadZones(); } catch (error) { failed = error.message; }
  }
  panel(); draw();
}
view.addEventListener("pointerdown", event => {
  if (!editing || !shown || event.button) return;
  const { at, reach } = pointOf(event);
  if (at.some(v => v < -reach[0] || v > 1 + reach[0])) return;
  event.preventDefault(); view.setPointerCapture(event.pointerId);
  if (draft) {
    const p = draft.points;
    if (draft.kind === "zone" && p.length >= 3 && apart(p[0], at, reach) <= 1) finish();
    else {
      if (!p.length || apart(p[p.length - 1], at, reach) > .3) p.push(tidy(at));
      if (p.length === MOST[draft.kind]) finish();
    }
    panel(); draw(); return;
  }
  const found = find(at, reach);
  if (!found) { chosen = shapeAt(at, reach); panel(); draw(); return; }
  before = shapes; chosen = found.shape; grip = found;
  if (found.edge) {
    const points = [...shapes[found.shape].points], k = found.point + 1;
    points.splice(k, 0, middles(points)[found.point]);
    shapes = put(found.shape, { points, moved: true }); grip = { shape: found.shape, point: k };
  }
  panel(); draw();
});
view.addEventListener("pointermove", event => {
  if (!editing || !shown) return;
  const { at } = pointOf(event);
  if (draft) { hover = tidy(at); draw(); }
  if (!grip) return;
  const points = [...shapes[grip.shape].points];
  points[grip.point] = tidy(at);
  shapes = put(grip.shape, { points, moved: true }); draw();
});
view.addEventListener("pointerup", () => {
  if (!grip) return;
  const after = shapes, held = before; shapes = before; before = grip = null;
  const same = JSON.stringify(after.map(s => s.points)) === JSON.stringify(held.map(s => s.points));
  same ? draw() : change(after);
});
view.addEventListener("dblclick", event => {
  if (!editing || !shown) return;
  if (draft) { finish(); panel(); draw(); return; }
  const { at, reach } = pointOf(event), found = find(at, reach);
  if (!found || found.edge) return;
  const s = shapes[found.shape];
  if (s.points.length > LEAST[s.kind]) change(put(found.shape, { points: s.points.filter((_, i) => i !== found.point), moved: true }), found.shape);
});
addEventListener("keydown", event => {
  if (!editing || event.target.tagName === "INPUT") return;
  const key = event.key.toLowerCase();
  if (key === "escape") { if (draft) { draft = null; panel(); draw(); } else choose(tabs[0], true); }
  else if (key === "enter" && draft) { finish(); panel(); draw(); }
  else if ((key === "delete" || key === "backspace") && chosen !== null) change(shapes.filter((_, i) => i !== chosen), null);
  else if ((event.ctrlKey || event.metaKey) && key === "z") { event.preventDefault(); event.shiftKey ? step(undone, done) : undo(); }
  else if ((event.ctrlKey || event.metaKey) && key === "y") { event.preventDefault(); step(undone, done); }
});
// Without a pointer a new one lies in the middle; arrow keys move it, or the corner that C has chosen.
const MIDDLE = { zone: [[.35, .35], [.65, .35], [.65, .65], [.35, .65]], line: [[.5, .7], [.5, .3]] };
let corner = null, resting;
for (const kind of ["zone", "line"]) $(kind === "zone" ? "zoneNew" : "lineNew").onclick = event => {
  draft = { kind, points: [] }; hover = null; chosen = null;
  if (event.isTrusted && !event.detail) { draft.points = MIDDLE[kind]; finish(); view.focus(); }
  panel(); draw();
};
view.addEventListener("keydown", event => {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!editing || chosen === null) return;
  const { points } = shapes[chosen], moves = i => corner === null || corner % points.length === i;
  if (event.key.toLowerCase() === "c") corner = corner === null ? 0 : corner + 1 < points.length ? corner + 1 : null;
  if (!way) { draw(); return; }
  event.preventDefault();
  const moved = points.map(([x, y], i) => moves(i) ? [x + way[0] / 100, y + way[1] / 100] : [x, y]);
  if (moved.some(p => p.some(v => v < 0 || v > 1))) return;
  before ??= shapes; shapes = put(chosen, { points: moved.map(tidy), moved: true }); draw();
  clearTimeout(resting);
  resting = setTimeout(() => { const after = shapes; shapes = before; before = null; change(after); }, 300);
});
let named = null;   // a click beside the shape unchooses it before the change of its name is told
$("zoneName").onfocus = () => { named = chosen; };
$("zoneName").onchange = () => {
  const name = $("zoneName").value.trim(), s = shapes[named];
  if (!s) return;
  if (name && !shapes.some(each => each.kind === s.kind && each.name === name)) change(put(named, { name }));
  $("zoneName").value = shapes[named].name; panel();
};
$("zoneColour").onchange = () => change(put(chosen, { colour: $("zoneColour").value }));
$("zoneTurn").onclick = () => change(put(chosen, { points: [...shapes[chosen].points].reverse(), moved: true }));
$("zoneDelete").onclick = () => change(shapes.filter((_, i) => i !== chosen), null);
$("zoneUndo").onclick = undo;
$("zoneRedo").onclick = () => step(undone, done);
$("zoneSave").onclick = () => send(true);
$("zoneDone").onclick = () => choose(tabs[0], true);
