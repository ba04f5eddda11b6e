// Charts as SVG: bands upon each other, lines, and sparks within a row.

import { el, setText, svg } from "./dom.js";
import { clockTime, isNumber } from "./format.js";

const HEIGHT = 170;
const LEFT = 58;
const BOTTOM = 20;
const TOP = 8;
const SPAN_SECONDS = 60; // at least: a young history is not stretched

/**
 * @typedef {{name: string, label: string}} Series
 * @param {{title: string, series: Series[], isStacked: boolean, show: (n: number) => string,
 *   values: (point: object) => (number|null)[]|null}} options
 */
export function chart(options) {
  const drawing = svg("svg", { class: "chart", role: "img", tabindex: "0", height: HEIGHT });
  const legend = el("ul", { class: "legend" });
  const items = options.series.map((each) => legendItem(each));
  legend.append(...items.map((item) => item.element));
  const when = el("span", { class: "when" }, "now");
  const caption = el("figcaption", {}, el("h3", {}, options.title, " "), when);
  const figure = el("figure", { class: "card" }, caption, drawing, legend);
  const state = { ...options, drawing, items, when, points: [], chosen: null };
  watch(state);
  return {
    element: figure,
    update(points) {
      state.points = points;
      draw(state);
    },
  };
}

function legendItem(series) {
  const value = el("span", { class: "value" }, "");
  const mark = svg("svg", { class: "mark", viewBox: "0 0 20 10", "aria-hidden": "true" });
  mark.append(svg("path", { class: `s-${series.name}`, d: "M0 5H20" }));
  return { element: el("li", {}, mark, `${series.label} `, value), value };
}

/** The moment that is told of: under the pointer, or by the arrow keys; else the latest. */
function watch(state) {
  const { drawing } = state;
  new ResizeObserver(() => draw(state)).observe(drawing);
  drawing.addEventListener("pointermove", (event) => {
    const { left } = drawing.getBoundingClientRect();
    choose(state, nearest(state, event.clientX - left));
  });
  for (const leaving of ["pointerleave", "blur"]) drawing.addEventListener(leaving, () => choose(state, null));
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const last = state.points.length - 1;
    choose(state, Math.max(0, Math.min(last, (state.chosen ?? last) + step)));
  });
}

function nearest(state, x) {
  const at = state.points.map((point) => Math.abs(state.scale.x(point.at) - x));
  return at.length ? at.indexOf(Math.min(...at)) : null;
}

function choose(state, chosen) {
  state.chosen = chosen;
  draw(state);
}

function draw(state) {
  const width = state.drawing.clientWidth;
  if (!width) return;
  const rows = state.points.map((point) => state.values(point));
  const tops = state.isStacked ? rows.map(stacked) : rows;
  const scale = (state.scale = scaleOf(state.points, tops, width));
  const shapes = state.series.map((series, i) => shape(state, tops, scale, series, i)).filter(Boolean);
  state.drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  state.drawing.replaceChildren(...axes(state, scale, width), ...shapes, ...cursor(state, scale));
  tell(state, rows);
}

const stacked = (row) => row && row.reduce((sums, n) => [...sums, (sums.at(-1) ?? 0) + n], []);

function scaleOf(points, tops, width) {
  const until = points.at(-1)?.at ?? Date.now() / 1000;
  const since = Math.min(points[0]?.at ?? until, until - SPAN_SECONDS);
  const most = niceTop(Math.max(0, ...tops.flat().filter(isNumber)));
  return {
    since,
    until,
    most,
    x: (at) => LEFT + ((at - since) / (until - since)) * (width - LEFT - 2),
    y: (n) => HEIGHT - BOTTOM - (n / most) * (HEIGHT - BOTTOM - TOP),
  };
}

function niceTop(most) {
  if (most <= 0) return 1;
  const unit = 10 ** Math.floor(Math.log10(most));
  return unit * [1, 2, 4, 5, 10].find((step) => most <= step * unit);
}

function axes(state, scale, width) {
  const lines = [0, 0.5, 1].flatMap((share) => {
    const y = scale.y(scale.most * share);
    const label = svg("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, state.show(scale.most * share));
    return [svg("path", { class: "grid", d: `M${LEFT} ${y}H${width}` }), label];
  });
  const base = { y: HEIGHT - 4 };
  const since = svg("text", { ...base, x: LEFT }, clockTime(scale.since));
  const until = svg("text", { ...base, x: width - 2, "text-anchor": "end" }, clockTime(scale.until));
  return [...lines, since, until];
}

function shape(state, tops, scale, series, i) {
  const runs = runsOf(state.points, tops, i);
  if (!state.isStacked) {
    return svg("path", { class: `line s-${series.name}`, d: runs.map((run) => lineOf(run, scale)).join("") });
  }
  const isEmpty = runs.every((run) => run.every((each) => each.top === each.below));
  return isEmpty ? null : svg("path", { class: `band s-${series.name}`, d: runs.map((run) => areaOf(run, scale)).join("") });
}

/** Points that belong together: between them nothing is missing. */
function runsOf(points, tops, i) {
  const runs = [[]];
  points.forEach((point, at) => {
    const top = tops[at]?.[i];
    if (!isNumber(top)) runs.push([]);
    else runs.at(-1).push({ at: point.at, top, below: i ? tops[at][i - 1] : 0 });
  });
  return runs.filter((run) => run.length);
}

const place = (x, y) => `${x.toFixed(1)} ${y.toFixed(1)}`;

function lineOf(run, scale) {
  const places = run.map((each) => place(scale.x(each.at), scale.y(each.top)));
  return `M${places.join("L")}${places.length === 1 ? "h2" : ""}`;
}

function areaOf(run, scale) {
  const wide = run.length > 1 ? run : [run[0], { ...run[0], at: run[0].at + 2 }];
  const top = wide.map((each) => place(scale.x(each.at), scale.y(each.top)));
  const below = wide.map((each) => place(scale.x(each.at), scale.y(each.below))).reverse();
  return `M${top.join("L")}L${below.join("L")}Z`;
}

function cursor(state, scale) {
  const point = state.points[state.chosen];
  if (!point) return [];
  return [svg("path", { class: "cursor", d: `M${scale.x(point.at)} ${TOP}V${HEIGHT - BOTTOM}` })];
}

function tell(state, rows) {
  const at = state.chosen ?? rows.length - 1;
  const point = state.points[at];
  const row = rows[at];
  const texts = state.series.map((_, i) => (isNumber(row?.[i]) ? state.show(row[i]) : "–"));
  state.items.forEach((item, i) => setText(item.value, texts[i]));
  setText(state.when, point ? `at ${clockTime(point.at)}` : "no data yet");
  const told = state.series.map((series, i) => `${series.label} ${texts[i]}`).join(", ");
  state.drawing.setAttribute("aria-label", `${state.title}, ${state.when.textContent}: ${told}. Arrow keys choose another time.`);
}

/** A small line without axes; what it says stands beside it as text. */
export function spark(values, label) {
  const known = values.filter(isNumber);
  const drawing = svg("svg", { class: "spark", viewBox: "0 0 100 24", role: "img", "aria-label": label });
  if (known.length < 2) return drawing;
  const least = Math.min(...known, 0);
  const most = Math.max(...known, least + 1e-9);
  const step = 100 / (values.length - 1);
  const parts = values.map((n, i) => (isNumber(n) ? `${place(i * step, 22 - ((n - least) / (most - least)) * 20)}` : ""));
  const runs = parts.join("L").split(/L(?:L)+/).filter(Boolean);
  const path = runs.map((run) => `M${run.replace(/^L|L$/g, "")}`).join("");
  drawing.append(svg("path", { class: "line s-spark", d: path }));
  return drawing;
}
