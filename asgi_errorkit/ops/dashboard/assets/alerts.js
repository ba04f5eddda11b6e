// What there is to be alarmed by, what there has been, and who is told.

import { read } from "./api.js";
import { announce, badge, el, timeAgo } from "./dom.js";
import { count, seconds, visible, words } from "./format.js";
import { table } from "./tables.js";

const KINDS = { critical: "bad", high: "bad", medium: "warn", low: "plain" };
const RANK = ["low", "medium", "high", "critical"];

const severity = { name: "severity", label: "Severity", value: (row) => RANK.indexOf(row.severity), stamp: (row) => row.severity, show: (row) => badge(visible(row.severity), KINDS[row.severity] ?? "plain") };
const type = { name: "type", label: "Alert", value: (row) => row.type, show: (row) => el("code", {}, visible(row.type)) };
const message = { name: "message", label: "What", value: (row) => row.message, show: (row) => el("span", { class: "message" }, visible(row.message)) };

export function alerts(section) {
  const firing = table({
    caption: "Alerts that go on",
    empty: "Nothing to be alarmed by.",
    sort: "severity",
    key: (row) => row.key,
    columns: [type, severity, message, time("since", "Since", (row) => row.since), { name: "count", label: "Times", isNumber: true, value: (row) => row.count, show: (row) => count(row.count) }],
  });
  const past = table({
    caption: "Latest alerts",
    empty: "There has been none.",
    sort: "at",
    key: (row) => `${row.key ?? row.type} ${row.timestamp}`,
    columns: [type, severity, message, time("at", "When", (row) => row.timestamp), { name: "status", label: "Status", value: statusOf }],
  });
  const silences = table({
    caption: "Silences",
    empty: "Nothing is silenced.",
    sort: "until",
    isRising: true,
    key: (row) => `${row.what ?? row.silence} ${row.until}`,
    columns: [{ ...type, label: "Silenced", value: (row) => row.what ?? "", show: (row) => el("code", {}, visible(row.what)) }, { name: "why", label: "Why", value: (row) => visible(row.why) }, time("until", "Until", (row) => row.until)],
  });
  const told = el("p", { class: "quiet" });
  const parts = [["Going on", firing], ["Latest", past], ["Silences", silences]];
  for (const [title, made] of parts) section.append(el("div", { class: "card" }, el("h3", {}, title), made.element));
  section.append(told);
  const news = new News();
  const refresh = async () => {
    const summary = await read("alerts");
    const goingOn = summary.firing ?? [];
    firing.update(goingOn);
    past.update(summary.recent_alerts ?? []);
    silences.update(summary.silences ?? []);
    told.textContent = channels(summary);
    return goingOn.length;
  };
  return {
    refresh,
    everySeconds: 5,
    onSnapshot: (snapshot) => news.look(snapshot.error_stats.recent_alerts ?? [], refresh),
  };
}

const time = (name, label, at) => ({ name, label, value: at, show: (row) => timeAgo(at(row)) });

const statusOf = (row) => words(row.status ?? "") + (row.muted ? `, ${words(row.muted)}` : "");

function channels(summary) {
  if (!summary.channels) return "The kit was made without alerts=...: nothing is told to anybody.";
  const unsaid = Object.entries(summary.unsaid ?? {}).filter(([, n]) => n).map(([why, n]) => `${count(n)} ${words(why)}`);
  const to = summary.channels.map((each) => visible(each.to ?? each.label ?? each.channel ?? "a channel"));
  const parts = [`${count(summary.total_alerts)} alerts in all`, `told to ${to.join(", ") || "the log alone"}`];
  return `${[...parts, ...unsaid].join("; ")}.`;
}

/** Who listens is told of each alert once. */
class News {
  constructor() {
    this.known = null;
  }

  look(recent, refresh) {
    const keys = recent.map((each) => `${each.key ?? each.type} ${each.timestamp} ${each.status}`);
    const fresh = recent.filter((_, i) => this.known && !this.known.has(keys[i]) && recent[i].status !== "resolved");
    const isOther = !this.known || keys.some((key) => !this.known.has(key));
    this.known = new Set(keys);
    if (fresh.length) announce(`Alert: ${visible(fresh.at(-1).message)}`);
    if (isOther) refresh().catch(() => {});
  }
}
