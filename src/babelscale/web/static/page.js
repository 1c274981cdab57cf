// The behaviour of every page: the form is the state, a change sends a question, and the answer is drawn.
"use strict";

import { Asker, fetched } from "./ask.js";
import { pickers } from "./picker.js";
import { query, readable, remember, restore } from "./state.js";
import { sliders } from "./slider.js";
import { el, View } from "./view.js";

const SETTLED = 350; // milliseconds between the last move and the complete question

/** Start a page. `quick(query)` may shorten the question while a control is being moved. */
export function start({ quick = null, ready = () => true } = {}) {
  const form = document.querySelector("form.controls");
  const answer = document.querySelector("#answer");
  const status = document.querySelector("#status");
  const message = document.querySelector("#message");
  const view = new View(answer);
  let settling = 0;

  const asker = new Asker(`/view/${document.body.dataset.page}`, {
    async shown(found, question) {
      const partial = quick !== null && question !== readable(query(form));
      message.replaceChildren();
      answer.classList.remove("stale");
      if (found.filled) fill(form, found.filled);
      await view.show(found.sections, { partial });
      const summary = found.sections[0]?.paragraphs[0] ?? found.sections[0]?.title ?? "";
      if (!partial && status.textContent !== summary) status.textContent = summary;
      performance.mark("drawn", { detail: question });
      document.dispatchEvent(new CustomEvent("drawn", { detail: { question, found } }));
    },
    refused({ error, hint }) {
      answer.classList.add("stale");
      message.replaceChildren(el("div", { class: "warning", role: "alert" }, el("p", {}, error), hint ? el("p", {}, hint) : null));
      document.dispatchEvent(new CustomEvent("refused"));
    },
    working({ what, done, total }) {
      const bar = total ? el("progress", { value: done, max: total, "aria-label": what }) : el("progress", { "aria-label": what });
      message.replaceChildren(el("div", { class: "working", role: "status" }, el("p", {}, `Working: ${what}`), bar));
    },
  });

  const whole = () => {
    const question = remember(form);
    link(question);
    if (ready(form)) asker.ask(question);
  };
  const moved = () => {
    clearTimeout(settling);
    if (quick) {
      const short = quick(query(form));
      if (ready(form)) asker.ask(readable(short));
    }
    settling = setTimeout(whole, quick ? SETTLED : 120);
  };
  form.addEventListener("input", moved);
  form.addEventListener("change", () => { clearTimeout(settling); settling = setTimeout(whole, 20); });
  form.addEventListener("submit", (event) => { event.preventDefault(); whole(); });
  window.addEventListener("popstate", () => { form.reset(); restore(form); whole(); });
  document.querySelector("#copy")?.addEventListener("click", copied);

  pickers(form);
  restore(form);
  sliders(form);
  whole();
  return { form, view, ask: whole };
}

/** A question without the names that an address does not accept, such as those of the display. */
function asked(question, { dataset: { without = "" } }) {
  const accepted = new URLSearchParams(question);
  for (const name of without.split(" ")) accepted.delete(name);
  return readable(accepted);
}

/** Write the values that the server chose for empty controls into the form. */
function fill(form, filled) {
  const empty = Object.entries(filled).filter(([name]) => form.elements[name]?.value === "");
  if (!empty.length) return;
  for (const [name, value] of empty) form.elements[name].value = value;
  form.dispatchEvent(new CustomEvent("restored"));
  link(remember(form));
}

/** Links to the API get the question of the page. */
function link(question) {
  for (const each of document.querySelectorAll("a[data-api]")) each.href = `${each.dataset.api}?${asked(question, each)}`;
}

async function copied() {
  const report = document.querySelector("#copied");
  try {
    await navigator.clipboard.writeText(location.href);
    report.textContent = "The link is copied.";
  } catch {
    report.textContent = "Please copy the link from the address bar.";
  }
}

export { fetched };
