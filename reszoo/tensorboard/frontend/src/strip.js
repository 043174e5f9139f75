// Under a bus: what each path has, as many times what the first run's has.

import {html, set, svg} from "./dom.js";
import {times} from "./scales.js";

// A row that has numbers is so high, and a letter of theirs so wide.
const [WORDS_HIGH, LETTER] = [12, 6.8];

export class Strip {
  constructor(blocks) {
    this.blocks = blocks;
    this.element = html("div", {class: "gf-strip"});
    this.said = html("span", {class: "gf-note gf-matched"});
  }

  /** @param row How high a row is, in pixels; without room for numbers they are in its titles. */
  resize(axis, row) {
    if (axis === this.axis && row === this.row) return;
    Object.assign(this, {axis, row});
    const height = 2 * row + 2;
    const drawing = svg("svg", {width: axis.width, height, viewBox: `0 0 ${axis.width} ${height}`, role: "img"});
    this.drawing = drawing;
    const names = row < WORDS_HIGH ? ["skip, branch"] : ["skip", "branch"];
    drawing.append(...names.map((name, order) => {
      return svg("text", {class: "gf-strip-label", x: axis.left - 8, y: ((order + 0.5) * height) / names.length + 3}, name);
    }));
    this.cells = ["skip", "branch"].map((path, order) => {
      return axis.places.map((place) => {
        const [left, right] = axis.span(place);
        const gap = Math.min(3, (right - left) * 0.2);
        const cell = svg("rect", {x: left + gap / 2, y: order * row, height: row - 2, rx: right - left > 12 ? 3 : 0,
          width: Math.max(0.6, right - left - gap)});
        const text = svg("text", {x: axis.center(place), y: (order + 0.5) * row + 2.5});
        const title = svg("title");
        drawing.append(svg("g", {}, cell, text, title));
        return {index: place.index, cell, text, title, room: row < WORDS_HIGH ? 0 : (right - left - gap) / LETTER};
      });
    });
    this.element.replaceChildren(drawing);
  }

  draw(ratios, scale, reference, words) {
    this.said.textContent = words;
    this.said.hidden = !words;
    set(this.drawing, {"aria-label": `Width relative to the run ${reference}`});
    this.cells.forEach((row, path) => row.forEach(({index, cell, text, title, room}) => {
      const ratio = ratios[path][index];
      const color = ratio === 0 ? scale.colors(0) : scale.of(ratio);
      cell.style.fill = color;
      text.textContent = !Number.isNaN(ratio) && times(ratio).length <= room ? times(ratio) : "";
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
