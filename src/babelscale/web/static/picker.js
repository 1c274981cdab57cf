// The choice of languages: a search box that lists matches, and a table of the chosen languages with their numbers.
// The named inputs are the state (sw,yo and sw=2,yo=1); this class keeps them and the table in agreement.
"use strict";

import { fetched } from "./ask.js";
import { el } from "./view.js";

const MOST_SHOWN = 12;
let all = null; // the list of all languages, requested once

async function languages() {
  if (all === null) all = fetched("/api/languages").then(({ answer }) => answer.languages ?? []);
  return all;
}

export function pickers(form) {
  for (const place of form.querySelectorAll("[data-picker]")) new Picker(form, place);
}

const split = (text) => text.split(",").map((part) => part.trim()).filter(Boolean);

function pairs(text) {
  return new Map(split(text).filter((part) => part.includes("=")).map((part) => part.split("=").map((side) => side.trim())));
}

class Picker {
  #active = -1;
  #options = [];

  constructor(form, place) {
    this.form = form;
    this.place = place;
    this.codes = form.elements[place.dataset.picker];
    // Numbers by language that go with the codes: {name: heading}.
    this.numbers = JSON.parse(place.dataset.numbers ?? "{}");
    this.codes.closest("label").hidden = true;
    for (const name of Object.keys(this.numbers)) form.elements[name].closest("label").hidden = true;
    this.#build();
    form.addEventListener("restored", () => this.#table());
    languages().then((found) => {
      this.names = new Map(found.map((each) => [each.code, each]));
      this.#table();
    });
    this.names = new Map();
    this.#table();
  }

  #build() {
    const id = `pick-${this.codes.name}`;
    this.list = el("ul", { role: "listbox", id: `${id}-list`, hidden: true, "aria-label": this.place.dataset.label });
    this.search = el("input", {
      type: "text", id, role: "combobox", autocomplete: "off", spellcheck: "false", "aria-expanded": "false",
      "aria-controls": `${id}-list`, "aria-autocomplete": "list", placeholder: "name or code", dir: "auto",
    });
    this.search.addEventListener("input", (event) => { event.stopPropagation(); this.#offer(); });
    this.search.addEventListener("change", (event) => event.stopPropagation());
    this.search.addEventListener("focus", () => this.#offer());
    this.search.addEventListener("blur", () => setTimeout(() => this.#close(), 150));
    this.search.addEventListener("keydown", (event) => this.#key(event));
    this.rows = el("div", { class: "picked" });
    const label = el("label", { for: id }, this.place.dataset.label);
    this.place.append(label, el("div", { class: "combo" }, this.search, this.list), this.rows);
  }

  async #offer() {
    const found = await languages();
    const sought = this.search.value.trim().toLocaleLowerCase();
    const chosen = new Set(split(this.codes.value));
    const fits = (each) => each.code.toLowerCase() === sought ? 0
      : each.name.toLocaleLowerCase().startsWith(sought) || (each.autonym ?? "").toLocaleLowerCase().startsWith(sought) ? 1
      : `${each.name} ${each.autonym ?? ""}`.toLocaleLowerCase().includes(sought) || each.code.toLowerCase().startsWith(sought) ? 2 : 3;
    // A picker may offer only some languages, such as those of a matrix, also those without an entry in the list.
    const among = this.place.dataset.among?.split(",").map((code) => this.names.get(code) ?? { code, name: code });
    const ranked = (among ?? found).filter((each) => !chosen.has(each.code)).map((each, k) => [fits(each), k, each])
      .filter(([rank]) => rank < 3).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    this.#options = ranked.slice(0, MOST_SHOWN).map(([, , each]) => each);
    this.#active = this.#options.length && sought ? 0 : -1;
    this.list.replaceChildren(...this.#options.map((each, k) => el("li", {
      role: "option", id: `${this.search.id}-${k}`, "aria-selected": String(k === this.#active),
      onmousedown: (event) => { event.preventDefault(); this.#add(each.code); },
    }, ...nameParts(each))));
    if (!this.#options.length) this.list.replaceChildren(el("li", { class: "none" }, "no language matches"));
    this.list.hidden = false;
    this.search.setAttribute("aria-expanded", "true");
    this.#point();
  }

  #key(event) {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (this.list.hidden) return void this.#offer();
      const step = event.key === "ArrowDown" ? 1 : -1;
      this.#active = Math.max(0, Math.min(this.#options.length - 1, this.#active + step));
      this.#point();
    } else if (event.key === "Enter") {
      event.preventDefault();
      // A list of codes may be pasted.
      const pasted = split(this.search.value);
      if (pasted.length > 1) this.#add(...pasted);
      else if (this.#options[this.#active]) this.#add(this.#options[this.#active].code);
    } else if (event.key === "Escape") {
      this.#close();
    } else if (event.key === "Backspace" && this.search.value === "") {
      const codes = split(this.codes.value);
      if (codes.length) this.#remove(codes.at(-1));
    }
  }

  #point() {
    [...this.list.children].forEach((each, k) => each.setAttribute("aria-selected", String(k === this.#active)));
    const active = this.#active >= 0 ? `${this.search.id}-${this.#active}` : "";
    this.search.setAttribute("aria-activedescendant", active);
  }

  #close() {
    this.list.hidden = true;
    this.search.setAttribute("aria-expanded", "false");
  }

  #add(...codes) {
    this.codes.value = [...new Set([...split(this.codes.value), ...codes])].join(",");
    for (const name of Object.keys(this.numbers)) for (const code of codes) this.#set(name, code, "");
    this.search.value = "";
    this.#close();
    this.#changed();
    this.search.focus();
  }

  #remove(code) {
    this.codes.value = split(this.codes.value).filter((each) => each !== code).join(",");
    for (const name of Object.keys(this.numbers)) this.#set(name, code, "");
    this.#changed();
  }

  #set(name, code, value) {
    const numbers = pairs(this.form.elements[name].value);
    if (value === "") numbers.delete(code);
    else numbers.set(code, value);
    // A missing weight would count as zero, so all weights are written as soon as one differs from 1.
    const weighted = [...numbers.values()].some((each) => each !== "1");
    if (name === "weights" && weighted) for (const each of split(this.codes.value)) numbers.set(each, numbers.get(each) ?? "1");
    if (name === "weights" && !weighted) numbers.clear();
    this.form.elements[name].value = [...numbers].map((pair) => pair.join("=")).join(",");
  }

  #changed() {
    this.#table();
    this.form.dispatchEvent(new Event("change"));
  }

  #table() {
    const codes = split(this.codes.value);
    const names = Object.entries(this.numbers);
    if (!codes.length) return void this.rows.replaceChildren();
    const head = el("tr", {}, el("th", { scope: "col" }, "language"), names.map(([, title]) => el("th", { scope: "col" }, title)), el("td", {}));
    const rows = codes.map((code) => {
      const known = this.names.get(code);
      const name = known ? known.name : code;
      const cells = names.map(([field, title]) => el("td", {}, this.#input(field, title, code, name, known)));
      const remove = el("button", { type: "button", class: "small", "aria-label": `Remove ${name}`, onclick: () => this.#remove(code) }, "×");
      return el("tr", {}, el("th", { scope: "row" }, ...(known ? nameParts(known) : [el("bdi", {}, code)])), cells, el("td", {}, remove));
    });
    this.rows.replaceChildren(el("table", { class: "chosen" }, el("thead", {}, head), el("tbody", {}, rows)));
  }

  #input(field, title, code, name, known) {
    const usual = field === "unique" && known?.unique_tokens ? known.unique_tokens.toPrecision(3).replace("e+", "e") : "";
    const input = el("input", {
      type: "text", inputmode: "decimal", "aria-label": `${title} of ${name}`, value: pairs(this.form.elements[field].value).get(code) ?? "",
      placeholder: field === "weights" ? "1" : usual ? Number(usual).toExponential(2).replace("e+", "e") : "unknown",
    });
    input.addEventListener("input", (event) => event.stopPropagation());
    input.addEventListener("change", (event) => {
      event.stopPropagation();
      this.#set(field, code, input.value.trim());
      this.form.dispatchEvent(new Event("change"));
    });
    return input;
  }
}

/** A language's name in English and its own script, and its code. */
function nameParts(each) {
  const autonym = each.autonym && each.autonym !== each.name ? [" ", el("bdi", { lang: each.code, class: "autonym" }, each.autonym)] : [];
  return [el("bdi", {}, each.name), ...autonym, " ", el("code", {}, each.code)];
}
