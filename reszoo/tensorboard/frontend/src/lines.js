// Chosen blocks and statistics over steps, drawn by uPlot.

import uPlot from "uplot";
import uPlotStyle from "uplot/dist/uPlot.min.css";
import {download, html, set, svg} from "./dom.js";
import {shortRun} from "./layout.js";
import {inWords, number, SERIES_COLORS} from "./scales.js";
import {nearest} from "./source.js";

export {uPlotStyle};

const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3], [14, 4], [5, 2, 1, 2, 1, 2]];
const NEAR = 30;

export class Lines {
  /** @param on {zoom(from, to), choose(step), point(series, step, value, x, y), leave()} */
  constructor(on) {
    this.on = on;
    this.hidden = new Set();
    this.pointed = null;
    this.chart = html("div", {class: "gf-chart"});
    this.legend = html("ul", {class: "gf-legend"});
    this.element = html("div", {class: "gf-lines"}, this.chart, this.legend);
    this.chart.addEventListener("pointerleave", () => this.#leave());
  }

  /**
   * @param series [{run, runIndex, block, blockIndex, statistic, statisticIndex, steps, values}]
   * @param look {width, theme, log, smoothing, domain, alarms, unit}
   */
  draw(series, look) {
    this.series = withLooks(series);
    this.look = look;
    this.pointed = null;
    this.plot?.destroy();
    const shown = this.series.map((each) => smooth(each.values, look.smoothing));
    const data = uPlot.join(this.series.map((each, i) => [
      Array.from(each.steps), shown[i].map((value) => (isShown(value, look.log) ? value : null)),
    ]));
    this.plot = new uPlot(this.#options(), data.length ? data : [[]], this.chart);
    this.plot.ctx.canvas.picture = () => this.picture();
    this.legend.replaceChildren(...this.series.map((each, i) => this.#legendItem(each, i)));
    this.mark(this.step);
  }

  /** Shows the step, and its values in the legend. */
  mark(step) {
    this.step = step;
    if (!this.plot) return;
    this.plot.redraw(false);
    this.#say();
  }

  /** The values in the legend: at the pointer, or else at the step. */
  #say() {
    const step = this.pointed ?? this.step;
    [...this.legend.querySelectorAll(".gf-value")].forEach((slot, i) => {
      const {steps, values} = this.series[i];
      const index = step === null || step === undefined ? -1 : nearest(steps, step);
      slot.textContent = index < 0 ? "" : number(values[index]);
    });
  }

  /** Names the line next to the pointer and its value there. */
  #point(plot) {
    const {left, top, idx} = plot.cursor;
    if (idx === null || idx === undefined || left < 0) return this.#leave();
    this.pointed = plot.data[0][idx];
    this.#say();
    const line = this.#nearLine(plot, idx, top);
    if (line === null) return this.on.leave();
    const {steps, values} = this.series[line];
    const at = nearest(steps, this.pointed);
    const box = plot.over.getBoundingClientRect();
    this.on.point(this.series[line], steps[at], values[at], box.left + left, box.top + top);
  }

  #nearLine(plot, idx, top) {
    let [best, distance] = [null, NEAR];
    this.series.forEach((_, i) => {
      const value = plot.data[i + 1][idx];
      if (!plot.series[i + 1].show || value === null || value === undefined) return;
      const away = Math.abs(plot.valToPos(value, "y") - top);
      if (away < distance) [best, distance] = [i, away];
    });
    return best;
  }

  #leave() {
    // A new drawing has its cursor nowhere, too; the tooltip may be another chart's then.
    if (this.pointed === null) return;
    this.pointed = null;
    this.#say();
    this.on.leave();
  }

  #options() {
    const {width, theme, log, domain, unit} = this.look;
    const axis = {
      stroke: theme.muted, font: theme.smallFont,
      grid: {stroke: theme.grid, width: 1}, ticks: {stroke: theme.grid, width: 1},
    };
    const thinned = log ? {filter: (_, splits) => someDecades(splits)} : {};
    return {
      width, height: 260,
      legend: {show: false},
      padding: [14, 12, 0, 0],
      cursor: {drag: {x: true, y: false, setScale: false}, points: {size: 6}},
      scales: {
        x: {time: false, range: () => domain},
        y: {distr: log ? 3 : 1},
      },
      axes: [
        {...axis, values: (_, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? number(tick) : ""))},
        {
          ...axis, size: 80, ...thinned, grid: {...axis.grid, ...thinned}, ticks: {...axis.ticks, ...thinned}, label: unit || undefined, labelSize: 20, labelFont: theme.smallFont,
          values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : number(tick))),
        },
      ],
      series: [{}, ...this.series.map(({color, dash, block, statistic, key}) => ({
        label: `${block} ${statistic}`, stroke: color, width: 1.6, dash, spanGaps: true,
        show: !this.hidden.has(key),
        points: {show: this.series[0].steps.length < 3},
      }))],
      hooks: {
        setSelect: [(plot) => this.#select(plot)],
        setCursor: [(plot) => this.#point(plot)],
        draw: [(plot) => this.#overlay(plot)],
        ready: [(plot) => this.#listen(plot)],
      },
    };
  }

  #select(plot) {
    const {left, width} = plot.select;
    if (width < 5) return;
    this.on.zoom(Math.floor(plot.posToVal(left, "x")), Math.ceil(plot.posToVal(left + width, "x")));
  }

  #listen(plot) {
    let from = null;
    plot.over.addEventListener("pointerdown", (event) => { from = event.clientX; });
    plot.over.addEventListener("click", (event) => {
      if (from !== null && Math.abs(event.clientX - from) < 4) this.on.choose(plot.posToVal(plot.cursor.left, "x"));
    });
  }

  #overlay(plot) {
    const {ctx, bbox} = plot;
    const {theme, alarms, domain} = this.look;
    ctx.save();
    const vertical = (step, color, dash) => {
      if (step < domain[0] || step > domain[1]) return;
      const x = Math.round(plot.valToPos(step, "x", true));
      ctx.strokeStyle = color;
      ctx.lineWidth = 1.5 * (window.devicePixelRatio || 1);
      ctx.setLineDash(dash);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    };
    for (const alarm of alarms) vertical(alarm.step, theme.alarm, [3, 4]);
    if (this.step !== null && this.step !== undefined) vertical(this.step, theme.text, []);
    ctx.restore();
  }

  #legendItem({color, dash, run, block, statistic, withRun, key}, i) {
    const words = [block, inWords(statistic), withRun ? shortRun(run) : null].filter(Boolean).join(" \u00b7 ");
    const button = html("button", {
      type: "button", "aria-pressed": String(!this.hidden.has(key)),
      onclick: () => {
        const isShown = this.hidden.delete(key);
        if (!isShown) this.hidden.add(key);
        this.plot.setSeries(i + 1, {show: isShown});
        set(button, {"aria-pressed": String(isShown)});
      },
    }, swatch(color, dash), words, html("span", {class: "gf-value"}));
    return html("li", {}, button);
  }

  /** The drawn numbers as CSV, as recorded, without smoothing. */
  saveCsv() {
    const quote = (text) => {
      // A spreadsheet takes a text that begins so for a formula.
      const harmless = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
      return /[",\n\r]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
    };
    const lines = ["run,step,block,statistic,value"];
    for (const {run, block, statistic, steps, values} of this.series) {
      const [r, b, s] = [run, block, statistic].map(quote);
      steps.forEach((step, i) => lines.push(`${r},${step},${b},${s},${values[i]}`));
    }
    download("gradient_flow.csv", new Blob([`${lines.join("\n")}\n`], {type: "text/csv"}));
  }

  /** The chart as SVG, whose lines stay lines. */
  picture() {
    const {plot} = this;
    const {theme, alarms, domain, unit} = this.look;
    const ratio = window.devicePixelRatio || 1;
    const [left, top, width, height] = ["left", "top", "width", "height"].map((name) => plot.bbox[name] / ratio);
    const at = {x: (value) => left + plot.valToPos(value, "x"), y: (value) => top + plot.valToPos(value, "y")};
    const vertical = (step, look) => svg("path", {d: `M${at.x(step)} ${top}V${top + height}`, ...look});
    const isInside = (step) => step >= domain[0] && step <= domain[1];
    const clip = `gf-clip-${Math.random().toString(36).slice(2)}`;
    return svg("g", {"font-size": 11, fill: theme.muted},
      svg("clipPath", {id: clip}, svg("rect", {x: left, y: top, width, height})),
      ...this.#ticks(at, {left, top, width, height}),
      unit ? svg("text", {transform: `translate(12 ${top + height / 2}) rotate(-90)`, "text-anchor": "middle"}, unit) : null,
      svg("g", {"clip-path": `url(#${clip})`}, ...this.series.map((each, i) => this.#lineAsSvg(each, i, at)),
        ...alarms.filter(({step}) => isInside(step)).map(({step}) => vertical(step, {stroke: theme.alarm, "stroke-width": 1.5, "stroke-dasharray": "3 4"})),
        isInside(this.step) ? vertical(this.step, {stroke: theme.text, "stroke-width": 1.5}) : null));
  }

  /** The ticks that the chart itself has. */
  #ticks(at, {left, top, width, height}) {
    const {grid} = this.look.theme;
    const ticksOf = (order) => {
      const {_splits: splits, _values: values} = this.plot.axes[order];
      return (splits ?? []).map((split, i) => [split, values[i]]).filter(([split, words]) => split !== null && words);
    };
    return [
      ...ticksOf(0).flatMap(([step, words]) => [svg("path", {d: `M${at.x(step)} ${top}v${height + 8}`, stroke: grid}),
        svg("text", {x: at.x(step), y: top + height + 22, "text-anchor": "middle"}, words)]),
      ...ticksOf(1).flatMap(([value, words]) => [svg("path", {d: `M${left - 8} ${at.y(value)}h${width + 8}`, stroke: grid}),
        svg("text", {x: left - 12, y: at.y(value) + 3.5, "text-anchor": "end"}, words)]),
    ];
  }

  #lineAsSvg({color, dash}, i, at) {
    if (!this.plot.series[i + 1].show) return null;
    const [steps, values] = [this.plot.data[0], this.plot.data[i + 1]];
    const points = [...steps].map((step, k) => [step, values[k]]).filter(([, value]) => value !== null && value !== undefined)
      .map(([step, value]) => [at.x(step).toFixed(1), at.y(value).toFixed(1)]);
    const dots = steps.length < 3 ? points.map(([x, y]) => svg("circle", {cx: x, cy: y, r: 2.5, fill: color})) : [];
    return svg("g", {}, svg("path", {d: points.length ? `M${points.map((point) => point.join(" ")).join("L")}` : "", fill: "none", stroke: color,
      "stroke-width": 1.6, "stroke-dasharray": dash.length ? dash.join(" ") : null}), ...dots);
  }
}

/** On a logarithmic axis only whole decades get a line, at most seven of them. */
function someDecades(splits) {
  const exponents = splits.map((at) => Math.log10(at));
  const whole = exponents.filter((e) => Math.abs(e - Math.round(e)) < 1e-9).map(Math.round);
  const every = Math.max(1, Math.ceil(whole.length / 7));
  const isKept = (e) => Math.abs(e - Math.round(e)) < 1e-9 && Math.round(e) % every === 0;
  return splits.map((at, i) => (isKept(exponents[i]) ? at : null));
}

const isShown = (value, log) => Number.isFinite(value) && (!log || value > 0);

/**
 * Each line's key, colour and dash, no two alike: the colour is that of a block and statistic and the
 * dash that of a run, as long as there are enough of both.
 */
export function withLooks(series) {
  const keys = series.map(({block, statistic}) => JSON.stringify([block, statistic]));
  const pairs = [...new Set(keys)];
  const runs = [...new Set(series.map(({run}) => run))];
  const areEnough = pairs.length <= SERIES_COLORS.length && runs.length <= DASHES.length;
  return series.map((each, i) => {
    const [color, dash] = areEnough
      ? [pairs.indexOf(keys[i]), runs.indexOf(each.run)]
      : [i % SERIES_COLORS.length, Math.floor(i / SERIES_COLORS.length) % DASHES.length];
    const key = JSON.stringify([each.run, each.block, each.statistic]);
    return {...each, key, color: SERIES_COLORS[color], dash: DASHES[dash]};
  });
}

/** A piece of a line as it is drawn. */
function swatch(color, dash) {
  return svg("svg", {class: "gf-swatch", width: 30, height: 6, "aria-hidden": "true"}, svg("path", {
    d: "M0 3H30", stroke: color, "stroke-width": 2, "stroke-dasharray": dash.length ? dash.join(" ") : null,
  }));
}

/** An exponential moving average without a bias to its start; gaps stay gaps. */
export function smooth(values, weight) {
  const result = new Array(values.length);
  let [average, total] = [0, 0];
  for (let i = 0; i < values.length; i += 1) {
    if (!Number.isFinite(values[i])) {
      result[i] = values[i];
      continue;
    }
    average = weight * average + (1 - weight) * values[i];
    total = weight * total + (1 - weight);
    result[i] = average / total;
  }
  return result;
}
