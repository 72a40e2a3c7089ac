// What is said of a scan, in one place: the words follow the operating rule, never the most probable class.

import { className, percentsApart, percent, t } from "./texts.js";

/** How a scan stands: suspicious, below, working or rejected; for colours, icons and words. */
export function standing(scan) {
  if (scan.state === "received") return "working";
  if (scan.state === "rejected") return "rejected";
  return scan.suspicious ? "suspicious" : "below";
}

const SHORT = {
  suspicious: () => t("standing.suspicious"),
  below: () => t("standing.below"),
  working: () => t("standing.working"),
  rejected: () => t("standing.rejected"),
};

/** The standing in a few words. */
export function standingWords(scan) {
  return SHORT[standing(scan)]();
}

/** Melanoma risk against the threshold, in a sentence. */
export function riskSentence(risk, threshold, suspicious) {
  const [shownRisk, shownThreshold] = percentsApart(risk, threshold);
  const values = { risk: shownRisk, threshold: shownThreshold };
  return suspicious ? t("risk.at_or_above", values) : t("risk.below", values);
}

/** The melanoma risk as the list shows it: told apart from the threshold. */
export function riskFigure(scan) {
  return scan.threshold === null ? percent(scan.melanoma_risk) : percentsApart(scan.melanoma_risk, scan.threshold)[0];
}

/** The verdict that stands, in a few words; null where there is none. */
export function verdictWords(verdict) {
  if (!verdict || verdict.diagnosis === null) return null;
  const name = className(verdict.diagnosis);
  if (verdict.source === "histopathology") return t("verdict.short.histopathology", { name });
  if (verdict.source === "follow_up") return t("verdict.short.follow_up", { name });
  return verdict.agrees === true ? t("verdict.short.confirmed", { name }) : t("verdict.short.judged", { name });
}

/** The icon of a verdict. */
export function verdictIcon(verdict) {
  if (verdict.source === "histopathology") return "lab";
  return verdict.agrees === true ? "check" : "pen";
}

const BACKENDS = { tensorrt: () => t("backend.tensorrt"), cloud: () => t("backend.cloud"), cpu: () => t("backend.cpu") };

/** What computes, in words. */
export function backendName(name) {
  return BACKENDS[name]?.() ?? name;
}

/** Whether weights for demonstrations gave an answer: the name says it, whatever runs now. */
export function isDemo(modelVersion, model) {
  return Boolean(modelVersion?.startsWith("demo/") || (model?.demo && modelVersion === model.label));
}
