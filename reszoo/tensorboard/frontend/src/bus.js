// The bus: the skip path runs straight, each branch arches off it, and the gradient comes back
// along both from the loss on the right. Ribbons taper: at the merge both paths are handed g_y, and
// at the fork each brings back what it made of it. Blocks too narrow for an arch are a stream: what
// comes through the branch lies on what comes through the skip.

import {NARROWEST_ARCH} from "./axis.js";
import {html, set, svg} from "./dom.js";
import {commonStart, fit, shortNames} from "./layout.js";
import {colorOfLost, number} from "./scales.js";

// Room above the arches and below the line, in pixels: with names of stages, of blocks alone, or of neither.
const [TOP, LOW_TOP] = [20, 12];
const [BELOW, BELOW_BLOCKS, BELOW_NOTHING] = [46, 28, 18];
const SAMPLES = 22;
const LOST_WIDTH = 7;
const PLAIN_RISE = 14;

/** The widest ribbon that leaves arches apart; where all blocks are a stream, that of the stream. */
export function widest(axes) {
  const units = axes.flatMap((axis) => axis.places.map((place) => axis.unitOf(place)));
  const ofArches = units.filter((unit) => unit >= NARROWEST_ARCH);
  const unit = Math.min(...(ofArches.length ? ofArches : units));
  return Math.max(2.5, Math.min(15, unit * 0.3));
}

export class Bus {
  /**
   * @param blocks Descriptions of the run's blocks.
   * @param on {hover(index, element), leave(), choose(index), open(stage)}
   */
  constructor(blocks, on) {
    this.blocks = blocks;
    this.shortNames = shortNames(blocks);
    this.on = on;
    this.reached = 0;
    this.element = html("div", {class: "gf-bus"});
  }

  /**
   * Draws anew where the axis puts the blocks.
   *
   * @param look {tallest, isLow, isNamed}: how high an arch may rise, in pixels, whether room is
   *   scarce, and whether the names of blocks and stages stand below.
   */
  resize(axis, look) {
    const key = JSON.stringify(look);
    if (axis === this.axis && key === this.lookKey) return;
    Object.assign(this, {axis, lookKey: key, isLow: look.isLow, isNamed: look.isNamed, top: look.isLow ? LOW_TOP : TOP});
    this.layout = axis.layout;
    const unit = Math.max(...axis.stages.map((stage) => stage.unit), 0);
    this.rise = Math.max(Math.min(34, look.tallest), Math.min(look.tallest, unit * 0.75));
    // A line without arches.
    if (this.layout.depth === 1 && unit >= NARROWEST_ARCH && this.blocks.every(isPlain)) this.rise = PLAIN_RISE;
    this.lineY = this.top + this.rise * this.layout.depth + 10;
    this.below = !this.isNamed ? BELOW_NOTHING : this.layout.stages.some(({name}) => name) ? BELOW : BELOW_BLOCKS;
    const height = this.lineY + this.below;
    this.drawing = svg("svg", {
      width: axis.width, height, viewBox: `0 0 ${axis.width} ${height}`, role: "group",
      "aria-label": "Blocks of the network, from the input on the left to the loss on the right",
    });
    this.drawing.append(this.#stages(), this.#ends());
    this.trunks = this.#trunks();
    this.parts = this.layout.blocks.map((place) => this.#block(place));
    this.drawing.append(...this.parts.map((part) => part.group), ...this.#pathNames());
    const focused = this.element.contains(document.activeElement) ? document.activeElement : null;
    const {stage} = focused?.dataset ?? {};
    this.element.replaceChildren(this.drawing);
    this.#reach(Math.max(0, Math.min(this.reached, this.parts.length - 1)));
    const label = stage && [...this.drawing.querySelectorAll("[data-stage]")].find((each) => each.dataset.stage === stage);
    if (focused) (label ?? this.parts[this.reached].group).focus({preventScroll: true});
  }

  /**
   * Draws one step.
   *
   * @param values {skip, branch, input, output}: a magnitude of each block, or null.
   * @param widths A width scale.
   * @param colorOf From a block's index to its colour; null colours the paths by their kind.
   */
  draw(values, widths, colorOf) {
    const {skip, branch, input, output} = values;
    this.mostWidth = widths.most;
    const at = (array, index) => widths.of(array ? array[index] : NaN);
    this.layout.blocks.forEach((place, order) => {
      const part = this.parts[order];
      const {index} = place;
      const color = colorOf ? colorOf(index) : "";
      if (part.isStream) return this.#stream(order, part, (array, each) => at(array, each), values, color);
      const arriving = output ? at(output, index) : null;
      const [skipEnd, branchEnd] = [at(skip, index), at(branch, index)];
      const lost = (array) => (array ? colorOfLost(array[index]) : null);
      this.#ribbon(part.branch, part.branchLine, branchEnd, arriving ?? branchEnd, color, lost(branch));
      if (hasNoSkip(this.blocks[index])) set(part.skip.ribbon, {d: ""});
      else this.#ribbon(part.skip, part.skipLine, skipEnd, arriving ?? skipEnd, color, lost(skip));
    });
    for (const {part, line, left, right} of this.trunks) {
      const ends = [[output ?? branch, left], [input ?? branch, right]].filter(([, index]) => index !== null);
      const [first, last] = [ends[0], ends.at(-1)].map(([array, index]) => at(array, index));
      const lost = ends.map(([array, index]) => (array ? colorOfLost(array[index]) : null)).find(Boolean);
      this.#ribbon(part, line, first, last, "", lost ?? null);
    }
  }

  /** A block's piece of the stream: it meets its neighbours half way. */
  #stream(order, part, at, {skip, branch}, color) {
    const {fork, merge} = part;
    const neighbours = [order - 1, order, order + 1].map((each) => {
      return (this.parts[each]?.isStream ? this.layout.blocks[each] : this.layout.blocks[order]).index;
    });
    const scale = this.rise / (2 * this.mostWidth);
    const heights = (array) => {
      const [before, here, after] = neighbours.map((index) => scale * at(array, index));
      return [(before + here) / 2, here, (here + after) / 2];
    };
    const block = this.blocks[neighbours[1]];
    const lower = hasNoSkip(block) ? [0, 0, 0] : heights(skip);
    const upper = lower.map((height, i) => height + heights(branch)[i]);
    const xs = [fork, (fork + merge) / 2, merge];
    const area = (tops, floors) => {
      const points = [...xs.map((x, i) => [x, this.lineY - tops[i]]), ...xs.map((x, i) => [x, this.lineY - floors[i]]).reverse()];
      return `${through(points)}Z`;
    };
    set(part.skip.ribbon, {d: lower[1] > 0 ? area(lower, [0, 0, 0]) : ""});
    set(part.skip.nothing, {d: lower[1] > 0 || hasNoSkip(block) ? "" : through(straight(fork, merge, this.lineY))});
    set(part.branch.ribbon, {d: upper[1] > lower[1] ? area(upper, lower) : ""});
    for (const path of [part.skip, part.branch]) path.ribbon.style.fill = color;
    const lost = [skip, branch].map((array) => (array ? colorOfLost(array[neighbours[1]]) : null)).find(Boolean);
    if (!lost) return;
    set(part.skip.nothing, {d: ""});
    set(part.branch.ribbon, {d: area([this.rise / 2, this.rise / 2, this.rise / 2], [0, 0, 0])});
    part.branch.ribbon.style.fill = lost;
  }

  mark(chosen) {
    this.layout.blocks.forEach(({index}, order) => {
      const isChosen = chosen.has(this.blocks[index].name);
      const {isStream} = this.parts[order];
      set(this.parts[order].group, {
        "aria-pressed": String(isChosen),
        class: ["gf-block", isChosen ? "is-chosen" : "", isStream ? "is-stream" : ""].filter(Boolean).join(" "),
      });
    });
  }

  describe(index, text) {
    const order = this.layout.blocks.findIndex((place) => place.index === index);
    set(this.parts[order].group, {"aria-label": text});
  }

  #y(level) {
    return this.lineY - level * this.rise;
  }

  /** The fork and the merge of a block, inside its columns. */
  #span(place) {
    if (this.#isStream(place)) return this.axis.span(place);
    const levels = this.layout.depth - place.level - 1 - (place.height - 1);
    const inset = this.axis.unitOf(place) * (0.1 + 0.04 * levels);
    return [this.axis.x(place.start) + inset, this.axis.x(place.end) - inset];
  }

  #isStream(place) {
    return place.isLeaf && place.level === 0 && this.axis.unitOf(place) < NARROWEST_ARCH;
  }

  #stages() {
    const group = svg("g", {class: "gf-stages"});
    const common = commonStart(this.axis.stages.map(({name}) => name ?? ""));
    for (const {name, left, right, unit, strides} of this.axis.stages) {
      const [from, to] = [left + 1.5, Math.max(right - 1.5, left + 2)];
      const isOpen = name !== null && name === this.axis.openStage;
      const opens = name && (isOpen || unit < NARROWEST_ARCH);
      const band = svg("rect", {
        x: from, y: this.top - LOW_TOP + 2, width: to - from, height: this.lineY + this.below - this.top + LOW_TOP - 4, rx: 8,
      });
      group.append(band);
      const words = name ? name.replaceAll("_", " ") + (strides > 1 ? ` \u00b7 strides ${strides}` : "") : "";
      if (name && this.isNamed && to - from > 30) {
        const cut = name.slice(0, common).replace(/\W*_*$/, "").replaceAll("_", " ");
        const fitted = [words, name].find((text) => fit(text, to - from) === text)
          ?? fit(name.slice(common), to - from);
        if (left === this.axis.left && cut && !fitted.startsWith(name.slice(0, common))) {
          group.append(svg("text", {class: "gf-common", x: this.axis.left - 8, y: this.lineY + this.below - 10}, fit(cut, this.axis.left - 12)));
        }
        const label = svg("text", {
          x: (from + to) / 2, y: this.lineY + this.below - 10,
          ...(opens ? this.#opening(name) : {}),
        }, fitted);
        if (opens) label.append(svg("title", {}, isOpen ? `Close ${name}` : `Open ${name}: its blocks get most of the width`));
        group.append(label);
      }
    }
    return group;
  }

  #opening(stage) {
    const open = () => this.on.open(stage);
    const onkeydown = (event) => {
      if (event.key !== "Enter") return;
      open();
      event.stopPropagation();
    };
    return {class: "gf-opens", tabindex: "0", role: "button", "data-stage": stage, onclick: open, onkeydown};
  }

  #ends() {
    const {right, width} = this.axis;
    const y = this.lineY;
    const loss = right + 70 < width ? {x: right + 40, y: y + 4} : {x: right + 10, y: y + 20};
    return svg("g", {class: "gf-ends"},
      svg("text", {x: this.axis.left - 40, y: y + 4, "text-anchor": "end"}, "input"),
      svg("path", {d: arrow(this.axis.left - 34, y)}),
      svg("text", loss, "loss"),
      svg("path", {d: arrow(right + 28, y)}),
    );
  }

  /** The words "skip" and "branch" at the first block that has both. */
  #pathNames() {
    const order = this.layout.blocks.findIndex((place) => place.isLeaf && !isPlain(this.blocks[place.index]));
    if (order < 0) return [];
    const place = this.layout.blocks[order];
    const {fork, merge} = this.parts[order];
    const block = this.blocks[place.index];
    const roof = this.#y(place.level + place.height);
    const words = block.stops_gradient ? "skip, stopped" : "skip";
    const isFirst = place.level === 0 && order === 0;
    const x = isFirst ? (fork + merge) / 2 + 2 : merge;
    return [
      svg("text", {class: "gf-path-name gf-branch-word", x: Math.max(x, this.axis.left + 8), y: roof - 11, "text-anchor": "middle"}, "branch"),
      svg("text", {class: "gf-path-name gf-skip-word", x: fork - 3, y: this.#y(place.level) + (this.isLow ? -12 : 16), "text-anchor": "end"}, words),
    ];
  }

  /** The stretches of line between neighbours of one level, and at both ends. */
  #trunks() {
    const group = svg("g", {class: "gf-trunks"});
    const byLine = new Map();
    for (const place of this.layout.blocks) {
      const key = `${place.level} ${place.level ? this.blocks[place.index].parent : ""}`;
      if (!byLine.has(key)) byLine.set(key, []);
      byLine.get(key).push(place);
    }
    const trunks = [];
    const add = (left, right) => {
      const y = this.#y((left ?? right).level);
      const from = left ? this.#span(left)[1] : this.#lead(right, -1);
      const to = right ? this.#span(right)[0] : this.#lead(left, 1);
      const part = ribbonPart("gf-trunk");
      group.append(part.group);
      trunks.push({
        part, line: straight(from, to, y),
        left: left ? left.index : null, right: right ? right.index : null,
      });
    };
    for (const line of byLine.values()) {
      [null, ...line].forEach((left, order) => {
        const right = line[order] ?? null;
        const isInStream = left && right && this.#isStream(left) && this.#isStream(right);
        if (!isInStream) add(left, right);
      });
    }
    this.drawing.append(group);
    return trunks;
  }

  /** Where a line begins or ends: beyond the network, or beside the first or last inner block. */
  #lead(place, direction) {
    const [fork, merge] = this.#span(place);
    const unit = this.axis.unitOf(place);
    if (place.level > 0) return direction < 0 ? fork - unit * 0.02 : merge + unit * 0.02;
    return direction < 0 ? this.axis.left - 24 : this.axis.x(this.layout.columns) + 24;
  }

  #block(place) {
    const {index} = place;
    const block = this.blocks[index];
    const [fork, merge] = this.#span(place);
    const isStream = this.#isStream(place);
    const y = this.#y(place.level);
    const top = this.#y(place.level + place.height);
    const branchTop = place.isLeaf ? top : this.#y(place.level + 1);
    const skip = ribbonPart("gf-skip");
    const branch = ribbonPart("gf-branch");
    const group = this.#target(block, index);
    const box = place.isLeaf ? [fork, top - 12, merge - fork, y - top + 12 + Math.min(24, this.below)] : [fork, y - 10, merge - fork, 20];
    group.append(
      svg("rect", {class: "gf-target", x: box[0], y: box[1], width: box[2], height: box[3], rx: isStream ? 0 : 6}),
      branch.group, skip.group,
      ...(isPlain(block) ? [] : this.#marks(block, fork, merge, y, isStream)),
      this.#label(place),
    );
    const siding = isPlain(block) && place.isLeaf ? straight(fork, merge, y) : arch(fork, merge, y, branchTop);
    return {group, skip, branch, fork, merge, isStream, skipLine: straight(fork, merge, y), branchLine: siding};
  }

  #target(block, index) {
    const group = svg("g", {
      class: "gf-block", tabindex: "-1", role: "button", "aria-pressed": "false",
      "data-block": block.name,
      onpointerenter: () => this.on.hover(index, group),
      onpointerleave: () => this.on.leave(),
      onfocus: () => {
        this.#reach(this.layout.blocks.findIndex((place) => place.index === index));
        this.on.hover(index, group);
      },
      onblur: () => this.on.leave(),
      onclick: () => this.on.choose(index),
      onkeydown: (event) => this.#key(event, index),
    });
    return group;
  }

  /** The block that the tab key goes to: there is one stop for the bus, and arrows go on. */
  #reach(order) {
    this.parts.forEach((part, i) => set(part.group, {tabindex: i === order ? "0" : "-1"}));
    this.reached = order;
  }

  #marks(block, fork, merge, y, isStream) {
    const middle = (fork + merge) / 2;
    const size = Math.max(2.5, Math.min(5, (merge - fork) * 0.15));
    const marks = isStream ? [] : [
      svg("circle", {class: "gf-node", cx: fork, cy: y, r: size * 0.55}),
      svg("circle", {class: "gf-node", cx: merge, cy: y, r: size * 0.55}),
    ];
    if (block.stops_gradient) {
      marks.unshift(svg("path", {class: "gf-stopped", d: `M${fork} ${y}H${merge}`}));
      if (!isStream) marks.push(svg("path", {class: "gf-stop", d: `M${middle} ${y - 8}V${y + 8}`}));
    } else if (block.shortcut && block.shortcut !== "identity") {
      marks.push(shortcutMark(block.shortcut, middle, y, size));
    }
    return marks;
  }

  #label(place) {
    const name = this.shortNames[place.index];
    const unit = this.axis.unitOf(place);
    const isNumber = /^\d+$/.test(name);
    // Where two digits have no room, the first and every fifth or tenth number stand for all.
    const every = unit >= 15 ? 1 : unit >= 7 ? 5 : 10;
    const isNextToFirst = unit < 12 && this.axis.stages.some(({end}) => place.own + 1 === end);
    const isLeftOut = !this.isNamed || isNumber && (unit < 2 || isNextToFirst || (name !== "1" && Number(name) % every !== 0));
    const text = isNumber ? name : fit(name, unit * 0.96);
    return svg("text", {class: "gf-name", x: this.axis.center(place), y: this.lineY + 19}, isLeftOut ? "" : text);
  }

  #key(event, index) {
    const move = {ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity}[event.key];
    if (move) {
      const order = this.layout.blocks.findIndex((place) => place.index === index) + move;
      this.parts[Math.max(0, Math.min(this.parts.length - 1, order))].group.focus();
    } else if (event.key === "Enter" || event.key === " ") {
      this.on.choose(index);
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  /**
   * Fills a ribbon; a path with no gradient is a dotted line, and one whose gradient is not a finite
   * number has the colour of that, at one width.
   */
  #ribbon(part, line, leftWidth, rightWidth, color, lost) {
    const isEmpty = !lost && leftWidth === 0 && (rightWidth === 0 || part.kind !== "gf-trunk");
    const [left, right] = lost ? [LOST_WIDTH, LOST_WIDTH] : [leftWidth, rightWidth];
    set(part.ribbon, {d: left || right ? outline(line, left, right) : ""});
    set(part.nothing, {d: isEmpty ? through(line) : ""});
    part.ribbon.style.fill = lost ?? color;
  }
}

/** Whether a block has no shortcut at all: its branch is the only way, and stands in the line. */
export const isPlain = (block) => block.shortcut === "zero";

const hasNoSkip = (block) => isPlain(block) || block.stops_gradient;

function ribbonPart(kind) {
  const ribbon = svg("path", {class: `${kind} gf-ribbon`});
  const nothing = svg("path", {class: "gf-nothing"});
  return {kind, ribbon, nothing, group: svg("g", {}, nothing, ribbon)};
}

/** A triangle for zero padding, a square for a projection, and a diamond for any other shortcut. */
function shortcutMark(shortcut, x, y, size) {
  const at = (points) => points.map(([dx, dy]) => `${x + size * dx},${y + size * dy}`).join(" ");
  if (shortcut.includes("projection")) {
    return svg("polygon", {class: "gf-mark", points: at([[-1, -1], [1, -1], [1, 1], [-1, 1]])});
  }
  if (shortcut.includes("pad")) return svg("polygon", {class: "gf-mark", points: at([[-1, 1], [1, 1], [0, -1]])});
  return svg("polygon", {class: "gf-mark", points: at([[-1.3, 0], [0, -1.3], [1.3, 0], [0, 1.3]])});
}

export function markIcon(kind) {
  const drawing = svg("svg", {width: 26, height: 16, viewBox: "0 0 26 16", "aria-hidden": "true"});
  const line = svg("path", {class: kind === "stop" ? "gf-stopped" : "gf-iconline", d: "M1 8H25"});
  drawing.append(line);
  if (kind === "stop") drawing.append(svg("path", {class: "gf-stop", d: "M13 1V15"}));
  else if (kind === "nothing") set(line, {class: "gf-nothing"});
  else drawing.append(shortcutMark(kind, 13, 8, 4.5));
  return drawing;
}

function arrow(x, y) {
  return `M${x} ${y}l7 -4.5v9z`;
}

function straight(from, to, y) {
  return [[from, y], [to, y]];
}

/** Points along a siding: off the line, up, along and back. */
function arch(fork, merge, y, top) {
  const bend = Math.min((merge - fork) * 0.42, 64);
  const points = [];
  for (let i = 0; i <= SAMPLES / 2; i += 1) {
    const t = i / (SAMPLES / 2);
    points.push([fork + bend * t, y + (top - y) * t * t * (3 - 2 * t)]);
  }
  return [...points, ...points.map(([x, height]) => [fork + merge - x, height]).reverse()];
}

function through(points) {
  return `M${points.map(([x, y]) => `${round(x)} ${round(y)}`).join("L")}`;
}

/** The outline of a ribbon whose width goes evenly from one end's to the other's. */
function outline(points, leftWidth, rightWidth) {
  const upper = [];
  const lower = [];
  const last = points.length - 1;
  points.forEach(([x, y], i) => {
    const [before, after] = [points[Math.max(0, i - 1)], points[Math.min(last, i + 1)]];
    const [dx, dy] = [after[0] - before[0], after[1] - before[1]];
    const length = Math.hypot(dx, dy) || 1;
    const half = (leftWidth + (rightWidth - leftWidth) * (i / last)) / 2;
    const [nx, ny] = [(-dy / length) * half, (dx / length) * half];
    upper.push(`${round(x - nx)} ${round(y - ny)}`);
    lower.push(`${round(x + nx)} ${round(y + ny)}`);
  });
  return `M${upper.join("L")}L${lower.reverse().join("L")}Z`;
}

const round = (value) => Math.round(value * 10) / 10;

/** A sentence about a block for a screen reader. */
export function spoken(block, values, index, unit) {
  const say = (name, array) => (array ? `${name} ${number(array[index])}` : null);
  const parts = [say("skip", values.skip), say("branch", values.branch)].filter(Boolean);
  const stop = block.stops_gradient ? ", stops the gradient" : "";
  return `${block.name}, ${block.shortcut ?? "unknown"} shortcut${stop}: ${parts.join(", ")} ${unit}`;
}
