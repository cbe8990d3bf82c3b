// How fast a job saved documents, over its time.

import { byId, setText } from "./dom.js";
import { clock, duration, rate } from "./format.js";
import { Curve } from "./model.js";
import { isTerminal } from "./tallyho.js";

const WIDTH = 600;
const HEIGHT = 100;
const STEPS = 60;

export class Plot {
  #curve = new Curve();

  clear() {
    this.#curve = new Curve();
  }

  add(samples) {
    this.#curve.add(samples);
  }

  draw(state) {
    const from = state.started_at ? Date.parse(state.started_at) : null;
    // Not the clock of this machine: it may differ from that of the others.
    const to = from === null ? null : Math.max(from + 1000, Date.parse(state.finished_at ?? state.timestamp));
    const rates = from === null ? [] : this.#curve.rates(from, to, stepsFor(to - from));
    const most = Math.max(0, ...rates);
    const points = rates.map((value, i) => [(i / (rates.length - 1)) * WIDTH, HEIGHT - (most ? (value / most) * (HEIGHT - 6) : 0)]);
    const line = (most ? points : []).map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
    const svg = byId("plot");
    svg.querySelector(".line").setAttribute("d", line);
    svg.querySelector(".area").setAttribute("d", line ? `${line}L${points.at(-1)[0]} ${HEIGHT}L${points[0][0]} ${HEIGHT}Z` : "");
    byId("plot-none").hidden = most > 0;
    setText(byId("plot-none"), isTerminal(state) ? "Nothing was saved" : "Nothing saved yet");
    setText(byId("plot-most"), most ? `up to ${rate(most)}` : "");
    setText(byId("plot-from"), from === null ? "" : clock(from));
    setText(byId("plot-to"), from === null ? "" : isTerminal(state) ? clock(to) : "now");
    svg.setAttribute("aria-label", line ? `Documents per second over ${duration(to - from)}, at most ${rate(most)}` : "No documents yet");
  }
}

// A part of less than half a second would show the batches, not the rate.
const stepsFor = (ms) => Math.max(2, Math.min(STEPS, Math.floor(ms / 500)));
