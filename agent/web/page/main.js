// Puts the page together: session, line to the agent, list, scan, device.

import * as api from "./api.js";
import { showDevice } from "./device.js";
import { button, fill, h, icon, keepFocus } from "./dom.js";
import { listen, showHelp } from "./keys.js";
import { List } from "./list.js";
import { Live } from "./live.js";
import { showOverview } from "./overview.js";
import { ScanView } from "./scan.js";
import { Scans } from "./scans.js";
import { showSignIn, signInWords, tokenFromAddress } from "./signin.js";
import { applyTexts, currentLanguage, languages, loadTexts, setLanguage, t } from "./texts.js";
import { standing, standingWords } from "./wording.js";

const ANNOUNCE_AFTER_MS = 600; // several scans that come at once are said in one sentence
const FAR_APART_MS = 12 * 3600 * 1000;

const at = (id) => document.getElementById(id);
const content = at("content");

const narrow = matchMedia("(max-width: 40rem)");

const page = { session: null, status: null, line: "starting", fresh: [], announcing: null };

const scans = new Scans((fresh) => {
  list.changed(fresh);
  if (document.body.dataset.view === "list") showStart();
  if (fresh.length) arrived(fresh);
});

const list = new List(at("list"), scans, {
  open: (id) => go(`#/scan/${encodeURIComponent(id)}`),
  range: (today) => scans.reset(today),
});

const view = new ScanView(content, at("sheet"), {
  back: () => go("#/"),
  step: (by) => step(by),
  verdict: (id, verdict) => scans.setVerdict(id, verdict),
  announce: (words) => announce(words),
  model: () => page.status?.model ?? null,
  may: () => page.session?.role !== "technician",
});

const live = new Live({
  scan: (scan) => {
    scans.take(scan);
    if (view.id === scan.scan_id) view.refresh();
  },
  verdict: ({ scan_id: id, verdict }) => {
    scans.setVerdict(id, verdict?.diagnosis === null ? null : verdict);
    view.takeVerdict(id, verdict);
  },
  status: (status) => takeStatus(status),
  opened: (again) => {
    setLine("live");
    if (again) catchUp();
  },
  lost: () => setLine("lost"),
  reload: () => catchUp(),
  ended: () => sessionEnded(),
});

// Session

async function begin(said = null, ended = false) {
  try {
    page.session = await api.session();
  } catch (problem) {
    if (problem.status === 401) return askToSignIn({ said, ended });
    setLine("lost");
    fill(content, h("div", { class: "empty" }, h("h2", {}, t("start.unreachable")), h("p", {}, t("start.unreachable_hint"))));
    setTimeout(() => begin(said, ended), 1500);
    return;
  }
  at("list").hidden = false;
  buildTools();
  live.open();
  await api.status().then(takeStatus, () => {});
  await scans.reset(page.status === null || clocksAgree(page.status));
  list.build();
  route();
}

/** Whether "today" means the same here and on the device; where it may not, all scans are shown. */
function clocksAgree(status) {
  const there = Date.parse(status.started_at) + status.uptime_s * 1000;
  return status.clock_trusted && Math.abs(Date.now() - there) < FAR_APART_MS;
}

function askToSignIn({ said = null, ended = false } = {}) {
  document.body.dataset.view = "signin";
  at("list").hidden = true;
  at("tools").hidden = true;
  showSignIn(content, { said, ended, done: () => begin() });
}

/** Nothing of a patient stays on the screen of somebody whom the agent does not know any more. */
function sessionEnded(ended = true) {
  if (document.body.dataset.view === "signin") return;
  live.close();
  view.close();
  scans.clear();
  list.mark(null);
  page.session = page.status = null;
  setLine("starting");
  at("place").replaceChildren();
  at("announcer").replaceChildren();
  askToSignIn({ ended });
}

async function signOut() {
  live.close();
  await api.signOut().catch(() => {});
  history.replaceState(null, "", location.pathname);
  sessionEnded(false);
}

// Places

function go(hash) {
  if (location.hash === hash) route();
  else location.hash = hash;
}

function route() {
  if (!page.session) return;
  const scan = /^#\/scan\/(.+)$/.exec(location.hash);
  const before = document.body.dataset.view;
  document.body.dataset.view = scan ? "scan" : location.hash === "#/device" ? "device" : "list";
  if (scan) {
    const id = decoded(scan[1]);
    list.mark(id);
    view.open(id);
    return;
  }
  view.close();
  list.mark(null);
  if (document.body.dataset.view === "device") {
    showDevice(content, page.status, () => go("#/"));
    content.querySelector(".scan-title")?.focus({ preventScroll: true });
    return;
  }
  showStart();
  if (before !== "start") list.focus();
}

/** What an address says; as it stands where somebody mistyped it. */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function showStart() {
  keepFocus(content, () => showOverview(content, scans, (id) => go(`#/scan/${encodeURIComponent(id)}`)));
}

function step(by) {
  const next = list.neighbour(by);
  if (next) go(`#/scan/${encodeURIComponent(next)}`);
  else announce(by < 0 ? t("scan.is_newest") : t("scan.is_oldest"));
}

function back() {
  if (view.verdicts?.closeChooser()) return;
  if (location.hash && location.hash !== "#/") go("#/");
  else list.focus();
}

// What the agent tells

function takeStatus(status) {
  const demoWas = page.status?.model.demo;
  page.status = status;
  const place = [status.clinic_id, status.device_id].join(" · ");
  if (at("place").textContent !== place) at("place").textContent = place;
  if (document.body.dataset.view === "device") showDevice(content, status, () => go("#/"));
  if (demoWas !== status.model.demo || at("notices").dataset.ready !== String(status.ready)) notices();
}

function setLine(line) {
  if (page.line === line && at("connection").hasChildNodes()) return;
  page.line = line;
  const chip = at("connection");
  chip.dataset.state = line;
  fill(chip, line === "starting" ? null : [icon(line === "live" ? "live" : "lost"), h("span", {}, line === "live" ? t("line.live") : t("line.lost"))]);
  notices();
}

function notices() {
  const found = [];
  if (page.line === "lost") found.push(["bad", t("notice.lost")]);
  else if (page.status && !page.status.ready) found.push(["notice", t("notice.not_ready")]);
  if (page.status?.model.demo) found.push(["notice", t("notice.demo")]);
  at("notices").dataset.ready = String(page.status?.ready);
  fill(at("notices"), found.map(([kind, words]) => h("p", { class: "notice", data: { kind } }, icon("warning"), h("span", {}, words))));
}

async function catchUp() {
  await Promise.all([scans.catchUp(), view.refresh(), api.status().then(takeStatus, () => {})]);
}

function arrived(fresh) {
  page.fresh.push(...fresh);
  clearTimeout(page.announcing);
  page.announcing = setTimeout(() => {
    const came = page.fresh.splice(0);
    const suspicious = came.filter((scan) => standing(scan) === "suspicious").length;
    const words = came.length === 1 ? t("announce.one", { standing: standingWords(came[0]) }) : t("announce.several", { count: came.length, suspicious });
    announce(words);
  }, ANNOUNCE_AFTER_MS);
  if (list.follows && !view.busy && ["list", "scan"].includes(document.body.dataset.view)) {
    go(`#/scan/${encodeURIComponent(fresh[0].scan_id)}`);
  }
}

function announce(words) {
  at("announcer").textContent = words;
}

// The bar

function buildTools() {
  const choice = h(
    "select",
    { id: "language", class: "select", "aria-label": t("bar.language"), data: { focus: "language" }, on: { change: (event) => reword(event.target.value) } },
    Object.entries(languages()).map(([code, name]) => h("option", { value: code, lang: code, label: narrow.matches ? code.toUpperCase() : name, selected: code === currentLanguage() }, name)),
  );
  fill(
    at("tools"),
    button(t("bar.device"), () => go("#/device"), { name: "device", kind: "tool", focus: "device", label: t("bar.device") }),
    choice,
    button(t("bar.help"), () => showHelp(at("help")), { name: "help", kind: "tool", focus: "help", label: t("bar.help") }),
    button(t("bar.sign_out"), () => signOut(), { name: "out", kind: "tool", focus: "out", label: t("bar.sign_out_as", { name: page.session.name }) }),
  );
  at("tools").hidden = false;
}

function reword(code) {
  setLanguage(code);
  applyTexts();
  buildTools();
  at("language").focus();
  list.build();
  const line = page.line;
  page.line = null;
  setLine(line);
  if (document.body.dataset.view === "device") showDevice(content, page.status, () => go("#/"));
  else if (view.id) view.reword();
  else showStart();
}

// Start

listen({
  Escape: back,
  j: () => step(1),
  k: () => step(-1),
  l: () => list.focus(),
  a: () => view.picture?.toggle(),
  b: () => view.picture?.toggleBeside(),
  "+": () => view.picture?.zoomBy(1),
  "=": () => view.picture?.zoomBy(1),
  "-": () => view.picture?.zoomBy(-1),
  0: () => view.picture?.zoomBy(0),
  c: () => view.verdicts?.focusOn("confirm"),
  x: () => view.verdicts?.focusOn("correct"),
  h: () => view.verdicts?.focusOn("histopathology"),
  u: () => view.verdicts?.undo(),
  p: () => view.id && window.print(),
  d: () => go("#/device"),
  "?": () => showHelp(at("help")),
});

const token = tokenFromAddress();
await loadTexts();
applyTexts();
list.build();
api.whenSessionEnds(() => sessionEnded());
addEventListener("hashchange", () => {
  const secret = tokenFromAddress();
  if (secret) signInWith(secret);
  else route();
});
narrow.addEventListener("change", () => page.session && buildTools());
at("skip").addEventListener("click", (event) => {
  event.preventDefault();
  content.focus();
});
if (token) await signInWith(token);
else await begin();

async function signInWith(secret) {
  let said = null;
  try {
    await api.signIn(secret);
  } catch (problem) {
    said = signInWords(problem);
  }
  await begin(said);
}
