// How one task is judged, as a state machine. Pure: a state and an action make a state; nothing here knows the page.
//
// A state holds the `places` of the completions in the order in which they are shown:
//   ranking     null (in the tray) · 1..count (1 holds most of the criterion; equal ranks tie) · "F"
//   thumbs      null · "up" · "down"
//   correction  null, always: here only `corrections` count
// with `reasons` (why an F) and `corrections` (what a completion should have said) by position, a `note`
// on the task, and the places before (`past`) and after (`future`) for undo and redo. Texts are not undone: their
// fields do that themselves. An action that changes nothing returns the very state it was given.

export const F = "F";
export const REASONS = { n: "nonsensical", c: "confusing", i: "irrelevant" };
const MOST_UNDO = 200;

/** The state in which a task begins: nothing is placed, as the order shown is never an answer. `ties`: none, sparing or free. */
export function begin(kind, count, ties = "sparing") {
  return { kind, count, ties, places: Array(count).fill(null), reasons: {}, corrections: {}, note: "", past: [], future: [] };
}

/** The state that shows an answer that was given before, to be changed. */
export function reopen(state, answer) {
  const places =
    state.kind === "ranking" ? answer.ranks.map((rank) => rank ?? F)
    : state.kind === "thumbs" ? answer.thumbs.map((up) => (up ? "up" : "down"))
    : state.places;
  return { ...state, places: settled(state, places), reasons: { ...answer.reasons }, corrections: { ...answer.corrections } };
}

/** A draft that was kept, or `state` where the draft is not one of this task. */
export function restore(state, draft) {
  if (draft?.kind !== state.kind || draft.count !== state.count) return state;
  const { places, reasons, corrections, note, past, future } = draft;
  const fit = Array.isArray(past) && Array.isArray(future) && [places, ...past, ...future].every((row) => allowed(state, row));
  return fit && isTexts(reasons) && isTexts(corrections) && isTexts([note]) ? { ...state, places, reasons, corrections, note, past, future } : state;
}

/** The state after an action: place, insert, flag, thumb, move, unplace, undo, redo, reason, correct or note. */
export function reduce(state, action) {
  const act = Object.hasOwn(ACTIONS, action.type) && ACTIONS[action.type];
  const onACard = action.card === undefined || (Number.isInteger(action.card) && action.card >= 0 && action.card < state.count);
  return act && onACard ? act(state, action) : state;
}

const ACTIONS = {
  place: (state, { card, rank }) => (isRank(state, rank) ? changed(state, placed(state, card, rank)) : state),
  insert: (state, { card, rank }) => (isRank(state, rank) || rank === state.count + 1 ? changed(state, inserted(state, card, rank)) : state),
  flag: (state, { card, reason }) => (state.kind === "ranking" ? withText(changed(state, put(state.places, card, F)), "reasons", card, reason) : state),
  thumb: (state, { card, up }) => (state.kind === "thumbs" ? changed(state, put(state.places, card, up ? "up" : "down")) : state),
  move: (state, { card, by }) => (state.kind === "ranking" ? changed(state, moved(state, card, by)) : state),
  unplace: (state, { card }) => changed(state, put(state.places, card, null)),
  undo: (state) => travelled(state, "past", "future"),
  redo: (state) => travelled(state, "future", "past"),
  reason: (state, { card, text }) => withText(state, "reasons", card, text),
  correct: (state, { card, text }) => withText(state, "corrections", card, text),
  note: (state, { text }) => (state.note === text ? state : { ...state, note: text }),
};

/** On a rank, beside whatever stands there; where ties are not allowed, before it. */
function placed(state, card, rank) {
  const taken = state.places.some((place, other) => other !== card && place === rank);
  return taken && state.ties === "none" ? inserted(state, card, rank) : put(state.places, card, rank);
}

/** On a rank of its own, before what stands on `rank`: whole ranks move down, or up where there is no room below. */
function inserted(state, card, rank) {
  const others = put(state.places, card, null);
  let free = rank;
  while (free <= state.count && others.includes(free)) free += 1;
  if (free <= state.count) return put(shifted(others, rank, free - 1, +1), card, rank);
  free = rank - 1;
  while (others.includes(free)) free -= 1;
  return put(shifted(others, free + 1, rank - 1, -1), card, rank - 1);
}

/** Half a step up (-1) or down (+1): out of a tie, or into one with the next rank; where ties are not allowed, past it. */
function moved(state, card, by) {
  const { places, ties } = state;
  const place = places[card];
  if (typeof place !== "number") return by < 0 ? inserted(state, card, lastRank(places) + 1) : places;
  if (sharing(places, card).length > 0) return inserted(state, card, by < 0 ? place : place + 1);
  const next = place + by;
  if (!isRank(state, next)) return places;
  return ties === "none" ? put(places.map((other) => (other === next ? place : other)), card, next) : put(places, card, next);
}

function changed(state, places) {
  const now = settled(state, places);
  if (now.every((place, card) => place === state.places[card])) return state;
  return { ...state, places: now, past: [...state.past, state.places].slice(-MOST_UNDO), future: [] };
}

/** Ranks that nobody is on close up as soon as everything is placed, so that the screen shows what will be stored. */
function settled(state, places) {
  if (state.kind !== "ranking" || places.includes(null)) return places;
  const used = [...new Set(places.filter((place) => place !== F))].sort((a, b) => a - b);
  return places.map((place) => (place === F ? F : used.indexOf(place) + 1));
}

function travelled(state, from, to) {
  if (state[from].length === 0) return state;
  return { ...state, places: state[from].at(-1), [from]: state[from].slice(0, -1), [to]: [...state[to], state.places] };
}

function withText(state, field, card, text) {
  return text === undefined || state[field][card] === text ? state : { ...state, [field]: { ...state[field], [card]: text } };
}

// What a state says

/** How many completions still wait for a place; for corrections, 1 until something is corrected. */
export function waiting(state) {
  if (state.kind === "correction") return Object.keys(written(state.corrections)).length > 0 ? 0 : 1;
  return state.places.filter((place) => place === null).length;
}

/** The next completion in the order shown that waits for a place, from `card` on; `null` when none does. */
export function nextWaiting(state, card = -1) {
  const order = state.places.map((_, step) => (card + 1 + step) % state.count);
  return order.find((other) => state.places[other] === null) ?? null;
}

/** The answer as the server takes it. Only for a state in which nothing waits. */
export function answer(state) {
  const texts = { corrections: written(state.corrections), ...(state.note.trim() && { note: state.note }) };
  if (state.kind === "thumbs") return { thumbs: state.places.map((place) => place === "up"), ...texts };
  if (state.kind === "correction") return texts;
  const ranks = state.places.map((place) => (place === F ? null : place));
  const reasons = Object.fromEntries(Object.entries(written(state.reasons)).filter(([card]) => state.places[card] === F));
  return { ranks, reasons, ...texts };
}

/** What one might think about once more. None of it keeps an answer from being sent. */
export function warnings(state) {
  const found = [];
  const tied = state.places.filter((_, card) => sharing(state.places, card).length > 0).length;
  if (state.ties === "sparing" && tied > 0) found.push(`${tied} completions share a rank: only those that are truly equal should.`);
  const silent = state.places.map((_, card) => card).filter((card) => state.places[card] === F && !state.reasons[card]?.trim());
  if (silent.length > 0) found.push(`Say why ${silent.map(letter).join(", ")} got an F, if you can.`);
  return found;
}

/** "B moved to rank 2 of 4, tied with C": where a completion is, after it was moved. */
export function whereabouts(state, card) {
  const place = state.places[card];
  if (place === null) return `${letter(card)} is back among the unranked`;
  if (place === F) return `${letter(card)} has an F${state.reasons[card] ? `: ${state.reasons[card]}` : ""}`;
  if (place === "up" || place === "down") return `${letter(card)} has a thumb ${place}`;
  const tied = sharing(state.places, card);
  return `${letter(card)} moved to rank ${place} of ${state.count}${tied.length > 0 ? `, tied with ${tied.map(letter).join(" and ")}` : ""}`;
}

/** What a key means for a completion: an action, or `null`. Page-wide keys are not known here. */
export function keyAction(state, card, { key, altKey = false, ctrlKey = false, metaKey = false, shiftKey = false }) {
  const plain = !altKey && !ctrlKey && !metaKey;
  const low = key.toLowerCase();
  if ((ctrlKey || metaKey) && !altKey && low === "z") return { type: shiftKey ? "redo" : "undo" };
  if ((ctrlKey && low === "y") || (plain && low === "y")) return { type: "redo" };
  if (altKey && (key === "ArrowUp" || key === "ArrowDown")) return { type: "move", card, by: key === "ArrowUp" ? -1 : 1 };
  if (!plain) return null;
  if (low === "z") return { type: "undo" };
  if (key === "Backspace" || key === "Delete") return { type: "unplace", card };
  if (state.kind === "thumbs") return { 1: { type: "thumb", card, up: true }, 2: { type: "thumb", card, up: false } }[key] ?? null;
  if (state.kind !== "ranking") return null;
  if (/^[1-9]$/.test(key)) return { type: "place", card, rank: Number(key) };
  return low === "f" ? { type: "flag", card } : low in REASONS ? { type: "flag", card, reason: REASONS[low] } : null;
}

/** A completion's name on the screen. There is no F: that is what a bad one gets. */
export function letter(card) {
  return "ABCDEGHIJKLMNOPQRSTUVWXYZ"[card] ?? `${card + 1}`;
}

/** The completions on the same rank as `card`, without it. Two Fs are no tie. */
export function sharing(places, card) {
  if (typeof places[card] !== "number") return [];
  return places.map((_, other) => other).filter((other) => other !== card && places[other] === places[card]);
}

/** The lowest rank that somebody is on; 0 where nobody is on any. */
function lastRank(places) {
  return Math.max(0, ...places.filter((place) => typeof place === "number"));
}

function put(places, card, place) {
  return places.map((other, index) => (index === card ? place : other));
}

function shifted(places, first, last, by) {
  return places.map((place) => (typeof place === "number" && place >= first && place <= last ? place + by : place));
}

function written(texts) {
  return Object.fromEntries(Object.entries(texts).filter(([, text]) => text.trim() !== ""));
}

function isRank(state, rank) {
  return state.kind === "ranking" && Number.isInteger(rank) && rank >= 1 && rank <= state.count;
}

function allowed(state, places) {
  const words = { ranking: [null, F], thumbs: [null, "up", "down"], correction: [null] }[state.kind];
  return Array.isArray(places) && places.length === state.count && places.every((place) => words.includes(place) || isRank(state, place));
}

function isTexts(texts) {
  return typeof texts === "object" && texts !== null && Object.values(texts).every((text) => typeof text === "string");
}
