// One job: what it does, and what can be done with it.

import { byId, drawBar, h, setText, showText, throttled } from "./dom.js";
import { DocumentsPanel } from "./documents_panel.js";
import { clock, counted, duration, moment, number, rate } from "./format.js";
import { LogPanel } from "./log_panel.js";
import { Pace, finishedPages, optionsInWords, shares, sharesInWords } from "./model.js";
import { PagesPanel } from "./pages_panel.js";
import { Plot } from "./plot.js";
import { Problem, isTerminal } from "./tallyho.js";

const SUMMARY_MS = 3000;
const LEDGER_MS = 6000; // every URL is counted for it

/** Shows one job at a time. `onState(state)` gets each new state, `ask(text)` whether the user is sure. */
export class JobView {
  #id = null;
  #job = null;
  #state = null;
  #pace = null;
  #stops = [];
  #ticks = 0;
  #summaries = 0;
  #counts = 0;

  constructor({ tallyho, onState, onProblem, confirm, go }) {
    Object.assign(this, { tallyho, onState, onProblem, confirm, go });
    this.documents = new DocumentsPanel(tallyho);
    this.pages = new PagesPanel(tallyho);
    this.log = new LogPanel();
    this.plot = new Plot();
    byId("pause").addEventListener("click", () => this.#act(this.#state.status === "paused" ? "resume" : "pause"));
    byId("cancel").addEventListener("click", () => this.#cancel());
    byId("again").addEventListener("click", () => this.#startAs("again", () => this.#copy()));
    byId("retry-failed").addEventListener("click", () => this.#startAs("retry-failed", () => this.tallyho.retry(this.#id)));
    byId("limits").addEventListener("submit", (event) => this.#change(event));
    this.#drawSoon = throttled(100, () => this.#draw());
    this.#summarizeSoon = throttled(SUMMARY_MS, () => this.#summarize());
    this.#countUrlsSoon = throttled(LEDGER_MS, () => this.#countUrls());
  }

  #drawSoon;
  #summarizeSoon;
  #countUrlsSoon;

  get state() {
    return this.#state;
  }

  /** Show a job; `known` is its newest state, where one is known. */
  open(jobId, known) {
    if (this.#id === jobId) return;
    this.close();
    this.#id = jobId;
    this.plot.clear();
    this.pages.clear();
    this.log.clear();
    byId("job-body").hidden = !known;
    showText(byId("job-problem"), null);
    showText(byId("action-problem"), null);
    byId("options").replaceChildren();
    if (known) this.#offer(known);
    const onError = (problem) => this.#fail(problem);
    this.#stops = [
      this.tallyho.follow(jobId, (state) => this.#offer(state), { revision: known?.revision, onError }),
      this.tallyho.followLog(jobId, (line) => this.log.add(line), { onError: () => {} }),
      () => clearInterval(this.#ticks),
    ];
    this.#ticks = setInterval(() => this.#drawSoon(), 1000);
    this.#describe();
  }

  /** Leave the page. */
  close() {
    this.#stops.forEach((stop) => stop());
    this.documents.close();
    this.#summarizeSoon.cancel();
    this.#countUrlsSoon.cancel();
    this.#drawSoon.cancel();
    this.#stops = [];
    this.#id = this.#job = this.#state = this.#pace = null;
  }

  /** Read again what no stream brings; after a reconnect and when the job has changed. */
  refresh() {
    if (this.#id && !this.#job) this.#describe();
    if (this.#state) this.#readAgain(true);
  }

  // Nothing changes after its end: what was read before that is read again, and at once.
  #readAgain(atOnce = isTerminal(this.#state)) {
    for (const soon of [this.#summarizeSoon, this.#countUrlsSoon]) atOnce ? soon.now() : soon();
  }

  async #describe() {
    const id = this.#id;
    const job = await this.#get(this.tallyho.job(id));
    if (!job || id !== this.#id) return;
    this.#job = job;
    this.#offer(job);
    this.#drawOptions();
    this.#drawNotice();
  }

  async #summarize() {
    const id = this.#id;
    const turn = ++this.#summaries;
    const summary = await this.#get(this.tallyho.summary(id));
    if (id !== this.#id || turn !== this.#summaries) return; // a newer one is on its way
    if (!summary) return this.#summarizeSoon();
    this.plot.add(summary.documents.map(({ saved_at, ordinal }) => ({ at: Date.parse(saved_at), count: ordinal })));
    this.#draw();
    if (this.#state.stalled_since) this.#describe();
  }

  async #countUrls() {
    const id = this.#id;
    const turn = ++this.#counts;
    const ledger = await this.#get(this.tallyho.ledger(id));
    if (id !== this.#id || turn !== this.#counts) return;
    if (!ledger) return this.#countUrlsSoon();
    this.pages.showLedger(ledger);
  }

  // What can't be read now is read again later.
  async #get(answer) {
    try {
      return await answer;
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      this.#fail(problem);
      return null;
    }
  }

  #fail(problem) {
    this.onProblem(problem);
    const isNoId = problem.status === 422 && problem.errors.some(({ field }) => field === "job_id");
    if ((problem.status !== 404 && !isNoId) || this.#state) return;
    byId("job-body").hidden = true;
    showText(byId("job-problem"), "There is no such crawl. It may have been removed, or its address is incomplete.");
  }

  #offer(state) {
    const before = this.#state;
    if (state.job_id !== this.#id || (before && before.revision >= state.revision)) return;
    this.#state = state;
    this.#pace ??= new Pace(performance.now(), state.document_count);
    this.#pace.note(performance.now(), state.document_count);
    if (before) this.plot.add([{ at: Date.parse(state.timestamp), count: state.document_count }]);
    byId("job-body").hidden = false;
    if (!before) this.documents.open(state);
    this.documents.update(state);
    this.pages.update(state);
    this.#readAgain();
    if (before?.status !== state.status) this.#drawOptions();
    this.onState(state, before);
    this.#drawSoon();
  }

  #draw() {
    const state = this.#state;
    if (!state) return;
    const name = state.name || `Job ${state.job_id.slice(0, 8)}`;
    byId("job-body").dataset.status = state.status;
    setText(byId("job-name"), name);
    byId("job-name").title = name;
    setText(byId("job-status"), state.status);
    document.title = `${number(state.document_count)} · ${name} · Tallyho`;
    setText(byId("job-count"), number(state.document_count));
    setText(byId("job-unit"), state.document_count === 1 ? "document" : "documents");
    this.#drawFacts(state);
    drawBar(byId("job-bar"), shares(state), sharesInWords(state));
    this.plot.draw(state);
    this.#drawNotice();
    this.#drawActions(state);
  }

  #drawFacts(state) {
    const ended = isTerminal(state);
    const perSecond = ended ? state.documents_per_second : this.#pace.perSecond(performance.now());
    setText(byId("rate-name"), ended ? "Rate on average" : "Rate now");
    setText(byId("job-rate"), `${rate(perSecond)}/s`);
    const end = state.finished_at ? Date.parse(state.finished_at) : Date.now();
    setText(byId("job-time"), state.started_at ? duration(end - Date.parse(state.started_at)) : "not started");
    setText(byId("job-pages"), `${number(finishedPages(state))} of ${number(state.total_children)}`);
  }

  #drawActions(state) {
    const ended = isTerminal(state);
    const buttons = { pause: ended || state.status === "cancelling", cancel: ended || state.status === "cancelling", again: !ended || !this.#job, "retry-failed": !ended || !state.failed_children };
    for (const [id, isHidden] of Object.entries(buttons)) {
      if (isHidden && document.activeElement === byId(id)) byId("job-name").focus(); // else the focus would be lost
      byId(id).hidden = isHidden;
    }
    byId("limits").hidden = ended || state.status === "cancelling" || !this.#job;
    setText(byId("pause"), state.status === "paused" ? "Resume" : "Pause");
  }

  #drawNotice() {
    const [title, text, urls] = noticeOf(this.#state, this.#job);
    byId("job-notice").hidden = !title;
    if (!title) return;
    setText(byId("notice-title"), title);
    showText(byId("notice-text"), text);
    if (byId("notice-list").childElementCount !== urls.length) byId("notice-list").replaceChildren(...urls.map((url) => h("li", {}, url)));
  }

  #drawOptions() {
    const [job, state] = [this.#job, this.#state];
    if (!job) return;
    const times = [["Created", state.created_at], ["Started", state.started_at], ["Ended", state.finished_at]];
    const rows = [...optionsInWords(job), ...times.filter(([, time]) => time).map(([name, time]) => [name, [moment(Date.parse(time))]]), ["Id", [job.job_id]]];
    if (!byId("limits").contains(document.activeElement)) {
      byId("limits").max_pages.value = job.options.max_pages ?? "";
      byId("limits").delay.value = job.options.delay ?? "";
    }
    byId("options").replaceChildren(
      ...rows.map(([name, values]) => h("div", {}, h("dt", {}, name), ...values.slice(0, 20).map((value) => h("dd", {}, value)))),
    );
  }

  async #act(command) {
    const id = this.#id;
    showText(byId("action-problem"), null);
    try {
      const job = await this.tallyho[command](id);
      if (id === this.#id) this.#offer(job);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      this.onProblem(problem);
      showText(byId("action-problem"), `The crawl could not be changed: ${problem.message}`);
    }
  }

  async #cancel() {
    const saved = this.#state.document_count;
    const kept = saved ? `The ${counted(saved, "document")} saved so far ${saved === 1 ? "stays" : "stay"}.` : "Nothing has been saved yet.";
    if (await this.confirm(`${kept} A cancelled crawl can't go on; it can only be started again.`)) await this.#act("cancel");
  }

  #copy() {
    const { seeds, name, options } = this.#job;
    return this.tallyho.createJob({ seeds, name, options });
  }

  /** Go to the job that `start` creates, with the button out of reach meanwhile. */
  async #startAs(button, start) {
    byId(button).disabled = true;
    showText(byId("action-problem"), null);
    try {
      this.go(await start());
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      this.onProblem(problem);
      showText(byId("action-problem"), `It could not be started again: ${problem.message}`);
    } finally {
      byId(button).disabled = false;
    }
  }

  async #change(event) {
    event.preventDefault();
    const form = event.target;
    if (!form.reportValidity()) return;
    const id = this.#id;
    const limit = (field) => (field.value === "" ? null : Number(field.value));
    const limits = { max_pages: limit(form.max_pages), delay: limit(form.delay) };
    showText(byId("action-problem"), null);
    try {
      const job = await this.tallyho.change(id, limits);
      if (id !== this.#id) return;
      this.#job = job;
      this.#offer(job);
      this.#drawOptions();
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      this.onProblem(problem);
      showText(byId("action-problem"), `The crawl could not be changed: ${problem.message}`);
    }
  }
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1).replace(/\.$/, "")}.`;

// What is out of the ordinary: a title, what it means, and the pages that it is about.
function noticeOf(state, job) {
  if (!state) return [null];
  if (state.status === "failed") {
    const advice = state.document_count ? "What was saved stays." : "Check the address and the options, then crawl again.";
    return ["This crawl failed", `${state.error ? `${sentence(state.error)} ` : ""}${advice}`, []];
  }
  if (state.status === "paused") return ["Paused", "No more pages are fetched until it is resumed.", []];
  if (state.status === "cancelling") return ["Cancelling", "Pages that are being fetched are finished first.", []];
  if (!state.stalled_since) return [null];
  const unfinished = state.pending_children + state.running_children;
  const waits = unfinished ? `waiting for ${counted(unfinished, "page")}` : "waiting for the crawler";
  const pages = job?.waits_for?.pages ?? [];
  return [`No change since ${clock(Date.parse(state.stalled_since))}`, `The crawl is ${waits}.`, pages.slice(0, 5).map((page) => page.url ?? page.page_id)];
}
