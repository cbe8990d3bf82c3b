// The URLs that a job met: how many ended how and why, and which of its pages failed.

import { byId, h, setText, showText, throttled } from "./dom.js";
import { counted, number, reasonInWords } from "./format.js";
import { urlGroups } from "./model.js";
import { Problem, isTerminal } from "./tallyho.js";

const FIRST_FAILED = 20;
const MORE_FAILED = 100;
const REFRESH_MS = 2000;

export class PagesPanel {
  #state = null;
  #ledger = null;
  #wanted = FIRST_FAILED;
  #failedShown = -1;

  constructor(tallyho) {
    this.tallyho = tallyho;
    byId("failed-more").addEventListener("click", () => {
      this.#wanted += MORE_FAILED;
      this.#failedShown = -1;
      this.#readSoon();
    });
  }

  #readSoon = throttled(REFRESH_MS, () => this.#readFailed());

  clear() {
    this.#readSoon.cancel();
    this.#state = null;
    this.#ledger = null;
    setText(byId("urls-met"), "");
    this.#wanted = FIRST_FAILED;
    this.#failedShown = -1;
    byId("failed").replaceChildren();
    byId("failed-more").hidden = true;
  }

  update(state) {
    this.#state = state;
    setText(byId("pages-count"), number(state.total_children));
    setText(byId("failed-count"), state.failed_children ? number(state.failed_children) : "");
    showText(byId("failed-none"), state.failed_children ? null : isTerminal(state) ? "No page failed." : "No page has failed so far.");
    this.#draw();
    if (state.failed_children !== this.#failedShown && state.failed_children) this.#readSoon();
  }

  showLedger(ledger) {
    this.#ledger = ledger;
    if (this.#state) this.#draw();
  }

  #draw() {
    this.#drawGroups();
    if (!this.#ledger) return;
    // The ledger is read now and then, and every page that has come since is a URL met.
    const met = Math.max(this.#ledger.urls_met, this.#state.total_children);
    const beyond = this.#ledger.beyond ? `, ${number(this.#ledger.beyond)} more not looked at` : "";
    setText(byId("urls-met"), `of ${counted(met, "URL")} met${beyond}`);
  }

  #drawGroups() {
    const groups = urlGroups(this.#state, this.#ledger?.entries ?? []);
    const look = JSON.stringify(groups);
    if (byId("pages").look === look) return;
    byId("pages").look = look;
    byId("pages").replaceChildren(...groups.map(groupOf));
  }

  async #readFailed() {
    const state = this.#state;
    if (!state) return;
    try {
      const limit = Math.min(1000, this.#wanted);
      const { pages, next } = await this.tallyho.pages(state.job_id, { state: "failed", limit });
      if (state.job_id !== this.#state?.job_id) return;
      this.#failedShown = state.failed_children;
      byId("failed").replaceChildren(...pages.map(failedOf));
      byId("failed-more").hidden = !next || limit === 1000;
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      setTimeout(() => this.#state && this.#readSoon(), REFRESH_MS);
    }
  }
}

function groupOf({ outcome, urls, reasons }) {
  const line = h("div", { className: "group", dataset: { outcome } }, h("span", { className: "name" }, outcome), h("b", {}, number(urls)));
  const below = reasons.map((row) => h("li", {}, h("span", {}, reasonInWords(row.reason)), h("b", {}, number(row.urls))));
  return h("li", {}, line, ...(below.length ? [h("ul", {}, ...below)] : []));
}

function failedOf(page) {
  const url = page.url ?? page.page_id;
  const link = page.url ? h("a", { href: page.url, target: "_blank", rel: "noopener noreferrer" }, url) : h("span", {}, url);
  return h("li", {}, link, h("span", { className: "why", title: page.reason ?? "" }, reasonInWords(page.reason)));
}

