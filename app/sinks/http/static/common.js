// What all pages share. TEXTS, STYLE and LINKS stand before this (pages.py).
"use strict";
const $ = id => document.getElementById(id);
const make = (tag, what = {}, ...inside) => { const e = Object.assign(document.createElement(tag), what); e.append(...inside); return e; };
const sleep = ms => new Promise(done => setTimeout(done, ms));
const asked = new URLSearchParams(location.search);
const MAY = document.documentElement.dataset.role !== "viewer";   // change anything

// -- language -------------------------------------------------------------------------------------
const LANGUAGE = [kept.get("language"), ...navigator.languages].map(each => each && Object.keys(TEXTS).find(known => each === known || each.startsWith(known + "-"))).find(Boolean) || "en";
document.documentElement.lang = LANGUAGE;
function t(key, values = {}) {   // of what has no text, such as a new type of event, the last part of its key
  return (TEXTS[LANGUAGE][key] ?? key.slice(key.indexOf(".") + 1)).replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

function dress(path) {   // the bar of every page, and the texts of this one
  const links = LINKS.map(each => { const link = make("a", { href: each, textContent: t("page." + (each.slice(1) || "live")) }); if (each === path) link.setAttribute("aria-current", "page"); return link; });
  const nav = make("nav", {}, ...links); nav.setAttribute("aria-label", t("bar.pages"));
  const home = make("a", { href: "/" }); home.setAttribute("aria-label", t("bar.home"));
  home.innerHTML = '<svg viewBox="0 0 32 32" aria-hidden="true"><path d="M2 7c8 0 12 4 14 10C18 11 22 7 30 7c-2 10-7 16-14 18C9 23 4 17 2 7z" fill="#ff9f1c"/></svg><span>Kestrel</span>';
  const language = make("select", { id: "language" }, ...Object.entries(TEXTS).map(([code, texts]) => new Option(texts.language, code, false, code === LANGUAGE)));
  language.setAttribute("aria-label", t("bar.language"));
  language.onchange = () => { kept.set("language", language.value); location.reload(); };
  const button = make("button", { id: "theme", textContent: "◐" }); button.setAttribute("aria-label", t("bar.theme"));
  button.onclick = () => { kept.set("theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark"); theme(); dispatchEvent(new Event("resize")); };
  const status = make("span", { id: "live", className: "pill", textContent: t("live.connecting") }); status.setAttribute("role", "status");
  document.body.prepend(make("a", { className: "skip", href: "#main", textContent: t("bar.skip") }), make("header", { id: "bar" }, home, nav, status, language, button));
  for (const each of document.querySelectorAll("[data-t]")) each.textContent = t(each.dataset.t);
  for (const name of ["aria-label", "placeholder"]) for (const each of document.querySelectorAll(`[data-${name}]`)) each.setAttribute(name, t(each.getAttribute(`data-${name}`)));
  document.title = `Kestrel: ${t("page." + (path.slice(1) || "live"))}`;
  me().catch(() => {});
}
async function me() {   // who is logged in may log out
  const { name, by } = await ask("/api/v1/session");
  if (!["session", "cookie"].includes(by)) return;
  const out = make("button", { id: "out", title: t("bar.out", { name }) });
  out.innerHTML = '<svg viewBox="0 0 24 24" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round"><path d="M13 4H5v16h8M10 12h10m-4-4 4 4-4 4"/></svg>';
  out.setAttribute("aria-label", out.title);
  out.onclick = async () => { await ask("/api/v1/session", { method: "DELETE" }); location.href = "/"; };
  $("bar").append(out);
}
function connected(well) { $("live").textContent = t(well ? "live.on" : "live.off"); $("live").className = `pill ${well ? "good" : "bad"}`; }

// -- asking ---------------------------------------------------------------------------------------
const withQuery = (path, values) => { const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value)); return query.size ? `${path}${path.includes("?") ? "&" : "?"}${query}` : path; };
const url = path => withQuery(path, { source: asked.get("source") });   // what is asked of this page is asked of its parts
async function ask(path, options = {}) {   // JSON; a fault of the server is thrown with its text
  if (options.json) options = { ...options, body: JSON.stringify(options.json) };
  const answer = await fetch(path, { cache: "no-store", ...options, headers: { "X-Kestrel": "1", ...(options.body && { "Content-Type": "application/json" }) } });
  if (answer.status === 401) { location.href = "/"; throw Error(t("ask.login")); }
  const told = await answer.json().catch(() => ({ error: t("ask.status", { status: answer.status }) }));
  if (!answer.ok) throw Error(told.error);
  return told;
}
function listen(path, heard, { events = {}, pauses = false } = {}) {   // server-sent events, also while nobody looks unless it pauses
  let stream;
  const begin = () => {
    stream = new EventSource(path);
    stream.onopen = () => { connected(true); };
    stream.onerror = () => { connected(false); if (stream.readyState === EventSource.CLOSED) setTimeout(() => stream.readyState === EventSource.CLOSED && !(pauses && document.hidden) && begin(), 3000); };
    if (heard) stream.onmessage = message => heard(JSON.parse(message.data));
    for (const [name, act] of Object.entries(events)) stream.addEventListener(name, message => act(JSON.parse(message.data)));
  };
  begin();
  if (pauses) document.addEventListener("visibilitychange", () => { stream.close(); if (!document.hidden) begin(); });   // a browser has six connections to a host
}

// -- how things are told --------------------------------------------------------------------------
const colour = id => { const all = STYLE.palette; return all[((id % all.length) + all.length) % all.length]; };
const ink = ([r, g, b]) => .2126 * r + .7152 * g + .0722 * b > 110 ? "#000" : "#fff";
const css = ([r, g, b]) => `rgb(${r} ${g} ${b})`;
const chip = (text, tone) => { const made = make("span", { className: "chip", textContent: text }); if (tone) { made.style.background = css(tone); made.style.color = ink(tone); } return made; };
const counted = (label, n) => n > 1 ? `${n} × ${label}` : label;
function number(n, digits = 0) { return n === null || n === undefined ? "–" : n.toLocaleString(LANGUAGE, { minimumFractionDigits: digits, maximumFractionDigits: digits }); }
const works = state => ["live", "replay"].includes(state);
const pillOf = state => `pill ${works(state) ? "good" : ["ended", "opening", "building"].includes(state) ? "" : "bad"}`;
const clock = time => new Date(time).toLocaleTimeString(LANGUAGE, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
function when(time) {   // today only the time
  const moment = new Date(time);
  return moment.toDateString() === new Date().toDateString() ? clock(time) : `${moment.toLocaleDateString(LANGUAGE, { day: "numeric", month: "short" })} ${clock(time)}`;
}
function stated({ state, since, cause }) {   // since when only where it is no good
  const told = t("state." + state);
  return works(state) || ["building", "ended"].includes(state) || !since || new Date(since) < 1 ? told : t("state.since", { state: told, time: when(since) });
}
const camera = event => event.name || event.source || "";
const place = event => event.zone || event.line || "";
const deed = event => [t("type." + event.type), place(event), event.direction && t("direction." + event.direction)].filter(Boolean).join(" ");
const title = event => [event.label, deed(event)].filter(Boolean).join(" ");
