// The page Transfer.
"use strict";

import { start } from "./page.js";
import { el } from "./view.js";

const form = document.querySelector("form.controls");

// Half a code is no language: the target is asked for when it is written out.
form.elements.target.addEventListener("input", (event) => event.stopPropagation());

// What can be shown, hidden or asked for is what the matrix at hand holds.
document.addEventListener("drawn", ({ detail: { found } }) => {
  const codes = found.languages.map((each) => each.code);
  document.querySelector("#codes").replaceChildren(...found.languages.map(({ code, name }) => el("option", { value: code }, name)));
  for (const name of ["only", "hide"]) form.querySelector(`[data-picker=${name}]`).dataset.among = codes.join(",");
});

start();
