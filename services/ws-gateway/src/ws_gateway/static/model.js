// What the pages show, as data: no page and no network here, so that Node.js can test it.

import { isTerminal } from "./tallyho.js";

export const OUTCOMES = ["completed", "failed", "skipped", "cancelled", "running", "pending"];

export const FILTERS = {
  all: () => true,
  live: (state) => !isTerminal(state),
  completed: (state) => state.status === "completed",
  failed: (state) => state.status === "failed",
  cancelled: (state) => state.status === "cancelled",
};

/** The newest state of each job, the newest job first. */
export class Jobs {
  #entries = new Map();
  #order = [];

  get size() {
    return this.#order.length;
  }

  /** Take a state in; false when it is not newer than the one known, which then stays. */
  offer(state, now = performance.now()) {
    const known = this.#entries.get(state.job_id);
    if (known && known.state.revision >= state.revision) return false;
    if (state.deleted_at) {
      this.#order = this.#order.filter((entry) => entry !== known);
      return this.#entries.delete(state.job_id);
    }
    if (known) {
      known.state = state;
      known.pace.note(now, state.document_count);
      return true;
    }
    const entry = { state, created: Date.parse(state.created_at), pace: new Pace(now, state.document_count) };
    this.#entries.set(state.job_id, entry);
    this.#order.splice(this.#placeOf(entry), 0, entry);
    return true;
  }

  /**
   * Drop those of `ids` that a listing lacks: they were deleted. It holds the ids `listed`, down to its oldest one `last`, or
   * every job (null).
   */
  keepListed(ids, listed, last) {
    const end = last ? this.#order.findIndex(({ state }) => state.job_id === last) : Infinity;
    const isGone = ({ state }, place) => place < end && ids.has(state.job_id) && !listed.has(state.job_id);
    for (const { state } of this.#order.filter(isGone)) this.#entries.delete(state.job_id);
    this.#order = this.#order.filter(({ state }) => this.#entries.has(state.job_id));
  }

  get ids() {
    return [...this.#entries.keys()];
  }

  get(id) {
    return this.#entries.get(id);
  }

  /** The ids of the jobs that pass a filter and whose name or id holds a text. */
  matching(filter, text = "") {
    const passes = FILTERS[filter] ?? FILTERS.all;
    const wanted = text.trim().toLowerCase();
    const found = this.#order.filter(({ state }) => passes(state) && (!wanted || isNamed(state, wanted)));
    return found.map(({ state }) => state.job_id);
  }

  /** How many pass each filter, and how many documents all live jobs save a second. */
  tally(now = performance.now()) {
    const tally = { all: this.#order.length, live: 0, completed: 0, failed: 0, cancelled: 0, perSecond: 0 };
    for (const { state, pace } of this.#order) {
      if (isTerminal(state)) tally[state.status]++;
      else {
        tally.live++;
        tally.perSecond += pace.perSecond(now);
      }
    }
    return tally;
  }

  #placeOf(entry) {
    let [low, high] = [0, this.#order.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (isBefore(this.#order[middle], entry)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

const isNamed = (state, text) => state.name.toLowerCase().includes(text) || state.job_id.startsWith(text);

function isBefore(one, other) {
  return one.created === other.created ? one.state.job_id > other.state.job_id : one.created > other.created;
}

/** How fast a count rises now: the mean of the last seconds, 0 when it stands still. */
export class Pace {
  #at;
  #count;
  #value = 0;

  constructor(at, count) {
    this.#at = at;
    this.#count = count;
  }

  note(at, count) {
    const seconds = (at - this.#at) / 1000;
    if (seconds < 1) return;
    const value = (count - this.#count) / seconds;
    this.#value = this.#value ? (this.#value + value) / 2 : value;
    this.#at = at;
    this.#count = count;
  }

  perSecond(now) {
    return now - this.#at > 6000 ? 0 : this.#value;
  }
}

/** The outcomes of a job's pages as shares of all, in percent; nothing yet gives none. */
export function shares(state) {
  const total = state.total_children;
  return OUTCOMES.filter((outcome) => outcome !== "pending").map((outcome) => ({
    outcome,
    percent: total ? (state[`${outcome}_children`] / total) * 100 : 0,
  }));
}

/** `41 completed, 2 failed`, for those who can't see the bar. */
export function sharesInWords(state) {
  const parts = OUTCOMES.filter((outcome) => state[`${outcome}_children`] > 0);
  return parts.map((outcome) => `${state[`${outcome}_children`]} ${outcome}`).join(", ") || "no pages yet";
}

export const finishedPages = (state) =>
  state.completed_children + state.failed_children + state.skipped_children + state.cancelled_children;

const MOST_SAMPLES = 480;

/** How a count rose: pairs of a time and a count. Old ones are thinned out, so that a crawl of days fits. */
export class Curve {
  #samples = [];

  /** Samples may come in any order; the count at a time is the largest of those up to it. */
  add(samples) {
    this.#samples.push(...samples);
    this.#samples.sort((one, other) => one.at - other.at || one.count - other.count);
    let most = 0;
    for (const sample of this.#samples) sample.count = most = Math.max(most, sample.count);
    if (this.#samples.length > MOST_SAMPLES) this.#samples = this.#samples.filter((_, i) => i % 2 === 0 || i === this.#samples.length - 1);
  }

  /** Documents a second in `steps` equal parts of the time from `from` to `to`. */
  rates(from, to, steps) {
    const width = (to - from) / steps;
    if (!(width > 0)) return [];
    const counts = this.#countsAt(Array.from({ length: steps + 1 }, (_, i) => from + i * width), from);
    return counts.slice(1).map((count, i) => ((count - counts[i]) / width) * 1000);
  }

  // Between two samples the count is taken to rise evenly.
  #countsAt(times, from) {
    const points = [{ at: from, count: 0 }, ...this.#samples.filter(({ at }) => at > from)];
    let i = 0;
    return times.map((time) => {
      while (i + 1 < points.length && points[i + 1].at <= time) i++;
      const [before, after] = [points[i], points[i + 1]];
      if (!after) return before.count;
      return before.count + ((after.count - before.count) * Math.max(0, time - before.at)) / (after.at - before.at);
    });
  }
}

/**
 * URLs by what became of them, and below that the reasons that are known for it. The counts of the states of pages are those
 * of the job; what was never to be visited is only in the ledger.
 */
export function urlGroups(state, entries) {
  const pages = entries.filter((entry) => entry.is_page);
  const groups = OUTCOMES.filter((outcome) => state[`${outcome}_children`] > 0 || outcome === "completed").map((outcome) => ({
    outcome,
    urls: state[`${outcome}_children`],
    reasons: pages.filter((entry) => entry.state === outcome && entry.reason),
  }));
  const reasons = entries.filter((entry) => !entry.is_page);
  const urls = reasons.reduce((sum, entry) => sum + entry.urls, 0);
  return urls ? [...groups, { outcome: "not visited", urls, reasons }] : groups;
}

/** What a path after `#` means: `{view: "jobs", filter, text}` or `{view: "job", jobId, documentId}`. */
export function routeOf(hash) {
  const [path, query = ""] = hash.replace(/^#/, "").split("?");
  const [, view, jobId, inside, documentId] = path.split("/");
  if (view === "jobs" && jobId) return { view: "job", jobId: jobId.toLowerCase(), documentId: inside === "documents" ? documentId : undefined };
  const wanted = new URLSearchParams(query);
  return { view: "jobs", filter: Object.hasOwn(FILTERS, wanted.get("status") ?? "") ? wanted.get("status") : "all", text: wanted.get("q") ?? "" };
}

/** The path of a list that is narrowed down. */
export function pathOfJobs(filter, text) {
  const query = new URLSearchParams({ ...(filter === "all" ? {} : { status: filter }), ...(text ? { q: text } : {}) });
  return query.size ? `#/?${query}` : "#/";
}

/** What a job was asked to do, in words: pairs of a name and a value. */
export function optionsInWords({ seeds, options }) {
  const { max_pages, max_depth, include, exclude, same_site, subdomains, below, max_failures, delay, markdown } = options;
  const urls = { drop_tracking: "without tracking parameters", canonical: "by their canonical addresses" };
  const rows = [
    ["Starts at", seeds],
    ["Sitemaps", { include: ["read, in addition to links"], only: ["read, and no links followed"] }[options.sitemap] ?? []],
    ["Lists of URLs", options.url_lists ?? []],
    ["Modified since", options.modified_since ? [options.modified_since] : []],
    ["Known documents", options.revalidate === false ? ["fetched anew"] : []],
    ["At most", [max_pages === null ? "no limit" : `${max_pages.toLocaleString("en")} documents`]],
    ["Of one host", options.max_host_pages ? [`at most ${options.max_host_pages.toLocaleString("en")} pages`] : []],
    ["Depth", [max_depth === null ? "any" : `${max_depth} links from the start`]],
    ["Follows", [same_site ? `links on this site${subdomains ? " and its subdomains" : ""}` : "links to any site"]],
    ["Pages elsewhere", options.outlinks ? ["those that this site links to"] : []],
    ["Only below", below ?? []],
    ["Include", include],
    ["Exclude", exclude],
    ["Addresses", Object.keys(urls).filter((name) => options[name]).map((name) => urls[name])],
    ["Robots tags", options.robots_tags === false ? ["ignored"] : []],
    ["Fails after", max_failures === null ? [] : [`${max_failures.toLocaleString("en")} failed pages`]],
    ["Waits", delay ? [`${delay} seconds between requests to a host`] : []],
    ["Renders", options.render === "browser" ? ["pages in a browser"] : []],
    ["Keeps", [markdown ? "text as markdown" : "plain text", ...(options.keep_html ? ["the source of each page"] : [])]],
  ];
  return rows.filter(([, values]) => values.length);
}

/** What the form asks for, as the API wants it. */
export function submission(fields) {
  const text = (name) => (fields[name] ?? "").trim();
  const options = { same_site: Boolean(fields.same_site), subdomains: Boolean(fields.subdomains) };
  for (const name of ["max_pages", "max_depth"]) if (text(name)) options[name] = Number(text(name));
  for (const name of ["include", "exclude"]) if (text(name)) options[name] = [text(name)];
  const seed = text("seed");
  return { seeds: [/^[\w+.-]+:\/\//.test(seed) || !seed ? seed : `https://${seed}`], name: text("name"), options };
}
