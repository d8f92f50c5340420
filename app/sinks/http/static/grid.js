// All cameras. One question a round, and a still only of a camera whose card is in view and whose frame is another.
"use strict";
dress("/");
const cards = new Map(), inView = new Set();
const seer = new IntersectionObserver(seen => { for (const each of seen) each.isIntersecting ? inView.add(each.target) : inView.delete(each.target); }, { rootMargin: "100px" });

function card(name) {
  const parts = { screen: make("div", { className: "screen" }), name: make("b", { textContent: name }), state: make("span", { className: "pill" }), event: make("span", { className: "under" }), fps: make("span", { className: "under" }), why: make("span", { className: "why" }), objects: make("span", { className: "objects" }) };
  parts.screen.append(parts.why, parts.objects);
  parts.link = make("a", { href: withQuery("/", { source: name }) }, parts.screen, make("div", { className: "text" }, parts.name, parts.state, parts.event, parts.fps));
  $("cameras").append(make("li", {}, parts.link)); seer.observe(parts.screen);
  return parts;
}
function still(parts, each) {
  if (!each.frame || parts.frame === each.frame || !inView.has(parts.screen) || parts.image && !parts.image.complete) return;
  if (!parts.image) { parts.image = make("img", { alt: "" }); parts.screen.prepend(parts.image); }
  parts.frame = each.frame;
  const wide = parts.screen.clientWidth * Math.min(2, devicePixelRatio || 1) > 520 ? 800 : 480;
  parts.image.src = withQuery("/api/v1/cameras/still.jpg", { source: each.name, width: wide, frame: each.frame });
}
function tell(each) {
  const parts = cards.get(each.name) || card(each.name), well = works(each.state), event = each.event;
  cards.set(each.name, parts);
  const texts = { state: t("state." + each.state), fps: well ? t("grid.fps", { fps: number(each.fps, 1) }) : "", event: event ? `${when(event.time)} · ${title(event)}` : t("grid.quiet"), why: well && each.frame ? "" : [stated(each), each.cause].filter(Boolean).join(": ") };
  for (const [name, text] of Object.entries(texts)) if (parts[name].textContent !== text) parts[name].textContent = text;
  parts.state.className = pillOf(each.state);
  parts.screen.classList.toggle("off", !well);
  const objects = Object.entries(each.objects).map(([label, n]) => counted(label, n)).slice(0, 5).join("|");
  if (parts.told !== objects) { parts.told = objects; parts.objects.replaceChildren(...objects.split("|").filter(Boolean).map(text => chip(text))); }
  still(parts, each);
}
function forget(there) {
  for (const [name, parts] of cards) if (!there.has(name)) { seer.unobserve(parts.screen); inView.delete(parts.screen); parts.link.parentElement.remove(); cards.delete(name); }
}
async function follow() {
  for (;;) {
    if (!document.hidden) {
      try {
        const { cameras, troubles } = await ask("/api/v1/cameras");
        connected(true); cameras.forEach(tell); forget(new Set(cameras.map(each => each.name))); $("cameras").classList.toggle("few", cameras.length < 7);
        const away = cameras.filter(each => pillOf(each.state).endsWith("bad")).length;
        const sum = t("grid.sum", { n: cameras.length }) + (away ? ` · ${t("grid.away", { n: away })}` : "");
        if ($("troubles").textContent !== troubles.join("; ")) $("troubles").textContent = troubles.join("; ");
        if ($("sum").textContent !== sum) $("sum").textContent = sum;
      } catch { connected(false); }
    }
    await sleep(Math.max(500, 125 * cards.size));   // at most ten requests a second, however many there are
  }
}
follow();
