// What every page does: its form is the state, a change asks the server, the answer is drawn.
"use strict";

import { Asker, fetched } from "./ask.js";
import { pickers } from "./picker.js";
import { query, readable, remember, restore } from "./state.js";
import { sliders } from "./slider.js";
import { el, View } from "./view.js";

const SETTLED = 350; // milliseconds after the last move until everything is asked for

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
      const said = found.sections[0]?.paragraphs[0] ?? found.sections[0]?.title ?? "";
      if (!partial && status.textContent !== said) status.textContent = said;
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

/** A question less what an address does not take, such as how the page shows the answer. */
function asked(question, { dataset: { without = "" } }) {
  const kept = new URLSearchParams(question);
  for (const name of without.split(" ")) kept.delete(name);
  return readable(kept);
}

/** What the server chose where nothing was asked for stands in the form from then on. */
function fill(form, filled) {
  const empty = Object.entries(filled).filter(([name]) => form.elements[name]?.value === "");
  if (!empty.length) return;
  for (const [name, value] of empty) form.elements[name].value = value;
  form.dispatchEvent(new CustomEvent("restored"));
  link(remember(form));
}

/** Links to the API ask what the page asks. */
function link(question) {
  for (const each of document.querySelectorAll("a[data-api]")) each.href = `${each.dataset.api}?${asked(question, each)}`;
}

async function copied() {
  const said = document.querySelector("#copied");
  try {
    await navigator.clipboard.writeText(location.href);
    said.textContent = "Copied.";
  } catch {
    said.textContent = "Copy it from the address bar.";
  }
}

export { fetched };
