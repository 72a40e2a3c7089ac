// The sheet that is printed: one page A4 with patient, pictures, result, warnings, versions and a line to sign.

import { centreSquare } from "./attention.js";
import { originRows, patientParts, warningsOf } from "./details.js";
import { fill, given, h } from "./dom.js";
import { onScale } from "./result.js";
import { className, dateTime, percent, percentsApart, sentence, t } from "./texts.js";
import { riskSentence, verdictWords } from "./wording.js";

const WIDTH = 900; // pixels of each printed picture: 270 dpi at 8.5 cm
const OPACITY = 0.6;

/** Fills the sheet with a scan's words; the pictures come by `printPicture`. */
export function printSheet(sheet, scan, isDemo) {
  const { answer } = scan;
  const kept = [...sheet.querySelectorAll("canvas")];
  const standing = scan.verdicts.at(-1);
  const warnings = warningsOf(scan, isDemo);
  fill(
    sheet,
    h("header", { class: "sheet-head" }, h("h1", {}, t("print.title")), h("p", {}, t("adjunct"))),
    h("p", { class: "sheet-patient" }, h("strong", {}, scan.patient_id ? [`${t("scan.patient")} `, given(scan.patient_id)] : t("scan.no_patient")), patientParts(scan).map((one) => [" · ", one])),
    warnings.length ? h("section", { class: "sheet-warnings" }, h("h2", {}, t("warning.title", { count: warnings.length })), h("ul", {}, warnings.map(({ text, lang }) => h("li", { lang }, given(text))))) : null,
    h("div", { class: "sheet-pictures" }, [t("picture.alone_caption"), t("picture.layer_caption")].slice(0, answer ? 2 : 1).map((words, index) => h("figure", {}, kept[index] ?? h("canvas", {}), h("figcaption", {}, words)))),
    answer ? result(answer) : h("section", {}, h("h2", {}, t("rejected.title")), h("p", {}, sentence(scan.sentence ?? "").text)),
    h("p", {}, h("strong", {}, `${t("verdict.title")}: `), standing && standing.diagnosis !== null ? `${verdictWords(standing)}, ${t("verdict.by", { who: standing.by ?? t("verdict.somebody"), when: dateTime(standing.given_at) })}` : t("verdict.none")),
    h("dl", { class: "sheet-origin" }, originRows(scan).map(([heading, content]) => h("div", {}, h("dt", {}, heading), h("dd", {}, given(content))))),
    h("p", { class: "sheet-sign" }, h("span", {}, t("print.place_date")), h("span", {}, t("print.signature"))),
  );
}

function result({ diagnosis, operating, recommendation }) {
  const place = (name, share, words = null) => {
    const mark = h("span", { class: name }, words && h("span", { class: onScale(share) < 0.2 ? "sheet-named is-left" : "sheet-named" }, words));
    mark.style.left = `${onScale(share) * 100}%`;
    return mark;
  };
  const sorted = Object.entries(diagnosis.all_classes).sort(([, one], [, other]) => other - one);
  return h(
    "section",
    { class: "sheet-result" },
    h("h2", {}, operating.suspicious ? t("standing.suspicious") : t("standing.below_long")),
    h("p", {}, riskSentence(diagnosis.melanoma_risk, operating.threshold, operating.suspicious)),
    h(
      "div",
      { class: "sheet-scale" },
      place("sheet-risk", diagnosis.melanoma_risk),
      place("sheet-threshold", operating.threshold, t("risk.threshold", { threshold: percentsApart(diagnosis.melanoma_risk, operating.threshold)[1] })),
      h("span", { class: "sheet-end is-least" }, percent(0, 0)),
      h("span", { class: "sheet-end is-most" }, percent(1, 0)),
    ),
    h("p", {}, h("strong", {}, `${t("result.recommendation")}: `), sentence(recommendation).text),
    h("h3", {}, t("result.classes")),
    h("ul", { class: "sheet-classes" }, sorted.map(([name, share]) => h("li", {}, h("span", {}, className(name)), bar(share), h("span", {}, percent(share))))),
  );
}

function bar(share) {
  const filled = h("span", {});
  filled.style.width = `${share * 100}%`;
  return h("span", { class: "sheet-bar" }, filled);
}

/** Draws the picture, and the same with the attention over it, from what the page has loaded already. */
export function printPicture(sheet, image, layer) {
  const [alone, over] = sheet.querySelectorAll("canvas");
  if (!alone) return;
  const height = Math.round((WIDTH * image.naturalHeight) / image.naturalWidth);
  for (const canvas of [alone, over].filter(Boolean)) {
    canvas.width = WIDTH;
    canvas.height = height;
    canvas.getContext("2d").drawImage(image, 0, 0, WIDTH, height);
  }
  if (!over || !layer) return;
  const square = centreSquare(WIDTH, height);
  const box = [square.left * WIDTH, square.top * height, square.width * WIDTH, square.height * height];
  const context = over.getContext("2d");
  context.globalAlpha = OPACITY;
  context.drawImage(layer, ...box);
  context.globalAlpha = 1;
  context.lineWidth = 4;
  context.strokeStyle = "#fff";
  context.strokeRect(box[0] + 2, box[1] + 2, box[2] - 4, box[3] - 4);
}
