// The upload of a table that was chosen or dropped. It is sent unchanged, with progress; the answer is a new source.
"use strict";

import { el } from "./view.js";

const MOST = 32 * 1024 * 1024; // bytes, the limit of the server

/** Upload by the input `#file` or by dropping on `#drop`; `done(found)` gets the server's summary of the table. */
export function uploads(done) {
  const input = document.querySelector("#file");
  const drop = document.querySelector("#drop");
  const place = document.querySelector("#upload");
  const take = (file) => { if (file) send(file, place, done); };
  // The chosen file is not part of the state of the form.
  input.addEventListener("input", (event) => event.stopPropagation());
  input.addEventListener("change", (event) => {
    event.stopPropagation();
    take(input.files[0]);
    input.value = "";
  });
  // A file that is dropped outside the box must not replace the page.
  for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
  drop.addEventListener("dragover", () => drop.classList.add("over"));
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    take(event.dataTransfer.files[0]);
  });
}

function send(file, place, done) {
  const refused = (error, hint) => place.replaceChildren(
    el("div", { class: "warning", role: "alert" }, el("p", {}, el("bdi", {}, error)), hint ? el("p", {}, hint) : null));
  if (file.size > MOST) return refused(`${file.name}: the file has ${(file.size / 2 ** 20).toFixed(1)} MB`, "the limit is 32 MB");
  const bar = el("progress", { max: file.size || 1, value: 0, "aria-label": "upload" });
  const line = el("p", {}, "Sending ", el("bdi", {}, file.name));
  place.replaceChildren(el("div", { class: "working" }, line, bar));
  // Unlike fetch, XMLHttpRequest reports the progress of an upload.
  const request = new XMLHttpRequest();
  request.open("POST", `/api/tables?name=${encodeURIComponent(file.name)}`);
  request.setRequestHeader("content-type", "application/octet-stream");
  request.upload.addEventListener("progress", (event) => { bar.value = event.loaded; });
  request.upload.addEventListener("load", () => {
    line.replaceChildren("Reading ", el("bdi", {}, file.name));
    bar.removeAttribute("value");
  });
  request.addEventListener("error", () => refused("the upload was interrupted", "check that the server is still running"));
  request.addEventListener("load", () => {
    let answer;
    try {
      answer = JSON.parse(request.responseText);
    } catch {
      return refused(`the server answered with status ${request.status}`, "see the log of the server");
    }
    if (request.status !== 200) return refused(answer.error, answer.hint);
    place.replaceChildren(el("p", { class: "taken" }, el("bdi", {}, answer.name), `: ${answer.runs} runs, `,
      `${answer.languages.length} ${answer.languages.length === 1 ? "language" : "languages"}`), ...remarks(answer));
    done(answer);
  });
  request.send(file);
}

/** The findings about a table, and how its columns were read. */
function remarks({ findings, understood }) {
  const list = (texts) => el("ul", {}, ...texts.map((text) => el("li", {}, el("bdi", {}, text))));
  const serious = findings.filter((each) => each.severity !== "notice");
  const read = [...understood, ...findings.filter((each) => each.severity === "notice").map((each) => each.text)];
  const wrong = serious.map((each) => `${each.severity}: ${each.text}`);
  return [
    ...(wrong.length ? [el("div", { class: "warning", role: "alert" }, el("p", {}, "Check this table:"), list(wrong))] : []),
    ...(read.length ? [el("details", { class: "understood" }, el("summary", {}, "How the table was read"), list(read))] : []),
  ];
}
