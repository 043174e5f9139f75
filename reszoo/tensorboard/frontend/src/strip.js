// Under a bus: what each path has, as many times what the first run's has.

import {html, set, svg} from "./dom.js";
import {layOut} from "./layout.js";
import {times} from "./scales.js";

const SIDE = 66;
const ROW = 18;

export class Strip {
  constructor(blocks) {
    this.layout = layOut(blocks);
    this.blocks = blocks;
    this.element = html("div", {class: "gf-strip"});
  }

  resize(width) {
    if (width === this.width) return;
    this.width = width;
    this.unit = (width - 2 * SIDE) / Math.max(this.layout.columns, 1);
    const height = 2 * ROW + 2;
    const drawing = svg("svg", {width, height, viewBox: `0 0 ${width} ${height}`, role: "img"});
    this.drawing = drawing;
    this.cells = ["skip", "branch"].map((path, row) => {
      drawing.append(svg("text", {class: "gf-strip-label", x: SIDE - 8, y: row * ROW + 13}, path));
      return this.layout.blocks.filter((place) => place.isLeaf).map((place) => {
        const x = SIDE + place.start * this.unit + Math.min(1.5, this.unit * 0.1);
        const cell = svg("rect", {
          x, y: row * ROW, height: ROW - 2, rx: 3,
          width: Math.max(1, this.unit - Math.min(3, this.unit * 0.2)),
        });
        const text = svg("text", {x: SIDE + (place.start + 0.5) * this.unit, y: row * ROW + 12});
        const title = svg("title");
        drawing.append(svg("g", {}, cell, text, title));
        return {index: place.index, cell, text, title};
      });
    });
    this.element.replaceChildren(drawing);
  }

  draw(ratios, scale, reference) {
    set(this.drawing, {"aria-label": `Width relative to the run ${reference}`});
    this.cells.forEach((row, path) => row.forEach(({index, cell, text, title}) => {
      const ratio = ratios[path][index];
      const color = ratio === 0 ? scale.colors(0) : scale.of(ratio);
      cell.style.fill = color;
      text.textContent = this.unit > 42 && !Number.isNaN(ratio) ? times(ratio) : "";
      text.style.fill = isLight(color) ? "#1b1f24" : "#ffffff";
      title.textContent = `${this.blocks[index].name}: ${times(ratio)} of ${reference}`;
    }));
  }
}

function isLight(color) {
  const found = /^#(..)(..)(..)$/.exec(color);
  const [r, g, b] = found ? found.slice(1).map((part) => parseInt(part, 16)) : color.match(/\d+/g).map(Number);
  return 0.299 * r + 0.587 * g + 0.114 * b > 140;
}
