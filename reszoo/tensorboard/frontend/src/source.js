// Where the numbers come from: TensorBoard's server, or the bytes that a report holds.
//
// Both give the same packed answers; reszoo/tensorboard/recording.py says how they are packed.

/** Unpacks an answer; the values are views of it, one Float32Array a statistic and block. */
export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const count = header.steps;
  let at = 4 + length;
  const steps = new Float64Array(buffer, at, count);
  const wallTimes = new Float64Array(buffer, (at += 8 * count), count);
  at += 8 * count;
  const series = new Map();
  for (const statistic of header.statistics) {
    const rows = header.blocks.map((_, block) => {
      return new Float32Array(buffer, at + 4 * count * block, count);
    });
    series.set(statistic, rows);
    at += 4 * count * header.blocks.length;
  }
  return {
    steps, wallTimes, series,
    blocks: header.blocks,
    recordedSteps: header.recorded_steps,
    leftOut: header.left_out,
  };
}

export class ServerSource {
  isLive = true;

  async runs() {
    return (await this.#fetch("runs", [])).json().then((answer) => answer.runs);
  }

  async alarms(run) {
    return (await this.#fetch("alarms", [["run", run]])).json().then((answer) => answer.alarms);
  }

  /** The loss of recorded steps, {steps, values}; empty if it was not recorded. */
  async loss(run) {
    return (await this.#fetch("loss", [["run", run]])).json();
  }

  /** The steps with which epochs begin, {steps, epochs}, counted from 0; empty if the log does not say. */
  async epochs(run) {
    return (await this.#fetch("epochs", [["run", run]])).json();
  }

  /** Shares of the gradient by the length of its path, {steps, shares}; empty if not measured. */
  async pathLengths(run) {
    return (await this.#fetch("path_lengths", [["run", run]])).json();
  }

  /** The last test accuracy, {epoch, test_accuracy, reason}; a reason says why it is not known. */
  async testAccuracy(run) {
    return (await this.#fetch("test_accuracy", [["run", run]])).json();
  }

  /** The histograms of a block at the recorded step nearest to one, with a series a bin; no step if there are none. */
  async histogram(run, block, step) {
    const query = [["run", run], ["block", block], ["step", step]];
    return unpack(await (await this.#fetch("histograms", query)).arrayBuffer());
  }

  /** Steps of a run, thinned out to at most maxSteps. */
  async data(run, {statistics = [], blocks = [], first = 0, last = null, maxSteps = 1000}) {
    const query = [["run", run], ["max_steps", maxSteps], ["first_step", Math.max(0, first)]];
    if (last !== null) query.push(["last_step", last]);
    for (const name of statistics) query.push(["statistic", name]);
    for (const name of blocks) query.push(["block", name]);
    return unpack(await (await this.#fetch("data", query)).arrayBuffer());
  }

  async #fetch(route, query) {
    const parameters = new URLSearchParams(query.map(([name, value]) => [name, String(value)]));
    const response = await fetch(`./${route}?${parameters}`);
    if (response.ok) return response;
    const error = new Error(await response.text());
    error.isRefusal = true;
    throw error;
  }
}

async function gunzip(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** What a report holds: the runs as the server describes them, each with alarms and packed data. */
export class EmbeddedSource {
  isLive = false;
  #unpacked = new Map();
  #histograms = new Map();

  constructor(content) {
    this.content = content;
  }

  async runs() {
    return this.content.runs;
  }

  async alarms(run) {
    return this.#find(run).alarms;
  }

  async pathLengths(run) {
    return this.#find(run).path_lengths ?? {steps: [], shares: []};
  }

  async loss(run) {
    return this.#find(run).loss ?? {steps: [], values: []};
  }

  async epochs(run) {
    return this.#find(run).epochs ?? {steps: [], epochs: []};
  }

  async testAccuracy(run) {
    return this.#find(run).test_accuracy ?? {epoch: null, test_accuracy: null, reason: "the report is of an earlier version"};
  }

  async data(run, {statistics = [], blocks = [], first = 0, last = null}) {
    if (!this.#unpacked.has(run)) {
      this.#unpacked.set(run, gunzip(this.#find(run).packed).then(unpack));
    }
    const whole = await this.#unpacked.get(run);
    const from = lowerBound(whole.steps, first);
    const to = last === null ? whole.steps.length : lowerBound(whole.steps, last + 1);
    const names = this.#find(run).blocks.map((block) => block.name);
    const rows = names.map((_, row) => row).filter((row) => {
      return !blocks.length || blocks.includes(names[row]);
    });
    const series = new Map();
    for (const name of statistics.length ? statistics : whole.series.keys()) {
      series.set(name, rows.map((row) => whole.series.get(name)[row].subarray(from, to)));
    }
    return {
      steps: whole.steps.subarray(from, to),
      wallTimes: whole.wallTimes.subarray(from, to),
      series,
      recordedSteps: whole.steps.length === whole.recordedSteps ? to - from : whole.recordedSteps,
      leftOut: whole.leftOut,
    };
  }

  async histogram(run, block, step) {
    const {histograms} = this.#find(run);
    if (!histograms) return {steps: [], series: new Map()};
    if (!this.#histograms.has(run)) this.#histograms.set(run, gunzip(histograms).then(unpack));
    const whole = await this.#histograms.get(run);
    const [row, at] = [whole.blocks.indexOf(block), nearest(whole.steps, step)];
    const series = row < 0 ? [] : [...whole.series].map(([name, rows]) => [name, [rows[row].subarray(at, at + 1)]]);
    return {steps: whole.steps.subarray(at, at + 1), series: new Map(series)};
  }

  #find(run) {
    return this.content.runs.find((entry) => entry.run === run);
  }
}

/** The first index whose value is not below. */
export function lowerBound(sorted, value) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The index of the recorded step in whose share of time a step lies; -1 outside the recording. */
export function indexAt(steps, step) {
  const count = steps.length;
  const half = count > 1 ? (steps[count - 1] - steps[0]) / (count - 1) / 2 : 0.5;
  return count && step >= steps[0] - half && step <= steps[count - 1] + half ? nearest(steps, step) : -1;
}

/** The index of the nearest value; -1 of nothing. */
export function nearest(sorted, value) {
  const at = lowerBound(sorted, value);
  if (at === 0) return sorted.length ? 0 : -1;
  if (at === sorted.length) return at - 1;
  return value - sorted[at - 1] <= sorted[at] - value ? at - 1 : at;
}
