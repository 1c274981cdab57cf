// Charts: they are drawn once, then filled with new rows as long as their spec stays the same, and saved as files.
"use strict";

const ERRORS = 1; // Vega's level of logging; its warnings concern the authors of specs
const MARGIN = 110; // pixels left of a plot for the names on its axis
const PAPER = { ink: "#222222", background: "white", dots: 2 };

/** A drawn chart in its place. */
export class Chart {
  #view = null;
  #shape = "";

  constructor(place) {
    this.place = place;
  }

  /** Draw a spec, or only replace its data if everything else is unchanged. */
  async show(spec) {
    this.spec = spec;
    const { shape, data } = parted(spec);
    if (this.#view && shape === this.#shape) {
      for (const [name, values] of data) this.#view.data(name, values);
      await this.#view.runAsync();
      near(this.place);
      this.#name(spec);
      return;
    }
    this.#view?.finalize();
    this.#view = null;
    // While the chart is drawn again, the page below must not move.
    this.place.style.minHeight = `${this.place.clientHeight}px`;
    try {
      this.#view = (await drawn(this.place, fitted(spec, this.place))).view;
      this.#shape = shape;
      near(this.place);
    } catch (error) {
      this.place.textContent = `This chart cannot be drawn here (${error.message}). Its numbers are in the table below.`;
    } finally {
      this.place.style.minHeight = "";
      this.#name(spec);
    }
  }

  /** For screen readers the chart is one picture with a description; Vega would expose every mark. */
  #name(spec) {
    this.place.setAttribute("role", "img");
    this.place.setAttribute("aria-label", spec.description);
    this.place.removeAttribute("aria-roledescription");
  }

  remove() {
    this.#view?.finalize();
    this.#view = null;
  }
}

/** Refer to colour gradients by their id alone: Vega uses the whole address of the page, which changes with its state. */
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
  const description = JSON.stringify(spec.description);
  return { shape: shape.replace(`"description":${description}`, ""), data };
}

/** A chart of one view gets the width of its place. */
function fitted(spec, place) {
  const single = "layer" in spec || "mark" in spec;
  if (!single || typeof spec.width !== "number") return structuredClone(spec);
  // A title longer than a narrow chart would make the chart too wide.
  const room = Math.max(120, place.clientWidth - MARGIN);
  const fits = JSON.parse(JSON.stringify(spec, (key, value) => (key === "titleLimit" ? Math.min(value, room) : value)));
  fits.config = { ...fits.config, axisX: { ...fits.config?.axisX, titleLimit: room } };
  return { ...fits, width: "container" };
}

/** PNG or SVG of a spec for printing: dark ink on white. */
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

/** The rows of the largest data set of a spec as CSV, one column for each field. */
export function csv(spec) {
  let rows = [];
  const longest = (found) => { if (Array.isArray(found) && found.length > rows.length) rows = found; };
  JSON.stringify(spec, (key, value) => {
    if (key === "data") longest(value?.values);
    if (key === "datasets") Object.values(value ?? {}).forEach(longest);
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

/** Save a blob as a file of the browser. */
export function keep(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
