// Tallyho's JavaScript client, without dependencies, for browsers and for Node.js: this file and http.js beside it.
// See docs/javascript-client.md.

import { HttpApi, Problem } from "./http.js";

export { Problem };

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 15_000;
const SILENCE_MS = 45_000; // the gateway pings every 20 s
const MOST_REVISIONS = 256;
const TERMINAL = new Set(["completed", "failed", "cancelled"]);

/** Whether nothing of a job will ever change again. */
export const isTerminal = (state) => TERMINAL.has(state.status);

/** A gateway: its HTTP API, and one WebSocket that is opened when something is first followed. */
export class Tallyho extends HttpApi {
  #socket = null;
  #subscriptions = new Map();
  #state = "idle";
  #failures = 0;
  #retry = 0;
  #watchdog = 0;
  #heardAt = 0;
  #opening = 0;

  /**
   * url: where the gateway is. key: an API key, where it wants one.
   * onConnection({state, retryAt, reason}): "connecting"; "live": all that is followed is up to date;
   * "waiting": will try again at `retryAt` (ms); "unauthorized", "closed": will not.
   */
  constructor({ url, key, fetch, onConnection = () => {}, WebSocket } = {}) {
    super({ url, key, fetch });
    this.onConnection = onConnection;
    this.WebSocket = WebSocket ?? globalThis.WebSocket;
    globalThis.addEventListener?.("online", () => this.#state === "waiting" && this.reconnect());
  }

  // Live. Each returns a function that ends it.

  /** Every newer state of one job (or of all: null), the newest known first; `revision`: the newest that you have. */
  follow(job, onState, { revision = -1, intervalMs, onError } = {}) {
    const jobId = asTold(job);
    return this.#add({ stream: "progress", jobId, onItem: onState, intervalMs, onError, newest: new Map([[jobId, revision]]), live: new Map() });
  }

  /** The documents of a job after an ordinal, in lists without gap or repeat. */
  followDocuments(jobId, onDocuments, { after = 0, intervalMs, onError } = {}) {
    return this.#add({ stream: "document_saved", jobId: asTold(jobId), onItem: onDocuments, intervalMs, onError, ordinal: after });
  }

  /** The lines of a job's log: the last ones, then new ones. */
  followLog(jobId, onLine, { onError } = {}) {
    return this.#add({ stream: "job_log", jobId: asTold(jobId), onItem: onLine, onError, lines: new Set() });
  }

  /** `for await`: the newest state of a job whenever there is one, until its last. */
  async *states(jobId) {
    let latest = null;
    let problem = null;
    let wake = () => {};
    const stop = this.follow(jobId, (state) => wake((latest = state)), { onError: (error) => wake((problem = error)) });
    try {
      for (let state = null; !state || !isTerminal(state); ) {
        while (!latest && !problem) await new Promise((resolve) => (wake = resolve));
        if (problem) throw problem;
        [state, latest] = [latest, null];
        yield state;
      }
    } finally {
      stop();
    }
  }

  /** `for await`: each document of a job once, until the job has ended and there are no more. */
  async *documents(jobId, { after = 0 } = {}) {
    for await (const { document_count } of this.states(jobId)) {
      while (after < document_count) {
        const { documents } = await this.#patiently(() => this.documentPage(jobId, { after, limit: 1000 }));
        for (const document of documents) {
          after = document.ordinal;
          yield document;
        }
      }
    }
  }

  // What can't be answered now, as at a restart, is asked again; not after `close`.
  async #patiently(ask) {
    for (let failures = 0; ; failures++) {
      try {
        return await ask();
      } catch (problem) {
        const isPassing = problem instanceof Problem && (!problem.status || problem.status === 429 || problem.status >= 500);
        if (!isPassing || this.#state === "idle") throw problem;
        await new Promise((resolve) => setTimeout(resolve, backoff(failures)));
      }
    }
  }

  /** Try again now: instead of later, or with another key after "unauthorized". */
  reconnect() {
    if (!["waiting", "unauthorized", "closed"].includes(this.#state)) return;
    clearTimeout(this.#retry);
    this.#connect();
  }

  /** End everything; what is followed can be followed again. */
  close(reason = "closed") {
    this.#opening++;
    clearTimeout(this.#retry);
    this.#hangUp();
    const ended = [...this.#subscriptions.values()];
    this.#subscriptions.clear();
    this.#tell("idle");
    for (const subscription of ended) subscription.onError?.(new Problem(0, { detail: reason, code: "closed" }));
  }

  #add(subscription) {
    const { stream, jobId } = subscription;
    const key = keyOf(stream, jobId);
    if (this.#subscriptions.has(key)) throw new Error(`${key} is followed already`);
    this.#subscriptions.set(key, subscription);
    if (this.#state === "idle") this.#connect();
    else this.#subscribe(subscription);
    return () => {
      clearTimeout(subscription.again);
      if (this.#subscriptions.get(key) !== subscription) return;
      this.#subscriptions.delete(key);
      this.#send("unsubscribe", { job_id: jobId, stream });
      this.#checkLive();
    };
  }

  async #connect() {
    const opening = ++this.#opening;
    this.#tell("connecting");
    const url = new URL("v1/ws", this.base);
    url.protocol = url.protocol.replace("http", "ws");
    try {
      const ticket = await this.ticket();
      if (ticket) url.searchParams.set("ticket", ticket);
    } catch (problem) {
      if (opening !== this.#opening) return;
      if (problem.status === 401 || problem.status === 403) this.#tell("unauthorized", { reason: problem.message });
      else this.#retryLater();
      return;
    }
    if (opening !== this.#opening) return;
    const socket = new this.WebSocket(url.href);
    this.#socket = socket;
    socket.onopen = () => {
      this.#heardAt = Date.now();
      this.#watchdog = setInterval(() => this.#checkSilence(), SILENCE_MS / 9);
      for (const subscription of this.#subscriptions.values()) this.#subscribe(subscription);
    };
    socket.onmessage = ({ data }) => {
      this.#heardAt = Date.now();
      this.#receive(JSON.parse(data));
    };
    socket.onclose = (event) => this.#lost(event.code, closingOf(event));
  }

  #subscribe(subscription) {
    const { stream, jobId, intervalMs, newest, live, ordinal } = subscription;
    subscription.confirmed = false;
    const payload = { job_id: jobId, stream };
    if (intervalMs) payload.interval_ms = intervalMs;
    if (stream === "document_saved") payload.ordinal = ordinal;
    else if (newest && jobId && newest.get(jobId) >= 0) payload.revision = newest.get(jobId);
    else if (newest && !jobId && live.size <= MOST_REVISIONS) payload.revisions = Object.fromEntries(live);
    subscription.unsure = newest && !jobId && live.size > MOST_REVISIONS ? new Set(live.keys()) : null;
    this.#send("subscribe", payload);
  }

  #send(type, payload) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify({ type, payload }));
  }

  #receive({ type, payload }) {
    if (type === "parent_job_progress") this.#onState(payload);
    else if (type === "ping") this.#send("pong", {});
    else if (type === "document_saved") this.#onDocuments(payload);
    else if (type === "job_log") this.#onLine(payload);
    else if (type === "subscribed") this.#onSubscribed(payload);
    else if (type === "error") this.#onError(payload);
  }

  #onState(state) {
    this.#pass(this.#subscriptions.get(keyOf("progress", state.job_id)), state);
    this.#pass(this.#subscriptions.get(EVERY_JOB), state);
  }

  #pass(subscription, state) {
    if (!subscription || state.revision <= (subscription.newest.get(state.job_id) ?? -1)) return;
    subscription.newest.set(state.job_id, state.revision);
    if (isTerminal(state)) subscription.live.delete(state.job_id);
    else subscription.live.set(state.job_id, state.revision);
    subscription.onItem(state);
  }

  #onDocuments({ job_id, documents }) {
    const subscription = this.#subscriptions.get(keyOf("document_saved", job_id));
    if (!subscription?.confirmed) return; // of an earlier subscription, from another ordinal on
    const fresh = documents.filter(({ ordinal }) => ordinal > subscription.ordinal);
    if (!fresh.length) return;
    if (fresh[0].ordinal > subscription.ordinal + 1) return this.#subscribe(subscription);
    subscription.ordinal = fresh.at(-1).ordinal;
    subscription.onItem(fresh);
  }

  // After a reconnect the gateway repeats its last lines.
  #onLine(line) {
    const subscription = this.#subscriptions.get(keyOf("job_log", line.job_id));
    const text = JSON.stringify(line);
    if (!subscription || subscription.lines.has(text)) return;
    subscription.lines.add(text);
    if (subscription.lines.size > 500) subscription.lines.delete(subscription.lines.values().next().value);
    subscription.onItem(line);
  }

  #onSubscribed({ job_id, stream }) {
    const subscription = this.#subscriptions.get(keyOf(stream, job_id));
    if (!subscription) return;
    this.#failures = 0;
    subscription.confirmed = true;
    if (subscription.unsure) this.#reread(subscription);
    this.#checkLive();
  }

  // More jobs were live than a subscription can name: read which of them have ended.
  async #reread({ unsure }) {
    let next = null;
    do {
      const page = await this.jobs({ before: next, limit: 1000 }).catch(() => null);
      if (!page) return this.#socket?.close(); // begin again
      page.jobs.forEach((state) => unsure.delete(state.job_id) && this.#onState(state));
      next = page.next;
    } while (next && unsure.size);
  }

  #onError({ code, message, field, job_id = null, stream }) {
    const subscription = this.#subscriptions.get(keyOf(stream, job_id));
    if (!stream || !subscription) return; // of nothing that is followed
    if (code === "unavailable") {
      subscription.again = setTimeout(() => this.#subscribe(subscription), jittered(1000));
      return;
    }
    this.#subscriptions.delete(keyOf(stream, job_id));
    const errors = field ? [{ field, message }] : [];
    subscription.onError?.(new Problem(code === "not_found" ? 404 : 422, { detail: message, code, errors }));
    this.#checkLive();
  }

  #checkLive() {
    const isOpen = this.#socket?.readyState === 1;
    if (isOpen && [...this.#subscriptions.values()].every(({ confirmed }) => confirmed)) this.#tell("live");
  }

  #lost(code, { reason, retry = true, retry_ms } = {}) {
    this.#hangUp();
    if (code === 4401) this.#tell("unauthorized", { reason });
    else if (!retry) this.#tell("closed", { reason });
    else this.#retryLater(retry_ms);
  }

  #retryLater(hintMs) {
    const pause = backoff(this.#failures++);
    const wait = hintMs ?? pause;
    this.#retry = setTimeout(() => this.#connect(), wait);
    this.#tell("waiting", { retryAt: Date.now() + wait });
  }

  // A link that died without a word looks open for minutes.
  #checkSilence() {
    if (Date.now() - this.#heardAt > SILENCE_MS) this.#lost(1006);
  }

  #hangUp() {
    clearInterval(this.#watchdog);
    for (const { again } of this.#subscriptions.values()) clearTimeout(again);
    if (!this.#socket) return;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
  }

  #tell(state, details = {}) {
    if (state === this.#state && state === "live") return;
    this.#state = state;
    this.onConnection({ state, ...details });
  }
}

// As the gateway spells an id in what it tells of the job.
const asTold = (jobId) => jobId?.toLowerCase() ?? null;

const keyOf = (stream, jobId) => `${stream} ${jobId ?? "of every job"}`;
const EVERY_JOB = keyOf("progress", null);

const jittered = (ms) => ms * (0.5 + Math.random() / 2);
const backoff = (failures) => jittered(Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** failures));

// The gateway closes with a reason in JSON; proxies and browsers don't.
function closingOf({ reason }) {
  try {
    return JSON.parse(reason);
  } catch {
    return undefined;
  }
}
