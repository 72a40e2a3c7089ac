// Builds elements. Text goes in as text and never as markup: whatever a file or a patient is called stays a name.

const SVG = "http://www.w3.org/2000/svg";

/** Paths of the icons, drawn in a box of 24 x 24 with strokes. */
const ICONS = {
  suspicious: "M12 2 22 12 12 22 2 12Z M12 7v6 M12 16v.5",
  below: "M3 8h18 M12 13a3 3 0 1 1 0 6 3 3 0 0 1 0-6Z",
  rejected: "M5 5l14 14 M19 5 5 19",
  working: "M7 3h10 M7 21h10 M8 3v4l4 5 4-5V3 M8 21v-4l4-5 4 5v4",
  warning: "M12 3 22 20H2Z M12 10v4 M12 17v.5",
  back: "M15 5l-7 7 7 7",
  device: "M4 5h16v11H4Z M9 20h6 M12 16v4",
  list: "M8 6h12 M8 12h12 M8 18h12 M4 6h.5 M4 12h.5 M4 18h.5",
  help: "M9 9a3 3 0 1 1 4.5 2.6c-1 .6-1.5 1.2-1.5 2.4 M12 17.5v.5",
  out: "M10 4H5v16h5 M14 8l4 4-4 4 M18 12H9",
  print: "M7 9V4h10v5 M7 17H4V9h16v8h-3 M7 14h10v6H7Z",
  plus: "M12 5v14 M5 12h14",
  minus: "M5 12h14",
  fit: "M4 9V4h5 M20 9V4h-5 M4 15v5h5 M20 15v5h-5",
  beside: "M4 5h7v14H4Z M13 5h7v14h-7Z",
  attention: "M2 12s4-7 10-7 10 7 10 7-4 7-10 7-10-7-10-7Z M12 9a3 3 0 1 1 0 6 3 3 0 0 1 0-6Z",
  check: "M4 12l5 6L20 6",
  pen: "M4 20l1-5L16 4l4 4L9 19Z",
  lab: "M9 3h6 M10 3v6L5 19a1 1 0 0 0 1 2h12a1 1 0 0 0 1-2l-5-10V3 M7.5 15h9",
  undo: "M9 5 4 10l5 5 M4 10h10a6 6 0 0 1 0 12h-3",
  live: "M12 10a2 2 0 1 1 0 4 2 2 0 0 1 0-4Z M7 7a7 7 0 0 0 0 10 M17 7a7 7 0 0 1 0 10",
  lost: "M4 4l16 16 M8.5 8.5a6 6 0 0 0-1.500 7 M15.500 15.500a6 6 0 0 0 1.500-7",
  up: "M12 20V5 M6 11l6-6 6 6",
  down: "M12 4v15 M6 13l6 6 6-6",
  file: "M6 3h8l4 4v14H6Z M14 3v4h4",
};

/**
 * An element. Attributes: `class`, `on` (listeners by name), `data` (data-*), whatever else is set as an attribute;
 * true sets it empty; null, undefined and false leave it out. Children: elements, strings, numbers; null is left out.
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  return append(element, children);
}

function append(element, children) {
  for (const child of children.flat(Infinity)) if (child !== null && child !== undefined && child !== false) element.append(child);
  return element;
}

/** Puts new children into an element in place of all that it has. */
export function fill(element, ...children) {
  element.replaceChildren();
  return append(element, children);
}

/** An icon; it says nothing to a screen reader, so words must stand beside it. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true", focusable: "false" })) {
    svg.setAttribute(key, value);
  }
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A button with an icon and words; `label` where the words are only to be heard. */
export function button(words, press, { name = null, kind = "", label = null, focus = null, ...rest } = {}) {
  return h(
    "button",
    { type: "button", class: `button ${kind}`.trim(), "aria-label": label, title: label, data: focus ? { focus } : {}, on: { click: press }, ...rest },
    name && icon(name),
    words && h("span", {}, words),
  );
}

/** A name that others gave: kept apart from the words around it, whatever direction it is written in. */
export function given(text) {
  return h("bdi", {}, text);
}

/**
 * Rebuilds a part of the page without losing the keyboard's place: what had the focus is found again by its data-focus,
 * else the first of `fallbacks` that is there gets it.
 */
export function keepFocus(container, rebuild, fallbacks = []) {
  const active = document.activeElement;
  const held = active !== container && container.contains(active);
  const key = held ? active.dataset.focus : null;
  rebuild();
  if (!held || container.contains(document.activeElement)) return;
  for (const wanted of [key, ...fallbacks]) {
    const found = wanted && container.querySelector(`[data-focus="${CSS.escape(wanted)}"]`);
    if (found) return found.focus({ preventScroll: true });
  }
  container.closest("[tabindex]")?.focus({ preventScroll: true });
}
