// What was seen since the page was opened: a point for each five seconds, a quarter of an hour long.

const MOST_POINTS = 180;
const GAP_SECONDS = 12; // beyond it nobody looked: a line there would be made up

/** Outcomes by what they mean to whoever looks; what is new to this page counts as failed. */
export const BANDS = [
  { name: "ok", label: "OK", outcomes: ["ok"] },
  { name: "instead", label: "answered by a fallback", outcomes: ["fallback"] },
  { name: "client", label: "client error", outcomes: ["client_error"] },
  { name: "left", label: "client left, cancelled", outcomes: ["client_disconnect", "cancelled"] },
  { name: "refused", label: "refused", outcomes: ["shed", "circuit_open"] },
  { name: "failed", label: "failed", outcomes: [] },
];
const FAILED = BANDS.length - 1;

export function bandOf(outcome) {
  const found = BANDS.findIndex((band) => band.outcomes.includes(outcome));
  return found < 0 ? FAILED : found;
}

export class History {
  constructor() {
    this.points = [];
    this.seen = 0;
  }

  /** Take what a snapshot tells; whether that is a new point. */
  add(snapshot) {
    const recent = snapshot.recent;
    if (!recent || !(recent.timestamp > this.seen)) return false;
    this.seen = recent.timestamp;
    const before = this.points.at(-1);
    if (before && recent.timestamp - before.at > GAP_SECONDS) this.points.push(gap(before));
    this.points.push(pointOf(recent, snapshot.performance_stats));
    if (this.points.length > MOST_POINTS) this.points.splice(0, this.points.length - MOST_POINTS);
    return true;
  }

  /** One figure of one worker over time. */
  ofWorker(pid, name) {
    return this.points.map((point) => point.workers?.get(pid)?.[name] ?? null);
  }
}

function pointOf(recent, performance) {
  const bands = BANDS.map(() => 0);
  for (const [outcome, number] of Object.entries(recent.outcomes)) {
    bands[bandOf(outcome)] += number / recent.seconds;
  }
  return { at: recent.timestamp, bands, percentiles: recent.percentiles, workers: workersOf(performance) };
}

function workersOf(performance) {
  const process = performance.process ? [{ pid: 0, ...performance.process }] : [];
  const workers = performance.workers ?? process;
  return new Map(
    workers.map((w) => [w.pid, { memory: w.memory_mb, lag: w.loop_lag_seconds, cpu: w.cpu_percent }]),
  );
}

const gap = (before) => ({ at: before.at + 1, bands: null, percentiles: null, workers: null });
