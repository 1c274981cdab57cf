// The page Adding languages.
"use strict";

import { start } from "./page.js";
import { keep } from "./chart.js";

const form = document.querySelector("form.controls");
const slider = document.querySelector("#ratio");
const { languages, to } = form.elements;

/** The present number of languages: the count, or the number of codes. */
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

// If no design can be made, the reason is shown here; a plain link would replace the page by a line of JSON.
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

// An incomplete code is no language, so texts send the question when they are complete, and sliders while they move.
for (const name of ["languages", "candidates", "fitted"]) {
  form.elements[name]?.addEventListener("input", (event) => event.stopPropagation());
}

start({ quick: (query) => query, ready: () => languages.value.trim() !== "" && to.value.trim() !== "" });
