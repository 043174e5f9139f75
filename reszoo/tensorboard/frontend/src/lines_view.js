// The section of the lines: chosen blocks and statistics over steps.

import {html, visible} from "./dom.js";
import {shortRun} from "./layout.js";
import {Lines} from "./lines.js";
import {Picker} from "./picker.js";
import {extent, inWords, isLog, joinExtents, withUnit} from "./scales.js";
import {tipOf} from "./tooltip.js";

const MOST_LINES = 48;

export class LinesView {
  constructor(app) {
    this.app = app;
    this.lines = new Lines({
      zoom: (from, to) => app.zoom(from, to),
      choose: (step) => app.goTo(Math.round(step)),
      point: (series, step, value, x, y) => this.#point(series, step, value, x, y),
      leave: () => app.tooltip.hide(),
    });
    this.blockPicker = new Picker("Blocks", (blocks) => app.choose({blocks}));
    this.statisticPicker = new Picker("Statistics", (lines) => app.choose({lines: lines.length ? lines : null}));
    this.note = html("p", {class: "gf-note"});
    this.element = html("section", {class: "gf-section", "aria-label": "Lines"},
      html("div", {class: "gf-section-head"}, html("div", {class: "gf-track-head"}, html("h2", {}, "Chosen blocks over steps"), app.help.button("lines"),
        app.saveMenu("Chosen blocks over steps", "lines", () => [visible(this.lines.element)])),
        html("div", {class: "gf-controls"},
          this.blockPicker.element, this.statisticPicker.element, this.#smoothing(),
          this.#button("CSV", () => this.lines.saveCsv()))),
      this.lines.element, this.note);
  }

  #smoothing() {
    this.slider = html("input", {
      type: "range", min: 0, max: 0.99, step: 0.01,
      oninput: () => this.app.choose({smooth: Number(this.slider.value) || null}),
    });
    this.smoothingLabel = html("output", {});
    return html("label", {class: "gf-menu"}, html("span", {}, "Smoothing"), this.slider, this.smoothingLabel);
  }

  #button(words, onclick) {
    return html("button", {type: "button", class: "gf-button", title: `Download as ${words}`, onclick}, words);
  }

  #statistics() {
    const names = this.app.statistics().map((each) => each.name);
    const chosen = (this.app.state.lines ?? []).filter((name) => names.includes(name));
    return chosen.length ? chosen : [this.app.time.statistic()];
  }

  /** The chosen blocks; of a run where none is chosen the first, the middle and the last. */
  #blocks() {
    const names = [...new Set(this.app.data.flatMap((data) => data.blocks.map((block) => block.name)))];
    const chosen = (this.app.state.blocks ?? []).filter((name) => names.includes(name));
    if (chosen.length) return {names, chosen};
    return {names, chosen: [...new Set([names[0], names[names.length >> 1], names.at(-1)])]};
  }

  needs() {
    return this.#statistics();
  }

  draw() {
    const {app} = this;
    const {names, chosen} = this.#blocks();
    const statistics = this.#statistics();
    this.blockPicker.set(names.map((name) => [name, name]), chosen, String(chosen.length));
    this.statisticPicker.set(app.statistics().map((each) => [each.name, inWords(each.name)]), statistics,
      statistics.length === 1 ? inWords(statistics[0]) : String(statistics.length));
    const smoothing = Math.max(0, Math.min(0.99, app.state.smooth ?? 0));
    this.slider.value = smoothing;
    this.smoothingLabel.textContent = smoothing.toFixed(2);
    const all = this.#series(chosen, statistics);
    const series = all.slice(0, MOST_LINES);
    this.note.textContent = all.length > series.length ? `The first ${MOST_LINES} of ${all.length} lines are drawn.` : "";
    const range = joinExtents(series.map((each) => extent([each.values])));
    const units = new Set(statistics.map((name) => app.describe(name).unit));
    this.lines.draw(series, {
      width: app.width, theme: app.theme(), smoothing, domain: app.domain,
      log: isLog(statistics.map((name) => app.describe(name)), range, app.state.scale),
      alarms: app.data.flatMap((data) => data.alarms),
      unit: units.size === 1 ? [...units][0].replace(/^none,?\s*/, "") : "",
    });
  }

  #point({run, block, statistic, withRun}, step, value, x, y) {
    const {app} = this;
    app.tooltip.show(tipOf(withRun ? `${block}, ${shortRun(run)}` : block, step,
      inWords(statistic), withUnit(value, app.describe(statistic))), x, x, y);
  }

  showStep(step) {
    this.lines.mark(step);
  }

  #series(blocks, statistics) {
    const several = this.app.data.length > 1;
    return this.app.data.flatMap((data, runIndex) => statistics.flatMap((statistic, statisticIndex) => {
      return blocks.map((block, blockIndex) => {
        const row = data.blocks.findIndex((each) => each.name === block);
        const values = data.series.get(statistic)?.[row];
        return values && {
          run: data.run, runIndex, withRun: several, block, blockIndex, statistic, statisticIndex,
          steps: data.steps, values,
        };
      }).filter(Boolean);
    }));
  }
}
