// The few ways in which this page makes elements: text is always text.

import { ago, fullTime, isNumber } from "./format.js";

const LATEST = 8.64e12; // of which a date can be made
const SVG = "http://www.w3.org/2000/svg";

/** @param {string} tag @param {Record<string, unknown>} about @param {...(Node|string)} inside */
export function el(tag, about = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(about)) give(made, name, value);
  made.append(...inside.filter((each) => each !== null && each !== undefined));
  return made;
}

function give(made, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (typeof value === "function") made.addEventListener(name, value);
  else made.setAttribute(name, value === true ? "" : value);
}

export function svg(tag, about = {}, ...inside) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(about)) made.setAttribute(name, value);
  made.append(...inside);
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Text is set only where it differs: screen readers and selections are left alone. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A time as how long ago it is; `tickTimes` keeps it true. */
export function timeAgo(at) {
  if (!isNumber(at) || Math.abs(at) > LATEST) return el("span", {}, "unknown");
  const iso = new Date(at * 1000).toISOString();
  return el("time", { datetime: iso, title: fullTime(at), "data-at": at }, ago(at));
}

export function tickTimes() {
  for (const each of document.querySelectorAll("time[data-at]")) {
    setText(each, ago(Number(each.dataset.at)));
  }
}

/** A list of names and what they are; what is null is left out. */
export function facts(pairs) {
  const list = el("dl", { class: "facts" });
  for (const [name, value] of pairs) {
    if (value === null || value === undefined || value === "") continue;
    list.append(el("div", {}, el("dt", {}, name), el("dd", {}, value)));
  }
  return list;
}

/** A word with a sign before it: colour alone tells nothing to many. */
export function badge(text, kind) {
  return el("span", { class: `badge ${kind}` }, text);
}

/** A dialog that is gone when it is closed; the browser gives the focus back. */
export function openDialog(title, ...inside) {
  // A stop of its own: a long one is scrolled, by keyboard too.
  const heading = el("h2", { id: "dialog-title", tabindex: "0" }, title);
  const close = el("button", { type: "button", click: () => dialog.close() }, "Close");
  const head = el("div", { class: "dialog-head" }, heading, close);
  const dialog = el("dialog", { "aria-labelledby": "dialog-title" }, head, ...inside);
  const opener = document.activeElement;
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    dialog.remove();
    opener?.focus?.();
  });
  document.body.append(dialog);
  dialog.showModal();
  heading.focus();
  return dialog;
}

/** What is going on, for those who listen. */
export function announce(text) {
  setText(byId("live"), text);
}
