// What stands beside the list while no scan is open: the day in figures, and what still waits for a verdict.

import { button, fill, given, h, icon } from "./dom.js";
import { number, t, time } from "./texts.js";
import { riskFigure, standing, standingWords } from "./wording.js";

const MOST = 8;

/** Fills `container` from the scans that are loaded; `open` opens one. */
export function showOverview(container, scans, open) {
  const { items, complete, today } = scans;
  const waiting = items.filter((scan) => scan.state === "answered" && !scan.verdict).sort((one, other) => Number(other.suspicious) - Number(one.suspicious) || other.seq - one.seq);
  const figure = (count, words, kind) => h("li", { data: { kind } }, h("strong", {}, number(count)), h("span", {}, words));
  const of = (kind) => items.filter((scan) => standing(scan) === kind).length;
  fill(
    container,
    h(
      "div",
      { class: "overview" },
      h("h2", {}, items.length ? t("start.choose") : t("start.empty")),
      h("p", { class: "hint" }, t("start.hint")),
      complete &&
        items.length > 0 &&
        h(
          "ul",
          { class: "figures", "aria-label": today ? t("list.today") : t("list.all") },
          figure(items.length, t("start.scans", { count: items.length }), "all"),
          figure(of("suspicious"), t("standing.suspicious"), "suspicious"),
          figure(waiting.length, t("start.unjudged"), "unjudged"),
          figure(of("rejected"), t("standing.rejected"), "rejected"),
        ),
      waiting.length > 0 && [
        h("h3", { class: "part-title" }, t("start.waiting")),
        h(
          "ul",
          { class: "waiting" },
          waiting.slice(0, MOST).map((scan) =>
            h(
              "li",
              {},
              h(
                "button",
                { type: "button", class: "button waiting-scan", data: { standing: standing(scan), focus: `waiting-${scan.scan_id}` }, on: { click: () => open(scan.scan_id) } },
                icon(standing(scan)),
                h("span", { class: "waiting-who" }, scan.patient_id ? given(scan.patient_id) : t("scan.no_patient"), scan.body_site && [" · ", given(scan.body_site)]),
                h("span", { class: "waiting-says" }, `${standingWords(scan)}, ${riskFigure(scan)}`),
                h("span", { class: "waiting-when" }, time(scan.received_at)),
              ),
            ),
          ),
        ),
      ],
    ),
  );
}
