// Explanations in place: a "?" beside a heading or a number, and a box with its text.

import {html, set} from "./dom.js";
import {explain} from "./explain.js";

const SECTIONS = {
  bus: ["Where the gradient goes", [
    "The gradient comes from the loss on the right. A block's merge hands it to both paths unchanged, so both ribbons "
    + "begin with one width. At the fork, on the left, their widths are what has come through each path; the two are added.",
    "Width is a size, thickness for thickness in proportion to the largest of the step (or by its logarithm). "
    + "A broken line with a bar is a stop-gradient, a dotted line a path with no gradient at all.",
    "Many blocks are a stream, the branch on the skip. Where the pointer rests, a lens shows single blocks in all tracks; "
    + "the name of a stage opens the whole stage.",
  ]],
  profile: ["Gradient by depth", [
    "The gradient that leaves each block, over the one that reaches the last block: what people mean by \u201cgradient flow\u201d.",
    "Bold is this step, the band holds 80% of all steps (10 to 90%), dotted is the first step. A healthy network stays within "
    + "a factor of 10. Tinted zones are beyond the limits of the alarms, by default a thousandth (vanishing) and a thousand times "
    + "(exploding); the numbers beside the name set others.",
  ]],
  strips: ["At this step", [
    "Four numbers of each block. Share: blue is skip, orange is branch. Cosine: green agrees, violet disagrees. "
    + "Gain: green grows, violet shrinks by passing the block. Update: how far this step moved the weights, of their size.",
  ]],
  time: ["Over time", [
    "The same blocks, with time running down. Move over a row to see its step in all tracks, click to stay there, drag to zoom.",
    "Sizes are shown over the median block of their step, since as recorded they mostly show the loss falling.",
  ]],
  pathLengths: ["Path lengths", [
    "A residual network is a sum over paths, each through the branch of some blocks and the skip of the others. How many "
    + "branches a path crosses is its length. A ridge is the share of each length in the gradient at the first block, one a measurement.",
    "Usual are lengths well below the number of blocks (Veit et al. 2016): the gradient crosses few branches.",
  ]],
  lines: ["Chosen blocks over steps", ["Numbers of chosen blocks, as recorded. Click a line's name to hide it, drag to zoom."]],
  runs: ["All runs", [
    "One line a run: its bus as a stream (skip under branch, input on the left), its gradient by depth, and its tiles at the "
    + "recorded step nearest to the one shown. Click a heading to sort, a name to look at one run.",
  ]],
  depth: ["Depth", [
    "The gradient that leaves the first block over the one that reaches the last.",
    "Usual is 0.1 to 10. By default alarms are raised below 0.001 (vanishing) and above 1,000 (exploding): add skips or normalization, "
    + "or lower the learning rate.",
  ]],
  share: ["Share of the skip", [
    "The share of the skip in what comes back to a block's input, by norm, in the median block.",
    "Usual is 50 to 90% with identity skips. 0% is no gradient through any skip; near 100% the branches hardly learn. "
    + "50% by norm is not half of the gradient: the two may cancel or add up, as their cosine says.",
  ]],
  accuracy: ["Test accuracy", [
    "The accuracy on the test data after the last epoch that is over, whatever the step that is shown. train.py writes it "
    + "beside the gradient log; of another training it is not known here.",
  ]],
  updates: ["Updates", [
    "How far this step moved the weights, of their size, in the median block.",
    "Usual is about 0.001, and less as the learning rate is lowered. Above 0.01 lower the rate; below 1e-5 early in training hardly anything is learned.",
  ]],
  alarms: ["Alarms", [
    "How many alarms are on at this step, of those that the recorder raised. Where it watched nothing, or the log does not "
    + "say, the usual limits are applied here to the recorded numbers, and what crosses them is counted apart.",
    "nonfinite: a NaN or infinite value. vanishing, exploding: the depth is out of its limits. dead branch: exactly nothing "
    + "comes back through a branch. saturated scale: most scales of a normalization are near zero.",
  ]],
};

const KEYS = [
  ["Space", "play and pause"], ["\u2190 \u2192", "one step back or on"], ["[ ]", "to the alarm before or after"],
  ["Home End", "first and last step"], ["Tab", "to the bus, a heatmap, the controls; arrows go on inside"],
  ["Enter", "choose the block or cell"], ["Esc", "close what is open"], ["?", "this list"],
];

export class Help {
  constructor() {
    this.element = html("div", {class: "gf-help", role: "dialog", "aria-label": "Explanation", tabindex: "-1", hidden: true});
    document.addEventListener("pointerdown", (event) => {
      if (!this.element.contains(event.target)) this.close();
    });
  }

  /** A "?" that opens what is known of a section, a tile or a statistic. */
  button(key, formula = "") {
    const button = html("button", {
      type: "button", class: "gf-question", "aria-label": `Explain ${titleOf(key)}`,
      onclick: (event) => {
        this.open(key, button, formula);
        event.stopPropagation();
      },
    }, "?");
    return button;
  }

  open(key, from, formula = "") {
    const [title, paragraphs] = textOf(key);
    this.#show(from, html("h3", {}, title), formula ? html("p", {}, html("code", {}, formula)) : null,
      ...paragraphs.map((text) => html("p", {}, text)));
  }

  openText(from, title, text) {
    this.#show(from, html("h3", {}, title), html("p", {}, html("code", {}, text)));
  }

  openKeys(from) {
    this.#show(from, html("h3", {}, "Keys"), html("dl", {}, ...KEYS.flatMap(([key, words]) => {
      return [html("dt", {}, key), html("dd", {}, words)];
    })));
  }

  #show(from, ...content) {
    this.from = from;
    this.element.replaceChildren(...content.filter(Boolean));
    this.element.hidden = false;
    const anchor = from.getBoundingClientRect();
    const box = this.element.getBoundingClientRect();
    const x = Math.max(8, Math.min(anchor.left, document.documentElement.clientWidth - box.width - 8));
    const below = anchor.bottom + 6;
    const y = below + box.height < window.innerHeight ? below : Math.max(8, anchor.top - box.height - 6);
    set(this.element, {style: `transform: translate(${Math.round(x)}px, ${Math.round(y)}px)`});
    this.element.focus({preventScroll: true});
  }

  /** Returns whether it was open. */
  close() {
    if (this.element.hidden) return false;
    const hadFocus = this.element.contains(document.activeElement);
    this.element.hidden = true;
    if (hadFocus) this.from?.focus?.({preventScroll: true});
    return true;
  }
}

const titleOf = (key) => SECTIONS[key]?.[0] ?? key.replaceAll("_", " ");

function textOf(key) {
  if (SECTIONS[key]) return SECTIONS[key];
  const {words, meaning, usual, cure} = explain(key);
  return [words ?? titleOf(key), [meaning, usual && `Usual: ${usual}`, cure].filter(Boolean)];
}
