// The list of all jobs.

import { byId, drawBar, partsOf, setText, showText, throttled } from "./dom.js";
import { age, counted, duration, number, rate } from "./format.js";
import { Jobs, finishedPages, pathOfJobs, shares, sharesInWords } from "./model.js";
import { Problem, isTerminal } from "./tallyho.js";
import { WindowedList } from "./windowed_list.js";

const FIRST_PAGE = 200;
const NEXT_PAGE = 1000;
const RELIST_MS = 3000;
const NEAR_THE_END_ROWS = 60;
const MOST_SEARCHED = 20_000;

/** Shows `jobs`, which live on while the view does not. `announce(text)` says something aloud. */
export class JobsView {
  jobs = new Jobs();
  #shown = [];
  #places = new Map();
  #filter = "all";
  #text = "";
  #next = null;
  #isLoading = false;
  #wasListed = false;
  #stop = null;
  #relist = 0;

  constructor({ tallyho, announce, onProblem }) {
    Object.assign(this, { tallyho, announce, onProblem });
    this.list = new WindowedList({ root: byId("jobs"), makeRow: (id) => this.#makeRow(id) });
    this.#refresh = throttled(100, () => this.#arrange());
    this.#tick = 0;
    byId("search").addEventListener("input", () => this.#narrow());
    byId("filters").addEventListener("change", () => this.#narrow());
    byId("load-more").addEventListener("click", () => this.#loadMore());
    byId("clear-filters").addEventListener("click", () => this.#clear());
    byId("jobs").addEventListener("keydown", (event) => this.#onKey(event));
    addEventListener("scroll", () => this.#loadNearTheEnd(), { passive: true });
  }

  #refresh;
  #tick;

  /** Come on the page, narrowed down as its address says. */
  open({ filter, text }) {
    [this.#filter, this.#text] = [filter, text];
    byId("search").value = text;
    byId("filters").querySelector(`[value=${filter}]`).checked = true;
    if (!this.#stop) {
      this.#stop = this.tallyho.follow(null, (state) => this.offer(state), { onError: this.onProblem });
      this.#tick = setInterval(() => this.#refresh(), 1000);
      this.reload();
    }
    this.#arrange();
  }

  /** Leave the page; what is known stays, and is brought up to date when it is opened again. */
  close() {
    this.#stop?.();
    this.#stop = null;
    clearInterval(this.#tick);
    clearTimeout(this.#relist);
  }

  offer(state) {
    const before = this.jobs.get(state.job_id)?.state;
    if (!this.jobs.offer(state)) return;
    if (before && before.status !== state.status && this.#stop) {
      this.announce(`${state.name || "A job"} is ${state.status}, ${counted(state.document_count, "document")}`);
    }
    this.#refresh();
  }

  /** Read again what is listed: the socket brings what lives, not what began and ended meanwhile. */
  async reload() {
    clearTimeout(this.#relist);
    if (!this.#stop || this.#isLoading) return;
    const wanted = Math.max(FIRST_PAGE, this.jobs.size);
    const before = new Set(this.jobs.ids);
    const listed = new Set();
    this.#isLoading = true;
    try {
      let next = null;
      do {
        const page = await this.tallyho.jobs({ before: next, limit: Math.min(NEXT_PAGE, wanted - listed.size) });
        page.jobs.forEach((state) => listed.add(state.job_id) && this.offer(state));
        next = page.next;
      } while (next && listed.size < wanted);
      this.jobs.keepListed(before, listed, next);
      this.#next = next;
      this.#wasListed = true;
      showText(byId("list-error"), null);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      this.onProblem(problem);
      if (problem.status === 401) return; // the user is asked for a key
      showText(byId("list-error"), `The list of jobs is not complete: ${problem.message}`);
      this.#relist = setTimeout(() => this.reload(), RELIST_MS);
    } finally {
      this.#isLoading = false;
    }
    this.#arrange();
  }

  async #loadMore() {
    if (!this.#next || this.#isLoading) return;
    this.#isLoading = true;
    this.#arrange();
    try {
      const page = await this.tallyho.jobs({ before: this.#next, limit: NEXT_PAGE });
      page.jobs.forEach((state) => this.offer(state));
      this.#next = page.next;
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      showText(byId("list-error"), `Older jobs could not be read: ${problem.message}`);
    } finally {
      this.#isLoading = false;
    }
    this.#arrange();
  }

  #loadNearTheEnd() {
    if (this.#stop && this.#next && this.list.range()[1] > this.#shown.length - NEAR_THE_END_ROWS) this.#loadMore();
  }

  #narrow() {
    this.#text = byId("search").value;
    this.#filter = byId("filters").querySelector(":checked").value;
    history.replaceState(null, "", pathOfJobs(this.#filter, this.#text.trim()));
    this.#arrange();
  }

  #clear() {
    byId("search").value = "";
    byId("filters").querySelector("[value=all]").checked = true;
    this.#narrow();
    byId("search").focus();
  }

  #arrange() {
    if (!this.#stop) return;
    this.#shown = this.jobs.matching(this.#filter, this.#text);
    this.#places = new Map(this.#shown.map((id, index) => [id, index]));
    byId("jobs-table").setAttribute("aria-rowcount", String(this.#shown.length + 1));
    this.list.show(this.#shown.length, (index) => this.#shown[index], (id) => this.#places.get(id) ?? -1);
    this.#summarize();
    this.#loadNearTheEnd(); // whoever scrolled to the end while something was being read does not scroll again
  }

  #summarize() {
    const tally = this.jobs.tally();
    for (const label of byId("filters").querySelectorAll("[data-count]")) setText(label, number(tally[label.dataset.count]));
    const isNarrow = this.#filter !== "all" || this.#text.trim() !== "";
    byId("empty").hidden = !this.#wasListed || tally.all > 0;
    byId("no-match").hidden = !isNarrow || this.#shown.length > 0 || tally.all === 0;
    byId("jobs-table").hidden = this.#shown.length === 0;
    byId("toolbar").hidden = tally.all === 0;
    byId("loading").hidden = this.#wasListed || tally.all > 0;
    byId("load-more").hidden = !this.#next;
    setText(byId("load-more"), this.#isLoading ? "Loading older jobs…" : "Load older jobs");
    const live = tally.live ? `${number(tally.live)} live · ${rate(tally.perSecond)} documents/s` : "";
    setText(byId("summary"), live);
    if (isNarrow && this.#next && this.jobs.size < MOST_SEARCHED) this.#loadMore(); // a search is of older jobs, too
  }

  // The arrows move from job to job, also to those that are not in sight.
  #onKey(event) {
    const row = event.target.closest("[role=row]");
    const steps = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
    if (!row || !steps || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    this.list.focus(Math.min(this.#shown.length - 1, Math.max(0, row.listIndex + steps)));
  }

  #makeRow(id) {
    const parts = partsOf(byId("job-row"));
    parts.element.dataset.job = id;
    parts.name.href = `#/jobs/${id}`;
    let drawn = "";
    const draw = (index) => {
      const { state, pace } = this.jobs.get(id);
      const perSecond = isTerminal(state) ? state.documents_per_second : pace.perSecond(performance.now());
      const now = Date.now();
      const look = `${index} ${state.revision} ${perSecond.toFixed(1)} ${Math.floor(now / 1000)}`;
      if (look === drawn) return;
      drawn = look;
      parts.element.setAttribute("aria-rowindex", String(index + 2));
      drawRow(parts, state, perSecond, now);
    };
    return { element: parts.element, draw };
  }
}

function drawRow(parts, state, perSecond, now) {
  const name = state.name || `Job ${state.job_id.slice(0, 8)}`;
  if (parts.element.dataset.status !== state.status) parts.element.dataset.status = state.status;
  setText(parts.name, name);
  parts.name.title = name;
  setText(parts.note, noteOn(state));
  parts.note.title = parts.note.textContent;
  setText(parts.status, state.stalled_since ? "stalled" : state.status);
  parts.status.classList.toggle("stalled", Boolean(state.stalled_since));
  setText(parts.count, number(state.document_count));
  setText(parts.rate, perSecond > 0 ? `${isTerminal(state) ? "avg " : ""}${rate(perSecond)}/s` : "");
  drawBar(parts.bar, shares(state), sharesInWords(state));
  setText(parts.pages, pagesOf(state));
  const created = Date.parse(state.created_at);
  setText(parts.age, age(created, now));
  parts.age.dateTime = state.created_at;
  parts.age.title = new Date(created).toLocaleString("en");
  setText(parts.took, tookOf(state, now));
}

function noteOn(state) {
  if (state.error) return state.error;
  if (state.stalled_since) return `No change since ${new Date(state.stalled_since).toLocaleTimeString("en-GB")}`;
  return state.job_id.slice(0, 8);
}

function pagesOf(state) {
  const failed = state.failed_children ? ` · ${number(state.failed_children)} failed` : "";
  if (isTerminal(state)) return `${counted(state.total_children, "page")}${failed}`;
  return `${number(finishedPages(state))} of ${counted(state.total_children, "page")}${failed}`;
}

function tookOf(state, now) {
  if (!state.started_at) return "";
  const end = state.finished_at ? Date.parse(state.finished_at) : now;
  return `${isTerminal(state) ? "took" : "for"} ${duration(end - Date.parse(state.started_at))}`;
}
