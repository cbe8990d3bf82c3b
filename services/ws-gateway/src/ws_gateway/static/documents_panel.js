// The documents of a job: its ordinals are dense, so that any part of the list can be read by itself.

import { byId, partsOf, setText, showText, throttled } from "./dom.js";
import { clock, number, shortUrl } from "./format.js";
import { Problem, isTerminal } from "./tallyho.js";
import { WindowedList } from "./windowed_list.js";

const CHUNK = 100;
const LIVE_FROM_THE_END = 100;
const MOST_KEPT = 5000;
const MOST_SHOWN = 200_000;

export class DocumentsPanel {
  #jobId = null;
  #count = 0;
  #documents = new Map();
  #asked = new Set();
  #fallsBack = false;
  #stop = () => {};

  constructor(tallyho) {
    this.tallyho = tallyho;
    this.scroller = byId("documents-scroller");
    this.list = new WindowedList({ root: byId("documents"), scroller: this.scroller, makeRow: (ordinal) => this.#makeRow(ordinal) });
    this.scroller.addEventListener("scroll", () => this.#fetchSoon(), { passive: true });
  }

  #fetchSoon = throttled(100, () => this.#fetchMissing());

  /** Begin with a job's last documents; then follow. */
  open(state) {
    this.close();
    this.#jobId = state.job_id;
    this.#count = Math.max(0, state.document_count - LIVE_FROM_THE_END);
    const onError = (problem) => problem.code === "closed" || this.#fallBack(state);
    this.#stop = this.tallyho.followDocuments(state.job_id, (documents) => this.#add(documents), { after: this.#count, intervalMs: 250, onError });
    this.scroller.scrollTop = 0;
    this.#show();
  }

  close() {
    this.#stop();
    this.#fetchSoon.cancel();
    this.#stop = () => {};
    this.#jobId = null;
    this.#count = 0;
    this.#fallsBack = false;
    this.#documents.clear();
    this.#asked.clear();
    this.list.show(0, () => undefined, () => -1);
  }

  /** Say how many there are. */
  update(state) {
    setText(byId("documents-count"), number(state.document_count));
    const words = isTerminal(state) ? "This crawl saved no document." : "The first document appears here as soon as it is saved.";
    showText(byId("documents-none"), state.document_count ? null : words);
    this.scroller.hidden = !state.document_count;
    if (this.#fallsBack) this.#lengthen(state.document_count);
  }

  // The stream can't be had: the list still follows the count, and is read in pages.
  #fallBack(state) {
    this.#fallsBack = true;
    this.#lengthen(state.document_count);
  }

  #add(documents) {
    for (const document of documents) this.#documents.set(document.ordinal, document);
    this.#lengthen(documents.at(-1).ordinal);
  }

  // Who has scrolled down goes on seeing the same rows.
  #lengthen(count) {
    const more = Math.min(count, MOST_SHOWN) - Math.min(this.#count, MOST_SHOWN);
    const isScrolled = this.scroller.scrollTop > this.list.rowHeight / 2;
    this.#count = Math.max(this.#count, count);
    if (isScrolled && more > 0) {
      byId("documents").style.height = `${Math.min(this.#count, MOST_SHOWN) * this.list.rowHeight}px`;
      this.scroller.scrollTop += more * this.list.rowHeight;
    }
    this.#show();
  }

  #show() {
    const length = Math.min(this.#count, MOST_SHOWN);
    this.list.show(length, (index) => this.#count - index, (ordinal) => (ordinal > this.#count - length ? this.#count - ordinal : -1));
    this.#fetchSoon();
  }

  async #fetchMissing() {
    const jobId = this.#jobId;
    if (!jobId) return;
    const [first, last] = this.list.range();
    const chunks = new Set();
    for (let index = first; index <= last; index++) {
      const ordinal = this.#count - index;
      if (!this.#documents.has(ordinal)) chunks.add(Math.floor((ordinal - 1) / CHUNK));
    }
    await Promise.all([...chunks].filter((chunk) => !this.#asked.has(chunk)).map((chunk) => this.#fetch(jobId, chunk)));
  }

  async #fetch(jobId, chunk) {
    this.#asked.add(chunk);
    try {
      const { documents } = await this.tallyho.documentPage(jobId, { after: chunk * CHUNK, limit: CHUNK });
      if (jobId !== this.#jobId) return;
      this.#forgetFar();
      for (const document of documents) this.#documents.set(document.ordinal, document);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      setTimeout(() => this.#fetchSoon(), 2000);
    } finally {
      this.#asked.delete(chunk);
    }
    this.list.redraw();
  }

  #forgetFar() {
    if (this.#documents.size < MOST_KEPT) return;
    const [first, last] = this.list.range();
    for (const ordinal of this.#documents.keys()) {
      const index = this.#count - ordinal;
      if (index < first - CHUNK || index > last + CHUNK) this.#documents.delete(ordinal);
    }
  }

  #makeRow(ordinal) {
    const parts = partsOf(byId("document-row"));
    let drawn = null;
    const draw = (index) => {
      const document = this.#documents.get(ordinal) ?? null;
      parts.element.setAttribute("aria-posinset", String(index + 1));
      parts.element.setAttribute("aria-setsize", String(this.#count));
      if (drawn && drawn === document) return;
      drawn = document;
      drawRow(parts, this.#jobId, ordinal, document);
    };
    return { element: parts.element, draw };
  }
}

function drawRow(parts, jobId, ordinal, document) {
  parts.element.classList.toggle("unread", !document);
  if (!document) return setText(parts.title, `Document ${number(ordinal)}…`);
  const url = shortUrl(document.source_url);
  setText(parts.title, document.title || url);
  parts.title.title = document.title;
  parts.title.href = `#/jobs/${jobId}/documents/${document.document_id}`;
  setText(parts.url, url);
  parts.url.title = document.source_url;
  showText(parts.change, document.change === "created" ? null : document.change);
  setText(parts.saved, clock(Date.parse(document.saved_at)));
  parts.saved.dateTime = document.saved_at;
}
