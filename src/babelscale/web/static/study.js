// The page Study. It refreshes at the chosen interval, but not while it is invisible.
"use strict";

import { start } from "./page.js";
import { el } from "./view.js";

const page = start();
const bar = el("progress", { id: "done", "aria-label": "FLOPs done", hidden: true });
document.querySelector("#answer").before(bar);
let timer = 0;

const seconds = () => Number(page.form.elements.refresh.value); // NaN where it is off

function later() {
  clearTimeout(timer);
  if (seconds() > 0 && !document.hidden) timer = setTimeout(page.ask, 1000 * seconds());
}

document.addEventListener("drawn", ({ detail }) => {
  const { progress } = detail.found;
  bar.hidden = !progress;
  if (progress) {
    bar.max = progress.total;
    bar.value = progress.done;
    bar.setAttribute("aria-valuetext", progress.text);
  }
  later();
});
document.addEventListener("refused", later);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else if (seconds() > 0) page.ask();
});
document.querySelector("#now").addEventListener("click", page.ask);
