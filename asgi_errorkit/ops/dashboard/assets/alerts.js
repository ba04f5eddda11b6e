// What there is to be alarmed by, what there has been, and who is told.

import { canChange, read } from "./api.js";
import { announce, badge, el, timeAgo } from "./dom.js";
import { count, counted, visible, words } from "./format.js";
import { silencer, silences } from "./silences.js";
import { table } from "./tables.js";

const KINDS = { critical: "bad", high: "bad", medium: "warn", low: "plain" };
const RANK = ["low", "medium", "high", "critical"];

const severity = { name: "severity", label: "Severity", value: (row) => RANK.indexOf(row.severity), stamp: (row) => row.severity, show: (row) => badge(visible(row.severity), KINDS[row.severity] ?? "plain") };
const type = { name: "type", label: "Alert", value: (row) => row.type, show: (row) => el("code", {}, visible(row.type)) };
const message = { name: "message", label: "What", value: (row) => row.message, show: (row) => el("span", { class: "message" }, visible(row.message)) };

export function alerts(section) {
  const whole = { canSilence: null };
  const firing = table({
    caption: "Alerts that go on",
    empty: "Nothing to be alarmed by.",
    sort: "severity",
    key: (row) => row.key,
    columns: [type, severity, message, time("since", "Since", (row) => row.since), { name: "count", label: "Times", isNumber: true, value: (row) => row.count, show: (row) => count(row.count) }, { name: "muted", label: "Muted", value: (row) => words(row.muted ?? "") }, { name: "acts", label: "By hand", isPlain: true, value: () => null, stamp: () => whole.canSilence, show: (row) => (whole.canSilence ? silencer(row, look) : "not from here") }],
  });
  const past = table({
    caption: "Latest alerts",
    empty: "There has been none.",
    sort: "at",
    key: (row) => `${row.key ?? row.type} ${row.timestamp}`,
    columns: [type, severity, message, time("at", "When", (row) => row.timestamp), { name: "status", label: "Status", value: statusOf }],
  });
  const silent = silences(whole, () => look());
  const told = el("p", { class: "quiet" });
  const more = el("p", { hidden: true }, silencer(null, () => look()));
  const parts = [["Going on", firing], ["Latest", past], ["Silences", silent]];
  for (const [title, made] of parts) section.append(el("div", { class: "card" }, el("h3", {}, title), made.element));
  section.lastChild.append(more);
  section.append(told);
  const news = new News();
  const look = async () => {
    whole.canSilence ??= await canChange("/alerts");
    more.hidden = !whole.canSilence;
    const summary = await read("alerts");
    firing.update(summary.firing ?? []);
    past.update(summary.recent_alerts ?? []);
    silent.update(summary.silences ?? []);
    told.textContent = channels(summary);
    return summary;
  };
  const refresh = async () => ((await look()).firing ?? []).length;
  return {
    refresh,
    everySeconds: 5,
    onSnapshot: (snapshot) => news.look(snapshot.error_stats.recent_alerts ?? [], refresh),
  };
}

const time = (name, label, at) => ({ name, label, value: at, show: (row) => timeAgo(at(row)) });

const statusOf = (row) => words(row.status ?? "") + (row.muted ? `, ${words(row.muted)}` : "");

const inAll = ({ total_alerts: n }) => `${counted(n, "alert")} in all`;

/** Channels are called by their place and what they are: the place is told where that is needed. */
function namesOf(channels) {
  const found = channels.map(({ channel }) => /^(\d+) (.+)$/s.exec(channel ?? "") ?? [null, null, channel ?? "a channel"]);
  const isAlone = (name) => found.filter(([, , other]) => other === name).length === 1;
  return found.map(([, at, name]) => visible(at === null || isAlone(name) ? name : `${name} (#${Number(at) + 1})`));
}

function channels(summary) {
  if (summary.is_damaged) return "What is on record of alerts cannot be read.";
  if (summary.firing && !summary.channels) return `${inAll(summary)}, as they are on record; who was told is not.`;
  if (!summary.channels) return "The kit was made without alerts=...: nothing is told to anybody.";
  const unsaid = Object.entries(summary.unsaid ?? {}).filter(([, n]) => n).map(([why, n]) => `${count(n)} ${words(why)}`);
  const to = namesOf(summary.channels);
  const parts = [inAll(summary), `told to ${to.join(", ") || "the log alone"}`];
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
