// The steps: a slider over the loss and the epochs, with the alarms marked on it, and a play button.

import {html, set, svg} from "./dom.js";
import {number, wholeNumber} from "./scales.js";
import {lowerBound, nearest} from "./source.js";
import {scaleLinear, scaleLog} from "d3-scale";

const PLAY_SECONDS = 14;
const FRAMES_A_SECOND = 15;
// From how many times the least loss on the greatest would flatten all others.
const WIDE = 30;
// Pixels that an epoch needs for a tick, and for its number too.
const [TICK, NUMBER] = [4, 34];
const widthOf = (words) => 5 + 6 * words.length;
const ROUND = [0, 1, 2, 3, 4].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));

export class Timeline {
  /** @param on {step(step)} */
  constructor(on) {
    this.on = on;
    this.steps = [];
    this.index = 0;
    this.slider = html("input", {
      type: "range", min: 0, max: 0, step: 1, value: 0, "aria-label": "Step",
      oninput: () => this.#go(Number(this.slider.value)),
    });
    this.button = html("button", {
      type: "button", class: "gf-play", "aria-label": "Play", onclick: () => this.toggle(),
    });
    this.label = html("output", {class: "gf-step"});
    this.marks = html("div", {class: "gf-marks"});
    this.losses = svg("svg", {class: "gf-losses", viewBox: "0 0 1000 100", preserveAspectRatio: "none", "aria-hidden": "true"});
    this.epochTicks = html("div", {class: "gf-epochs", "aria-hidden": "true"});
    this.lossRange = html("span", {class: "gf-loss-range"});
    this.element = html("div", {class: "gf-timeline"},
      this.button, this.lossRange,
      html("div", {class: "gf-slider"}, this.losses, this.epochTicks, this.marks, this.slider),
      this.label,
    );
    this.#showPlaying(false);
  }

  /** @param steps What the slider goes over; @param alarms Marks of what happened. */
  setSteps(steps, alarms) {
    this.steps = steps;
    set(this.slider, {max: Math.max(0, steps.length - 1)});
    this.slider.disabled = this.button.disabled = steps.length < 2;
    this.#placeMarks(alarms);
  }

  /** @param losses [{steps, values, color, name}] One a run that has them. */
  setLosses(losses) {
    this.known = losses;
    const all = losses.flatMap(({values}) => values.filter(Number.isFinite));
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const last = Math.max(1, this.steps.length - 1);
    const isLog = low > 0 && high / low > WIDE;
    const scale = (isLog ? scaleLog() : scaleLinear()).domain([low, high]).range(high > low ? [92, 8] : [50, 50]);
    const at = (value) => scale(value);
    this.losses.replaceChildren(...losses.flatMap(({steps, values, color}) => {
      const shown = steps.map((step, i) => [(1000 * this.#position(step)) / last, values[i], step])
        .filter(([, , step]) => step >= this.steps[0] && step <= this.steps.at(-1));
      // The line breaks where the loss is no finite number, and a line along the top says so.
      const along = (isDrawn, height) => shown.map(([x, value], i) => {
        if (!isDrawn(value)) return "";
        const joins = i && isDrawn(shown[i - 1][1]);
        return `${joins ? "L" : `M${(x - 3).toFixed(1)} ${height(value).toFixed(1)}L`}${x.toFixed(1)} ${height(value).toFixed(1)}`;
      }).join("");
      return [svg("path", {d: along(Number.isFinite, at), stroke: color}),
        svg("path", {class: "gf-loss-lost", d: along((value) => !Number.isFinite(value), () => 6)})];
    }));
    this.element.classList.toggle("has-loss", losses.length > 0);
    const range = low === high ? number(low) : `${number(low)} to ${number(high)}${isLog ? ", log scale" : ""}`;
    this.lossRange.title = losses.length ? `loss ${all.length ? range : "not finite at any step"}` : "";
    this.lossRange.replaceChildren(html("span", {}, `loss ${all.length ? number(high) : ""}`),
      html("span", {}, low < high ? `${isLog ? "log " : ""}${number(low)}` : ""));
  }

  /** @param epochs {steps, epochs}: the step with which each begins. @param ofRun Whose they are, in words. */
  setEpochs(epochs, ofRun) {
    this.epochs = epochs;
    this.ofRun = ofRun;
    this.element.classList.toggle("has-epochs", epochs.steps.length > 0);
    const last = Math.max(1, this.steps.length - 1);
    const width = this.epochTicks.clientWidth;
    const shown = epochs.steps.map((step, i) => [step, epochs.epochs[i] + 1])
      .filter(([step]) => step >= this.steps[0] && step <= this.steps.at(-1));
    const each = width / shown.length;
    const every = ROUND.find((number) => number * each >= NUMBER) ?? Infinity;
    const tickEvery = ROUND.find((number) => number * each >= TICK && (every % number === 0)) ?? every;
    let taken = -Infinity;
    this.epochTicks.replaceChildren(...shown.map(([step, epoch]) => {
      const part = this.#position(step) / last;
      const x = part * width;
      if (taken > 0 && (x < taken || epoch % tickEvery)) return null;
      const words = `${taken < 0 ? "epoch " : ""}${wholeNumber(epoch)}`;
      const isNumbered = (taken < 0 || epoch % every === 0) && x + widthOf(words) < width;
      taken = isNumbered ? x + widthOf(words) : x + 1;
      const tick = html("span", {title: `epoch ${wholeNumber(epoch)}${ofRun}: from step ${wholeNumber(step)}`}, isNumbered ? words : "");
      tick.style.left = `${100 * part}%`;
      return tick;
    }).filter(Boolean));
  }

  /** The epoch of a step, in words. */
  #epochAt(step) {
    const {steps = [], epochs = []} = this.epochs ?? {};
    const at = steps.findLastIndex((start) => start <= step);
    return at < 0 ? "" : `epoch ${wholeNumber(epochs[at] + 1)}${this.ofRun}`;
  }

  /** Where a step lies between the recorded ones that the slider goes over. */
  #position(step) {
    const at = Math.max(1, Math.min(this.steps.length - 1, lowerBound(this.steps, step)));
    const [before, after] = [this.steps[at - 1], this.steps[at]];
    return after > before ? at - 1 + (step - before) / (after - before) : 0;
  }

  /** Moves by a number of recorded steps. */
  move(by) {
    this.#go(Math.max(0, Math.min(this.steps.length - 1, this.index + by)));
  }

  show(step) {
    this.index = Math.max(0, nearest(this.steps, step));
    this.slider.value = this.index;
    const said = this.steps.length ? wholeNumber(this.steps[this.index]) : "none";
    const last = this.steps.length ? wholeNumber(this.steps.at(-1)) : "none";
    set(this.slider, {"aria-valuetext": `step ${said}`});
    // The loss of another step is not said of this one.
    const losses = (this.known ?? []).map(({steps, values}) => values[steps.indexOf(step)]).filter((loss) => loss !== undefined);
    const more = [this.steps.length ? this.#epochAt(this.steps[this.index]) : "", losses.length ? `loss ${losses.map((loss) => (loss === null ? "not finite" : number(loss))).join(", ")}` : ""];
    this.label.replaceChildren("step ", html("strong", {}, said), ` of ${last}`,
      html("span", {class: "gf-loss-now"}, more.filter(Boolean).join(" \u00b7 ")));
  }

  toggle() {
    if (this.timer) this.#stop();
    else this.#start();
  }

  #start() {
    if (this.index >= this.steps.length - 1) this.#go(0);
    const stride = Math.max(1, Math.round(this.steps.length / (PLAY_SECONDS * FRAMES_A_SECOND)));
    this.timer = setInterval(() => {
      const next = Math.min(this.index + stride, this.steps.length - 1);
      this.#go(next);
      if (next >= this.steps.length - 1) this.#stop();
    }, 1000 / FRAMES_A_SECOND);
    this.#showPlaying(true);
  }

  #stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.#showPlaying(false);
  }

  #showPlaying(isPlaying) {
    this.button.textContent = isPlaying ? "\u2758\u2758" : "\u25b6";
    set(this.button, {"aria-label": isPlaying ? "Pause" : "Play"});
  }

  #go(index) {
    if (!this.steps.length) return;
    this.on.step(this.steps[index]);
  }

  /** Alarms that would lie on each other share a mark. */
  #placeMarks(alarms) {
    const last = Math.max(1, this.steps.length - 1);
    const groups = new Map();
    for (const alarm of alarms) {
      const index = nearest(this.steps, alarm.step);
      if (index < 0 || alarm.step < this.steps[0] || alarm.step > this.steps.at(-1)) continue;
      const place = Math.round((200 * index) / last);
      if (!groups.has(place)) groups.set(place, []);
      groups.get(place).push(alarm);
    }
    this.marks.replaceChildren(...[...groups].map(([place, group]) => {
      const text = group.slice(0, 6).map((alarm) => `step ${wholeNumber(alarm.step)}: ${alarm.text ?? alarm.alarm}`);
      if (group.length > 6) text.push(`and ${group.length - 6} more`);
      const isJudged = group.every((alarm) => alarm.isJudged);
      if (isJudged) text.push("By the usual limits.");
      const mark = html("button", {
        type: "button", class: isJudged ? "gf-alarm-mark is-judged" : "gf-alarm-mark", title: text.join("\n"),
        "aria-label": `Alarm, ${text[0]}`, onclick: () => this.on.step(group[0].step),
      });
      mark.style.left = `${place / 2}%`;
      return mark;
    }));
  }
}
