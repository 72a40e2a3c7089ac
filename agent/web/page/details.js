// Who and what stands behind an answer: patient, picture, model, software, engine, colours, times.

import { fill, given, h } from "./dom.js";
import { cameraTime, dateTime, duration, sentence, t } from "./texts.js";
import { backendName } from "./wording.js";

const SEXES = { female: () => t("sex.female"), male: () => t("sex.male"), other: () => t("sex.other"), unknown: () => t("sex.unknown") };
const COLOURS = { valid: () => t("colours.valid"), expired: () => t("colours.expired"), none: () => t("colours.none") };

/** The patient's words: place on the body, age, sex, skin type; what is known of them. */
export function patientParts(scan) {
  const { body_site: site, age, sex, skin_type: skin } = scan.metadata ?? {};
  return [
    site && given(site),
    age && t("scan.age", { age }),
    sex && (SEXES[sex]?.() ?? sex),
    skin && t("scan.skin", { skin }),
  ].filter(Boolean);
}

/** Rows of [heading, content] on how the answer came about; for the page and for the print. */
export function originRows(scan) {
  const answer = scan.answer;
  const rows = [];
  const add = (heading, content) => content && rows.push([heading, content]);
  const uncertain = scan.clock_trusted ? "" : ` (${t("scan.clock")})`;
  add(t("origin.captured"), answer?.captured_at && cameraTime(answer.captured_at));
  add(t("origin.received"), dateTime(scan.received_at) + uncertain);
  add(t("origin.answered"), scan.answered_at && dateTime(scan.answered_at) + uncertain);
  add(t("origin.dermoscope"), scan.dermoscope_id);
  if (answer) {
    add(t("origin.colours"), [COLOURS[answer.calibration.state]?.(), answer.calibration.profile_id].filter(Boolean).join(", "));
    add(t("origin.picture"), t("origin.pixels", { width: answer.quality.width, height: answer.quality.height }));
    add(t("origin.model"), answer.model_version);
    add(t("origin.software"), answer.software_version);
    add(t("origin.backend"), t("origin.backend_took", { backend: backendName(answer.backend), duration: duration(answer.latency_ms) }));
    for (const { backend, reason } of answer.passed_over) add(t("origin.passed_over", { backend: backendName(backend) }), reason);
  }
  add(t("origin.scan"), scan.scan_id);
  add(t("origin.hash"), answer?.image_sha256);
  return rows;
}

/** Fills `container` with the rows, folded away, and the links to the files. */
export function showDetails(container, scan, links) {
  const open = container.querySelector("details")?.open ?? false;
  fill(
    container,
    h(
      "details",
      { class: "origin", open },
      h("summary", { data: { focus: "origin" } }, t("origin.title")),
      h("dl", { class: "facts" }, originRows(scan).map(([heading, content]) => h("div", {}, h("dt", {}, heading), h("dd", {}, given(content))))),
      h("p", { class: "files" }, links.filter(([, url]) => url).map(([words, url]) => h("a", { href: url, target: "_blank", rel: "noopener" }, words))),
    ),
  );
}

/** Everything to be read before a result: warnings of the scan, that its model is a demonstration's, an unsure clock. */
export function warningsOf(scan, isDemo) {
  const found = (scan.answer?.warnings ?? []).map((said) => sentence(said));
  if (!scan.clock_trusted) found.push({ text: t("warning.clock"), lang: null });
  if (isDemo) found.unshift({ text: t("warning.demo"), lang: null });
  return found;
}

