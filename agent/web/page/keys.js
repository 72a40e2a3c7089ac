// The keyboard: single keys for those who want them, listed behind "?", and off for those who do not.

import { button, fill, h } from "./dom.js";
import { t } from "./texts.js";

const KEPT = "dermascan-keys";

/** Every key: what is pressed, what is said of it, the action's name. */
const LISTED = [
  ["↑ ↓", () => t("keys.move")],
  ["Enter", () => t("keys.open")],
  ["Esc", () => t("keys.back")],
  ["j k", () => t("keys.step")],
  ["l", () => t("keys.list")],
  ["a", () => t("keys.attention")],
  ["b", () => t("keys.beside")],
  ["+ − 0", () => t("keys.zoom")],
  ["← → ↑ ↓", () => t("keys.pan")],
  ["c", () => t("keys.confirm")],
  ["x", () => t("keys.correct")],
  ["h", () => t("keys.histopathology")],
  ["u", () => t("keys.undo")],
  ["p", () => t("keys.print")],
  ["d", () => t("keys.device")],
  ["?", () => t("keys.help")],
];

let on = read();

/** Listens to the keyboard; `actions` maps a key to what it does. Escape is always heard. */
export function listen(actions) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
    const typing = event.target.matches?.("input:not([type=range]):not([type=checkbox]):not([type=radio]), textarea, select");
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action || (event.key !== "Escape" && (typing || (!on && event.key !== "?")))) return;
    event.preventDefault();
    action();
  });
}

/** Opens the list of keys. */
export function showHelp(dialog) {
  const close = () => dialog.close();
  const held = document.activeElement;
  const choice = h("input", { type: "checkbox", checked: on, on: { change: (event) => write(event.target.checked) } });
  fill(
    dialog,
    h("h2", { id: "help-title" }, t("keys.title")),
    h("dl", { class: "keys" }, LISTED.map(([key, words]) => h("div", {}, h("dt", {}, key.split(" ").map((one) => h("kbd", {}, one))), h("dd", {}, words())))),
    h("label", { class: "follow" }, choice, h("span", {}, t("keys.on"))),
    button(t("keys.close"), close, { kind: "primary" }),
  );
  dialog.onclose = () => held?.focus?.({ preventScroll: true });
  dialog.showModal();
}

function read() {
  try {
    return localStorage.getItem(KEPT) !== "off";
  } catch {
    return true;
  }
}

function write(value) {
  on = value;
  try {
    localStorage.setItem(KEPT, on ? "on" : "off");
  } catch {
    // Without storage the choice holds until the page is left.
  }
}
