// Histograms of the gradients through the paths of a block at one step: bars by magnitude.

import {html, svg} from "./dom.js";
import {number, wholeNumber} from "./scales.js";

const PATHS = ["skip", "branch"];
const [WIDTH, ROW, TOP, TICKS, ZERO] = [340, 46, 15, 18, 22];
const FEWEST_BINS = 8;
const MOST_TICKS = 5;

/**
 * Bins of a path, from columns such as "skip 0.0" and "skip 1.52587890625e-05": [{from, to, count}].
 * Exact zeros are from 0 to 0; the lowest and the highest bin have what is beyond them too. Null if
 * nothing was recorded of the block.
 */
export function binsOf(series, path) {
  const columns = [...series.keys()].filter((name) => name.startsWith(`${path} `));
  const bins = columns.map((name) => ({from: Number(name.slice(path.length + 1)), count: series.get(name)[0]?.[0]}));
  if (!bins.length || bins.some(({count}) => !Number.isFinite(count))) return null;
  const lows = bins.filter(({from}) => from > 0).map(({from}) => from);
  const [lowest, highest] = [Math.min(...lows), Math.max(...lows)];
  return bins.map(({from, count}) => {
    const to = from === highest ? Infinity : 2 * from;
    return {from: from === lowest ? Number.MIN_VALUE : from, to, low: from, count};
  });
}

/** The element with the bars of both paths at a step, which may be near the one that is shown; null if there are none. */
export function drawHistogram(series, step, shownStep) {
  const rows = PATHS.map((path) => [path, binsOf(series, path)]).filter(([, bins]) => bins);
  if (!rows.length) return null;
  const all = rows.flatMap(([, bins]) => bins);
  const axis = axisOf(all.filter(({low, count}) => low > 0 && count > 0).map(({low}) => low), all.some(({low, count}) => !low && count));
  const height = rows.length * (ROW + TOP) + TICKS;
  return html("div", {class: "gf-histogram"},
    html("h3", {}, "Magnitudes of the gradient ",
      html("span", {}, `step ${wholeNumber(step)}${step === shownStep ? "" : ", the nearest"} \u00b7 number of values, a bar each factor of 2`)),
    svg("svg", {viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": rows.map(inWords).join(" ")},
      ...rows.map(([path, bins], i) => drawRow(path, bins, axis, i * (ROW + TOP) + TOP)),
      drawTicks(axis, height - TICKS)));
}

/** Where magnitudes stand: logarithmic, beside a place for zeros if there are any. */
function axisOf(lows, hasZeros) {
  const exponents = lows.map(Math.log2);
  const last = lows.length ? Math.max(...exponents) : 0;
  const first = Math.min(lows.length ? Math.min(...exponents) : 0, last - FEWEST_BINS + 1);
  const start = hasZeros ? ZERO : 0;
  const unit = (WIDTH - start) / (last - first + 1);
  return {first, last, unit, hasZeros, isEmpty: !lows.length, at: (exponent) => start + (exponent - first) * unit};
}

function drawRow(path, bins, axis, top) {
  const most = Math.max(...bins.map(({count}) => count));
  const bars = bins.filter(({count}) => count > 0).map((bin) => {
    const height = Math.max(1, (ROW * bin.count) / most);
    const [x, width] = bin.low ? [axis.at(Math.log2(bin.low)), axis.unit] : [0, ZERO - 8];
    return svg("rect", {x: (x + 0.5).toFixed(2), y: (top + ROW - height).toFixed(2), width: Math.max(0.5, width - 1).toFixed(2), height: height.toFixed(2)},
      svg("title", {}, `${rangeInWords(bin)}: ${wholeNumber(bin.count)} of the ${path}`));
  });
  return svg("g", {class: `gf-histogram-${path}`}, ...bars,
    svg("line", {x1: 0, x2: WIDTH, y1: top + ROW, y2: top + ROW}),
    svg("text", {x: WIDTH, y: top - 4, "text-anchor": "end"}, `${path}, highest bar ${wholeNumber(most)}`));
}

function drawTicks(axis, y) {
  const labels = axis.hasZeros ? [svg("text", {x: 0, y: y + 12}, "0")] : [];
  if (!axis.isEmpty) {
    const [first, last] = [Math.ceil(axis.first * Math.log10(2)), Math.floor((axis.last + 1) * Math.log10(2))];
    const every = Math.max(1, Math.ceil((last - first + 1) / MOST_TICKS));
    for (let exponent = first; exponent <= last; exponent += every) {
      const x = axis.at(exponent / Math.log10(2));
      labels.push(svg("line", {x1: x, x2: x, y1: y, y2: y + 3}));
      if (x < (axis.hasZeros ? ZERO + 8 : 14) || x > WIDTH - 14) continue;
      labels.push(svg("text", {x, y: y + 12, "text-anchor": "middle"}, number(10 ** exponent)));
    }
  }
  return svg("g", {class: "gf-histogram-ticks"}, ...labels);
}

function rangeInWords({low, from, to}) {
  if (!low) return "exactly 0";
  if (to === Infinity) return `${number(low)} and above`;
  return from < low ? `below ${number(to)}` : `${number(low)} to ${number(to)}`;
}

function inWords([path, bins]) {
  const sum = bins.reduce((total, {count}) => total + count, 0);
  const zeros = bins.find(({low}) => !low)?.count ?? 0;
  const mode = bins.reduce((most, bin) => (bin.count > most.count ? bin : most));
  return `${path}: ${wholeNumber(sum)} values, ${wholeNumber(zeros)} of them 0, most of them ${rangeInWords(mode)}.`;
}
