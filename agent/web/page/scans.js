// The scans that the page knows of, newest first: loaded page by page, kept up to date by events.

import * as api from "./api.js";

const PAGE = 100;
const CATCH_UP_PAGES = 5;
const RANK = { received: 0, answered: 1, rejected: 1 };

/** The agent's scans as this page sees them. `changed(newOnes)` is called after each change. */
export class Scans {
  items = [];
  complete = false;
  loading = false;
  failed = false;
  today = true;
  #byId = new Map();
  #since = null;
  #changed;
  #generation = 0;

  constructor(changed) {
    this.#changed = changed;
  }

  get(id) {
    return this.#byId.get(id) ?? null;
  }

  /** Where a scan lies in the list; -1 where it does not. */
  indexOf(id) {
    const found = this.get(id);
    return found ? this.#place(found.seq) : -1;
  }

  /** Begins anew: today's scans, or all. */
  async reset(today = this.today) {
    this.#generation += 1;
    this.today = today;
    this.#since = today ? startOfDay() : null;
    this.items = [];
    this.#byId.clear();
    this.complete = this.failed = this.loading = false;
    this.#changed([]);
    await this.more();
  }

  /** Forgets everything: another person may sit here next. */
  clear() {
    this.#generation += 1;
    this.items = [];
    this.#byId.clear();
    this.complete = this.loading = false;
  }

  /** Loads the next page of older scans, unless one is on its way or there are no more. */
  async more() {
    if (this.loading || this.complete) return;
    const generation = this.#generation;
    this.loading = true;
    this.failed = false;
    try {
      const last = this.items.at(-1);
      const page = await api.scans({ limit: PAGE, before: last ? last.seq : null, since: this.#since });
      if (generation !== this.#generation) return;
      this.complete = page.next_before === null;
      page.scans.forEach((scan) => this.#put(scan));
    } catch (problem) {
      if (generation !== this.#generation) return;
      this.failed = true;
      if (problem.status === 401) return;
    } finally {
      if (generation === this.#generation) this.loading = false;
    }
    this.#changed([]);
  }

  /** Asks for what happened while the line was down; begins anew where that was too much. */
  async catchUp() {
    if (this.items.length === 0 || (this.today && this.#since !== startOfDay())) return this.reset();
    const generation = this.#generation;
    const newest = this.items[0].seq;
    const found = [];
    try {
      for (let before = null, pages = 0; ; pages += 1) {
        if (pages === CATCH_UP_PAGES) return this.reset();
        const page = await api.scans({ limit: PAGE, before, since: this.#since });
        if (generation !== this.#generation) return;
        found.push(...page.scans);
        // One page more than the new ones: what was unfinished then may have ended since.
        if (page.next_before === null || page.scans.at(-1).seq <= newest) break;
        before = page.next_before;
      }
    } catch {
      return;
    }
    const fresh = found.filter((scan) => this.#put(scan) && scan.seq > newest);
    this.#changed(fresh);
  }

  /** Takes what an event says of one scan. */
  take(scan) {
    if (this.today && this.#since !== startOfDay()) return this.reset();
    const isNew = !this.#byId.has(scan.scan_id);
    const last = this.items.at(-1);
    const beyond = isNew && !this.complete && last && scan.seq < last.seq;
    const before = this.get(scan.scan_id)?.state;
    // A scan newer than all that are known is shown whatever the device's clock says of its time.
    const newest = this.items.length === 0 || scan.seq > this.items[0].seq;
    const earlier = isNew && !newest && this.#since && scan.received_at < this.#since;
    if (beyond || earlier || !this.#put(scan)) return;
    const ended = scan.state !== "received" && (isNew || before === "received");
    this.#changed(ended ? [scan] : []);
  }

  /** Puts the verdict that stands (null: none) into a scan's line. */
  setVerdict(id, verdict) {
    const scan = this.get(id);
    if (!scan) return;
    this.#put({ ...scan, verdict });
    this.#changed([]);
  }

  #put(scan) {
    const known = this.#byId.get(scan.scan_id);
    if (known && RANK[scan.state] < RANK[known.state]) return false;
    this.#byId.set(scan.scan_id, scan);
    const place = this.#place(scan.seq);
    if (this.items[place]?.seq === scan.seq) this.items[place] = scan;
    else this.items.splice(place, 0, scan);
    return true;
  }

  /** The first place whose scan is not newer than `seq`. */
  #place(seq) {
    let low = 0;
    let high = this.items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.items[middle].seq > seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function startOfDay() {
  const now = new Date();
  now.setHours(0, 0, 0, 0);
  return now.toISOString();
}
