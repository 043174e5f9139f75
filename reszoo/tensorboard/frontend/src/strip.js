// Under a bus: what each path has, as many times what the first run's has.

import {html, set, svg} from "./dom.js";
import {times} from "./scales.js";

const ROW = 15;
const WORDS_FIT = 42;

export class Strip {
  constructor(blocks) {
    this.blocks = blocks;
    this.element = html("div", {class: "gf-strip"});
  }

  resize(axis) {
    if (axis === this.axis) return;
    this.axis = axis;
    const height = 2 * ROW + 2;
    const drawing = svg("svg", {width: axis.width, height, viewBox: `0 0 ${axis.width} ${height}`, role: "img"});
    this.drawing = drawing;
    this.cells = ["skip", "branch"].map((path, row) => {
      drawing.append(svg("text", {class: "gf-strip-label", x: axis.left - 8, y: row * ROW + 11}, path));
      return axis.places.filter((place) => place.isLeaf).map((place) => {
        const [left, right] = axis.span(place);
        const gap = Math.min(3, (right - left) * 0.2);
        const cell = svg("rect", {x: left + gap / 2, y: row * ROW, height: ROW - 2, rx: right - left > 12 ? 3 : 0,
          width: Math.max(0.6, right - left - gap)});
        const text = svg("text", {x: axis.center(place), y: row * ROW + 10.5});
        const title = svg("title");
        drawing.append(svg("g", {}, cell, text, title));
        return {index: place.index, cell, text, title, hasRoom: right - left > WORDS_FIT};
      });
    });
    this.said = html("p", {class: "gf-note gf-matched"});
    this.element.replaceChildren(drawing, this.said);
  }

  draw(ratios, scale, reference, words) {
    this.said.textContent = words;
    this.said.hidden = !words;
    set(this.drawing, {"aria-label": `Width relative to the run ${reference}`});
    this.cells.forEach((row, path) => row.forEach(({index, cell, text, title, hasRoom}) => {
      const ratio = ratios[path][index];
      const color = ratio === 0 ? scale.colors(0) : scale.of(ratio);
      cell.style.fill = color;
      text.textContent = hasRoom && !Number.isNaN(ratio) ? times(ratio) : "";
      text.style.fill = isLight(color) ? "#1b1f24" : "#ffffff";
      title.textContent = `${this.blocks[index].name}: ${times(ratio)} of ${reference}`;
    }));
  }
}

function isLight(color) {
  const found = /^#(..)(..)(..)$/.exec(color);
  if (color.startsWith("url")) return true;
  const [r, g, b] = found ? found.slice(1).map((part) => parseInt(part, 16)) : color.match(/\d+/g).map(Number);
  return 0.299 * r + 0.587 * g + 0.114 * b > 140;
}
