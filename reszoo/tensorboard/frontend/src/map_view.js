// The section of the heatmaps: one for each chosen run on one scale, and what they have of the first.

import {colorBar, comparisonBar} from "./legend.js";
import {html} from "./dom.js";
import {Heatmap} from "./heatmap.js";
import {shortRun} from "./layout.js";
import {menu} from "./picker.js";
import {
  bounds, colorScale, comparisonScale, extent, inWords, isLog, joinExtents, number, withUnit,
} from "./scales.js";
import {compare} from "./store.js";
import {tipOf} from "./tooltip.js";

const MOST_DECADES = 1e12;
const NARROWEST = 360;
const GAP = 24;

export class MapView {
  constructor(app) {
    this.app = app;
    this.controls = html("div", {class: "gf-controls"});
    this.grid = html("div", {class: "gf-maps"});
    this.legend = html("div", {class: "gf-legends"});
    this.maps = [];
    this.element = html("section", {class: "gf-section", "aria-label": "Blocks by steps"},
      html("div", {class: "gf-section-head"}, html("h2", {}, "Blocks by steps"), this.controls),
      this.grid, this.legend);
  }

  statistic() {
    const names = this.app.statistics().map((each) => each.name);
    return names.includes(this.app.state.map) ? this.app.state.map
      : names.find((each) => each === "input_gradient_norm") ?? names[0];
  }

  needs() {
    return [this.statistic()];
  }

  draw() {
    this.#makeScales();
    this.#drawControls();
    const contents = [...this.app.data.map((data) => this.#ofRun(data)), ...this.#comparisons()];
    while (this.maps.length < contents.length) this.maps.push(this.#map());
    this.shown = this.maps.slice(0, contents.length);
    const room = this.app.element.clientWidth - 56 - 32;
    const runs = this.app.data.length;
    const columns = Math.max(1, Math.min(runs, Math.floor((room + GAP) / NARROWEST)));
    const width = Math.floor((room - GAP * (columns - 1)) / columns);
    this.grid.style.gridTemplateColumns = `repeat(${columns}, ${width}px)`;
    this.shown.forEach((map, i) => {
      map.content = contents[i];
      map.title.replaceChildren(...contents[i].title);
      // Where each run has its column, what compares it with the first stands under it.
      map.element.style.gridColumn = columns === runs ? String((i < runs ? i : i - runs + 1) + 1) : "";
      map.heatmap.draw({...contents[i], tallestRow: runs > 1 ? 13 : 20}, width, this.app.theme());
    });
    this.#placeLegend(columns === runs && runs > 1);
    this.legend.replaceChildren(
      colorBar(this.colors, this.app.describe(this.statistic()), ""),
      ...(this.ratios ? [comparisonBar(this.ratios, `${this.ratios.isDifference ? "minus" : "\u00f7"} ${shortRun(this.app.data[0].run)}`)] : []),
    );
  }

  /** The legend stands in the gap under the first run, if there is one. */
  #placeLegend(hasGap) {
    this.grid.replaceChildren(...this.shown.map((each) => each.element));
    this.legend.style.gridArea = hasGap ? "2 / 1" : "";
    (hasGap ? this.grid : this.element).append(this.legend);
  }

  showStep(step) {
    const chosen = new Set(this.app.state.blocks ?? []);
    for (const {heatmap} of this.shown ?? []) heatmap.mark(step, chosen);
  }

  #rows(data) {
    return data.series.get(this.statistic()) ?? data.blocks.map(() => new Float32Array(data.steps.length).fill(NaN));
  }

  #makeScales() {
    const {app} = this;
    const description = app.describe(this.statistic());
    const range = joinExtents(app.data.map((data) => extent(this.#rows(data))));
    this.canLog = Boolean(range) && !bounds(description) && range.high > 0;
    this.isLog = this.canLog && isLog([description], range, app.state.scale);
    if (range) range.positive = Math.max(range.positive, range.high / MOST_DECADES);
    this.colors = colorScale(description, range, {log: this.isLog, dark: app.isDark});
  }

  #drawControls() {
    const {app} = this;
    const scales = [["log", "logarithmic"], ["linear", "linear"]];
    this.controls.replaceChildren(
      menu("Statistic", app.statistics().map((each) => [each.name, inWords(each.name)]), this.statistic(),
        (map) => app.choose({map, scale: null})),
      ...(this.canLog ? [menu("Scale", scales, this.isLog ? "log" : "linear", (scale) => app.choose({scale}))] : []),
    );
  }

  #ofRun(data) {
    return {
      title: [shortRun(data.run)], data, blocks: data.blocks, steps: data.steps, rows: this.#rows(data),
      colors: this.colors, domain: this.app.domain, alarms: data.alarms,
      label: `${inWords(this.statistic())} of ${data.run}, blocks by steps; arrow keys move the step`,
      say: (value) => withUnit(value, this.app.describe(this.statistic())),
    };
  }

  /** Each further run against the first, by the blocks' names. */
  #comparisons() {
    const [first, ...others] = this.app.data;
    const description = this.app.describe(this.statistic());
    const isDifference = Boolean(bounds(description));
    const all = others.map((data) => {
      const aligned = data.blocks.map((block) => {
        return this.#rows(first)[first.blocks.findIndex((each) => each.name === block.name)];
      });
      const reference = {steps: first.steps, rows: aligned};
      return {data, rows: compare(reference, {steps: data.steps, rows: this.#rows(data)}, isDifference)};
    });
    this.ratios = others.length
      ? comparisonScale(description, joinExtents(all.map(({rows}) => extent(rows))), {dark: this.app.isDark})
      : null;
    return all.map(({data, rows}) => ({
      title: [shortRun(data.run), html("span", {}, isDifference ? " minus " : " \u00f7 "), shortRun(first.run)],
      data, blocks: data.blocks, steps: data.steps, rows, colors: this.ratios,
      domain: this.app.domain, alarms: [],
      label: `${data.run} against ${first.run}, blocks by steps`,
      say: (value) => (isDifference ? number(value) : `\u00d7${number(value)}`),
    }));
  }

  #map() {
    const map = {title: html("h3", {})};
    map.heatmap = new Heatmap({
      hover: (row, index, x, y) => this.#hover(map.content, row, index, x, y),
      leave: () => this.app.tooltip.hide(),
      choose: (row, step) => this.#choose(map.content, row, step),
      zoom: (from, to) => this.app.zoom(from, to),
    });
    map.element = html("div", {class: "gf-map"}, map.title, map.heatmap.element);
    return map;
  }

  #hover(content, row, index, x, y) {
    this.app.tooltip.show(tipOf(content.blocks[row].name, content.steps[index],
      inWords(this.statistic()), content.say(content.rows[row][index])), x, x, y);
  }

  /** Moves the bus to a cell's step, and adds its block to the lines. */
  #choose(content, row, step) {
    this.app.goTo(step);
    const blocks = this.app.state.blocks ?? [];
    const name = row === null ? null : content.blocks[row].name;
    if (name !== null && !blocks.includes(name)) this.app.toggleBlock(name);
  }
}
