// Elements of the page. Text always enters as textContent, so that a file name can never become markup.

/**
 * Return a new element.
 *
 * attributes  `onclick` and other functions become listeners, true becomes an empty attribute, false and null none
 * children    elements, strings, or nested lists of both; null and false are left out
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  setAttributes(element, attributes);
  append(element, children);
  return element;
}

/** Return a new SVG element; see `h`. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  setAttributes(element, attributes);
  append(element, children);
  return element;
}

/** Replace the children of an element. */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/** Return the element of the page with an id. */
export const byId = (id) => document.getElementById(id);

/** Return a labelled select; options are [value, text] pairs. */
export function select(label, options, value, onchange, attributes = {}) {
  const list = h(
    "select",
    { ...attributes, onchange: () => onchange(list.value) },
    options.map(([key, text]) => h("option", { value: key }, text)),
  );
  list.value = value;
  return h("label", { class: "field" }, h("span", {}, label), list);
}

/** Return a labelled checkbox. */
export function checkbox(label, checked, onchange, attributes = {}) {
  const box = h("input", { type: "checkbox", ...attributes, onchange: () => onchange(box.checked) });
  box.checked = checked;
  return h("label", { class: "check" }, box, h("span", {}, label));
}

/** Return a labelled slider; `onchange` receives a number. */
export function slider(label, { min, max, step, value, unit = "" }, onchange, attributes = {}) {
  const shown = h("output", {}, `${value}${unit}`);
  const range = h("input", {
    type: "range",
    min,
    max,
    step,
    ...attributes,
    oninput: () => {
      shown.textContent = `${range.value}${unit}`;
      onchange(Number(range.value));
    },
  });
  range.value = value;
  return h("label", { class: "field slider" }, h("span", {}, label), range, shown);
}

function setAttributes(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
}
