// The text that was extracted from a page.

import { byId, h, setText, showText } from "./dom.js";
import { moment, number } from "./format.js";
import { Problem } from "./tallyho.js";

/** Shows documents over the page; `onClose()` when the user has read enough. */
export class Reader {
  #id = null;

  constructor({ tallyho, onClose, onProblem }) {
    Object.assign(this, { tallyho, onProblem });
    this.dialog = byId("reader");
    byId("reader-close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("close", () => {
      if (this.#id) onClose();
      this.#id = null;
    });
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
  }

  async open(documentId) {
    if (this.#id === documentId) return;
    this.#id = documentId;
    this.#show({ title: "Loading…" });
    if (!this.dialog.open) this.dialog.showModal();
    byId("reader-title").focus();
    try {
      const found = await this.tallyho.document(documentId);
      if (this.#id === documentId) this.#show(found);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      this.onProblem(problem);
      if (this.#id === documentId) this.#show({ title: "This document can't be shown" }, problem.status === 404 ? "The crawler does not keep its text." : problem.message);
    }
  }

  close() {
    this.#id = null;
    if (this.dialog.open) this.dialog.close();
  }

  #show({ title, url = "", content = "", truncated, ...facts }, problem = null) {
    setText(byId("reader-title"), title || url);
    setText(byId("reader-url"), url);
    byId("reader-url").href = url;
    byId("reader-url").hidden = !url;
    showText(byId("reader-problem"), problem ?? (truncated ? "It is too long to be shown whole: the end is cut off." : null));
    setText(byId("reader-text"), content || (url ? "This page has no text." : ""));
    byId("reader-text").scrollTop = 0;
    const pairs = url ? factsOf(content, facts) : [];
    byId("reader-facts").replaceChildren(...pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
  }
}

function factsOf(content, { saved_at, content_type, status_code, content_hash }) {
  return [
    ["Saved", saved_at && moment(Date.parse(saved_at))],
    ["Type", content_type],
    ["Status", status_code && String(status_code)],
    ["Length", `${number(content.length)} characters`],
    ["Hash", content_hash?.slice(0, 12)],
  ].filter(([, value]) => value);
}
