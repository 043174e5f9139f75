// A side panel about one block: each statistic with its rank among the blocks and its course.

import {alarmSpan} from "./alarms_view.js";
import {html, set, svg} from "./dom.js";
import {explain} from "./explain.js";
import {drawHistogram} from "./histogram.js";
import {drawLayers} from "./layers.js";
import {shortRun} from "./layout.js";
import {inWords, number, suitsLog, wholeNumber} from "./scales.js";
import {nearest} from "./source.js";
import {kindInWords} from "./tooltip.js";

const [WIDTH, HEIGHT] = [84, 20];
const ASK_AFTER_MS = 80;

export class Inspector {
  constructor(app) {
    this.app = app;
    this.rows = [];
    this.element = html("aside", {class: "gf-inspector", "aria-label": "Block", hidden: true});
  }

  /** The block that is open, of the run it was opened in or else the first that has it; null if none. */
  #open() {
    const {app} = this;
    const name = app.state.inspect;
    if (!name || !app.data) return null;
    const has = (data) => data.blocks.some((block) => block.name === name);
    const data = app.data.find((each) => each.run === this.run && has(each)) ?? app.data.find(has);
    return data ? {data, block: data.blocks.find((each) => each.name === name)} : null;
  }

  get isOpen() {
    return Boolean(this.#open());
  }

  async draw() {
    const open = this.#open();
    this.element.hidden = !open;
    this.rows = [];
    if (!open) return;
    const {app} = this;
    const {data, block} = open;
    const turn = (this.turn = Symbol("inspector"));
    const own = await app.store.ofBlock(data.run, block.name, app.range()).catch(() => null);
    if (turn !== this.turn) return;
    this.data = data;
    this.block = block;
    this.own = own ?? {steps: [], series: new Map()};
    this.rows = data.descriptions.filter(({name}) => this.own.series.has(name)).map((each) => this.#row(each));
    this.#build();
    this.showStep(app.shownStep);
  }

  #build() {
    const {app, data, block} = this;
    const groups = new Map();
    for (const row of this.rows) {
      const {group} = explain(row.description.name);
      groups.set(group, [...(groups.get(group) ?? []), row.element]);
    }
    const alarms = data.alarms.filter((alarm) => alarm.block === block.name);
    this.stepWords = html("span", {class: "gf-note"});
    this.histogram = html("div", {hidden: true});
    this.element.replaceChildren(...[
      html("div", {class: "gf-inspector-head"}, html("h2", {}, block.name),
        html("button", {type: "button", class: "gf-close", "aria-label": "Close", onclick: () => app.closeInspector()}, "\u00d7")),
      html("p", {class: "gf-note"}, [app.data.length > 1 ? shortRun(data.run) : "", kindInWords(block)].filter(Boolean).join(" \u00b7 ")),
      this.#cutButton(),
      alarms.length ? html("ul", {class: "gf-inspector-alarms"}, ...alarms.map((alarm) => html("li", {},
        html("strong", {}, `${(alarm.alarm ?? "alarm").replaceAll("_", " ")}, ${alarmSpan(alarm)}: `), alarm.text ?? "",
        alarm.isJudged ? " By the usual limits." : ""))) : null,
      drawLayers(block, app.store.run(data.run)?.paths),
      this.histogram,
      html("p", {}, this.stepWords),
      ...[...groups].map(([group, rows]) => html("table", {},
        html("caption", {}, group), html("tbody", {}, ...rows))),
    ].filter(Boolean));
  }

  /** Predicts the profile without this block's skip. */
  #cutButton() {
    const {app, block} = this;
    if (block.stops_gradient || block.shortcut === "zero" || block.parent) return null;
    const cut = app.state.cut ?? [];
    const isCut = cut.includes(block.name);
    const others = cut.filter((name) => name !== block.name);
    return html("button", {
      type: "button", class: "gf-button gf-cut", "aria-pressed": String(isCut),
      title: "The profile below the block as it would be, to first order, if only the branch brought the gradient back",
      onclick: () => app.choose({cut: isCut ? (others.length ? others : null) : [...cut, block.name]}),
    }, isCut ? "Put the skip back" : "Cut this skip and see");
  }

  #row(description) {
    const {name, formula} = description;
    const recorded = this.own.series.get(name);
    // The course of a size is drawn by its logarithm.
    const values = suitsLog(description) ? recorded.map((each) => (each > 0 ? Math.log(each) : NaN)) : recorded;
    const value = html("td", {class: "gf-inspector-value"});
    const rank = html("td", {class: "gf-inspector-rank"});
    const dot = svg("circle", {r: 2.2});
    const course = svg("svg", {width: WIDTH, height: HEIGHT, class: "gf-course", "aria-hidden": "true"},
      svg("path", {d: courseOf(values)}), dot);
    const element = html("tr", {"data-statistic": name},
      html("th", {scope: "row"},
        html("span", {class: "gf-stat"}, html("span", {title: formula || null}, inWords(name)), this.app.help.button(name, formula)),
        html("span", {class: "gf-unit"}, description.unit.replace(/^none,?\s*/, ""))),
      value, html("td", {}, course), rank);
    return {description, recorded, values, value, rank, dot, element, range: rangeOf(values)};
  }

  showStep(step) {
    if (!this.rows.length || step === null || step === undefined) return;
    const index = nearest(this.own.steps, step);
    if (index < 0) return;
    this.stepWords.textContent = `step ${wholeNumber(this.own.steps[index])} \u00b7 rank among the blocks, the largest first`;
    for (const {recorded, values, value, dot, range} of this.rows) {
      value.textContent = number(recorded[index]);
      const isKnown = Number.isFinite(values[index]);
      const [x, y] = isKnown ? courseAt(values, index, range) : [0, 0];
      set(dot, {cx: x, cy: y, visibility: isKnown ? null : "hidden"});
    }
    clearTimeout(this.asking);
    this.asking = setTimeout(() => {
      this.#askRanks(this.own.steps[index]);
      this.#askHistogram(this.own.steps[index]);
    }, ASK_AFTER_MS);
  }

  async #askRanks(step) {
    const {data, block, rows} = this;
    const all = await this.app.store.atStep(data.run, step).catch(() => null);
    if (!all || rows !== this.rows) return;
    const row = data.blocks.indexOf(block);
    for (const {description, rank} of rows) rank.textContent = rankOf(all.get(description.name), row);
  }

  async #askHistogram(step) {
    const {data, block, histogram} = this;
    const turn = (this.histogramTurn = Symbol("histogram"));
    const found = await this.app.store.histogram(data.run, block.name, step).catch(() => null);
    if (turn !== this.histogramTurn || histogram !== this.histogram) return;
    const drawn = found && drawHistogram(found.series, found.step, step);
    histogram.hidden = !drawn;
    histogram.replaceChildren(...(drawn ? [drawn] : []));
  }
}

function rankOf(values, row) {
  const known = values?.filter(Number.isFinite) ?? [];
  if (!values || !Number.isFinite(values[row])) return "";
  return `${known.filter((value) => value > values[row]).length + 1} of ${known.length}`;
}

function rangeOf(values) {
  const known = Array.from(values).filter(Number.isFinite);
  return [Math.min(...known), Math.max(...known)];
}

function courseAt(values, index, [low, high]) {
  const x = 3 + ((WIDTH - 6) * index) / Math.max(1, values.length - 1);
  const part = high > low ? (values[index] - low) / (high - low) : 0.5;
  return [x.toFixed(1), (HEIGHT - 3 - (HEIGHT - 6) * part).toFixed(1)];
}

function courseOf(values) {
  const range = rangeOf(values);
  const points = Array.from(values, (value, i) => (Number.isFinite(value) ? courseAt(values, i, range).join(" ") : null));
  return points.map((point, i) => (point ? `${i && points[i - 1] ? "L" : "M"}${point}` : "")).join("");
}
