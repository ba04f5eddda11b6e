// Tables that are sorted, filtered and paged: rows are made for what is seen, however many there are.

import { el, setText } from "./dom.js";
import { count } from "./format.js";

const SIZES = [25, 100];
const MOST_BESIDE = 2; // so many columns have room beside each other on any screen
let made = 0;

/**
 * @typedef {{name: string, label: string, value: (row: any) => string|number|null,
 *   show?: (row: any) => Node|string, isNumber?: boolean, stamp?: (row: any) => unknown,
 *   isPlain?: boolean}} Column
 * ``value`` is what is sorted by; a cell is made anew when its ``stamp`` (else the value) is another.
 *
 * @param {{caption: string, columns: Column[], key: (row: any) => string, sort: string,
 *   isRising?: boolean, empty: string, text?: (row: any) => string}} options
 */
export function table(options) {
  const body = el("tbody", { role: "rowgroup" });
  const state = {
    ...options,
    body,
    rows: [],
    cells: new Map(),
    page: 0,
    size: SIZES[0],
    wanted: "",
    isAsked: false,
    isRising: options.isRising ?? false,
  };
  // Where there is no room for columns a row is a card: roles are said, for the layout takes them.
  const stacks = options.columns.length > MOST_BESIDE ? "stacks" : null;
  const grid = el("table", { class: stacks, role: "table" }, el("caption", { class: "unseen" }, options.caption), headOf(state), body);
  const region = el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": `Table: ${options.caption}` }, grid);
  state.note = el("p", { class: "note", hidden: true });
  const element = el("div", { class: "table" }, toolsOf(state), region, state.note, pagerOf(state));
  refresh(state);
  return {
    element,
    update(rows) {
      state.isAsked = true;
      state.rows = rows;
      refresh(state);
    },
  };
}

function headOf(state) {
  state.heads = state.columns.map((column) => {
    const about = { scope: "col", role: "columnheader", class: column.isNumber ? "number" : null };
    if (column.isPlain) return el("th", about, column.label);
    const button = el("button", { type: "button", click: () => sortBy(state, column) }, column.label);
    return el("th", about, button);
  });
  return el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...state.heads));
}

function sortBy(state, column) {
  const isSame = state.sort === column.name;
  state.isRising = isSame ? !state.isRising : !column.isNumber;
  state.sort = column.name;
  state.page = 0;
  refresh(state);
}

function toolsOf(state) {
  if (!state.text) return null;
  const id = `filter-${(made += 1)}`;
  const input = el("input", {
    id,
    type: "search",
    autocomplete: "off",
    spellcheck: "false",
    input: () => {
      state.wanted = input.value.toLowerCase();
      state.page = 0;
      refresh(state);
    },
  });
  state.tools = el("p", { class: "tools" }, el("label", { for: id }, "Filter "), input);
  return state.tools;
}

function pagerOf(state) {
  const step = (text, label, to) => {
    const go = () => {
      state.page = to();
      refresh(state);
    };
    return el("button", { type: "button", "aria-label": label, click: go }, text);
  };
  state.where = el("span", {}, "");
  state.first = step("«", "First page", () => 0);
  state.back = step("‹", "Previous page", () => state.page - 1);
  state.next = step("›", "Next page", () => state.page + 1);
  state.last = step("»", "Last page", () => Infinity);
  state.pager = el("div", { class: "pager", role: "group", "aria-label": `Pages: ${state.caption}` });
  state.pager.append(state.first, state.back, state.where, state.next, state.last, sizeOf(state));
  return state.pager;
}

function sizeOf(state) {
  const id = `size-${(made += 1)}`;
  const choice = el("select", { id }, ...SIZES.map((size) => el("option", { value: size }, String(size))));
  choice.addEventListener("change", () => {
    state.size = Number(choice.value);
    state.page = 0;
    refresh(state);
  });
  return el("span", {}, el("label", { for: id }, "Rows "), choice);
}

function refresh(state) {
  const rows = ordered(state);
  const pages = Math.max(1, Math.ceil(rows.length / state.size));
  state.page = Math.max(0, Math.min(state.page, pages - 1));
  const start = state.page * state.size;
  const seen = rows.slice(start, start + state.size);
  fill(state, seen);
  tellOrder(state);
  tellPlace(state, start, seen.length, rows.length, pages);
}

function ordered(state) {
  const { wanted, text } = state;
  const rows = wanted ? state.rows.filter((row) => text(row).toLowerCase().includes(wanted)) : state.rows;
  const column = state.columns.find((each) => each.name === state.sort);
  const turn = state.isRising ? 1 : -1;
  const keyed = rows.map((row) => [column.value(row), row]);
  keyed.sort(([one], [other]) => turn * compare(one, other));
  return keyed.map(([, row]) => row);
}

function compare(one, other) {
  if (one === other) return 0;
  if (one === null || one === undefined) return -1;
  if (other === null || other === undefined) return 1;
  return one < other ? -1 : 1;
}

/** Rows stay the elements that they were: who has the focus in one, or text selected, keeps it. */
function fill(state, seen) {
  const focused = document.activeElement;
  const before = state.cells;
  state.cells = new Map();
  seen.forEach((row, at) => {
    const key = state.key(row);
    const kept = before.get(key) ?? { line: el("tr", { role: "row" }), stamps: [] };
    before.delete(key);
    state.cells.set(key, kept);
    write(state, kept, row);
    if (state.body.children[at] !== kept.line) state.body.insertBefore(kept.line, state.body.children[at] ?? null);
  });
  for (const { line } of before.values()) line.remove();
  if (focused !== document.activeElement && state.body.contains(focused)) focused.focus({ preventScroll: true });
}

function write(state, kept, row) {
  state.columns.forEach((column, i) => {
    const stamp = column.stamp ? column.stamp(row) : column.value(row);
    if (kept.line.children[i] && kept.stamps[i] === stamp) return;
    kept.stamps[i] = stamp;
    const cell = kept.line.children[i] ?? kept.line.appendChild(cellOf(column, i));
    cell.replaceChildren(column.show ? column.show(row) : String(stamp ?? ""));
  });
}

function cellOf(column, i) {
  const about = { class: column.isNumber ? "number" : null, "data-label": column.label };
  return i === 0 ? el("th", { ...about, scope: "row", role: "rowheader" }) : el("td", { ...about, role: "cell" });
}

function tellOrder(state) {
  state.columns.forEach((column, i) => {
    if (column.isPlain) return;
    const isBy = column.name === state.sort;
    state.heads[i].setAttribute("aria-sort", isBy ? (state.isRising ? "ascending" : "descending") : "none");
  });
}

function tellPlace(state, start, seen, total, pages) {
  const all = state.rows.length;
  const filtered = total < all ? ` (of ${count(all)})` : "";
  setText(state.where, `${count(seen ? start + 1 : 0)}–${count(start + seen)} of ${count(total)}${filtered}`);
  // Not `disabled`: who pages by keyboard would lose the focus at the last page.
  for (const each of [state.first, state.back]) each.setAttribute("aria-disabled", state.page === 0);
  for (const each of [state.next, state.last]) each.setAttribute("aria-disabled", state.page >= pages - 1);
  state.pager.hidden = all <= SIZES[0];
  if (state.tools) state.tools.hidden = all <= 5 && !state.wanted;
  state.note.hidden = total > 0;
  const nothing = state.isAsked ? state.empty : "Not loaded yet.";
  setText(state.note, all ? "Nothing matches the filter." : nothing);
}
