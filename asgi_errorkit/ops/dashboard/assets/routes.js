// The routes: all of them, a page at a time, with how busy each was since the page was opened.

import { read } from "./api.js";
import { spark } from "./charts.js";
import { el } from "./dom.js";
import { count, percent, seconds, visible } from "./format.js";
import { table } from "./tables.js";

const WINDOWS = [5, 15, 60];
const LONGEST = 60; // of it nothing is forgotten at each look, so that what has come is the difference
const MOST_FOLLOWED = 2000;
const MOST_POINTS = 60;

export function routes(section) {
  const follow = new Followed();
  const made = table({
    caption: "Routes",
    empty: "No requests in this time.",
    sort: "requests",
    key: (row) => row.label,
    text: (row) => row.label,
    columns: [
      { name: "label", label: "Route", value: (row) => row.label, show: (row) => el("code", {}, visible(row.label)) },
      number("requests", "Requests", count),
      { name: "trend", label: "Trend", isPlain: true, value: () => null, stamp: (row) => follow.stamp(row.label), show: (row) => trend(follow, row) },
      number("failed", "Failed", count),
      { name: "ratio", label: "Failed of all", isNumber: true, value: ratio, show: (row) => percent(ratio(row)) },
      number("avg_duration", "Average", seconds),
      number("p50", "p50", seconds),
      number("p95", "p95", seconds),
      number("p99", "p99", seconds),
      number("max_duration", "Longest", seconds),
    ],
  });
  const choice = windowChoice();
  section.append(el("div", { class: "card" }, choice.element, made.element));
  const refresh = async () => {
    const minutes = choice.minutes();
    const told = await read(`performance/stats?window_minutes=${minutes}`);
    const found = Object.entries(told.routes ?? {});
    if (minutes === LONGEST) follow.add(told.routes);
    else if (found.length > MOST_FOLLOWED) follow.isOff = true;
    else follow.add((await read(`performance/stats?window_minutes=${LONGEST}`)).routes);
    made.update(found.map(([label, stats]) => ({ label, ...stats })));
  };
  choice.onChange(refresh);
  return { refresh, everySeconds: 5 };
}

const ratio = (row) => (row.requests ? row.failed / row.requests : 0);

function number(name, label, show) {
  return { name, label, isNumber: true, value: (row) => row[name], show: (row) => show(row[name]) };
}

function windowChoice() {
  const choice = el("select", { id: "routes-window" }, ...WINDOWS.map((n) => el("option", { value: n }, `${n} minutes`)));
  const element = el("p", { class: "tools" }, el("label", { for: "routes-window" }, "Within the last "), choice);
  return {
    element,
    minutes: () => Number(choice.value),
    onChange: (refresh) => choice.addEventListener("change", () => refresh().catch(() => {})),
  };
}

function trend(follow, row) {
  const values = follow.of(row.label);
  const latest = values.findLast((n) => n !== null);
  if (values.length < 2) return el("span", { class: "quiet" }, follow.isOff ? "–" : "gathering");
  return spark(values, `Requests between looks since the page was opened, lately ${count(latest ?? 0)}`);
}

/** How many requests each route had between two looks. */
class Followed {
  constructor() {
    this.before = null;
    this.points = new Map();
    this.looks = 0;
    this.isOff = false;
  }

  add(stats) {
    const labels = Object.keys(stats ?? {});
    this.isOff = labels.length > MOST_FOLLOWED;
    if (this.isOff) return;
    const now = new Map(labels.map((label) => [label, stats[label].requests]));
    if (this.before) this.note(now);
    this.before = now;
  }

  note(now) {
    this.looks += 1;
    const grown = [...now].map(([label, n]) => [label, n - (this.before.get(label) ?? 0)]);
    // What is older than the window has just been left out: how many have come cannot be told.
    const isShifted = grown.some(([, n]) => n < 0);
    for (const [label, n] of grown) {
      const points = this.points.get(label) ?? [];
      points.push(isShifted ? null : n);
      if (points.length > MOST_POINTS) points.shift();
      this.points.set(label, points);
    }
  }

  of(label) {
    return this.points.get(label) ?? [];
  }

  stamp(label) {
    return this.points.has(label) ? this.looks : this.isOff;
  }
}
