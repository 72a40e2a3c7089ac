// Speaks to the agent: one function per question. Refusals come back as a Problem.

const PATIENCE_MS = 10_000;

let onSessionEnded = () => {};

/** Whom to tell when the agent no longer knows us. */
export function whenSessionEnds(listener) {
  onSessionEnded = listener;
}

/** A refusal by the agent (its status and problem document), or no answer from it at all (status 0). */
export class Problem extends Error {
  constructor(status, document = {}, retryAfter = null) {
    super(document.title ?? `HTTP ${status}`);
    this.status = status;
    this.document = document;
    this.retryAfter = retryAfter;
  }

  /** Whether nobody knows if the request was carried out. */
  get unanswered() {
    return this.status === 0;
  }
}

async function ask(method, path, { body, headers = {}, patience = PATIENCE_MS, quiet = false } = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      credentials: "same-origin",
      cache: "no-store",
      headers: { Accept: "application/json", "X-DermaScan-Page": "1", ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(patience),
    });
  } catch (error) {
    throw new Problem(0, { title: String(error?.message ?? error) });
  }
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  const document = await answer.json().catch(() => ({}));
  const problem = new Problem(answer.status, document, Number(answer.headers.get("Retry-After")) || null);
  if (answer.status === 401 && !quiet) onSessionEnded();
  throw problem;
}

const scanPath = (id) => `/api/v1/scans/${encodeURIComponent(id)}`;

export const signIn = (token) => ask("POST", "/api/v1/session", { body: { token }, quiet: true });
export const signOut = () => ask("DELETE", "/api/v1/session", { quiet: true });
export const session = () => ask("GET", "/api/v1/session", { quiet: true });
export const status = () => ask("GET", "/api/v1/status");
export const scan = (id) => ask("GET", scanPath(id));

/** A page of scans, newest first: {scans, next_before}. */
export function scans({ limit = 100, before = null, since = null } = {}) {
  const query = new URLSearchParams({ limit });
  if (before !== null) query.set("before", before);
  if (since !== null) query.set("since", since);
  return ask("GET", `/api/v1/scans?${query}`);
}

/** Gives a verdict; the same `key` a second time is the same verdict. */
export const giveVerdict = (id, verdict, key) => ask("POST", `${scanPath(id)}/verdicts`, { body: verdict, headers: { "Idempotency-Key": key } });

export const viewUrl = (id, side) => `${scanPath(id)}/view.jpg?side=${side}`;
export const imageUrl = (id) => `${scanPath(id)}/image`;

export const exportUrl = (id, format) => `${scanPath(id)}/export?format=${format}`;

/** What the agent says of a picture that the browser could not show: an HTTP status, 0 without an answer. */
export async function pictureStatus(url) {
  try {
    return (await fetch(url, { credentials: "same-origin", cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) })).status;
  } catch {
    return 0;
  }
}
