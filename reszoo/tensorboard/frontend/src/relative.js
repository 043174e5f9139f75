// Values of a statistic relative to something of their own run, so that what is seen is the shape.

export const RELATIONS = [
  ["median", "over the median block of the step"],
  ["last", "over the last block of the step"],
  ["first", "over the first step shown"],
  ["recorded", "as recorded"],
];

/** Whether a statistic is a size with a unit, whose absolute value mostly shows how the loss falls. */
export const isSize = ({unit = "", name = ""} = {}) => /^(loss per|units of \w+$)/.test(unit) && !name.endsWith("_mean");

/**
 * @param rows One array a block. @param blocks Descriptions; those inside others are in no median.
 */
export function relate(rows, blocks, relation) {
  if (relation === "recorded" || !rows.length) return rows;
  const base = {median: overMedian, last: overLast, first: () => null}[relation](rows, blocks);
  return rows.map((row) => Float32Array.from(row, (value, i) => quotient(value, base ? base[i] : firstOf(row))));
}

const firstOf = (row) => row.find((value) => Number.isFinite(value)) ?? NaN;

function overMedian(rows, blocks) {
  const outer = rows.filter((_, i) => !blocks[i].parent);
  return Float32Array.from(rows[0], (_, i) => median(outer.map((row) => row[i])));
}

function overLast(rows, blocks) {
  return rows[blocks.findLastIndex((block) => !block.parent)] ?? rows.at(-1);
}

export function median(values) {
  return quantile(values.filter(Number.isFinite).sort((a, b) => a - b), 0.5);
}

/** A quantile of sorted values; NaN of nothing. */
export function quantile(sorted, part) {
  if (!sorted.length) return NaN;
  const at = (sorted.length - 1) * part;
  const low = Math.floor(at);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - low);
}

export function quotient(value, base) {
  return base === 0 || !Number.isFinite(base) ? NaN : value / base;
}
