// What is read: the prompt, and a card for every completion, which stays where it is while it gets its place.

import { h, visible } from "./dom.js";
import { F, REASONS, letter, sharing } from "./ranking.js";

/** A prompt as nodes: a text, or a conversation of messages {role, content}. */
export function promptNodes(prompt) {
  if (typeof prompt === "string") return [h("div", { class: "text", dir: "auto" }, ...visible(prompt))];
  const names = { user: "User", assistant: "Assistant", system: "System", tool: "Tool" };
  const messages = prompt.map(({ role, content }) =>
    h("li", { class: `message ${role in names ? role : "other"}` },
      h("span", { class: "role" }, names[role] ?? h("bdi", {}, role)),
      h("div", { class: "text", dir: "auto" }, ...visible(content))));
  return [h("ol", { class: "conversation", "aria-label": "Conversation" }, ...messages)];
}

/** The cards of a task. `act(action)` is called with what the labeler does. */
export function buildCards(task, state, act) {
  return task.completions.map((completion, card) => buildCard(completion.text, card, state, act));
}

function buildCard(text, card, state, act) {
  const name = letter(card);
  const body = h("div", { class: "text", id: `text-${card}`, dir: "auto" }, ...visible(text));
  if (text === "") body.append(h("em", { class: "note" }, "(an empty text)"));
  return h("section", { class: "completion", role: "group", "data-card": card, "aria-labelledby": `name-${card} place-${card}`, tabindex: 0 },
    h("header", {},
      state.kind === "correction" ? null : h("span", { class: "grip", "data-drag": card, title: `Drag ${name} to a rank`, "aria-hidden": true }, "⠿"),
      h("h3", { id: `name-${card}` }, h("span", { class: "sr-only" }, "Completion "), name),
      h("span", { class: "badge place", id: `place-${card}` })),
    h("div", { class: "folding" }, body),
    h("button", { type: "button", class: "small quiet fold", hidden: true, onclick: (event) => toggleFold(event.currentTarget.closest(".completion")) }),
    state.kind === "correction" ? null : buildPlaces(card, state, act),
    state.kind === "ranking" ? buildReason(card, state, act) : null,
    buildCorrection(card, state, act));
}

/** The buttons that give a completion its place without dragging. */
export function buildPlaces(card, state, act) {
  const name = letter(card);
  const press = (event, action) => {
    act(action, card);
    // After a click Enter means "submit", not this button again. By keys (no clicks counted) the focus stays.
    if (event.detail > 0) event.currentTarget.closest(".completion")?.focus({ preventScroll: true });
  };
  const button = (place, text, label, action) =>
    h("button", { type: "button", class: "place-button", "data-place": place, "aria-pressed": false, "aria-label": label, title: label, onclick: (event) => press(event, action) }, text);
  if (state.kind === "thumbs")
    return h("div", { class: "places", role: "group", "aria-label": `Thumb for ${name}` },
      button("up", "▲ Up", `${name}: thumb up`, { type: "thumb", card, up: true }),
      button("down", "▼ Down", `${name}: thumb down`, { type: "thumb", card, up: false }));
  const ranks = Array.from({ length: state.count }, (_, index) => index + 1);
  return h("div", { class: "places", role: "group", "aria-label": `Rank of ${name}` },
    ...ranks.map((rank) => button(rank, `${rank}`, `${name}: rank ${rank} of ${state.count}`, { type: "place", card, rank })),
    button(F, "F", `${name}: F, nonsensical, confusing or irrelevant`, { type: "flag", card }));
}

function buildReason(card, state, act) {
  const field = h("input", { type: "text", maxlength: 2000, id: `reason-${card}`, autocomplete: "off", oninput: (event) => act({ type: "reason", card, text: event.currentTarget.value }) });
  field.value = state.reasons[card] ?? "";
  const choose = (reason) => h("button", { type: "button", class: "small", "data-reason": reason, "aria-pressed": false, onclick: () => act({ type: "reason", card, text: reason }, card) }, reason);
  return h("div", { class: "reason", hidden: true },
    h("label", { class: "label", for: `reason-${card}` }, `Why does ${letter(card)} get an F?`),
    h("div", { class: "row" }, ...Object.values(REASONS).map(choose)), field);
}

function buildCorrection(card, state, act) {
  const field = h("textarea", { id: `correction-${card}`, maxlength: 100000, dir: "auto", oninput: (event) => act({ type: "correct", card, text: event.currentTarget.value }) });
  field.value = state.corrections[card] ?? "";
  return h("details", { class: "correction", open: state.kind === "correction" || field.value !== "" },
    h("summary", {}, "Write what it should have said"),
    h("label", { class: "sr-only", for: `correction-${card}` }, `What ${letter(card)} should have said`), field);
}

/** Bring the cards in line with a state. `at`: the one that keys act on; `locked`: nothing can be changed now. */
export function showCards(cards, state, at, locked) {
  cards.forEach((element, card) => {
    const place = state.places[card];
    element.classList.toggle("at", card === at);
    element.classList.toggle("placed", place !== null);
    showPlace(element, state, card);
    element.querySelector(".badge.place").textContent = state.kind === "correction" ? "" : placeName(state, card);
    const reason = element.querySelector(".reason");
    if (reason) reason.hidden = place !== F;
    for (const button of element.querySelectorAll("[data-reason]")) button.setAttribute("aria-pressed", `${state.reasons[card] === button.dataset.reason}`);
    for (const [field, texts] of [[element.querySelector(".reason input"), state.reasons], [element.querySelector("textarea"), state.corrections]])
      if (field && field.value !== (texts[card] ?? "")) field.value = texts[card] ?? "";
    for (const control of element.querySelectorAll(".places button, .reason button, input, textarea")) control.disabled = locked;
  });
}

/** Press the button of the place that a completion has, inside `element`. */
export function showPlace(element, state, card) {
  for (const button of element.querySelectorAll("[data-place]")) button.setAttribute("aria-pressed", `${String(state.places[card]) === button.dataset.place}`);
}

function placeName(state, card) {
  const place = state.places[card];
  if (place === null) return state.kind === "thumbs" ? "no thumb yet" : "unranked";
  if (typeof place !== "number") return place === F ? "F" : `thumb ${place}`;
  const tied = sharing(state.places, card);
  return tied.length > 0 ? `rank ${place}, tied with ${tied.map(letter).join(", ")}` : `rank ${place}`;
}

/** Fold what is long; to be called when the texts are on the page. */
export function foldLong(elements) {
  for (const element of elements) {
    const folding = element.querySelector(".folding");
    folding.classList.add("folded");
    const long = folding.scrollHeight > folding.clientHeight + 40;
    folding.classList.toggle("folded", long);
    const button = element.querySelector(".fold");
    button.hidden = !long;
    labelFold(button, long);
  }
}

/** Show all of a long text, or its beginning. */
export function toggleFold(element) {
  const button = element.querySelector(".fold");
  if (!button.hidden) labelFold(button, element.querySelector(".folding").classList.toggle("folded"));
}

function labelFold(button, folded) {
  button.textContent = folded ? "Show all of it" : "Show less";
  button.setAttribute("aria-expanded", `${!folded}`);
}
