// A box of numbers beside the pointer or the focused block.

import {html} from "./dom.js";
import {inWords, wholeNumber, withUnit} from "./scales.js";

export class Tooltip {
  constructor() {
    this.element = html("div", {class: "gf-tooltip", role: "status", hidden: true});
  }

  /** Stands to the right of what it is about, or where there is no room to the left of it. */
  show(content, left, right, y) {
    this.element.replaceChildren(...content);
    this.element.hidden = false;
    const box = this.element.getBoundingClientRect();
    const [width, height] = [document.documentElement.clientWidth, window.innerHeight];
    const x = right + 14 + box.width < width ? right + 14 : Math.max(4, left - box.width - 14);
    const top = Math.max(4, Math.min(y + 14, height - box.height - 6));
    this.element.style.transform = `translate(${Math.round(x)}px, ${Math.round(top)}px)`;
  }

  hide() {
    this.element.hidden = true;
  }
}

/** One number: what it is of, at which step. */
export function tipOf(title, step, name, words) {
  return [
    html("div", {class: "gf-tip-title"}, title, html("span", {}, `step ${wholeNumber(step)}`)),
    html("div", {class: "gf-tip-value"}, `${name}: `, html("strong", {}, words)),
  ];
}

const TOLD = ["skip_gradient_norm", "branch_gradient_norm", "skip_share", "gradient_gain", "update_to_weight_ratio"];

/** What a block is, and four of its numbers. */
export function blockTip(block, step, descriptions, values) {
  const told = TOLD.map((name) => descriptions.find((each) => each.name === name))
    .filter((each) => each && each.name in values).slice(0, 4);
  return [
    html("div", {class: "gf-tip-title"}, block.name, html("span", {}, `step ${wholeNumber(step)}`)),
    html("div", {class: "gf-tip-kind"}, kindInWords(block)),
    html("table", {}, html("tbody", {}, ...told.map((description) => html("tr", {},
      html("th", {scope: "row"}, inWords(description.name)),
      html("td", {}, withUnit(values[description.name], description)))))),
  ];
}

export function kindInWords(block) {
  const words = [];
  if (block.shortcut) words.push(block.shortcut === "zero" ? "no shortcut" : `${block.shortcut} shortcut`);
  if (block.stops_gradient) words.push("no gradient passes the skip");
  if (block.strides > 1) words.push(`strides ${block.strides}`);
  if (block.parent) words.push(`inside ${block.parent}`);
  if (Number.isFinite(block.trainable_weights)) {
    words.push(`${block.trainable_weights.toLocaleString("en")} weights`);
  }
  return words.join(" \u00b7 ");
}
