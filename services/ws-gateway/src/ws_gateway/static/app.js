// The page: what the gateway knows, live, and a form to start a crawl.

import { Problem, call } from "./api.js";
import { JobList, MOST_SHOWN, isTerminal } from "./jobs.js";
import { follow } from "./live.js";

const RELIST_MS = 3000;
const byId = (id) => document.getElementById(id);
const announced = new Map();

const jobs = new JobList(byId("jobs"), byId("job"), { onCancel: cancel, onChange: summarize });
let listed = false;
let relist = 0;

follow(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`, {
  onState: offer,
  onConnection: showConnection,
});
byId("start").addEventListener("submit", start);

function offer(state) {
  const before = announced.get(state.job_id);
  if (jobs.offer(state) && before !== state.status) {
    announced.set(state.job_id, state.status);
    if (before) announce(state);
  }
}

// A status is worth saying aloud; each count is not.
function announce(state) {
  byId("announcements").textContent = `${state.name || "A job"} is ${state.status}, ${state.document_count} documents`;
}

function showConnection(name) {
  const words = { connecting: "Connecting…", live: "Live", waiting: "Offline, reconnecting…" };
  byId("connection").dataset.state = name;
  byId("connection").textContent = words[name];
  document.body.classList.toggle("stale", name !== "live");
  clearTimeout(relist);
  if (name === "live") list();
}

// The socket brings what is live; this brings what ended, also while the page was offline.
async function list() {
  try {
    const { jobs: newest } = await call("GET", "/v1/jobs?limit=100");
    newest.forEach(offer);
    const known = new Set(newest.map((state) => state.job_id));
    const missed = jobs.live().filter((state) => !known.has(state.job_id));
    for (const state of missed) offer(await call("GET", `/v1/jobs/${state.job_id}`));
    listed = true;
    showProblem(byId("list-error"), null);
    summarize();
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    showProblem(byId("list-error"), `The list of jobs is not complete: ${problem.message}`);
    relist = setTimeout(list, RELIST_MS);
  }
}

function summarize() {
  const states = jobs.states;
  const live = jobs.live().length;
  byId("empty").hidden = !listed || states.length > 0;
  byId("summary").textContent = states.length ? `${live} live, ${states.filter(isTerminal).length} ended` : "";
  byId("more").hidden = states.length < MOST_SHOWN;
  byId("more").textContent = `The newest ${MOST_SHOWN} jobs are shown.`;
}

async function start(event) {
  event.preventDefault();
  const form = event.target;
  const button = form.querySelector("button[type=submit]");
  button.disabled = true;
  try {
    offer(await call("POST", "/v1/jobs", submission(new FormData(form))));
    form.reset();
    showProblem(byId("start-error"), null);
    form.seed.removeAttribute("aria-invalid");
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    showProblem(byId("start-error"), inWords(problem));
    const fault = form.elements.namedItem(fieldName(problem.errors[0]?.field));
    form.seed.toggleAttribute("aria-invalid", fault === form.seed);
    if (fault?.closest("details")) fault.closest("details").open = true;
    fault?.focus();
  } finally {
    button.disabled = false;
  }
}

function submission(data) {
  const text = (name) => data.get(name).trim();
  const seed = text("seed");
  const options = { same_site: data.has("same_site") };
  for (const name of ["max_pages", "max_depth"]) if (text(name)) options[name] = Number(text(name));
  for (const name of ["include", "exclude"]) if (text(name)) options[name] = [text(name)];
  return { seeds: [/^[\w+.-]+:/.test(seed) || !seed ? seed : `https://${seed}`], name: text("name"), options };
}

// `seeds[0]` and `options.include[0]` are the fields `seed` and `include` of the form.
function fieldName(field = "") {
  return field.startsWith("seeds") ? "seed" : field.replace(/^options\./, "").replace(/\[.*/, "");
}

const LABELS = { seed: "The address", max_pages: "At most", max_depth: "Depth", include: "Include", exclude: "Exclude", name: "Name" };

function inWords(problem) {
  const [error] = problem.errors;
  const label = error && LABELS[fieldName(error.field)];
  return label ? `${label}: ${error.message}` : problem.message;
}

async function cancel(row) {
  try {
    offer(await call("POST", `/v1/jobs/${row.id}/cancel`));
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    row.showProblem(problem.message);
    row.cancel.hidden = false;
  }
}

function showProblem(element, text) {
  element.hidden = !text;
  element.textContent = text ?? "";
}
