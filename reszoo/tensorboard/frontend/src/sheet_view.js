// Many runs at once: a line each with its bus, its profile and its tiles, to sort and to choose from.

import {html, set, svg} from "./dom.js";
import {layOut, shortRun} from "./layout.js";
import {number} from "./scales.js";
import {nearest} from "./source.js";
import {accuracyTile, tilesOf} from "./tiles.js";
import {onAt} from "./watch.js";
import {scaleLog} from "d3-scale";

export const SHEET_FROM = 4;
const [WIDTH, HEIGHT] = [190, 30];
const COLUMNS = [["depth", "depth"], ["share", "skip share"], ["updates", "updates / weights"], ["alarms", "alarms"],
  ["accuracy", "accuracy"], ["loss", "loss"]];

export class SheetView {
  constructor(app) {
    this.app = app;
    this.body = html("tbody", {});
    this.head = html("thead", {});
    this.table = html("table", {}, this.head, this.body);
    this.element = html("section", {class: "gf-section gf-sheet", "aria-label": "All runs", hidden: true},
      html("div", {class: "gf-track-head"}, html("h2", {}, "All runs"), app.help.button("runs"),
        app.saveMenu("All runs", "runs", () => [[this.table]])),
      html("div", {class: "gf-scrolls"}, this.table));
  }

  needs() {
    return ["skip_gradient_norm", "branch_gradient_norm", "input_gradient_norm", "output_gradient_norm",
      "skip_share", "update_to_weight_ratio"];
  }

  draw() {
    const {app} = this;
    this.element.hidden = app.allData.length < SHEET_FROM;
    this.rows = [];
    if (this.element.hidden) return;
    this.head.replaceChildren(html("tr", {}, html("th", {}, "run"), html("th", {}, "bus"), html("th", {}, "gradient by depth"),
      ...COLUMNS.map(([key, words]) => this.#heading(key, words))));
    this.rows = app.allData.map((data) => this.#row(data));
    this.sorted = null;
  }

  /** The first click has the largest on top, the second the smallest, and the third goes back. */
  #heading(key, words) {
    const {app} = this;
    const [isDown, isUp] = [app.state.sort === key, app.state.sort === `-${key}`];
    return html("th", {"aria-sort": isDown ? "descending" : isUp ? "ascending" : null}, html("button", {
      type: "button", class: "gf-sort", onclick: () => app.choose({sort: isDown ? `-${key}` : isUp ? null : key}),
    }, words, isDown ? " \u25be" : isUp ? " \u25b4" : ""));
  }

  #row(data) {
    const {app} = this;
    const isFocused = app.data[0].run === data.run;
    const skip = svg("path", {class: "gf-ribbon gf-skip"});
    const branch = svg("path", {class: "gf-ribbon gf-branch"});
    const profile = svg("path", {class: "gf-now", stroke: "currentColor"});
    const cells = new Map(COLUMNS.map(([key]) => [key, html("td", {class: "gf-sheet-number", "data-tile": key})]));
    const picture = (...children) => svg("svg", {width: WIDTH, height: HEIGHT, "aria-hidden": "true"}, ...children);
    const element = html("tr", {class: isFocused ? "is-chosen" : null, "data-run": data.run},
      html("th", {scope: "row"}, html("button", {
        type: "button", class: "gf-button", title: data.run, "aria-pressed": String(isFocused),
        onclick: () => app.choose({focus: data.run}),
      }, shortRun(data.run))),
      html("td", {}, picture(skip, branch)),
      html("td", {}, picture(svg("path", {class: "gf-one", d: `M0 ${HEIGHT / 2}H${WIDTH}`}), profile)),
      ...cells.values());
    const places = layOut(data.blocks).blocks.filter(({level}) => level === 0);
    return {data, element, skip, branch, profile, cells, places};
  }

  showStep(step) {
    if (!this.rows.length || step === null) return;
    for (const row of this.rows) this.#showRow(row, step);
    this.#sort();
  }

  #showRow(row, step) {
    const {data, places} = row;
    const index = nearest(data.steps, step);
    const at = (name) => data.series.get(name)?.map((values) => values[index]);
    const loss = data.loss.values[nearest(data.loss.steps, step)] ?? NaN;
    row.tiles = new Map(tilesOf(data.blocks, at, data.watch, onAt(data.alarms, data.steps[index])).map((tile) => [tile.key, tile]));
    row.tiles.set("accuracy", accuracyTile(data.accuracy));
    row.tiles.set("loss", {value: loss, words: Number.isNaN(loss) ? "not recorded" : number(loss), verdict: "none"});
    for (const [key, cell] of row.cells) {
      const {words, verdict, title} = row.tiles.get(key);
      cell.textContent = words;
      set(cell, {class: `gf-sheet-number is-${verdict}`, title: title ?? null});
    }
    this.#drawStream(row, places.map(({index: block}) => block), at);
    this.#drawProfile(row, places.map(({index: block}) => block), at);
  }

  #drawStream({skip, branch}, blocks, at) {
    const [own, other] = [at("skip_gradient_norm"), at("branch_gradient_norm")];
    const size = (values, block) => (values && Number.isFinite(values[block]) ? values[block] : 0);
    const sums = blocks.map((block) => [size(own, block), size(own, block) + size(other, block)]);
    const most = Math.max(...sums.map(([, sum]) => sum)) || 1;
    // The first and the last block reach the edges.
    const x = (i) => (i === 0 ? 0 : i === blocks.length - 1 ? WIDTH : ((i + 0.5) * WIDTH) / blocks.length);
    const y = (value) => HEIGHT - 1 - ((HEIGHT - 2) * value) / most;
    const area = (tops, floors) => `M${tops.map((top, i) => `${x(i).toFixed(1)} ${y(top).toFixed(1)}`).join("L")}`
      + `L${floors.map((floor, i) => `${x(i).toFixed(1)} ${y(floor).toFixed(1)}`).reverse().join("L")}Z`;
    set(skip, {d: area(sums.map(([low]) => low), sums.map(() => 0))});
    set(branch, {d: area(sums.map(([, high]) => high), sums.map(([low]) => low))});
  }

  /** On one scale for all runs: a thousandth to a thousand times. */
  #drawProfile({profile}, blocks, at) {
    const [input, output] = [at("input_gradient_norm"), at("output_gradient_norm")];
    const scale = scaleLog().domain([1e-3, 1e3]).range([HEIGHT - 2, 2]).clamp(true);
    const points = blocks.map((block, i) => [((i + 0.5) * WIDTH) / blocks.length, input?.[block] / output?.[blocks.at(-1)]])
      .filter(([, value]) => value > 0).map(([x, value]) => `${x.toFixed(1)} ${scale(value).toFixed(1)}`);
    set(profile, {d: points.length ? `M${points.join("L")}` : ""});
  }

  /** Sorted when the heading or the runs change, not while the steps play. */
  #sort() {
    if (this.sorted) return;
    const [, up, sort] = /^(-?)(.*)$/.exec(this.app.state.sort ?? "");
    const value = (row) => row.tiles.get(sort)?.value ?? NaN;
    const compare = (a, b) => (up ? value(a) - value(b) : value(b) - value(a));
    // What is not known comes last either way.
    const order = COLUMNS.some(([key]) => key === sort)
      ? [...this.rows].sort((a, b) => Number.isNaN(value(a)) - Number.isNaN(value(b)) || compare(a, b))
      : this.rows;
    this.body.replaceChildren(...order.map((row) => row.element));
    this.sorted = true;
  }
}
