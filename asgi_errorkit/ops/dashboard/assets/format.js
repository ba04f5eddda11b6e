// Figures as people read them: grouped, with their unit, and text as what it is.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const rough = new Intl.NumberFormat("en", { maximumFractionDigits: 1, minimumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

/** Controls, and marks that turn text around or hide in it. A reader must not be misled by either. */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\u2028\u2029\u115f\u1160\u3164\uffa0]/gu;

/** Text that may come from anybody, each unseen character of it written as an escape. */
export function visible(text) {
  return String(text ?? "").replace(UNSEEN, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

/** Source lines: their tabs are meant. */
export function visibleCode(text) {
  return visible(String(text ?? "").replaceAll("\t", "    "));
}

export const isNumber = (told) => typeof told === "number" && Number.isFinite(told);

const unless = (told, show) => (isNumber(told) ? show(told) : "unknown");

export const count = (told) => unless(told, (n) => whole.format(n));

/** "1 time", "2 times". */
export const counted = (told, one) => `${count(told)} ${told === 1 ? one : `${one}s`}`;

export const percent = (ratio) => unless(ratio, (r) => `${fine.format(100 * r)} %`);

export const rate = (perSecond) => unless(perSecond, (r) => `${r < 100 ? fine.format(r) : whole.format(r)}/s`);

export const megabytes = (told) => unless(told, (mb) => `${mb < 10 ? rough.format(mb) : whole.format(mb)} MB`);

/** A duration in the unit that suits it. */
export function seconds(told) {
  if (!isNumber(told)) return "unknown";
  const span = Math.abs(told);
  if (span === 0) return "0 ms";
  if (span < 0.001) return `${whole.format(told * 1e6)} µs`;
  if (span < 0.1) return `${rough.format(told * 1e3)} ms`;
  if (span < 1) return `${whole.format(told * 1e3)} ms`;
  if (span < 60) return `${rough.format(told)} s`;
  return long(span);
}

function long(span) {
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = units.findIndex(([size]) => span >= size);
  const [big, small] = [units[first], units[first + 1]];
  const rest = small ? Math.floor((span % big[0]) / small[0]) : 0;
  return `${Math.floor(span / big[0])} ${big[1]}` + (rest ? ` ${rest} ${small[1]}` : "");
}

/** How long ago, in whole units, so that it does not flicker. */
export function ago(at, now = Date.now() / 1000) {
  if (!isNumber(at)) return "unknown";
  const span = now - at;
  if (span < -2) return `in ${long(-span)}`;
  return span < 2 ? "just now" : `${long(Math.floor(span))} ago`;
}

export const clockTime = (at) => (isNumber(at) ? clock.format(at * 1000) : "unknown");

export const fullTime = (at) => (isNumber(at) ? full.format(at * 1000) : "unknown");

/** A name of the kit's in plain words: client_error, forced_open. */
export const words = (name) => visible(name).replaceAll("_", " ");
