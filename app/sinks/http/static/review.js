// What has been: one day's events as cards, its hours, filters, clips, seen marks, deleting; new ones come by themselves.
"use strict";
dress("/review");
const form = $("filters");
let day = startOf(asked.get("day") ? new Date(`${asked.get("day")}T00:00`) : new Date()), hour = null;
let shown = [], counts = {}, after = null, open = null, round = 0, busy = false, wantsPicture = false;

// -- asking --------------------------------------------------------------------------------------
function startOf(date) { return isNaN(date) ? startOf(new Date()) : new Date(date.getFullYear(), date.getMonth(), date.getDate()); }
function shifted(days) { return new Date(day.getFullYear(), day.getMonth(), day.getDate() + days); }
function iso(date) { return new Date(date - date.getTimezoneOffset() * 60000).toISOString().slice(0, 10); }
function filters() {
  const data = Object.fromEntries([...new FormData(form)].filter(([, value]) => value));
  const plain = !data.zone && !data.line && !data.type && !data.all;   // else not the first of an object
  const query = { ...data, ...(plain && { objects: 1 }), ...(data.unseen && { seen: 0 }) };
  delete query.unseen; delete query.all;
  return query;
}
function query(more) { return new URLSearchParams({ ...filters(), since: +day, until: +shifted(1), ...more }); }
const within = () => hour === null ? {} : { since: +day + hour * 3600000, until: +day + (hour + 1) * 3600000 };
async function guard(work) {
  try { $("fault").hidden = true; return await work(); }
  catch (error) { $("fault").textContent = t("review.fault", { what: error.message }); $("fault").hidden = false; }
}

// -- the list ------------------------------------------------------------------------------------
async function load() {
  const mine = ++round;
  $("day").value = iso(day); $("on").disabled = +shifted(1) > Date.now();
  const kept = new URLSearchParams({ day: iso(day), ...Object.fromEntries([...new FormData(form)].filter(([, v]) => v)) });
  history.replaceState(null, "", `/review?${kept}`);
  const [page, timeline] = await Promise.all([ask(`/api/v1/events?${query(within())}`), ask(`/api/v1/timeline?${query({ step_s: 900 })}`)]);
  if (mine !== round) return;
  shown = []; $("cards").replaceChildren(); add(page); counts = timeline.counts; hours();
}
function add(page) {
  after = page.next; $("more").hidden = !after;
  for (const event of page.events) { shown.push(event); $("cards").append(card(event)); }
  tell();
}
function tell() {
  $("empty").hidden = shown.length > 0;
  $("empty").textContent = t([...new FormData(form)].some(([, value]) => value) || hour !== null ? "review.nofit" : "review.nothing");
  const fresh = shown.filter(each => !each.seen).length;
  $("count").textContent = shown.length ? t("review.count", { shown: number(shown.length) + (after ? "+" : ""), fresh: number(fresh) }) : "";
  $("allseen").disabled = !fresh;
}
async function more() {
  if (busy || !after) return;
  busy = true;
  const mine = round;
  await guard(async () => { const page = await ask(`/api/v1/events?${query({ ...within(), after })}`); if (mine === round) add(page); });
  busy = false;
}
$("more").onclick = more;
new IntersectionObserver(seen => seen[0].isIntersecting && more(), { rootMargin: "400px" }).observe($("more"));

const where = event => [camera(event), ...(event.zones || []).filter(zone => zone !== event.zone)].join(" · ");
const path = (event, file) => `/api/v1/events/${encodeURIComponent(event.id)}/${file}`;
function picture(thumb, event, tries = 0) {   // of a new object it is written a second or two after its event
  const age = Date.now() - new Date(event.time), image = make("img", { alt: "", loading: "lazy", decoding: "async" });
  image.onload = () => thumb.prepend(image);
  image.onerror = () => tries < 3 && age < 60000 ? setTimeout(picture, 2000, thumb, event, tries + 1) : thumb.prepend(t("review.nopicture"));
  const begin = () => { if (age < 60000) image.loading = "eager"; else thumb.prepend(image); image.src = path(event, "snapshot.jpg") + (tries ? `?try=${tries}` : ""); };
  age >= 0 && age < 2000 ? setTimeout(begin, 2000 - age) : begin();
}
function card(event, fresh) {
  const thumb = make("div", { className: "thumb" });
  if (event.snapshot || event.clip) picture(thumb, event); else thumb.append(t("type." + event.type));
  if (event.clip) thumb.append(make("span", { className: "play chip", textContent: `▶ ${t("review.clip")}` }));
  if (!event.seen) thumb.append(make("span", { className: "new", textContent: t("review.new") }));
  const text = make("div", { className: "text" }, make("b", { textContent: title(event) }), make("span", { textContent: clock(event.time) }),
    make("span", { textContent: where(event) }), make("span", { textContent: event.duration_s ? `${number(event.duration_s, 1)} s` : event.score ? `${Math.round(100 * event.score)} %` : event.cause || "" }));
  const button = make("button", { className: "card" }, thumb, text);
  button.setAttribute("aria-label", `${event.seen ? "" : `${t("review.new")}: `}${title(event)}, ${where(event)}, ${clock(event.time)}`);
  button.onclick = () => show(event);
  const item = make("li", {}, button);
  item.dataset.id = event.id; item.classList.toggle("seen", !!event.seen); item.classList.toggle("fresh", !!fresh);
  return item;
}
function redraw(event) { document.querySelector(`#cards li[data-id="${CSS.escape(event.id)}"]`)?.replaceWith(card(event)); tell(); }

// -- the day -------------------------------------------------------------------------------------
function hours() {
  const most = Math.max(1, ...Object.values(counts));
  const focused = [...$("hours").children].indexOf(document.activeElement);
  $("hours").replaceChildren(...Array.from({ length: 24 }, (_, h) => {
    const quarters = [0, 1, 2, 3].map(q => counts[4 * h + q] || 0), sum = quarters.reduce((a, b) => a + b);
    const button = make("button", {}, ...quarters.map(n => { const bar = make("i"); bar.style.height = n ? `${8 + 92 * n / most}%` : "0"; return bar; }), make("span", { textContent: h }));
    button.setAttribute("aria-label", t("review.hour", { h, n: sum })); button.setAttribute("aria-pressed", hour === h);
    button.onclick = () => { hour = hour === h ? null : h; guard(load); };
    return button;
  }));
  $("hours").children[focused]?.focus();
}
function count(event, by) { const slot = Math.floor((new Date(event.time) - day) / 900000); counts[slot] = Math.max(0, (counts[slot] || 0) + by); hours(); }
function go(date) { day = startOf(date); hour = null; guard(load); }
$("back").onclick = () => go(shifted(-1)); $("on").onclick = () => go(shifted(1)); $("today").onclick = () => go(new Date());
$("day").onchange = () => $("day").value && go(new Date(`${$("day").value}T00:00`));
$("wanted").onclick = () => $("wanted").setAttribute("aria-expanded", form.classList.toggle("open"));
let typing; form.oninput = () => { clearTimeout(typing); typing = setTimeout(() => guard(load), 200); }; form.onsubmit = event => event.preventDefault();
$("allseen").onclick = () => guard(async () => { for (const event of shown.filter(each => !each.seen)) await mark(event, true); });

// -- one event -----------------------------------------------------------------------------------
const whole = () => filters().objects ? "?object=1" : "";
async function mark(event, seen) {
  await ask(`/api/v1/events/${encodeURIComponent(event.id)}${whole()}`, { method: "PATCH", body: JSON.stringify({ seen }) });
  event.seen = seen; redraw(event); if (open === event) $("mark").textContent = t(seen ? "review.unsee" : "review.see");
}
function screen(event) {
  const clip = event.clip && !wantsPicture, lost = kind => make("p", { textContent: t(`review.no${kind}`) });
  const made = clip ? make("video", { controls: true, autoplay: true, muted: true, playsInline: true, loop: true, src: path(event, "clip.mp4") })
    : event.snapshot || event.clip ? make("img", { alt: title(event), src: path(event, "snapshot.jpg") }) : make("p", { textContent: t("type." + event.type) });
  made.onerror = () => made.replaceWith(lost(clip ? "clip" : "picture"));
  $("screen").replaceChildren(made);
  $("switch").hidden = !(event.clip && event.snapshot); $("switch").textContent = t(wantsPicture ? "review.showclip" : "review.showpicture");
}
function show(event) {
  open = event; wantsPicture = false; screen(event); $("sure").hidden = true;
  $("title").textContent = title(event);
  const at = shown.indexOf(event); $("previous").disabled = at <= 0; $("next").disabled = at < 0 || at + 1 >= shown.length;
  for (const [id, file, there] of [["getclip", "clip.mp4", event.clip], ["getpicture", "snapshot.jpg", event.snapshot]]) { $(id).hidden = !there; $(id).href = path(event, file) + "?download=1"; $(id).download = ""; }
  $("mark").textContent = t(event.seen ? "review.unsee" : "review.see");
  facts(event, []);
  if (!$("detail").open) $("detail").showModal();
  if (!event.seen && MAY) guard(() => mark(event, true));
  guard(async () => { const told = await ask(`/api/v1/events/${encodeURIComponent(event.id)}`); if (open === event) facts(event, told.object?.events || []); });
}
function facts(event, others) {
  const rows = { time: new Date(event.time).toLocaleString(LANGUAGE), camera: camera(event), label: event.label, zone: event.zone, line: event.line,
    score: event.score && `${Math.round(100 * event.score)} %`, duration: event.duration_s && `${number(event.duration_s, 1)} s`, cause: event.cause, track: event.track_id,
    did: others.length > 1 && others.map(each => `${clock(each.time)} ${deed(each)}`).join(", ") };
  $("facts").replaceChildren(...Object.entries(rows).filter(([, value]) => value || value === 0).flatMap(([name, value]) => [make("dt", { textContent: t("fact." + name) }), make("dd", { textContent: value })]));
}
function step(by) { const event = shown[shown.indexOf(open) + by]; if (event) show(event); }
$("previous").onclick = () => step(-1); $("next").onclick = () => step(1); $("close").onclick = () => $("detail").close();
$("detail").onclose = () => { $("screen").replaceChildren(); open = null; };
$("detail").onclick = event => { if (event.target === $("detail")) $("detail").close(); };
$("detail").onkeydown = event => { if (event.target.tagName === "VIDEO") return; if (event.key === "ArrowLeft") step(-1); if (event.key === "ArrowRight") step(1); };
$("switch").onclick = () => { wantsPicture = !wantsPicture; screen(open); };
$("mark").onclick = () => guard(() => mark(open, !open.seen));
$("delete").onclick = () => { $("sure").firstChild.textContent = whole() && open.track_id !== undefined ? t("review.sureobject") : t("review.sureevent"); $("sure").hidden = false; $("no").focus(); };
$("no").onclick = () => { $("sure").hidden = true; };
$("yes").onclick = () => guard(async () => {
  const event = open, at = shown.indexOf(event);
  await ask(`/api/v1/events/${encodeURIComponent(event.id)}${whole()}`, { method: "DELETE" });
  shown.splice(at, 1); document.querySelector(`#cards li[data-id="${CSS.escape(event.id)}"]`)?.remove(); tell(); count(event, -1);
  if (shown[at]) show(shown[at]); else $("detail").close();
});

// -- live ----------------------------------------------------------------------------------------
const objects = new Set();   // by camera and track, whose card is there
function arrived(event) {
  const wanted = filters(), time = new Date(event.time), track = `${camera(event)} ${event.track_id}`;
  if (wanted.objects && event.track_id !== undefined) { const known = objects.has(track); objects.add(track); if (known || event.type !== "appear") return; }
  if (time < day || time >= shifted(1) || hour !== null && time.getHours() !== hour) return;
  if (wanted.source && camera(event) !== wanted.source || ["label", "zone", "line", "type"].some(name => wanted[name] && event[name] !== wanted[name])) return;
  const text = [camera(event), event.label, event.zone, event.line, event.type].join(" ").toLowerCase();
  if ((wanted.q || "").toLowerCase().split(/\s+/).some(word => !text.includes(word))) return;
  if (shown.some(each => each.id === event.id)) return;
  event.seen = false; shown.unshift(event); $("cards").prepend(card(event, true)); tell();
  count(event, 1);
}
async function begin() {
  const one = asked.get("event");   // a link to it
  const [choices, last, linked] = await Promise.all([ask("/api/v1/choices"), asked.has("day") || one ? null : ask("/api/v1/events?limit=1"), one && ask(`/api/v1/events/${encodeURIComponent(one)}`)]);
  const named = { source: choices.camera, label: choices.label, zone: choices.zone, line: choices.line, type: choices.type };
  for (const [name, values] of Object.entries(named)) {
    const text = value => name === "type" ? t("type." + value) : value;
    form[name].replaceChildren(new Option(t("all." + name), ""), ...values.map(value => new Option(text(value), value)));
    form[name].value = values.includes(asked.get(name)) ? asked.get(name) : ""; form[name].hidden = !values.length;
  }
  form.q.value = asked.get("q") || ""; form.unseen.checked = asked.has("unseen"); form.all.checked = asked.has("all");
  const from = linked || last?.events[0];
  if (from) day = startOf(new Date(from.time));   // on which something happened
  await load();
  if (linked) show(shown.find(each => each.id === one) || linked);
  performance.mark("ready");
}
guard(begin).then(() => listen("/events", arrived));
