// Circuit breakers: how each is with each worker, what it was, and how it is set by hand.

import { canChange, change, read } from "./api.js";
import { badge, el, openDialog, setText } from "./dom.js";
import { clockTime, count, percent, seconds, visible, words } from "./format.js";
import { table } from "./tables.js";

const KINDS = { open: "bad", forced_open: "bad", half_open: "warn", disabled: "warn", closed: "good" };
const ACTIONS = [
  ["force_open", "Force open", "refuses every call until it is reset", "tells code that asks to leave it alone, until it is reset"],
  ["reset", "Reset", "closes it and forgets all calls so far", "closes it and forgets all errors so far"],
  ["disable", "Disable", "lets every call through and counts nothing", "tells code that asks to go on, and counts nothing"],
];
const SIGNAL = "a signal: refuses nothing unless code asks it";
const OPEN = ["open", "forced_open"]; // of these it is told since when
const MOST_CHANGES = 20;
const SHOWN_CHANGES = 3;

export function breakers(section, note) {
  const changes = new Changes();
  const whole = { canAct: null };
  const made = table({
    caption: "Circuit breakers",
    empty: "No circuit breaker has been used.",
    sort: "state",
    key: keyOf,
    text: (row) => `${row.name} ${row.state} ${row.pid}`,
    columns: columns(changes, whole, () => refresh()),
  });
  section.append(el("div", { class: "card" }, made.element));
  let told = "";
  const refresh = async () => {
    whole.canAct ??= await canChange("/breakers");
    const { breakers: rows } = await read("breakers");
    changes.look(rows);
    made.update(rows);
    note(new Set(rows.filter(isRefusing).map((row) => row.name)).size, "refusing");
  };
  return {
    refresh,
    everySeconds: 3,
    onSnapshot(snapshot) {
      const now = Object.entries(snapshot.error_stats.circuit_breakers ?? {});
      const states = now.map(([name, breaker]) => `${name} ${breaker.state}`).join("\n");
      if (states === told) return;
      told = states; // at once, also unseen: else its history would have holes
      refresh().catch(() => {});
    },
  };
}

const keyOf = (row) => `${row.pid} ${row.name}`;
/** That of a type of errors is fed by them and asked by code, if at all. */
const isSignal = (row) => row.of_error_type && !row.rejected;
const isRefusing = (row) => OPEN.includes(row.state) && !isSignal(row);
const kindOf = (row) => (OPEN.includes(row.state) && isSignal(row) ? "warn" : (KINDS[row.state] ?? "plain"));

const RANK = ["closed", "metrics_only", "disabled", "half_open", "forced_open", "open"];

function columns(changes, whole, refresh) {
  return [
    { name: "name", label: "Breaker", value: (row) => row.name, stamp: (row) => `${row.name} ${row.of_error_type}`, show: nameOf },
    { name: "state", label: "State", value: (row) => RANK.indexOf(row.state), stamp: (row) => `${row.state} ${isSignal(row)}`, show: (row) => badge(words(row.state), kindOf(row)) },
    { name: "pid", label: "Worker", isNumber: true, value: (row) => row.pid },
    { name: "since", label: "History", value: (row) => row.triggered_at ?? 0, stamp: (row) => changes.stamp(row), show: (row) => changes.show(row) },
    { name: "failed", label: "Failed calls", isNumber: true, value: (row) => row.failure_rate, stamp: (row) => `${row.failed}/${row.calls}`, show: (row) => `${count(row.failed)} of ${count(row.calls)} (${percent(row.failure_rate)})` },
    { name: "rejected", label: "Refused", isNumber: true, value: (row) => row.rejected, show: (row) => count(row.rejected) },
    { name: "retry", label: "Tries again in", isNumber: true, value: (row) => row.retry_after_seconds, show: (row) => (row.retry_after_seconds > 0 ? seconds(row.retry_after_seconds) : "–") },
    { name: "acts", label: "By hand", isPlain: true, value: () => null, stamp: (row) => `${row.name} ${row.of_error_type}`, show: (row) => (whole.canAct ? acts(row, refresh) : "not from here") },
  ];
}

function nameOf(row) {
  const name = el("code", {}, visible(row.name));
  return row.of_error_type ? el("span", {}, name, " ", el("span", { class: "quiet signal" }, SIGNAL)) : name;
}

function acts({ name, of_error_type: isOfType }, refresh) {
  const buttons = ACTIONS.map(([action, label, ofCalls, ofErrors]) => {
    const effect = isOfType ? ofErrors : ofCalls;
    const about = isOfType ? `It is ${SIGNAL}. ` : "";
    const ask = () => confirm({ name, action, label, effect, about, refresh });
    return el("button", { type: "button", "aria-label": `${label}: ${visible(name)}`, click: ask }, label);
  });
  return el("span", { class: "acts" }, ...buttons);
}

/** What refuses, or lets through, the calls of all is done after a question. */
function confirm({ name, action, label, effect, about, refresh }) {
  const failed = el("p", { class: "bad", role: "alert" });
  const go = async () => {
    try {
      await change("breakers", { name, action });
      dialog.close();
      await refresh();
    } catch (error) {
      setText(failed, visible(error.message));
    }
  };
  const dialog = openDialog(
    `${label}?`,
    el("p", {}, "This ", effect, ": ", el("code", {}, visible(name)), `, with all workers that act together. ${about}The log tells who asked for it.`),
    failed,
    el("p", {}, el("button", { type: "button", class: "main-action", click: go }, label)),
  );
}

/** What states each was seen in. */
class Changes {
  constructor() {
    this.seen = new Map();
  }

  look(rows) {
    const now = Date.now() / 1000;
    for (const row of rows) {
      const known = this.seen.get(keyOf(row));
      if (known?.at(-1)?.state === row.state) continue;
      const opened = OPEN.includes(row.state) ? row.triggered_at : null;
      const change = { state: row.state, at: opened ?? now, isFirst: !known && !opened };
      this.seen.set(keyOf(row), [...(known ?? []), change].slice(-MOST_CHANGES));
    }
  }

  stamp(row) {
    return `${(this.seen.get(keyOf(row)) ?? []).length} ${row.state} ${row.triggered_at}`;
  }

  show(row) {
    const lately = (this.seen.get(keyOf(row)) ?? []).slice(-SHOWN_CHANGES);
    const items = lately.map((each) => el("li", {}, `${words(each.state)} ${each.isFirst ? "since before" : ""} ${clockTime(each.at)}`));
    return el("ol", { class: "changes" }, ...items);
  }
}
