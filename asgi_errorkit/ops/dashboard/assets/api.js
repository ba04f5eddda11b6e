// Asking the ops app: by the cookie of the session, a few at a time.

const AT_ONCE = 2; // the server reads four at a time, and others look too
const PATIENCE_MS = [500, 1000, 2000];

let running = 0;
const waiting = [];

/** An answer that is no success. */
export class AskError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

const url = (route) => new URL(route, document.baseURI);

async function turn(ask) {
  if (running >= AT_ONCE) await new Promise((go) => waiting.push(go));
  running += 1;
  try {
    return await ask();
  } finally {
    running -= 1;
    waiting.shift()?.();
  }
}

/** What is told at a route, e.g. "errors?limit=500". One that is busy is asked again. */
export function read(route) {
  return turn(async () => {
    for (const pause of PATIENCE_MS) {
      const answer = await fetch(url(route), { headers: { accept: "application/json" } });
      if (answer.status !== 503) return told(answer);
      await new Promise((go) => setTimeout(go, pause));
    }
    throw new AskError(503, "The server is busy.");
  });
}

async function told(answer) {
  if (answer.status === 204) return null;
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new AskError(answer.status, body.detail ?? `Answered with ${answer.status}.`);
  return body;
}

/** Have something changed at a route, such as a breaker. */
export async function change(route, what) {
  const headers = { "content-type": "application/json", "x-errorkit-ops": "1" };
  return told(await fetch(url(route), { method: "POST", headers, body: JSON.stringify(what) }));
}

let described = null;

/** Whether something can be changed at a path: from a record alone nothing can, as its description says. */
export async function canChange(path) {
  described ??= await read("openapi.json");
  return Boolean(described.paths[path]?.post);
}

/** Whether there is a cookie that is good: asked first, for refusals stand in the console as errors. */
export async function isSignedIn() {
  return (await read("session")).signed_in;
}

/** Exchange the token for a cookie. */
export async function signIn(token) {
  const headers = { authorization: `Bearer ${token}` };
  return told(await fetch(url("session"), { method: "POST", headers }));
}

export async function signOut() {
  const headers = { "x-errorkit-ops": "1" };
  return told(await fetch(url("session"), { method: "DELETE", headers }));
}

/** Snapshots as they come; the browser comes again by itself, but not after a refusal. */
export function listen({ onSnapshot, onLost, onRefused }) {
  const source = new EventSource(url("events"));
  source.addEventListener("snapshot", (event) => onSnapshot(JSON.parse(event.data)));
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) onRefused();
    else onLost();
  });
  return source;
}
