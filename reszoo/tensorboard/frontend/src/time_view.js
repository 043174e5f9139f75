// The track of time: a statistic over depth and steps of each chosen run on one scale, and what the
// others have of the first.

import {matchBlocks} from "./axis.js";
import {grouped} from "./explain.js";
import {colorBar, infiniteKey, quotientBar, undefinedKey} from "./legend.js";
import {html, visible} from "./dom.js";
import {fit, shortRun} from "./layout.js";
import {menu} from "./picker.js";
import {isSize, relate, RELATIONS} from "./relative.js";
import {
  bounds, colorScale, differenceScale, extent, hasInfinite, inWords, isLog, joinExtents, number, quotientScale, times, withUnit,
} from "./scales.js";
import {compare} from "./store.js";
import {TimeMap} from "./time_map.js";
import {tipOf} from "./tooltip.js";

const MOST_DECADES = 1e12;
// Heights in pixels: what a single map may have, the margins below it, what a map of several may have,
// what it has where all of them are shown unasked, and the gap between two.
const [LEAST, MOST, BELOW] = [112, 360, 20];
const [LEAST_OF_SEVERAL, MOST_OF_SEVERAL, UNASKED, GAP] = [30, 200, 72, 6];

export class TimeView {
  constructor(app) {
    this.app = app;
    this.controls = html("div", {class: "gf-controls"});
    this.list = html("div", {class: "gf-maps"});
    this.note = html("span", {class: "gf-note"});
    this.legend = html("div", {class: "gf-legend-part"});
    this.maps = [];
    this.element = html("div", {class: "gf-track gf-time", role: "group", "aria-label": "Over time"},
      html("div", {class: "gf-track-head"}, html("h2", {}, "Over time"), app.help.button("time"),
        app.saveMenu("Over time", "over_time", () => [visible(this.element), visible(this.legend)], () => this.inWords()), this.note, this.controls),
      this.list);
  }

  statistic() {
    const names = this.app.statistics().map((each) => each.name);
    return names.includes(this.app.state.map) ? this.app.state.map
      : names.find((each) => each === "input_gradient_norm") ?? names[0];
  }

  /** What the values are relative to. */
  #relation() {
    if (!isSize(this.app.describe(this.statistic()))) return "recorded";
    const {values} = this.app.state;
    return RELATIONS.some(([each]) => each === values) ? values : "median";
  }

  /** The statistic, and what it is relative to. */
  inWords() {
    const relation = this.#relation() === "recorded" ? "" : RELATIONS.find(([each]) => each === this.#relation())[1];
    return [inWords(this.statistic()), relation].filter(Boolean).join(" ");
  }

  needs() {
    return [this.statistic(), "skip_gradient_norm"];
  }

  draw() {
    this.#makeScales();
    this.#drawControls();
    this.#drawLegend();
    const maps = this.#chosenMaps();
    const contents = [...(maps === "quotients" ? [] : this.app.data.map((data) => this.#ofRun(data))),
      ...(maps === "runs" ? [] : this.#comparisons())];
    this.note.textContent = [...new Set(contents.map(({matched}) => matched).filter(Boolean))].join(" \u00b7 ");
    this.list.classList.toggle("is-several", this.app.data.length > 1);
    while (this.maps.length < contents.length) this.maps.push(this.#map());
    this.shown = this.maps.slice(0, contents.length);
    this.shown.forEach((map, i) => {
      map.content = contents[i];
      map.title.replaceChildren(...contents[i].title);
      map.title.title = map.title.textContent;
      map.title.hidden = this.app.data.length === 1;
      map.timeMap.draw(contents[i], this.#height(contents.length), this.app.theme());
    });
    this.list.replaceChildren(...this.shown.map((each) => each.element));
  }

  #drawLegend() {
    const [bus] = this.app.tracks;
    const hasAnyInfinite = bus.hasInfinite || this.app.data.some((data) => hasInfinite(this.#rows(data)));
    this.legend.replaceChildren(...this.#bars(), html("div", {class: "gf-icons"},
      ...bus.icons(), undefinedKey(), ...(hasAnyInfinite ? [infiniteKey()] : [])));
  }

  /** What the marks of the bus and the hatches mean. */
  keys() {
    return [...this.legend.querySelectorAll(".gf-icons")];
  }

  /** The bars of colours: one for all quotients, whatever of. */
  #bars() {
    const first = fit(shortRun(this.app.data[0].run), 160);
    const isSeveral = this.app.data.length > 1;
    const isRelative = this.#relation() !== "recorded";
    const relation = RELATIONS.find(([each]) => each === this.#relation())[1];
    const quotients = [...(isSeveral ? [`\u00f7 ${first}`] : []),
      ...(isRelative ? [isSeveral ? relation : this.inWords()] : [])];
    return [
      ...(isRelative ? [] : [colorBar(this.colors, this.app.describe(this.statistic()), "")]),
      ...(quotients.length ? [quotientBar(quotientScale({dark: this.app.isDark}), quotients.join(" and "))] : []),
      ...(this.ratios && !this.ratios.isQuotient ? [quotientBar(this.ratios, `minus ${first}`)] : []),
    ];
  }

  /** What the other tracks leave of the screen. */
  #left() {
    const top = this.list.getBoundingClientRect().top + window.scrollY;
    return window.innerHeight - top - this.app.legends.offsetHeight - BELOW;
  }

  /** The maps share what is left of the screen. */
  #height(count) {
    const [least, most] = this.app.data.length > 1 ? [LEAST_OF_SEVERAL, MOST_OF_SEVERAL] : [LEAST, MOST];
    return Math.round(Math.max(least, Math.min(most, (this.#left() - (count - 1) * GAP) / count)));
  }

  /** "runs", "quotients" or "both"; unasked those of the runs, and both where there is room. */
  #chosenMaps() {
    const {data, state} = this.app;
    if (data.length === 1) return "runs";
    if (["runs", "quotients", "both"].includes(state.maps)) return state.maps;
    const count = 2 * data.length - 1;
    return this.#left() >= count * UNASKED + (count - 1) * GAP ? "both" : "runs";
  }

  showStep(step) {
    const chosen = new Set(this.app.state.blocks ?? []);
    for (const {timeMap} of this.shown ?? []) timeMap.mark(step, chosen);
  }

  #rows(data) {
    return data.series.get(this.statistic()) ?? data.blocks.map(() => new Float32Array(data.steps.length).fill(NaN));
  }

  #related(data) {
    return relate(this.#rows(data), data.blocks, this.#relation());
  }

  #makeScales() {
    const {app} = this;
    const description = app.describe(this.statistic());
    const range = joinExtents(app.data.map((data) => extent(this.#rows(data))));
    this.canLog = Boolean(range) && !bounds(description) && range.high > 0 && this.#relation() === "recorded";
    const log = this.canLog && isLog([description], range, app.state.scale);
    this.isLog = log;
    if (range) range.positive = Math.max(range.positive, range.high / MOST_DECADES);
    this.colors = this.#relation() === "recorded"
      ? colorScale(description, range, {log, dark: app.isDark})
      : quotientScale({dark: app.isDark});
    const compared = bounds(description) ? differenceScale(description, {dark: app.isDark}) : quotientScale({dark: app.isDark});
    this.ratios = app.data.length > 1 ? compared : null;
  }

  #drawControls() {
    const {app} = this;
    const scales = [["log", "logarithmic"], ["linear", "linear"]];
    const by = bounds(app.describe(this.statistic())) ? "minus" : "\u00f7";
    const maps = [["runs", "each run"], ["quotients", `${by} ${fit(shortRun(app.data[0].run), 130)}`], ["both", "both"]];
    this.controls.replaceChildren(
      ...(app.data.length > 1 ? [menu("Maps", maps, this.#chosenMaps(), (chosen) => app.choose({maps: chosen}))] : []),
      menu("Statistic", grouped(app.statistics(), inWords), this.statistic(),
        (map) => app.choose({map, scale: null})),
      ...(isSize(app.describe(this.statistic()))
        ? [menu("Values", RELATIONS, this.#relation(), (values) => app.choose({values, scale: null}))] : []),
      ...(this.canLog ? [menu("Scale", scales, this.isLog ? "log" : "linear", (scale) => app.choose({scale}))] : []),
    );
  }

  #ofRun(data) {
    const {app} = this;
    const rows = this.#related(data);
    const isRelative = this.#relation() !== "recorded";
    return {
      title: [shortRun(data.run)], data, axis: app.axisOf(data), steps: data.steps, rows,
      colors: this.colors, domain: app.domain, alarms: data.alarms,
      label: `${inWords(this.statistic())} of ${data.run} over depth and time; arrow keys go from cell to cell`,
      say: (row, index) => {
        const value = withUnit(this.#rows(data)[row][index], app.describe(this.statistic()));
        return isRelative ? `${times(rows[row][index])} (${value})` : value;
      },
      nothing: extentOrInfinite(rows) ? "" : this.#whyNothing(data),
    };
  }

  /** Why there is no value at all. */
  #whyNothing(data) {
    const name = inWords(this.statistic());
    const skip = data.series.get("skip_gradient_norm");
    const isOfSkip = /skip/.test(this.statistic());
    if (isOfSkip && skip?.every((row) => row.every((value) => !(value > 0)))) return `no skip gradient in this run, so no ${name}`;
    if (!data.series.has(this.statistic())) return `${name} is not recorded in this run`;
    return `${name} is not defined at any step shown`;
  }

  /** Each further run against the first: block for block, or by relative depth. */
  #comparisons() {
    const {app} = this;
    const [first, ...others] = app.data;
    const description = app.describe(this.statistic());
    const isDifference = Boolean(bounds(description));
    return others.map((data) => {
      const {indices, words} = matchBlocks(first.blocks, data.blocks);
      const reference = {steps: first.steps, rows: indices.map((index) => this.#rows(first)[index])};
      const rows = compare(reference, {steps: data.steps, rows: this.#rows(data)}, isDifference);
      return {
        title: [shortRun(data.run), html("span", {}, isDifference ? " minus " : " \u00f7 "), shortRun(first.run)],
        matched: words,
        data, axis: app.axisOf(data), steps: data.steps, rows, colors: this.ratios, domain: app.domain, alarms: [],
        label: `${data.run} against ${first.run} over depth and time`,
        say: (row, index) => (isDifference ? number(rows[row][index]) : times(rows[row][index])),
        nothing: extentOrInfinite(rows) ? "" : "no value of both runs",
      };
    });
  }

  #map() {
    const map = {title: html("h3", {})};
    map.timeMap = new TimeMap({
      hover: (row, index, x, y, byKey) => this.#hover(map.content, row, index, x, y, byKey),
      leave: () => {
        this.app.tooltip.hide();
        this.app.column(null);
        this.app.preview(null);
      },
      choose: (row, step) => this.#choose(map.content, row, step),
      zoom: (from, to) => this.app.zoom(from, to),
    });
    map.element = html("div", {class: "gf-map"}, map.title, map.timeMap.element);
    return map;
  }

  #hover({data, axis, steps, say}, row, index, x, y, byKey) {
    const {app} = this;
    app.tooltip.show(tipOf(data.blocks[row].name, steps[index], inWords(this.statistic()), say(row, index)), x, x, y);
    app.column(axis, axis.places.find((place) => place.index === row));
    if (!byKey) app.preview(steps[index]);
  }

  /** Moves to a cell's step, and adds its block to the lines. */
  #choose({data}, row, step) {
    this.app.goTo(step);
    const blocks = this.app.state.blocks ?? [];
    const name = row === null ? null : data.blocks[row].name;
    if (name !== null && !blocks.includes(name)) this.app.toggleBlock(name);
  }
}

const extentOrInfinite = (rows) => rows.some((row) => row.some((value) => !Number.isNaN(value)));
