// The pages' rules, without a page.

import assert from "node:assert/strict";
import { test } from "node:test";

import { age, duration, rate, reasonInWords } from "../../src/ws_gateway/static/format.js";
import { Curve, Jobs, Pace, optionsInWords, pathOfJobs, routeOf, submission } from "../../src/ws_gateway/static/model.js";

const job = (job_id, minute, more = {}) => ({
  job_id, revision: 1, name: `site ${job_id}`, status: "running", document_count: 0, created_at: `2025-01-02T12:${String(minute).padStart(2, "0")}:00Z`, ...more,
});

test("jobs are the newest first, whatever the order they come in", () => {
  const jobs = new Jobs();
  for (const [id, minute] of [["b", 2], ["d", 4], ["a", 1], ["c", 3]]) jobs.offer(job(id, minute));
  jobs.offer(job("e", 3, { created_at: "2025-01-02T12:03:00.5Z" }));

  assert.deepEqual(jobs.matching("all"), ["d", "e", "c", "b", "a"]);
});

test("an older state changes nothing", () => {
  const jobs = new Jobs();
  assert.ok(jobs.offer(job("a", 1, { revision: 5, document_count: 50 })));
  assert.equal(jobs.offer(job("a", 1, { revision: 4, document_count: 40 })), false);
  assert.equal(jobs.get("a").state.document_count, 50);
});

test("what a listing lacks is gone, unless it is older than that or came meanwhile", () => {
  const jobs = new Jobs();
  for (const [id, minute] of [["a", 1], ["b", 2], ["c", 3], ["d", 4]]) jobs.offer(job(id, minute));
  const before = new Set(jobs.ids);
  jobs.offer(job("e", 5));

  jobs.keepListed(before, new Set(["d", "b"]), "b");
  assert.deepEqual(jobs.matching("all"), ["e", "d", "b", "a"]);
  assert.equal(jobs.get("c"), undefined);

  jobs.keepListed(before, new Set(["d", "b"]), null);
  assert.deepEqual(jobs.matching("all"), ["e", "d", "b"]);
});

test("a filter and a text narrow the list", () => {
  const jobs = new Jobs();
  jobs.offer(job("a1", 1, { status: "failed", name: "Docs" }));
  jobs.offer(job("b2", 2, { name: "docs" }));
  jobs.offer(job("c3", 3, { status: "paused", name: "blog" }));

  assert.deepEqual(jobs.matching("live"), ["c3", "b2"]);
  assert.deepEqual(jobs.matching("all", " DOC "), ["b2", "a1"]);
  assert.deepEqual(jobs.matching("all", "c3"), ["c3"]);
  assert.deepEqual(jobs.tally().live, 2);
});

test("a pace is that of the last seconds, and 0 once nothing comes", () => {
  const pace = new Pace(0, 100);
  pace.note(500, 110); // too soon to tell
  pace.note(2000, 140);
  assert.equal(pace.perSecond(2000), 20);
  assert.equal(pace.perSecond(9000), 0);
});

test("rates add up to the count, in whatever order the samples come", () => {
  const curve = new Curve();
  curve.add([{ at: 10_000, count: 100 }]);
  curve.add([{ at: 5000, count: 80 }, { at: 2000, count: 0 }]);
  const rates = curve.rates(0, 10_000, 10);

  assert.equal(Math.round(rates.reduce((sum, value) => sum + value, 0)), 100);
  assert.deepEqual(rates.slice(0, 2), [0, 0]);
  assert.ok(rates[3] > rates[8]);
});

test("a curve of many samples is thinned out and keeps its end", () => {
  const curve = new Curve();
  for (let i = 1; i <= 5000; i++) curve.add([{ at: i * 1000, count: i }]);
  const rates = curve.rates(0, 5_000_000, 5);
  assert.deepEqual(rates.map((value) => value.toFixed(2)), ["1.00", "1.00", "1.00", "1.00", "1.00"]);
});

test("addresses lead to views and back", () => {
  assert.deepEqual(routeOf(""), { view: "jobs", filter: "all", text: "" });
  assert.deepEqual(routeOf(pathOfJobs("failed", "a&b")), { view: "jobs", filter: "failed", text: "a&b" });
  assert.deepEqual(routeOf("#/jobs/ABC/documents/d1"), { view: "job", jobId: "abc", documentId: "d1" });
  assert.equal(routeOf("#/?status=constructor").filter, "all");
  assert.equal(pathOfJobs("all", ""), "#/");
});

test("an address without a scheme is taken for https", () => {
  const asked = submission({ seed: " docs.example.com:8000/a ", max_pages: "25", exclude: "x", same_site: "on", name: "" });
  assert.deepEqual(asked, { seeds: ["https://docs.example.com:8000/a"], name: "", options: { same_site: true, subdomains: false, max_pages: 25, exclude: ["x"] } });
  assert.deepEqual(submission({ seed: "ftp://x" }).seeds, ["ftp://x"]);
});

test("numbers, times and reasons are those of people", () => {
  assert.equal(duration(0), "0\u00a0s");
  assert.equal(duration(3_605_000), "1\u00a0h");
  assert.equal(duration(80_000), "1\u00a0min 20\u00a0s");
  assert.equal(age(0, 5000), "just now");
  assert.equal(age(0, 7_200_000), "2\u00a0h ago");
  assert.equal(rate(12.34), "12.3");
  assert.equal(rate(1234.5), "1,235");
  assert.equal(reasonInWords("http_404"), "Not found (404)");
  assert.equal(reasonInWords("http_418"), "Answered (418)");
  assert.equal(reasonInWords("robots_timeout"), "robots.txt: took too long to answer");
  assert.equal(reasonInWords("something_new"), "Something new");
});

test("what a job was asked for is told in words, and what it was not is left out", () => {
  const common = { max_pages: null, max_depth: null, include: [], exclude: [], same_site: true, max_failures: null, markdown: true };
  const told = (options) => Object.fromEntries(optionsInWords({ seeds: ["https://example.com/"], options: { ...common, ...options } }));
  const plain = told({});

  assert.deepEqual(Object.keys(plain), ["Starts at", "At most", "Depth", "Follows", "Keeps"]);
  assert.deepEqual(told({ render: "browser", keep_html: true, outlinks: true, max_host_pages: 1000 }), {
    ...plain,
    "Of one host": ["at most 1,000 pages"],
    "Pages elsewhere": ["those that this site links to"],
    "Renders": ["pages in a browser"],
    "Keeps": ["text as markdown", "the source of each page"],
  });
});
