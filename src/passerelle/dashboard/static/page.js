// Draws the charts in the page's colours, and follows what changes: it asks for a fingerprint, and only if that is
// another does it read the page again and put its main part in the place of this one.
"use strict";
(() => {
  const ASK_MS = 10000;
  const SOON_MS = 1000;  // while something of the page is being computed
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  const painted = (value, style) => {
    if (typeof value === "string") return value.startsWith("--") ? style.getPropertyValue(value).trim() : value;
    if (Array.isArray(value)) return value.map((one) => painted(one, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, painted(one, style)]));
    }
    return value;
  };

  const draw = () => {
    if (!window.Plotly) return;
    const style = getComputedStyle(document.documentElement);
    for (const box of document.querySelectorAll("[data-figure]")) {
      const figure = painted(JSON.parse(box.dataset.figure), style);
      const settings = { displayModeBar: false, responsive: true, scrollZoom: false, doubleClick: false, showTips: false };
      window.Plotly.react(box, figure.data, figure.layout, settings).then(() => { box.dataset.drawn = "yes"; });
    }
  };

  let mark = document.querySelector("main").dataset.mark || null;
  const news = () => document.getElementById("news");

  const follow = async () => {
    if (document.hidden) return;
    const asked = await fetch("/fingerprint", { headers: mark ? { "If-None-Match": mark } : {}, cache: "no-store" });
    const found = asked.headers.get("ETag");
    if (!asked.ok || !found || found === mark) return;
    if (mark === null) {
      mark = found;
      return;
    }
    if (document.querySelector("main form :focus")) {  // somebody writes: do not take the page from under them
      news().textContent = "There is news: reload the page.";
      return;
    }
    const fresh = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!fresh.ok) return;
    const read = new DOMParser().parseFromString(await fresh.text(), "text/html");
    const open = [...document.querySelectorAll("details[open]")].map((one) => one.id).filter(Boolean);
    mark = read.querySelector("main").dataset.mark || found;
    document.querySelector("main").replaceWith(read.querySelector("main"));
    document.querySelector("footer").replaceWith(read.querySelector("footer"));
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    draw();
    news().textContent = "This page was brought up to date.";
    setTimeout(() => { news().textContent = ""; }, 4000);
  };

  draw();
  dark.addEventListener("change", draw);
  const ask = () => follow().catch(() => {}).finally(() => {
    setTimeout(ask, document.querySelector("[data-soon]") ? SOON_MS : ASK_MS);
  });
  ask();
})();
