// What was watched while a run was trained, how long each alarm lasted, and what the usual limits would
// have found where nothing was watched.

const LIMITLESS = {vanishing: 0, exploding: Infinity};

/** The alarms that recorded numbers tell of, with the limits that the recorder has by default. */
const USUAL = [
  {alarm: "nonfinite"},
  {alarm: "vanishing", fraction: 1e-3},
  {alarm: "exploding", multiple: 1e3},
  {alarm: "dead_branch", recorded_steps: 3},
];

const DEPTH = ["input_gradient_norm", "output_gradient_norm"];
// The recorder's own: the first block over the last, whether or not they are inside others.
const depthAt = (at, blocks) => at("input_gradient_norm", 0) / at("output_gradient_norm", blocks.length - 1);
const ofFirst = (blocks) => [[0, null]].slice(0, blocks.length);

// By kind: the statistics, the [block, path] that it looks at, whether it holds there, and what to say.
const CONDITIONS = {
  nonfinite: {
    needs: ["output_gradient_nonfinite", "branch_gradient_nonfinite", "skip_gradient_nonfinite"],
    places: (blocks) => ["output", "branch", "skip"].flatMap((path) => blocks.map((_, block) => [block, path])),
    holds: (at, {block, path}) => at(`${path}_gradient_nonfinite`, block) > 0,
    words: ({path}) => `values of its ${path} gradient are not finite`,
  },
  vanishing: {
    needs: DEPTH, places: ofFirst,
    holds: (at, {blocks, limits}) => depthAt(at, blocks) < limitOf(limits, "fraction"),
    words: () => "the gradient that leaves it is below a thousandth of the last block's",
  },
  exploding: {
    needs: DEPTH, places: ofFirst,
    holds: (at, {blocks, limits}) => depthAt(at, blocks) > limitOf(limits, "multiple"),
    words: () => "the gradient that leaves it is above a thousand times the last block's",
  },
  dead_branch: {
    needs: ["branch_gradient_norm", "output_gradient_norm"],
    places: (blocks) => blocks.map((_, block) => [block, "branch"]),
    holds: (at, {block}) => at("branch_gradient_norm", block) === 0 && at("output_gradient_norm", block) > 0,
    words: () => "exactly nothing comes back through its branch",
  },
};

// JSON has no infinity: a limit that is null is never crossed.
const limitOf = ({alarm, ...limits}, name) => limits[name] ?? LIMITLESS[alarm];

/**
 * {low, high, words}: between which limits the gradient of the first block over that of the last raises
 * no alarm, of those that a run was watched by or else by the usual ones, and which of both they are.
 */
export function limitsOfDepth({tested}) {
  const of = (kind, name) => tested.filter(({alarm}) => alarm === kind).map((each) => limitOf(each, name));
  const usual = (kind, name) => USUAL.find(({alarm}) => alarm === kind)[name];
  const [low, high] = [of("vanishing", "fraction"), of("exploding", "multiple")];
  return {
    // Of several alarms of a kind the first to be raised.
    low: low.length ? Math.max(...low) : usual("vanishing", "fraction"),
    high: high.length ? Math.min(...high) : usual("exploding", "multiple"),
    words: low.length && high.length ? "alarms\u2019 limits" : low.length || high.length ? "alarms\u2019 and usual limits" : "usual limits",
  };
}

/**
 * {isKnown, isWatched, tested, untested} of a run: whether its log says what was watched, whether
 * anything was, the alarms that were, and the usual ones that were not though the recorded numbers
 * tell of them.
 */
export function watchOf({tested_alarms: tested, statistics}, raised) {
  const names = new Set(statistics.map(({name}) => name));
  // A log that does not say was watched at least for what it raised.
  const kinds = new Set((tested ?? raised).map(({alarm}) => alarm));
  return {
    isKnown: Array.isArray(tested), isWatched: kinds.size > 0, tested: tested ?? [],
    untested: USUAL.filter(({alarm}) => !kinds.has(alarm) && CONDITIONS[alarm].needs.every((name) => names.has(name))),
  };
}

/** What was watched and what is judged by the usual limits, in one or two sentences without an end. */
export function watchInWords({isKnown, isWatched, tested, untested}) {
  const said = !isKnown ? "The log does not say what was watched while training"
    : isWatched ? `Watched while training: ${tested.map(limitsInWords).join(", ")}` : "Not watched while training";
  if (!untested.length) return said;
  return `${said}. ${isWatched ? "Not watched, by" : "By"} the usual limits: ${untested.map(limitsInWords).join(", ")}`;
}

const COMPARED = {fraction: "below", multiple: "above"};

function limitsInWords({alarm, recorded_steps: inARow = 1, stop_training: stops, ...limits}) {
  const words = Object.entries(limits).map(([name, limit]) => `${COMPARED[name] ?? name} ${limit ?? "nothing"}`);
  if (inARow > 1) words.push(`${inARow} recorded steps`);
  if (stops) words.push("stops training");
  return alarm.replaceAll("_", " ") + (words.length ? ` (${words.join(", ")})` : "");
}

/** The statistics that tell how long alarms of these kinds last. */
export function neededFor(alarms) {
  return [...new Set(alarms.flatMap(({alarm}) => CONDITIONS[alarm]?.needs ?? []))];
}

/**
 * Alarms with {until, isOn}: the last recorded step at which each held without a break, and whether
 * this is the last recorded one. Without the numbers, or of a kind of one's own, both are left out.
 */
export function withSpans(alarms, {tested}, data) {
  return alarms.map((alarm) => {
    const block = data.blocks.findIndex((each) => each.name === alarm.block);
    const start = data.steps.findIndex((step) => step >= alarm.step);
    const limits = [...tested, ...USUAL].filter((each) => each.alarm === alarm.alarm)
      .find((each) => block >= 0 && start >= 0 && isOnAt(data, each, block, alarm.path)(start));
    return limits ? {...alarm, ...spanFrom(start, isOnAt(data, limits, block, alarm.path), data.steps)} : alarm;
  });
}

/** What the usual limits find that were not watched, as alarms with {isJudged, until, isOn}. */
export function judged({untested}, data) {
  return untested.flatMap((limits) => CONDITIONS[limits.alarm].places(data.blocks).flatMap(([block, path]) => {
    return onsets(isOnAt(data, limits, block, path), data.steps.length, limits.recorded_steps ?? 1).map((start) => ({
      step: data.steps[start], alarm: limits.alarm, block: data.blocks[block].name, path, isJudged: true,
      text: `Step ${data.steps[start]}, ${data.blocks[block].name}: ${CONDITIONS[limits.alarm].words({path})}.`,
      ...spanFrom(start, isOnAt(data, limits, block, path), data.steps),
    }));
  }));
}

function isOnAt({blocks, series}, limits, block, path) {
  const condition = CONDITIONS[limits.alarm];
  if (!condition) return () => false;
  const rows = new Map(condition.needs.map((name) => [name, series.get(name)]));
  return (index) => condition.holds((name, row) => rows.get(name)?.[row]?.[index] ?? NaN, {blocks, block, path, limits});
}

/** Where something has held for a number of steps in a row. */
function onsets(isOn, count, inARow) {
  const found = [];
  for (let index = 0, held = 0; index < count; index += 1) {
    held = isOn(index) ? held + 1 : 0;
    if (held === inARow) found.push(index);
  }
  return found;
}

function spanFrom(start, isOn, steps) {
  let end = start;
  while (end + 1 < steps.length && isOn(end + 1)) end += 1;
  return {until: steps[end], isOn: end === steps.length - 1};
}

/** The alarms that are on at a step; one whose end is not known is on at its own step only. */
export function onAt(alarms, step) {
  return alarms.filter((alarm) => alarm.step <= step && step <= (alarm.until ?? alarm.step));
}
