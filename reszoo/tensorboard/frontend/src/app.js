// The page: what is chosen, what is asked for, and what is drawn of it.

import {AlarmsView, raisedBy} from "./alarms_view.js";
import {axesOf, lensAt, NARROWEST_ARCH} from "./axis.js";
import {BusView} from "./bus_view.js";
import {realRun} from "./cuts.js";
import {html, svg, visible} from "./dom.js";
import {Help} from "./help.js";
import {Inspector} from "./inspector.js";
import {listenToKeys} from "./keys.js";
import {shortRun} from "./layout.js";
import {LinesView} from "./lines_view.js";
import {PathLengthsView} from "./path_lengths_view.js";
import {Picker} from "./picker.js";
import {PROFILE, ProfileView} from "./profile_view.js";
import {roomFor} from "./room.js";
import {KINDS, saveMenu} from "./save.js";
import {runColors, wholeNumber} from "./scales.js";
import {SheetView, SHEET_FROM} from "./sheet_view.js";
import {nearest} from "./source.js";
import {addressOf, followTheme, onStateChange, readState, writeState} from "./state.js";
import {Store} from "./store.js";
import {StripsView} from "./strips.js";
import {themeOf} from "./theme.js";
import {Timeline} from "./timeline.js";
import {TimeView} from "./time_view.js";
import {Tooltip} from "./tooltip.js";
import {judged, neededFor, watchOf, withSpans} from "./watch.js";

const POLL_MS = 20_000;
const CHIPS_AT_MOST = 5;
const FAULTS_AT_MOST = 8;
const ROOM_FOR_INSPECTOR = 1000;
const INSPECTOR_WIDTH = 380;
const LEAST_WIDTH = 280;
const PHONE = 600;
// A pointer that only passes opens no lens, and one that soon comes back finds it as it was.
const [LENS_OPENS_MS, LENS_CLOSES_MS] = [140, 300];

export class App {
  constructor(source) {
    this.source = source;
    this.store = new Store(source);
    this.state = readState();
    this.tooltip = new Tooltip();
    this.help = new Help();
    this.timeline = new Timeline({step: (step) => this.goTo(step)});
    this.time = new TimeView(this);
    this.sheet = new SheetView(this);
    this.tracks = [new BusView(this), new ProfileView(this), new StripsView(this), this.time];
    this.pathLengths = new PathLengthsView(this);
    this.views = [this.sheet, ...this.tracks, this.pathLengths, new LinesView(this)];
    this.alarmsView = new AlarmsView(this);
    this.inspector = new Inspector(this);
    this.#build();
  }

  #build() {
    this.runsElement = html("div", {class: "gf-runs"});
    this.runPicker = new Picker("Runs", (runs) => this.choose({runs}));
    this.rangeElement = html("div", {class: "gf-range"});
    this.notice = html("div", {class: "gf-notice", role: "alert", hidden: true});
    this.faults = html("section", {class: "gf-notice gf-faults", "aria-label": "What cannot be shown", hidden: true});
    this.lit = html("div", {class: "gf-column", hidden: true});
    this.lensFrame = html("div", {class: "gf-lens", hidden: true});
    this.legends = html("div", {class: "gf-legends"}, this.tracks[0].legend, this.time.legend);
    this.flow = html("section", {
      class: "gf-section gf-tracks", "aria-label": "Gradient flow",
      onpointerenter: () => clearTimeout(this.closing), onpointerleave: () => this.#leaveLens(), onfocusout: () => this.flow.matches(":hover") || this.#leaveLens(),
    },
      ...this.tracks.map((view) => view.element),
      this.legends, this.lensFrame, this.lit);
    const main = html("main", {}, this.sheet.element, this.flow, this.pathLengths.element, this.alarmsView.element, this.views.at(-1).element);
    this.body = html("div", {class: "gf-body", hidden: true}, main, this.inspector.element);
    this.patterns = hatch();
    this.element = html("div", {class: "gf"}, this.patterns,
      html("header", {class: "gf-header"},
        this.runsElement, this.timeline.element, this.rangeElement),
      this.notice, this.faults, this.body, this.tooltip.element, this.help.element);
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
    window.addEventListener("resize", () => this.#resize());
    listenToKeys(this);
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
      this.allData = data;
      this.notice.hidden = true;
      this.body.hidden = false;
      this.draw();
    } catch (error) {
      if (turn === this.turn) this.#say(error);
    }
  }

  /** What is drawn of a run; null if the server refuses it, which takes no other run down. */
  async #runData(name, statistics) {
    const small = await Promise.all(["alarms", "loss", "epochs", "pathLengths", "testAccuracy"].map((what) => {
      return this.#orNothing(name, this.store[what](name));
    }));
    if (small.some((each) => each === null)) return null;
    const [alarms, loss, epochs, pathLengths, accuracy] = small;
    const run = this.store.run(name);
    const watch = watchOf(run, alarms);
    const answers = await this.#orNothing(name, this.#series(name, statistics, neededFor([...alarms, ...watch.untested])));
    if (!answers) return null;
    const [series, whole] = answers;
    const {blocks} = run;
    const real = await this.#realOf(run);
    const data = {...series, run: name, blocks, descriptions: run.statistics, loss, epochs, pathLengths, accuracy, watch, real};
    const ofAll = {...whole, blocks};
    return {...data, alarms: [...withSpans(alarms, watch, ofAll), ...judged(watch, ofAll)]};
  }

  /** The run in which the skips that are cut of a run really are, with its numbers; null if there is none. */
  async #realOf({run, blocks}) {
    const {cut} = this.state;
    if (!cut) return null;
    const chosen = this.chosenRuns();
    const others = this.store.runs.filter((each) => each.run !== run && !this.store.error(each.run));
    // A run that is drawn anyway needs no line of its own.
    others.sort((a, b) => chosen.includes(b.run) - chosen.includes(a.run));
    const found = realRun(blocks, cut, others);
    if (!found) return null;
    const series = await this.#orNothing(found.run, this.store.need(found.run, PROFILE, this.range()));
    return series ? {...series, ...found, blocks} : this.#realOf({run, blocks});
  }

  /** The statistics in the range that is shown, and those that tell of alarms over all steps. */
  async #series(name, statistics, ofAlarms) {
    const isWhole = this.range().every((end) => end === null);
    const series = await this.store.need(name, isWhole ? [...statistics, ...ofAlarms] : statistics, this.range());
    return [series, isWhole ? series : await this.store.need(name, ofAlarms, [null, null])];
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

  /** Shows a step as long as the pointer is over it; null goes back to the chosen one. */
  preview(step) {
    if (step === null && this.previewed === undefined) return;
    this.previewed = step ?? undefined;
    cancelAnimationFrame(this.previewing);
    this.previewing = requestAnimationFrame(() => this.#showStep());
  }

  /** Lights the column of a block in all tracks, under the lens if it is narrow; a null axis puts the light out. */
  column(axis, place) {
    clearTimeout(this.opening);
    this.#span(this.lit, axis && place ? [axis.x(place.start), axis.x(place.own + 1)] : null);
    if (!axis || !place) return;
    clearTimeout(this.closing);
    if (axis.unitOf(place) < NARROWEST_ARCH) this.opening = setTimeout(() => this.#lensOver(axis, place), LENS_OPENS_MS);
  }

  /** Lays an element over all tracks between two positions of the axis. */
  #span(element, ends) {
    element.hidden = !ends;
    if (!ends) return;
    const {offsetLeft, offsetTop} = this.tracks[0].list;
    const top = element === this.lensFrame ? offsetTop : 0;
    element.style.cssText = `left: ${offsetLeft + ends[0]}px; width: ${ends[1] - ends[0]}px; top: ${top}px`;
  }

  /** Moves the lens to a block, which stays where it is on the screen. */
  #lensOver(axis, place) {
    const order = this.axes.indexOf(axis);
    if (order < 0) return;
    this.lensOn = {order, index: place.index, x: axis.center(place)};
    this.#drawTracks();
    this.column(this.axes[order], place);
  }

  #leaveLens() {
    clearTimeout(this.closing);
    this.closing = setTimeout(() => this.closeLens(), LENS_CLOSES_MS);
  }

  /** Returns whether it was open. */
  closeLens() {
    clearTimeout(this.opening);
    if (!this.lensOn) return false;
    this.lensOn = null;
    this.column(null);
    this.#drawTracks();
    // A block that has the focus gets it anew, which is no wish for the lens.
    clearTimeout(this.opening);
    return true;
  }

  #drawTracks() {
    if (!this.allData) return;
    this.#placeBlocks();
    for (const view of this.tracks) {
      view.draw();
      view.showStep(this.shownStep);
    }
  }

  toggleBlock(name) {
    const blocks = this.state.blocks ?? [];
    const others = blocks.filter((each) => each !== name);
    this.choose({blocks: others.length < blocks.length ? others : [...blocks, name]});
  }

  /** Chooses a block for the lines and opens it beside the tracks; a second time takes both back. */
  inspect(run, name) {
    const others = (this.state.blocks ?? []).filter((each) => each !== name);
    const isChosen = others.length < (this.state.blocks ?? []).length;
    this.inspector.run = run;
    this.choose({blocks: isChosen ? others : [...others, name], inspect: isChosen ? null : name});
  }

  closeInspector() {
    if (!this.state.inspect) return false;
    this.choose({inspect: null});
    return true;
  }

  /** Goes to where an alarm was raised: its step, its block and its statistic. */
  openAlarm(alarm) {
    const name = raisedBy(alarm);
    const map = this.statistics().some((each) => each.name === name) ? name : this.state.map ?? null;
    const exists = this.data.some(({blocks}) => blocks.some((block) => block.name === alarm.block));
    this.inspector.run = alarm.run;
    this.goTo(alarm.step);
    this.choose({map, inspect: exists ? alarm.block : null});
  }

  /** The steps of all alarms, in order. */
  alarmSteps() {
    const steps = (this.data ?? []).flatMap(({alarms}) => alarms.map(({step}) => step));
    return [...new Set(steps)].sort((a, b) => a - b);
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
    if (!this.allData || !this.element.clientWidth) return;
    this.data = this.#drawnData();
    this.#measure();
    this.#drawRuns();
    this.#drawRange();
    this.alarmsView.draw();
    const steps = mergeSteps(this.data.map((each) => each.steps));
    this.domain = domainOf(steps);
    this.timeline.setSteps(steps, this.data.flatMap((each) => each.alarms));
    this.#drawLosses();
    this.#drawEpochs();
    this.shownStep = this.#currentStep(steps);
    this.timeline.show(this.shownStep);
    // One after the other, since the last track gets what the others leave of the screen.
    for (const view of this.views) {
      view.draw();
      view.showStep(this.shownStep);
    }
    this.inspector.draw();
    this.#noteStep();
  }

  /** The runs that are drawn in full: all that are chosen, or of many the one that is looked at. */
  #drawnData() {
    if (this.allData.length < SHEET_FROM) return this.allData;
    return [this.allData.find(({run}) => run === this.state.focus) ?? this.allData[0]];
  }

  /** The width of the tracks, and the axis of each run, which stay as they are while nothing changes them. */
  #measure() {
    const whole = this.element.clientWidth;
    const isDocked = Boolean(this.state.inspect) && this.inspector.isOpen && whole >= ROOM_FOR_INSPECTOR;
    this.element.classList.toggle("is-docked", isDocked);
    // The paddings of the page and of a section, which are those of the style sheet.
    const margins = whole < PHONE ? 16 + 18 : 56 + 26;
    this.room = roomFor(this.data.length, window.innerHeight);
    this.width = Math.max(LEAST_WIDTH, whole - margins - (isDocked ? INSPECTOR_WIDTH : 0));
    const key = JSON.stringify([this.width, this.state.stage, this.allData.map(({blocks}) => blocks)]);
    if (key !== this.axesKey) {
      this.axesKey = key;
      this.plainAxes = axesOf(this.allData, this.width, this.state.stage);
      if (this.lensOn) delete this.lensOn.x;
    }
    this.#placeBlocks();
  }

  /** The axes as they are seen, through the lens if it is open. */
  #placeBlocks() {
    const lens = this.#lens();
    this.#span(this.lensFrame, lens && [lens.from, lens.to]);
    const key = JSON.stringify([this.axesKey, lens?.from, lens?.at.domain()]);
    if (key === this.seenKey) return;
    this.seenKey = key;
    this.axes = lens ? axesOf(this.allData, this.width, this.state.stage, lens) : this.plainAxes;
  }

  #lens() {
    const {order, index, x} = this.lensOn ?? {};
    const axis = this.plainAxes[order];
    const place = axis?.places.find((each) => each.index === index);
    return place ? lensAt(axis, place, x ?? axis.center(place)) : null;
  }

  axisOf(data) {
    return this.axes[this.allData.findIndex(({run}) => run === data.run)];
  }

  /** The colour of a run's lines. */
  colorOf(data) {
    return runColors(this.data.length, this.isDark)[this.data.indexOf(data)];
  }

  #drawLosses() {
    this.timeline.setLosses(this.data.flatMap((data) => {
      return data.loss.steps.length ? [{...data.loss, color: this.colorOf(data)}] : [];
    }));
  }

  /** The epochs of the first run that says them, and of which run they are if others have other ones. */
  #drawEpochs() {
    const known = this.data.filter(({epochs}) => epochs.steps.length);
    const areAlike = known.every(({epochs}) => JSON.stringify(epochs) === JSON.stringify(known[0].epochs));
    this.timeline.setEpochs(known[0]?.epochs ?? {steps: [], epochs: []}, areAlike ? "" : ` of ${shortRun(known[0].run)}`);
  }

  #currentStep(steps) {
    const wanted = this.state.step;
    if (!steps.length) return null;
    return wanted === undefined ? steps.at(-1) : steps[nearest(steps, wanted)];
  }

  #showStep() {
    this.shownStep = this.previewed ?? this.#currentStep(this.timeline.steps);
    this.timeline.show(this.shownStep);
    for (const view of this.views) view.showStep(this.shownStep);
    this.inspector.showStep(this.shownStep);
    this.#noteStep();
  }

  #noteStep() {
    // For whoever measures: the step that is drawn, and when the first picture stood.
    this.element.dataset.step = this.shownStep ?? "";
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
    const link = html("button", {
      type: "button", class: "gf-button gf-save", title: "Copy the address of this view",
      onclick: () => this.#copyLink(link),
    }, "Link");
    parts.push(...(addressOf() ? [link] : []), ...KINDS.map(([words, how]) => {
      const button = html("button", {
        type: "button", class: "gf-button gf-save", title: `Take the tracks along as ${words}`,
        onclick: () => this.#save(how, button, ["Gradient flow", `over time: ${this.time.inWords()}`], "gradient_flow", () => [...this.tracks.map((view) => visible(view.element)), visible(this.legends)]),
      }, words);
      return button;
    }));
    const keys = html("button", {type: "button", class: "gf-question", "aria-label": "Keys", title: "Keys",
      onclick: () => this.help.openKeys(keys)}, "?");
    this.rangeElement.replaceChildren(...parts, keys);
  }

  /** Copies the address; where a frame may not, it is shown to be copied by hand. */
  async #copyLink(from) {
    writeState(this.state);
    const address = addressOf();
    try {
      await navigator.clipboard.writeText(address);
      from.textContent = "Copied";
      setTimeout(() => { from.textContent = "Link"; }, 1500);
    } catch {
      this.help.openText(from, "The address of this view", address);
    }
  }

  /**
   * A menu that takes a view along.
   *
   * @param parts What it is made of, as toSvg takes it, when it is asked. @param shown What it shows, in
   *   words, where only its menus say so on the page.
   */
  saveMenu(words, name, parts, shown = () => "") {
    return saveMenu(words, (how, menu) => this.#save(how, menu, [words, shown()], `gradient_flow_${name}`, parts));
  }

  /** Takes a view along, with the runs and the step above it. */
  #save(how, from, words, name, parts) {
    this.closeLens();
    const runs = (words[0] === "All runs" ? this.allData : this.data).map(({run}) => shortRun(run));
    const title = [...words.filter(Boolean), runs.join(", "), `step ${wholeNumber(this.shownStep)}`].join(" \u00b7 ");
    how({parts: parts().filter((elements) => elements.length), title, name, patterns: this.patterns}, () => {
      this.help.openText(from, "This frame may not print", "Take the SVG, or open the page in a window of its own.");
    });
  }

  #resize() {
    const width = this.element.clientWidth;
    // A phone's height changes while one scrolls.
    const seen = `${width} ${width < PHONE ? "" : window.innerHeight}`;
    if (!width || seen === this.seen) return;
    this.seen = seen;
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
    this.data = this.allData = null;
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

/** The pattern of what is not defined, for everything that is drawn as SVG. */
function hatch() {
  const size = {width: 6, height: 6};
  return svg("svg", {width: 0, height: 0, class: "gf-patterns", "aria-hidden": "true"},
    svg("defs", {}, svg("pattern", {id: "gf-hatch", ...size, patternUnits: "userSpaceOnUse"},
      svg("rect", {...size, class: "gf-hatch-ground"}),
      svg("path", {d: "M-1 1L1 -1M0 6L6 0M5 7L7 5", class: "gf-hatch-line"}))));
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
