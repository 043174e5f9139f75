// The section of the buses: one for each chosen run, all on one scale.

import {Bus, isPlain, markIcon, spoken, widest} from "./bus.js";
import {colorBar, comparisonBar, widthLegend} from "./legend.js";
import {html} from "./dom.js";
import {layOut, shortRun} from "./layout.js";
import {menu} from "./picker.js";
import {
  colorScale, comparisonScale, extent, inWords, joinExtents, suitsLog, widthScale, wholeNumber,
} from "./scales.js";
import {nearest} from "./source.js";
import {quotient} from "./store.js";
import {Strip} from "./strip.js";
import {sentence} from "./summary.js";
import {blockDetails} from "./tooltip.js";

const MOST_DECADES = 1e8;

export class BusView {
  constructor(app) {
    this.app = app;
    this.panels = [];
    this.controls = html("div", {class: "gf-controls"});
    this.legend = html("div", {class: "gf-legends"});
    this.list = html("div", {class: "gf-buses"});
    this.element = html("section", {class: "gf-section", "aria-label": "The bus"},
      html("div", {class: "gf-section-head"}, html("h2", {}, "Where the gradient goes"), this.controls),
      this.list, this.legend);
  }

  /** What a width can show: each magnitude that is recorded of the skip and of the branch. */
  #magnitudes() {
    const names = new Set(this.app.statistics().map((each) => each.name));
    const sizes = this.app.statistics().filter((each) => /\bunits? of\b/.test(each.unit));
    return sizes.map((each) => each.name).filter((name) => name.startsWith("skip_"))
      .map((name) => name.slice(5)).filter((rest) => names.has(`branch_${rest}`));
  }

  #width() {
    const known = this.#magnitudes();
    return known.includes(this.app.state.width) ? this.app.state.width
      : known.find((each) => each === "gradient_norm") ?? known[0] ?? "gradient_norm";
  }

  #color() {
    const names = this.app.statistics().map((each) => each.name);
    return names.includes(this.app.state.color) ? this.app.state.color
      : names.find((each) => each === "skip_share") ?? names[0];
  }

  needs() {
    const width = this.#width();
    return [
      ...["skip", "branch", "input", "output"].map((place) => `${place}_${width}`),
      this.#color(), "skip_share", "input_gradient_norm", "output_gradient_norm",
    ];
  }

  draw() {
    const {app} = this;
    this.width = app.element.clientWidth - 56 - 32;
    this.#drawControls();
    this.#makePanels();
    this.#makeScales();
    this.#drawLegend();
  }

  #drawControls() {
    const {app} = this;
    const words = (name) => [name, inWords(name)];
    const magnitudes = this.#magnitudes().map(words);
    this.controls.replaceChildren(
      ...(magnitudes.length ? [menu("Width", magnitudes, this.#width(), (width) => app.choose({width}))] : []),
      menu("Colour", app.statistics().map((each) => words(each.name)), this.#color(),
        (color) => app.choose({color})),
    );
  }

  #makePanels() {
    const key = JSON.stringify(this.app.data.map((each) => [each.run, each.blocks]));
    if (key !== this.key) {
      this.key = key;
      this.panels = this.app.data.map((each, i) => this.#panel(each, i));
      this.list.replaceChildren(...this.panels.map((panel) => panel.element));
    }
    this.panels.forEach((panel, i) => {
      panel.data = this.app.data[i];
      panel.bus.resize(this.width);
      panel.strip?.resize(this.width);
    });
  }

  #panel({run, blocks}, order) {
    const panel = {sentence: html("p", {class: "gf-sentence"}), name: html("h3", {title: run}, shortRun(run))};
    if (order === 0 && this.app.data.length > 1) panel.name.append(html("span", {}, " \u00b7 reference"));
    panel.bus = new Bus(blocks, {
      hover: (index, node) => this.#hover(panel, index, node),
      leave: () => this.#leave(),
      choose: (index) => this.app.toggleBlock(blocks[index].name),
    }, this.app.data.length > 1 ? 50 : 72);
    if (order > 0) panel.strip = new Strip(blocks);
    panel.element = html("div", {class: "gf-panel", "data-run": run},
      html("div", {class: "gf-panel-head"}, panel.name, panel.sentence),
      panel.bus.element, panel.strip?.element);
    return panel;
  }

  #rows(data, place) {
    return data.series.get(`${place}_${this.#width()}`);
  }

  #makeScales() {
    const {app} = this;
    const description = app.describe(this.#color());
    const places = ["skip", "branch", "input", "output"];
    const range = joinExtents(app.data.flatMap((data) => {
      return places.map((place) => extent(this.#rows(data, place) ?? []));
    }));
    if (range) range.positive = Math.max(range.positive, range.high / MOST_DECADES);
    const columns = Math.max(...app.data.map((data) => layOut(data.blocks).columns));
    this.widths = widthScale(range, widest(columns, this.width));
    const colorRange = joinExtents(app.data.map((data) => extent(data.series.get(this.#color()) ?? [])));
    this.colors = colorScale(description, colorRange, {log: suitsLog(description), dark: app.isDark});
    this.ratios = comparisonScale(null, {positive: 0.1, high: 10}, {dark: app.isDark});
  }

  showStep(step) {
    if (step === null) return;
    const chosen = new Set(this.app.state.blocks ?? []);
    for (const panel of this.panels) {
      this.#drawPanel(panel, step);
      panel.bus.mark(chosen);
    }
  }

  #drawPanel(panel, step) {
    const {data} = panel;
    const index = nearest(data.steps, step);
    if (index < 0) return;
    const at = (name) => data.series.get(name)?.map((row) => row[index]);
    panel.values = Object.fromEntries(["skip", "branch", "input", "output"].map((place) => {
      return [place, at(`${place}_${this.#width()}`) ?? null];
    }));
    panel.index = index;
    const colors = at(this.#color()) ?? [];
    panel.bus.draw(panel.values, this.widths, (block) => this.colors.of(colors[block] ?? NaN));
    const shown = data.steps[index];
    panel.sentence.replaceChildren(...sentence(data.blocks, at),
      ...(shown === step ? [] : [html("span", {class: "gf-note"}, ` (step ${wholeNumber(shown)})`)]));
    this.#drawStrip(panel);
    const unit = this.app.describe(`skip_${this.#width()}`).unit;
    data.blocks.forEach((block, i) => panel.bus.describe(i, spoken(block, panel.values, i, unit)));
  }

  /** How many times each path has what the first run's path of that name has. */
  #drawStrip(panel) {
    if (!panel.strip) return;
    const [first] = this.panels;
    const names = first.data.blocks.map((block) => block.name);
    const ratios = ["skip", "branch"].map((place) => panel.data.blocks.map((block, i) => {
      const [own, base] = [panel.values[place], first.values?.[place]];
      const other = names.indexOf(block.name);
      return own && base && other >= 0 ? quotient(own[i], base[other]) : NaN;
    }));
    panel.strip.draw(ratios, this.ratios, shortRun(first.data.run));
  }

  #drawLegend() {
    const {app} = this;
    const magnitude = app.describe(`skip_${this.#width()}`);
    const blocks = app.data.flatMap((data) => data.blocks);
    const others = [...new Set(blocks.filter((block) => {
      return !block.stops_gradient && block.shortcut && block.shortcut !== "identity" && !isPlain(block);
    }).map((block) => block.shortcut))];
    const icons = others.map((kind) => [kind, `${kind} shortcut`]);
    if (blocks.some((block) => block.stops_gradient)) icons.push(["stop", "stop-gradient"]);
    const isRecorded = this.widths.ticks.length > 0;
    icons.push(["nothing", isRecorded ? "no gradient" : "no gradient recorded"]);
    this.legend.replaceChildren(
      ...(isRecorded ? [widthLegend(this.widths, `width: ${inWords(this.#width())}`, magnitude)] : []),
      colorBar(this.colors, app.describe(this.#color()), "colour"),
      ...(app.data.length > 1 ? [comparisonBar(this.ratios, `\u00f7 ${shortRun(app.data[0].run)}`)] : []),
      html("div", {class: "gf-icons"}, ...icons.map(([kind, words]) => {
        return html("span", {}, markIcon(kind), words);
      })),
    );
  }

  #hover(panel, index, node) {
    const {app} = this;
    const token = (this.hovered = Symbol("hover"));
    const block = panel.data.blocks[index];
    const step = panel.data.steps[panel.index];
    const {descriptions} = panel.data;
    const show = (values) => {
      const box = node.getBoundingClientRect();
      app.tooltip.show(blockDetails(block, wholeNumber(step), descriptions, values),
        box.left, box.right, box.top);
    };
    show(new Map([...panel.data.series].map(([name, rows]) => [name, rows[index][panel.index]])));
    clearTimeout(this.asking);
    this.asking = setTimeout(async () => {
      const all = await app.store.atStep(panel.data.run, step).catch(() => null);
      if (all && token === this.hovered) {
        show(new Map([...all].map(([name, values]) => [name, values[index]])));
      }
    }, 80);
  }

  #leave() {
    this.hovered = null;
    this.app.tooltip.hide();
  }
}

