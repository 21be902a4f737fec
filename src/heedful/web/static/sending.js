// Requests to the server: JSON out, JSON in, and again until an answer has come.

const WAITS_MS = [1000, 2000, 4000, 8000, 15000];
const LONGEST_WAIT_MS = 60000;
const TIMEOUT_MS = 15000;

/** POST `body` as JSON. Returns {status, data, after}; status 0 where no answer came, `after` so many ms that one is told to wait. */
export async function post(url, body, csrf, fetching = fetch) {
  try {
    const response = await fetching(url, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRF-Token": csrf },
      body: JSON.stringify(body),
      credentials: "same-origin",
      redirect: "manual",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const data = await response.json().catch(() => null);
    // A proxy's own page, a portal of the hotel: an answer that is not ours is none.
    const after = 1000 * (Number(response.headers.get("Retry-After")) || 0);
    return response.ok && data === null ? { status: 0, data: null, after: 0 } : { status: response.status, data, after };
  } catch {
    return { status: 0, data: null, after: 0 };
  }
}

/** Whether the same request may go better later. */
export function isPassing(status) {
  return status === 0 || status === 408 || status === 429 || status >= 500;
}

/** Send until an answer comes that will not change by waiting. `onTrouble(status)` hears of every failure. */
export async function persistently(send, onTrouble, wait = waitOrOnline) {
  for (let attempt = 1; ; attempt += 1) {
    const answer = await send();
    if (!isPassing(answer.status)) return answer;
    onTrouble(answer.status);
    await wait(Math.max(WAITS_MS[Math.min(attempt, WAITS_MS.length) - 1], Math.min(answer.after, LONGEST_WAIT_MS)));
  }
}

/** Wait, but no longer than until the browser says that the network is back, or somebody presses "Try now". */
export function waitOrOnline(ms) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", done);
      removeEventListener("heedful-try-now", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    addEventListener("online", done);
    addEventListener("heedful-try-now", done);
  });
}
