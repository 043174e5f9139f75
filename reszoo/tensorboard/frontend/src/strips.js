// Four numbers of every block at the step, a row of cells each, under the blocks of the bus.

import {LEFT, RIGHT} from "./axis.js";
import {html, set, svg} from "./dom.js";
import {fit, shortRun} from "./layout.js";
import {colorScale, number, updateScale} from "./scales.js";
import {nearest} from "./source.js";

const STRIPS = [
  {name: "skip_share", words: "share", ends: ["0", "1"]},
  {name: "skip_branch_cosine", words: "cosine", ends: ["\u22121", "1"]},
  {name: "gradient_gain", words: "gain", ends: ["\u00d70.1", "\u00d710"]},
  {name: "update_to_weight_ratio", words: "update / weight", ends: ["1e-5", "0.1"], scale: updateScale},
];

export class StripsView {
  constructor(app) {
    this.app = app;
    this.list = html("div", {class: "gf-strips"});
    this.element = html("div", {class: "gf-track", role: "group", "aria-label": "At this step"}, this.list);
    app.help.button("strips");
  }

  needs() {
    return STRIPS.map(({name}) => name);
  }

  draw() {
    const {app} = this;
    const known = new Set(app.statistics().map((each) => each.name));
    this.shown = STRIPS.filter(({name}) => known.has(name));
    const row = app.data.length > 1 ? 12 : 16;
    const gap = app.data.length > 1 ? 5 : 2;
    const height = this.shown.length * (row * app.data.length + gap);
    const drawing = svg("svg", {width: app.width, height, viewBox: `0 0 ${app.width} ${height}`, role: "img",
      "aria-label": `${this.shown.map(({words}) => words).join(", ")} of each block at the step`});
    this.rows = this.shown.flatMap((strip, i) => {
      const look = {log: true, dark: app.isDark};
      const scale = strip.scale ? strip.scale(look) : colorScale(app.describe(strip.name), null, look);
      const top = i * (row * app.data.length + gap);
      drawing.append(...this.#names(strip, top, row), this.#bar(scale, strip, top + (row * app.data.length) / 2));
      return app.data.map((data, order) => this.#row(drawing, strip, data, scale, top + order * row, row));
    });
    this.list.replaceChildren(drawing);
    this.element.hidden = !this.shown.length;
  }

  #names({words, name}, top, row) {
    const {data, help} = this.app;
    const open = (event) => help.open(name, event.currentTarget, this.app.describe(name).formula);
    const label = svg("text", {
      class: "gf-strip-label gf-opens", x: LEFT - 8, y: top + row - 4, tabindex: "0", role: "button",
      onclick: (event) => {
        open(event);
        event.stopPropagation();
      },
      onkeydown: (event) => event.key === "Enter" && open(event),
    }, words);
    const runs = data.slice(1).map(({run}, i) => {
      return svg("text", {class: "gf-strip-run", x: LEFT - 8, y: top + (i + 2) * row - 3}, fit(shortRun(run), LEFT - 10));
    });
    return [label, ...runs];
  }

  /** The ends of a strip's colours, at its right. */
  #bar(scale, {ends}, middle) {
    const group = svg("g", {class: "gf-strip-bar"});
    const [x, width] = [this.app.width - RIGHT + 8, 28];
    for (let i = 0; i < width; i += 2) {
      group.append(svg("rect", {x: x + i, y: middle - 4, width: 2.2, height: 6, fill: scale.colors((i + 1) / width)}));
    }
    group.append(svg("text", {x: x + width + 5, y: middle + 3}, `${ends[0]}\u2026${ends[1]}`));
    return group;
  }

  #row(drawing, {name, words}, data, scale, y, height) {
    const axis = this.app.axisOf(data);
    const cells = axis.places.map((place) => {
      const [left, right] = axis.span(place);
      const gap = right - left > 6 ? 1 : 0;
      const cell = svg("rect", {x: left + gap / 2, y, width: Math.max(0.6, right - left - gap), height: height - 1.5});
      const title = svg("title");
      drawing.append(svg("g", {}, cell, title));
      return {index: place.index, cell, title};
    });
    return {name, words, data, scale, cells};
  }

  showStep(step) {
    if (step === null) return;
    for (const {name, words, data, scale, cells} of this.rows) {
      const rows = data.series.get(name);
      const index = nearest(data.steps, step);
      for (const {index: block, cell, title} of cells) {
        const value = rows ? rows[block][index] : NaN;
        set(cell, {fill: scale.of(value)});
        title.textContent = `${data.blocks[block].name}, ${words}: ${number(value)}`;
      }
    }
  }
}
