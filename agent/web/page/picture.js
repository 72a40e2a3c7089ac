// The unmodified picture with the attention layer over it, or beside it; zoom, opacity, on and off.

import * as api from "./api.js";
import { attentionLayer, centreSquare } from "./attention.js";
import { button, fill, h, icon } from "./dom.js";
import { number, percent, t } from "./texts.js";
import { Zoom } from "./zoom.js";

const SIDE = 1600; // pixels of the long side that are loaded at first
const LARGE_SIDE = 4096; // and once that is zoomed into

/** Shows one scan's picture in `container`. `drawn(image, layer)` is called when both are there, for the print. */
export class Picture {
  #container;
  #drawn;
  #zoom = new Zoom((scale) => this.#zoomed(scale));
  #scan = null;
  #layer = null;
  #images = [];
  #on = true;
  #beside = false;
  #opacity = 0.6;
  #finest = null;
  #scaleShown = null;
  #tools = null;

  constructor(container, drawn) {
    this.#container = container;
    this.#drawn = drawn;
  }

  /** Another scan's picture; the choices (attention, opacity, beside) stay as they were. */
  async show(scan) {
    this.#scan = scan;
    this.#layer = null;
    this.#finest = null;
    if (scan.links.view === null) return this.#without(scan.state === "answered" ? t("picture.role") : t("picture.unshown"));
    this.#build();
    const layer = scan.answer ? await attentionLayer(scan.answer.attention_map) : null;
    if (this.#scan !== scan) return;
    this.#layer = layer;
    this.#layOver();
    this.#offer();
  }

  /** The same picture with other words, after a change of language. */
  reword() {
    if (!this.#scan) return;
    if (this.#images.length === 0) {
      this.show(this.#scan);
      return;
    }
    this.#build();
    this.#layOver();
  }

  toggle() {
    if (this.#images.length === 0 || !this.#scan.answer) return;
    this.#on = !this.#on;
    this.#layOver();
  }

  toggleBeside() {
    if (this.#images.length === 0 || !this.#scan.answer) return;
    this.#beside = !this.#beside;
    const focus = document.activeElement?.dataset?.focus;
    this.#build();
    this.#layOver();
    if (focus) this.#container.querySelector(`[data-focus="${CSS.escape(focus)}"]`)?.focus();
  }

  zoomBy(direction) {
    if (direction === 0) this.#zoom.reset();
    else this.#zoom.step(direction);
  }

  #build() {
    const scan = this.#scan;
    const quality = scan.answer?.quality;
    const panes = [this.#pane(quality, this.#beside ? t("picture.alone") : t("picture.with_layer"))];
    if (this.#beside) panes.push(this.#pane(quality, t("picture.layer_pane")));
    this.#images = panes.map((pane) => pane.querySelector("img"));
    this.#scaleShown = h("output", { class: "zoom-shown", "aria-label": t("picture.zoom") });
    this.#tools = h("div", { class: "picture-tools" });
    fill(
      this.#container,
      h("div", { class: this.#beside ? "panes is-beside" : "panes" }, panes.map((pane, index) => h("figure", { class: "figure" }, pane, this.#beside && h("figcaption", {}, index ? t("picture.layer_caption") : t("picture.alone_caption"))))),
      this.#tools,
    );
    this.#buildTools();
    this.#zoom.attach(panes);
  }

  #pane(quality, label) {
    const image = h("img", { class: "picture", alt: t("picture.alt"), draggable: "false", decoding: "async", on: { load: () => this.#loaded(image), error: () => this.#failed() } });
    const stage = h("div", { class: "stage" }, image);
    const pane = h("div", { class: "pane", tabindex: "0", role: "group", "aria-label": label, "aria-keyshortcuts": "+ - 0", data: { focus: "pane" } }, stage);
    pane.style.setProperty("--ratio", String(quality ? quality.width / quality.height : 4 / 3));
    image.src = this.#finest ?? api.viewUrl(this.#scan.scan_id, SIDE);
    return pane;
  }

  #buildTools() {
    const { answer } = this.#scan;
    const attention = answer && button(t("picture.attention"), () => this.toggle(), { name: "attention", kind: "toggle", "aria-pressed": String(this.#on), focus: "attention" });
    const beside = answer && button("", () => this.toggleBeside(), { name: "beside", kind: "toggle square", label: t("picture.beside"), "aria-pressed": String(this.#beside), focus: "beside" });
    const slider = h("input", { type: "range", min: "10", max: "100", step: "5", value: String(Math.round(this.#opacity * 100)), class: "slider", data: { focus: "opacity" }, "aria-valuetext": percent(this.#opacity, 0), on: { input: (event) => this.#fade(event.target) } });
    const opacity =
      answer &&
      h(
        "div",
        { class: "tools-row legend", hidden: !this.#on },
        h("label", { class: "opacity" }, h("span", {}, t("picture.opacity")), slider),
        h("p", { class: "legend-scale" }, h("span", {}, t("picture.low")), h("span", { class: "legend-bar", "aria-hidden": "true" }), h("span", {}, t("picture.high"))),
      );
    fill(
      this.#tools,
      h(
        "div",
        { class: "tools-row" },
        button("", () => this.zoomBy(-1), { name: "minus", kind: "square", label: t("picture.zoom_out"), focus: "zoom-out" }),
        this.#scaleShown,
        button("", () => this.zoomBy(1), { name: "plus", kind: "square", label: t("picture.zoom_in"), focus: "zoom-in" }),
        button("", () => this.zoomBy(0), { name: "fit", kind: "square", label: t("picture.whole"), focus: "zoom-reset" }),
        beside,
        attention,
      ),
      opacity,
      this.#scan.answer && h("p", { class: "legend-hint", hidden: !this.#on }, t("picture.hint")),
    );
  }

  #fade(slider) {
    this.#opacity = Number(slider.value) / 100;
    slider.setAttribute("aria-valuetext", percent(this.#opacity, 0));
    for (const layer of this.#container.querySelectorAll(".layer")) layer.style.opacity = this.#opacity;
  }

  #layOver() {
    for (const old of this.#container.querySelectorAll(".layer, .layer-frame")) old.remove();
    const pressed = this.#container.querySelector('[data-focus="attention"]');
    pressed?.setAttribute("aria-pressed", String(this.#on));
    for (const words of this.#container.querySelectorAll(".legend, .legend-hint")) words.hidden = !this.#on;
    if (!this.#layer || !this.#on) return;
    const stage = [...this.#container.querySelectorAll(".stage")].at(-1);
    const image = this.#images.at(-1);
    const { width, height } = image.naturalWidth ? { width: image.naturalWidth, height: image.naturalHeight } : this.#scan.answer.quality;
    const square = centreSquare(width, height);
    const copy = h("canvas", { class: "layer", "aria-hidden": "true", width: this.#layer.width, height: this.#layer.height });
    copy.getContext("2d").drawImage(this.#layer, 0, 0);
    copy.style.opacity = this.#opacity;
    const frame = h("div", { class: "layer-frame", "aria-hidden": "true" });
    for (const [side, share] of Object.entries(square)) copy.style[side] = frame.style[side] = `${share * 100}%`;
    stage.append(copy, frame);
  }

  #zoomed(scale) {
    if (this.#scaleShown) this.#scaleShown.textContent = `${number(scale, 1)}×`;
    const image = this.#images[0];
    if (this.#finest || !image?.naturalWidth || scale === 1) return;
    const reduced = Math.max(image.naturalWidth, image.naturalHeight) >= SIDE;
    if (reduced && scale * image.clientWidth * devicePixelRatio > image.naturalWidth * 1.1) this.#enlarge();
  }

  /** The finest picture replaces the first once it is there: the file itself where a browser can show it. */
  async #enlarge() {
    const scan = this.#scan;
    this.#finest = api.viewUrl(scan.scan_id, SIDE);
    for (const url of [api.imageUrl(scan.scan_id), api.viewUrl(scan.scan_id, LARGE_SIDE)]) {
      const finer = new Image();
      finer.src = url;
      try {
        await finer.decode();
      } catch {
        continue; // a TIFF, a DICOM file
      }
      if (this.#scan !== scan) return;
      this.#finest = url;
      for (const image of this.#images) image.src = url;
      return;
    }
  }

  #loaded(image) {
    const pane = image.closest(".pane");
    pane?.style.setProperty("--ratio", String(image.naturalWidth / image.naturalHeight));
    pane?.classList.add("is-loaded");
    this.#layOver();
    this.#offer();
  }

  #offer() {
    const image = this.#images[0];
    if (image?.complete && image.naturalWidth && (this.#layer || !this.#scan.answer)) this.#drawn(image, this.#layer);
  }

  async #failed() {
    const scan = this.#scan;
    const status = await api.pictureStatus(api.viewUrl(scan.scan_id, SIDE));
    if (this.#scan !== scan) return;
    if (status === 0 || status === 429 || status >= 500) {
      setTimeout(() => this.#scan === scan && this.#images.forEach((image) => { image.src = `${api.viewUrl(scan.scan_id, SIDE)}`; }), 2000);
      return;
    }
    const words = status === 410 ? t("picture.gone") : status === 409 && scan.answer ? t("picture.changed") : t("picture.unshown");
    this.#without(words);
  }

  #without(words) {
    this.#images = [];
    fill(this.#container, h("div", { class: "no-picture" }, icon("file"), h("p", {}, words)));
  }
}
