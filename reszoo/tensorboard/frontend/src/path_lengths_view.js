// How many branches the gradient crosses on its way: a ridge a measurement, the earliest on top.

import {html, set, svg, visible} from "./dom.js";
import {shortRun} from "./layout.js";
import {wholeNumber} from "./scales.js";

const [LEFT, TOP, BOTTOM] = [64, 34, 26];
const RISE = 30;
const MOST_RIDGES = 12;

export class PathLengthsView {
  constructor(app) {
    this.app = app;
    this.list = html("div", {class: "gf-ridges"});
    this.element = html("section", {class: "gf-section", "aria-label": "Path lengths", hidden: true},
      html("div", {class: "gf-track-head"}, html("h2", {}, "Path lengths"), app.help.button("pathLengths"),
        app.saveMenu("Path lengths", "path_lengths", () => [visible(this.element)]),
        html("span", {class: "gf-note"}, "share of the gradient by the number of branches that it crosses")),
      this.list);
  }

  needs() {
    return [];
  }

  draw() {
    const measured = this.app.data.filter(({pathLengths}) => pathLengths.steps.length);
    this.element.hidden = !measured.length;
    const width = Math.floor(this.app.width / Math.max(1, measured.length)) - 24;
    this.panels = measured.map((data) => this.#panel(data, Math.min(width, 620)));
    this.list.replaceChildren(...this.panels.map(({element}) => element));
  }

  #panel({run, pathLengths}, width) {
    const indices = thinned(pathLengths.steps.length);
    const most = Math.max(...pathLengths.shares.flat(), 1e-9);
    const count = Math.max(...pathLengths.shares.map((shares) => shares.length));
    const x = (length) => LEFT + ((width - LEFT - 10) * length) / Math.max(1, count - 1);
    const gap = Math.min(22, 150 / indices.length);
    const height = TOP + gap * (indices.length - 1) + BOTTOM + 4;
    const drawing = svg("svg", {width, height, role: "img",
      "aria-label": `Share of the gradient by path length at steps ${indices.map((i) => pathLengths.steps[i]).join(", ")}`});
    const ridges = indices.map((index, order) => {
      const [step, shares] = [pathLengths.steps[index], pathLengths.shares[index]];
      const y = TOP + gap * order;
      const points = shares.map((share, length) => `${x(length).toFixed(1)} ${(y - (RISE * share) / most).toFixed(1)}`);
      const ridge = svg("path", {class: "gf-ridge", d: `M${x(0)} ${y}L${points.join("L")}L${x(shares.length - 1).toFixed(1)} ${y}Z`,
        onclick: () => this.app.goTo(step)}, svg("title", {}, `step ${wholeNumber(step)}: half of it crosses at most ${middle(shares)} branches`));
      drawing.append(ridge);
      if (gap > 11 || order % 2 === 0) drawing.append(svg("text", {x: LEFT - 8, y: y + 3, "text-anchor": "end"}, wholeNumber(step)));
      return {step, ridge};
    });
    for (const length of ticksOf(count)) {
      drawing.append(svg("text", {x: x(length), y: height - 8, "text-anchor": "middle"}, length));
    }
    const title = this.app.data.length > 1 ? html("h3", {}, shortRun(run)) : null;
    return {element: html("div", {}, title, drawing), ridges};
  }

  showStep(step) {
    for (const {ridges} of this.panels ?? []) {
      const now = ridges.findLast((each) => each.step <= step) ?? ridges[0];
      for (const each of ridges) set(each.ridge, {class: each === now ? "gf-ridge is-now" : "gf-ridge"});
    }
  }
}

/** The first, the last and evenly spaced ones between. */
function thinned(count) {
  if (count <= MOST_RIDGES) return Array.from({length: count}, (_, i) => i);
  return Array.from({length: MOST_RIDGES}, (_, i) => Math.round((i * (count - 1)) / (MOST_RIDGES - 1)));
}

function middle(shares) {
  let sum = 0;
  return shares.findIndex((share) => (sum += share) >= 0.5);
}

function ticksOf(count) {
  const every = Math.max(1, Math.ceil((count - 1) / 8));
  return Array.from({length: count}, (_, i) => i).filter((i) => i % every === 0);
}
