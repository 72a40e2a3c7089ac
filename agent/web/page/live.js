// The open line to the agent (server-sent events): tells what is new, and whether the line stands.

import * as api from "./api.js";

const SILENCE_MS = 16_000; // the agent sends its status every 5 s: three missed ones mean that it hangs
const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 5_000;

/**
 * Keeps the line open until it is closed. `tell` has: scan(summary), verdict({scan_id, verdict}), status(status),
 * opened(again) when the line stands (again: it had been lost, so that what was missed is to be asked for), lost(),
 * reload() when the agent cannot say what was missed.
 */
export class Live {
  #tell;
  #source = null;
  #wait = FIRST_WAIT_MS;
  #silence = null;
  #retry = null;
  #stood = false;
  #wanted = false;

  constructor(tell) {
    this.#tell = tell;
  }

  open() {
    this.#wanted = true;
    this.#connect();
  }

  close() {
    this.#wanted = false;
    this.#stood = false;
    this.#drop();
  }

  #connect() {
    this.#drop();
    const source = new EventSource("/api/v1/events");
    this.#source = source;
    const hear = (name, take) => source.addEventListener(name, (event) => {
      this.#heard();
      take(event.data);
    });
    source.addEventListener("open", () => {
      this.#wait = FIRST_WAIT_MS;
      this.#heard();
      this.#tell.opened(this.#stood);
      this.#stood = true;
    });
    source.addEventListener("error", () => this.#lost());
    hear("scan", (data) => this.#tell.scan(JSON.parse(data)));
    hear("verdict", (data) => this.#tell.verdict(JSON.parse(data)));
    hear("status", (data) => this.#tell.status(JSON.parse(data)));
    hear("reload", () => this.#tell.reload());
    this.#heard();
  }

  #heard() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#lost(), SILENCE_MS);
  }

  #lost() {
    this.#drop();
    if (!this.#wanted) return;
    this.#tell.lost();
    // All pages of a clinic lose the agent at one moment; they do not come back at one moment.
    this.#retry = setTimeout(() => this.#tryAgain(), this.#wait * (0.5 + Math.random() / 2));
    this.#wait = Math.min(LONGEST_WAIT_MS, this.#wait * 2);
  }

  /** An EventSource cannot say why it failed, so the session is asked for first: it may have ended. */
  async #tryAgain() {
    try {
      await api.session();
    } catch (problem) {
      if (!this.#wanted) return;
      if (problem.status === 401) return this.#tell.ended();
      return this.#lost();
    }
    if (this.#wanted) this.#connect();
  }

  #drop() {
    clearTimeout(this.#silence);
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = null;
  }
}
