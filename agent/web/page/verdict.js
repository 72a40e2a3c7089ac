// The clinician's verdict: shown at once, taken back with a clear word where the agent does not take it.

import * as api from "./api.js";
import { button, fill, given, h, icon, keepFocus } from "./dom.js";
import { className, classes, dateTime, t } from "./texts.js";
import { verdictIcon, verdictWords } from "./wording.js";

const RETRIES_MS = [500, 1000, 2000, 4000]; // the agent may be restarting: the same verdict is sent again under its key
const SOURCES = { clinician: () => t("source.clinician"), histopathology: () => t("source.histopathology"), follow_up: () => t("source.follow_up") };

/** The verdicts of one scan, in `container`. `tell` has: changed(id, standing), announce(words), refreshed(id). */
export class Verdicts {
  #container;
  #tell;
  #scan = null;
  #mayJudge = false;
  #pending = null;
  #message = null;
  #chooser = null;
  #undo = null;

  constructor(container, tell) {
    this.#container = container;
    this.#tell = tell;
  }

  /** Shows a scan's verdicts; anything begun for another scan is left. */
  show(scan, mayJudge) {
    if (this.#scan?.scan_id !== scan.scan_id) {
      this.#pending = this.#message = this.#chooser = this.#undo = null;
    }
    this.#scan = scan;
    this.#mayJudge = mayJudge;
    this.render();
  }

  /** Whether something is being chosen or sent: not the moment to show another scan. */
  get busy() {
    return this.#chooser !== null || this.#pending !== null;
  }

  /** A verdict that came by the line, perhaps our own. */
  take(verdict) {
    if (!verdict || this.#scan.verdicts.some((one) => one.verdict_id === verdict.verdict_id)) return;
    if (this.#pending) return; // ours is on its way: its answer, or the refusal, brings the truth
    this.#scan.verdicts.push(verdict);
    this.#undo = null;
    this.#message = { words: t("verdict.other", { who: verdict.by ?? t("verdict.somebody") }), kind: "info" };
    this.render();
  }

  focusOn(what) {
    if (what !== "confirm" && this.#mayJudge) return this.#choose(what);
    return this.#container.querySelector(`[data-focus="${what}"]`)?.focus();
  }

  undo() {
    if (this.#undo && !this.#pending) this.#takeBack();
  }

  closeChooser() {
    if (!this.#chooser) return false;
    const kind = this.#chooser.kind;
    this.#chooser = null;
    this.render();
    this.#container.querySelector(`[data-focus="${kind}"]`)?.focus();
    return true;
  }

  /** The verdict that stands; null where there is none, or it was withdrawn. */
  get standing() {
    const last = this.#pending?.verdict ?? this.#scan.verdicts.at(-1);
    return last && last.diagnosis !== null ? last : null;
  }

  render() {
    if (!this.#scan) return;
    keepFocus(this.#container, () => this.#build(), ["undo", "correct", "histopathology"]);
  }

  #build() {
    fill(
      this.#container,
      h("div", { class: "verdict-head" }, h("h3", { class: "part-title", id: "verdict-title" }, t("verdict.title")), this.standing ? null : h("p", { class: "hint" }, t("verdict.none"))),
      this.#standingLine(),
      this.#messageLine(),
      this.#mayJudge ? this.#actions() : h("p", { class: "hint" }, t("verdict.role")),
      this.#chooser && this.#chooserForm(),
      this.#history(),
    );
  }

  #standingLine() {
    const { standing } = this;
    if (!standing) return null;
    const by = this.#pending ? t("verdict.saving") : t("verdict.by", { who: standing.by ?? t("verdict.somebody"), when: dateTime(standing.given_at) });
    return h(
      "div",
      { class: "standing", data: { pending: String(Boolean(this.#pending)) } },
      h("span", { class: "standing-sign" }, icon(verdictIcon(standing))),
      h("strong", {}, verdictWords(standing)),
      h("span", { class: "standing-by" }, by),
      standing.note && h("span", { class: "standing-note" }, given(standing.note)),
    );
  }

  #messageLine() {
    const saving = this.#pending && !this.standing ? { words: t("verdict.saving"), kind: "info" } : null;
    const message = this.#message ?? saving;
    return h(
      "div",
      { class: "message", role: "status", data: { kind: message?.kind ?? "none" } },
      message && h("p", {}, message.words),
      message?.again && button(t("verdict.again"), message.again, { kind: "quiet", focus: "again" }),
      this.#undo && !this.#pending && button(t("verdict.undo"), () => this.#takeBack(), { name: "undo", kind: "quiet", focus: "undo" }),
    );
  }

  #actions() {
    const suggested = this.#scan.answer?.diagnosis.primary;
    const { standing } = this;
    const confirmed = standing?.diagnosis === suggested && standing?.source === "clinician" && !this.#pending;
    const pressed = (kind) => ({ "aria-expanded": String(this.#chooser?.kind === kind), "aria-disabled": this.#pending ? "true" : null });
    // All three look alike: whoever judges is not to be led to the suggestion (automation bias).
    return h(
      "div",
      { class: "actions" },
      suggested &&
        !confirmed &&
        button(t("verdict.confirm", { name: className(suggested) }), () => this.#give(suggested, "clinician", null), { name: "check", focus: "confirm", "aria-disabled": this.#pending ? "true" : null }),
      button(suggested ? t("verdict.correct") : t("verdict.own"), () => this.#choose("correct"), { name: "pen", focus: "correct", ...pressed("correct") }),
      button(t("verdict.histopathology"), () => this.#choose("histopathology"), { name: "lab", focus: "histopathology", ...pressed("histopathology") }),
      standing && button(t("verdict.withdraw"), () => this.#give(null, standing.source, null), { kind: "quiet", focus: "withdraw", "aria-disabled": this.#pending ? "true" : null }),
    );
  }

  #choose(kind) {
    if (this.#pending) return;
    if (this.#chooser?.kind === kind) {
      this.closeChooser();
      return;
    }
    this.#chooser = { kind, source: kind === "histopathology" ? "histopathology" : "clinician", note: "" };
    this.render();
    const first = this.#container.querySelector(".choices .button");
    first?.focus({ preventScroll: true });
    this.#container.querySelector(".chooser")?.scrollIntoView({ block: "nearest" });
  }

  #chooserForm() {
    const chooser = this.#chooser;
    const suggested = this.#scan.answer?.diagnosis.primary;
    const sources = Object.entries(SOURCES).map(([source, words]) =>
      h("label", { class: "choice" }, h("input", { type: "radio", name: "source", value: source, checked: source === chooser.source, data: { focus: `source-${source}` }, on: { change: () => { chooser.source = source; this.render(); } } }), h("span", {}, words())),
    );
    // The suggestion itself is no correction of it; a pathologist or a later look may well agree.
    const offered = classes().filter((name) => chooser.source !== "clinician" || name !== suggested);
    return h(
      "div",
      { class: "chooser", role: "group", "aria-label": t("verdict.choose") },
      h("h4", {}, chooser.kind === "histopathology" ? t("verdict.choose_histopathology") : t("verdict.choose")),
      h("div", { class: "choices" }, offered.map((name) => button(className(name), () => this.#give(name, chooser.source, chooser.note.trim() || null), { kind: "choice-class", focus: `class-${name}` }))),
      h("fieldset", { class: "sources" }, h("legend", {}, t("verdict.source")), sources),
      h(
        "label",
        { class: "note" },
        h("span", {}, t("verdict.note")),
        h("input", { type: "text", maxlength: "500", value: chooser.note, autocomplete: "off", data: { focus: "note" }, on: { input: (event) => { chooser.note = event.target.value; } } }),
      ),
      button(t("verdict.cancel"), () => this.closeChooser(), { kind: "quiet", focus: "cancel" }),
    );
  }

  #history() {
    const { verdicts, ground_truths: truths = [] } = this.#scan;
    if (verdicts.length + truths.length === 0) return null;
    const open = this.#container.querySelector("details")?.open ?? false;
    const lines = [...verdicts].reverse().map((one) =>
      h("li", {}, h("strong", {}, one.diagnosis === null ? t("verdict.withdrawn") : verdictWords(one)), " ", h("span", {}, t("verdict.by", { who: one.by ?? t("verdict.somebody"), when: dateTime(one.given_at) })), one.note && h("span", { class: "standing-note" }, given(one.note))),
    );
    const known = truths.map((one) => h("li", {}, h("strong", {}, t("verdict.truth", { name: className(one.diagnosis) })), " ", one.received_at && h("span", {}, dateTime(one.received_at))));
    return h("details", { class: "history", open }, h("summary", { data: { focus: "history" } }, t("verdict.history", { count: lines.length + known.length })), h("ol", {}, known, lines));
  }

  // Giving

  async #give(diagnosis, source, note, { expected = this.#scan.verdicts.at(-1)?.verdict_id ?? null, undone = false } = {}) {
    if (this.#pending) return;
    const scan = this.#scan;
    const before = this.standing;
    const suggested = scan.answer?.diagnosis.primary;
    const body = { diagnosis, source, expected, ...(note ? { note } : {}) };
    const shown = { ...body, agrees: suggested ? suggested === diagnosis : null, by: null, note };
    this.#pending = { verdict: shown };
    this.#chooser = this.#message = this.#undo = null;
    this.render();
    this.#tell.changed(scan.scan_id, shown);
    try {
      const verdict = await sendPatiently(scan.scan_id, body);
      this.#kept(scan, verdict, undone ? null : before, suggested);
    } catch (problem) {
      this.#refused(scan, problem, body, before);
    }
  }

  #kept(scan, verdict, before, suggested) {
    if (!scan.verdicts.some((one) => one.verdict_id === verdict.verdict_id)) scan.verdicts.push(verdict);
    this.#tell.changed(scan.scan_id, verdict);
    const words = verdict.diagnosis === null ? t("verdict.saved_withdrawn") : t("verdict.saved", { verdict: verdictWords({ ...verdict, agrees: verdict.agrees ?? suggested === verdict.diagnosis }) });
    this.#tell.announce(words);
    if (this.#scan.scan_id !== scan.scan_id) return;
    this.#pending = null;
    this.#message = { words, kind: "done" };
    this.#undo = verdict.diagnosis === null && !before ? null : { before };
    this.render();
  }

  #takeBack() {
    const { before } = this.#undo;
    const last = this.#scan.verdicts.at(-1);
    if (before) this.#give(before.diagnosis, before.source, before.note, { undone: true });
    else this.#give(null, last.source, null, { undone: true });
  }

  #refused(scan, problem, body, before) {
    this.#tell.changed(scan.scan_id, before);
    const current = problem.status === 409 ? problem.document.current : null;
    if (current && !scan.verdicts.some((one) => one.verdict_id === current.verdict_id)) {
      scan.verdicts.push(current);
      this.#tell.changed(scan.scan_id, current.diagnosis === null ? null : current);
    }
    const words = refusalWords(problem, current);
    if (this.#scan.scan_id !== scan.scan_id) {
      this.#tell.announce(words);
      return;
    }
    this.#pending = null;
    const again = () => this.#give(body.diagnosis, body.source, body.note ?? null);
    this.#message = { words, kind: "failed", again: problem.status === 403 || problem.status === 401 ? null : again };
    this.render();
    this.#container.querySelector('[data-focus="again"]')?.focus();
    this.#tell.refreshed(scan.scan_id);
  }
}

/** Sends a verdict under one key until the agent says yes or no; nobody is judged twice by it. */
async function sendPatiently(id, body) {
  const key = newKey();
  for (let turn = 0; ; turn += 1) {
    try {
      return await api.giveVerdict(id, body, key);
    } catch (problem) {
      const passing = problem.unanswered || problem.status === 503 || problem.status === 429;
      if (!passing || turn === RETRIES_MS.length) throw problem;
      await new Promise((resolve) => setTimeout(resolve, Math.max(RETRIES_MS[turn], Math.min(5, problem.retryAfter ?? 0) * 1000)));
    }
  }
}

/** A random key. Not crypto.randomUUID: that one is missing where a page came over plain HTTP from another machine. */
function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function refusalWords(problem, current) {
  if (problem.status === 409 && current) {
    const who = current.by ?? t("verdict.somebody");
    const name = current.diagnosis === null ? t("verdict.withdrawn") : verdictWords(current);
    return t("refused.faster", { who, name, when: dateTime(current.given_at) });
  }
  if (problem.status === 409) return t("refused.conflict");
  if (problem.status === 401) return t("refused.session");
  if (problem.status === 403) return t("refused.role");
  if (problem.status === 404) return t("refused.unknown");
  if (problem.status === 507) return t("refused.full");
  if (problem.unanswered || problem.status === 503) return t("refused.unreachable");
  return t("refused.other", { status: problem.status, detail: problem.document.detail ?? problem.document.title ?? "" });
}
