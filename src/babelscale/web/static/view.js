// Turns sections into elements. Every text is set as text, so nothing in a table of runs is read as markup.
"use strict";

import { Chart, csv, keep, picture } from "./chart.js";

/** An element with attributes and children; strings become text. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** Shows answers in a place, and reuses the elements of the previous answer where possible. */
export class View {
  #charts = new Map(); // by name: {chart, figure, table}

  constructor(place) {
    this.place = place;
  }

  /** Draw the sections; with `partial`, figures that are missing in them stay and are marked as old. */
  async show(sections, { partial = false } = {}) {
    const open = new Set([...this.place.querySelectorAll("details[open]")].map((each) => each.dataset.name));
    const fresh = new Set(sections.flatMap((section) => section.figures.map((figure) => figure.name)));
    if ((partial && this.#sameSections(sections)) || this.#alike(sections)) {
      await this.#follow(sections, fresh, open);
      return;
    }
    for (const [name, drawn] of this.#charts) {
      if (!fresh.has(name)) {
        drawn.chart.remove();
        this.#charts.delete(name);
      }
    }
    const drawing = [];
    this.place.replaceChildren(...sections.map((section) => this.#section(section, open, drawing)));
    await Promise.all(drawing.map((draw) => draw()));
  }

  #sameSections(sections) {
    const shown = [...this.place.querySelectorAll("section")].map((each) => each.dataset.name);
    return sections.length > 0 && sections.every((section) => shown.includes(section.name));
  }

  /** Whether the page shows the same sections and figures in the same order. */
  #alike(sections) {
    const asked = sections.map((section) => [section.name, ...section.figures.map((figure) => figure.name)]);
    const present = [...this.place.querySelectorAll("section")].map((each) =>
      [each.dataset.name, ...[...each.querySelectorAll("figure")].map((figure) => figure.dataset.name)]);
    return sections.length > 0 && JSON.stringify(asked) === JSON.stringify(present);
  }

  /** Put new text, tables and data into the present elements, so that focus, scroll position and open details stay. */
  async #follow(sections, fresh, open) {
    const drawing = [];
    for (const section of sections) {
      const old = this.place.querySelector(`section[data-name="${CSS.escape(section.name)}"]`);
      old.querySelector("h2").textContent = section.title;
      morph(old.querySelector(".words"), words(section));
      morph(old.querySelector(".tables"), tables(section, open));
      morph(old.querySelector(".notes"), notes(section));
      for (const figure of section.figures) {
        const drawn = this.#charts.get(figure.name);
        if (!drawn) continue;
        drawn.figure.classList.remove("old");
        drawn.caption.textContent = figure.reading;
        drawn.numbers(figure.table);
        drawing.push(drawn.chart.show(figure.spec));
      }
    }
    for (const [name, drawn] of this.#charts) if (!fresh.has(name)) drawn.figure.classList.add("old");
    await Promise.all(drawing);
  }

  #section(section, open, drawing) {
    const figures = section.figures.map((figure) => this.#figure(figure, open, drawing));
    const title = el("h2", { id: section.name }, section.title);
    return el("section", { "aria-labelledby": section.name, "data-name": section.name },
      title, words(section), el("div", { class: "figures" }, figures), tables(section, open), notes(section));
  }

  #figure(figure, open, drawing) {
    let drawn = this.#charts.get(figure.name);
    if (!drawn) {
      drawn = this.#made(figure);
      this.#charts.set(figure.name, drawn);
    }
    drawn.figure.classList.toggle("half", figure.half);
    drawn.figure.classList.remove("old");
    drawn.caption.textContent = figure.reading;
    drawn.numbers(figure.table);
    drawn.details.open = open.has(figure.name);
    drawing.push(() => drawn.chart.show(figure.spec));
    return drawn.figure;
  }

  #made(figure) {
    const place = el("div", { class: "chart" });
    const chart = new Chart(place);
    const caption = el("figcaption", { class: "reading" });
    let table = figure.table;
    const details = el("details", { "data-name": figure.name }, el("summary", {}, "The numbers behind this chart"));
    const fill = () => {
      const there = details.querySelector(".scroll");
      if (!details.open) there?.remove();
      else if (there) morph(there, tabulate(table));
      else details.append(tabulate(table));
    };
    details.addEventListener("toggle", fill);
    const button = (text, label, act) => el("button", { type: "button", class: "small", "aria-label": label, onclick: act }, text);
    const saving = el("div", { class: "saving", role: "group", "aria-label": `Download the chart ${figure.name}` },
      button("PNG", "Download as PNG", async () => keep(await picture(chart.spec, "png"), `${figure.name}.png`)),
      button("SVG", "Download as SVG", async () => keep(await picture(chart.spec, "svg"), `${figure.name}.svg`)),
      button("CSV", "Download the data as CSV", () => keep(new Blob([csv(chart.spec)], { type: "text/csv" }), `${figure.name}.csv`)),
      button("Spec", "Download the Vega-Lite specification", () =>
        keep(new Blob([JSON.stringify(chart.spec, null, 1)], { type: "application/json" }), `${figure.name}.vl.json`)));
    const scroll = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": figure.name }, place);
    const whole = el("figure", { "data-name": figure.name }, scroll, caption, el("div", { class: "under" }, saving), details);
    return { chart, figure: whole, caption, details, numbers: (next) => { table = next; fill(); } };
  }
}

function words(section) {
  const warning = section.warning.length
    ? el("div", { class: "warning", role: "note" }, section.warning.map((line) => el("p", {}, line))) : null;
  const lines = section.lines.length ? el("ul", {}, section.lines.map((line) => el("li", {}, line))) : null;
  return el("div", { class: "words" }, warning, section.paragraphs.map((line) => el("p", {}, line)), lines);
}

function notes(section) {
  return el("ul", { class: "notes" }, section.notes.map((line) => el("li", {}, line)));
}

/** Make an element equal to another one, and change only what differs. */
function morph(old, made) {
  if (old.nodeName !== made.nodeName) return void old.replaceWith(made);
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== made.data) old.data = made.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (!made.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of made.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  if (made.table) old.table = made.table;
  const [before, after] = [[...old.childNodes], [...made.childNodes]];
  after.forEach((child, k) => (k < before.length ? morph(before[k], child) : old.append(child)));
  for (const child of before.slice(after.length)) child.remove();
}

const SHORT = 20; // longer tables are inside a closed details element

function tables(section, open) {
  return el("div", { class: "tables" }, section.tables.map((table) => {
    if (table.rows.length <= SHORT) return tabulate(table);
    const summary = el("summary", {}, `${table.caption} (${table.rows.length} rows)`);
    const details = el("details", { "data-name": table.caption, open: open.has(table.caption) }, summary);
    details.table = table;
    if (details.open) details.append(tabulate(table));
    details.addEventListener("toggle", () => {
      if (details.open && !details.querySelector(".scroll")) details.append(tabulate(details.table));
    });
    return details;
  }));
}

/** A table with its caption and numbers on the right; each cell keeps the direction of its script. */
export function tabulate(table) {
  const side = (k) => (table.numeric.includes(k) ? { class: "n" } : {});
  const head = el("tr", {}, table.columns.map((name, k) => el("th", { scope: "col", ...side(k) }, name)));
  const body = table.rows.map((row) => el("tr", {}, row.map((cell, k) => el("td", side(k), el("bdi", {}, String(cell))))));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": table.caption },
    el("table", {}, el("caption", {}, table.caption), el("thead", {}, head), el("tbody", {}, body)));
}
