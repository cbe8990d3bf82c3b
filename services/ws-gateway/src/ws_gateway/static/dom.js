// A few words for making and changing elements.

export const byId = (id) => document.getElementById(id);

/** An element with properties, `dataset` and `aria-…` among them, and children. Text is never read as HTML. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "dataset") Object.assign(element.dataset, value);
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Set a text; one that is there already is left alone, which saves layout and keeps a selection. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Show a text in an element that is hidden without one. */
export function showText(element, text) {
  setText(element, text ?? "");
  element.hidden = !text;
}

/** The parts of a template's copy, by their `data-part`. */
export function partsOf(template) {
  const element = template.content.firstElementChild.cloneNode(true);
  const parts = Object.fromEntries([...element.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]));
  return { element, ...parts };
}

/**
 * Call a function soon, once for all calls until then, and not more often than every so many milliseconds.
 * `now()` calls it at once, `cancel()` not before it is wanted again.
 */
export function throttled(ms, call) {
  let timer = 0;
  let last = -Infinity;
  const run = () => {
    timer = 0;
    last = performance.now();
    call();
  };
  const soon = () => (timer ||= setTimeout(run, Math.max(0, last + ms - performance.now())));
  soon.cancel = () => {
    clearTimeout(timer);
    timer = 0;
  };
  soon.now = () => {
    clearTimeout(timer);
    run();
  };
  return soon;
}

/** Draw the bar of outcomes. */
export function drawBar(bar, shares, words) {
  for (const { outcome, percent } of shares) {
    const part = bar.querySelector(`[data-outcome=${outcome}]`);
    const width = `${percent.toFixed(2)}%`;
    if (part.style.width !== width) part.style.width = width;
  }
  if (bar.getAttribute("aria-label") !== words) bar.setAttribute("aria-label", words);
}
