// What is not to be told for a while: begun in a dialog, listed, and ended.

import { change } from "./api.js";
import { announce, el, openDialog, setText, timeAgo } from "./dom.js";
import { seconds, visible } from "./format.js";
import { table } from "./tables.js";

const LENGTHS = [1800, 3600, 4 * 3600, 86400, 7 * 86400, 30 * 86400];
const USUAL = 3600;
const MOST_CHARS = 300;
const MOST_WHY_CHARS = 200;
const LOOKS = 8; // it may be another worker that heeds it
const LOOK_MS = 500;

/** The silences that there are. `whole.canSilence` says whether they can be ended from here. */
export function silences(whole, refresh) {
  const made = table({
    caption: "Silences",
    empty: "Nothing is silenced.",
    sort: "until",
    isRising: true,
    key: (row) => `${row.what} ${row.until}`,
    columns: [
      { name: "type", label: "Silenced", value: (row) => row.what, show: (row) => el("code", {}, visible(row.what)) },
      { name: "why", label: "Why", value: (row) => visible(row.why) },
      { name: "until", label: "Until", value: (row) => row.until, show: (row) => timeAgo(row.until) },
      { name: "acts", label: "By hand", isPlain: true, value: () => null, stamp: () => whole.canSilence, show: (row) => (whole.canSilence ? ender(row.what) : "not from here") },
    ],
  });
  const ender = (what) => el("button", { type: "button", "aria-label": `End the silence of ${visible(what)}`, click: () => end(what) }, "End");
  async function end(what) {
    try {
      await change("alerts", { action: "unsilence", what });
      announce(`${visible(what)} is silenced no more.`);
      // Its row goes, and the button that has the focus with it.
      made.element.querySelector(".scroll").focus();
      await settled(refresh, (summary) => !isSilenced(summary, what));
    } catch (error) {
      openDialog("The silence goes on", el("p", { role: "alert" }, visible(error.message)));
    }
  }
  return made;
}

/** A button that asks how long an alert, all of its type, or (without one) what is written is to be silent. */
export function silencer(row, refresh) {
  const label = row ? `Silence ${visible(row.key)}` : null;
  return el("button", { type: "button", "aria-label": label, click: () => ask(row, refresh) }, row ? "Silence" : "Silence alerts");
}

function ask(row, refresh) {
  const what = row ? choice(row) : el("input", { id: "silence-what", required: true, maxlength: MOST_CHARS, autocomplete: "off", spellcheck: "false" });
  const length = el("select", { id: "silence-length" }, ...LENGTHS.map((each) => el("option", { value: each, selected: each === USUAL }, seconds(each))));
  const why = el("input", { id: "silence-why", maxlength: MOST_WHY_CHARS, autocomplete: "off" });
  const failed = el("p", { class: "bad", role: "alert" });
  const go = async (event) => {
    event.preventDefault();
    const wanted = { action: "silence", what: what.value, seconds: Number(length.value), why: why.value };
    try {
      await change("alerts", wanted);
      dialog.close();
      announce(`${visible(wanted.what)} is silenced for ${seconds(wanted.seconds)}.`);
      await settled(refresh, (summary) => isSilenced(summary, wanted.what));
    } catch (error) {
      setText(failed, visible(error.message));
    }
  };
  const form = el(
    "form",
    { class: "asking", submit: go },
    labelled("What", what),
    row ? null : el("p", { class: "quiet" }, "A type such as NEW_ERROR, or the key of an alert; * stands for anything."),
    labelled("For how long", length),
    labelled("Why (for others to read)", why),
    failed,
    el("p", {}, el("button", { class: "main-action" }, "Silence")),
  );
  const about = "Nobody is told of it while that lasts, by any worker of this host. It is logged and listed all the same; the log tells who asked for it.";
  const dialog = openDialog("Silence alerts?", el("p", {}, about), form);
}

const labelled = (text, field) => el("p", {}, el("label", { for: field.id }, text), field);

function choice(row) {
  const all = el("option", { value: literally(row.type) }, `All of the type ${visible(row.type)}`);
  const one = el("option", { value: literally(row.key) }, `This alone: ${visible(row.key)}`);
  return el("select", { id: "silence-what" }, ...(row.key === row.type ? [all] : [one, all]));
}

/** As a pattern that stands for nothing else. */
const literally = (text) => text.replace(/[*?[]/g, "[$&]");

const isSilenced = (summary, what) => (summary.silences ?? []).some((each) => each.what === what);

async function settled(refresh, isSo) {
  for (let look = 0; look < LOOKS; look += 1) {
    if (isSo(await refresh())) return;
    await new Promise((go) => setTimeout(go, LOOK_MS));
  }
}
