// The workers that died, and amid what.

import { read } from "./api.js";
import { spark } from "./charts.js";
import { el, facts, openDialog, timeAgo } from "./dom.js";
import { count, megabytes, seconds, visible } from "./format.js";
import { requestColumns } from "./flight.js";
import { table } from "./tables.js";

export function crashes(section) {
  const made = table({
    caption: "Workers that died",
    empty: "No worker has died.",
    sort: "last_seen_at",
    key: (row) => `${row.pid} ${row.last_seen_at} ${row.found_at}`,
    text: (row) => [row.pid, ...row.suspects.map((each) => each.path)].join(" "),
    columns: [
      { name: "pid", label: "Worker", value: (row) => row.pid, show: opener },
      { name: "last_seen_at", label: "Last seen", value: (row) => row.last_seen_at ?? row.found_at, show: (row) => timeAgo(row.last_seen_at ?? row.found_at) },
      { name: "suspect", label: "Likeliest suspect", value: (row) => suspectOf(row), show: (row) => el("code", {}, visible(suspectOf(row))) },
      { name: "in_flight", label: "In flight", isNumber: true, value: (row) => row.in_flight, show: (row) => count(row.in_flight) },
      { name: "memory_mb", label: "Memory", isNumber: true, value: (row) => row.memory_mb || null, show: (row) => megabytes(row.memory_mb || null) },
      { name: "life", label: "Lived", isNumber: true, value: (row) => lived(row), show: (row) => seconds(lived(row)) },
    ],
  });
  const note = el("p", { class: "note", hidden: true }, "Nothing is recorded here: give the kit a directory=..., and deaths of workers are told with what they were at.");
  section.append(el("div", { class: "card" }, made.element, note));
  return {
    everySeconds: 10,
    async refresh() {
      const told = await read("crashes");
      note.hidden = told.is_recorded;
      made.element.hidden = !told.is_recorded;
      made.update(told.crashes);
      return told.crashes.length;
    },
  };
}

function suspectOf(row) {
  const first = row.suspects[0];
  if (first) return `${first.method} ${first.path}`;
  return row.damaged ? "unknown: its record is damaged" : "none: nothing was in flight";
}

const lived = (row) => (row.started_at && row.last_seen_at ? row.last_seen_at - row.started_at : null);

function opener(row) {
  return el("button", { type: "button", class: "link", click: () => show(row) }, `${row.pid}`);
}

function show(row) {
  const memory = (row.resources ?? []).map((each) => each.memory_mb);
  const about = facts([
    ["Last seen", timeAgo(row.last_seen_at)],
    ["Found", row.found_at ? timeAgo(row.found_at) : "not yet told of"],
    ["Lived", seconds(lived(row))],
    ["App", row.app && visible(row.app)],
    ["Release", row.release && visible(row.release)],
    ["In flight", count(row.in_flight)],
    ["Memory", el("span", { class: "measured" }, megabytes(row.memory_mb || null), spark(memory, "Memory in its last minutes"))],
  ]);
  const suspects = listed("Suspects, the likeliest first", row.suspects.map((each, rank) => ({ ...each, rank: rank + 1 })), [rankColumn, ...requestColumns()], "rank", true);
  const recent = listed("What it had ended last", row.recent ?? [], recentColumns(), "ended_at", false);
  openDialog(`Worker ${row.pid} died`, about, el("p", { class: "quiet" }, "A ranking, no proof: look at what the first ones of several deaths have in common."), ...suspects, ...recent);
}

const rankColumn = { name: "rank", label: "Rank", value: (row) => row.rank };

function recentColumns() {
  return [
    { name: "path", label: "Request", value: (row) => `${row.method} ${row.path}`, show: (row) => el("code", {}, visible(`${row.method} ${row.path}`)) },
    { name: "status", label: "Status", isNumber: true, value: (row) => row.status_code },
    { name: "duration", label: "Duration", isNumber: true, value: (row) => row.duration, show: (row) => seconds(row.duration) },
    { name: "ended_at", label: "Ended", value: (row) => row.ended_at, show: (row) => timeAgo(row.ended_at) },
  ];
}

function listed(caption, rows, columns, sort, isRising) {
  const made = table({ caption, columns, sort, isRising, empty: "None.", key: (row) => `${row.request_id} ${row.rank ?? row.ended_at}` });
  made.update(rows);
  return [el("h3", {}, caption), made.element];
}
