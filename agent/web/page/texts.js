// Words, numbers and dates in the reader's language, all from one catalogue (texts.json).

const KEPT = "dermascan-language";

let catalogue = null;
let language = "en";
let patterns = [];

/** Loads the catalogue and chooses the language: what was chosen here before, else the browser's, else English. */
export async function loadTexts() {
  const answer = await fetch("/page/texts.json", { credentials: "same-origin" });
  if (!answer.ok) throw new Error(`texts.json: ${answer.status}`);
  catalogue = await answer.json();
  patterns = catalogue.sentences.map(compile);
  choose(remembered() ?? navigator.languages.map((tag) => tag.split("-")[0]).find((tag) => tag in catalogue.languages) ?? "en");
}

/** The languages there are: code to name. */
export function languages() {
  return catalogue.languages;
}

export function currentLanguage() {
  return language;
}

/** Switches the language and keeps the choice on this screen. */
export function setLanguage(code) {
  choose(code);
  try {
    localStorage.setItem(KEPT, language);
  } catch {
    // Without storage the choice holds until the page is left.
  }
}

function choose(code) {
  language = code in catalogue.languages ? code : "en";
  document.documentElement.lang = language;
}

function remembered() {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null;
  }
}

/** A text of the page. `values` fill its {braces}; `count` among them chooses between "one" and "other". */
export function t(key, values = {}) {
  let entry = catalogue?.texts[key]?.[language];
  if (entry === undefined) return key;
  if (typeof entry === "object") entry = entry[new Intl.PluralRules(language).select(values.count)] ?? entry.other;
  return filled(entry, values);
}

function filled(text, values) {
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** Fills everything in the skeleton that names its text. */
export function applyTexts(root = document) {
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = t(element.dataset.text);
  for (const element of root.querySelectorAll("[data-label]")) element.setAttribute("aria-label", t(element.dataset.label));
}

/** How a class is written for people. */
export function className(name) {
  return catalogue.classes[name]?.[language] ?? name;
}

export function classes() {
  return Object.keys(catalogue.classes);
}

/**
 * One or several sentences that the agent wrote, in the reader's language: {text, lang}. What the catalogue does not
 * know stays as it is, in English, and says so by its lang.
 */
export function sentence(said) {
  if (language === "en") return { text: said, lang: "en" };
  const found = translated(said);
  return found === null ? { text: said, lang: "en" } : { text: found, lang: language };
}

function translated(said) {
  for (const { expression, names, target } of patterns) {
    const match = expression.exec(said);
    if (!match) continue;
    const values = Object.fromEntries(names.map((name, index) => [name, value(name, match[index + 1])]));
    if (Object.values(values).every((one) => one !== null)) return filled(target[language] ?? target.en, values);
  }
  return severalSentences(said);
}

/** "First. Second." as the translations of both, where both are known. */
function severalSentences(said) {
  for (const { index } of said.matchAll(/[.!?] (?=\S)/g)) {
    const head = translated(said.slice(0, index + 1));
    const tail = head === null ? null : translated(said.slice(index + 2));
    if (tail !== null) return `${head} ${tail}`;
  }
  return null;
}

const WORDS = ["what", "why"];

function value(name, raw) {
  if (WORDS.includes(name)) return translated(raw);
  if (/^\d+\.\d+$/.test(raw)) {
    const digits = raw.split(".")[1].length;
    return format({ minimumFractionDigits: digits, maximumFractionDigits: digits, useGrouping: false }).format(Number(raw));
  }
  const share = /^(\d+)%$/.exec(raw);
  if (share) return percent(Number(share[1]) / 100, 0);
  const day = /^(\d{1,2} [A-Z][a-z]+ \d{4})$/.test(raw) ? Date.parse(`${raw} UTC`) : NaN;
  if (!Number.isNaN(day)) return dates({ dateStyle: "long", timeZone: "UTC" }).format(day);
  return raw;
}

function compile(target) {
  const names = [];
  const source = target.en
    .split(/(\{\w+\})/)
    .map((part) => {
      if (!/^\{\w+\}$/.test(part)) return part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
      names.push(part.slice(1, -1));
      return "([^]+?)";
    })
    .join("");
  return { expression: new RegExp(`^${source}$`), names, target };
}

// Numbers and dates, in the region of the browser where its language is the chosen one.

const formats = new Map();

function locale() {
  return navigator.languages.find((tag) => tag.split("-")[0] === language) ?? language;
}

function cached(kind, options, make) {
  const key = `${kind} ${locale()} ${JSON.stringify(options)}`;
  if (!formats.has(key)) formats.set(key, make(locale(), options));
  return formats.get(key);
}

function format(options = {}) {
  return cached("number", options, (where, how) => new Intl.NumberFormat(where, how));
}

function dates(options) {
  return cached("date", options, (where, how) => new Intl.DateTimeFormat(where, how));
}

export function number(amount, digits = 0) {
  return format({ minimumFractionDigits: digits, maximumFractionDigits: digits }).format(amount);
}

/** A share in per cent; small ones with a decimal, so that no risk reads as zero. */
export function percent(share, digits = share < 0.1 ? 1 : 0) {
  if (share > 0 && digits > 0 && share < 0.5 * 10 ** -(digits + 2)) {
    return `< ${percent(10 ** -(digits + 2), digits)}`;
  }
  return format({ style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits }).format(share);
}

/** Risk and threshold with as many decimals (at most 4) as it takes to see that they differ, if they do. */
export function percentsApart(risk, threshold) {
  let shown = [percent(risk), percent(threshold)];
  for (let digits = 1; risk !== threshold && shown[0] === shown[1] && digits <= 4; digits += 1) {
    shown = [percent(risk, digits), percent(threshold, digits)];
  }
  return shown;
}

export function time(iso) {
  return dates({ hour: "2-digit", minute: "2-digit" }).format(new Date(iso));
}

export function day(iso) {
  return dates({ day: "numeric", month: "short" }).format(new Date(iso));
}

export function dateTime(iso) {
  return dates({ dateStyle: "medium", timeStyle: "short" }).format(new Date(iso));
}

/** A time of the picture's own camera, which may name no zone: shown as the camera wrote it. */
export function cameraTime(iso) {
  return /(Z|[+-]\d\d:?\d\d)$/.test(iso) ? dateTime(iso) : dates({ dateStyle: "medium", timeStyle: "short", timeZone: "UTC" }).format(new Date(`${iso}Z`));
}

/** Milliseconds as seconds or milliseconds, whichever reads better. */
export function duration(ms) {
  if (ms < 1000) return format({ style: "unit", unit: "millisecond", maximumFractionDigits: 0 }).format(ms);
  return format({ style: "unit", unit: "second", maximumFractionDigits: 1 }).format(ms / 1000);
}

/** Seconds as the largest unit that fits. */
export function span(seconds) {
  for (const [unit, size] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (seconds >= size) return format({ style: "unit", unit, unitDisplay: "long", maximumFractionDigits: 0 }).format(Math.floor(seconds / size));
  }
  return format({ style: "unit", unit: "second", unitDisplay: "long", maximumFractionDigits: 0 }).format(Math.max(0, Math.floor(seconds)));
}

/** Megabytes (2^20 bytes) for people. */
export function megabytes(amount) {
  const large = amount >= 1024;
  return format({ style: "unit", unit: large ? "gigabyte" : "megabyte", maximumFractionDigits: large ? 1 : 0 }).format(large ? amount / 1024 : amount);
}
