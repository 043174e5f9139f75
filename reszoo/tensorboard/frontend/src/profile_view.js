// The track of the profile: what is drawn of each run, and which blocks stand for it.

import {html} from "./dom.js";
import {shortRun} from "./layout.js";
import {Profile} from "./profile.js";
import {quantile} from "./relative.js";
import {joinExtents, times, wholeNumber} from "./scales.js";
import {nearest} from "./source.js";

export class ProfileView {
  constructor(app) {
    this.app = app;
    this.profile = new Profile();
    this.held = new WeakMap();
    this.note = html("span", {class: "gf-note"});
    this.profile.element.addEventListener("pointermove", (event) => this.#point(event));
    this.profile.element.addEventListener("pointerleave", () => this.#leave());
    this.element = html("div", {class: "gf-track", role: "group", "aria-label": "Gradient by depth"},
      html("div", {class: "gf-track-head"}, html("h2", {}, "Gradient by depth"), app.help.button("profile"), this.note),
      this.profile.element);
  }

  needs() {
    return ["input_gradient_norm", "output_gradient_norm"];
  }

  draw() {
    const {app} = this;
    const runs = app.data;
    this.lines = runs.map((data) => ({
      ...this.#ofRun(data), axis: app.axisOf(data), color: app.colorOf(data),
      name: runs.length > 1 ? shortRun(data.run) : "", title: runs.length > 1 ? data.run : "",
    }));
    const hasAny = this.lines.some((line) => line.range);
    const first = runs[0].steps[0];
    const cut = app.state.cut ?? [];
    const estimate = cut.length
      ? ` \u00b7 dashed: an estimate to first order without the skip${cut.length > 1 ? "s" : ""} of ${cut.join(", ")}` : "";
    const isRecorded = runs.some(({series}) => series.has("input_gradient_norm") && series.has("output_gradient_norm"));
    this.note.textContent = hasAny
      ? `at each block over that at the last \u00b7 bold: this step \u00b7 band: 10 to 90% of all steps \u00b7 dotted: step ${first}${estimate}`
      : isRecorded ? "not defined at any step: no gradient that reaches the last block is a positive number"
        : "not recorded: it takes the gradients at the ends of each block";
    this.profile.element.hidden = !hasAny;
    this.profile.draw(this.lines, joinExtents(this.lines.map((line) => line.range)), app.width,
      app.room.profile);
  }

  /** What holds for all steps, which is worked out once for the same numbers. */
  #ofRun(data) {
    const rows = data.series.get("input_gradient_norm");
    if (rows && this.held.has(rows)) return this.held.get(rows);
    const places = this.app.axisOf(data).places.filter((place) => place.level === 0);
    const at = (index) => this.#at(data, places, index);
    const all = Array.from(data.steps, (_, index) => at(index));
    const sorted = places.map((_, i) => all.map((values) => values[i]).filter(Number.isFinite).sort((a, b) => a - b));
    const flat = sorted.flatMap((values) => (values.length ? [values.find((each) => each > 0) ?? NaN, values.at(-1)] : []));
    const positive = flat.filter((value) => value > 0);
    const found = {
      places, first: all[0] ?? [],
      band: [0.1, 0.9].map((part) => sorted.map((values) => quantile(values, part))),
      range: positive.length ? {low: Math.min(...positive), high: Math.max(...positive), positive: Math.min(...positive)} : null,
    };
    if (rows) this.held.set(rows, found);
    return found;
  }

  #at(data, places, index) {
    const [input, output] = [data.series.get("input_gradient_norm"), data.series.get("output_gradient_norm")];
    if (!input || !output || !places.length) return places.map(() => NaN);
    const base = output[places.at(-1).index][index];
    return places.map((place) => (base > 0 ? input[place.index][index] / base : NaN));
  }

  /** Lights the block under the pointer and says what is there of every run. */
  #point(event) {
    const {app} = this;
    const x = event.clientX - this.profile.element.getBoundingClientRect().left;
    const found = this.lines.map((line, i) => {
      const place = line.axis.placeAt(x);
      const value = place ? this.shown[i][line.places.findIndex(({index}) => index === place.index)] : undefined;
      return {line, place, value};
    }).filter(({value}) => value !== undefined);
    if (!found.length) return this.#leave();
    const [{line, place}] = found;
    app.column(line.axis, place);
    app.tooltip.show([
      html("div", {class: "gf-tip-title"}, line.axis.blocks[place.index].name, html("span", {}, `step ${wholeNumber(app.shownStep)}`)),
      ...found.map(({line: {name}, value}) => html("div", {class: "gf-tip-value"},
        name ? `${name}: ` : "gradient over that at the last block: ", html("strong", {}, times(value)))),
    ], event.clientX, event.clientX, event.clientY);
  }

  #leave() {
    this.app.tooltip.hide();
    this.app.column(null);
  }

  showStep(step) {
    if (step === null) return;
    const values = this.app.data.map((data, i) => {
      return this.#at(data, this.lines[i].places, nearest(data.steps, step));
    });
    this.shown = values;
    this.profile.show(values, this.#estimates(values, step));
  }

  /** What the profile would be without the skips that are cut, by the recorded gains. */
  #estimates(values, step) {
    const cut = new Set(this.app.state.cut ?? []);
    if (!cut.size) return null;
    return this.app.data.map((data, i) => {
      const index = nearest(data.steps, step);
      const [branch, input] = ["branch_gradient_norm", "input_gradient_norm"].map((name) => data.series.get(name));
      const {places} = this.lines[i];
      if (!branch || !input || !places.some((place) => cut.has(data.blocks[place.index].name))) return null;
      let factor = 1;
      const estimate = new Array(places.length);
      for (let order = places.length - 1; order >= 0; order -= 1) {
        const row = places[order].index;
        if (cut.has(data.blocks[row].name)) factor *= branch[row][index] / input[row][index];
        estimate[order] = values[i][order] * factor;
      }
      return estimate;
    });
  }
}
