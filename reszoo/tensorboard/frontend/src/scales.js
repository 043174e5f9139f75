// Numbers to colours, widths and words.

import {format} from "d3-format";
import {scaleLinear, scaleLog} from "d3-scale";
import {interpolateCividis, interpolatePRGn} from "d3-scale-chromatic";
import {interpolateRgbBasis} from "d3-interpolate";

// Okabe and Ito's colours, that people with any colour vision tell apart.
export const SERIES_COLORS = [
  "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a6c00", "#8c564b",
];

// Lines of runs: no blue and no orange, which are the skip and the branch.
const RUN_COLORS = {
  light: ["#2c3640", "#00795a", "#a3507d", "#7a6c00", "#7c5cc4"],
  dark: ["#e9ecef", "#3fc79d", "#ee9ac9", "#d8c93f", "#b79cf5"],
};

export function runColors(count, dark) {
  const colors = dark ? RUN_COLORS.dark : RUN_COLORS.light;
  return Array.from({length: count}, (_, i) => colors[i % colors.length]);
}

const INFINITE = "#d0006f";

/** The colour of what is not a finite number; null of what is. */
export const colorOfLost = (value) => (Number.isNaN(value) ? HATCH : Number.isFinite(value) ? null : INFINITE);

// What is not defined has no colour: it is hatched, by a pattern in the page or on a canvas.
export const HATCH = "url(#gf-hatch)";

// The branch is orange and the skip blue, here and in the legend.
const SHARE = {
  light: interpolateRgbBasis(["#b34700", "#e08a3c", "#c9c5bd", "#4d94c9", "#00508c"]),
  dark: interpolateRgbBasis(["#ff9a3d", "#e08a3c", "#8d8a85", "#4d9fd9", "#63b8ff"]),
};

// From less to more through what does not stand out from the page.
const DIVERGING = {
  light: (t) => interpolatePRGn(0.04 + 0.92 * t),
  dark: interpolateRgbBasis(["#dd9bff", "#9a62bd", "#33373d", "#3f9a63", "#86eaaa"]),
};

/** A statistic's fixed ends, from its unit: "none, 0 to 1" has 0 and 1. */
export function bounds(description) {
  const found = /(-?\d+(?:\.\d+)?) to (-?\d+(?:\.\d+)?)/.exec(description?.unit ?? "");
  return found ? [Number(found[1]), Number(found[2])] : null;
}

/** The least and greatest finite number, and the least positive one. */
export function extent(rows) {
  let [low, high, positive] = [Infinity, -Infinity, Infinity];
  for (const row of rows) {
    for (const value of row) {
      if (!Number.isFinite(value)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
      if (value > 0 && value < positive) positive = value;
    }
  }
  return low <= high ? {low, high, positive} : null;
}

export const hasInfinite = (rows) => rows.some((row) => row.some((value) => value === Infinity || value === -Infinity));

export function joinExtents(extents) {
  const known = extents.filter(Boolean);
  if (!known.length) return null;
  return {
    low: Math.min(...known.map((each) => each.low)),
    high: Math.max(...known.map((each) => each.high)),
    positive: Math.min(...known.map((each) => each.positive)),
  };
}

/** Whether a statistic is read best by its logarithm: a size, whose range is known to be wide. */
export function suitsLog(description) {
  const {unit = "", name = ""} = description ?? {};
  return !bounds(description) && !name.endsWith("_mean")
    && (/^(loss per|units of)\b/.test(unit) || name.endsWith("_ratio") || name.endsWith("_variance"));
}

/**
 * Whether an axis of statistics is logarithmic: as chosen, or else as suits all of them. It does not
 * depend on the numbers at hand, which change with a click, a zoom and the next steps of a run.
 */
export function isLog(descriptions, range, chosen) {
  if (range && range.high <= 0) return false;
  return chosen === undefined ? descriptions.every(suitsLog) : chosen === "log";
}

function decades(low, high) {
  // A range that is one point still has to be drawn.
  return low < high ? [low, high] : [low / 3, high * 3];
}

function palette(description, dark) {
  const ends = bounds(description);
  if (description?.name?.includes("share")) return dark ? SHARE.dark : SHARE.light;
  if (ends && ends[0] < 0) return dark ? DIVERGING.dark : DIVERGING.light;
  return interpolateCividis;
}

/** A colour scale: of(value) is a CSS colour; ticks and domain are for its bar. */
export function colorScale(description, range, {log, dark}) {
  if (description?.name?.endsWith("_gain")) return quotientScale({dark});
  const ends = bounds(description);
  const isLog = log && !ends && range?.positive < Infinity;
  const [low, high] = ends ?? plainDomain(range, isLog);
  const scale = (isLog ? scaleLog() : scaleLinear()).domain([low, high]).clamp(true);
  return describeScale(scale, palette(description, dark), isLog, dark);
}

// One pair of ends for every quotient on the page, so that one colour is one quotient everywhere.
const FARTHEST = 10;

/** A colour scale of quotients, from a tenth through 1 to ten times; what is beyond has the end's colour. */
export function quotientScale({dark}) {
  const scale = scaleLog().domain([1 / FARTHEST, FARTHEST]).clamp(true);
  const described = describeScale(scale, dark ? DIVERGING.dark : DIVERGING.light, true, dark);
  return {...described, isQuotient: true, ticks: [1 / FARTHEST, 1, FARTHEST]};
}

/** A colour scale of updates over weights, about the thousandth that is usual. */
export function updateScale({dark}) {
  const scale = scaleLog().domain([1e-5, 0.1]).clamp(true);
  return describeScale(scale, dark ? DIVERGING.dark : DIVERGING.light, true, dark);
}

/** A colour scale of differences of a statistic with fixed ends. */
export function differenceScale(description, {dark}) {
  const [low, high] = bounds(description);
  const far = (high - low) / 2;
  const scale = scaleLinear().domain([-far, far]).clamp(true);
  const described = describeScale(scale, dark ? DIVERGING.dark : DIVERGING.light, false, dark);
  return {...described, ticks: [-far, 0, far]};
}

function plainDomain(range, isLog) {
  if (!range) return [0, 1];
  if (isLog) return decades(range.positive, Math.max(range.high, range.positive));
  return range.low < range.high ? [range.low, range.high] : [range.low - 0.5, range.high + 0.5];
}

function describeScale(scale, colors, isLog, dark) {
  const position = scale.copy().range([0, 1]);
  const at = (value) => (isLog && value <= 0 ? 0 : position(value));
  const of = (value) => {
    if (value === undefined || Number.isNaN(value)) return HATCH;
    if (!Number.isFinite(value)) return INFINITE;
    return colors(at(value));
  };
  return {of, at, colors, isLog, domain: scale.domain(), ticks: ticksOf(scale, isLog)};
}

function ticksOf(scale, isLog) {
  const [low, high] = scale.domain();
  if (!isLog) return scale.ticks(5);
  const span = Math.log10(high / low);
  if (span < 2) return [low, Math.sqrt(low * high), high];
  const every = Math.ceil(span / 5);
  const exponents = [];
  for (let e = Math.ceil(Math.log10(low)); e <= Math.log10(high); e += every) exponents.push(10 ** e);
  return exponents;
}

/**
 * Widths in pixels: linear in a magnitude, or by its logarithm; zero and nothing are 0.
 *
 * @param range {positive, high} Of what is drawn. @param most The greatest width.
 */
export function widthScale(range, most, log) {
  if (!range || range.positive === Infinity) return {of: () => 0, ticks: [], most, log};
  const least = Math.max(0.75, most * 0.07);
  // Less than two decades would make much of little.
  const [low, high] = [Math.min(range.positive, range.high / 100), range.high];
  const scale = log ? scaleLog().domain([low, high]).range([least, most]) : scaleLinear().domain([0, high]).range([0, most]);
  scale.clamp(true);
  const of = (value) => {
    if (Number.isNaN(value) || value <= 0) return 0;
    return Number.isFinite(value) ? Math.max(least, scale(value)) : most;
  };
  const ticks = log ? [low, Math.sqrt(low * high), high] : [high / 4, high / 2, high];
  return {of, ticks, most, log};
}

const short = format(".3~g");
const counted = format(",");

/** A number as a person reads it. */
export function number(value) {
  if (value === undefined || value === null || Number.isNaN(value)) return "not defined";
  if (!Number.isFinite(value)) return value > 0 ? "infinite" : "minus infinite";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e6) return counted(value).replace("−", "-");
  if (size >= 1e-3 && size < 1e5) return short(value).replace("−", "-");
  return value.toExponential(1).replace("e+", "e").replace(".0e", "e");
}

/** A number with its unit. */
export function withUnit(value, description) {
  const unit = (description?.unit ?? "").replace(/^none,?\s*/, "");
  if (bounds(description) || !unit || Number.isNaN(value)) return number(value);
  return `${number(value)} ${unit}`;
}

export function times(value) {
  return Number.isNaN(value) ? "not defined" : `\u00d7${number(value)}`;
}

export const wholeNumber = (value) => counted(value);

/** A statistic's name in words: skip_gradient_norm is "skip gradient norm". */
export function inWords(name) {
  return name.replaceAll("_", " ").replace(/\brms\b/, "RMS");
}

export function cssToRgb(color) {
  const hex = /^#(..)(..)(..)$/.exec(color);
  if (hex) return hex.slice(1).map((part) => parseInt(part, 16));
  return color.match(/[\d.]+/g).slice(0, 3).map(Number);
}
