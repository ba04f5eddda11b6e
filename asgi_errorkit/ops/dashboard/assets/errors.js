// Groups of errors, and one of them down to the line.

import { canChange, change, read } from "./api.js";
import { badge, el, facts, openDialog, setText, timeAgo } from "./dom.js";
import { count, counted, visible, visibleCode, words } from "./format.js";
import { table } from "./tables.js";

let ids = 0;

const RELATIONS = {
  cause: "It was the direct cause of this:",
  context: "While it was handled, this was raised:",
  member: "It is one of the group:",
};

export function errors(section) {
  const made = table({
    caption: "Groups of errors",
    empty: "No error has been caught.",
    sort: "last_seen",
    key: (row) => row.fingerprint,
    text: (row) => [row.type_name, row.message, row.where, row.error_type, ...Object.keys(row.routes ?? {})].join(" "),
    columns: [
      { name: "message", label: "Error", value: (row) => `${shortOf(row.type_name)}: ${row.message}`, stamp: (row) => `${row.type_name}: ${row.message}`, show: opener },
      { name: "count", label: "Times", isNumber: true, value: (row) => row.count, show: (row) => count(row.count) },
      { name: "last_seen", label: "Last seen", value: (row) => row.last_seen, show: (row) => timeAgo(row.last_seen) },
      { name: "first_seen", label: "First seen", value: (row) => row.first_seen, show: (row) => timeAgo(row.first_seen) },
      { name: "resolved", label: "Resolved", value: (row) => row.resolved_at ?? null, show: (row) => (row.resolved_at ? timeAgo(row.resolved_at) : "") },
      { name: "error_type", label: "Type", value: (row) => row.error_type, show: (row) => words(row.error_type) },
      { name: "where", label: "Where", value: (row) => row.where, show: (row) => el("code", {}, visible(row.where)) },
      { name: "routes", label: "Routes", isNumber: true, value: (row) => Object.keys(row.routes ?? {}).length },
    ],
  });
  const note = el("p", { class: "note", hidden: true });
  section.append(el("div", { class: "card" }, made.element, note));
  return {
    everySeconds: 4,
    async refresh() {
      const told = await read("errors?limit=500");
      note.hidden = told.total <= told.groups.length;
      note.textContent = `The ${count(told.groups.length)} seen last, of ${count(told.total)}.`;
      made.update(told.groups);
    },
  };
}

function opener(row) {
  const message = el("span", { class: "message" }, visible(row.message));
  const open = () => openGroup(row.fingerprint);
  const short = shortOf(row.type_name);
  // As it is, where it was made shorter: for a pointer, and for screen readers its description.
  const title = short === row.type_name ? null : visible(row.type_name);
  return el("button", { type: "button", class: "link", title, click: open }, el("strong", {}, visible(short)), " ", message);
}

/** The name of a class without its modules. */
const shortOf = (name) => String(name ?? "").split(".").at(-1) || name;

async function openGroup(id) {
  try {
    const canResolve = await canChange("/errors/{id}");
    showGroup(await read(`errors/${encodeURIComponent(id)}`), canResolve);
  } catch (error) {
    openDialog("This group cannot be shown", el("p", {}, visible(error.message)));
  }
}

function showGroup(group, canResolve) {
  const { occurrences, sample } = group;
  const about = facts([
    ["Type", words(group.error_type)],
    ["Where", el("code", {}, visible(group.where))],
    ["Times", count(occurrences.count)],
    ["Last seen", timeAgo(occurrences.last_seen)],
    ["First seen", timeAgo(occurrences.first_seen)],
    ["Since release", group.release && visible(group.release)],
    ["Group", el("code", {}, visible(group.fingerprint))],
    resolvedAt(group.resolved_at),
  ]);
  const shown = sample
    ? [...request(sample), ...traceback(sample.exception)]
    : [el("p", { class: "note" }, "No sample of this group is on record, for want of room: the worker that saw it, and its log, have the traceback.")];
  const mend = canResolve && !group.resolved_at ? resolver(group.fingerprint, about) : null;
  openDialog(`${visible(group.type_name)}: ${visible(group.message)}`, about, mend, ...shown, ...latestOf(occurrences.latest), ...routesOf(occurrences.routes));
}

/** Who has mended it says so: should it come again, that is an alert at once. */
function resolver(id, about) {
  const told = el("span", { role: "alert" });
  const go = async () => {
    if (button.hasAttribute("aria-disabled")) return;
    try {
      const { resolved_at: at } = await change(`errors/${encodeURIComponent(id)}`, { action: "resolve" });
      button.setAttribute("aria-disabled", "true"); // not `disabled`: it has the focus
      about.append(...facts([resolvedAt(at)]).children);
      setText(told, "Resolved. Should it come again, there is an alert at once.");
    } catch (error) {
      setText(told, visible(error.message));
    }
  };
  const button = el("button", { type: "button", click: go }, "Resolve");
  return el("p", {}, button, " ", told);
}

const resolvedAt = (at) => ["Resolved", at && timeAgo(at)];

function latestOf(latest) {
  if (!latest?.length) return [];
  const labels = ["When", "Request", "Route", "Answered", "Worker"];
  const heads = labels.map((each) => el("th", { scope: "col", role: "columnheader" }, each));
  const lines = latest.map((each) => {
    const answer = [each.status_code, words(each.outcome ?? "")].filter(Boolean).join(", ");
    const cells = [timeAgo(each.at), idOf(each.request_id), el("code", {}, routeOf(each.route)), answer, String(each.pid ?? "")];
    return el("tr", { role: "row" }, ...cells.map((cell, i) => el("td", { role: "cell", "data-label": labels[i] }, cell)));
  });
  const caption = el("caption", { class: "unseen" }, "Last occurrences");
  const head = el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...heads));
  const grid = el("table", { class: "stacks", role: "table" }, caption, head, el("tbody", { role: "rowgroup" }, ...lines));
  return [el("h3", {}, "Last occurrences"), el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Table: Last occurrences" }, grid)];
}

/** An id that can be taken along to the log; where the browser lets no page write, it is marked. */
function idOf(id) {
  if (!id) return "outside of any";
  const name = `id-${(ids += 1)}`;
  const code = el("code", { id: name }, visible(id));
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(id);
      setText(button, "Copied");
    } catch {
      getSelection().selectAllChildren(code);
    }
  };
  const button = el("button", { type: "button", "aria-describedby": name, click: copy }, "Copy");
  return el("span", { class: "acts" }, code, button);
}

function routesOf(routes) {
  const pairs = Object.entries(routes ?? {}).sort(([, one], [, other]) => other - one);
  if (!pairs.length) return [];
  return [el("h3", {}, "On these routes"), facts(pairs.map(([label, n]) => [el("code", {}, routeOf(label)), counted(n, "time")]))];
}

/** Of a session at an empty path there is a method alone, which says nothing. */
const routeOf = (label) => visible(/^[A-Z]+ $/.test(label ?? "") ? "websocket" : label);

function lineOf({ method, path, query, headers }) {
  const isSession = String(headers?.upgrade ?? "").toLowerCase() === "websocket";
  const parts = [isSession ? "websocket" : method, path && `${path}${query ? `?${query}` : ""}`];
  return parts.filter(Boolean).join(" ") || "outside of any";
}

function request(sample) {
  const line = el("p", { class: "request" }, el("code", {}, visible(lineOf(sample))));
  const headers = Object.entries(sample.headers ?? {}).map(([name, value]) => [visible(name), el("code", {}, visible(value))]);
  return [
    el("h3", {}, "The request of the sample"),
    line,
    facts([
      ["Answered", sample.status_code && String(sample.status_code)],
      ["When", timeAgo(sample.at)],
      ["Request", sample.request_id && el("code", {}, visible(sample.request_id))],
      ["Trace", sample.trace_id && el("code", {}, visible(sample.trace_id))],
      ["Release", sample.release && visible(sample.release)],
    ]),
    headers.length ? el("details", {}, el("summary", {}, counted(headers.length, "header")), facts(headers)) : null,
    sample.context ? el("details", {}, el("summary", {}, "Context"), pre(JSON.stringify(sample.context, null, 2))) : null,
  ].filter(Boolean);
}

const pre = (text) => el("pre", { tabindex: "0" }, text.split("\n").map(visibleCode).join("\n"));

function traceback(exception) {
  if (!exception) return [];
  return [
    el("h3", {}, "Traceback"),
    el("p", { class: "quiet" }, "The most recent call last; frames of the application are open."),
    // As Python prints them: what led to it comes before it.
    ...(exception.causes ?? []).toReversed().flatMap((cause) => [...raised(cause), related(cause)]),
    ...raised(exception),
    ...leftOut(exception.dropped),
  ];
}

function leftOut(dropped) {
  const parts = Object.entries(dropped ?? {}).filter(([, n]) => n).map(([what, n]) => `${count(n)} ${visible(what)}`);
  return parts.length ? [el("p", { class: "note" }, `Left out for want of room: ${parts.join(", ")}.`)] : [];
}

function raised(exception) {
  const left = exception.frames_left_out;
  return [
    left ? el("p", { class: "note" }, `${counted(left, "frame")} left out.`) : null,
    el("ol", { class: "frames" }, ...runsOf(exception.frames ?? []).map((run) => el("li", {}, runOf(run)))),
    el("p", { class: "raised" }, el("strong", {}, visible(exception.type)), ": ", visible(exception.message)),
  ].filter(Boolean);
}

function related(cause) {
  return el("p", { class: "quiet" }, RELATIONS[cause.relation] ?? "It belongs to this:");
}

/** Frames in order; those of libraries that follow each other are one. */
function runsOf(frames) {
  const runs = [];
  for (const frame of frames) {
    if (!frame.in_app && runs.at(-1)?.[0].in_app === false) runs.at(-1).push(frame);
    else runs.push([frame]);
  }
  return runs;
}

function runOf(run) {
  if (run.length === 1) return frameOf(run[0]);
  const head = el("summary", {}, `${count(run.length)} calls within libraries`);
  return el("details", { class: "run" }, head, ...run.map(frameOf));
}

function frameOf(frame) {
  const place = el("code", {}, visible(`${frame.file}:${frame.line}`));
  const whose = frame.in_app ? badge("app", "accent") : badge("library", "plain");
  const head = el("summary", {}, place, " in ", el("code", {}, visible(frame.function)), " ", whose);
  const source = frame.source ?? [];
  return el("details", { open: Boolean(frame.in_app) }, head, source.length ? listing(frame) : el("p", { class: "quiet" }, "No source at hand."));
}

function listing(frame) {
  const lines = frame.source.map(([number, text]) => {
    const isHere = number === frame.line;
    const mark = `${isHere ? ">" : " "}${String(number).padStart(5)} `;
    return el("span", { class: isHere ? "line-here" : "line-near" }, el("span", { class: "line-number" }, mark), `${visibleCode(text)}\n`);
  });
  return el("pre", { tabindex: "0", "aria-label": `Source around line ${frame.line}` }, ...lines);
}
