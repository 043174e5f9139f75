// The steps: a slider with the alarms marked on it, and a play button.

import {html, set} from "./dom.js";
import {wholeNumber} from "./scales.js";
import {nearest} from "./source.js";

const PLAY_SECONDS = 14;
const FRAMES_A_SECOND = 15;

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
    this.element = html("div", {class: "gf-timeline"},
      this.button,
      html("div", {class: "gf-track"}, this.marks, this.slider),
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

  show(step) {
    this.index = Math.max(0, nearest(this.steps, step));
    this.slider.value = this.index;
    const said = this.steps.length ? wholeNumber(this.steps[this.index]) : "none";
    const last = this.steps.length ? wholeNumber(this.steps.at(-1)) : "none";
    set(this.slider, {"aria-valuetext": `step ${said}`});
    this.label.replaceChildren("step ", html("strong", {}, said), ` of ${last}`);
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
      const mark = html("button", {
        type: "button", class: "gf-alarm-mark", title: text.join("\n"),
        "aria-label": `Alarm, ${text[0]}`, onclick: () => this.on.step(group[0].step),
      });
      mark.style.left = `${place / 2}%`;
      return mark;
    }));
  }
}
