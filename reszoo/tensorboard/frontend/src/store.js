// The numbers at hand: each run's series, asked for once a range.

import {quotient} from "./relative.js";
import {indexAt} from "./source.js";

const MOST_STEPS = 1000;

export class Store {
  constructor(source) {
    this.source = source;
    this.runs = [];
    this.#forget();
  }

  #forget() {
    this.series = new Map();
    this.alarmsByRun = new Map();
    this.details = new Map();
    this.ofBlocks = new Map();
    this.losses = new Map();
    this.epochsByRun = new Map();
    this.pathLengthsByRun = new Map();
    this.accuracies = new Map();
    this.refused = new Map();
    this.histograms = new Map();
    this.withoutHistograms = new Set();
  }

  /** Asks what runs there are, the newest first (a report has its own order); returns whether anything is new. */
  async refresh() {
    const runs = await this.source.runs();
    if (this.source.isLive) runs.sort((a, b) => lastTime(b) - lastTime(a));
    const isNew = JSON.stringify(runs) !== JSON.stringify(this.runs);
    this.runs = runs;
    if (isNew) this.#forget();
    return isNew;
  }

  run(name) {
    return this.runs.find((run) => run.run === name);
  }

  /** Why a run cannot be shown; undefined if it can. */
  error(name) {
    return this.run(name)?.error ?? this.refused.get(name);
  }

  /** Keeps that the server refused a run. */
  refuse(name, reason) {
    this.refused.set(name, reason);
  }

  /** [run, reason], by name, for all that cannot be shown. */
  faults() {
    const found = this.runs.flatMap(({run, notes = []}) => {
      const error = this.error(run);
      return [...(error ? [error] : []), ...notes].map((reason) => [run, reason]);
    });
    return this.source.isLive ? found.sort(([a], [b]) => (a < b ? -1 : Number(a > b))) : found;
  }

  /** Asks for statistics of a run in a range of steps; what is there already is not asked again. */
  async need(run, statistics, [first, last]) {
    const key = JSON.stringify([run, first, last]);
    const known = this.run(run).statistics.map((each) => each.name);
    const held = this.series.get(key);
    const missing = statistics.filter((name) => known.includes(name) && !held?.series.has(name));
    if (!missing.length && held) return held;
    const data = await this.source.data(run, {
      statistics: missing, first: first ?? 0, last: last ?? null, maxSteps: MOST_STEPS,
    });
    const before = this.series.get(key);
    if (before && sameSteps(before.steps, data.steps)) {
      for (const [name, rows] of data.series) before.series.set(name, rows);
      return before;
    }
    this.series.set(key, data);
    return data;
  }

  async alarms(run) {
    if (!this.alarmsByRun.has(run)) this.alarmsByRun.set(run, await this.source.alarms(run));
    return this.alarmsByRun.get(run);
  }

  async pathLengths(run) {
    if (!this.pathLengthsByRun.has(run)) this.pathLengthsByRun.set(run, await this.source.pathLengths(run));
    return this.pathLengthsByRun.get(run);
  }

  async loss(run) {
    if (!this.losses.has(run)) this.losses.set(run, await this.source.loss(run));
    return this.losses.get(run);
  }

  async testAccuracy(run) {
    if (!this.accuracies.has(run)) this.accuracies.set(run, await this.source.testAccuracy(run));
    return this.accuracies.get(run);
  }

  async epochs(run) {
    if (!this.epochsByRun.has(run)) this.epochsByRun.set(run, await this.source.epochs(run));
    return this.epochsByRun.get(run);
  }

  /** Every statistic of one block in a range of steps: {steps, series}, with one row a statistic. */
  async ofBlock(run, block, [first, last]) {
    const key = JSON.stringify([run, block, first, last]);
    if (!this.ofBlocks.has(key)) {
      if (this.ofBlocks.size > 50) this.ofBlocks.clear();
      const data = await this.source.data(run, {
        blocks: [block], first: first ?? 0, last: last ?? null, maxSteps: MOST_STEPS,
      });
      const series = new Map([...data.series].map(([name, rows]) => [name, rows[0]]));
      this.ofBlocks.set(key, {steps: data.steps, series});
    }
    return this.ofBlocks.get(key);
  }

  /** The histograms of a block at the recorded step nearest to one, {step, series}; null if there are none. */
  async histogram(run, block, step) {
    if (this.withoutHistograms.has(run)) return null;
    const key = JSON.stringify([run, block, step]);
    if (!this.histograms.has(key)) {
      if (this.histograms.size > 200) this.histograms.clear();
      const {steps, series} = await this.source.histogram(run, block, step);
      if (!steps.length) this.withoutHistograms.add(run);
      this.histograms.set(key, steps.length ? {step: steps[0], series} : null);
    }
    return this.histograms.get(key);
  }

  /** Every statistic of every block at one recorded step: name to one value a block. */
  async atStep(run, step) {
    const key = JSON.stringify([run, step]);
    if (!this.details.has(key)) {
      if (this.details.size > 200) this.details.clear();
      const data = await this.source.data(run, {first: step, last: step, maxSteps: 3});
      this.details.set(key, new Map([...data.series].map(([name, rows]) => {
        return [name, rows.map((row) => row[0])];
      })));
    }
    return this.details.get(key);
  }
}

const lastTime = (run) => run.last_wall_time ?? 0;

export function sameSteps(a, b) {
  return a.length === b.length && a.every((step, i) => step === b[i]);
}

/** What one run has of another: the quotient, or the difference of what has fixed ends. */
export function compare(reference, other, isDifference) {
  const indices = Array.from(other.steps, (step) => indexAt(reference.steps, step));
  return other.rows.map((row, block) => Float32Array.from(row, (value, i) => {
    const base = reference.rows[block]?.[indices[i]];
    if (base === undefined) return NaN;
    return isDifference ? value - base : quotient(value, base);
  }));
}
