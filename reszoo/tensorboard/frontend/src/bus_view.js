// The section of the buses: one for each chosen run, all on one scale.

import {matchBlocks} from "./axis.js";
import {Bus, isPlain, markIcon, spoken, widest} from "./bus.js";
import {grouped} from "./explain.js";
import {colorBar, pathKey, widthLegend} from "./legend.js";
import {html, visible} from "./dom.js";
import {shortRun} from "./layout.js";
import {menu} from "./picker.js";
import {quotient} from "./relative.js";
import {
  colorScale, extent, hasInfinite, inWords, joinExtents, quotientScale, suitsLog, widthScale, wholeNumber,
} from "./scales.js";
import {nearest} from "./source.js";
import {Strip} from "./strip.js";
import {brief, sentence} from "./summary.js";
import {accuracyTile, TileRow, tilesOf} from "./tiles.js";
import {blockTip} from "./tooltip.js";
import {onAt} from "./watch.js";

const STANDS_STILL_MS = 120;
const MOST_DECADES = 1e8;

export class BusView {
  constructor(app) {
    this.app = app;
    this.panels = [];
    this.controls = html("div", {class: "gf-controls"});
    this.legend = html("div", {class: "gf-legend-part"});
    this.list = html("div", {class: "gf-buses"});
    this.element = html("div", {class: "gf-track", role: "group", "aria-label": "The bus"},
      html("div", {class: "gf-track-head"},
        html("h2", {}, "Where the gradient goes"), app.help.button("bus"),
        app.saveMenu("Where the gradient goes", "bus", () => [visible(this.element), [...visible(this.legend), ...app.time.keys()]]), this.controls),
      this.list);
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

  /** The statistic that the ribbons are coloured by; null colours them by their path. */
  #color() {
    const names = this.app.statistics().map((each) => each.name);
    return names.includes(this.app.state.color) ? this.app.state.color : null;
  }

  needs() {
    const width = this.#width();
    return [
      ...["skip", "branch", "input", "output"].map((place) => `${place}_${width}`),
      ...(this.#color() ? [this.#color()] : []),
      "skip_share", "input_gradient_norm", "output_gradient_norm", "update_to_weight_ratio",
    ];
  }

  draw() {
    this.isNew = true;
    this.#drawControls();
    this.#makePanels();
    this.#makeScales();
    this.#drawLegend();
  }

  #drawControls() {
    const {app} = this;
    const magnitudes = this.#magnitudes().map((name) => [name, inWords(name)]);
    const scales = [["linear", "in proportion"], ["log", "logarithmic"]];
    this.controls.replaceChildren(
      ...(magnitudes.length ? [
        menu("Width", magnitudes, this.#width(), (width) => app.choose({width})),
        menu("", scales, this.#isLog() ? "log" : "linear", (widths) => app.choose({widths})),
      ] : []),
      menu("Colour", [["ribbons", [["paths", "path: skip, branch"]]], ...grouped(app.statistics(), inWords)],
        this.#color() ?? "paths", (color) => app.choose({color: color === "paths" ? null : color})),
    );
  }

  /** One run is drawn in proportion; sizes of several runs are often decades apart. */
  #isLog() {
    const {widths} = this.app.state;
    return widths === undefined ? this.app.data.length > 1 : widths === "log";
  }

  #makePanels() {
    const key = JSON.stringify(this.app.data.map((each) => [each.run, each.blocks]));
    if (key !== this.key) {
      this.key = key;
      this.panels = this.app.data.map((each, i) => this.#panel(each, i));
      this.list.replaceChildren(...this.panels.map((panel) => panel.element));
      this.list.classList.toggle("is-several", this.panels.length > 1);
    }
    this.panels.forEach((panel, i) => {
      panel.data = this.app.data[i];
      const look = {...this.app.room.bus, isNamed: !this.#hasSameNames(panel.data, this.app.data[i + 1])};
      panel.dot.style.background = this.app.colorOf(panel.data);
      panel.bus.resize(this.app.axisOf(panel.data), look);
      panel.strip?.resize(this.app.axisOf(panel.data), this.app.room.ratioRow);
    });
  }

  /** Whether the names of a run's blocks stand in the same columns below the next run's bus. */
  #hasSameNames(data, next) {
    const names = ({blocks}) => JSON.stringify(blocks.map(({name, parent}) => [name, parent]));
    return Boolean(next) && names(data) === names(next);
  }

  #panel({run, blocks}, order) {
    const panel = {
      sentence: html("p", {class: "gf-sentence"}), dot: html("span", {class: "gf-dot"}),
      name: html("h3", {title: run}, shortRun(run)),
      tiles: new TileRow(this.app.help),
    };
    if (order === 0 && this.app.data.length > 1) panel.name.append(html("span", {}, " \u00b7 reference"));
    if (order > 0) panel.name.replaceChildren(this.#reference(run));
    panel.bus = new Bus(blocks, {
      hover: (index, node) => this.#hover(panel, index, node),
      leave: () => this.#leave(),
      choose: (index) => this.app.inspect(run, blocks[index].name),
      open: (stage) => {
        this.app.closeLens();
        this.app.choose({stage: this.app.state.stage === stage ? null : stage});
      },
    });
    if (order > 0) panel.strip = new Strip(blocks);
    panel.element = html("div", {class: "gf-panel", "data-run": run},
      html("div", {class: "gf-panel-head"}, this.app.data.length > 1 ? panel.dot : null, panel.name, panel.tiles.element, panel.sentence, panel.strip?.said),
      panel.bus.element, panel.strip?.element);
    return panel;
  }

  /** The name of a further run, which a click makes the one that the others are compared with. */
  #reference(run) {
    const choose = () => this.app.choose({runs: [run, ...this.app.chosenRuns().filter((each) => each !== run)]});
    return html("button", {type: "button", class: "gf-run-name", title: `${run}: compare the others with this run`, onclick: choose}, shortRun(run));
  }

  #rows(data, place) {
    return data.series.get(`${place}_${this.#width()}`);
  }

  #makeScales() {
    const {app} = this;
    const places = ["skip", "branch", "input", "output"];
    const range = joinExtents(app.data.flatMap((data) => {
      return places.map((place) => extent(this.#rows(data, place) ?? []));
    }));
    this.hasInfinite = app.data.some((data) => places.some((place) => hasInfinite(this.#rows(data, place) ?? [])));
    if (range) range.positive = Math.max(range.positive, range.high / MOST_DECADES);
    this.range = range;
    this.most = widest(app.data.map((data) => app.axisOf(data)));
    this.widths = widthScale(range, this.most, this.#isLog());
    this.ratios = quotientScale({dark: app.isDark});
    this.colors = null;
    if (!this.#color()) return;
    const description = app.describe(this.#color());
    const colorRange = joinExtents(app.data.map((data) => extent(data.series.get(this.#color()) ?? [])));
    this.colors = colorScale(description, colorRange, {log: suitsLog(description), dark: app.isDark});
  }

  showStep(step) {
    if (step === null) return;
    const chosen = new Set(this.app.state.blocks ?? []);
    for (const panel of this.panels) this.#readPanel(panel, step);
    if (!this.#isLog()) this.#scaleToStep();
    for (const panel of this.panels) {
      this.#drawPanel(panel, step);
      panel.bus.mark(chosen);
    }
    clearTimeout(this.describing);
    if (this.isNew) this.#describe();
    else this.describing = setTimeout(() => this.#describe(), STANDS_STILL_MS);
    this.isNew = false;
  }

  /** The panel's numbers at a step. */
  #readPanel(panel, step) {
    const {data} = panel;
    panel.index = nearest(data.steps, step);
    panel.at = (name) => data.series.get(name)?.map((row) => row[panel.index]);
    panel.values = Object.fromEntries(["skip", "branch", "input", "output"].map((place) => {
      return [place, panel.at(`${place}_${this.#width()}`) ?? null];
    }));
  }

  /** Widths are in proportion to the largest size of the step, of all runs. */
  #scaleToStep() {
    const ranges = this.panels.flatMap(({values}) => Object.values(values).map((row) => extent(row ? [row] : [])));
    const range = joinExtents(ranges);
    this.widths = widthScale(range && range.high > 0 ? range : null, this.most, false);
    this.#drawWidths();
  }

  #drawPanel(panel, step) {
    const {data, index, at} = panel;
    if (index < 0) return;
    const colors = this.#color() ? at(this.#color()) ?? [] : null;
    panel.bus.draw(panel.values, this.widths, colors && ((block) => this.colors.of(colors[block] ?? NaN)));
    const shown = data.steps[index];
    const inWords = (this.panels.length > 1 ? brief : sentence)(data.blocks, at);
    panel.sentence.replaceChildren(...inWords,
      ...(shown === step ? [] : [html("span", {class: "gf-note"}, ` (step ${wholeNumber(shown)})`)]));
    if (this.panels.length > 1) panel.sentence.title = panel.sentence.textContent;
    const accuracy = accuracyTile(data.accuracy);
    const tiles = tilesOf(data.blocks, at, data.watch, onAt(data.alarms, shown));
    panel.tiles.show(Number.isNaN(accuracy.value) ? tiles : [...tiles, accuracy]);
    this.#drawStrip(panel);
  }

  /** What a screen reader says of the blocks, once the steps stand still. */
  #describe() {
    const unit = this.app.describe(`skip_${this.#width()}`).unit;
    for (const {data, bus, values} of this.panels) {
      data.blocks.forEach((block, i) => bus.describe(i, spoken(block, values, i, unit)));
    }
  }

  /** How many times each path has what the first run's path has, of the block it is compared with. */
  #drawStrip(panel) {
    if (!panel.strip) return;
    const [first] = this.panels;
    const {indices, words} = matchBlocks(first.data.blocks, panel.data.blocks);
    const ratios = ["skip", "branch"].map((place) => panel.data.blocks.map((_, i) => {
      const [own, base] = [panel.values[place], first.values?.[place]];
      return own && base && indices[i] >= 0 ? quotient(own[i], base[indices[i]]) : NaN;
    }));
    panel.strip.draw(ratios, this.ratios, shortRun(first.data.run), words);
  }

  /** The shortcuts of the runs that are drawn, and what no gradient looks like. */
  icons() {
    const blocks = this.app.data.flatMap((data) => data.blocks);
    const others = [...new Set(blocks.filter((block) => {
      return !block.stops_gradient && block.shortcut && block.shortcut !== "identity" && !isPlain(block);
    }).map((block) => block.shortcut))];
    const icons = others.map((kind) => [kind, kind]);
    if (blocks.some((block) => block.stops_gradient)) icons.push(["stop", "stop-gradient"]);
    const isRecorded = Boolean(this.range) && this.range.positive < Infinity;
    icons.push(["nothing", isRecorded ? "no gradient" : "no gradient recorded"]);
    return icons.map(([kind, words]) => html("span", {}, markIcon(kind), words));
  }

  #drawLegend() {
    const {app} = this;
    this.widthKey = html("div", {});
    this.legend.replaceChildren(
      this.widthKey,
      this.colors ? colorBar(this.colors, app.describe(this.#color()), "colour") : pathKey(),
    );
    this.#drawWidths();
  }

  #drawWidths() {
    const magnitude = this.app.describe(`skip_${this.#width()}`);
    this.widthKey.replaceChildren(...(this.widths.ticks.length
      ? [widthLegend(this.widths, `width: ${inWords(this.#width())}`, magnitude)] : []));
  }

  /** Four numbers of a block; the inspector has all. */
  #hover(panel, index, node) {
    const {app} = this;
    // Beside the lens, so that its other blocks stay in sight.
    const box = (app.lensOn ? app.lensFrame : node).getBoundingClientRect();
    const {top} = node.getBoundingClientRect();
    const axis = app.axisOf(panel.data);
    const values = Object.fromEntries([...panel.data.series].map(([name, rows]) => [name, rows[index][panel.index]]));
    app.tooltip.show(blockTip(panel.data.blocks[index], panel.data.steps[panel.index], panel.data.descriptions, values),
      box.left, box.right, top);
    app.column(axis, axis.places.find((place) => place.index === index));
  }

  #leave() {
    this.app.tooltip.hide();
    this.app.column(null);
  }
}
