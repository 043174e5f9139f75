// The track of the profile: what is drawn of each run, and which blocks stand for it.

import {openSkips} from "./cuts.js";
import {html, visible} from "./dom.js";
import {shortRun} from "./layout.js";
import {Profile} from "./profile.js";
import {quantile} from "./relative.js";
import {joinExtents, number, times, wholeNumber} from "./scales.js";
import {nearest} from "./source.js";
import {sameSteps} from "./store.js";
import {limitsOfDepth} from "./watch.js";

/** The statistics that the profile is made of. */
export const PROFILE = ["input_gradient_norm", "output_gradient_norm"];

export class ProfileView {
  constructor(app) {
    this.app = app;
    this.profile = new Profile();
    this.held = new WeakMap();
    this.note = html("span", {class: "gf-note"});
    this.profile.element.addEventListener("pointermove", (event) => this.#point(event));
    this.profile.element.addEventListener("pointerleave", () => this.#leave());
    this.element = html("div", {class: "gf-track", role: "group", "aria-label": "Gradient by depth"},
      html("div", {class: "gf-track-head"}, html("h2", {}, "Gradient by depth"), app.help.button("profile"),
        app.saveMenu("Gradient by depth", "by_depth", () => [visible(this.element)]), this.note, this.#limits()),
      this.profile.element);
  }

  /** Two numbers beyond which the profile is tinted; without a number it is the limit of the alarms. */
  #limits() {
    this.limitWords = html("span", {class: "gf-label"});
    this.limitInputs = ["below", "above"].map((name) => html("input", {
      type: "text", inputmode: "decimal", size: 6, class: "gf-limit", "aria-label": `Tint ${name}`, placeholder: "none",
      oninput: (event) => { this.typed = event.target; }, onblur: () => { this.typed = null; },
      onchange: (event) => this.#setLimit(name, event.target),
    }));
    this.wrong = html("span", {class: "gf-warning", role: "alert"});
    return html("div", {class: "gf-controls gf-limits"}, this.wrong, this.limitWords, this.limitInputs[0], html("span", {class: "gf-label"}, "and above"), this.limitInputs[1]);
  }

  #setLimit(name, input) {
    const text = input.value.trim();
    const {low, high} = this.#zones();
    const value = Number(text);
    const isInOrder = name === "below" ? value < high : value > low;
    const isLimit = text === "" || (value > 0 && Number.isFinite(value) && isInOrder);
    input.setAttribute("aria-invalid", String(!isLimit));
    const [from, to] = name === "below" ? [0, high] : [low, Infinity];
    this.wrong.textContent = isLimit ? "" : `must be a number above ${number(from)}${Number.isFinite(to) ? ` and below ${number(to)}` : ""}`;
    this.typed = null;
    if (isLimit) this.app.choose({[name]: text === "" ? null : value});
  }

  /** {low, high, words} of what is set here, or else of the alarms of the first run. */
  #zones() {
    const {data, state} = this.app;
    const {below, above} = state;
    const {words, ...limits} = limitsOfDepth(data[0].watch);
    const areAlike = data.every(({watch}) => JSON.stringify(limitsOfDepth(watch)) === JSON.stringify(limitsOfDepth(data[0].watch)));
    const [low, high] = [below > 0 ? below : limits.low, above > 0 ? above : limits.high];
    if (low < high && (low !== limits.low || high !== limits.high)) return {low, high, words: "limits set here"};
    return {...limits, words: areAlike ? words : `${words} of ${shortRun(data[0].run)}`};
  }

  #showLimits({low, high, words}) {
    this.limitWords.textContent = `${words}: below`;
    [[low, 0], [high, 1]].forEach(([limit, i]) => {
      const input = this.limitInputs[i];
      // What is being typed stays while a live run is drawn anew, and so does what was refused.
      if (this.typed === input || input.getAttribute("aria-invalid") === "true") return;
      input.value = limit > 0 && Number.isFinite(limit) ? String(limit) : "";
    });
  }

  needs() {
    return PROFILE;
  }

  draw() {
    const {app} = this;
    const runs = app.data;
    const isDrawn = (name) => runs.some(({run}) => run === name);
    this.lines = runs.map((data) => ({
      ...this.#ofRun(data, app.axisOf(data)), axis: app.axisOf(data), color: app.colorOf(data),
      name: runs.length > 1 ? shortRun(data.run) : "", title: runs.length > 1 ? data.run : "",
      cut: this.#cutOf(data), real: data.real && !isDrawn(data.real.run) ? data.real : null,
    }));
    const hasAny = this.lines.some((line) => line.range);
    const first = runs[0].steps[0];
    const isRecorded = runs.some(({series}) => series.has("input_gradient_norm") && series.has("output_gradient_norm"));
    this.said = hasAny
      ? `at each block over that at the last \u00b7 bold: this step \u00b7 band: 10 to 90% of all steps \u00b7 dotted: step ${first}`
      : isRecorded ? "not defined at any step: no gradient that reaches the last block is a positive number"
        : "not recorded: it takes the gradients at the ends of each block";
    this.profile.element.hidden = !hasAny;
    this.note.textContent = this.said;
    const zones = this.#zones();
    this.#showLimits(zones);
    this.profile.draw(this.lines, joinExtents(this.lines.flatMap((line, i) => this.#ranges(line, runs[i]))), zones, app.width,
      app.room.profile);
  }

  /** What holds for all steps, which is worked out once for the same numbers. */
  #ofRun(data, axis) {
    const rows = data.series.get("input_gradient_norm");
    if (rows && this.held.has(rows)) return this.held.get(rows);
    const places = axis.places.filter((place) => place.level === 0);
    const at = (index) => this.#at(data, places, index);
    const all = Array.from(data.steps, (_, index) => at(index));
    const sorted = places.map((_, i) => all.map((values) => values[i]).filter(Number.isFinite).sort((a, b) => a - b));
    const found = {
      places, first: all[0] ?? [],
      band: [0.1, 0.9].map((part) => sorted.map((values) => quantile(values, part))),
      range: rangeOf(sorted.flatMap((values) => (values.length ? [values.find((each) => each > 0) ?? NaN, values.at(-1)] : []))),
    };
    if (rows) this.held.set(rows, found);
    return found;
  }

  /** All that is drawn of a run: it, what it is estimated to be, and what it really was. */
  #ranges({range, axis, places, cut, real}, data) {
    const estimated = cut.length ? Array.from(data.steps, (_, index) => {
      return rangeOf(this.#estimate(data, places, cut, this.#at(data, places, index), index) ?? []);
    }) : [];
    return [range, ...estimated, real && this.#ofRun(real, axis).range];
  }

  #at(data, places, index) {
    const [input, output] = [data.series.get("input_gradient_norm"), data.series.get("output_gradient_norm")];
    if (!input || !output || !places.length) return places.map(() => NaN);
    const base = output[places.at(-1).index][index];
    return places.map((place) => (base > 0 ? input[place.index][index] / base : NaN));
  }

  /** Lights the block under the pointer and says what is there of every run. */
  #point(event) {
    const {app} = this;
    const x = event.clientX - this.profile.element.getBoundingClientRect().left;
    const found = this.lines.map((line, i) => {
      const place = line.axis.placeAt(x);
      const value = place ? this.shown[i][line.places.findIndex(({index}) => index === place.index)] : undefined;
      return {line, i, place, value};
    }).filter(({value}) => value !== undefined);
    if (!found.length) return this.#leave();
    const [{line, place}] = found;
    app.column(line.axis, place);
    app.tooltip.show([
      html("div", {class: "gf-tip-title"}, line.axis.blocks[place.index].name, html("span", {}, `step ${wholeNumber(app.shownStep)}`)),
      ...found.flatMap((each) => this.#valuesAt(each)).map(([name, value]) => {
        return html("div", {class: "gf-tip-value"}, `${name}: `, html("strong", {}, times(value)));
      }),
    ], event.clientX, event.clientX, event.clientY);
  }

  /** [name, value] of what is drawn of a run at a block. */
  #valuesAt({line: {name, places}, i, place: {index}, value}) {
    const at = places.findIndex((each) => each.index === index);
    const more = [["estimate", this.estimates[i]?.[at]], ["real", this.reals[i]?.[at]]].filter(([, each]) => each !== undefined);
    return [[name || "gradient over that at the last block", value], ...more.map(([words, each]) => [[name, words].filter(Boolean).join(", "), each])];
  }

  #leave() {
    this.app.tooltip.hide();
    this.app.column(null);
  }

  showStep(step) {
    if (step === null) return;
    const values = this.app.data.map((data, i) => {
      return this.#at(data, this.lines[i].places, nearest(data.steps, step));
    });
    this.shown = values;
    this.estimates = this.app.data.map((data, i) => {
      const {places, cut} = this.lines[i];
      return cut.length ? this.#estimate(data, places, cut, values[i], nearest(data.steps, step)) : null;
    });
    this.reals = this.lines.map(({real, places}) => real && this.#at(real, places, nearest(real.steps, step)));
    this.profile.show(values, this.estimates, this.reals);
    this.#say(step);
  }

  /** The skips that are cut of a run. */
  #cutOf({blocks}) {
    const open = openSkips(blocks);
    return (this.app.state.cut ?? []).filter((name) => open.includes(name));
  }

  /** What the profile would be without the skips that are cut, by the recorded gains. */
  #estimate(data, places, cut, values, index) {
    const [branch, input] = ["branch_gradient_norm", "input_gradient_norm"].map((name) => data.series.get(name));
    if (!branch || !input || index < 0) return null;
    let factor = 1;
    const estimate = new Array(places.length);
    for (let order = places.length - 1; order >= 0; order -= 1) {
      const row = places[order].index;
      if (cut.includes(data.blocks[row].name)) factor *= branch[row][index] / input[row][index];
      estimate[order] = values[order] * factor;
    }
    return estimate;
  }

  /** What is drawn of the skips that are cut. */
  #say(step) {
    const cut = [...new Set(this.lines.flatMap((line) => line.cut))];
    if (!cut.length) return;
    const estimate = `dashed: an estimate to first order without the skip${cut.length > 1 ? "s" : ""} of ${cut.join(", ")}`;
    const reals = this.app.data.flatMap((data, i) => {
      if (!this.lines[i].cut.length) return [];
      const of = this.lines.length > 1 ? ` of ${shortRun(data.run)}` : "";
      return [realInWords(data, this.lines[i], of, step)];
    });
    this.note.textContent = [this.said, estimate, ...new Set(reals)].join(" \u00b7 ");
  }
}

function realInWords({real: found, steps}, {real, cut}, of, step) {
  if (!found) return `real: no run here has the same blocks with ${cut.length > 1 ? "these skips" : "this skip"} stopped, or with all`;
  const run = `${shortRun(found.run)}, ${found.words}`;
  if (!real) return `real${of}: the line of ${run}`;
  if (!PROFILE.every((name) => real.series.has(name))) return `real${of}: ${run}, where the gradients at the ends of blocks are not recorded`;
  const index = nearest(real.steps, step);
  const isRecordedWith = sameSteps(real.steps, steps);
  if (index < 0) return `real${of}: ${run}, which has no recorded step in this part`;
  // Said at every step, so that the page keeps its height while steps play.
  const near = isRecordedWith ? "" : ", the nearest recorded";
  return `thin, real${of}: ${run}, at step ${wholeNumber(real.steps[index])}${near}`;
}

function rangeOf(values) {
  const positive = values.filter((value) => value > 0 && Number.isFinite(value));
  if (!positive.length) return null;
  const [low, high] = [Math.min(...positive), Math.max(...positive)];
  return {low, high, positive: low};
}
