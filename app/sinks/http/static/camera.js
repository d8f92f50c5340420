// One camera: tabs, what is in view now, its last events, and the instruments for the engineer.
"use strict";
dress("/");
for (const link of document.querySelectorAll("[data-path]")) link.href = url(link.dataset.path);
$("name").textContent = asked.get("source") || t("camera.title");

// -- tabs -----------------------------------------------------------------------------------------
const tabs = [...document.querySelectorAll("[role=tab]")];
function choose(tab, focus = false) {
  for (const each of tabs) {
    const on = each === tab, panel = $(each.getAttribute("aria-controls"));
    each.setAttribute("aria-selected", on); each.tabIndex = on ? 0 : -1; panel.hidden = !on;
    each.id ||= `tab-${panel.id}`; panel.setAttribute("aria-labelledby", each.id);
  }
  if (focus) tab.focus();
  if (editing !== (tab.id === "editZones")) edit(!editing);
  if (tab.id === "editFilters") guardTune(loadTune);
  if (tab.id === "tab-engineer") drawTrend();
}
for (const tab of tabs) {
  tab.onclick = () => choose(tab);
  tab.onkeydown = event => {
    const there = tabs.filter(each => !each.hidden), at = there.indexOf(tab);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: there.length - 1 }[event.key];
    if (to !== undefined) { event.preventDefault(); choose(there.at(to % there.length), true); }
  };
}
choose(tabs[0]);
async function pictureCame() {   // what needs a source that is open
  askZones("GET").then(told => { if (!told.fixed || told.zone.length + told.line.length) { shapes = take(told); $("editZones").hidden = !!told.fixed; draw(); } }).catch(() => {});
  if (MAY) ask(url("/api/v1/filters")).then(() => { $("editFilters").hidden = false; }).catch(() => {});
}
$("boxes").setAttribute("aria-pressed", wanted.boxes);
$("boxes").onclick = () => { wanted.boxes = !wanted.boxes; kept.set("boxes", wanted.boxes ? "yes" : "no"); $("boxes").setAttribute("aria-pressed", wanted.boxes); draw(); };
$("full").hidden = !document.fullscreenEnabled;
$("full").onclick = () => document.fullscreenElement ? document.exitFullscreen() : $("stage").requestFullscreen();

// -- what is in view ------------------------------------------------------------------------------
let last = null;   // the newest instruments
function note() {   // over the picture: why it does not move
  const well = !last || works(last.state), text = well ? shown ? "" : t("camera.wait") : [stated(last), last.cause].filter(Boolean).join(": ");
  if ($("note").textContent !== text) $("note").textContent = text;
  $("note").classList.toggle("over", !!shown);
}
function chips(detections, hidden) {
  const counts = new Map();
  for (const d of detections) counts.set(d.label, [(counts.get(d.label)?.[0] || 0) + 1, d.class_id]);
  const ordered = [...counts].sort((a, b) => a[1][1] - b[1][1]);  // no jumping about
  const made = ordered.slice(0, 12).map(([label, [n, id]]) => chip(counted(label, n), colour(id)));
  const told = made.map(each => each.textContent).join(", ");
  if ($("objects").dataset.told !== told) { $("objects").dataset.told = told; $("objects").replaceChildren(...made.map(each => each.cloneNode(true)), ...(made.length ? [] : [make("span", { className: "under", textContent: t("now.nothing") })])); }
  if (hidden) made.push(chip(t("hidden", { what: Object.entries(hidden).map(([why, n]) => `${n} ${t("hidden." + why)}`).join(", ") })));
  $("seen").replaceChildren(...made);
}
function happened(event, newest = true) {
  const review = LINKS.includes("/review"), item = make(review ? "a" : "div", {}, make("span", { textContent: title(event) || event.type }), make("time", { textContent: when(event.time) }));
  if (review) item.href = `/review?event=${encodeURIComponent(event.id)}`;
  $("recent")[newest ? "prepend" : "append"](make("li", {}, item));
  while ($("recent").children.length > 8) $("recent").lastChild.remove();
  $("quiet").hidden = true;
}

// -- the instruments ------------------------------------------------------------------------------
const ms = n => number(n, n !== null && n < 9.95 ? 1 : 0);
const row = (name, value) => make("div", { className: "row" }, make("span", { textContent: name }), make("span", { textContent: value }));
function duration(s) {
  const d = Math.floor(s / 86400), h = Math.floor(s / 3600) % 24, m = Math.floor(s / 60) % 60;
  return d ? `${d} d ${h} h` : h ? `${h} h ${m} min` : m ? `${m} min ${s % 60} s` : `${s} s`;
}
const trend = [];
function drawTrend() {
  const canvas = $("trend"), ratio = devicePixelRatio || 1, p = canvas.getContext("2d"), tone = getComputedStyle(canvas).color;
  const w = canvas.width = canvas.clientWidth * ratio, h = canvas.height = canvas.clientHeight * ratio;
  const top = Math.max(1, ...trend.map(each => each[1] || 0)) * 1.1, step = w / Math.max(30, trend.length - 1);
  p.strokeStyle = tone; p.lineWidth = 1.6 * ratio; p.lineJoin = "round";
  for (const [i, alpha] of [[1, .4], [0, 1]]) {
    p.globalAlpha = alpha; p.beginPath();
    trend.forEach((each, n) => p.lineTo(w - (trend.length - 1 - n) * step, h - 2 * ratio - (each[i] || 0) / top * (h - 4 * ratio)));
    p.stroke();
  }
}
function sources(s) {
  const all = s.sources || [];
  $("sources").hidden = all.length < 2;
  if (all.length < 2) return;
  const told = JSON.stringify(all.map(each => [each.name, each.state]));
  if ($("sources").dataset.told === told) return;   // what has the focus keeps it
  const focused = document.activeElement?.closest("#sources a")?.textContent; $("sources").dataset.told = told;
  $("sources").replaceChildren(...all.map(each => {
    const made = make("a", { className: pillOf(each.state), textContent: each.name, href: withQuery("/", { source: each.name }) });
    if (!works(each.state)) made.textContent += ` · ${t("state." + each.state)}`;
    if (each.name === s.name) made.setAttribute("aria-current", "page");
    return made;
  }));
  [...$("sources").children].find(each => each.textContent === focused)?.focus();
}
function instruments(s) {
  last = s; sources(s); note();
  if (!works(s.state)) chips([]);
  if (s.name) $("name").textContent = s.name;
  $("source").textContent = s.source; $("engine").textContent = s.engine;
  $("uptime").textContent = t("engineer.up", { time: duration(s.uptime_s) });
  const state = works(s.state) && !s.healthy ? t("state.unwell") : stated(s);
  if ($("state").textContent !== state) $("state").textContent = state;
  $("state").title = s.cause || ""; $("state").className = works(s.state) && !s.healthy ? "pill bad" : pillOf(s.state);
  $("fps").textContent = number(s.fps, 1); $("capture").textContent = number(s.capture_fps, 1);
  $("p50").textContent = ms(s.age_ms[0]); $("p95").textContent = ms(s.age_ms[1]);
  $("processed").textContent = number(s.processed); $("captured").textContent = number(s.captured);
  const drops = Object.entries(s.dropped);
  $("drops").replaceChildren(...(drops.length ? drops : [["", 0]]).map(([why, n]) => row(`${t("engineer.dropped")}${why && ": " + why}`, number(n))));
  const stages = Object.entries(s.stages_ms), longest = Math.max(.001, ...stages.map(([n, v]) => n === "read" ? 0 : v[1] || 0));  // reading is mostly waiting
  $("stages").replaceChildren(...stages.map(([name, [p50, p95]]) => {
    const bar = make("div", { className: "bar" });
    for (const value of [p95, p50]) { const part = make("i"); part.style.width = `${Math.min(100, 100 * (value || 0) / longest)}%`; bar.append(part); }
    return make("div", { className: "stage" }, row(name, `${number(p50, 2)} · ${number(p95, 2)}`), bar);
  }));
  $("outputs").hidden = !s.outputs.length;
  $("sinks").replaceChildren(...s.outputs.map(o => {
    const parts = [["engineer.out", o.delivered], ["engineer.waiting", o.waiting], ["engineer.lost", Object.values(o.dropped).reduce((a, b) => a + b, 0)]];
    return row(o.name, parts.filter(([, n], i) => !i || n).map(([key, n]) => t(key, { n: number(n) })).join(", "));
  }));
  const troubles = s.outputs.filter(each => each.trouble).map(each => `${each.name}: ${each.trouble}`);
  if (!works(s.state) && s.cause) troubles.unshift(s.cause);
  $("health").hidden = s.healthy && !troubles.length;
  $("reasons").textContent = s.reasons.join("; "); $("warnings").textContent = troubles.join("; "); $("others").textContent = s.warnings.join("; ");
  trend.push(s.age_ms); if (trend.length > 120) trend.shift();
  if (!$("engineer").hidden) drawTrend();
}

function found(line) {
  lines.set(line.frame, line);
  if (lines.size > 300) lines.delete(lines.keys().next().value);
  chips(line.detections, line.hidden);
  if (shown && shown.frame === line.frame) draw();
}
note();
if (LINKS.includes("/review")) ask(withQuery("/api/v1/events", { source: asked.get("source"), limit: 8 })).then(told => { for (const event of told.events) happened(event, false); }).catch(() => {});
listen(url("/detections"), found, { events: { stats: instruments }, pauses: true });
listen(url("/events"), happened, { pauses: true });
keepWatching();
