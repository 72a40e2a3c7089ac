// What the model says: melanoma risk on a scale with the operating threshold, recommendation, seven classes.

import { fill, h, icon } from "./dom.js";
import { className, percent, percentsApart, sentence, t } from "./texts.js";
import { riskSentence } from "./wording.js";

const TICKS = [0, 0.01, 0.05, 0.1, 0.25, 0.5, 1];

/** Where a share lies on the scale: by its square root, as what matters happens at small risks. */
export function onScale(share) {
  return Math.sqrt(Math.min(1, Math.max(0, share)));
}

/** Fills `container` with an answer's result. */
export function showResult(container, answer) {
  const { diagnosis, operating } = answer;
  const advice = sentence(answer.recommendation);
  fill(
    container,
    h(
      "div",
      { class: "verdict-line", data: { standing: operating.suspicious ? "suspicious" : "below" } },
      h("span", { class: "verdict-sign" }, icon(operating.suspicious ? "suspicious" : "below")),
      h("h3", { class: "verdict-title" }, operating.suspicious ? t("standing.suspicious") : t("standing.below_long")),
      h("p", { class: "verdict-risk" }, riskSentence(diagnosis.melanoma_risk, operating.threshold, operating.suspicious)),
    ),
    riskScale(diagnosis.melanoma_risk, operating),
    h("div", { class: "advice" }, h("h4", {}, t("result.recommendation")), h("p", { lang: advice.lang }, advice.text)),
    h("div", { class: "advice is-line" }, h("h4", {}, t("result.suggestion")), h("p", {}, t("result.suggested", { name: className(diagnosis.primary), share: percent(diagnosis.confidence) }))),
  );
}

/** Fills `container` with the seven classes and their probabilities. */
export function showClasses(container, { diagnosis }) {
  fill(container, h("h3", { class: "part-title" }, t("result.classes")), h("p", { class: "classes-hint" }, t("result.classes_hint")), classBars(diagnosis));
}

function riskScale(risk, { threshold, suspicious }) {
  const [shownRisk, shownThreshold] = percentsApart(risk, threshold);
  const at = (share, attributes, ...children) => {
    const element = h("span", attributes, ...children);
    element.style.left = `${onScale(share) * 100}%`;
    return element;
  };
  const edge = (place) => (place < 0.16 ? "is-left" : place > 0.84 ? "is-right" : "");
  const above = h("span", { class: "scale-above" });
  above.style.left = `${onScale(threshold) * 100}%`;
  return h(
    "div",
    { class: "scale", role: "img", data: { standing: suspicious ? "suspicious" : "below" }, "aria-label": t("risk.scale_label", { risk: shownRisk, threshold: shownThreshold }) },
    h("span", { class: "scale-top" }, at(risk, { class: `scale-risk ${edge(onScale(risk))}` }, t("risk.marker", { risk: shownRisk }))),
    h("span", { class: "scale-bar" }, above, at(threshold, { class: "scale-threshold" }), at(risk, { class: "scale-pin" })),
    h("span", { class: "scale-ticks" }, TICKS.filter((tick) => Math.abs(onScale(tick) - onScale(threshold)) > 0.07).map((tick) => at(tick, { class: `scale-tick ${edge(onScale(tick))}` }, percent(tick, 0)))),
    h("span", { class: "scale-bottom" }, at(threshold, { class: `scale-named ${edge(onScale(threshold))}` }, t("risk.threshold", { threshold: shownThreshold }))),
  );
}

function classBars(diagnosis) {
  const sorted = Object.entries(diagnosis.all_classes).sort(([, one], [, other]) => other - one);
  return h(
    "ol",
    { class: "bars" },
    sorted.map(([name, share]) => {
      const bar = h("span", { class: "bar-fill" });
      bar.style.width = `${share * 100}%`;
      return h(
        "li",
        { class: "class-bar", data: { name, primary: String(name === diagnosis.primary) } },
        h("span", { class: "bar-words" }, className(name), name === diagnosis.primary && h("span", { class: "bar-first" }, t("result.first"))),
        h("span", { class: "bar-figure" }, percent(share)),
        h("span", { class: "bar-track", "aria-hidden": "true" }, bar),
      );
    }),
  );
}
