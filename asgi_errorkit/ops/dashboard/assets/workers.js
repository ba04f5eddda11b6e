// The workers, each with its memory and the lag of its event loop over time.

import { spark } from "./charts.js";
import { badge, el, timeAgo } from "./dom.js";
import { count, isNumber, megabytes, percent, seconds, visible } from "./format.js";
import { table } from "./tables.js";

export function workers(section) {
  const whole = { history: null };
  const made = table({
    caption: "Workers",
    empty: "No worker is known.",
    sort: "pid",
    isRising: true,
    key: (row) => String(row.pid),
    columns: columns(whole),
  });
  const note = el("p", { class: "note", hidden: true }, "Without a record (directory=...) each worker tells of itself alone: this is the one that was asked.");
  section.append(el("div", { class: "card" }, made.element, note));
  return {
    onSnapshot(snapshot, history) {
      const performance = snapshot.performance_stats;
      whole.history = history;
      note.hidden = Boolean(performance.workers);
      made.update(performance.workers ?? [{ pid: 0, in_flight: performance.in_flight, ...performance.process }]);
    },
  };
}

function columns(whole) {
  return [
    { name: "pid", label: "Worker", value: (row) => row.pid, show: (row) => (row.pid ? String(row.pid) : "this one") },
    { name: "life", label: "Life", value: (row) => row.life ?? "alive", show: (row) => badge(visible(row.life ?? "alive"), (row.life ?? "alive") === "alive" ? "good" : "warn") },
    measured(whole, "memory_mb", "Memory", "memory", megabytes),
    measured(whole, "loop_lag_seconds", "Loop lag", "lag", seconds),
    measured(whole, "cpu_percent", "CPU", "cpu", (n) => (isNumber(n) ? percent(n / 100) : "unknown")),
    { name: "in_flight", label: "In flight", isNumber: true, value: (row) => row.in_flight, show: (row) => count(row.in_flight) },
    { name: "threads", label: "Threads", isNumber: true, value: (row) => row.threads, show: (row) => count(row.threads) },
    { name: "open_files", label: "Open files", isNumber: true, value: (row) => row.open_files, show: (row) => count(row.open_files) },
    { name: "started_at", label: "Started", value: (row) => row.started_at ?? null, show: (row) => timeAgo(row.started_at) },
    { name: "release", label: "Release", value: (row) => row.release ?? "", show: (row) => visible(row.release || "–") },
  ];
}

function measured(whole, name, label, series, show) {
  return {
    name,
    label,
    isNumber: true,
    value: (row) => row[name],
    stamp: (row) => `${row[name]} ${whole.history?.points.at(-1)?.at}`,
    show: (row) => {
      const values = whole.history?.ofWorker(row.pid, series) ?? [];
      const text = show(row[name]);
      return el("span", { class: "measured" }, el("span", {}, text), spark(values, `${label} since the page was opened, now ${text}`));
    },
  };
}
