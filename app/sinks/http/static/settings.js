// The settings form, made from GET /api/v1/settings: every key with its help, type and limits.
"use strict";
(() => {
const API = "/api/v1/settings";
const GROUPS = [   // what they are called, and what is in them; tables that are not here have one of their own
  ["group.cameras", ["source", "sources", "reconnect", "wait", "rtsp_transport"]],
  ["group.reported", ["score", "iou", "classes", "class_scores", "min_box", "max_box", "max_detections", "agnostic_nms"]],
  ["group.filter", ["filter"]], ["group.zone", ["zone"]], ["group.line", ["line"]], ["group.rule", ["rule"]],
  ["group.privacy", ["privacy", "blur_faces"]], ["group.mask", ["mask"]], ["group.store", ["store"]],
];
const OPEN = 2;   // groups that are open at first
let told = null, etag = "", edits = {}, count = 0;

function el(tag, attributes = {}, ...inner) {
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
const plain = value => value === null || value === undefined ? "" : Array.isArray(value) ? value.join(", ") : value === true ? t("set.yes") : value === false ? t("set.no") : String(value);
const types = schema => [schema.type].flat();
const isRows = schema => types(schema).includes("array") && schema.items.type === "object";

// -- fields -------------------------------------------------------------------------------------------
// Each gives its element; `changed(value)` is called with undefined for "not set".
function control(id, schema, value, unset, changed) {
  const kinds = types(schema), common = { id, "aria-describedby": `${id}-help ${id}-error` };
  if (schema.enum || kinds.includes("boolean")) {
    const choices = schema.enum?.filter(each => each !== null) ?? [true, false];
    const select = el("select", { ...common, onchange: () => changed(select.value === "" ? undefined : JSON.parse(select.value)) },
      el("option", { value: "" }, unset), ...choices.map(each => el("option", { value: JSON.stringify(each), selected: each === value }, plain(each))));
    return select;
  }
  if (kinds.includes("number") || kinds.includes("integer")) {
    const free = kinds.includes("string");   // such as 0.4,person=0.5
    const input = el("input", { ...common, type: free ? "text" : "number", inputmode: "decimal", min: schema.minimum, max: schema.maximum, step: kinds.includes("integer") ? 1 : "any", value: plain(value), placeholder: unset, autocomplete: "off",
      oninput: () => changed(input.value === "" && !input.validity.badInput ? undefined : free && !/^[\d.]+$/.test(input.value) || !free && input.validity.badInput ? input.value || "?" : Number(input.value)) });
    return input;
  }
  if (kinds.includes("array")) return arrayControl(id, schema, value, unset, changed, common);
  const input = el("input", { ...common, type: "text", value: plain(value), placeholder: unset || schema["x-example"], autocomplete: "off", spellcheck: "false", oninput: () => changed(input.value === "" ? undefined : input.value) });
  return input;
}

function arrayControl(id, schema, value, unset, changed, common) {
  const items = schema.items;
  if (items.enum) {   // ticks
    const chosen = new Set(value ?? []);
    return el("div", { class: "picks", role: "group", "aria-labelledby": `${id}-label` }, ...items.enum.map(each => {
      const tick = el("input", { type: "checkbox", checked: chosen.has(each), onchange: () => { tick.checked ? chosen.add(each) : chosen.delete(each); changed(chosen.size ? items.enum.filter(e => chosen.has(e)) : undefined); } });
      return el("label", {}, tick, each);
    }));
  }
  if (items.type === "array" || items.type === "number" || items.type === "integer") {   // points, seconds
    const area = el(items.type === "array" ? "textarea" : "input", { ...common, rows: 2, spellcheck: "false", placeholder: items.type === "array" ? "[[0.1, 0.2], [0.9, 0.2], [0.5, 0.8]]" : "10, 30" });
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
  const box = el("div", { class: "list", role: "group", "aria-labelledby": `${id}-label`, "aria-describedby": `${id}-help ${id}-error` });
  const rows = [...value], tell = () => changed(rows.length ? rows.filter(each => each !== "") : undefined);
  const draw = focus => {
    box.replaceChildren(...rows.map((text, i) => {
      const input = el("input", { type: "text", value: text, placeholder: example, "aria-label": `${$(`${id}-label`)?.textContent ?? ""} ${i + 1}`, spellcheck: "false", autocomplete: "off", oninput: () => { rows[i] = input.value; tell(); } });
      return el("div", {}, input, el("button", { type: "button", "aria-label": `${t("set.remove")} ${text || i + 1}`, onclick: () => { rows.splice(i, 1); draw(); tell(); } }, t("set.remove")));
    }), el("button", { type: "button", onclick: () => { rows.push(""); draw(true); } }, t("set.add")));
    if (focus) box.querySelector("div:last-of-type input").focus();
  };
  queueMicrotask(() => draw(false));
  return box;
}

function limits(schema) {
  const { minimum: low, maximum: high } = schema;
  return low === undefined ? "" : t("set.limits", { low: low.toLocaleString(LANGUAGE), high: high.toLocaleString(LANGUAGE) });
}

function field(path, schema, value, { unset = "", inside = null, changed }) {
  const id = `f${count++}`, name = (inside ?? path).split(".").at(-1), single = !(types(schema).includes("array") && (schema.items.type === "string" || schema.items.enum));
  const help = [schema.description ? (/^\w+[ ,]/.test(schema.description) ? schema.description[0].toUpperCase() + schema.description.slice(1) : schema.description) + "." : "", limits(schema)].filter(Boolean).join(" ");
  const head = [words(name), inside ? null : el("code", {}, path)];
  if (!inside && !schema["x-live"]) head.push(el("span", { class: "tag" }, t("set.restart")));
  if (!inside && told.flags.includes(path)) head.push(el("span", { class: "tag" }, t("set.flag")));
  const box = el("div", { class: `item${single ? "" : " wide"}`, "data-path": inside ? null : path },
    el(single ? "label" : "span", { id: `${id}-label`, ...(single ? { for: id } : { class: "label" }) }, ...head),
    el("p", { class: "under", id: `${id}-help` }, help),
    control(id, schema, value, unset, given => { box.classList.add("changed"); changed(given); }),
    el("p", { class: "fault", id: `${id}-error`, role: "alert" }));
  return box;
}

function rowsField(path, schema) {   // zones, rules, …
  const rows = structuredClone(at(told.values, path) ?? []);
  const box = el("div", { class: "item wide", "data-path": path }), list = el("div");
  const tell = () => { box.classList.add("changed"); edit(path, rows.length ? rows : undefined); };
  const draw = () => list.replaceChildren(...rows.map((row, i) => el("fieldset", { class: "one" },
    el("legend", {}, `${words(path)} ${row.name ?? i + 1}`),
    el("div", { class: "both" }, ...Object.entries(schema.items.properties).map(([key, each]) => field(path, each, row[key], {
      inside: key, unset: plain(each.default ?? ""), changed: value => { value === undefined ? delete row[key] : row[key] = value; tell(); } }))),
    el("button", { type: "button", "aria-label": `${t("set.remove")} ${row.name ?? i + 1}`, onclick: () => { rows.splice(i, 1); draw(); tell(); } }, t("set.remove")))));
  draw();
  const drawn = ["zone", "line"].includes(path);
  const add = el("button", { type: "button", onclick: () => { rows.push({}); draw(); tell(); list.lastChild.querySelector("input, textarea, select").focus(); } }, t("set.add"));
  box.append(el("p", { class: "under" }, schema["x-live"] ? "" : t("set.restart")), list, add, drawn ? el("p", {}, el("a", { href: "/" }, t("set.drawn"))) : "", el("p", { class: "fault", role: "alert" }));
  return box;
}

function sourcesField(path, schema, unset) {   // with a search for cameras, each of which can be added
  let value = at(told.values, path) ?? [], box = null;
  const list = el("div", { class: "list", role: "status" }), button = el("button", { type: "button", id: "discover", onclick: () => look() }, t("set.search"));
  const make = () => {
    const made = field(path, schema, value, { unset, changed: each => { value = each ?? []; edit(path, each); } });
    made.lastElementChild.before(button, list);
    box?.replaceWith(made);
    return box = made;
  };
  const add = (name, uri) => {
    const base = name.replace(/[^A-Za-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 24) || "camera", taken = new Set(value.map(each => each.split("=")[0]));
    let called = base;
    for (let i = 2; taken.has(called); i++) called = `${base}-${i}`;
    value = [...value, `${called}=${uri}`];
    make().classList.add("changed");
    edit(path, value);
  };
  const look = async () => {
    button.disabled = true;
    list.replaceChildren(t("set.searching"));
    const answer = await fetch("/api/v1/discover", { headers: { "X-Kestrel": "1" }, cache: "no-store" }).catch(error => ({ json: async () => ({ error: error.message }) }));
    const { cameras = [], error } = await answer.json().catch(() => ({ error: answer.statusText }));
    const rows = cameras.flatMap(each => [...each.streams.map(stream => [each.name, stream]), ...(each.fault ? [[`${each.name} ${each.address}: ${each.fault}`, null]] : [])]);
    list.replaceChildren(...rows.map(([name, stream]) => {
      if (!stream) return el("p", { class: "under" }, name);
      const about = [name, stream.profile, stream.encoding, stream.wh_px?.join("×"), stream.fps && t("grid.fps", { fps: number(stream.fps, 0) })].filter(Boolean).join(" · ");
      return el("div", {}, el("span", {}, about), el("button", { type: "button", "aria-label": `${t("set.add")} ${about}`, onclick: () => add(name, stream.uri) }, t("set.add")));
    }), error ?? (rows.length ? "" : t("set.none")));
    button.disabled = false;
  };
  return make();
}

function edit(path, value) {
  const before = at(told.values, path);
  if (JSON.stringify(value) === JSON.stringify(before)) delete edits[path]; else edits[path] = value ?? null;
  const n = Object.keys(edits).length;
  $("save").disabled = $("undo").disabled = !n;
  $("said").textContent = n ? t("set.dirty", { n }) : "";
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
  return el("details", { class: "group", open }, el("summary", {}, el("h2", {}, title)), about ? el("p", { class: "under" }, about) : "", el("div", { class: "both" }, ...fields));
}
function one(path) {
  const schema = at(told.schema.properties, path.replace(".", ".properties.")), now = at(told.in_force, path);
  if (isRows(schema)) return rowsField(path, schema);
  const known = now === null || now === undefined || now === "" || now?.length === 0 ? t("set.unset") : `${plain(now)}`;
  if (path === "sources") return sourcesField(path, schema, known);
  return field(path, schema, at(told.values, path), { unset: known, changed: value => edit(path, value) });
}

function draw() {
  const all = told.schema.properties, placed = new Set(GROUPS.flatMap(each => each[1])), rest = Object.keys(all).filter(path => !placed.has(path));
  const tables = rest.filter(path => all[path].type === "object"), more = rest.filter(path => all[path].type !== "object");
  const open = new Set([...document.querySelectorAll("details[open] h2")].map(each => each.textContent)), about = path => all[path].description.split(". ")[0].replace(/\.?$/, ".");
  const groups = [...GROUPS.map(([key, paths]) => [t(key), "", paths]), ...tables.map(name => [words(name), about(name), [name]]), [t("group.more"), "", more]];
  $("all").replaceChildren(el("legend", { class: "sr" }, t("set.all")), ...groups.map(([title, about, paths], i) => group(title, about, paths, open.size ? open.has(title) : i < OPEN)));
  $("all").disabled = told.fixed;
  $("lead").textContent = told.file ? t("set.kept", { file: told.file }) : t("set.nofile");
  $("notice").hidden = !told.restart && !(told.fixed && told.file);
  $("notice").textContent = [told.fixed && told.file && t("set.look"), told.restart && t("set.waits", { keys: told.after_restart.join(", ") })].filter(Boolean).join(" ");
  edits = {};
  $("save").disabled = $("undo").disabled = true;
  search();
}

function search() {
  const asked = $("find").value.trim().toLowerCase();
  for (const group of document.querySelectorAll("details.group")) {
    let any = false;
    for (const each of group.querySelectorAll(".item[data-path]")) {
      each.hidden = asked !== "" && !each.textContent.toLowerCase().includes(asked);
      any ||= !each.hidden;
    }
    group.hidden = !any;
    if (asked && any) group.open = true;
  }
}

async function send(method, body) {
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
  for (const each of document.querySelectorAll(".fault")) each.textContent = "";
  for (const each of document.querySelectorAll("[aria-invalid]")) each.removeAttribute("aria-invalid");
  $("save").disabled = true;
  $("said").textContent = t("set.saving");
  const [answer, made] = await send("PATCH", nested(edits)).catch(error => [{ ok: false }, { error: error.message }]);
  if (answer.ok) {
    draw();
    const later = made.changed.filter(path => made.after_restart.includes(path)), now = made.changed.filter(path => !made.after_restart.includes(path) && !made.overridden.includes(path));
    const keys = list => list.join(", ");
    $("said").textContent = [t("set.saved"), now.length && t("set.now", { keys: keys(now) }), later.length && t("set.later", { keys: keys(later) }), made.overridden.length && t("set.over", { keys: keys(made.overridden) })].filter(Boolean).join(" ");
    return;
  }
  $("save").disabled = false;
  const faults = made.faults ?? [];
  let first = null;
  for (const { key, reason, cure } of faults) {
    const box = key && document.querySelector(`.item[data-path="${CSS.escape(key)}"]`);
    if (!box) continue;
    box.closest("details").open = true; box.hidden = false;
    box.lastElementChild.textContent = `${reason}; ${cure}`;
    const input = box.querySelector(":scope > input, :scope > select, :scope > textarea");
    input?.setAttribute("aria-invalid", "true");
    first ??= input ?? box.querySelector("input, select, textarea, button");
  }
  first = document.querySelector("#form [aria-invalid]") ?? first;   // the topmost
  first?.focus();
  first?.scrollIntoView({ block: "center" });
  $("said").textContent = t("set.failed", { what: answer.status === 412 ? t("set.stale") : first ? t("set.marked") : made.error });
}

async function load() {
  const [answer, made] = await send("GET");
  if (!answer.ok) { $("lead").textContent = made.error; return; }
  draw();
}

$("form").addEventListener("submit", save);
$("undo").addEventListener("click", async () => { await load(); $("said").textContent = t("set.discarded"); });
$("find").addEventListener("input", search);
addEventListener("beforeunload", event => { if (Object.keys(edits).length) event.preventDefault(); });
dress("/settings");
listen("/events");
load();
})();
