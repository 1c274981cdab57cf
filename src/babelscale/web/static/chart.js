// Charts: drawn once, then filled with new rows as long as their spec stays the same; and taken away as files.
"use strict";

const ERRORS = 1; // of Vega's levels of logging: its warnings are for who writes specs
const MARGIN = 110; // pixels left of a plot for the names on its axis
const PAPER = { ink: "#222222", background: "white", dots: 2 };

/** A drawn chart in its place. */
export class Chart {
  #view = null;
  #shape = "";

  constructor(place) {
    this.place = place;
  }

  /** Draw a spec, or only its data where everything else is as before. */
  async show(spec) {
    this.spec = spec;
    this.place.setAttribute("role", "img");
    this.place.setAttribute("aria-label", spec.description);
    const { shape, data } = parted(spec);
    if (this.#view && shape === this.#shape) {
      for (const [name, values] of data) this.#view.data(name, values);
      await this.#view.runAsync();
      near(this.place);
      return;
    }
    this.#view?.finalize();
    this.#view = null;
    // While it is drawn anew the page below stays where it is.
    this.place.style.minHeight = `${this.place.clientHeight}px`;
    try {
      this.#view = (await drawn(this.place, fitted(spec, this.place))).view;
      this.#shape = shape;
      near(this.place);
    } catch (error) {
      this.place.textContent = `This chart cannot be drawn here (${error.message}). Its numbers are in the table below.`;
    } finally {
      this.place.style.minHeight = "";
    }
  }

  remove() {
    this.#view?.finalize();
    this.#view = null;
  }
}

/** Colour gradients by their id alone: Vega names them by the page's whole address, which changes with its state. */
function near(place) {
  for (const each of place.querySelectorAll('[fill^="url("]')) {
    each.setAttribute("fill", each.getAttribute("fill").replace(/^url\([^#]*#/, "url(#"));
  }
}

function drawn(place, spec) {
  return window.vegaEmbed(place, spec, {
    mode: "vega-lite", renderer: "svg", ast: true, actions: false, defaultStyle: false,
    tooltip: { disableDefaultStyle: true }, logLevel: ERRORS,
  });
}

/** A spec without its rows, as text, and the rows of its named data. Data without a name count as shape. */
function parted(spec) {
  const data = [];
  const shape = JSON.stringify(spec, (key, value) => {
    if (key === "data" && value && value.name && Array.isArray(value.values)) {
      data.push([value.name, value.values]);
      return { name: value.name };
    }
    return value;
  });
  const told = JSON.stringify(spec.description);
  return { shape: shape.replace(`"description":${told}`, ""), data };
}

/** A chart of one view as wide as its place, where that is narrower than the chart was drawn for. */
function fitted(spec, place) {
  const single = "layer" in spec || "mark" in spec;
  if (!single || typeof spec.width !== "number") return structuredClone(spec);
  const fits = structuredClone(spec);
  // Titles longer than a narrow chart would push it out of its place.
  const room = Math.max(120, place.clientWidth - MARGIN);
  fits.config = { ...fits.config, axisX: { ...fits.config?.axisX, titleLimit: room } };
  return { ...fits, width: "container" };
}

/** PNG or SVG of a spec as it would be printed: dark ink on white. */
export async function picture(spec, format) {
  const paper = JSON.parse(JSON.stringify(spec).replaceAll("currentColor", PAPER.ink));
  paper.background = PAPER.background;
  const place = document.createElement("div");
  const { view } = await drawn(place, paper);
  try {
    if (format === "svg") return new Blob([await view.toSVG()], { type: "image/svg+xml" });
    const canvas = await view.toCanvas(PAPER.dots);
    return await new Promise((done) => canvas.toBlob(done, "image/png"));
  } finally {
    view.finalize();
  }
}

/** The rows behind a spec as CSV: those of its largest data set, a column a field. */
export function csv(spec) {
  let rows = [];
  JSON.stringify(spec, (key, value) => {
    if (key === "data" && Array.isArray(value?.values) && value.values.length > rows.length) rows = value.values;
    return value;
  });
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = [columns, ...rows.map((row) => columns.map((column) => row[column]))];
  return lines.map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

/** Let the browser keep a blob as a file. */
export function keep(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
