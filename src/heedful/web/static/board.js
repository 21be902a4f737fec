// Where the ranking takes shape: a tray of what has no place yet, and a lane for every place.

import { beginning, h, visible } from "./dom.js";
import { F, letter } from "./ranking.js";

/** The lanes of a task, from the top: {place, title, hint}. */
function lanesOf(state) {
  if (state.kind === "thumbs") return [{ place: "up", title: "▲", hint: "thumb up" }, { place: "down", title: "▼", hint: "thumb down" }];
  return Array.from({ length: state.count }, (_, index) => ({ place: index + 1, title: `${index + 1}`, hint: "" }));
}

const F_LANE = { place: F, title: "F", hint: "nonsensical, confusing or irrelevant" };

/** The board in line with a state: built anew, with the focus where it was. */
export function showBoard(board, task, state, ends, act, goTo, locked) {
  const focused = board.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
  const chip = (card) => buildChip(card, task, state, act, goTo, locked);
  const on = (place) => state.places.map((_, card) => card).filter((card) => state.places[card] === place);
  const lane = (tag, { place, title, hint }) =>
    h(tag, { class: `lane${place === F ? " f" : ""}`, "data-place": place },
      h("span", { class: "lane-title" }, h("span", { class: "sr-only" }, typeof place === "number" ? "Rank " : ""), title),
      h("div", { class: "chips" }, ...on(place).map(chip), hint && on(place).length === 0 ? h("span", { class: "lane-hint" }, hint) : null));
  const unplaced = on(null);
  board.replaceChildren(
    h("div", { class: "tray", "data-place": "tray" },
      h("h3", {}, state.kind === "thumbs" ? "No thumb yet" : "Unranked", h("span", { class: "badge" }, `${unplaced.length}`)),
      h("div", { class: "chips" }, ...unplaced.map(chip), unplaced.length === 0 ? h("span", { class: "lane-hint" }, "Everything has its place.") : null)),
    end(ends.first, state),
    h("ol", { class: "lanes", "aria-label": state.kind === "thumbs" ? "Thumbs" : "Ranks, from most to least" }, ...lanesOf(state).map((each) => lane("li", each))),
    end(ends.last, state),
    state.kind === "ranking" ? lane("div", F_LANE) : "");
  if (focused) (board.querySelector(`[data-focus="${focused}"]`) ?? board.querySelector("[data-focus]"))?.focus();
}

function end(text, state) {
  return state.kind === "ranking" ? h("p", { class: "lane-end" }, text) : "";
}

function buildChip(card, task, state, act, goTo, locked) {
  const name = letter(card);
  const step = (by, text, label) =>
    h("button", { type: "button", class: "step", "data-focus": `${by}:${card}`, "aria-label": label, title: label, disabled: locked, onclick: () => act({ type: "move", card, by }, card) }, text);
  const steps = state.kind === "ranking" && state.places[card] !== null;
  return h("div", { class: "chip", "data-drag": card },
    h("span", { class: "grip", "aria-hidden": true }, "⠿"),
    h("button", { type: "button", class: "chip-name", "data-focus": `go:${card}`, title: `Go to ${name}`, onclick: () => goTo(card) },
      h("strong", {}, name), h("span", { class: "chip-text" }, ...visible(beginning(task.completions[card].text)))),
    steps ? step(-1, "↑", `Move ${name} up`) : null,
    steps && state.places[card] !== F ? step(+1, "↓", `Move ${name} down`) : null);
}

/** The action that dropping `card` at a point means, and how to show it; `null` where nothing is. */
export function dropAt(board, state, card, x, y) {
  const target = document.elementFromPoint(x, y)?.closest("[data-place]");
  if (!target || !board.contains(target)) return null;
  const place = target.dataset.place;
  if (place === "tray") return { target, how: "into", action: { type: "unplace", card } };
  if (place === F) return { target, how: "into", action: { type: "flag", card } };
  if (state.kind === "thumbs") return { target, how: "into", action: { type: "thumb", card, up: place === "up" } };
  return dropOnRank(target, state, card, Number(place), y);
}

/** The middle of a rank means beside what is there, its upper and lower edge a rank of its own before or after it. */
function dropOnRank(target, state, card, rank, y) {
  const taken = state.places.some((place, other) => other !== card && place === rank);
  if (!taken) return { target, how: "into", action: { type: "place", card, rank } };
  const box = target.getBoundingClientRect();
  const depth = (y - box.top) / box.height;
  const edge = state.ties === "none" ? 0.5 : 0.28;
  if (depth < edge) return { target, how: "before", action: { type: "insert", card, rank } };
  if (depth > 1 - edge) return { target, how: "after", action: { type: "insert", card, rank: rank + 1 } };
  return { target, how: "into", action: { type: "place", card, rank } };
}
