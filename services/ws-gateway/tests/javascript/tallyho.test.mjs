// The client on a WebSocket that the test plays the gateway of.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Problem, Tallyho } from "../../src/ws_gateway/static/tallyho.js";

const JOB = "6f1d8a52-3c0e-4b7a-9a57-2d4e9f0b8c11";

const state = (revision, document_count, status = "running", job_id = JOB) => ({ job_id, revision, status, document_count });

// Sockets of one client; each says to the test what the client sent, and to the client what the test says.
function gateway() {
  const sockets = [];
  class Socket {
    readyState = 0;
    sent = [];
    constructor(url) {
      this.url = url;
      sockets.push(this);
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close() {
      this.readyState = 3;
    }
    open() {
      this.readyState = 1;
      this.onopen();
    }
    say(type, payload) {
      this.onmessage({ data: JSON.stringify({ type, payload }) });
    }
    end(code, reason) {
      this.readyState = 3;
      this.onclose({ code, reason: reason ? JSON.stringify(reason) : "" });
    }
  }
  return { Socket, sockets };
}

function client(t, options = {}) {
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"] });
  const { Socket, sockets } = gateway();
  const connection = [];
  const onConnection = ({ state }) => connection.push(state);
  const tallyho = new Tallyho({ url: "http://tallyho.test", WebSocket: Socket, onConnection, ...options });
  t.after(() => tallyho.close());
  return { tallyho, sockets, connection };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("a state that is not newer is dropped", async (t) => {
  const { tallyho, sockets } = client(t);
  const counts = [];
  tallyho.follow(JOB, ({ document_count }) => counts.push(document_count));
  await settled();
  sockets[0].open();
  for (const [revision, count] of [[1, 10], [3, 30], [2, 20], [3, 30], [4, 40]]) sockets[0].say("parent_job_progress", state(revision, count));

  assert.deepEqual(counts, [10, 30, 40]);
});

test("a job is followed however its id is spelled", async (t) => {
  const { tallyho, sockets, connection } = client(t);
  const revisions = [];
  tallyho.follow(JOB.toUpperCase(), ({ revision }) => revisions.push(revision), { revision: 2 });
  await settled();
  sockets[0].open();
  sockets[0].say("subscribed", { job_id: JOB, stream: "progress", outcome: "snapshot" });
  for (const revision of [2, 3]) sockets[0].say("parent_job_progress", state(revision, 1));

  assert.deepEqual(revisions, [3]);
  assert.equal(connection.at(-1), "live");
});

test("after a loss it comes back and resumes each stream where it was", async (t) => {
  const { tallyho, sockets, connection } = client(t);
  const ordinals = [];
  tallyho.follow(JOB, () => {});
  tallyho.followDocuments(JOB, (documents) => ordinals.push(...documents.map(({ ordinal }) => ordinal)));
  tallyho.follow(null, () => {});
  await settled();
  sockets[0].open();
  for (const [stream, job_id] of [["progress", JOB], ["document_saved", JOB], ["progress", null]]) sockets[0].say("subscribed", { job_id, stream });
  assert.deepEqual(connection, ["connecting", "live"]);
  sockets[0].say("parent_job_progress", state(7, 2));
  sockets[0].say("document_saved", { job_id: JOB, documents: [{ ordinal: 1 }, { ordinal: 2 }] });
  sockets[0].end(1006);
  t.mock.timers.tick(500);
  await settled();
  sockets[1].open();

  assert.equal(connection.at(-1), "connecting"); // not live before it is up to date
  assert.deepEqual(sockets[1].sent.map(({ payload }) => payload), [
    { job_id: JOB, stream: "progress", revision: 7 },
    { job_id: JOB, stream: "document_saved", ordinal: 2 },
    { job_id: null, stream: "progress", revisions: { [JOB]: 7 } },
  ]);
  sockets[1].say("subscribed", { job_id: JOB, stream: "document_saved" });
  sockets[1].say("document_saved", { job_id: JOB, documents: [{ ordinal: 2 }, { ordinal: 3 }] });
  assert.deepEqual(ordinals, [1, 2, 3]);
});

test("a gap in the documents is asked for again", async (t) => {
  const { tallyho, sockets } = client(t);
  const ordinals = [];
  tallyho.followDocuments(JOB, (documents) => ordinals.push(...documents.map(({ ordinal }) => ordinal)));
  await settled();
  sockets[0].open();
  sockets[0].say("subscribed", { job_id: JOB, stream: "document_saved" });
  sockets[0].say("document_saved", { job_id: JOB, documents: [{ ordinal: 1 }] });
  sockets[0].say("document_saved", { job_id: JOB, documents: [{ ordinal: 3 }] });

  assert.deepEqual(ordinals, [1]);
  assert.equal(sockets[0].sent.at(-1).payload.ordinal, 1);
});

test("it waits as long as it is told to, else longer with each failure and never the same", async (t) => {
  const { tallyho, sockets, connection } = client(t);
  tallyho.follow(null, () => {});
  await settled();
  sockets[0].end(1012, { reason: "restarting", retry: true, retry_ms: 4321 });
  t.mock.timers.tick(4320);
  assert.equal(connection.at(-1), "waiting");
  t.mock.timers.tick(1);
  assert.equal(connection.at(-1), "connecting");

  const waits = [];
  for (let failure = 1; failure <= 8; failure++) {
    await settled();
    tallyho.onConnection = ({ state, retryAt }) => state === "waiting" && waits.push(retryAt - Date.now());
    sockets.at(-1).end(1006);
    t.mock.timers.tick(15_000);
  }
  assert.ok(waits[0] >= 500 && waits[0] <= 1000);
  assert.ok(waits.at(-1) >= 7500 && waits.at(-1) <= 15_000);
  assert.equal(new Set(waits).size, 8);
});

test("what the gateway forbids is not tried again", async (t) => {
  for (const [code, state] of [[4401, "unauthorized"], [4403, "closed"], [4400, "closed"]]) {
    const { tallyho, sockets, connection } = client(t);
    tallyho.follow(null, () => {});
    await settled();
    sockets[0].end(code, { reason: "no", retry: false });
    t.mock.timers.tick(60_000);
    assert.deepEqual([connection.at(-1), sockets.length], [state, 1]);
    tallyho.close();
    t.mock.timers.reset();
  }
});

test("a link that died without a word is given up", async (t) => {
  const { tallyho, sockets, connection } = client(t);
  tallyho.follow(null, () => {});
  await settled();
  sockets[0].open();
  sockets[0].say("subscribed", { job_id: null, stream: "progress" });
  t.mock.timers.tick(30_000);
  sockets[0].say("ping", {});
  t.mock.timers.tick(40_000);
  assert.equal(connection.at(-1), "live");
  assert.equal(sockets[0].sent.at(-1).type, "pong");
  t.mock.timers.tick(10_000);
  assert.equal(connection.at(-1), "waiting");
});

test("more live jobs than a subscription can name are read again", async (t) => {
  const ids = Array.from({ length: 300 }, (_, i) => `job-${i}`);
  const fetch = async (url) => {
    assert.equal(url.pathname, "/v1/jobs");
    return Response.json({ jobs: [state(9, 90, "completed", "job-7")], next: null });
  };
  const { tallyho, sockets } = client(t, { fetch });
  const newest = new Map();
  tallyho.follow(null, (job) => newest.set(job.job_id, job));
  await settled();
  sockets[0].open();
  for (const id of ids) sockets[0].say("parent_job_progress", state(1, 10, "running", id));
  sockets[0].end(1006);
  t.mock.timers.tick(500);
  await settled();
  sockets[1].open();
  assert.equal(sockets[1].sent[0].payload.revisions, undefined);
  sockets[1].say("subscribed", { job_id: null, stream: "progress" });
  await settled();
  await settled();

  assert.equal(newest.get("job-7").status, "completed");
});

test("a key is sent with requests and turned into a ticket for each connection", async (t) => {
  const asked = [];
  const fetch = async (url, { method, headers }) => {
    asked.push([method, url.pathname, headers.Authorization]);
    return Response.json({ ticket: "pass", expires_in: 30 }, { status: 201 });
  };
  const { tallyho, sockets } = client(t, { key: "secret", fetch });
  tallyho.follow(null, () => {});
  await settled();
  await settled();

  assert.deepEqual(asked, [["POST", "/v1/tickets", "Bearer secret"]]);
  assert.equal(sockets[0].url, "ws://tallyho.test/v1/ws?ticket=pass");
});

test("states and documents of a job can be looped over until its end", async (t) => {
  const fetch = async (url) => {
    const after = Number(url.searchParams.get("after"));
    return Response.json({ documents: [1, 2, 3].filter((n) => n > after).map((ordinal) => ({ ordinal })) });
  };
  const { tallyho, sockets } = client(t, { fetch });
  const ordinals = [];
  const looping = (async () => {
    for await (const { ordinal } of tallyho.documents(JOB)) ordinals.push(ordinal);
  })();
  await settled();
  sockets[0].open();
  sockets[0].say("parent_job_progress", state(1, 1));
  await settled();
  await settled();
  sockets[0].say("parent_job_progress", state(2, 3, "completed"));
  await looping;

  assert.deepEqual(ordinals, [1, 2, 3]);
  assert.equal(sockets[0].sent.at(-1).type, "unsubscribe");
});

test("documents that can't be read now are asked for again, others are a problem", async (t) => {
  const answers = [0, 429, 503, 200, 403];
  const fetch = async () => {
    const status = answers.shift();
    if (!status) throw new TypeError("no network");
    return Response.json(status === 200 ? { documents: [{ ordinal: 1 }] } : { detail: "no" }, { status });
  };
  const { tallyho, sockets } = client(t, { fetch });
  const ordinals = [];
  const looping = (async () => {
    for await (const { ordinal } of tallyho.documents(JOB)) ordinals.push(ordinal);
  })();
  looping.catch(() => {});
  await settled();
  sockets[0].open();
  sockets[0].say("parent_job_progress", state(1, 2));
  const failures = [];
  for (let step = 0; step < 4; step++) {
    await settled();
    await settled();
    failures.push(5 - answers.length);
    t.mock.timers.tick(200); // too soon
    await settled();
    t.mock.timers.tick(4000);
  }

  await assert.rejects(looping, { status: 403 });
  assert.deepEqual([failures, ordinals], [[1, 2, 3, 5], [1]]);
});

test("whoever closes the client no longer waits for documents", async (t) => {
  const { tallyho, sockets } = client(t, { fetch: async () => { throw new TypeError("no network"); } });
  const next = tallyho.documents(JOB).next();
  await settled();
  sockets[0].open();
  sockets[0].say("parent_job_progress", state(1, 2));
  await settled();
  await settled();
  tallyho.close();
  t.mock.timers.tick(500);

  await assert.rejects(next, { status: 0 });
});

test("an unknown job ends its loop with the problem", async (t) => {
  const { tallyho, sockets } = client(t);
  const looping = tallyho.states(JOB).next();
  await settled();
  sockets[0].open();
  sockets[0].say("error", { code: "not_found", message: "there is no such job", job_id: JOB, stream: "progress" });

  await assert.rejects(looping, (problem) => problem instanceof Problem && problem.status === 404);
});

test("an error ends only the subscription that it names", async (t) => {
  const { tallyho, sockets, connection } = client(t);
  const problems = [];
  const counts = [];
  tallyho.follow("5f0c2a52", () => {}, { onError: ({ status, errors }) => problems.push([status, errors[0].field]) });
  tallyho.follow(null, ({ document_count }) => counts.push(document_count));
  await settled();
  sockets[0].open();
  sockets[0].say("error", { code: "invalid", message: "job_id: no UUID", field: "job_id", job_id: "5f0c2a52", stream: "progress" });
  sockets[0].say("error", { code: "invalid", message: "job_id: no UUID", field: "job_id" });
  sockets[0].say("subscribed", { job_id: null, stream: "progress" });
  sockets[0].say("parent_job_progress", state(1, 10));

  assert.deepEqual([problems, counts, connection.at(-1)], [[[422, "job_id"]], [10], "live"]);
});

test("what the tracker can't answer now is asked again", async (t) => {
  const { tallyho, sockets } = client(t);
  tallyho.follow(JOB, () => {});
  await settled();
  sockets[0].open();
  sockets[0].say("error", { code: "unavailable", message: "later", job_id: JOB, stream: "progress" });
  t.mock.timers.tick(1000);

  assert.equal(sockets[0].sent.filter(({ type }) => type === "subscribe").length, 2);
});

test("a refusal says which field is at fault, and no answer is a problem, too", async (t) => {
  const refusal = { detail: "seeds[0]: must be absolute", code: "invalid", errors: [{ field: "seeds[0]", message: "must be absolute" }] };
  const { tallyho } = client(t, { fetch: async () => Response.json(refusal, { status: 422 }) });
  await assert.rejects(tallyho.createJob({ seeds: ["x"] }), { status: 422, message: refusal.detail, errors: refusal.errors });

  tallyho.fetch = async () => { throw new TypeError("no network"); };
  await assert.rejects(tallyho.jobs(), { status: 0, message: "The gateway can't be reached." });
});
