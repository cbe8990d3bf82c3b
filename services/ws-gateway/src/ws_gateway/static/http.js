// The HTTP API of a gateway; a part of Tallyho's JavaScript client.

/** An answer that is no success. `status` is 0 when nobody answered; `errors` name the fields at fault. */
export class Problem extends Error {
  constructor(status, { detail, code, errors = [] } = {}) {
    super(detail ?? `The gateway answered ${status}.`);
    Object.assign(this, { status, code, errors });
  }
}

/** Each call returns what the API answers, or throws a Problem. */
export class HttpApi {
  constructor({ url = globalThis.location?.origin, key = null, fetch } = {}) {
    this.base = new URL(url.endsWith("/") ? url : `${url}/`);
    this.key = key;
    this.fetch = fetch ?? ((...request) => globalThis.fetch(...request));
  }

  createJob = (job, idempotencyKey = unique()) =>
    this.request("POST", "v1/jobs", { body: job, headers: { "Idempotency-Key": idempotencyKey } });
  jobs = (query = {}) => this.request("GET", "v1/jobs", { query });
  job = (id) => this.request("GET", `v1/jobs/${id}`);
  ledger = (id) => this.request("GET", `v1/jobs/${id}/ledger`);
  retry = (id, idempotencyKey = unique()) =>
    this.request("POST", `v1/jobs/${id}/retry`, { headers: { "Idempotency-Key": idempotencyKey } });
  change = (id, limits) => this.request("PATCH", `v1/jobs/${id}`, { body: limits });
  summary = (id) => this.request("GET", `v1/jobs/${id}/summary`);
  log = (id, query = {}) => this.request("GET", `v1/jobs/${id}/log`, { query });
  pages = (id, query = {}) => this.request("GET", `v1/jobs/${id}/pages`, { query });
  documentPage = (id, query = {}) => this.request("GET", `v1/jobs/${id}/documents`, { query });
  document = (id) => this.request("GET", `v1/documents/${id}`);
  cancel = (id) => this.request("POST", `v1/jobs/${id}/cancel`);
  pause = (id) => this.request("POST", `v1/jobs/${id}/pause`);
  resume = (id) => this.request("POST", `v1/jobs/${id}/resume`);

  /** A pass for one WebSocket, which can't carry a key; null where none is needed. */
  async ticket() {
    if (!this.key) return null;
    try {
      return (await this.request("POST", "v1/tickets")).ticket;
    } catch (problem) {
      if (problem.status === 409) return null; // no keys are configured there
      throw problem;
    }
  }

  async request(method, path, { query = {}, body, headers = {} } = {}) {
    const url = new URL(path, this.base);
    for (const [name, value] of Object.entries(query)) if (value != null) url.searchParams.set(name, value);
    if (this.key) headers = { ...headers, Authorization: `Bearer ${this.key}` };
    if (body) headers = { ...headers, "Content-Type": "application/json" };
    let response;
    try {
      response = await this.fetch(url, { method, headers, body: body && JSON.stringify(body) });
    } catch {
      throw new Problem(0, { detail: "The gateway can't be reached." });
    }
    const answer = await response.json().catch(() => null);
    if (!response.ok) throw new Problem(response.status, answer ?? {});
    return answer;
  }
}

// Only a page that came over HTTPS or from this machine has randomUUID.
const unique = () => globalThis.crypto?.randomUUID?.() ?? Array.from({ length: 4 }, () => Math.random().toString(36).slice(2)).join("");
