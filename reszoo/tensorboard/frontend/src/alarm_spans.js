// How long an alarm lasts: the recorder notes when it goes off, and the recorded numbers say until when.

const DEPTH = (blocks, at) => {
  const outer = blocks.map((_, i) => i).filter((i) => !blocks[i].parent);
  return at("input_gradient_norm", outer[0]) / at("output_gradient_norm", outer.at(-1));
};

// Whether an alarm is on at a recorded step; the limits are those of the recorder's defaults.
const CONDITIONS = {
  nonfinite: (at, block, path) => at(`${path}_gradient_nonfinite`, block) > 0,
  dead_branch: (at, block) => at("branch_gradient_norm", block) === 0 && at("output_gradient_norm", block) > 0,
  vanishing: (at, block, path, blocks) => DEPTH(blocks, at) < 1e-3,
  exploding: (at, block, path, blocks) => DEPTH(blocks, at) > 1e3,
};

/** The statistics that tell how long alarms of these kinds last. */
export function neededFor(alarms) {
  const needs = {
    nonfinite: ["skip_gradient_nonfinite", "branch_gradient_nonfinite", "output_gradient_nonfinite", "weight_gradient_nonfinite"],
    dead_branch: ["branch_gradient_norm", "output_gradient_norm"],
  };
  const depth = ["input_gradient_norm", "output_gradient_norm"];
  return [...new Set(alarms.flatMap(({alarm}) => (alarm in CONDITIONS ? needs[alarm] ?? depth : [])))];
}

/**
 * Alarms with {until, isOn}: the last recorded step at which each held without a break, and whether
 * this is the last recorded one. Without the numbers, or with limits of one's own, both are left out.
 */
export function withSpans(alarms, {blocks, steps, series}) {
  return alarms.map((alarm) => {
    const holds = CONDITIONS[alarm.alarm];
    const block = blocks.findIndex((each) => each.name === alarm.block);
    const start = steps.findIndex((step) => step >= alarm.step);
    if (!holds || block < 0 || start < 0 || !neededFor([alarm]).some((name) => series.has(name))) return alarm;
    const isOnAt = (index) => holds((name, row) => series.get(name)?.[row]?.[index] ?? NaN, block, alarm.path, blocks);
    if (!isOnAt(start)) return alarm;
    let end = start;
    while (end + 1 < steps.length && isOnAt(end + 1)) end += 1;
    return {...alarm, until: steps[end], isOn: end === steps.length - 1};
  });
}

/** How many alarms are on at a step; one whose end is not known is on at its own step only. */
export function countOn(alarms, step) {
  return alarms.filter((alarm) => alarm.step <= step && step <= (alarm.until ?? alarm.step)).length;
}
