// A short list of which several can be chosen: checkboxes replace a text input, which remains the state (a,b,c).
"use strict";

import { el } from "./view.js";

const MOST = 40; // for longer lists the text input is shown

const split = (text) => text.split(",").map((part) => part.trim()).filter(Boolean);

export class Boxes {
  #offered = [];
  #usual = [];

  constructor(form, name) {
    this.form = form;
    this.text = form.elements[name];
    this.label = this.text.closest("label");
    this.place = form.querySelector(`[data-boxes="${name}"]`);
    form.addEventListener("restored", () => this.#draw());
  }

  /** Offer values; if there are too many for checkboxes, the text input is shown instead. */
  offer(values) {
    this.#offered = values;
    this.#draw();
  }

  /** The values that are checked if the text input is empty. */
  usual(values) {
    this.#usual = values;
    this.#draw();
  }

  clear() {
    this.text.value = "";
    this.#usual = [];
    this.#draw();
  }

  #draw() {
    const written = split(this.text.value);
    const chosen = new Set(written.length ? written : this.#usual);
    const values = [...new Set([...this.#offered, ...written])];
    const ticked = values.length > 0 && values.length <= MOST;
    this.label.hidden = ticked;
    if (!ticked) return void this.place.replaceChildren();
    const focused = this.place.querySelector("input:focus")?.value;
    const boxes = values.map((value) => el("label", { class: "line" },
      el("input", { type: "checkbox", value, checked: chosen.has(value), onchange: (event) => this.#ticked(event) }), el("bdi", {}, value)));
    this.place.replaceChildren(el("fieldset", {}, el("legend", {}, this.place.dataset.label), el("div", { class: "boxes" }, boxes)));
    if (focused !== undefined) [...this.place.querySelectorAll("input")].find((box) => box.value === focused)?.focus();
  }

  #ticked(event) {
    event.stopPropagation();
    const chosen = [...this.place.querySelectorAll("input:checked")].map((box) => box.value);
    this.text.value = chosen.join(",");
    this.form.dispatchEvent(new Event("change"));
  }
}
