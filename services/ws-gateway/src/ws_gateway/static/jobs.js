// The newest state of each job, and the list that shows it.

export const MOST_SHOWN = 200;
const TERMINAL = new Set(["completed", "failed", "cancelled"]);
const PARTS = ["completed", "failed", "skipped", "cancelled", "running"];
const LEGEND = ["completed", "running", "pending", "failed", "skipped", "cancelled"];
const number = new Intl.NumberFormat("en");
const rate = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export const isTerminal = (state) => TERMINAL.has(state.status);

/** Holds one state per job; an older revision never replaces a newer one. */
export class JobList {
  #states = new Map();
  #rows = new Map();
  #changed = new Set();
  #frame = 0;

  constructor(root, template, { onCancel, onChange }) {
    this.root = root;
    this.template = template;
    this.onCancel = onCancel;
    this.onChange = onChange;
    setInterval(() => this.#tick(), 1000);
  }

  /** Take a state in; returns whether it was newer than the one known. */
  offer(state) {
    const known = this.#states.get(state.job_id);
    if (known && known.revision >= state.revision) return false;
    this.#states.set(state.job_id, state);
    this.#changed.add(state.job_id);
    this.#frame ||= requestAnimationFrame(() => this.#draw());
    return true;
  }

  get states() {
    return [...this.#states.values()];
  }

  live() {
    return this.states.filter((state) => !isTerminal(state));
  }

  #draw() {
    this.#frame = 0;
    for (const id of this.#changed) {
      const state = this.#states.get(id);
      const row = this.#rows.get(id) ?? this.#insert(state);
      row.draw(state);
    }
    this.#changed.clear();
    this.#prune();
    this.onChange(this);
  }

  #insert(state) {
    const row = new Row(this.template, state.job_id, this.onCancel);
    this.#rows.set(state.job_id, row);
    row.created = state.created_at;
    const next = [...this.root.children].find((element) => element.row.created < row.created);
    this.root.insertBefore(row.element, next ?? null);
    return row;
  }

  #prune() {
    while (this.root.children.length > MOST_SHOWN) {
      const id = this.root.lastElementChild.row.id;
      this.root.lastElementChild.remove();
      this.#rows.delete(id);
      this.#states.delete(id);
    }
  }

  #tick() {
    for (const state of this.live()) this.#rows.get(state.job_id)?.drawTimes(state);
  }
}

class Row {
  constructor(template, id, onCancel) {
    this.id = id;
    this.element = template.content.firstElementChild.cloneNode(true);
    this.element.row = this;
    this.element.dataset.job = id;
    const find = (selector) => this.element.querySelector(selector);
    this.title = find("h3");
    this.status = find(".status");
    this.count = find(".count");
    this.unit = find(".tally span");
    this.progress = find(".progress");
    this.parts = find(".parts");
    this.meta = find(".meta");
    this.problem = find(".problem");
    this.silence = find(".silence");
    this.cancel = find(".cancel");
    this.cancel.addEventListener("click", () => this.#confirmCancel(onCancel));
  }

  draw(state) {
    this.element.dataset.status = state.status;
    this.title.textContent = state.name || `Job ${state.job_id.slice(0, 8)}`;
    this.title.title = `${this.title.textContent} (${state.job_id})`;
    this.status.textContent = state.status;
    this.count.textContent = number.format(state.document_count);
    this.unit.textContent = state.document_count === 1 ? "document" : "documents";
    this.cancel.hidden = isTerminal(state) || state.status === "cancelling";
    this.cancel.setAttribute("aria-label", `Cancel ${this.title.textContent}`);
    this.showProblem(state.error);
    this.#showSilence(state);
    this.#drawProgress(state);
    this.drawTimes(state);
  }

  drawTimes(state) {
    const facts = [];
    if (state.documents_per_second > 0) facts.push(`${rate.format(state.documents_per_second)} docs/s`);
    if (state.started_at) {
      const end = state.finished_at ? Date.parse(state.finished_at) : Date.now();
      const took = duration(end - Date.parse(state.started_at));
      facts.push(isTerminal(state) ? `took ${took}` : `for ${took}`);
    }
    if (isTerminal(state) || !state.started_at) facts.push(clock(new Date(state.created_at)));
    this.meta.textContent = facts.join(" · ");
  }

  showProblem(text) {
    this.problem.hidden = !text;
    this.problem.textContent = text ?? "";
  }

  #showSilence(state) {
    this.silence.hidden = !state.stalled_since;
    if (!state.stalled_since) return;
    const unfinished = state.pending_children + state.running_children;
    const waits = unfinished ? `waiting for ${number.format(unfinished)} page${unfinished === 1 ? "" : "s"}` : "waiting for the crawler";
    this.silence.textContent = `No change since ${clock(new Date(state.stalled_since))}, ${waits}`;
  }

  #drawProgress(state) {
    const total = state.total_children;
    const closed = total - state.pending_children - state.running_children;
    this.progress.setAttribute("aria-valuemax", total);
    this.progress.setAttribute("aria-valuenow", closed);
    this.progress.setAttribute("aria-valuetext", `${number.format(closed)} of ${number.format(total)} pages`);
    for (const part of PARTS) {
      const share = total ? (state[`${part}_children`] / total) * 100 : 0;
      this.progress.querySelector(`[data-part=${part}]`).style.width = `${share}%`;
    }
    const shown = LEGEND.filter((part) => state[`${part}_children`] > 0 || part === "completed");
    this.parts.replaceChildren(...shown.map((part) => legend(part, state[`${part}_children`])));
  }

  // The second click within three seconds cancels: a crawl that was cancelled can't go on.
  #confirmCancel(onCancel) {
    if (this.cancel.dataset.sure) {
      delete this.cancel.dataset.sure;
      this.cancel.hidden = true;
      onCancel(this);
      return;
    }
    this.cancel.dataset.sure = "yes";
    this.cancel.textContent = "Cancel this crawl?";
    setTimeout(() => {
      delete this.cancel.dataset.sure;
      this.cancel.textContent = "Cancel";
    }, 3000);
  }
}

function legend(part, count) {
  const item = document.createElement("div");
  item.dataset.part = part;
  const name = document.createElement("dt");
  name.textContent = part;
  const value = document.createElement("dd");
  value.textContent = number.format(count);
  item.append(name, value);
  return item;
}

function clock(date) {
  const today = date.toDateString() === new Date().toDateString();
  return date.toLocaleString("en", today ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" });
}

function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const minutes = Math.floor(seconds / 60);
  const parts = [[Math.floor(minutes / 60), "h"], [minutes % 60, "min"], [seconds % 60, "s"]];
  const first = parts.findIndex(([value]) => value > 0);
  if (first < 0) return "0\u00a0s";
  return parts.slice(first, first + 2).map(([value, unit]) => `${value}\u00a0${unit}`).join(" ");
}
