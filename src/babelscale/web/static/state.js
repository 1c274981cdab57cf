// The state of a page is its form, and the address bar contains it, so a link opens the page in the same state.
"use strict";

/** Named controls of a form with their values, without those that are empty or have their default value. */
export function query(form) {
  const found = new URLSearchParams();
  for (const control of form.elements) {
    if (!control.name || control.disabled) continue;
    if (control.type === "radio" && !control.checked) continue;
    const value = control.type === "checkbox" ? String(control.checked) : control.value.trim();
    if (value !== "" && value !== usual(control)) found.set(control.name, value);
  }
  return found;
}

/** The default value of a control: its value on a page that was opened without a state. */
function usual(control) {
  if ("usual" in control.dataset) return control.dataset.usual;
  if (control.type === "checkbox") return String(control.defaultChecked);
  if (control.type === "radio") {
    const first = control.form.querySelector(`input[name="${CSS.escape(control.name)}"][data-first]`);
    return first ? first.value : undefined;
  }
  if (control instanceof HTMLSelectElement) {
    const first = [...control.options].find((option) => option.defaultSelected) ?? control.options[0];
    return first ? first.value : undefined;
  }
  return undefined;
}

/** Fill a form from the address. Text controls that the address does not name become empty; unknown names are ignored. */
export function restore(form, address = location.search) {
  const found = new URLSearchParams(address);
  if (found.size) {
    for (const control of form.elements) {
      if (control.name && control.type === "text") control.value = control.dataset.usual ?? "";
    }
  }
  for (const [name, value] of found) {
    const control = form.elements[name];
    if (!control) continue;
    if (control instanceof RadioNodeList) control.value = value;
    else if (control.type === "checkbox") control.checked = value === "true";
    else control.value = value;
  }
  form.dispatchEvent(new CustomEvent("restored"));
}

/** Write the state of the form into the address bar, without a new step in the history. */
export function remember(form) {
  const text = readable(query(form));
  history.replaceState(null, "", text ? `?${text}` : location.pathname);
  return text;
}

/** A query with readable commas and equality signs. */
export function readable(found) {
  return found.toString().replaceAll("%2C", ",").replaceAll("%3D", "=");
}
