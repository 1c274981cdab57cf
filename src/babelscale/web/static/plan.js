// The page Plan.
"use strict";

import { start } from "./page.js";

const form = document.querySelector("form.controls");
const choose = () => {
  form.querySelector("#checkpoint").hidden = form.elements.start.value !== "checkpoint";
};
form.addEventListener("change", choose);
form.addEventListener("restored", choose);

start({
  // While a control moves, the comparison with simpler mixtures is left out.
  quick(query) {
    query.set("baselines", "false");
    return query;
  },
  // Served laws determine their languages; published figures need languages.
  ready: () => form.elements.source.value !== "published" || form.elements.languages.value.trim() !== "",
});
