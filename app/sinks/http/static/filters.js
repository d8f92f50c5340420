// The filters of one camera: which classes are told, from which score and size on. Until the end of the run.
"use strict";
let labels = [], met = new Set();   // of the model; which have been in view, so that they stand first

async function guardTune(work) {
  try { $("tuneFailed").textContent = ""; await work(); } catch (error) { $("tuned").textContent = ""; $("tuneFailed").textContent = error.message; }
}
async function loadTune() {
  const source = url("/api/v1/cameras/labels");
  const [told, filters] = await Promise.all([ask(source), ask(url("/api/v1/filters"))]);
  labels = told.labels;
  for (const line of lines.values()) for (const each of line.detections) met.add(each.label);
  fill(filters);
}
function fill(filters) {
  const scores = Object.fromEntries(filters.class_scores.split(",").filter(Boolean).map(text => { const at = text.lastIndexOf("="); return [text.slice(0, at), text.slice(at + 1)]; }));
  const chosen = new Set(filters.classes.split(",").filter(Boolean)), first = label => met.has(label) || scores[label] || chosen.has(label) ? 0 : 1;
  $("classes").replaceChildren(...[...labels].sort((a, b) => first(a) - first(b)).map(label => {
    const box = make("input", { type: "checkbox", checked: !chosen.size || chosen.has(label) });
    const score = make("input", { type: "number", min: 1, max: 100, step: 1, placeholder: t("filters.usual"), value: scores[label] ? Math.round(100 * scores[label]) : "" });
    score.setAttribute("aria-label", t("filters.score", { label }));
    const row = make("div", {}, make("label", {}, box, make("span", { textContent: label })), score, make("span", { className: "under", textContent: "%" }));
    row.dataset.label = label;
    return row;
  }));
  for (const name of ["min_box", "max_box", "max_detections"]) $("tune")[name].value = filters[name];
  $("tune").agnostic_nms.checked = filters.agnostic_nms;
  narrow();
}
const rowsOf = () => [...$("classes").children];
function narrow() { const word = $("find").value.trim().toLowerCase(); for (const each of rowsOf()) each.hidden = !each.dataset.label.toLowerCase().includes(word); }
function tick(on) { for (const each of rowsOf()) if (!each.hidden) each.querySelector("[type=checkbox]").checked = on; }
$("find").oninput = narrow;
$("all").onclick = () => tick(true); $("none").onclick = () => tick(false);
$("find").onkeydown = event => { if (event.key === "Enter") event.preventDefault(); };
async function apply(json) { fill(await ask(url("/api/v1/filters"), { method: "PUT", json })); $("tuned").textContent = t("filters.done"); }
$("tune").onsubmit = event => {
  event.preventDefault();
  guardTune(async () => {
    const all = rowsOf(), on = all.filter(each => each.querySelector("[type=checkbox]").checked).map(each => each.dataset.label);
    if (all.length && !on.length) throw Error(t("filters.nothing"));
    const scores = all.map(each => [each.dataset.label, each.querySelector("[type=number]").value]).filter(([, score]) => score);
    const { min_box, max_box, max_detections, agnostic_nms } = $("tune");
    await apply({ classes: on.length === all.length ? [] : on, class_scores: scores.map(([label, score]) => `${label}=${score / 100}`),
      min_box: min_box.value.trim(), max_box: max_box.value.trim(), max_detections: +max_detections.value, agnostic_nms: agnostic_nms.checked });
  });
};
$("reset").onclick = () => guardTune(() => apply({ classes: [], class_scores: [], min_box: "", max_box: "", max_detections: 500, agnostic_nms: false }));
