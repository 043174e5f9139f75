// Four numbers of every block at the step, a row of cells each, under the blocks of the bus.

import {html, set, svg, visible} from "./dom.js";
import {shortRun} from "./layout.js";
import {colorScale, inWords, updateScale, withUnit} from "./scales.js";
import {nearest} from "./source.js";
import {tipOf} from "./tooltip.js";

const STRIPS = [
  {name: "skip_share", words: "share", ends: ["0", "1"]},
  {name: "skip_branch_cosine", words: "cosine", ends: ["\u22121", "1"]},
  {name: "gradient_gain", words: "gain", ends: ["\u00d70.1", "\u00d710"]},
  {name: "update_to_weight_ratio", words: "update / weight", ends: ["1e-5", "0.1"], scale: updateScale},
];

export class StripsView {
  constructor(app) {
    this.app = app;
    this.list = html("div", {
      class: "gf-strips", onpointermove: (event) => this.#point(event), onpointerleave: () => this.#leave(),
    });
    this.element = html("div", {class: "gf-track gf-at-step", role: "group", "aria-label": "At this step"},
      html("div", {class: "gf-strips-head"}, app.help.button("strips"), app.saveMenu("At this step", "strips", () => [visible(this.element)])), this.list);
  }

  needs() {
    return STRIPS.map(({name}) => name);
  }

  draw() {
    const {app} = this;
    const known = new Set(app.statistics().map((each) => each.name));
    this.shown = STRIPS.filter(({name}) => known.has(name));
    const {row, gap} = app.room.strips;
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
    const {left} = this.app.axisOf(data[0]);
    const open = (event) => help.open(name, event.currentTarget, this.app.describe(name).formula);
    const isSeveral = data.length > 1;
    const label = svg("text", {
      class: "gf-strip-label gf-opens", x: left - (isSeveral ? 14 : 8), y: top + (row * data.length) / 2 + 3.5, tabindex: "0", role: "button",
      onclick: (event) => {
        open(event);
        event.stopPropagation();
      },
      onkeydown: (event) => event.key === "Enter" && open(event),
    }, words);
    // Beside each row the colour of its run.
    const runs = data.map((each, i) => svg("path", {
      d: `M${left - 9} ${top + i * row}h5v${row - 1.5}h-5z`, fill: this.app.colorOf(each),
    }, svg("title", {}, shortRun(each.run))));
    return [label, ...(isSeveral ? runs : [])];
  }

  /** The ends of a strip's colours, at its right. */
  #bar(scale, {ends}, middle) {
    const group = svg("g", {class: "gf-strip-bar"});
    const [x, width] = [this.app.axisOf(this.app.data[0]).right + 8, 28];
    for (let i = 0; i < width; i += 2) {
      group.append(svg("rect", {x: x + i, y: middle - 4, width: 2.2, height: 6, fill: scale.colors((i + 1) / width)}));
    }
    group.append(svg("text", {x: x + width + 5, y: middle + 3}, `${ends[0]}\u2026${ends[1]}`));
    return group;
  }

  #row(drawing, {name}, data, scale, y, height) {
    const axis = this.app.axisOf(data);
    const cells = axis.places.map((place) => {
      const [left, right] = axis.span(place);
      const gap = right - left > 6 ? 1 : 0;
      const cell = svg("rect", {x: left + gap / 2, y, width: Math.max(0.6, right - left - gap), height: height - 1.5});
      drawing.append(cell);
      return {index: place.index, cell};
    });
    return {name, data, scale, cells, top: y, bottom: y + height};
  }

  showStep(step) {
    if (step === null) return;
    for (const {name, data, scale, cells} of this.rows) {
      const rows = data.series.get(name);
      const index = nearest(data.steps, step);
      for (const {index: block, cell} of cells) set(cell, {fill: scale.of(rows ? rows[block][index] : NaN)});
    }
  }

  /** Lights the block under the pointer and says its number. */
  #point(event) {
    const {app} = this;
    const box = this.list.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const row = this.rows.find(({top, bottom}) => y >= top && y < bottom);
    const axis = row && app.axisOf(row.data);
    const place = axis?.placeAt(x);
    if (!place) return this.#leave();
    const {data, name} = row;
    const index = nearest(data.steps, app.shownStep);
    const value = data.series.get(name)?.[place.index][index] ?? NaN;
    app.column(axis, place);
    const run = app.data.length > 1 ? `, ${shortRun(data.run)}` : "";
    app.tooltip.show(tipOf(data.blocks[place.index].name + run, data.steps[index], inWords(name),
      withUnit(value, app.describe(name))), event.clientX, event.clientX, event.clientY);
  }

  #leave() {
    this.app.tooltip.hide();
    this.app.column(null);
  }
}
