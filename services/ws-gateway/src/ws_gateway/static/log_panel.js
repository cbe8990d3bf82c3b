// The last lines of a job's log.

import { byId, h } from "./dom.js";
import { clock } from "./format.js";

const MOST_LINES = 300;

export class LogPanel {
  #waiting = [];
  #frame = 0;

  clear() {
    this.#waiting = [];
    byId("log").replaceChildren();
    byId("log-scroller").hidden = true;
    byId("log-none").hidden = false;
  }

  add(line) {
    this.#waiting.push(line);
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  // Who has scrolled up to read is left there.
  #draw() {
    this.#frame = 0;
    const scroller = byId("log-scroller");
    const isAtEnd = scroller.scrollTop + scroller.clientHeight >= scroller.scrollHeight - 8;
    scroller.hidden = false;
    byId("log-none").hidden = true;
    byId("log").append(...this.#waiting.slice(-MOST_LINES).map(lineOf));
    this.#waiting = [];
    while (byId("log").childElementCount > MOST_LINES) byId("log").firstElementChild.remove();
    if (isAtEnd) scroller.scrollTop = scroller.scrollHeight;
  }
}

function lineOf({ timestamp, level, message, fields = {} }) {
  const known = Object.entries(fields).filter(([, value]) => value !== null && !message.includes(String(value)));
  const time = h("time", { dateTime: timestamp }, clock(Date.parse(timestamp)));
  const details = h("span", { className: "fields" }, known.map(([name, value]) => `${name}=${value}`).join(" "));
  return h("li", { dataset: { level } }, time, h("span", { className: "level" }, level), h("span", { className: "message" }, message), details);
}
