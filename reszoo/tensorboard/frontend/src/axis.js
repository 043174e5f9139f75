// The horizontal axis that all tracks share: depth, from the input on the left to the loss.

import {layOut} from "./layout.js";
import {scaleLinear} from "d3-scale";

// Room at both sides of the blocks, for what names a track and for its values; less on a phone.
const SIDES = {wide: [130, 100], narrow: [98, 44]};
export const NARROW = 560;
// Narrower blocks are a stream, without arches, and are read through the lens.
export const NARROWEST_ARCH = 16;
const [LENS_BLOCK, LENS_BLOCKS] = [44, 7];
// What part of the width the lens takes at most, and what part of theirs the blocks beside it keep.
const [LENS_PART, LEAST_KEPT] = [0.4, 0.35];

/** Positions of the blocks of one run, in pixels. */
export class DepthAxis {
  /**
   * @param blocks Descriptions of the run's blocks.
   * @param shares What part of the width each stage gets; by its number of columns if null.
   * @param openStage The stage that has most of the width, if there is one.
   * @param lens What lensAt gives; it is one of all runs, whose blocks stay under each other.
   */
  constructor(blocks, width, shares = null, openStage = null, lens = null) {
    this.blocks = blocks;
    this.openStage = openStage;
    this.lens = lens;
    this.width = width;
    const [before, after] = width < NARROW ? SIDES.narrow : SIDES.wide;
    [this.left, this.right] = [before, Math.max(before + 1, width - after)];
    this.layout = layOut(blocks);
    const {stages, columns} = this.layout;
    const room = this.right - this.left;
    const parts = shares ?? stages.map(({start, end}) => (end - start) / Math.max(1, columns));
    let x = this.left;
    this.plain = stages.map((stage, i) => {
      const left = x;
      x += room * parts[i];
      return {...stage, left, right: x, unit: (x - left) / Math.max(1, stage.end - stage.start)};
    });
    this.stages = this.plain.map((stage) => ({...stage, left: this.#seen(stage.left), right: this.#seen(stage.right)}));
    this.places = [...this.layout.blocks].sort((a, b) => a.own - b.own);
  }

  /** Where a column begins; the last one ends at x(columns). */
  x(column) {
    const stage = this.plain.find(({end}) => column < end) ?? this.plain.at(-1);
    return this.#seen(stage ? stage.left + (column - stage.start) * stage.unit : this.left);
  }

  #seen(x) {
    return this.lens ? this.lens.at(x) : x;
  }

  unitOf(place) {
    return this.x(place.own + 1) - this.x(place.own);
  }

  /** The ends of a block's own column. */
  span(place) {
    return [this.x(place.own), this.x(place.own + 1)];
  }

  center(place) {
    return this.x(place.own + 0.5);
  }

  /** The place whose column is at x; null beside the blocks. */
  placeAt(x) {
    return this.places.find((place) => {
      const [left, right] = this.span(place);
      return x >= left && x < right;
    }) ?? null;
  }
}

/** One axis for each run: the same where blocks are the same, and stage over stage otherwise. */
export function axesOf(runs, width, openStage = null, lens = null) {
  const layouts = runs.map(({blocks}) => layOut(blocks));
  const names = layouts.map(({stages}) => JSON.stringify(stages.map((stage) => stage.name)));
  const haveOneKind = names.every((each) => each === names[0]);
  const shares = haveOneKind ? meanShares(layouts, openStage) : null;
  return runs.map(({blocks}) => new DepthAxis(blocks, width, shares, openStage, lens));
}

/**
 * A lens over a block that is too narrow for an arch, and its neighbours: {from, to, at}, its ends on
 * the screen and where it shows what is at x. Null if the block is wide enough.
 *
 * @param axis The axis without a lens. @param x Where the block's middle stays on the screen.
 */
export function lensAt(axis, place, x) {
  const {left, right} = axis;
  const fitting = Math.floor((LENS_PART * (right - left)) / LENS_BLOCK);
  const count = Math.min(Math.max(1, fitting), LENS_BLOCKS, axis.layout.columns);
  const first = Math.max(0, Math.min(axis.layout.columns - count, place.own - (count >> 1)));
  const [start, end] = [axis.x(first), axis.x(first + count)];
  const width = count * LENS_BLOCK;
  if (axis.unitOf(place) >= NARROWEST_ARCH || width <= end - start) return null;
  const wanted = x - (place.own - first + 0.5) * LENS_BLOCK;
  const least = left + LEAST_KEPT * (start - left);
  const from = Math.max(least, Math.min(right - LEAST_KEPT * (right - end) - width, wanted));
  const through = scaleLinear().domain([left, start, end, right]).range([left, from, from + width, right]);
  return {from, to: from + width, at: through};
}

const OPEN = 0.8;

function meanShares(layouts, openStage) {
  const {stages} = layouts[0];
  if (stages.length > 1 && stages.some(({name}) => name === openStage)) {
    return stages.map(({name}) => (name === openStage ? OPEN : (1 - OPEN) / (stages.length - 1)));
  }
  return stages.map((_, i) => {
    const parts = layouts.map(({stages: own, columns}) => (own[i].end - own[i].start) / Math.max(1, columns));
    return parts.reduce((sum, part) => sum + part, 0) / parts.length;
  });
}

/**
 * Which block of the reference each block of a run is compared with: that of its name, if both have
 * the same blocks; or else the one at the same relative depth within its stage.
 *
 * Returns {indices, words}; words say how, where it is not by name.
 */
export function matchBlocks(reference, blocks) {
  const names = reference.map((block) => block.name);
  if (names.length === blocks.length && blocks.every((block, i) => block.name === names[i])) {
    return {indices: names.map((_, i) => i), words: ""};
  }
  const [from, to] = axesOf([{blocks: reference}, {blocks}], 2000);
  const indices = new Array(blocks.length).fill(-1);
  for (const place of to.places) {
    indices[place.index] = nearestPlace(from.places, (each) => from.center(each), to.center(place)).index;
  }
  return {indices, words: `${blocks.length} against ${reference.length} blocks, matched by depth`};
}

function nearestPlace(places, at, x) {
  return places.reduce((best, each) => (Math.abs(at(each) - x) < Math.abs(at(best) - x) ? each : best));
}
