// The theme that was chosen, else that of the system, before anything is drawn; also of pages without other scripts.
"use strict";
const kept = { get: key => { try { return localStorage.getItem(key); } catch { return null; } }, set: (key, value) => { try { localStorage.setItem(key, value); } catch { /* not kept */ } } };
const wantsLight = matchMedia("(prefers-color-scheme: light)");
function theme() { document.documentElement.dataset.theme = kept.get("theme") || (wantsLight.matches ? "light" : "dark"); }
wantsLight.onchange = theme; theme();
