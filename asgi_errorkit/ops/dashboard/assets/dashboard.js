// The page: signs in, listens, and has each section ask for what is looked at.

import { alerts } from "./alerts.js";
import { isSignedIn, listen, signIn, signOut } from "./api.js";
import { breakers } from "./breakers.js";
import { crashes } from "./crashes.js";
import { announce, byId, setText, tickTimes } from "./dom.js";
import { errors } from "./errors.js";
import { flight } from "./flight.js";
import { count, visible } from "./format.js";
import { History } from "./history.js";
import { overview } from "./overview.js";
import { routes } from "./routes.js";
import { workers } from "./workers.js";

const MAKE = { overview, alerts, errors, routes, breakers, flight, workers, crashes };
const LOST_AFTER_MS = 4000; // streams end in time and come again: that is no loss
const AGAIN_MS = 5000;
const UNSEEN_MS = 30_000; // what is not on the screen is asked for its count alone
const LEAST_SHARE = 10; // an answer that takes long is asked for seldom
const REACHED_PX = 48;

const page = { current: "", sections: [], history: new History(), source: null, lostTimer: 0, state: "" };

start();

async function start() {
  byId("sign-in").addEventListener("submit", onSignIn);
  byId("sign-out").addEventListener("click", onSignOut);
  const token = tokenOfAddress();
  addEventListener("hashchange", () => enter(tokenOfAddress()));
  if (token) await enter(token);
  else await open();
}

/** A token in the fragment never reaches a server by itself; it is to stay in no history either. */
function tokenOfAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) history.replaceState(null, "", location.pathname + location.search);
  return token;
}

async function enter(token) {
  if (!token) return;
  try {
    await signIn(token);
    setText(byId("sign-in-error"), "");
    await open();
  } catch (error) {
    askForToken(error.status === 401 ? "That is not the token." : visible(error.message));
  }
}

async function onSignIn(event) {
  event.preventDefault();
  const field = byId("token");
  const token = field.value.trim();
  field.value = "";
  await enter(token);
}

async function onSignOut() {
  await signOut().catch(() => {});
  // All that was seen goes with the page.
  location.reload();
}

async function open() {
  try {
    if (!(await isSignedIn())) return askForToken("");
  } catch (error) {
    return showState("lost", `Not connected: ${visible(error.message)}`, () => setTimeout(open, AGAIN_MS));
  }
  if (page.source) return;
  show(true);
  if (!page.sections.length) makeSections();
  connect();
}

function askForToken(why) {
  page.source?.close();
  page.source = null;
  show(false);
  showState("closed", "Not signed in");
  setText(byId("sign-in-error"), why);
  byId("token").focus();
}

function show(isSignedIn) {
  byId("sign-in").hidden = isSignedIn;
  for (const id of ["figures", "sections", "sign-out"]) byId(id).hidden = !isSignedIn;
}

function makeSections() {
  for (const [id, make] of Object.entries(MAKE)) {
    const element = byId(id);
    page.sections.push({ id, element, isSeen: false, dueAt: 0, isAsking: false, ...make(element, (...told) => noteCount(id, ...told)) });
  }
  const watcher = new IntersectionObserver(onSeen, { rootMargin: "200px" });
  for (const { element } of page.sections) watcher.observe(element);
  setInterval(tick, 1000);
  document.addEventListener("visibilitychange", tick);
  addEventListener("scroll", () => requestAnimationFrame(tellCurrent), { passive: true });
  tellCurrent();
}

/** The section that is looked at is the last one that has come up to the navigation. */
function tellCurrent() {
  const line = byId("sections").getBoundingClientRect().bottom + REACHED_PX;
  const reached = page.sections.findLast(({ element }) => element.getBoundingClientRect().top <= line);
  const { id } = reached ?? page.sections[0];
  if (id === page.current) return;
  page.current = id;
  const list = byId("sections").querySelector("ul");
  for (const link of list.querySelectorAll("a")) {
    if (link.hash !== `#${id}`) link.removeAttribute("aria-current");
    else {
      link.setAttribute("aria-current", "location");
      list.scrollLeft = link.offsetLeft - (list.clientWidth - link.offsetWidth) / 2;
    }
  }
}

function onSeen(entries) {
  for (const entry of entries) {
    const section = page.sections.find((each) => each.element === entry.target);
    section.isSeen = entry.isIntersecting;
  }
  tick();
}

function tick() {
  if (document.hidden || !page.source) return;
  tickTimes();
  for (const section of page.sections) if (section.isSeen || isOwed(section)) ask(section);
}

/** The navigation has the count of each; routes may be too many to be asked for unseen. */
function isOwed(section) {
  const wait = section.dueAt ? UNSEEN_MS : 0;
  return section.id !== "routes" && performance.now() >= section.dueAt + wait;
}

/** Have a section ask for its figures, if it is time. */
async function ask(section) {
  const now = performance.now();
  if (!section.refresh || section.isAsking || now < section.dueAt) return;
  section.isAsking = true;
  try {
    noteCount(section.id, await section.refresh());
  } catch (error) {
    if (error.status === 401) askForToken("The session is over.");
  } finally {
    const took = performance.now() - now;
    section.dueAt = performance.now() + Math.max(section.everySeconds * 1000 - took, took * LEAST_SHARE);
    section.isAsking = false;
  }
}

function connect() {
  page.source = listen({ onSnapshot, onLost, onRefused });
}

function onSnapshot(snapshot) {
  clearTimeout(page.lostTimer);
  page.lostTimer = 0;
  showState("live", "Live");
  page.history.isNew = page.history.add(snapshot);
  for (const section of page.sections) section.onSnapshot?.(snapshot, page.history);
  noteCounts(snapshot);
  byId("figures").dataset.seen = String(snapshot.timestamp);
}

function onLost() {
  page.lostTimer ||= setTimeout(() => showState("lost", "Connection lost, trying again"), LOST_AFTER_MS);
}

/** The browser does not come again by itself: the session is over, or too many look. */
function onRefused() {
  onLost();
  page.source?.close();
  page.source = null;
  setTimeout(open, AGAIN_MS / 5);
}

function showState(state, text, then) {
  then?.();
  const element = byId("connection");
  if (page.state === state) return setText(element, text);
  const isNews = page.state !== "";
  page.state = element.dataset.state = state;
  setText(element, text);
  if (isNews) announce(text);
}

function noteCounts({ error_stats: told, performance_stats: performance }) {
  noteCount("errors", told.error_groups);
  noteCount("flight", performance.in_flight);
  noteCount("workers", performance.workers?.length);
  const app = performance.workers?.[0];
  if (app) setText(byId("app-name"), visible([app.app, app.release].filter(Boolean).join(" ")));
}

function noteCount(id, number, what = "") {
  const element = byId(`count-${id}`);
  if (!element || typeof number !== "number") return;
  setText(element, number ? [count(number), what].filter(Boolean).join(" ") : "");
}
