// The gradient by depth: at each block over that at the last, a line a run.

import {html, set, svg} from "./dom.js";
import {fit, shortRun} from "./layout.js";
import {number, times} from "./scales.js";
import {scaleLog} from "d3-scale";

const TOP = 8;
const BOTTOM = 8;
const MOST = 1e12;

export class Profile {
  constructor() {
    this.element = html("div", {class: "gf-profile"});
  }

  /**
   * @param lines [{name, color, axis, places, band: [low, high], first, real}] One a run: places in order,
   *   with one number a place in every array; @param range {positive, high} of all their numbers.
   * @param zones {low, high}: what is beyond is tinted.
   */
  draw(lines, range, zones, width, height) {
    const {left, right} = lines[0].axis;
    Object.assign(this, {lines, height, left, right});
    const [low, high] = domainOf(range);
    this.y = scaleLog().domain([low, high]).range([height - BOTTOM, TOP]).clamp(true);
    this.drawing = svg("svg", {width, height, viewBox: `0 0 ${width} ${height}`, role: "img"});
    this.drawing.append(this.#zones(zones, low, high), this.#grid(low, high));
    this.parts = lines.map((line) => this.#line(line));
    this.drawing.append(...this.parts.map((part) => part.group));
    this.element.replaceChildren(this.drawing);
  }

  /**
   * @param values One array a line, in the order of its places. @param estimates The same, or null a line.
   * @param reals The same again.
   */
  show(values, estimates, reals) {
    this.parts.forEach(({now, zeros, estimate, real}, i) => {
      const path = (of) => (of ? this.#path(this.lines[i], of) : "");
      set(zeros, {d: [values[i], estimates[i] ?? [], reals[i] ?? []].map((each) => this.#zeros(this.lines[i], each)).join("")});
      set(now, {d: path(values[i])});
      set(estimate, {d: path(estimates[i])});
      set(real, {d: path(reals[i])});
    });
    const at = (of) => of?.[0] ?? NaN;
    this.#label(this.parts.flatMap(({label, estimateLabel, realLabel}, i) => [
      {label, name: this.lines[i].name, value: at(values[i]), isSaid: true},
      {label: estimateLabel, name: "estimate", value: at(estimates[i])},
      {label: realLabel, name: `real: ${shortRun(this.lines[i].real?.run ?? "")}`, short: "real", value: at(reals[i])},
    ]));
    set(this.drawing, {"aria-label": this.lines.map(({name}, i) => {
      const more = [["estimated", estimates[i]], ["really", reals[i]]].filter(([, of]) => of).map(([words, of]) => `, ${words} ${times(at(of))}`);
      return `${name || "Gradient"} at the first block: ${times(at(values[i]))} of that at the last${more.join("")}`;
    }).join("; ")});
  }

  /**
   * Names beside the lines' ends, and at the foot those of lines that have none.
   *
   * @param ends [{label, name, short, value, isSaid}]; isSaid where what is not defined is said, too.
   */
  #label(ends) {
    const heights = ends.map(({value, isSaid}, i) => ({i, y: this.#height(value) ?? (isSaid ? this.height - BOTTOM : null)}));
    const places = new Map(spread(heights.filter(({y}) => y !== null), TOP + 4, this.height - BOTTOM).map(({i, y}) => [i, y]));
    ends.forEach(({label, name, short, value}, i) => {
      const [words, letter] = Number.isFinite(value) ? [times(value), 7] : [number(value), 6];
      const room = 0.85 * (this.left - 16 - letter * words.length);
      const fitting = name && (short && fit(name, room) !== name ? short : fit(name, room));
      set(label, {y: places.has(i) ? places.get(i) + 3.5 : -20});
      label.textContent = places.has(i) ? [fitting, words].filter(Boolean).join(" ") : "";
    });
  }

  /** What is beyond the limits, which stand at its edges. */
  #zones(zones, low, high) {
    const group = svg("g", {class: "gf-zones"});
    const zone = (from, to, limit, below) => {
      if (from >= to) return;
      const [top, bottom] = [this.y(to), this.y(from)];
      group.append(svg("rect", {x: this.left, y: top, width: this.right - this.left, height: bottom - top}),
        svg("text", {x: this.right - 3, y: this.y(limit) + below, "text-anchor": "end"}, times(limit)));
    };
    zone(low, Math.min(zones.low, high), zones.low, -3);
    zone(Math.max(zones.high, low), high, zones.high, 10);
    return group;
  }

  #grid(low, high) {
    const group = svg("g", {class: "gf-grid"});
    const decades = Math.log10(high / low);
    const every = Math.max(1, Math.ceil(decades / 4));
    for (let e = Math.ceil(Math.log10(low) / every) * every; 10 ** e <= high * 1.0001; e += every) {
      const y = this.y(10 ** e);
      group.append(svg("path", {class: e === 0 ? "gf-one" : null, d: `M${this.left} ${y}H${this.right}`}));
      group.append(svg("text", {x: this.right + 8, y: y + 3.5}, `\u00d7${number(10 ** e)}`));
    }
    return group;
  }

  #line(line) {
    const style = {stroke: line.color};
    const now = svg("path", {class: "gf-now", ...style});
    const estimate = svg("path", {class: "gf-estimate", ...style});
    const zeros = svg("path", {class: "gf-zero", ...style});
    const real = svg("path", {class: "gf-real", ...style});
    const [label, estimateLabel, realLabel] = ["gf-line-name", "gf-estimate-name", "gf-real-name"].map((kind) => {
      return svg("text", {class: kind, x: this.left - 8, "text-anchor": "end", fill: line.color});
    });
    const [lower, upper] = line.band;
    const group = svg("g", {},
      svg("path", {class: "gf-band", fill: line.color, d: this.#band(line, lower, upper)}),
      svg("path", {class: "gf-first-step", ...style, d: this.#path(line, line.first)}),
      estimate, real, now, zeros, label, estimateLabel, realLabel);
    if (line.title) group.append(svg("title", {}, line.title));
    return {group, now, zeros, label, estimate, real, estimateLabel, realLabel};
  }

  #points({axis, places}, values) {
    return places.map((place, i) => [axis.center(place), values[i]]);
  }

  /** Where a value stands: zero at the foot, what is not defined nowhere. */
  #height(value) {
    if (value === 0) return this.height - BOTTOM;
    return value > 0 && Number.isFinite(value) ? this.y(value) : null;
  }

  /** Crosses at the foot, where no gradient is left. */
  #zeros(line, values) {
    const foot = this.height - BOTTOM;
    return this.#points(line, values).filter(([, value]) => value === 0)
      .map(([x]) => `M${(x - 3).toFixed(1)} ${foot - 3}l6 6m0 -6l-6 6`).join("");
  }

  /** A line that breaks where there is nothing to draw. */
  #path(line, values) {
    const points = this.#points(line, values).map(([x, value]) => {
      return value > 0 && Number.isFinite(value) ? `${x.toFixed(1)} ${this.y(value).toFixed(1)}` : null;
    });
    return points.map((point, i) => {
      if (!point) return "";
      const [isFirst, isLast] = [!points[i - 1], !points[i + 1]];
      // A dash where a value stands alone.
      return isFirst && isLast ? `M${point}m-8 0h16` : `${isFirst ? "M" : "L"}${point}`;
    }).join("");
  }

  #band(line, lower, upper) {
    const known = (values) => this.#points(line, values).filter(([, value]) => Number.isFinite(value) && value > 0);
    const [low, high] = [known(lower), known(upper)];
    if (low.length < 2 || low.length !== high.length) return "";
    const at = ([x, value]) => `${x.toFixed(1)} ${this.y(value).toFixed(1)}`;
    return `M${high.map(at).join("L")}L${low.reverse().map(at).join("L")}Z`;
  }
}

/** At least a decade around 1, so that little does not look like much. */
function domainOf(range) {
  if (!range || !(range.positive < Infinity)) return [0.3, 3];
  const low = Math.max(1 / MOST, Math.min(range.positive, 0.3));
  return [low / 1.2, Math.min(MOST, Math.max(range.high, 3)) * 1.2];
}

/** Labels moved apart, from the top down and then up from the bottom. */
function spread(labels, top, bottom) {
  const sorted = labels.sort((a, b) => a.y - b.y);
  const gap = Math.min(13, (bottom - top) / Math.max(1, sorted.length));
  sorted.forEach((each, i) => {
    each.y = Math.max(each.y, i ? sorted[i - 1].y + gap : top);
  });
  for (let i = sorted.length - 1; i >= 0; i -= 1) {
    sorted[i].y = Math.min(sorted[i].y, i < sorted.length - 1 ? sorted[i + 1].y - gap : bottom);
  }
  return sorted;
}
