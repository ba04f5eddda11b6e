// What is looked at first: how much, how well, how fast.

import { chart } from "./charts.js";
import { el, setText } from "./dom.js";
import { count, counted, percent, rate, seconds, words } from "./format.js";
import { BANDS } from "./history.js";
import { table } from "./tables.js";

const LINES = ["p50", "p95", "p99"];

const TILES = [
  ["requests", "Requests", (e, p) => [count(p.total_requests), `${andSessions(e, p)}in 5 minutes`]],
  ["rate", "Now", (e, p, r) => [rate(sum(r.outcomes) / r.seconds), "within 5 seconds"]],
  ["failed", "Failed", (e, p) => [count(e.failed_requests), share(e.failed_requests, e, p)]],
  ["client", "Client errors", (e, p) => [count(e.client_errors), share(e.client_errors, e, p)]],
  ["errors", "Errors", (e) => [count(e.total_errors), `in 5 minutes; ${counted(e.error_groups, "group")} known`]],
  ["p50", "Half within", (e, p) => [seconds(p.percentiles?.p50), "median"]],
  ["p95", "95 % within", (e, p) => [seconds(p.percentiles?.p95), `99 %: ${seconds(p.percentiles?.p99)}`]],
  ["flight", "In flight", (e, p) => [count(p.in_flight), p.in_flight === 1 ? "request" : "requests"]],
];

const sum = (numbers) => Object.values(numbers ?? {}).reduce((a, b) => a + b, 0);
const ratio = (part, whole) => (whole ? part / whole : 0);

/** Websocket sessions fail like requests, but are not measured among them. */
const sessions = (e, p) => Math.max(0, e.total_requests - p.total_requests) || 0;
const andSessions = (e, p) => (sessions(e, p) ? `and ${counted(sessions(e, p), "session")}, ` : "");
const share = (part, e, p) => `${percent(ratio(part, e.total_requests))} of ${sessions(e, p) ? "requests and sessions" : "all"}`;

export function overview(section) {
  const tiles = TILES.map(tile);
  const bands = chart({
    title: "Requests by outcome",
    series: BANDS,
    isStacked: true,
    show: rate,
    values: (point) => point.bands,
  });
  const durations = chart({
    title: "Latency",
    series: LINES.map((name) => ({ name, label: name })),
    isStacked: false,
    show: seconds,
    values: (point) => point.percentiles && LINES.map((name) => point.percentiles[name]),
  });
  const byType = counts("Errors by type, 5 minutes", "Type", "No errors in the last 5 minutes.");
  const byOutcome = counts("Requests by outcome, 5 minutes", "Outcome", "No requests in the last 5 minutes.");
  const bySeverity = counts("Errors by severity, 5 minutes", "Severity", "No errors in the last 5 minutes.");
  section.append(
    el("ul", { class: "tiles", "aria-label": "The last 5 minutes" }, ...tiles.map((each) => each.element)),
    el("div", { class: "two" }, bands.element, durations.element),
    el("div", { class: "three" }, byOutcome.element, byType.element, bySeverity.element),
  );
  return {
    onSnapshot(snapshot, history) {
      const { error_stats: errors, performance_stats: performance, recent } = snapshot;
      for (const each of tiles) each.update(errors, performance, recent);
      byType.update(errors.errors_by_type);
      bySeverity.update(errors.errors_by_severity);
      byOutcome.update(performance.outcomes);
      if (!history.isNew) return;
      bands.update(history.points);
      durations.update(history.points);
    },
  };
}

function tile([name, label, tell]) {
  const value = el("span", { class: "tile-value" }, "–");
  const about = el("span", { class: "tile-about" }, "");
  const element = el("li", { class: "card tile", "data-tile": name }, el("span", { class: "tile-label" }, label), value, about);
  return {
    element,
    update(...told) {
      const [main, beside] = tell(...told);
      setText(value, main);
      setText(about, beside);
    },
  };
}

function counts(caption, label, empty) {
  const made = table({
    caption,
    empty,
    sort: "number",
    key: (row) => row.name,
    columns: [
      { name: "name", label, value: (row) => words(row.name) },
      { name: "number", label: "Number", isNumber: true, value: (row) => row.number, show: (row) => count(row.number) },
    ],
  });
  const element = el("div", { class: "card" }, el("h3", {}, caption), made.element);
  return { element, update: (told) => made.update(Object.entries(told ?? {}).map(([name, number]) => ({ name, number }))) };
}
