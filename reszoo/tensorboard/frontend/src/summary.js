// One sentence that says where the gradient goes.

import {html} from "./dom.js";
import {median} from "./relative.js";
import {number} from "./scales.js";

/**
 * @param at From a statistic's name to an array of one value a block, or undefined.
 * @param blocks Descriptions, of which those inside others are left out.
 */
export function sentence(blocks, at) {
  const outer = blocks.map((_, i) => i).filter((i) => !blocks[i].parent);
  if (hasNoGradient(outer, at)) return ["No gradient comes back to any block at this step: it is exactly zero."];
  const parts = [];
  const lost = lostInWords(outer, at);
  const shares = pick(at("skip_share"), outer);
  if (outer.length && outer.every((i) => blocks[i].shortcut === "zero")) {
    parts.push("This network has no skips: its blocks are the only way.");
  } else if (lost.length) {
    parts.push(...lost);
  } else if (shares.length) {
    const share = median(shares);
    if (Math.abs(share - 0.5) < 0.02) parts.push("In the median block, skip and branch bring back about as much.");
    else parts.push(...shareInWords(share));
  }
  const [input, output] = [at("input_gradient_norm"), at("output_gradient_norm")];
  if (input && output && outer.length) {
    const change = input[outer[0]] / output[outer.at(-1)];
    if (Number.isFinite(change) && change > 0) parts.push(...changeInWords(change));
    else if (change === 0) parts.push(" No gradient reaches the first block.");
  }
  return parts;
}

/** The same in few words, for one run of several. */
export function brief(blocks, at) {
  const outer = blocks.map((_, i) => i).filter((i) => !blocks[i].parent);
  if (hasNoGradient(outer, at)) return ["no gradient in any block"];
  const lost = lostOf(outer, at);
  const shares = pick(at("skip_share"), outer);
  const parts = [];
  if (outer.length && outer.every((i) => blocks[i].shortcut === "zero")) parts.push("no skips");
  else if (lost.length) parts.push(`in ${whereInWords(lost, outer)} not finite or not recorded`);
  else if (shares.length) parts.push(...briefShare(median(shares)));
  const [input, output] = [at("input_gradient_norm"), at("output_gradient_norm")];
  const change = input && output && outer.length ? input[outer[0]] / output[outer.at(-1)] : NaN;
  if (Number.isFinite(change) && parts.length) parts.push(", ");
  if (change === 0) parts.push("no gradient at the first block");
  else if (Number.isFinite(change)) parts.push(html("strong", {}, `\u00d7${number(change)}`), " to the input");
  return parts;
}

function briefShare(share) {
  if (Math.abs(share - 0.5) < 0.02) return ["skip and branch alike"];
  const path = share > 0.5 ? "skip" : "branch";
  const strong = html("strong", {class: `gf-${path}-word`}, `${Math.round(100 * Math.max(share, 1 - share))}% ${path}`);
  return [strong];
}

const NORMS = ["skip", "branch", "input", "output"].map((place) => `${place}_gradient_norm`);

function hasNoGradient(outer, at) {
  const recorded = NORMS.map(at).filter(Boolean);
  return outer.length > 0 && recorded.length > 0 && outer.every((i) => recorded.every((values) => values[i] === 0));
}

/** The blocks with a recorded gradient that is no finite number. */
function lostOf(outer, at) {
  const recorded = NORMS.map(at).filter(Boolean);
  return outer.filter((i) => recorded.some((values) => !Number.isFinite(values[i])));
}

const whereInWords = (lost, outer) => {
  return lost.length === outer.length ? "all blocks" : `${lost.length} of ${outer.length} blocks`;
};

function lostInWords(outer, at) {
  const lost = lostOf(outer, at);
  return lost.length ? [`In ${whereInWords(lost, outer)} the gradient is not a finite number at this step, or not recorded.`] : [];
}

function shareInWords(share) {
  const path = share >= 0.5 ? "skip" : "branch";
  const percent = Math.round(100 * Math.max(share, 1 - share));
  const strong = (text) => html("strong", {class: `gf-${path}-word`}, text);
  return [
    "In the median block ", strong(`${percent}% `),
    "of the returning gradient, by norm, comes through the ", strong(path), ".",
  ];
}

function changeInWords(change) {
  const factor = html("strong", {}, `\u00d7${number(change)}`);
  const verb = change > 1.05 ? "grows" : change < 0.95 ? "shrinks" : "keeps its size";
  return [` From the last block to the first its norm ${verb} (`, factor, ")."];
}

function pick(array, indices) {
  return array ? indices.map((i) => array[i]).filter(Number.isFinite) : [];
}
