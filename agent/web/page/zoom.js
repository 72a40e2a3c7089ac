// Zooming and moving one or two panes together: wheel, pinch, double tap, drag, keys.

const MOST = 16;
const STEP = 1.4;
const MOVE = 60; // pixels for an arrow key
const TAP_MS = 350;

/** The common zoom of `panes` (elements that hold a .stage). `changed(scale)` is called after each change. */
export class Zoom {
  scale = 1;
  #x = 0;
  #y = 0;
  #panes = [];
  #pointers = new Map();
  #changed;
  #tapped = 0;

  constructor(changed) {
    this.#changed = changed;
  }

  /** Takes charge of other panes. */
  attach(panes) {
    this.#panes = panes;
    for (const pane of panes) {
      pane.addEventListener("wheel", (event) => this.#wheel(event, pane), { passive: false });
      pane.addEventListener("pointerdown", (event) => this.#down(event, pane));
      pane.addEventListener("pointermove", (event) => this.#move(event, pane));
      for (const end of ["pointerup", "pointercancel"]) pane.addEventListener(end, (event) => this.#pointers.delete(event.pointerId));
      pane.addEventListener("keydown", (event) => this.#key(event));
    }
    this.reset();
  }

  reset() {
    this.#set(1, 0, 0);
  }

  /** Zooms by steps around the middle. */
  step(direction) {
    const pane = this.#panes[0];
    if (pane) this.#around(this.scale * STEP ** direction, pane.clientWidth / 2, pane.clientHeight / 2);
  }

  #around(scale, x, y) {
    const next = Math.min(MOST, Math.max(1, scale));
    const ratio = next / this.scale;
    this.#set(next, x - (x - this.#x) * ratio, y - (y - this.#y) * ratio);
  }

  #set(scale, x, y) {
    const pane = this.#panes[0];
    const [width, height] = pane ? [pane.clientWidth, pane.clientHeight] : [0, 0];
    this.scale = scale;
    this.#x = Math.min(0, Math.max(width * (1 - scale), x));
    this.#y = Math.min(0, Math.max(height * (1 - scale), y));
    for (const one of this.#panes) {
      one.firstElementChild.style.transform = `translate(${this.#x}px, ${this.#y}px) scale(${scale})`;
      one.classList.toggle("is-zoomed", scale > 1);
    }
    this.#changed(scale);
  }

  #wheel(event, pane) {
    if (event.deltaY > 0 && this.scale === 1 && !event.ctrlKey) return; // nothing to zoom out of: the page scrolls
    event.preventDefault();
    const box = pane.getBoundingClientRect();
    this.#around(this.scale * Math.exp(-event.deltaY * (event.deltaMode === 1 ? 0.05 : 0.0018)), event.clientX - box.left, event.clientY - box.top);
  }

  #down(event, pane) {
    if (event.button !== 0) return;
    pane.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (this.#pointers.size > 1) return;
    const box = pane.getBoundingClientRect();
    if (event.timeStamp - this.#tapped < TAP_MS) this.#around(this.scale > 1 ? 1 : 3, event.clientX - box.left, event.clientY - box.top);
    this.#tapped = event.timeStamp;
  }

  #move(event, pane) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const other = [...this.#pointers].find(([id]) => id !== event.pointerId)?.[1];
    const now = [event.clientX, event.clientY];
    this.#pointers.set(event.pointerId, now);
    if (!other) return this.scale > 1 ? this.#set(this.scale, this.#x + now[0] - before[0], this.#y + now[1] - before[1]) : undefined;
    const box = pane.getBoundingClientRect();
    const ratio = distance(now, other) / Math.max(1, distance(before, other));
    this.#x += (now[0] - before[0]) / 2;
    this.#y += (now[1] - before[1]) / 2;
    return this.#around(this.scale * ratio, (now[0] + other[0]) / 2 - box.left, (now[1] + other[1]) / 2 - box.top);
  }

  #key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const moves = { ArrowLeft: [MOVE, 0], ArrowRight: [-MOVE, 0], ArrowUp: [0, MOVE], ArrowDown: [0, -MOVE] }[event.key];
    if (!moves || this.scale === 1) return;
    this.#set(this.scale, this.#x + moves[0], this.#y + moves[1]);
    event.preventDefault();
    event.stopPropagation();
  }
}

function distance([x, y], [otherX, otherY]) {
  return Math.hypot(x - otherX, y - otherY);
}
