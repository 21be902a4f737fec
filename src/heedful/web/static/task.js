// The labelling page: asks for tasks, sends what was judged, and never loses any of it on the way.

import { ActiveTime } from "./activity.js";
import { toggleFold } from "./cards.js";
import { find } from "./dom.js";
import { Drafts, newKey, storageThatWorks } from "./drafts.js";
import { isPassing, persistently, post } from "./sending.js";
import * as ranking from "./ranking.js";
import { View } from "./view.js";

const page = find("#labelling").dataset;
const csrf = find("meta[name=csrf]").content;
const here = `/label/${encodeURIComponent(page.project)}`;
const drafts = new Drafts(storageThatWorks(), page.user, page.project);
const view = new View({ first: page.first, last: page.last }, act);

let task = null; // what is asked, as the server said it
let state = null; // what the labeler has said so far, see ranking.js
let draft = null; // the same as it is kept in this browser, with its key
let time = null; // how long they worked on it
let at = 0; // the completion that keys act on
let sending = false;
let unsent = ""; // why an earlier answer, sent by itself when the page opened, was not taken

const now = () => performance.now();
const send = (what, body) => post(`${here}/${what}`, body, csrf);
const sendUntilHeard = async (what, body, trouble) => {
  const answer = await persistently(() => send(what, body), (status) => view.trouble(status === 429 ? TOO_OFTEN : trouble));
  view.trouble("");
  return answer;
};

const KEPT = "No connection to the server. Your work is kept in this browser, and sent as soon as the server can be reached.";
const TOO_OFTEN = "The server asks for a moment: that was much in a short time. Your work is kept in this browser, and sent again by itself.";
const WAITING = "No connection to the server. Trying again…";

// Getting a task

async function start() {
  drafts.forgetOld();
  for (const [token, kept] of drafts.unconfirmed()) {
    if (kept.sent.version === page.version && !(await confirm(token, kept)) && find("#signed-out").open) return;
  }
  const reopen = new URLSearchParams(location.search).get("reopen");
  history.replaceState(null, "", here);
  await load(reopen ? "reopen" : "next", reopen ? { token: reopen } : {});
}

async function load(what = "next", body = {}) {
  task = null;
  const { status, data } = await sendUntilHeard(what, body, WAITING);
  if (status !== 200) return refused(status, data, null);
  await sendOutdated(data.task?.token);
  view.progress(data.progress);
  view.problem(unsent);
  if (!data.task) return view.nothing(`${unsent} ${page.idle}`);
  unsent = "";
  return open(data.task);
}

/** Answers that were held up by new instructions, which are read by now. The task that comes next is for the labeler to look at again. */
async function sendOutdated(next) {
  for (const [token, kept] of drafts.unconfirmed()) {
    if (kept.sent.version !== page.version && token !== next) await confirm(token, { ...kept, sent: { ...kept.sent, version: page.version } });
  }
}

function open(next) {
  task = next;
  draft = drafts.open(task.token);
  const fresh = ranking.begin(task.kind, task.completions.length, page.ties);
  state = ranking.restore(task.previous ? ranking.reopen(fresh, task.previous) : fresh, draft.state);
  time = new ActiveTime(now(), draft.activeMs);
  at = ranking.nextWaiting(state) ?? 0;
  sending = false;
  view.open(task, state);
  show();
  if (draft.state) view.status("Your draft is back as you left it.");
  else if (task.previous) view.status("Your earlier answer, to look at again.");
}

// Judging

function act(action, card = null) {
  if (!task || sending) return;
  const before = state;
  state = ranking.reduce(state, action);
  if (card !== null) at = card;
  if (state === before) return;
  draft.sent = null; // by another tab, before this change
  keep();
  show();
  if (card !== null) view.say(spoken(card));
  else if (action.type === "undo" || action.type === "redo") view.say(`${action.type === "undo" ? "Undone" : "Done again"}. ${orderSpoken()}`);
}

function show() {
  view.show(state, at, sending);
}

function spoken(card) {
  const where = `${ranking.whereabouts(state, card)}.`;
  return ranking.waiting(state) === 0 ? `${where} Everything has its place. Press Enter to submit.` : where;
}

function orderSpoken() {
  const word = (place) => (place === null ? "no place" : typeof place === "number" ? `rank ${place}` : place);
  return state.places.map((place, card) => `${ranking.letter(card)} ${word(place)}`).join(", ");
}

function keep() {
  draft = { ...draft, state, activeMs: time.total(now()) };
  try {
    drafts.keep(task.token, draft);
    view.status("Draft kept in this browser.");
  } catch {
    view.problem("This browser cannot keep your draft: its storage is full or switched off. Do not close this page before it says “Stored”.");
  }
}

// Sending

async function submit() {
  if (!task || sending) return;
  if (ranking.waiting(state) > 0) {
    at = ranking.nextWaiting(state) ?? 0;
    show();
    view.goTo(at);
    view.say(find("#left").textContent);
    return;
  }
  sending = true;
  const answer = { ...ranking.answer(state), active_ms: time.total(now()) };
  draft = { ...draft, sent: { token: task.token, key: draft.key, version: task.version, answer } };
  keep();
  show();
  if (await confirm(task.token, draft)) {
    view.say("Stored. Next task.");
    await load();
  }
}

/** Send a draft until the server has said what became of it. Returns whether it is stored. */
async function confirm(token, kept) {
  const { status, data } = await sendUntilHeard("submit", kept.sent, KEPT);
  if (status === 200 && data.stored) {
    drafts.drop(token);
    view.status(`Stored at ${new Date().toLocaleTimeString()}.`);
    return true;
  }
  sending = false;
  // Signed out, or new instructions: it is sent by itself after that. Else it is the labeler's again, under a new key.
  if (!isSignedOut(status, data) && !isOutdated(data)) {
    const again = { ...kept, sent: null, key: newKey() };
    if (task?.token === token) {
      draft = again;
      keep();
    } else drafts.keep(token, again);
  }
  refused(status, data, token);
  return false;
}

function isSignedOut(status, data) {
  return status === 401 || (status === 403 && data?.error === "csrf");
}

function isOutdated(data) {
  return data?.error === "instructions_changed";
}

function refused(status, data, token) {
  if (task) show();
  if (isSignedOut(status, data)) return find("#signed-out").showModal();
  if (isOutdated(data)) return task ? find("#changed").showModal() : location.assign(`${here}/instructions`);
  if (data?.error === "check_needed") return location.assign(`${here}/check`);
  const sentence = data?.message ?? `The server refused this (${status}). Reload the page: your work is kept in this browser.`;
  if (!task && token) unsent = `An earlier answer of yours was not taken: ${sentence}`;
  else if (!task) view.nothing(sentence);
  return view.problem(sentence);
}

async function skip(reason) {
  sending = true;
  show();
  const { status, data } = await sendUntilHeard("skip", { token: task.token, reason }, KEPT);
  sending = false;
  if (status !== 200) return refused(status, data, task.token);
  drafts.drop(task.token);
  view.say("Skipped. Next task.");
  view.status("Skipped.");
  return load();
}

// Signs of life

function alive() {
  time?.touch(now());
  sitting.touch(now());
}

for (const kind of ["pointerdown", "pointermove", "keydown", "wheel", "touchmove", "scroll"]) addEventListener(kind, alive, { passive: true, capture: true });
document.addEventListener("visibilitychange", () => {
  for (const each of [time, sitting]) each?.show(document.visibilityState === "visible", now());
});
addEventListener("pagehide", () => task && !sending && draft?.state && keep());

async function heartbeat() {
  if (!task || sending || !time.active(now())) return;
  const beaten = task;
  const { status, data } = await send("heartbeat", { token: task.token });
  if (task !== beaten || sending) return;
  if (isPassing(status)) view.trouble(KEPT);
  else view.trouble("");
  if (isSignedOut(status, data)) find("#signed-out").showModal();
  if (status === 200 && data.lease_seconds === null) view.status("This task is no longer reserved for you, but your answer will still be kept.");
}

const REST_MS = 50 * 60 * 1000;
const sitting = new ActiveTime(now());
let rests = 0;
let lastBeat = now();
setInterval(() => {
  if (sitting.total(now()) > REST_MS * (rests + 1)) find("#rest").hidden = !(rests += 1);
  const period = Math.min(120, Math.max(5, (task?.lease_seconds ?? 360) / 3)) * 1000;
  if (now() - lastBeat < period) return;
  lastBeat = now();
  heartbeat();
}, 1000);

// Another tab with the same task: both show the same, and when one has stored it, so has the other.

addEventListener("storage", (event) => {
  if (!task || sending || drafts.taskOf(event.key) !== task.token) return;
  if (event.newValue === null) {
    view.say("This task was done in another tab. Next task.");
    load();
    return;
  }
  draft = drafts.open(task.token);
  state = ranking.restore(state, draft.state);
  at = ranking.nextWaiting(state) ?? at;
  show();
  view.status(draft.sent ? "Being sent in another tab." : "This task is open in another tab too; both show the same.");
});

// Keys

function keysAreOn() {
  return !find("#keys-off").checked;
}

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]") || !task) return;
  const typing = event.target.closest?.("input, textarea, select");
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey || !(typing || event.target.closest("button, a, summary")))) {
    event.preventDefault();
    if (!event.repeat) submit();
    return;
  }
  if (typing) return;
  const single = !event.ctrlKey && !event.metaKey && !event.altKey;
  if (single && !keysAreOn()) return;
  at = view.cardOf(event.target) ?? at;
  const done = (single && pageKey(event.key)) || cardKey(event);
  if (done) event.preventDefault();
});

function pageKey(key) {
  const count = task.completions.length;
  const does = {
    "?": () => find("#help").showModal(),
    j: () => view.goTo((at = (at + 1) % count)),
    k: () => view.goTo((at = (at + count - 1) % count)),
    o: () => view.toggleFold(at),
    x: () => count > 1 && view.compare(),
    s: () => find("#skipping").showModal(),
  }[key];
  does?.();
  return Boolean(does);
}

function cardKey(event) {
  const action = ranking.keyAction(state, at, event);
  if (!action) return false;
  const card = "card" in action ? at : null;
  const before = state;
  act(action, card);
  const next = ranking.nextWaiting(state, at);
  if (["place", "flag", "thumb"].includes(action.type) && state !== before && next !== null) {
    at = next;
    view.goTo(next);
    show();
  }
  return true;
}

document.addEventListener("focusin", (event) => {
  const card = event.target.closest("#completions") ? view.cardOf(event.target) : null;
  if (task && card !== null && card !== at) {
    at = card;
    show();
  }
});

// Buttons and dialogs

const on = (selector, kind, listener) => find(selector).addEventListener(kind, listener);
on("#submit", "click", submit);
on("#undo", "click", () => act({ type: "undo" }));
on("#redo", "click", () => act({ type: "redo" }));
on("#help-open", "click", () => find("#help").showModal());
on("#compare-open", "click", () => view.compare());
on("#prompt-body .fold", "click", () => toggleFold(find("#prompt-body")));
on("#skip", "click", () => find("#skipping").showModal());
on("#skipping form", "submit", (event) => {
  if (event.submitter?.value === "skip") skip(new FormData(event.currentTarget).get("reason") ?? "");
});
on("#note", "input", (event) => act({ type: "note", text: event.currentTarget.value }));
on("#rest button", "click", () => (find("#rest").hidden = true));
on("#again", "click", () => load());
on("#try-now", "click", () => dispatchEvent(new Event("heedful-try-now")));
for (const dialog of document.querySelectorAll("dialog[data-must]")) dialog.addEventListener("cancel", (event) => event.preventDefault());
for (const close of document.querySelectorAll("dialog [data-close]")) close.addEventListener("click", () => close.closest("dialog").close());

const settings = storageThatWorks();
find("#keys-off").checked = settings.getItem("heedful-keys") === "off";
on("#keys-off", "change", (event) => settings.setItem("heedful-keys", event.currentTarget.checked ? "off" : "on"));

const warning = find("#content-warning");
const today = new Date().toDateString();
const warned = `heedful warned ${page.project}`;
if (warning && settings.getItem(warned) !== today) {
  warning.addEventListener("close", () => settings.setItem(warned, today));
  warning.showModal();
}

start();
