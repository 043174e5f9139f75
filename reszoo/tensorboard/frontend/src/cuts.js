// Skips that are cut on the page, and the runs in which they really were.

const isOpen = ({shortcut, stops_gradient: stops}) => shortcut !== "zero" && !stops;

/** The blocks of a run whose skip brings a gradient back, by name. */
export const openSkips = (blocks) => blocks.filter(isOpen).map(({name}) => name);

/**
 * The run that has the blocks of another but for the skips that are cut, or but for all skips:
 * {run, words}, or null. It is told by the blocks, never by a run's name; of several the first, those
 * with these skips alone before those with all, and those that stop gradients before those without skips.
 *
 * @param blocks Descriptions of the run in question. @param cut Names of blocks. @param runs [{run, blocks}]
 */
export function realRun(blocks, cut, runs) {
  const open = openSkips(blocks);
  const these = open.filter((name) => cut.includes(name));
  if (!these.length) return null;
  const isAll = these.length === open.length;
  const skips = isAll ? "all skips" : these.length > 1 ? "these skips" : "this skip";
  const wanted = [[these, "stopped", `${skips} stopped`], [these, "missing", `without ${skips}`]];
  if (!isAll) wanted.push([open, "stopped", "all skips stopped"], [open, "missing", "without all skips"]);
  for (const [names, how, words] of wanted) {
    const found = runs.find((each) => isCutAt(blocks, each.blocks, new Set(names), how));
    if (found) return {run: found.run, words};
  }
  return null;
}

/** Whether the others are the same blocks, in which exactly the skips of these names are cut. */
function isCutAt(blocks, others, names, how) {
  return blocks.length === others.length && blocks.every((block, i) => {
    const other = others[i];
    if (!hasPlaceOf(block, other)) return false;
    if (!names.has(block.name)) return other.shortcut === block.shortcut && Boolean(other.stops_gradient) === Boolean(block.stops_gradient) && hasWeightsOf(block, other);
    // A projection that is missing takes its weights along.
    if (how === "missing") return other.shortcut === "zero" && (block.shortcut !== "identity" || hasWeightsOf(block, other));
    return other.shortcut === block.shortcut && Boolean(other.stops_gradient) && hasWeightsOf(block, other);
  });
}

const hasPlaceOf = (a, b) => a.name === b.name && (a.parent ?? null) === (b.parent ?? null) && (a.strides ?? 1) === (b.strides ?? 1);

/** Networks of other widths have blocks of the same names; logs of earlier versions do not say. */
const hasWeightsOf = ({trainable_weights: a}, {trainable_weights: b}) => a === undefined || b === undefined || a === b;
