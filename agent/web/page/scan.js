// The view of one scan: who, what to know first, picture, result, verdict, where it comes from.

import * as api from "./api.js";
import { patientParts, showDetails, warningsOf } from "./details.js";
import { button, fill, given, h, icon, keepFocus } from "./dom.js";
import { Picture } from "./picture.js";
import { printSheet, printPicture } from "./print.js";
import { showClasses, showResult } from "./result.js";
import { cameraTime, dateTime, sentence, t } from "./texts.js";
import { Verdicts } from "./verdict.js";
import { isDemo } from "./wording.js";

/** Shows scans in `content`. `tell` has: back(), step(by), verdict(id, verdict), announce(words), model(), may(). */
export class ScanView {
  #content;
  #sheet;
  #tell;
  #scan = null;
  #wanted = null;
  #parts = null;
  #picture = null;
  #verdicts = null;

  constructor(content, sheet, tell) {
    this.#content = content;
    this.#sheet = sheet;
    this.#tell = tell;
  }

  get id() {
    return this.#wanted;
  }

  get busy() {
    return this.#verdicts?.busy ?? false;
  }

  get picture() {
    return this.#picture;
  }

  get verdicts() {
    return this.#verdicts;
  }

  /** Opens a scan; false where it could not be shown. */
  async open(id, { focus = true } = {}) {
    this.#wanted = id;
    this.#scan = null;
    this.#sheet.replaceChildren(); // no picture of one patient may be printed with another's words
    const waiting = setTimeout(() => this.#wanted === id && !this.#scan && fill(this.#content, h("p", { class: "loading" }, t("scan.loading"))), 150);
    let scan;
    try {
      scan = await api.scan(id);
    } catch (problem) {
      clearTimeout(waiting);
      if (this.#wanted === id && problem.status !== 401) this.#failed(id, problem, focus);
      return;
    }
    clearTimeout(waiting);
    if (this.#wanted !== id) return;
    this.#build(scan);
    if (focus) this.#content.querySelector(".scan-title").focus({ preventScroll: true });
    this.#content.scrollTop = 0;
  }

  close() {
    this.#wanted = this.#scan = this.#parts = this.#picture = this.#verdicts = null;
    this.#sheet.replaceChildren();
  }

  /** Asks again for the scan that is open: it may have ended, or been judged, meanwhile. */
  async refresh() {
    const id = this.#wanted;
    if (id === null) return;
    if (!this.#scan) return this.open(id, { focus: false });
    let scan;
    try {
      scan = await api.scan(id);
    } catch {
      return;
    }
    if (this.#wanted !== id) return;
    if (scan.state !== this.#scan.state || Boolean(scan.answer) !== Boolean(this.#scan.answer)) return this.#build(scan);
    if (this.#verdicts.busy) return;
    this.#scan = scan;
    this.#words();
  }

  takeVerdict(id, verdict) {
    if (this.#scan?.scan_id === id) this.#verdicts.take(verdict);
  }

  /** All words anew, after a change of language. */
  reword() {
    if (!this.#scan) return;
    this.#picture?.reword();
    this.#words();
  }

  #failed(id, problem, focus) {
    const words = problem.status === 404 ? t("scan.unknown") : problem.unanswered ? t("scan.unreachable") : t("scan.failed", { status: problem.status });
    fill(
      this.#content,
      h("div", { class: "empty" }, h("h2", { class: "scan-title", tabindex: "-1" }, words), button(t("list.again"), () => this.open(id), {}), button(t("scan.back"), () => this.#tell.back(), { name: "back", kind: "quiet" })),
    );
    if (focus) this.#content.querySelector(".scan-title").focus({ preventScroll: true });
  }

  #build(scan) {
    this.#scan = scan;
    this.#sheet.replaceChildren();
    const part = (name, tag = "section", attributes = {}) => h(tag, { class: `part ${name}`, ...attributes });
    this.#parts = {
      head: part("scan-head", "header"),
      warnings: part("scan-warnings", "section", { "aria-live": "off" }),
      picture: part("scan-picture"),
      classes: part("scan-classes"),
      result: part("scan-result"),
      verdict: part("scan-verdict"),
      details: part("scan-details"),
    };
    const { head, warnings, picture, classes, result, verdict, details } = this.#parts;
    const view = h("div", { class: "scan", data: { state: scan.state } }, head, warnings, h("div", { class: "scan-column" }, picture, classes), h("div", { class: "scan-column" }, result, verdict, details));
    fill(this.#content, view);
    this.#picture = new Picture(picture, (image, layer) => printPicture(this.#sheet, image, layer));
    this.#verdicts = new Verdicts(verdict, {
      changed: (id, standing) => {
        this.#tell.verdict(id, standing?.diagnosis === null ? null : standing);
        if (this.#scan?.scan_id === id) printSheet(this.#sheet, this.#scan, this.#isDemo());
      },
      announce: (words) => this.#tell.announce(words),
      refreshed: () => this.refresh(),
    });
    this.#words();
    this.#picture.show(scan);
  }

  #isDemo() {
    return Boolean(this.#scan.answer) && isDemo(this.#scan.answer.model_version, this.#tell.model());
  }

  #words() {
    const scan = this.#scan;
    const { head, warnings, picture, classes, result, verdict, details } = this.#parts;
    keepFocus(head, () => this.#head(head, scan), ["scan-title"]);
    this.#warnings(warnings, scan);
    picture.setAttribute("aria-label", t("picture.label"));
    result.setAttribute("aria-label", t("result.label"));
    classes.setAttribute("aria-label", t("result.classes"));
    classes.hidden = !scan.answer;
    if (scan.answer) showClasses(classes, scan.answer);
    if (scan.state === "answered") showResult(result, scan.answer);
    else if (scan.state === "rejected") rejected(result, scan);
    else fill(result, h("div", { class: "working" }, icon("working"), h("p", {}, t("scan.working"))));
    verdict.hidden = scan.state === "received";
    verdict.setAttribute("aria-labelledby", "verdict-title");
    this.#verdicts.show(scan, this.#tell.may());
    keepFocus(details, () => showDetails(details, scan, this.#files(scan)), ["origin"]);
    printSheet(this.#sheet, scan, this.#isDemo());
  }

  /** Links to the scan's files: [words, address]; a person may not have all of them. */
  #files(scan) {
    const exports = scan.answer && scan.links.image ? ["dicom", "fhir", "json"].map((format) => [t("files.export", { format: format.toUpperCase() }), api.exportUrl(scan.scan_id, format)]) : [];
    return [[t("files.original"), scan.links.image], [t("files.overlay"), scan.links.overlay], ...exports];
  }

  #head(head, scan) {
    const parts = patientParts(scan);
    const taken = scan.answer?.captured_at ? t("scan.captured", { when: cameraTime(scan.answer.captured_at) }) : t("scan.received", { when: dateTime(scan.received_at) });
    fill(
      head,
      button(t("scan.back"), () => this.#tell.back(), { name: "back", kind: "quiet back", focus: "back", label: t("scan.back") }),
      h(
        "div",
        { class: "scan-who" },
        h("h2", { class: "scan-title", tabindex: "-1", data: { focus: "scan-title" } }, scan.patient_id ? [h("span", { class: "scan-patient" }, `${t("scan.patient")} `), given(scan.patient_id)] : t("scan.no_patient")),
        h("p", { class: "scan-about" }, parts.flatMap((one, index) => (index ? [" · ", one] : [one])), parts.length ? " · " : "", taken),
      ),
      h(
        "div",
        { class: "scan-tools" },
        button("", () => this.#tell.step(-1), { name: "up", kind: "square", label: t("scan.newer"), focus: "newer" }),
        button("", () => this.#tell.step(1), { name: "down", kind: "square", label: t("scan.older"), focus: "older" }),
        button(t("scan.print"), () => window.print(), { name: "print", kind: "quiet", focus: "print" }),
      ),
    );
  }

  #warnings(container, scan) {
    const found = warningsOf(scan, this.#isDemo());
    container.hidden = found.length === 0;
    container.setAttribute("aria-label", t("warning.label"));
    fill(
      container,
      h("h3", { class: "warnings-title" }, icon("warning"), t("warning.title", { count: found.length })),
      h("ul", {}, found.map(({ text, lang }) => h("li", { lang }, given(text)))),
    );
  }
}

function rejected(container, scan) {
  const said = sentence(scan.sentence ?? "");
  fill(
    container,
    h(
      "div",
      { class: "rejected" },
      h("span", { class: "verdict-sign" }, icon("rejected")),
      h("h3", { class: "verdict-title" }, t("rejected.title")),
      h("p", { class: "rejected-why", lang: said.lang }, said.text),
      h("p", { class: "hint" }, t("rejected.hint")),
    ),
  );
}
