// The page Transfer.
"use strict";

import { start } from "./page.js";
import { el } from "./view.js";

const form = document.querySelector("form.controls");

// An incomplete code is no language, so the question is sent when the target is complete.
form.elements.target.addEventListener("input", (event) => event.stopPropagation());

// The languages that can be shown, hidden or chosen as a target are those of the present matrix.
document.addEventListener("drawn", ({ detail: { found } }) => {
  const codes = found.languages.map((each) => each.code);
  document.querySelector("#codes").replaceChildren(...found.languages.map(({ code, name }) => el("option", { value: code }, name)));
  for (const name of ["only", "hide"]) form.querySelector(`[data-picker=${name}]`).dataset.among = codes.join(",");
});

start();
