// A slider over powers of ten next to the number that it changes. The number is the state; the slider follows it.
"use strict";

export function sliders(form) {
  for (const slider of form.querySelectorAll("input[type=range][data-moves]")) bind(form, slider);
}

function bind(form, slider) {
  const number = form.elements[slider.dataset.moves];
  const follow = () => {
    const value = Number(number.value);
    if (value > 0) slider.value = String(Math.log10(value));
    slider.setAttribute("aria-valuetext", `${number.value || "nothing"} ${slider.dataset.unit ?? ""}`.trim());
  };
  slider.addEventListener("input", () => {
    number.value = compact(10 ** Number(slider.value));
    follow();
  });
  number.addEventListener("input", follow);
  form.addEventListener("restored", follow);
  follow();
}

/** Three digits, as people write FLOPs: 1.26e21. */
export function compact(value) {
  return value.toExponential(2).replace("e+", "e").replace(/\.?0+e/, "e");
}
