// The bus: the skip path runs straight, each branch arches off it, and the gradient comes back
// along both from the loss on the right. Ribbons taper: at the merge both paths are handed g_y, and
// at the fork each brings back what it made of it.

import {html, set, svg} from "./dom.js";
import {layOut, shortName} from "./layout.js";
import {number} from "./scales.js";

const SIDE = 66;
const TOP = 14;
const BELOW = 50;
const SAMPLES = 22;

/** The widest ribbon that leaves the arches of so many columns apart. */
export function widest(columns, width) {
  return Math.max(2.5, Math.min(15, ((width - 2 * SIDE) / Math.max(columns, 1)) * 0.3));
}

export class Bus {
  /**
   * @param blocks Descriptions of the run's blocks.
   * @param on {hover(index, element), leave(), choose(index)}
   * @param tallest How high an arch may rise, in pixels.
   */
  constructor(blocks, on, tallest) {
    this.tallest = tallest;
    this.blocks = blocks;
    this.on = on;
    this.layout = layOut(blocks);
    this.element = html("div", {class: "gf-bus"});
  }

  resize(width) {
    if (width === this.width) return;
    this.width = width;
    this.unit = (width - 2 * SIDE) / Math.max(this.layout.columns, 1);
    this.rise = Math.max(34, Math.min(this.tallest, this.unit * 0.75));
    this.lineY = TOP + this.rise * this.layout.depth + 12;
    const height = this.lineY + BELOW;
    this.drawing = svg("svg", {
      width, height, viewBox: `0 0 ${width} ${height}`, role: "group",
      "aria-label": "Blocks of the network, from the input on the left to the loss on the right",
    });
    this.drawing.append(this.#stages(), this.#ends());
    this.trunks = this.#trunks();
    this.parts = this.layout.blocks.map((place) => this.#block(place));
    this.drawing.append(...this.parts.map((part) => part.group));
    this.element.replaceChildren(this.drawing);
  }

  /**
   * Draws one step.
   *
   * @param values {skip, branch, input, output}: a magnitude of each block, or null.
   * @param widths A width scale.
   * @param colorOf From a block's index to its colour.
   */
  draw(values, widths, colorOf) {
    const {skip, branch, input, output} = values;
    const at = (array, index) => widths.of(array ? array[index] : NaN);
    this.layout.blocks.forEach((place, order) => {
      const part = this.parts[order];
      const {index} = place;
      const arriving = output ? at(output, index) : null;
      const color = colorOf(index);
      const [skipEnd, branchEnd] = [at(skip, index), at(branch, index)];
      this.#ribbon(part.branch, part.branchLine, branchEnd, arriving ?? branchEnd, color);
      if (this.blocks[index].stops_gradient || isPlain(this.blocks[index])) set(part.skip.ribbon, {d: ""});
      else this.#ribbon(part.skip, part.skipLine, skipEnd, arriving ?? skipEnd, color);
    });
    for (const {part, line, left, right} of this.trunks) {
      const leftWidth = left === null ? null : at(output ?? branch, left);
      const rightWidth = right === null ? null : at(input ?? branch, right);
      this.#ribbon(part, line, leftWidth ?? rightWidth, rightWidth ?? leftWidth, null);
    }
  }

  mark(chosen) {
    this.layout.blocks.forEach(({index}, order) => {
      const isChosen = chosen.has(this.blocks[index].name);
      set(this.parts[order].group, {
        "aria-pressed": String(isChosen), class: isChosen ? "gf-block is-chosen" : "gf-block",
      });
    });
  }

  describe(index, text) {
    const order = this.layout.blocks.findIndex((place) => place.index === index);
    set(this.parts[order].group, {"aria-label": text});
  }

  #x(column) {
    return SIDE + column * this.unit;
  }

  #y(level) {
    return this.lineY - level * this.rise;
  }

  /** The fork and the merge of a block, inside its columns. */
  #span(place) {
    const inset = this.unit * (0.1 + 0.04 * (this.layout.depth - place.level - 1 - (place.height - 1)));
    return [this.#x(place.start) + inset, this.#x(place.end) - inset];
  }

  #stages() {
    const group = svg("g", {class: "gf-stages"});
    for (const {name, start, end, strides} of this.layout.stages) {
      const [left, right] = [this.#x(start) + 1.5, this.#x(end) - 1.5];
      group.append(svg("rect", {
        x: left, y: TOP - 8, width: right - left, height: this.lineY + BELOW - TOP + 2, rx: 8,
      }));
      const words = name ? name.replaceAll("_", " ") + (strides > 1 ? ` \u00b7 strides ${strides}` : "") : "";
      if (name && right - left > 30) {
        const fitted = fit(words, right - left) || fit(name, right - left);
        group.append(svg("text", {x: (left + right) / 2, y: this.lineY + BELOW - 12}, fitted));
      }
    }
    return group;
  }

  #ends() {
    const right = this.#x(this.layout.columns);
    const y = this.lineY;
    return svg("g", {class: "gf-ends"},
      svg("text", {x: SIDE - 40, y: y + 4, "text-anchor": "end"}, "input"),
      svg("path", {d: arrow(SIDE - 34, y)}),
      svg("text", {x: right + 40, y: y + 4}, "loss"),
      svg("path", {d: arrow(right + 28, y)}),
    );
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
      [null, ...line].forEach((left, order) => add(left, line[order] ?? null));
    }
    this.drawing.append(group);
    return trunks;
  }

  /** Where a line begins or ends: beyond the network, or beside the first or last inner block. */
  #lead(place, direction) {
    const [fork, merge] = this.#span(place);
    if (place.level > 0) return direction < 0 ? fork - this.unit * 0.02 : merge + this.unit * 0.02;
    return direction < 0 ? this.#x(0) - 24 : this.#x(this.layout.columns) + 24;
  }

  #block(place) {
    const {index} = place;
    const block = this.blocks[index];
    const [fork, merge] = this.#span(place);
    const y = this.#y(place.level);
    const top = this.#y(place.level + place.height);
    const branchTop = place.isLeaf ? top : this.#y(place.level + 1);
    const skip = ribbonPart("gf-skip");
    const branch = ribbonPart("gf-branch");
    const group = svg("g", {
      class: "gf-block", tabindex: "0", role: "button", "aria-pressed": "false",
      "data-block": block.name,
      onpointerenter: () => this.on.hover(index, group),
      onpointerleave: () => this.on.leave(),
      onfocus: () => this.on.hover(index, group),
      onblur: () => this.on.leave(),
      onclick: () => this.on.choose(index),
      onkeydown: (event) => this.#key(event, index),
    });
    const box = [fork, place.isLeaf ? top - 12 : y - 10, merge - fork, y - top + 38];
    if (!place.isLeaf) box[3] = 20;
    group.append(
      svg("rect", {class: "gf-target", x: box[0], y: box[1], width: box[2], height: box[3], rx: 6}),
      branch.group, skip.group,
      ...(isPlain(block) ? [] : this.#marks(block, fork, merge, y)),
    );
    if (place.isLeaf) group.append(this.#label(block, (fork + merge) / 2));
    return {
      group, skip, branch,
      skipLine: straight(fork, merge, y),
      branchLine: isPlain(block) && place.isLeaf ? straight(fork, merge, y) : arch(fork, merge, y, branchTop),
    };
  }

  #marks(block, fork, merge, y) {
    const middle = (fork + merge) / 2;
    const size = Math.max(2.5, Math.min(5, this.unit * 0.12));
    const marks = [
      svg("circle", {class: "gf-node", cx: fork, cy: y, r: size * 0.55}),
      svg("circle", {class: "gf-node", cx: merge, cy: y, r: size * 0.55}),
    ];
    if (block.stops_gradient) {
      marks.unshift(svg("path", {class: "gf-stopped", d: `M${fork} ${y}H${merge}`}));
      marks.push(svg("path", {class: "gf-stop", d: `M${middle} ${y - 8}V${y + 8}`}));
    } else if (block.shortcut && block.shortcut !== "identity") {
      marks.push(shortcutMark(block.shortcut, middle, y, size));
    }
    return marks;
  }

  #label(block, x) {
    const name = shortName(block.name);
    const isNumber = /^\d+$/.test(name);
    // Where two digits have no room, the first and every fifth number stand for all.
    const isLeftOut = isNumber && this.unit < 15 && name !== "1" && Number(name) % 5 !== 0;
    const text = isNumber ? name : fit(name, this.unit * 0.96);
    return svg("text", {class: "gf-name", x, y: this.lineY + 21}, isLeftOut ? "" : text);
  }

  #key(event, index) {
    const move = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (move) {
      const order = this.layout.blocks.findIndex((place) => place.index === index) + move;
      this.parts[order]?.group.focus();
    } else if (event.key === "Enter" || event.key === " ") {
      this.on.choose(index);
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  /** Fills a ribbon; a path with no gradient is a dotted line. */
  #ribbon(part, line, leftWidth, rightWidth, color) {
    const isEmpty = leftWidth === 0 && (rightWidth === 0 || part.kind !== "gf-trunk");
    set(part.ribbon, {d: leftWidth || rightWidth ? outline(line, leftWidth, rightWidth) : ""});
    set(part.nothing, {d: isEmpty ? through(line) : ""});
    if (color) part.ribbon.style.fill = color;
  }
}

/** Whether a block has no shortcut at all: its branch is the only way, and stands in the line. */
export const isPlain = (block) => block.shortcut === "zero";

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

/** A text that fits, cut short if it must be; nothing if that would leave nothing. */
function fit(text, room) {
  const letters = Math.floor(room / 6.6);
  if (text.length <= letters) return text;
  return letters >= 4 && text.length > 3 ? `${text.slice(0, letters - 1)}\u2026` : "";
}

/** A sentence about a block for a screen reader. */
export function spoken(block, values, index, unit) {
  const say = (name, array) => (array ? `${name} ${number(array[index])}` : null);
  const parts = [say("skip", values.skip), say("branch", values.branch)].filter(Boolean);
  const stop = block.stops_gradient ? ", stops the gradient" : "";
  return `${block.name}, ${block.shortcut ?? "unknown"} shortcut${stop}: ${parts.join(", ")} ${unit}`;
}
