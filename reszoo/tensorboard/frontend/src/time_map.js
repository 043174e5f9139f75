// A statistic over depth and time: blocks stand under those of the bus, and time runs down.

import {html, set, sizeCanvas, svg} from "./dom.js";
import {canvasPen, svgPen} from "./pens.js";
import {cssToRgb, HATCH, wholeNumber} from "./scales.js";
import {indexAt, nearest} from "./source.js";
import {scaleLinear} from "d3-scale";

const TOP = 5;
const BOTTOM = 6;
// How far apart two labels are at least.
const LABEL = 11;

export class TimeMap {
  /** @param on {hover(block, stepIndex, x, y), leave(), choose(block, step), zoom(from, to)} */
  constructor(on) {
    this.on = on;
    this.cells = html("canvas", {class: "gf-cells"});
    this.over = html("canvas", {class: "gf-over", tabindex: "0", role: "application"});
    this.cells.picture = () => this.picture();
    this.over.picture = () => "";
    this.nothing = html("p", {class: "gf-nothing-said", hidden: true});
    this.element = html("div", {class: "gf-heatmap"}, this.cells, this.over, this.nothing);
    this.over.addEventListener("pointermove", (event) => this.#move(event));
    this.over.addEventListener("pointerdown", (event) => this.#press(event));
    this.over.addEventListener("pointerup", (event) => this.#release(event));
    this.over.addEventListener("pointerleave", () => this.on.leave());
    this.over.addEventListener("keydown", (event) => this.#key(event));
    this.over.addEventListener("blur", () => this.#focusCell(null));
  }

  /** @param content {axis, steps, rows, colors, domain: [first, last], alarms, label, nothing} */
  draw(content, height, theme) {
    Object.assign(this, {content, height, theme});
    this.width = content.axis.width;
    this.element.style.height = `${height}px`;
    this.y = scaleLinear().domain(content.domain).range([TOP, height - BOTTOM]);
    set(this.over, {"aria-label": content.label});
    const context = sizeCanvas(this.cells, this.width, height);
    sizeCanvas(this.over, this.width, height);
    this.nothing.textContent = content.nothing ?? "";
    this.nothing.hidden = !content.nothing;
    this.#paint(context);
    this.#axis(canvasPen(context, theme));
    this.mark(this.step, this.chosen);
  }

  /** Shows the step and the chosen blocks. */
  mark(step, chosen) {
    Object.assign(this, {step, chosen});
    if (!this.content) return;
    const context = this.over.getContext("2d");
    context.clearRect(0, 0, this.width, this.height);
    this.#markings(canvasPen(context, this.theme));
    if (this.cell) this.#markCell(context);
    if (this.dragFrom !== undefined && this.dragTo !== undefined) {
      context.fillStyle = this.theme.veil;
      context.fillRect(this.content.axis.left, this.dragFrom, this.#right() - this.content.axis.left, this.dragTo - this.dragFrom);
    }
  }

  /** The chosen blocks and the step. */
  #markings(pen) {
    for (const place of this.content.axis.places) {
      const [left, right] = this.content.axis.span(place);
      const {name} = this.content.axis.blocks[place.index];
      if (this.chosen?.has(name)) pen.rect(this.theme.accent, left, 0, right - left, 3);
    }
    if (this.step !== null && this.step !== undefined) this.#markStep(pen, this.y(this.step));
  }

  /** The map as SVG, with its cells as an image inside. */
  picture() {
    const {left} = this.content.axis;
    const [width, height] = [this.#right() - left, this.height - TOP - BOTTOM];
    const ratio = this.cells.width / this.width;
    const cells = html("canvas", {width: Math.round(width * ratio), height: Math.round(height * ratio)});
    cells.getContext("2d").drawImage(this.cells, -left * ratio, -TOP * ratio);
    const box = {x: left, y: TOP, width, height};
    const group = svg("g", {}, svg("rect", {...box, fill: HATCH}),
      svg("image", {...box, preserveAspectRatio: "none", style: "image-rendering: pixelated", href: cells.toDataURL()}));
    const pen = svgPen(group);
    this.#axis(pen);
    this.#markings(pen);
    return group;
  }

  /** A line with a rim of the other brightness, seen on every colour, and its ends beside the cells. */
  #markStep(pen, at) {
    const y = Math.round(at);
    const right = this.#right();
    const rim = this.height < 60 ? 4 : 6;
    for (const [color, width] of [[this.theme.panel, rim], [this.theme.text, 2]]) {
      pen.rect(color, this.content.axis.left - 2, y - width / 2, right - this.content.axis.left + 4, width);
    }
    for (const [x, to] of [[this.content.axis.left - 2, -7], [right + 2, 7]]) pen.triangle(this.theme.text, [x, y], [x + to, y - 4.5], [x + to, y + 4.5]);
  }

  #markCell(context) {
    const {axis, steps} = this.content;
    const [left, right] = axis.span(this.cell.place);
    const y = this.y(steps[this.cell.index]);
    for (const [color, width] of [[this.theme.panel, 4], [this.theme.accent, 2]]) {
      context.strokeStyle = color;
      context.lineWidth = width;
      context.strokeRect(left, y - 4, right - left, 8);
    }
  }

  #right() {
    return this.content.axis.right;
  }

  /** One pixel a block and a line of the screen, stretched by the browser to the block's column. */
  #paint(context) {
    const {axis, steps, rows, colors} = this.content;
    const lines = Math.max(1, this.height - TOP - BOTTOM);
    context.fillStyle = hatchOf(context, this.theme);
    context.fillRect(this.content.axis.left, TOP, this.#right() - this.content.axis.left, lines);
    if (!steps.length || !rows.length) return;
    const image = new ImageData(rows.length, lines);
    const table = colorTable(colors);
    for (let line = 0; line < lines; line += 1) {
      const index = indexAt(steps, this.y.invert(TOP + line + 0.5));
      if (index < 0) continue;
      axis.places.forEach((place, column) => {
        image.data.set(table(rows[place.index][index]), 4 * (line * rows.length + column));
      });
    }
    const small = new OffscreenCanvas(rows.length, lines);
    small.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    axis.places.forEach((place, column) => {
      const [left, right] = axis.span(place).map(Math.round);
      context.drawImage(small, column, 0, 1, lines, left, TOP, Math.max(1, right - left), lines);
    });
    context.fillStyle = this.theme.panel;
    for (const stage of axis.stages.slice(1)) context.fillRect(Math.round(stage.left) - 1, TOP, 2, lines);
  }

  #axis(pen) {
    let free = -Infinity;
    for (const tick of this.y.ticks(Math.max(2, Math.floor(this.height / 34)))) {
      if (!Number.isInteger(tick)) continue;
      const y = this.y(tick);
      pen.rect(this.theme.muted, this.content.axis.left - 4, y - 0.5, 4, 1);
      // The first and the last label stay inside the picture.
      const middle = Math.max(6, Math.min(this.height - 6, y));
      if (middle < free) continue;
      pen.text(this.theme.muted, wholeNumber(tick), this.content.axis.left - 11, middle);
      free = middle + LABEL;
    }
    for (const alarm of this.content.alarms) this.#alarm(pen, alarm);
  }

  /** A triangle where it begins and a line as long as it holds; an outline where nothing was watched. */
  #alarm(pen, {step, until = step, isJudged}) {
    const [first, last] = this.content.domain;
    if (until < first || step > last) return;
    const [from, to] = [this.y(Math.max(step, first)), this.y(Math.min(until, last))];
    const x = this.#right() + 10;
    pen.rect(this.theme.alarm, x, from, isJudged ? 1 : 2, Math.max(0, to - from));
    pen.triangle(this.theme.alarm, [x - 3, from], [x + 6, from - 4.5], [x + 6, from + 4.5]);
    if (!isJudged) return;
    pen.triangle(this.theme.panel, [x - 0.6, from], [x + 4.8, from - 2.7], [x + 4.8, from + 2.7]);
  }

  #at(event) {
    const box = this.over.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    return {y, place: this.content.axis.placeAt(x), index: indexAt(this.content.steps, this.y.invert(y))};
  }

  #move(event) {
    if (!this.content) return;
    const {y, place, index} = this.#at(event);
    if (this.dragFrom !== undefined && Math.abs(y - this.dragFrom) > 5) {
      this.dragTo = Math.max(TOP, Math.min(this.height - BOTTOM, y));
      this.mark(this.step, this.chosen);
    }
    if (place && index >= 0 && this.dragFrom === undefined) this.on.hover(place.index, index, event.clientX, event.clientY);
    else this.on.leave();
  }

  #press(event) {
    if (!this.content || event.button !== 0 || !this.#at(event).place) return;
    this.dragFrom = this.#at(event).y;
    this.over.setPointerCapture(event.pointerId);
  }

  #release(event) {
    if (this.dragFrom === undefined) return;
    const range = this.dragTo === undefined ? null : [this.dragFrom, this.dragTo].sort((a, b) => a - b);
    this.dragFrom = this.dragTo = undefined;
    if (range) {
      this.on.zoom(Math.floor(this.y.invert(range[0])), Math.ceil(this.y.invert(range[1])));
      return;
    }
    const {place, index} = this.#at(event);
    if (place && index >= 0) this.on.choose(place.index, this.content.steps[index]);
  }

  /** Arrows go from cell to cell: up and down in time, left and right along depth. */
  #key(event) {
    const {steps, axis} = this.content ?? {steps: []};
    const inTime = {ArrowUp: -1, ArrowDown: 1, PageUp: -10, PageDown: 10}[event.key];
    const inDepth = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    const isEnter = event.key === "Enter" && this.cell;
    if ((!inTime && !inDepth && !isEnter) || !steps.length || !axis.places.length) return;
    // The axis is another one after the lens or the panel of a block has opened.
    const place = axis.places.find((each) => each.own === this.cell?.place.own) ?? axis.places[0];
    const cell = {place, index: this.cell?.index ?? nearest(steps, this.step ?? steps.at(-1))};
    const clamp = (value, count) => Math.max(0, Math.min(count - 1, value));
    const index = clamp(cell.index + (inTime ?? 0), steps.length);
    const order = this.cell ? clamp(axis.places.indexOf(cell.place) + (inDepth ?? 0), axis.places.length) : 0;
    this.#focusCell({place: axis.places[order], index});
    if (inTime || isEnter) this.on.choose(isEnter ? this.cell.place.index : null, steps[index]);
    this.#sayCell();
    event.preventDefault();
    event.stopPropagation();
  }

  #focusCell(cell) {
    this.cell = cell;
    this.mark(this.step, this.chosen);
    if (!cell) this.on.leave();
  }

  #sayCell() {
    const {axis, steps} = this.content;
    const box = this.over.getBoundingClientRect();
    const {place, index} = this.cell;
    this.on.hover(place.index, index, box.left + axis.center(place), box.top + this.y(steps[index]), true);
  }
}

/** Stripes for what is not defined. */
function hatchOf(context, theme) {
  const tile = new OffscreenCanvas(6, 6);
  const drawing = tile.getContext("2d");
  drawing.fillStyle = theme.band;
  drawing.fillRect(0, 0, 6, 6);
  drawing.strokeStyle = theme.hatch;
  drawing.beginPath();
  for (const from of [-6, 0, 6]) {
    drawing.moveTo(from, 6);
    drawing.lineTo(from + 6, 0);
  }
  drawing.stroke();
  return context.createPattern(tile, "repeat");
}

/** Colours from a table of 256, since a scale is asked a hundred thousand times a picture. */
function colorTable(colors) {
  const table = Array.from({length: 256}, (_, i) => [...cssToRgb(colors.colors(i / 255)), 255]);
  const infinite = [...cssToRgb(colors.of(Infinity)), 255];
  return (value) => {
    if (value === undefined || Number.isNaN(value)) return [0, 0, 0, 0];
    if (!Number.isFinite(value)) return infinite;
    return table[Math.round(255 * Math.max(0, Math.min(1, colors.at(value))))];
  };
}
