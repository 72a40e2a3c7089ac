// The list of scans: a listbox that only holds the rows in sight, so that 10,000 scans stay fluent.

import { button, fill, given, h, icon } from "./dom.js";
import { number, t, time, day } from "./texts.js";
import { riskFigure, standing, standingWords, verdictIcon, verdictWords } from "./wording.js";

const BEYOND = 6; // rows kept above and below what is in sight
const LOAD_AHEAD = 30; // rows before the end at which the next page is asked for

/** Shows `scans` in `pane`. `tell` has: open(id), range(today), follow(on). */
export class List {
  #scans;
  #tell;
  #pane;
  #box;
  #canvas;
  #foot;
  #above;
  #title;
  #rows = new Map();
  #active = null;
  #opened = null;
  #pending = false;
  #unseen = 0;
  #follow = false;

  constructor(pane, scans, tell) {
    this.#pane = pane;
    this.#scans = scans;
    this.#tell = tell;
    this.#canvas = h("div", { class: "rows-canvas", role: "presentation" });
    this.#box = h(
      "div",
      { class: "rows", role: "listbox", tabindex: "0", id: "rows", on: { scroll: () => this.#scrolled(), keydown: (event) => this.#key(event), click: (event) => this.#click(event), focus: () => this.#focused() } },
      this.#canvas,
    );
    this.#foot = h("div", { class: "rows-foot", "aria-live": "polite" });
    this.#above = button("…", () => this.#toTop(), { name: "up", kind: "rows-above", hidden: true });
    new ResizeObserver(() => this.refresh()).observe(this.#box);
    this.build();
  }

  /** Builds the heading, also after a change of language. */
  build() {
    this.#title = h("h2", { id: "list-title", class: "list-title" }, t("list.title"));
    const ranges = h(
      "div",
      { class: "segments", role: "group", "aria-label": t("list.range") },
      [true, false].map((today) =>
        button(today ? t("list.today") : t("list.all"), () => this.#range(today), { kind: "segment", "aria-pressed": String(this.#scans.today === today), focus: `range-${today}` }),
      ),
    );
    const follow = h(
      "label",
      { class: "follow" },
      h("input", { type: "checkbox", checked: this.#follow, on: { change: (event) => { this.#follow = event.target.checked; } } }),
      h("span", {}, t("list.follow")),
    );
    fill(this.#pane, h("div", { class: "list-head" }, h("div", { class: "list-line" }, this.#title, ranges), follow), this.#above, this.#box, this.#foot);
    this.#box.setAttribute("aria-label", t("list.label"));
    this.#rows.forEach((row) => row.remove());
    this.#rows.clear();
    this.refresh();
  }

  /** Whether new scans are to be opened by themselves. */
  get follows() {
    return this.#follow;
  }

  /** The scans changed; `fresh` of them ended just now. */
  changed(fresh) {
    if (this.#box.scrollTop > this.#rowHeight() / 2) {
      // New rows come in above: what is being read stays where it is.
      const added = fresh.filter((scan) => !this.#rows.has(scan.scan_id)).length;
      this.#unseen += added;
      this.#box.scrollTop += added * this.#rowHeight();
    }
    this.refresh();
  }

  /** Marks the scan that is open. */
  mark(id) {
    this.#opened = id;
    if (id !== null) this.#active = id;
    this.refresh();
  }

  focus() {
    this.#box.focus({ preventScroll: true });
    const place = this.#scans.indexOf(this.#active);
    if (place >= 0) this.#reveal(place);
  }

  /** The scan before or after the one that is open; null at an end. */
  neighbour(step) {
    const place = this.#scans.indexOf(this.#opened);
    return place < 0 ? null : (this.#scans.items[place + step]?.scan_id ?? null);
  }

  /** Draws what is in sight, once per frame. */
  refresh() {
    if (this.#pending) return;
    this.#pending = true;
    requestAnimationFrame(() => {
      this.#pending = false;
      this.#draw();
    });
  }

  #rowHeight() {
    return 5 * parseFloat(getComputedStyle(document.documentElement).fontSize);
  }

  #draw() {
    const { items } = this.#scans;
    const size = this.#rowHeight();
    this.#canvas.style.height = `${items.length * size}px`;
    const first = Math.max(0, Math.floor(this.#box.scrollTop / size) - BEYOND);
    const last = Math.min(items.length, Math.ceil((this.#box.scrollTop + this.#box.clientHeight) / size) + BEYOND);
    if (this.#active === null || this.#scans.indexOf(this.#active) < 0) this.#active = items[0]?.scan_id ?? null;
    const wanted = new Map();
    for (let place = first; place < last; place += 1) wanted.set(items[place].scan_id, place);
    const active = this.#scans.indexOf(this.#active);
    if (active >= 0) wanted.set(this.#active, active); // it is what the keyboard is on, and must be there to be heard
    for (const [id, row] of this.#rows) {
      if (!wanted.has(id)) {
        row.remove();
        this.#rows.delete(id);
      }
    }
    let before = null; // rows follow each other in the document as they do in the list
    for (const [id, place] of [...wanted].sort(([, one], [, other]) => one - other)) {
      const row = this.#place(id, place, size);
      if (!row.isConnected || row.previousElementSibling !== before) this.#canvas.insertBefore(row, before ? before.nextSibling : this.#canvas.firstChild);
      before = row;
    }
    if (this.#active === null) this.#box.removeAttribute("aria-activedescendant");
    else this.#box.setAttribute("aria-activedescendant", `row-${this.#active}`);
    this.#drawEnds();
    if (last > items.length - LOAD_AHEAD && items.length > 0 && !this.#scans.failed) this.#scans.more();
  }

  #place(id, place, size) {
    const scan = this.#scans.get(id);
    let row = this.#rows.get(id);
    if (!row) {
      row = h("div", { class: "row", role: "option", id: `row-${id}`, data: { id } });
      this.#rows.set(id, row);
    }
    if (row.shown !== scan) {
      row.shown = scan;
      row.dataset.standing = standing(scan);
      fill(row, rowParts(scan));
    }
    row.style.transform = `translateY(${place * size}px)`;
    row.setAttribute("aria-selected", String(id === this.#opened));
    row.classList.toggle("is-active", id === this.#active);
    row.setAttribute("aria-posinset", String(place + 1));
    row.setAttribute("aria-setsize", String(this.#scans.complete ? this.#scans.items.length : -1));
    return row;
  }

  #drawEnds() {
    const { items, complete, failed, loading, today } = this.#scans;
    const words = failed
      ? [t("list.failed"), button(t("list.again"), () => this.#scans.more(), { kind: "quiet" })]
      : items.length === 0 && complete
        ? [h("strong", {}, today ? t("list.none_today") : t("list.none")), h("span", {}, t("list.none_hint")), today && button(t("list.show_all"), () => this.#range(false), { kind: "quiet" })]
        : [h("span", {}, complete ? t("list.count", { count: items.length, shown: number(items.length) }) : loading || items.length === 0 ? t("list.loading") : t("list.more", { shown: number(items.length) }))];
    const key = JSON.stringify([failed, complete, loading, today, items.length, document.documentElement.lang]);
    if (this.#foot.dataset.key !== key) {
      this.#foot.dataset.key = key;
      fill(this.#foot, words);
    }
    this.#box.classList.toggle("is-empty", items.length === 0);
    this.#above.hidden = this.#unseen === 0;
    if (this.#unseen) this.#above.querySelector("span").textContent = t("list.above", { count: this.#unseen });
  }

  #scrolled() {
    if (this.#box.scrollTop < this.#rowHeight() / 2) this.#unseen = 0;
    this.refresh();
  }

  #toTop() {
    this.#unseen = 0;
    this.#box.scrollTop = 0;
    this.#active = this.#scans.items[0]?.scan_id ?? null;
    this.refresh();
    this.#box.focus({ preventScroll: true });
  }

  #focused() {
    const place = this.#scans.indexOf(this.#active);
    if (place >= 0) this.#reveal(place);
  }

  #click(event) {
    const row = event.target.closest(".row");
    if (!row) return;
    this.#active = row.dataset.id;
    this.#tell.open(row.dataset.id);
  }

  #key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const { items } = this.#scans;
    const place = Math.max(0, this.#scans.indexOf(this.#active));
    const page = Math.max(1, Math.floor(this.#box.clientHeight / this.#rowHeight()) - 1);
    const to = { ArrowDown: place + 1, ArrowUp: place - 1, PageDown: place + page, PageUp: place - page, Home: 0, End: items.length - 1 }[event.key];
    if (event.key === "Enter" || event.key === " ") {
      if (this.#active !== null) this.#tell.open(this.#active);
    } else if (to !== undefined && items.length) {
      const next = Math.min(items.length - 1, Math.max(0, to));
      this.#active = items[next].scan_id;
      this.#reveal(next);
      this.refresh();
    } else return;
    event.preventDefault();
  }

  #reveal(place) {
    const size = this.#rowHeight();
    if (place * size < this.#box.scrollTop) this.#box.scrollTop = place * size;
    else if ((place + 1) * size > this.#box.scrollTop + this.#box.clientHeight) this.#box.scrollTop = (place + 1) * size - this.#box.clientHeight;
  }

  #range(today) {
    this.#unseen = 0;
    this.#tell.range(today);
    this.build();
    this.#pane.querySelector(`[data-focus="range-${today}"]`)?.focus();
  }
}

function rowParts(scan) {
  const verdict = verdictWords(scan.verdict);
  const isToday = new Date(scan.received_at).toDateString() === new Date().toDateString();
  const marks = [];
  if (scan.warnings > 0) marks.push(h("span", { class: "mark mark-warning" }, icon("warning"), h("span", {}, t("row.warnings", { count: scan.warnings }))));
  if (verdict) marks.push(h("span", { class: "mark mark-verdict" }, icon(verdictIcon(scan.verdict)), h("span", {}, verdict)));
  return [
    h("span", { class: "row-sign" }, icon(standing(scan))),
    h(
      "span",
      { class: "row-who" },
      scan.patient_id ? given(scan.patient_id) : h("span", { class: "row-nobody" }, t("scan.no_patient")),
      scan.body_site && h("span", { class: "row-site" }, given(scan.body_site)),
    ),
    h("span", { class: "row-when" }, isToday ? null : h("span", { class: "row-day" }, `${day(scan.received_at)} `), time(scan.received_at)),
    h("span", { class: "row-says" }, standingWords(scan)),
    scan.state === "answered" ? h("span", { class: "row-risk" }, riskFigure(scan)) : null,
    h("span", { class: "row-marks" }, marks),
  ];
}
