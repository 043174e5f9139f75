// The four numbers that say at once whether a run is healthy.

import {html, set} from "./dom.js";
import {median} from "./relative.js";
import {number} from "./scales.js";
import {limitsOfDepth, watchInWords} from "./watch.js";

/**
 * @param at From a statistic's name to an array of one value a block, or undefined.
 * @param watch What was watched, of watch.js. @param alarms Those that are on.
 *
 * Returns [{key, label, value, words, unit, verdict, title}]; a verdict is "good", "watch", "bad" or
 * "none", and value is what runs are sorted by.
 */
export function tilesOf(blocks, at, watch, alarms) {
  const outer = blocks.map((_, i) => i).filter((i) => !blocks[i].parent);
  const middle = (name) => {
    const values = at(name);
    return values ? median(outer.map((i) => values[i])) : NaN;
  };
  const hasSkips = blocks.some((block) => block.shortcut !== "zero");
  const depth = depthOf(blocks, at);
  const share = middle("skip_share");
  const updates = middle("update_to_weight_ratio");
  return [
    {key: "depth", label: "depth", value: depth, words: `\u00d7${number(depth)}`, verdict: verdictOfDepth(depth, limitsOfDepth(watch))},
    hasSkips
      ? {key: "share", label: "skip share", value: share, words: `${Math.round(100 * share)}%`,
        verdict: share < 0.02 || share > 0.98 ? "watch" : "good"}
      : {key: "share", label: "skip share", value: 0, words: "no skips", verdict: "none"},
    {key: "updates", label: "updates", value: updates, words: number(updates), unit: "of the weights",
      verdict: updates > 1e-2 || updates < 1e-8 ? "watch" : "good"},
    alarmTile(watch, alarms),
  ].map((tile) => (Number.isNaN(tile.value) && NEEDED[tile.key]
    ? {...tile, words: whyNone(tile.key, at), unit: "", verdict: "none"} : tile));
}

/** "none" is said only where something was watched; elsewhere it is what the usual limits say. */
function alarmTile(watch, alarms) {
  const {isKnown, isWatched, untested} = watch;
  const crossed = alarms.filter(({isJudged}) => isJudged).length;
  const raised = alarms.length - crossed;
  const limits = crossed ? `${crossed} ${crossed > 1 ? "limits" : "limit"} crossed` : isWatched ? "" : "limits kept";
  const words = isWatched ? String(raised || "none") : isKnown ? "not watched" : "not known";
  return {
    key: "alarms", label: "alarms", value: isWatched || untested.length ? alarms.length : NaN,
    words: [words, untested.length ? limits : ""].filter(Boolean).join(", "),
    verdict: alarms.length ? "bad" : isWatched ? "good" : "none", title: watchInWords(watch),
  };
}

/** How well the run did at its last test, whatever the step that is shown. */
export function accuracyTile({epoch, test_accuracy: accuracy, reason}) {
  const isKnown = Number.isFinite(accuracy);
  return {
    key: "accuracy", label: "accuracy", value: isKnown ? accuracy : NaN, verdict: "none",
    words: isKnown ? `${(100 * accuracy).toFixed(1)}%` : epoch === null ? "not known" : "not defined",
    title: epoch === null ? `Not known: ${reason}.` : `After epoch ${epoch}, the last that is over`,
  };
}

const NEEDED = {depth: "input_gradient_norm", share: "skip_share", updates: "update_to_weight_ratio"};

/** A quotient by zero is another thing than what nobody recorded. */
const whyNone = (key, at) => (at(NEEDED[key]) ? "not defined" : "not recorded");

/** What leaves the first block over what reaches the last. */
export function depthOf(blocks, at) {
  const outer = blocks.map((_, i) => i).filter((i) => !blocks[i].parent);
  const [input, output] = [at("input_gradient_norm"), at("output_gradient_norm")];
  if (!input || !output || !outer.length) return NaN;
  return input[outer[0]] / output[outer.at(-1)];
}

function verdictOfDepth(depth, {low, high}) {
  if (depth < low || depth > high) return "bad";
  return depth < 0.1 || depth > 10 ? "watch" : "good";
}

const SAID = {good: "usual", watch: "unusual", bad: "out of limits", none: ""};

/** The row of tiles, whose elements stay while their numbers change. */
export class TileRow {
  constructor(help) {
    this.help = help;
    this.parts = new Map();
    this.element = html("div", {class: "gf-tiles"});
  }

  show(tiles) {
    for (const {key, label, words, unit = "", verdict, title} of tiles) {
      const {tile, value, more} = this.parts.get(key) ?? this.#add(key, label);
      if (value.textContent !== words) value.textContent = words;
      if (more.textContent !== unit) more.textContent = unit;
      set(tile, {class: `gf-tile is-${verdict}`, title: title ?? SAID[verdict]});
    }
  }

  #add(key, label) {
    const value = html("strong", {});
    const more = html("span", {class: "gf-tile-unit"});
    const tile = html("span", {"data-tile": key}, html("span", {class: "gf-tile-label"}, label), value, more, this.help.button(key));
    this.element.append(tile);
    this.parts.set(key, {tile, value, more});
    return {tile, value, more};
  }
}
