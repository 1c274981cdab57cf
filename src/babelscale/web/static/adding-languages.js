// The page Adding languages.
"use strict";

import { start } from "./page.js";
import { keep } from "./chart.js";

const form = document.querySelector("form.controls");
const slider = document.querySelector("#ratio");
const { languages, to } = form.elements;

/** How many languages there are now: a count, or as many as are named. */
function now() {
  const text = languages.value.trim();
  return /^\d+$/.test(text) ? Number(text) : new Set(text.split(",").map((each) => each.trim()).filter(Boolean)).size;
}

const follow = () => {
  const ratio = Number(to.value) / now();
  if (ratio > 0 && Number.isFinite(ratio)) slider.value = String(Math.log2(ratio));
  slider.setAttribute("aria-valuetext", `${now()} to ${to.value} languages`);
};

slider.addEventListener("input", () => {
  to.value = String(Math.max(1, Math.round(now() * 2 ** Number(slider.value))));
  slider.setAttribute("aria-valuetext", `${now()} to ${to.value} languages`);
});
for (const input of [languages, to]) input.addEventListener("input", follow);
form.addEventListener("restored", follow);

// A design that cannot be made says why here; a link alone would leave the page for a line of JSON.
const link = document.querySelector("#toml");
link.addEventListener("click", async (event) => {
  event.preventDefault();
  const refused = document.querySelector("#toml-refused");
  const address = `${link.href}&design=${encodeURIComponent(document.querySelector("#design").value)}`;
  const response = await fetch(address);
  refused.textContent = "";
  if (response.ok) return void keep(await response.blob(), link.download);
  const { error, hint } = await response.json();
  refused.textContent = hint ? `${error} (${hint})` : error;
});

// Half a code is no language: texts are asked for when they are written out, sliders as they move.
for (const name of ["languages", "candidates", "fitted"]) {
  form.elements[name]?.addEventListener("input", (event) => event.stopPropagation());
}

start({ quick: (query) => query, ready: () => languages.value.trim() !== "" && to.value.trim() !== "" });
