// What each statistic is in human words, what is usual, and what to do where it is not.

const GROUPS = ["paths", "block", "agreement", "weights", "health", "forward", "other"];

// By the end of a name, the first that fits: [pattern, group, words of the menu, meaning, usual, to do].
const KNOWN = [
  [/^skip_share$/, "agreement", "share of the skip",
    "How much of what comes back to the block's input came through the skip, by norm: 1 is all, 0 nothing.",
    "0.5 to 0.9 with identity skips; 0 behind a stop-gradient.",
    "Near 1 the branch hardly learns: look at its weights and its scale. At 0 nothing passes the skip."],
  [/^skip_branch_cosine$/, "agreement", "cosine of skip and branch",
    "Whether both paths pull the input in one direction (1), across each other (0) or against each other (-1).",
    "About 0 to 0.5.",
    "Lasting negative values mean that the branch undoes what the skip asks for: a lower rate may help."],
  [/^skip_gradient_norm$/, "paths", "through the skip, ‖g_skip‖",
    "The gradient that comes back to the block's input through its skip.", "Like ‖g_y‖ with an identity skip.",
    "0 where the skip is stopped or multiplied by zero."],
  [/^branch_gradient_norm$/, "paths", "through the branch, ‖g_branch‖",
    "The gradient that comes back to the block's input through its branch.", "Somewhat below that of the skip.",
    "Exactly 0 is a dead branch: a zero scale, or units that never fire."],
  [/^output_gradient_norm$/, "block", "reaches the block, ‖g_y‖",
    "The gradient that arrives at the sum of skip and branch.", "Within a factor of 10 over all blocks.",
    "Norms of different stages belong to tensors of different sizes: compare RMS across stages."],
  [/^input_gradient_norm$/, "block", "leaves the block, ‖g_x‖",
    "The gradient that the block hands on toward the input: the sum of both paths.", "Grows slowly toward the input.",
    "A fall toward the input is vanishing, a steep rise exploding: add skips or normalization, lower the rate."],
  [/^gradient_gain$/, "block", "gain, ‖g_x‖ / ‖g_y‖",
    "How many times the gradient becomes larger by passing the block.", "0.9 to 1.3; more where strides change.",
    "Gains multiply over depth: 27 blocks of 1.3 are a factor of 1,200."],
  [/^(skip|branch)_gradient_rms$/, "paths", null,
    "The norm per element: comparable between tensors of different sizes.", "As the norm, over the root of the size.", ""],
  [/^(input|output)_gradient_rms$/, "block", null,
    "The norm per element: comparable between stages.", "As the norm, over the root of the size.", ""],
  [/^update_to_weight_ratio$/, "weights", "update over weight",
    "How far one step moves the block's weights, of their size.", "About 0.001 (1e-4 to 1e-2).",
    "Above 0.01 lower the learning rate; below 1e-5 the block hardly learns."],
  [/^(weight|update)_(gradient_)?norm$/, "weights", null,
    "The size of the block's weights, of their gradient or of their update.", "Changes slowly.", ""],
  [/^gradient_noise_scale$/, "weights", "noise scale",
    "The batch size at which noise and gradient are of one size.", "Grows as the loss falls.", ""],
  [/_nonfinite$/, "health", null, "How many values are NaN or infinite.", "0.",
    "Lower the rate, clip gradients, or use loss scaling with float16."],
  [/_zero_fraction$/, "health", null, "The part of values that are exactly zero.", "0.3 to 0.7 behind a ReLU.",
    "Near 1 the units are dead."],
  [/_kurtosis$/, "health", null, "How heavy the tails are: 3 for a normal distribution.", "3 to 100.",
    "Very large values mean that few elements carry the gradient."],
  [/_gradient_max$/, "health", null, "The largest single value.", "A few hundred times the RMS.", ""],
  [/^(skip|branch)_output_rms$|^sum_rms$|^branch_to_skip_variance$|^activation_mean$/, "forward", null,
    "The size of what runs forward through the block.", "Grows slowly with depth.", ""],
];

/** {group, words, meaning, usual, cure} of a statistic; words are null where its name says as much. */
export function explain(name) {
  const found = KNOWN.find(([pattern]) => pattern.test(name));
  const [, group, words, meaning, usual, cure] = found ?? [null, "other", null, "", "", ""];
  return {group, words, meaning, usual, cure};
}

/** Statistics for a menu: [[group, [[name, words]]]]. */
export function grouped(statistics, inWords) {
  const groups = new Map(GROUPS.map((group) => [group, []]));
  for (const {name} of statistics) {
    const {group, words} = explain(name);
    groups.get(group).push([name, words ?? inWords(name)]);
  }
  return [...groups].filter(([, options]) => options.length);
}
