// The requests that go on, the oldest first.

import { read } from "./api.js";
import { badge, el } from "./dom.js";
import { count, megabytes, seconds, visible } from "./format.js";
import { table } from "./tables.js";

export function flight(section) {
  const made = table({
    caption: "Requests in flight",
    empty: "Nothing is in flight.",
    sort: "age",
    key: (row) => `${row.pid} ${row.request_id}`,
    text: (row) => `${row.method} ${row.path} ${row.request_id} ${row.pid}`,
    columns: [...requestColumns(), { name: "pid", label: "Worker", isNumber: true, value: (row) => row.pid }],
  });
  const note = el("p", { class: "note", hidden: true });
  section.append(el("div", { class: "card" }, made.element, note));
  return {
    everySeconds: 2,
    async refresh() {
      const told = await read("inflight?limit=500");
      note.hidden = told.total <= told.requests.length;
      note.textContent = `The oldest ${count(told.requests.length)} of ${count(told.total)}.`;
      made.update(told.requests);
    },
  };
}

/** Also those of the suspects of a crash. */
export function requestColumns() {
  return [
    { name: "path", label: "Request", value: (row) => `${row.method} ${row.path}`, show: (row) => el("code", {}, visible(`${row.method} ${row.path}`)) },
    { name: "age", label: "Age", isNumber: true, value: (row) => row.age_seconds, show: (row) => seconds(row.age_seconds) },
    { name: "phase", label: "Phase", value: (row) => row.phase, show: (row) => badge(visible(row.phase), row.phase === "running" ? "accent" : "plain") },
    { name: "growth", label: "Memory grew", isNumber: true, value: (row) => row.memory_growth_mb, show: (row) => megabytes(row.memory_growth_mb) },
    { name: "id", label: "Request id", value: (row) => row.request_id, show: (row) => el("code", { class: "id" }, visible(row.request_id)) },
  ];
}
