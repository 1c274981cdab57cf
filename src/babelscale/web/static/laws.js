// The page Laws.
"use strict";

import { fetched } from "./ask.js";
import { Boxes } from "./boxes.js";
import { start } from "./page.js";
import { uploads } from "./upload.js";
import { el } from "./view.js";

const form = document.querySelector("form.controls");
const source = form.elements.source;
const targets = new Boxes(form, "targets");
const laws = new Boxes(form, "laws");

const offered = (name) => [...source.options].some((option) => option.value === name);

// If a link names an upload that was removed, the server says so; no other table replaces it.
const linked = new URLSearchParams(location.search).get("source");
if (linked && !offered(linked)) source.append(el("option", { value: linked }, "a table that was removed"));

let described = "";

/** Offer the targets and laws of the chosen source. */
async function describe() {
  const name = source.value;
  if (name === described) return;
  described = name;
  const { status, answer } = await fetched(`/api/tables?${new URLSearchParams({ source: name })}`);
  if (name !== source.value) return;
  // Published laws are not fitted, so there is nothing to choose.
  document.querySelector("#fitting").hidden = status === 200 && !answer.runs;
  targets.offer(status === 200 ? answer.targets : []);
  laws.offer(status === 200 && answer.runs ? answer.laws : []);
}

source.addEventListener("change", () => {
  targets.clear();
  laws.clear();
  form.elements.parameter.value = "";
  describe();
});

document.addEventListener("drawn", (event) => {
  const { chosen, parameters } = event.detail.found;
  targets.usual(chosen?.targets ?? []);
  laws.usual(chosen?.laws ?? []);
  document.querySelector("#parameters").replaceChildren(...(parameters ?? []).map((name) => el("option", { value: name })));
});

uploads((found) => {
  if (!offered(found.source)) source.append(el("option", { value: found.source }, `uploaded: ${found.name}`));
  source.value = found.source;
  source.dispatchEvent(new Event("change", { bubbles: true }));
});

start();
describe();
