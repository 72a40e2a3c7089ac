// The device in plain words: can it answer, what waits, is the cloud there, are the colours true, is there room.

import { fill, given, h, icon, button, keepFocus } from "./dom.js";
import { dateTime, duration, megabytes, number, percent, sentence, span, t } from "./texts.js";
import { backendName } from "./wording.js";

const RUNGS = { ready: () => t("device.rung_ready"), starting: () => t("device.rung_starting"), failed: () => t("device.rung_failed") };
const COLOURS = { valid: () => t("colours.valid"), expired: () => t("colours.expired"), none: () => t("colours.none") };

/** Fills `container` with the agent's status; `back` leaves the panel. */
export function showDevice(container, status, back) {
  keepFocus(container, () => build(container, status, back), ["device-title"]);
}

function build(container, status, back) {
  const head = h("header", { class: "part scan-head" }, button(t("scan.back"), back, { name: "back", kind: "quiet back", focus: "back", label: t("scan.back") }), h("div", { class: "scan-who" }, h("h2", { class: "scan-title", tabindex: "-1", data: { focus: "device-title" } }, t("device.title")), status && h("p", { class: "scan-about" }, given(status.device_id), " · ", given(status.clinic_id))));
  if (!status) {
    fill(container, h("div", { class: "device" }, head, h("p", { class: "loading" }, t("scan.loading"))));
    return;
  }
  const warnings = status.warnings.map((said) => sentence(said));
  fill(
    container,
    h(
      "div",
      { class: "device" },
      head,
      warnings.length ? h("section", { class: "part scan-warnings" }, h("h3", { class: "warnings-title" }, icon("warning"), t("device.warnings", { count: warnings.length })), h("ul", {}, warnings.map(({ text, lang }) => h("li", { lang }, given(text))))) : null,
      h("div", { class: "cards" }, engineCard(status), queueCard(status), cloudCard(status), coloursCard(status), diskCard(status), aboutCard(status)),
    ),
  );
}

/** A card: `state` is good, notice or bad, with its own sign and words, so that colour is not all there is. */
function card(title, state, words, ...content) {
  return h("section", { class: "card", data: { state } }, h("h3", {}, title), h("p", { class: "card-state" }, icon(state === "good" ? "check" : state === "bad" ? "rejected" : "warning"), h("span", {}, words)), content);
}

function engineCard({ ready, rungs }) {
  const first = rungs[0]?.state === "ready";
  const words = !ready ? t("device.engine_none") : first ? t("device.engine_ready") : t("device.engine_below", { name: backendName(rungs.find((rung) => rung.state === "ready")?.name ?? "") });
  const lines = rungs.map((rung) => {
    const why = rung.state === "ready" || !rung.detail ? null : sentence(rung.detail);
    return h(
      "li",
      {},
      h("strong", {}, t("device.rung", { name: backendName(rung.name) })),
      " ",
      RUNGS[rung.state]?.() ?? rung.state,
      rung.typical_ms !== null && rung.state === "ready" ? `, ${t("device.typical", { duration: duration(rung.typical_ms) })}` : "",
      why && h("span", { class: "why", lang: why.lang }, why.text),
    );
  });
  return card(t("device.engine"), ready ? (first ? "good" : "notice") : "bad", words, h("ul", { class: "lines" }, lines));
}

function queueCard({ captures, counts }) {
  const busy = captures.in_hand + captures.waiting;
  return card(
    t("device.queue"),
    captures.waiting > 20 ? "notice" : "good",
    busy === 0 ? t("device.queue_empty") : t("device.queue_busy", { hand: number(captures.in_hand), waiting: number(captures.waiting) }),
    h("ul", { class: "lines" }, h("li", {}, t("device.answered", { count: counts.answered, shown: number(counts.answered) })), h("li", {}, t("device.rejected", { count: counts.rejected, shown: number(counts.rejected) }))),
  );
}

const PHASES = { connected: () => t("cloud.connected"), connecting: () => t("cloud.connecting"), waiting: () => t("cloud.waiting"), stopped: () => t("cloud.stopped") };

function cloudCard({ cloud, outbox }) {
  const lines = [];
  if (outbox.waiting > 0) lines.push(outbox.oldest_waiting_at ? t("cloud.queued_since", { count: outbox.waiting, shown: number(outbox.waiting), when: dateTime(outbox.oldest_waiting_at) }) : t("cloud.queued", { count: outbox.waiting, shown: number(outbox.waiting) }));
  else lines.push(t("cloud.nothing_waits"));
  lines.push(t("cloud.delivered", { count: outbox.acknowledged, shown: number(outbox.acknowledged) }));
  if (outbox.dead > 0) lines.push(t("cloud.dead", { count: outbox.dead, shown: number(outbox.dead) }));
  const good = !cloud.configured || cloud.phase === "connected";
  const words = cloud.configured ? (PHASES[cloud.phase]?.() ?? cloud.phase) : t("cloud.none");
  const said = cloud.configured && cloud.phase !== "connected" && cloud.sentence ? sentence(cloud.sentence) : null;
  return card(t("device.cloud"), outbox.dead > 0 ? "bad" : good ? "good" : "notice", words, said && h("p", { class: "why", lang: said.lang }, said.text), h("ul", { class: "lines" }, lines.map((line) => h("li", {}, line))));
}

function coloursCard({ dermoscopes }) {
  const worst = dermoscopes.some((scope) => !scope.folder_ok) ? "bad" : dermoscopes.some((scope) => scope.calibration.state !== "valid" || scope.calibration.warnings.length) ? "notice" : "good";
  const words = worst === "bad" ? t("device.folder_lost") : worst === "notice" ? t("device.colours_look") : t("device.colours_good");
  const lines = dermoscopes.map((scope) => {
    const { calibration } = scope;
    const age = calibration.age_days === null || calibration.age_days === undefined ? "" : `, ${t("device.profile_age", { age: span(calibration.age_days * 86400) })}`;
    return h(
      "li",
      {},
      h("strong", {}, given(scope.id)),
      " ",
      COLOURS[calibration.state]?.() ?? calibration.state,
      age,
      !scope.folder_ok && h("span", { class: "why" }, t("device.folder")),
      calibration.warnings.map((said) => sentence(said)).map(({ text, lang }) => h("span", { class: "why", lang }, text)),
    );
  });
  return card(t("device.colours"), worst, words, h("ul", { class: "lines" }, lines));
}

function diskCard({ disk }) {
  const share = disk.quota_mb ? Math.min(1, disk.used_mb / disk.quota_mb) : 0;
  const bar = h("span", { class: "bar-fill" });
  bar.style.width = `${share * 100}%`;
  return card(
    t("device.disk"),
    disk.full ? "bad" : share > 0.85 ? "notice" : "good",
    disk.full ? t("device.disk_full") : t("device.disk_free", { free: megabytes(disk.free_mb) }),
    h("span", { class: "bar-track", "aria-hidden": "true" }, bar),
    h("ul", { class: "lines" }, h("li", {}, t("device.disk_used", { used: megabytes(disk.used_mb), quota: megabytes(disk.quota_mb), share: percent(share, 0) }))),
  );
}

function aboutCard({ model, software_version: version, uptime_s: uptime, clock_trusted: trusted }) {
  const facts = [
    [t("origin.model"), model.label],
    [t("device.threshold"), percent(model.threshold, 1)],
    [t("origin.software"), version],
    [t("device.uptime"), span(uptime)],
  ];
  const words = model.demo ? t("warning.demo") : trusted ? t("device.about_good") : t("warning.clock");
  return card(t("device.about"), model.demo || !trusted ? "notice" : "good", words, h("dl", { class: "facts" }, facts.map(([heading, content]) => h("div", {}, h("dt", {}, heading), h("dd", {}, given(String(content)))))));
}
