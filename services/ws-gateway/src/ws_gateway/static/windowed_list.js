// A list of any length of which only the rows in sight are elements.

const SPARE_ROWS = 6;

/**
 * root: the element that holds the rows; its `--row-height` is that of each. scroller: what scrolls (null: the window).
 * makeRow(key): {element, draw(index)}. drop(key): a row is gone.
 * The row with the focus stays an element wherever it is, so that a live list never loses the focus.
 */
export class WindowedList {
  #rows = new Map();
  #keyAt = () => undefined;
  #indexOf = () => -1;
  #count = 0;
  #frame = 0;

  constructor({ root, scroller = null, makeRow }) {
    Object.assign(this, { root, scroller, makeRow });
    (scroller ?? window).addEventListener("scroll", () => this.redraw(), { passive: true });
    new ResizeObserver(() => this.#measure()).observe(scroller ?? document.documentElement);
    this.#measure();
  }

  /** There are so many rows; the key of each, and the index of a key (-1: not listed). */
  show(count, keyAt, indexOf) {
    [this.#count, this.#keyAt, this.#indexOf] = [count, keyAt, indexOf];
    this.redraw();
  }

  /** Draw with the next frame. */
  redraw() {
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  get rowHeight() {
    return this.#height;
  }

  /** The first and the last index in sight; the last is before the first when there is none. */
  range() {
    const height = this.scroller ? this.scroller.clientHeight : window.innerHeight;
    const top = this.scroller ? this.scroller.scrollTop - this.root.offsetTop : -this.root.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(top / this.#height) - SPARE_ROWS);
    return [first, Math.min(this.#count - 1, Math.ceil((top + height) / this.#height) + SPARE_ROWS)];
  }

  /** Bring a row into sight and put the focus into it. */
  focus(index) {
    if (index < 0 || index >= this.#count) return;
    this.#rowAt(index).element.querySelector("a, button").focus();
  }

  #height = 64;

  #measure() {
    this.#height = parseFloat(getComputedStyle(this.root).getPropertyValue("--row-height")) || this.#height;
    this.redraw();
  }

  #draw() {
    this.#frame = 0;
    if (!this.root.offsetParent) return; // not on the page now
    const height = `${this.#count * this.#height}px`;
    if (this.root.style.height !== height) this.root.style.height = height;
    const [first, last] = this.range();
    this.#dropOutside(first, last);
    for (let index = first; index <= last; index++) this.#rowAt(index);
    for (const [key, row] of this.#rows) {
      const index = this.#indexOf(key);
      this.#place(row, index);
      row.draw(index);
    }
  }

  #rowAt(index) {
    const key = this.#keyAt(index);
    const known = this.#rows.get(key);
    if (known) return known;
    const row = this.makeRow(key);
    this.#rows.set(key, row);
    this.#place(row, index);
    row.draw(index);
    const next = [...this.root.children].find((element) => element.listIndex > index);
    this.root.insertBefore(row.element, next ?? null);
    return row;
  }

  #place({ element }, index) {
    if (element.listIndex === index) return;
    element.listIndex = index;
    element.style.transform = `translateY(${index * this.#height}px)`;
  }

  #dropOutside(first, last) {
    for (const [key, row] of this.#rows) {
      const index = this.#indexOf(key);
      const isOut = index < first || index > last;
      if (!isOut || (index >= 0 && row.element.contains(document.activeElement))) {
        this.#place(row, index);
        continue;
      }
      row.element.remove();
      this.#rows.delete(key);
    }
  }
}
