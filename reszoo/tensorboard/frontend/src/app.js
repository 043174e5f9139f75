// The page: what is chosen, what is asked for, and what is drawn of it.

import {BusView} from "./bus_view.js";
import {html} from "./dom.js";
import {shortRun} from "./layout.js";
import {LinesView} from "./lines_view.js";
import {MapView} from "./map_view.js";
import {Picker} from "./picker.js";
import {wholeNumber} from "./scales.js";
import {nearest} from "./source.js";
import {followTheme, onStateChange, readState, writeState} from "./state.js";
import {Store} from "./store.js";
import {themeOf} from "./theme.js";
import {Timeline} from "./timeline.js";
import {Tooltip} from "./tooltip.js";

const POLL_MS = 20_000;
const CHIPS_AT_MOST = 5;
const FAULTS_AT_MOST = 8;

export class App {
  constructor(source) {
    this.source = source;
    this.store = new Store(source);
    this.state = readState();
    this.tooltip = new Tooltip();
    this.timeline = new Timeline({step: (step) => this.goTo(step)});
    this.views = [new BusView(this), new MapView(this), new LinesView(this)];
    this.#build();
  }

  #build() {
    this.runsElement = html("div", {class: "gf-runs"});
    this.runPicker = new Picker("Runs", (runs) => this.choose({runs}));
    this.rangeElement = html("div", {class: "gf-range"});
    this.notice = html("div", {class: "gf-notice", role: "alert", hidden: true});
    this.faults = html("section", {class: "gf-notice gf-faults", "aria-label": "What cannot be shown", hidden: true});
    this.alarmsElement = html("section", {class: "gf-section gf-alarms", hidden: true});
    this.body = html("main", {hidden: true},
      ...this.views.map((view) => view.element), this.alarmsElement);
    this.element = html("div", {class: "gf"},
      html("header", {class: "gf-header"},
        html("div", {class: "gf-header-row"}, this.runsElement, this.rangeElement),
        this.timeline.element),
      this.notice, this.faults, this.body, this.tooltip.element);
  }

  async start() {
    followTheme((isDark) => {
      this.element.classList.toggle("is-dark", isDark);
      document.documentElement.style.colorScheme = isDark ? "dark" : "light";
      this.isDark = isDark;
      this.draw();
    });
    onStateChange(() => {
      this.state = readState();
      this.load();
    });
    new ResizeObserver(() => this.#resize()).observe(this.element);
    await this.reload();
    if (!this.source.isLive) return;
    setInterval(() => this.#poll(), POLL_MS);
    document.addEventListener("visibilitychange", () => this.#poll());
  }

  /** Asks what runs there are, then for what is chosen of them. */
  async reload() {
    try {
      const isNew = await this.store.refresh();
      this.#drawFaults();
      if (isNew || !this.data) await this.load();
    } catch (error) {
      this.#say(error);
    }
  }

  async load() {
    this.store.refused.clear();
    return this.#loadChosen();
  }

  async #loadChosen() {
    const turn = (this.turn = Symbol("load"));
    try {
      const names = this.chosenRuns();
      if (!names.length) return this.#sayEmpty();
      const wanted = new Set(this.views.flatMap((view) => view.needs()));
      const answers = await Promise.all(names.map((name) => this.#runData(name, [...wanted])));
      if (turn !== this.turn) return;
      this.#drawFaults();
      const data = answers.filter(Boolean);
      // Those that were chosen are refused, so that others are chosen now.
      if (!data.length) return this.#loadChosen();
      this.data = data;
      this.notice.hidden = true;
      this.body.hidden = false;
      this.draw();
    } catch (error) {
      if (turn === this.turn) this.#say(error);
    }
  }

  /** What is drawn of a run; null if the server refuses it, which takes no other run down. */
  async #runData(name, statistics) {
    const [series, alarms] = await Promise.all([
      this.#orNothing(name, this.store.need(name, statistics, this.range())),
      this.#orNothing(name, this.store.alarms(name)),
    ]);
    const run = this.store.run(name);
    if (!series || !alarms) return null;
    return {...series, run: name, blocks: run.blocks, descriptions: run.statistics, alarms};
  }

  async #orNothing(name, asked) {
    try {
      return await asked;
    } catch (error) {
      if (!error.isRefusal) throw error;
      this.store.refuse(name, error.message);
      return null;
    }
  }

  /** The chosen runs that exist and can be read; if none was chosen, all of a report, or the newest. */
  chosenRuns() {
    const readable = this.store.runs.map((run) => run.run).filter((name) => !this.store.error(name));
    const chosen = (this.state.runs ?? []).filter((name) => readable.includes(name));
    if (chosen.length) return chosen;
    return this.source.isLive ? readable.slice(0, 1) : readable;
  }

  range() {
    return [this.state.from ?? null, this.state.to ?? null];
  }

  /** What is known of a statistic, from the first chosen run that has it. */
  describe(name) {
    for (const run of this.chosenRuns()) {
      const found = this.store.run(run).statistics.find((each) => each.name === name);
      if (found) return found;
    }
    return {name, unit: "", formula: "", group: "other"};
  }

  /** Every statistic of the chosen runs. */
  statistics() {
    const all = this.chosenRuns().flatMap((run) => this.store.run(run).statistics);
    return [...new Map(all.map((each) => [each.name, each])).values()];
  }

  choose(changes) {
    Object.assign(this.state, changes);
    for (const key of Object.keys(changes)) if (changes[key] === null) delete this.state[key];
    writeState(this.state);
    return this.load();
  }

  /** Moves to a step; the last one is followed as the run goes on. */
  goTo(step) {
    const steps = this.timeline.steps;
    const isLast = steps.length && step >= steps.at(-1) && this.state.to === undefined;
    if (isLast) delete this.state.step;
    else this.state.step = step;
    this.#showStep();
    clearTimeout(this.writing);
    this.writing = setTimeout(() => writeState(this.state), 150);
  }

  toggleBlock(name) {
    const blocks = this.state.blocks ?? [];
    const others = blocks.filter((each) => each !== name);
    this.choose({blocks: others.length < blocks.length ? others : [...blocks, name]});
  }

  zoom(from, to) {
    const steps = this.timeline.steps;
    const first = nearest(steps, from);
    const last = nearest(steps, to);
    if (first < last) this.choose({from: Math.max(0, Math.round(from)), to: Math.round(to)});
  }

  theme() {
    return themeOf(this.element);
  }

  draw() {
    if (!this.data || !this.element.clientWidth) return;
    this.#drawRuns();
    this.#drawRange();
    this.#drawAlarms();
    const steps = mergeSteps(this.data.map((each) => each.steps));
    this.domain = domainOf(steps);
    this.timeline.setSteps(steps, this.data.flatMap((each) => each.alarms));
    this.step = this.#currentStep(steps);
    for (const view of this.views) view.draw();
    this.#showStep();
  }

  #currentStep(steps) {
    const wanted = this.state.step;
    if (!steps.length) return null;
    return wanted === undefined ? steps.at(-1) : steps[nearest(steps, wanted)];
  }

  #showStep() {
    this.step = this.#currentStep(this.timeline.steps);
    this.timeline.show(this.step);
    for (const view of this.views) view.showStep(this.step);
    // For whoever measures: the step that is drawn, and when the first picture stood.
    this.element.dataset.step = this.step ?? "";
    this.element.dataset.drawnMs ??= Math.round(performance.now());
  }

  #drawRuns() {
    const runs = this.store.runs.map((run) => run.run);
    const chosen = this.chosenRuns();
    if (runs.length > CHIPS_AT_MOST) {
      this.runPicker.set(runs.map((run) => [run, shortRun(run), this.store.error(run)]), chosen, `${chosen.length} of ${runs.length}`);
      this.runsElement.replaceChildren(this.runPicker.element);
      return;
    }
    const focused = this.runsElement.contains(document.activeElement)
      ? document.activeElement.dataset.run : null;
    this.runsElement.replaceChildren(html("span", {class: "gf-label"}, "Runs"), ...this.store.runs.map((run) => {
      const isChosen = chosen.includes(run.run);
      const error = this.store.error(run.run);
      return html("button", {
        type: "button", class: "gf-chip", "aria-pressed": String(isChosen), "data-run": run.run,
        title: error ?? run.run, disabled: Boolean(error),
        onclick: () => this.#toggleRun(run.run, chosen),
      }, shortRun(run.run));
    }));
    if (focused === null) return;
    [...this.runsElement.children].find((each) => each.dataset.run === focused)?.focus();
  }

  #toggleRun(name, chosen) {
    const others = chosen.filter((each) => each !== name);
    const runs = chosen.includes(name) ? others : [...chosen, name];
    if (runs.length) this.choose({runs});
  }

  /** Says how much of what was recorded is shown. */
  #drawRange() {
    const {steps, recordedSteps, leftOut} = this.data[0];
    const hint = this.source.isLive ? "; drag over a chart to see more of a part" : "";
    const shown = steps.length < recordedSteps
      ? `${wholeNumber(steps.length)} of ${wholeNumber(recordedSteps)} recorded steps shown${hint}`
      : `${wholeNumber(recordedSteps)} recorded steps`;
    const parts = [html("span", {}, recordedSteps === 1 ? "1 recorded step" : shown)];
    if (leftOut) parts.push(html("span", {class: "gf-warning"}, `${wholeNumber(leftOut)} of another model left out`));
    if (this.state.from !== undefined) {
      parts.push(html("button", {
        type: "button", class: "gf-button", onclick: () => this.choose({from: null, to: null}),
      }, "Show all steps"));
    }
    this.rangeElement.replaceChildren(...parts);
  }

  #drawAlarms() {
    const alarms = this.data.flatMap(({run, alarms: own}) => own.map((alarm) => ({run, ...alarm})));
    this.alarmsElement.hidden = !alarms.length;
    if (!alarms.length) return;
    const shown = alarms.slice(-100).reverse();
    const words = alarms.length > shown.length ? `the last ${shown.length} of ${alarms.length}` : String(alarms.length);
    this.alarmsElement.replaceChildren(
      html("h2", {}, "Alarms", html("span", {class: "gf-count"}, words)),
      html("ol", {}, ...shown.map((alarm) => html("li", {}, html("button", {
        type: "button", onclick: () => this.goTo(alarm.step),
      },
      html("span", {class: "gf-when"}, `step ${wholeNumber(alarm.step)}`),
      html("span", {class: "gf-kind"}, (alarm.alarm ?? "alarm").replaceAll("_", " ")),
      html("span", {class: "gf-what"}, alarm.text ?? ""),
      this.data.length > 1 ? html("span", {class: "gf-where"}, shortRun(alarm.run)) : null,
      )))),
    );
  }

  #resize() {
    const width = this.element.clientWidth;
    if (!width || width === this.width) return;
    this.width = width;
    this.draw();
  }

  #poll() {
    if (document.visibilityState === "visible" && this.element.clientWidth) this.reload();
  }

  #say(error) {
    // What the server refused is one sentence; of anything else a person can only try again.
    const text = error.isRefusal ? error.message : "TensorBoard does not answer. Is it still running?";
    if (!error.isRefusal) console.warn(error);
    this.notice.replaceChildren(text);
    this.notice.hidden = false;
  }

  #sayEmpty() {
    this.data = null;
    this.body.hidden = true;
    this.#drawFaults();
    this.notice.replaceChildren(
      "No gradients are recorded in this log yet. Train with reszoo.GradientRecorder, and they appear here.");
    this.notice.hidden = !this.faults.hidden;
  }

  /** Names each run that cannot be shown, or not whole, with the reason. */
  #drawFaults() {
    const faults = this.store.faults();
    this.faults.hidden = !faults.length;
    const rest = faults.length - FAULTS_AT_MOST;
    this.faults.replaceChildren(html("h2", {}, "What cannot be shown"), html("ul", {},
      ...faults.slice(0, FAULTS_AT_MOST).map(([run, reason]) => {
        return html("li", {}, html("strong", {title: run}, shortRun(run)), ` ${reason}`);
      }),
      rest > 0 ? html("li", {}, `and ${wholeNumber(rest)} more`) : null));
  }
}

/** The ends of the time axis: each step stands in the middle of its share. */
function domainOf(steps) {
  if (!steps.length) return [0, 1];
  const [first, last] = [steps[0], steps.at(-1)];
  const half = steps.length > 1 ? (last - first) / (steps.length - 1) / 2 : 0.5;
  return [first - half, last + half];
}

function mergeSteps(all) {
  if (all.length === 1) return Array.from(all[0]);
  return [...new Set(all.flatMap((steps) => Array.from(steps)))].sort((a, b) => a - b);
}
