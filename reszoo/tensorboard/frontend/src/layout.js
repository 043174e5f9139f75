// Where each block stands on the bus. Lengths are in columns; bus.js makes pixels of them.

/**
 * Blocks in order, one column each; a block that holds others spans theirs besides its own, which
 * comes last, and they stand on its branch, one level up.
 *
 * Returns {columns, depth, blocks: [{index, start, end, own, level, height, isLeaf}], stages}. `own`
 * is a block's own column; `height` is how many levels rise above its line.
 */
export function layOut(blocks) {
  const children = new Map([[null, []]]);
  const names = new Set(blocks.map((block) => block.name));
  blocks.forEach((block, index) => {
    const parent = names.has(block.parent) && block.parent !== block.name ? block.parent : null;
    if (!children.has(parent)) children.set(parent, []);
    children.get(parent).push(index);
  });
  const placed = [];
  let column = 0;
  const place = (index, level) => {
    const inner = children.get(blocks[index].name) ?? [];
    const start = column;
    let height = 1;
    for (const child of inner) height = Math.max(height, 1 + place(child, level + 1));
    column += 1;
    placed.push({index, start, end: column, own: column - 1, level, height, isLeaf: !inner.length});
    return height;
  };
  const depth = Math.max(1, ...children.get(null).map((index) => place(index, 0)));
  placed.sort((a, b) => a.index - b.index);
  return {columns: column, depth, blocks: placed, stages: stagesOf(blocks, placed)};
}

/** The kinds of block in a layer of a transformer, and what stands under each. */
const KINDS = {attention: "att", cross_attention: "cross", feedforward: "ff"};

/**
 * The stage in a name such as stage2_block1, and what is left of the name; of layer_3/attention the
 * layer is the stage.
 */
export function splitName(name) {
  const [, layer, kind] = /^(.+)\/(\w+)$/.exec(name) ?? [];
  if (Object.hasOwn(KINDS, kind)) return {stage: layer, rest: kind};
  const found = /^(.*?stage_?\d+)[_/.-]?(.*)$/.exec(name);
  return found ? {stage: found[1], rest: found[2] || name} : {stage: null, rest: name};
}

function stagesOf(blocks, placed) {
  const stages = [];
  for (const {index, start, end, level} of placed) {
    if (level > 0) continue;
    const {stage} = splitName(blocks[index].name);
    const last = stages.at(-1);
    if (last && last.name === stage) last.end = end;
    else stages.push({name: stage, start, end, strides: blocks[index].strides ?? 1});
  }
  return stages;
}

/** A run without the folder that a training keeps its recordings in. */
export function shortRun(run) {
  return run.replace(/(.)[/\\]gradients$/, "$1");
}

/**
 * What stands under each block: its number in its stage, or what tells its name from the others'.
 */
export function shortNames(blocks) {
  const plain = blocks.filter((block) => !splitName(block.name).stage && !isNamedAfter(block)).map(({name}) => name);
  const common = plain.length > 1 ? commonStart(plain) : 0;
  return blocks.map((block) => {
    const {name, parent} = block;
    const {stage, rest} = splitName(name);
    if (isNamedAfter(block)) return KINDS[name.slice(parent.length + 1)] ?? name.slice(parent.length + 1);
    if (!stage) return name.slice(common);
    return Object.hasOwn(KINDS, rest) ? KINDS[rest] : rest.replace(/^block_?/, "");
  });
}

/** Whether a block has the name of the one that it is inside of, and more. */
const isNamedAfter = ({name, parent}) => Boolean(parent) && name.startsWith(`${parent}/`);

/** How many letters all names begin with, without a part of a number and without a whole name. */
export function commonStart(names) {
  const [first = ""] = names;
  let length = 0;
  while (length < first.length && names.every((name) => name[length] === first[length])) length += 1;
  while (length && /\d/.test(first[length - 1])) length -= 1;
  return names.some((name) => name.length === length) ? 0 : length;
}

/** A text that fits, cut short if it must be; nothing if that would leave nothing. */
export function fit(text, room) {
  const letters = Math.floor(room / 6.6);
  if (text.length <= letters) return text;
  return letters >= 4 && text.length > 3 ? `${text.slice(0, letters - 1)}\u2026` : "";
}
