// The settings form, made from GET /api/v1/settings: every key with its help, type and limits.
"use strict";
dress("/settings");
$("live").hidden = true;   // nothing is followed here
{
const API = "/api/v1/settings";
const GROUPS = [
  ["Cameras", "Where pictures come from.", ["source", "sources", "reconnect", "wait", "rtsp_transport"]],
  ["What is reported", "Thresholds, classes and sizes of boxes.", ["score", "iou", "classes", "class_scores", "min_box", "max_box", "max_detections", "agnostic_nms"]],
  ["Filters of single cameras", "", ["filter"]],
  ["Zones", "Polygons that objects enter and leave. They are drawn on the picture of the live page.", ["zone"]],
  ["Lines", "Directed lines that objects cross. They are drawn on the picture of the live page.", ["line"]],
  ["Rules", "Which events call for an action.", ["rule"]],
  ["Privacy", "What is hidden in every picture.", ["privacy", "blur_faces"]],
  ["Masks", "Where nothing is looked at.", ["mask"]],
  ["Event store", "", ["store"]],
];
const OPEN = 2;   // groups that are open at first
let told = null, etag = "", edits = {}, number = 0;

function make(tag, attributes = {}, ...inner) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) made.setAttribute(name, value);
  }
  made.append(...inner.filter(each => each !== null && each !== ""));
  return made;
}
const words = name => { const text = name.replaceAll("_", " "); return text[0].toUpperCase() + text.slice(1); };
const at = (tree, path) => path.split(".").reduce((held, key) => held?.[key], tree);
const plain = value => value === null || value === undefined ? "" : Array.isArray(value) ? value.join(", ") : value === true ? "yes" : value === false ? "no" : String(value);
const types = schema => [schema.type].flat();
const isRows = schema => types(schema).includes("array") && schema.items.type === "object";

// -- fields -------------------------------------------------------------------------------------------
// Each gives its element; `changed(value)` is called with undefined for "not set".
function control(id, schema, value, unset, changed) {
  const kinds = types(schema), common = { id, "aria-describedby": `${id}-help ${id}-error` };
  if (schema.enum || kinds.includes("boolean")) {
    const choices = schema.enum?.filter(each => each !== null) ?? [true, false];
    const select = make("select", { ...common, onchange: () => changed(select.value === "" ? undefined : JSON.parse(select.value)) },
      make("option", { value: "" }, unset), ...choices.map(each => make("option", { value: JSON.stringify(each), selected: each === value }, plain(each))));
    return select;
  }
  if (kinds.includes("number") || kinds.includes("integer")) {
    const free = kinds.includes("string");   // such as 0.4,person=0.5
    const input = make("input", { ...common, type: free ? "text" : "number", inputmode: "decimal", min: schema.minimum, max: schema.maximum, step: kinds.includes("integer") ? 1 : "any", value: plain(value), placeholder: unset, autocomplete: "off",
      oninput: () => changed(input.value === "" && !input.validity.badInput ? undefined : free && !/^[\d.]+$/.test(input.value) || !free && input.validity.badInput ? input.value || "?" : Number(input.value)) });
    return input;
  }
  if (kinds.includes("array")) return arrayControl(id, schema, value, unset, changed, common);
  const input = make("input", { ...common, type: "text", value: plain(value), placeholder: unset || schema["x-example"], autocomplete: "off", spellcheck: "false", oninput: () => changed(input.value === "" ? undefined : input.value) });
  return input;
}

function arrayControl(id, schema, value, unset, changed, common) {
  const items = schema.items;
  if (items.enum) {   // ticks
    const chosen = new Set(value ?? []);
    return make("div", { class: "picks", role: "group", "aria-labelledby": `${id}-label` }, ...items.enum.map(each => {
      const tick = make("input", { type: "checkbox", checked: chosen.has(each), onchange: () => { tick.checked ? chosen.add(each) : chosen.delete(each); changed(chosen.size ? items.enum.filter(e => chosen.has(e)) : undefined); } });
      return make("label", {}, tick, each);
    }));
  }
  if (items.type === "array" || items.type === "number" || items.type === "integer") {   // points, seconds
    const area = make(items.type === "array" ? "textarea" : "input", { ...common, rows: 2, spellcheck: "false", placeholder: items.type === "array" ? "[[0.1, 0.2], [0.9, 0.2], [0.5, 0.8]]" : "10, 30" });
    area.value = value === undefined ? "" : items.type === "array" ? JSON.stringify(value) : plain(value);
    area.addEventListener("input", () => {
      if (area.value.trim() === "") return changed(undefined);
      try { changed(JSON.parse(items.type === "array" ? area.value : `[${area.value}]`)); } catch { changed(area.value); }
    });
    return area;
  }
  return listControl(id, value ?? [], schema["x-example"], changed);
}

function listControl(id, value, example, changed) {   // texts, each in a line of its own
  const box = make("div", { class: "list", role: "group", "aria-labelledby": `${id}-label`, "aria-describedby": `${id}-help ${id}-error` });
  const rows = [...value], tell = () => changed(rows.length ? rows.filter(each => each !== "") : undefined);
  const draw = focus => {
    box.replaceChildren(...rows.map((text, i) => {
      const input = make("input", { type: "text", value: text, placeholder: example, "aria-label": `${$(`${id}-label`)?.textContent ?? ""} ${i + 1}`, spellcheck: "false", autocomplete: "off", oninput: () => { rows[i] = input.value; tell(); } });
      return make("div", {}, input, make("button", { type: "button", "aria-label": `Remove ${text || i + 1}`, onclick: () => { rows.splice(i, 1); draw(); tell(); } }, "Remove"));
    }), make("button", { type: "button", onclick: () => { rows.push(""); draw(true); } }, "Add"));
    if (focus) box.querySelector("div:last-of-type input").focus();
  };
  queueMicrotask(() => draw(false));
  return box;
}

function limits(schema) {
  const { minimum: low, maximum: high } = schema;
  return low === undefined ? "" : `${low.toLocaleString("en")} to ${high.toLocaleString("en")}.`;
}

function field(path, schema, value, { unset = "", inside = null, changed }) {
  const id = `f${number++}`, name = (inside ?? path).split(".").at(-1), single = !(types(schema).includes("array") && (schema.items.type === "string" || schema.items.enum));
  const help = [schema.description ? schema.description[0].toUpperCase() + schema.description.slice(1) + "." : "", limits(schema)].filter(Boolean).join(" ");
  const head = [words(name), inside ? null : make("code", {}, path)];
  if (!inside && !schema["x-live"]) head.push(make("span", { class: "tag" }, "after a restart"));
  if (!inside && told.flags.includes(path)) head.push(make("span", { class: "tag" }, "command line wins"));
  const box = make("div", { class: `field${single ? "" : " wide"}`, "data-path": inside ? null : path },
    make(single ? "label" : "span", { id: `${id}-label`, ...(single ? { for: id } : { class: "label" }) }, ...head),
    make("p", { class: "help", id: `${id}-help` }, help),
    control(id, schema, value, unset, given => { box.classList.add("changed"); changed(given); }),
    make("p", { class: "error", id: `${id}-error`, role: "alert" }));
  return box;
}

function rowsField(path, schema) {   // zones, rules, …
  const rows = structuredClone(at(told.values, path) ?? []), one = words(path).toLowerCase();
  const box = make("div", { class: "field wide", "data-path": path }), list = make("div");
  const tell = () => { box.classList.add("changed"); edit(path, rows.length ? rows : undefined); };
  const draw = () => list.replaceChildren(...rows.map((row, i) => make("fieldset", { class: "entry" },
    make("legend", {}, `${words(path)} ${row.name ?? i + 1}`),
    make("div", { class: "grid" }, ...Object.entries(schema.items.properties).map(([key, each]) => field(path, each, row[key], {
      inside: key, unset: plain(each.default ?? ""), changed: value => { value === undefined ? delete row[key] : row[key] = value; tell(); } }))),
    make("button", { type: "button", "aria-label": `Remove ${one} ${row.name ?? i + 1}`, onclick: () => { rows.splice(i, 1); draw(); tell(); } }, "Remove"))));
  draw();
  const drawn = ["zone", "line"].includes(path);
  const add = make("button", { type: "button", onclick: () => { rows.push({}); draw(); tell(); list.lastChild.querySelector("input, textarea, select").focus(); } }, `Add a ${one}`);
  box.append(make("p", { class: "help" }, schema["x-live"] ? "" : "In force after a restart."), list, add, drawn ? make("p", {}, make("a", { href: "/" }, "Draw on the picture")) : "", make("p", { class: "error", role: "alert" }));
  return box;
}

function edit(path, value) {
  const before = at(told.values, path);
  if (JSON.stringify(value) === JSON.stringify(before)) delete edits[path]; else edits[path] = value ?? null;
  const count = Object.keys(edits).length;
  $("save").disabled = $("undo").disabled = !count;
  $("said").textContent = count ? `${count} ${count === 1 ? "setting" : "settings"} changed, not saved yet` : "";
}

// -- the page -----------------------------------------------------------------------------------------
function group(title, about, paths, open) {
  const fields = paths.flatMap(path => {
    const schema = at(told.schema.properties, path.replace(".", ".properties."));
    if (!schema) return [];
    if (schema.type === "object") return Object.keys(schema.properties).map(key => one(`${path}.${key}`));
    return [one(path)];
  });
  if (!fields.length) return "";
  return make("details", { class: "group", open }, make("summary", {}, make("h2", {}, title)), about ? make("p", { class: "about" }, about) : "", make("div", { class: "grid" }, ...fields));
}
function one(path) {
  const schema = at(told.schema.properties, path.replace(".", ".properties.")), now = at(told.in_force, path);
  if (isRows(schema)) return rowsField(path, schema);
  const known = now === null || now === undefined || now === "" || now?.length === 0 ? "not set" : `${plain(now)}`;
  return field(path, schema, at(told.values, path), { unset: known, changed: value => edit(path, value) });
}

function draw() {
  const all = told.schema.properties, placed = new Set(GROUPS.flatMap(each => each[2])), rest = Object.keys(all).filter(path => !placed.has(path));
  const tables = rest.filter(path => all[path].type === "object"), more = rest.filter(path => all[path].type !== "object");
  const open = new Set([...document.querySelectorAll("details[open] h2")].map(each => each.textContent));
  const groups = [...GROUPS, ...tables.map(name => [words(name), all[name].description.split(". ")[0] + (all[name].description.includes(". ") ? "." : ""), [name]]), ["More", "", more]];
  $("all").replaceChildren(make("legend", { class: "away" }, "All settings"), ...groups.map(([title, about, paths], i) => group(title, about, paths, open.size ? open.has(title) : i < OPEN)));
  $("all").disabled = told.fixed;
  $("lead").textContent = told.file ? `They are kept in ${told.file}, with its comments.` : "This run has no file to keep settings in; start it with --config FILE.";
  $("note").hidden = !told.restart && !told.fixed;
  $("note").textContent = [told.fixed && told.file ? "You may look and change nothing." : "", told.restart ? `In the file, and in force after a restart: ${told.after_restart.join(", ")}.` : ""].filter(Boolean).join(" ");
  edits = {};
  $("save").disabled = $("undo").disabled = true;
  search();
}

function search() {
  const asked = $("find").value.trim().toLowerCase();
  for (const group of document.querySelectorAll("details.group")) {
    let any = false;
    for (const each of group.querySelectorAll(".field[data-path]")) {
      each.hidden = asked !== "" && !each.textContent.toLowerCase().includes(asked);
      any ||= !each.hidden;
    }
    group.hidden = !any;
    if (asked && any) group.open = true;
  }
}

async function ask(method, body) {
  const headers = { "X-Kestrel": "1", ...(body && { "Content-Type": "application/json", "If-Match": etag }) };
  const answer = await fetch(API, { method, headers, cache: "no-store", body: body && JSON.stringify(body) });
  const made = await answer.json().catch(() => ({ error: `${answer.status} ${answer.statusText}` }));
  if (answer.ok) { told = made; etag = answer.headers.get("ETag"); }
  return [answer, made];
}

function nested(flat) {
  const made = {};
  for (const [path, value] of Object.entries(flat)) {
    const [table, key] = path.split(".");
    if (key === undefined) made[table] = value; else (made[table] ??= {})[key] = value;
  }
  return made;
}

async function save(event) {
  event.preventDefault();
  for (const each of document.querySelectorAll(".error")) each.textContent = "";
  for (const each of document.querySelectorAll("[aria-invalid]")) each.removeAttribute("aria-invalid");
  $("save").disabled = true;
  $("said").textContent = "Checking and saving…";
  const [answer, made] = await ask("PATCH", nested(edits)).catch(error => [{ ok: false }, { error: error.message }]);
  if (answer.ok) {
    draw();
    const later = made.changed.filter(path => made.after_restart.includes(path)), now = made.changed.filter(path => !made.after_restart.includes(path) && !made.overridden.includes(path));
    $("said").textContent = ["Saved.", now.length ? `In force: ${now.join(", ")}.` : "", later.length ? `After a restart: ${later.join(", ")}.` : "", made.overridden.length ? `The command line stands over ${made.overridden.join(", ")}.` : ""].filter(Boolean).join(" ");
    return;
  }
  $("save").disabled = false;
  const faults = made.faults ?? [];
  let first = null;
  for (const { key, reason, cure } of faults) {
    const box = key && document.querySelector(`.field[data-path="${CSS.escape(key)}"]`);
    if (!box) continue;
    box.closest("details").open = true; box.hidden = false;
    box.lastElementChild.textContent = `${reason}; ${cure}`;
    const input = box.querySelector(":scope > input, :scope > select, :scope > textarea");
    input?.setAttribute("aria-invalid", "true");
    first ??= input ?? box.querySelector("input, select, textarea, button");
  }
  first?.focus();
  $("said").textContent = `Not saved: ${answer.status === 412 ? "the settings were changed elsewhere meanwhile; discard, and change them again" : first ? `see the ${faults.length === 1 ? "marked setting" : "marked settings"}` : made.error}`;
}

async function load() {
  const [answer, made] = await ask("GET");
  if (!answer.ok) { $("lead").textContent = made.error; return; }
  draw();
}

$("form").addEventListener("submit", save);
$("undo").addEventListener("click", async () => { await load(); $("said").textContent = "Discarded."; });
$("find").addEventListener("input", search);
addEventListener("beforeunload", event => { if (Object.keys(edits).length) event.preventDefault(); });
load();
}
