// The cameras of a fleet, whichever machine runs them. A picture is asked for while its card is in view.
"use strict";
dress("/fleet");
const cards = new Map(), inView = new Set();
const seer = new IntersectionObserver(seen => { for (const each of seen) each.isIntersecting ? inView.add(each.target) : inView.delete(each.target); });
const base = name => `/api/v1/fleet/${encodeURIComponent(name)}`;
const chosen = () => decodeURIComponent(location.hash.slice(1));

function card(name) {
  const parts = { screen: make("div", { className: "screen" }), state: make("span", { className: "pill" }), event: make("span", { className: "under" }), node: make("span", { className: "under" }), why: make("span", { className: "why" }), objects: make("span", { className: "objects" }), asked: 0 };
  parts.screen.append(parts.why, parts.objects);
  parts.link = make("a", { href: "#" + encodeURIComponent(name) }, parts.screen, make("div", { className: "text" }, make("b", { textContent: name }), parts.state, parts.event, parts.node));
  parts.item = make("li", {}, parts.link); $("cameras").append(parts.item); seer.observe(parts.screen);
  return parts;
}
function tell(each) {
  const parts = cards.get(each.camera) || card(each.camera), event = each.last_event;
  cards.set(each.camera, parts);
  const texts = { state: t("state." + each.state), event: event ? `${when(event.time)} · ${title(event)}` : t("grid.quiet"), node: each.node ? t("fleet.on", { node: each.node }) : t("fleet.none"), why: works(each.state) ? "" : [stated(each), each.cause].filter(Boolean).join(": ") };
  for (const [name, text] of Object.entries(texts)) if (parts[name].textContent !== text) parts[name].textContent = text;
  parts.state.className = pillOf(each.state);
  const objects = Object.entries(works(each.state) && each.counts?.objects || {}).map(([label, n]) => counted(label, n)).slice(0, 5).join("|");
  if (parts.told !== objects) { parts.told = objects; parts.objects.replaceChildren(...objects.split("|").filter(Boolean).map(text => chip(text))); }
  parts.screen.classList.toggle("away", !works(each.state));
}
function picture(name, parts) {   // one question at a time; who has no picture is asked again after a while
  if (!inView.has(parts.screen) || Date.now() - parts.asked < 15000) return;
  if (!parts.image) {
    parts.image = make("img", { alt: "", hidden: true }); parts.screen.prepend(parts.image);
    parts.image.onload = () => { parts.image.hidden = false; parts.asked = 0; };
  }
  parts.asked = Date.now();
  parts.image.src = withQuery(`${base(name)}/picture.jpg`, { at: parts.asked });
}
function row(name, event) {
  const image = make("img", { alt: "", loading: "lazy" });
  image.onerror = () => { image.removeAttribute("src"); };
  if (event.snapshot && event.node) image.src = withQuery(`${base(name)}/snapshot.jpg`, { node: event.node, file: event.snapshot });
  return make("li", {}, image, make("div", {}, title(event), make("div", { className: "under", textContent: [when(event.time), event.node && t("fleet.on", { node: event.node })].filter(Boolean).join(" · ") })));
}
async function list() {
  const name = chosen();
  for (const [each, parts] of cards) each === name ? parts.link.setAttribute("aria-current", "true") : parts.link.removeAttribute("aria-current");
  $("events").hidden = !cards.has(name);
  if (!cards.has(name)) return;
  const { events } = await ask(`${base(name)}/events`), told = JSON.stringify([name, events]);
  if (name !== chosen() || list.told === told) return;
  list.told = told;
  $("events").firstElementChild.textContent = t("fleet.events", { camera: name });
  $("list").replaceChildren(...(events.length ? events.map(each => row(name, each)) : [make("li", { className: "under", textContent: t("grid.quiet") })]));
}
function left({ node, since, had }) {   // a machine, and where its cameras are now
  const homes = Object.entries(had).map(([camera, home]) => `${camera} ${home ? t("fleet.on", { node: home }) : t("fleet.none")}`).join(", ");
  return `${since ? t("fleet.since", { node, time: when(since) }) : t("fleet.gone", { node })}${homes && `: ${homes}`}.`;
}
addEventListener("hashchange", () => { list().catch(() => connected(false)); });
(async () => {
  for (let turn = 0; ; turn++) {
    if (!document.hidden) {
      try {
        const { cameras, gone } = await ask("/api/v1/fleet"), names = cameras.map(each => each.camera);
        connected(true); cameras.forEach(tell);
        for (const [name, parts] of cards) if (!names.includes(name)) { parts.item.remove(); cards.delete(name); }
        $("none").hidden = names.length > 0;
        const away = cameras.filter(each => !works(each.state)).length;
        $("sum").textContent = t("grid.sum", { n: names.length }) + (away ? ` · ${t("grid.away", { n: away })}` : "");
        const troubles = gone.map(left).join(" ");
        if ($("troubles").textContent !== troubles) $("troubles").textContent = troubles;
        if (turn % Math.max(2, Math.ceil(names.length / 20)) === 0) for (const [name, parts] of cards) picture(name, parts);
        if (turn % 3 === 0) await list();
      } catch { connected(false); }
    }
    await sleep(2000);
  }
})();
