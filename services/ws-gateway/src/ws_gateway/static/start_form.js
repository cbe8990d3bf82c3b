// The form that starts a crawl.

import { byId, showText } from "./dom.js";
import { submission } from "./model.js";
import { Problem } from "./tallyho.js";

const LABELS = { seed: "The address", max_pages: "At most", max_depth: "Depth", include: "Include", exclude: "Exclude", name: "Name" };

/** Submit what is entered; `onCreated(job)` gets the new job. What is refused is shown at its field. */
export function prepareStartForm({ tallyho, onCreated, onProblem }) {
  const form = byId("start");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button[type=submit]");
    button.disabled = true;
    try {
      const job = await tallyho.createJob(submission(Object.fromEntries(new FormData(form))));
      form.reset();
      show(form, null);
      onCreated(job);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      onProblem(problem);
      show(form, problem);
    } finally {
      button.disabled = false;
    }
  });
}

function show(form, problem) {
  const error = problem?.errors[0];
  const name = fieldName(error?.field);
  showText(byId("start-error"), problem && (LABELS[name] ? `${LABELS[name]}: ${error.message}` : problem.message));
  for (const input of form.querySelectorAll("input")) input.toggleAttribute("aria-invalid", input.name === name && Boolean(problem));
  const fault = form.elements.namedItem(name);
  if (!problem || !fault) return;
  const folded = fault.closest("details");
  if (folded) folded.open = true;
  fault.focus();
}

// `seeds[0]` and `options.include[0]` are the fields `seed` and `include` of the form.
function fieldName(field = "") {
  return field.startsWith("seeds") ? "seed" : field.replace(/^options\./, "").replace(/\[.*/, "");
}
