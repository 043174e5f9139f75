// Blocks by steps. Blocks stand as in the network, the input's at the top; time is to scale.

import {html, set, sizeCanvas} from "./dom.js";
import {splitName, shortName} from "./layout.js";
import {cssToRgb, wholeNumber} from "./scales.js";
import {indexAt, nearest} from "./source.js";
import {scaleLinear} from "d3-scale";

const LEFT = 100;
const RIGHT = 12;
const TOP = 14;
const BOTTOM = 26;

export class Heatmap {
  /** @param on {hover(block, stepIndex, x, y), leave(), choose(block, step), zoom(from, to)} */
  constructor(on) {
    this.on = on;
    this.cells = html("canvas", {class: "gf-cells"});
    this.over = html("canvas", {class: "gf-over", tabindex: "0", role: "application"});
    this.element = html("div", {class: "gf-heatmap"}, this.cells, this.over);
    this.over.addEventListener("pointermove", (event) => this.#move(event));
    this.over.addEventListener("pointerdown", (event) => this.#press(event));
    this.over.addEventListener("pointerup", (event) => this.#release(event));
    this.over.addEventListener("pointerleave", () => this.#leave());
    this.over.addEventListener("keydown", (event) => this.#key(event));
  }

  /** @param content {blocks, steps, rows, colors, domain: [first, last], alarms, label, tallestRow} */
  draw(content, width, theme) {
    Object.assign(this, {content, width, theme});
    const count = Math.max(content.blocks.length, 1);
    this.rowHeight = Math.max(3, Math.min(content.tallestRow, Math.floor(300 / count) || 3));
    this.height = TOP + this.rowHeight * count + BOTTOM;
    this.element.style.height = `${this.height}px`;
    this.x = scaleLinear().domain(content.domain).range([LEFT, width - RIGHT]);
    set(this.over, {"aria-label": content.label});
    const context = sizeCanvas(this.cells, width, this.height);
    sizeCanvas(this.over, width, this.height);
    this.#paint(context);
    this.#labels(context);
    this.#axis(context);
    this.mark(this.step, this.chosen);
  }

  /** Shows the step and the chosen blocks. */
  mark(step, chosen) {
    Object.assign(this, {step, chosen});
    if (!this.content) return;
    const context = this.over.getContext("2d");
    context.clearRect(0, 0, this.width, this.height);
    const bottom = this.height - BOTTOM;
    context.strokeStyle = this.theme.text;
    context.lineWidth = 1.5;
    if (step !== null && step !== undefined) {
      const x = this.x(step);
      context.strokeRect(x - 2.5, TOP - 2, 5, bottom - TOP + 4);
    }
    context.fillStyle = this.theme.accent;
    this.content.blocks.forEach((block, row) => {
      if (chosen?.has(block.name)) context.fillRect(LEFT - 5, TOP + row * this.rowHeight, 3, this.rowHeight);
    });
    if (this.dragFrom !== undefined && this.dragTo !== undefined) {
      context.fillStyle = this.theme.veil;
      context.fillRect(this.dragFrom, TOP, this.dragTo - this.dragFrom, bottom - TOP);
    }
  }

  /** One pixel a screen column and a row of blocks, stretched by the browser. */
  #paint(context) {
    const {blocks, steps, rows, colors} = this.content;
    if (!steps.length || !blocks.length) return;
    const columns = Math.max(1, Math.round(this.width - LEFT - RIGHT));
    const image = new ImageData(columns, blocks.length);
    const table = colorTable(colors);
    const indices = Array.from({length: columns}, (_, i) => indexAt(steps, this.x.invert(LEFT + i + 0.5)));
    for (let row = 0; row < blocks.length; row += 1) {
      for (let column = 0; column < columns; column += 1) {
        if (indices[column] < 0) continue;
        image.data.set(table(rows[row][indices[column]]), 4 * (row * columns + column));
      }
    }
    const small = new OffscreenCanvas(columns, blocks.length);
    small.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, LEFT, TOP, columns, this.rowHeight * blocks.length);
  }

  #labels(context) {
    context.font = this.theme.smallFont;
    context.fillStyle = this.theme.muted;
    context.textAlign = "right";
    context.textBaseline = "middle";
    const {blocks} = this.content;
    const every = Math.max(1, Math.ceil(11 / this.rowHeight));
    let stage = null;
    let lastLabel = -Infinity;
    blocks.forEach((block, row) => {
      const y = TOP + (row + 0.5) * this.rowHeight;
      const name = splitName(block.name);
      const isNew = name.stage !== null && name.stage !== stage;
      if (isNew && row > 0) {
        context.fillStyle = this.theme.panel;
        context.fillRect(LEFT - 86, TOP + row * this.rowHeight - 1, this.width, 1.5);
        context.fillStyle = this.theme.muted;
      }
      if (isNew || (row - lastLabel >= every && (this.rowHeight >= 11 || !name.stage))) {
        const text = isNew ? `${name.stage.replaceAll("_", " ")} \u00b7 ${shortName(block.name)}` : shortName(block.name);
        context.fillText(clip(text), LEFT - 9, y);
        lastLabel = row;
      }
      stage = name.stage;
    });
  }

  #axis(context) {
    const y = this.height - BOTTOM + 5;
    context.textAlign = "center";
    context.textBaseline = "top";
    context.fillStyle = this.theme.muted;
    for (const tick of this.x.ticks(Math.max(2, Math.floor(this.width / 130)))) {
      if (!Number.isInteger(tick)) continue;
      context.fillRect(this.x(tick) - 0.5, y - 4, 1, 4);
      context.fillText(wholeNumber(tick), this.x(tick), y + 3);
    }
    context.fillStyle = this.theme.alarm;
    for (const {step} of this.content.alarms) {
      const x = this.x(step);
      if (x < LEFT - 1 || x > this.width - RIGHT + 1) continue;
      context.beginPath();
      context.moveTo(x - 4.5, TOP - 10);
      context.lineTo(x + 4.5, TOP - 10);
      context.lineTo(x, TOP - 2);
      context.fill();
    }
  }

  #cell(event) {
    const box = this.over.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const row = Math.floor((y - TOP) / this.rowHeight);
    const isInside = x >= LEFT && x <= this.width - RIGHT && row >= 0 && row < this.content.blocks.length;
    return {x, row, isInside, index: indexAt(this.content.steps, this.x.invert(x))};
  }

  #move(event) {
    if (!this.content) return;
    const {x, row, isInside, index} = this.#cell(event);
    if (this.dragFrom !== undefined && Math.abs(x - this.dragFrom) > 5) {
      this.dragTo = Math.max(LEFT, Math.min(this.width - RIGHT, x));
      this.mark(this.step, this.chosen);
    }
    if (isInside && index >= 0) this.on.hover(row, index, event.clientX, event.clientY);
    else this.on.leave();
  }

  #press(event) {
    if (!this.content || event.button !== 0 || !this.#cell(event).isInside) return;
    this.dragFrom = this.#cell(event).x;
    this.over.setPointerCapture(event.pointerId);
  }

  #release(event) {
    if (this.dragFrom === undefined) return;
    const range = this.dragTo === undefined ? null : [this.dragFrom, this.dragTo].sort((a, b) => a - b);
    this.dragFrom = this.dragTo = undefined;
    if (range) {
      this.on.zoom(Math.floor(this.x.invert(range[0])), Math.ceil(this.x.invert(range[1])));
      return;
    }
    const {row, isInside, index} = this.#cell(event);
    if (isInside && index >= 0) this.on.choose(row, this.content.steps[index]);
  }

  #leave() {
    this.on.leave();
  }

  #key(event) {
    const moves = {ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10};
    const {steps} = this.content ?? {steps: []};
    if (!(event.key in moves) || !steps.length) return;
    const index = nearest(steps, this.step ?? steps.at(-1)) + moves[event.key];
    this.on.choose(null, steps[Math.max(0, Math.min(steps.length - 1, index))]);
    event.preventDefault();
    event.stopPropagation();
  }
}

const clip = (text) => (text.length > 14 ? `${text.slice(0, 12)}\u2026` : text);

/** Colours from a table of 256, since a scale is asked a hundred thousand times a picture. */
function colorTable(colors) {
  const table = Array.from({length: 256}, (_, i) => [...cssToRgb(colors.colors(i / 255)), 255]);
  const nothing = [...cssToRgb(colors.undefinedColor), 255];
  const infinite = [...cssToRgb(colors.of(Infinity)), 255];
  return (value) => {
    if (value === undefined || Number.isNaN(value)) return nothing;
    if (!Number.isFinite(value)) return infinite;
    return table[Math.round(255 * Math.max(0, Math.min(1, colors.at(value))))];
  };
}
