// The list of alarms: what was watched in each run, and one line a block and kind, with how long each
// lasted.

import {html} from "./dom.js";
import {shortRun} from "./layout.js";
import {wholeNumber} from "./scales.js";
import {watchInWords} from "./watch.js";

const MOST = 100;

const RAISED_BY = {
  nonfinite: (path) => `${path ?? "output"}_gradient_nonfinite`,
  dead_branch: () => "branch_gradient_norm", vanishing: () => "input_gradient_norm",
  exploding: () => "input_gradient_norm", saturated_scale: () => "weight_norm",
};

/** The statistic that raised an alarm; undefined of an alarm of one's own. */
export const raisedBy = ({alarm, path}) => RAISED_BY[alarm]?.(path);

export function alarmSpan({step, until, isOn}) {
  if (isOn) return `step ${wholeNumber(step)}, still on`;
  return until > step ? `step ${wholeNumber(step)} to ${wholeNumber(until)}` : `step ${wholeNumber(step)}`;
}

export class AlarmsView {
  constructor(app) {
    this.app = app;
    this.element = html("section", {class: "gf-section gf-alarms", "aria-label": "Alarms"});
  }

  draw() {
    const {data} = this.app;
    const lines = linesOf(data);
    const shown = lines.slice(-MOST).reverse();
    const words = lines.length > shown.length ? `the last ${shown.length} of ${lines.length}` : String(lines.length);
    this.element.replaceChildren(
      html("h2", {}, "Alarms", html("span", {class: "gf-count"}, lines.length ? words : "none")),
      ...data.map(({run, watch}) => html("p", {class: "gf-note gf-watched"},
        data.length > 1 ? html("strong", {}, `${shortRun(run)}: `) : null, `${watchInWords(watch)}.`)),
      html("ol", {}, ...shown.map((line) => this.#line(line))));
  }

  #line([first, ...more]) {
    const {run} = first;
    const spans = [first, ...more].map(alarmSpan);
    return html("li", {class: first.isJudged ? "is-judged" : null}, html("button", {type: "button", onclick: () => this.app.openAlarm(first)},
      html("span", {class: "gf-when", title: spans.join("\n")},
        spans.length > 2 ? `${spans[0]} and ${spans.length - 1} times more` : spans.join("; ")),
      html("span", {class: "gf-kind"}, (first.alarm ?? "alarm").replaceAll("_", " ")),
      html("span", {class: "gf-what"}, first.text ?? "", first.isJudged ? html("em", {}, " By the usual limits.") : null),
      this.app.data.length > 1 ? html("span", {class: "gf-where"}, shortRun(run)) : null));
  }
}

/** Alarms of one kind, block and path of a run are one line, by when they first went off. */
function linesOf(all) {
  const lines = new Map();
  for (const {run, alarms} of all) {
    for (const alarm of alarms) {
      // Texts without a block are of another version, each a line of its own.
      const key = JSON.stringify([run, alarm.alarm, alarm.path, alarm.isJudged, alarm.block ?? alarm]);
      lines.set(key, [...(lines.get(key) ?? []), {run, ...alarm}]);
    }
  }
  return [...lines.values()].sort(([a], [b]) => a.step - b.step);
}
