// Chosen blocks and statistics over steps, drawn by uPlot.

import uPlot from "uplot";
import uPlotStyle from "uplot/dist/uPlot.min.css";
import {download, html} from "./dom.js";
import {shortRun} from "./layout.js";
import {inWords, number, SERIES_COLORS} from "./scales.js";

export {uPlotStyle};

const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3]];

export class Lines {
  /** @param on {zoom(from, to), choose(step)} */
  constructor(on) {
    this.on = on;
    this.chart = html("div", {class: "gf-chart"});
    this.legend = html("ul", {class: "gf-legend"});
    this.element = html("div", {class: "gf-lines"}, this.chart, this.legend);
  }

  /**
   * @param series [{run, runIndex, block, blockIndex, statistic, statisticIndex, steps, values}]
   * @param look {width, theme, log, smoothing, domain, alarms, unit}
   */
  draw(series, look) {
    this.series = series.map((each) => ({
      ...each,
      color: SERIES_COLORS[(each.blockIndex + 3 * each.statisticIndex) % SERIES_COLORS.length],
      dash: DASHES[each.runIndex % DASHES.length],
    }));
    this.look = look;
    this.plot?.destroy();
    const shown = this.series.map((each) => smooth(each.values, look.smoothing));
    const data = uPlot.join(this.series.map((each, i) => [
      Array.from(each.steps), shown[i].map((value) => (isShown(value, look.log) ? value : null)),
    ]));
    this.plot = new uPlot(this.#options(), data.length ? data : [[]], this.chart);
    this.legend.replaceChildren(...this.series.map((each, i) => this.#legendItem(each, i)));
    this.mark(this.step);
  }

  /** Shows the step, and its values in the legend. */
  mark(step) {
    this.step = step;
    if (!this.plot) return;
    this.plot.redraw(false);
    [...this.legend.querySelectorAll(".gf-value")].forEach((slot, i) => {
      const {steps, values} = this.series[i];
      const index = closest(steps, step);
      slot.textContent = index < 0 ? "" : number(values[index]);
    });
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
      series: [{}, ...this.series.map(({color, dash, block, statistic}) => ({
        label: `${block} ${statistic}`, stroke: color, width: 1.6, dash, spanGaps: true,
        points: {show: this.series[0].steps.length < 3},
      }))],
      hooks: {
        setSelect: [(plot) => this.#select(plot)],
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

  #legendItem({color, dash, run, block, statistic, withRun}, i) {
    const words = [block, inWords(statistic), withRun ? shortRun(run) : null].filter(Boolean).join(" \u00b7 ");
    const swatch = html("span", {class: "gf-swatch"});
    swatch.style.background = dash.length
      ? `repeating-linear-gradient(90deg, ${color} 0 ${dash[0]}px, transparent ${dash[0]}px ${dash[0] + dash[1]}px)`
      : color;
    const item = html("li", {}, html("button", {
      type: "button", "aria-pressed": "true",
      onclick: () => {
        /** On a logarithmic axis only whole decades get a line, at most seven of them. */
function someDecades(splits) {
  const exponents = splits.map((at) => Math.log10(at));
  const whole = exponents.filter((e) => Math.abs(e - Math.round(e)) < 1e-9).map(Math.round);
  const every = Math.max(1, Math.ceil(whole.length / 7));
  const isKept = (e) => Math.abs(e - Math.round(e)) < 1e-9 && Math.round(e) % every === 0;
  return splits.map((at, i) => (isKept(exponents[i]) ? at : null));
}

const isShown = !this.plot.series[i + 1].show;
        this.plot.setSeries(i + 1, {show: isShown});
        button.setAttribute("aria-pressed", String(isShown));
      },
    }, swatch, words, html("span", {class: "gf-value"})));
    const button = item.firstChild;
    return item;
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

  /** The chart as it stands, with its legend. */
  savePng() {
    const ratio = window.devicePixelRatio || 1;
    const source = this.plot.ctx.canvas;
    const line = 18 * ratio;
    const canvas = html("canvas");
    canvas.width = source.width;
    canvas.height = source.height + line * (this.series.length + 1);
    const context = canvas.getContext("2d");
    context.fillStyle = this.look.theme.panel;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(source, 0, 0);
    context.font = `${12 * ratio}px sans-serif`;
    this.series.forEach(({color, run, block, statistic}, i) => {
      const y = source.height + line * (i + 1);
      context.fillStyle = color;
      context.fillRect(line, y - 5 * ratio, line, 3 * ratio);
      context.fillStyle = this.look.theme.text;
      context.fillText(`${shortRun(run)} \u00b7 ${block} \u00b7 ${inWords(statistic)}`, 2.5 * line, y);
    });
    canvas.toBlob((blob) => download("gradient_flow.png", blob), "image/png");
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

function closest(steps, step) {
  if (step === null || step === undefined) return -1;
  let best = -1;
  let distance = Infinity;
  steps.forEach((each, i) => {
    if (Math.abs(each - step) < distance) [best, distance] = [i, Math.abs(each - step)];
  });
  return best;
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
