// The dashboard: which view is on the page, the state of the connection, and who is told of what.

import { byId, setText } from "./dom.js";
import { clock, counted } from "./format.js";
import { JobView } from "./job_view.js";
import { JobsView } from "./jobs_view.js";
import { routeOf } from "./model.js";
import { Reader } from "./reader.js";
import { SignIn, storedKey } from "./sign_in.js";
import { prepareStartForm } from "./start_form.js";
import { Tallyho } from "./tallyho.js";

const WORDS = { idle: "Connecting…", connecting: "Connecting…", live: "Live", waiting: "Offline", unauthorized: "Signed out", closed: "Disconnected" };

const tallyho = new Tallyho({ key: storedKey(), onConnection: showConnection });
const jobsView = new JobsView({ tallyho, announce, onProblem });
const jobView = new JobView({ tallyho, onState, onProblem, confirm, go });
const reader = new Reader({ tallyho, onProblem, onClose: () => location.replace(`#/jobs/${routeOf(location.hash).jobId}`) });
const signIn = new SignIn({ onKey: useKey });
let connection = { state: "idle" };
let offlineSince = 0;
let viewed = null;

prepareStartForm({ tallyho, onProblem, onCreated: go });
byId("retry").addEventListener("click", () => tallyho.reconnect());
byId("skip").addEventListener("click", () => byId("main").focus());
byId("begin").addEventListener("click", () => byId("start").elements.seed.focus());
addEventListener("hashchange", show);
document.addEventListener("visibilitychange", () => document.hidden || (connection.state === "waiting" && tallyho.reconnect()));
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || viewed !== "jobs" || event.target.closest("input, textarea, dialog")) return;
  event.preventDefault();
  byId("search").focus();
});
setInterval(countDown, 500);
show();

/** Bring the view on the page that the address names. */
function show() {
  if (location.hash && !location.hash.startsWith("#/")) return;
  const route = routeOf(location.hash);
  const isNew = viewed !== null && viewed !== route.view;
  viewed = route.view;
  byId("jobs-view").hidden = route.view !== "jobs";
  byId("job-view").hidden = route.view !== "job";
  if (route.view === "jobs") {
    reader.close();
    jobView.close();
    document.title = "Tallyho";
    jobsView.open(route);
    if (isNew) byId("jobs-view").querySelector("h1").focus();
    return;
  }
  jobsView.close();
  jobView.open(route.jobId, jobsView.jobs.get(route.jobId)?.state);
  if (route.documentId) reader.open(route.documentId);
  else reader.close();
  if (isNew) {
    scrollTo(0, 0);
    byId("job-name").focus({ preventScroll: true });
  }
}

function go(job) {
  jobsView.offer(job);
  location.hash = `#/jobs/${job.job_id}`;
}

function onState(state, before) {
  jobsView.offer(state);
  if (before && before.status !== state.status) announce(`${state.name || "The crawl"} is ${state.status}, ${counted(state.document_count, "document")}`);
}

// A status is worth saying aloud; each count is not.
function announce(text) {
  setText(byId("announcements"), text);
}

function showConnection(now) {
  const before = connection;
  connection = now;
  if (now.state === "live") {
    offlineSince = 0;
    jobsView.reload();
    jobView.refresh();
    if (["waiting", "connecting"].includes(before.state) && document.body.classList.contains("stale")) announce("Connected again. Everything is up to date.");
  } else if (before.state === "live") {
    offlineSince = Date.now();
    announce("The connection is lost. Counts may be out of date.");
  }
  byId("connection").dataset.state = now.state;
  setText(byId("connection").firstElementChild, WORDS[now.state]);
  document.body.classList.toggle("stale", Boolean(offlineSince));
  if (now.state === "unauthorized") signIn.ask();
  countDown();
}

function countDown() {
  const { state, retryAt, reason } = connection;
  const isCut = state === "waiting" || state === "closed" || (state === "connecting" && offlineSince > 0);
  byId("banner").hidden = !isCut;
  byId("retry").hidden = state === "connecting";
  if (!isCut) return;
  const since = offlineSince ? ` Counts are those of ${clock(offlineSince)}.` : "";
  const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
  const what = state === "closed" ? `The gateway closed the connection${reason ? `: ${reason}` : ""}.` : `No connection to the gateway.${since}`;
  const next = state === "closed" ? "" : state === "connecting" || !seconds ? " Connecting again…" : ` Trying again in ${seconds} s.`;
  setText(byId("banner-text"), what + next);
}

function onProblem(problem) {
  if (problem.status === 401) signIn.ask();
}

// Whatever was shown to one key is not for another.
function useKey(key) {
  tallyho.key = key;
  location.reload();
}

async function confirm(text) {
  const dialog = byId("confirm");
  setText(byId("confirm-text"), text);
  dialog.returnValue = "keep";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  return dialog.returnValue === "cancel";
}
