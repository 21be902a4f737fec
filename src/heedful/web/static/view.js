// The labelling page as the labeler sees it: everything that is shown, nothing that is decided.

import { dropAt, showBoard } from "./board.js";
import { buildCards, buildPlaces, foldLong, promptNodes, showCards, showPlace, toggleFold } from "./cards.js";
import { find, h, visible } from "./dom.js";
import { enableDragging } from "./drag.js";
import { letter, waiting, warnings } from "./ranking.js";

export class View {
  #task = null;
  #cards = [];
  #shown = null;
  #act;

  /** `act(action, card)` hears what the labeler does; `ends` names both ends of the scale. */
  constructor(ends, act) {
    this.ends = ends;
    this.#act = act;
    enableDragging(find("#task"), {
      allowed: () => this.#shown !== null && !this.#shown.locked,
      dropAt: (card, x, y) => dropAt(find("#board"), this.#shown.state, card, x, y),
      drop: (action, card) => this.#act(action, card),
    });
  }

  /** Another task. The focus goes to its prompt, so that it is read first. */
  open(task, state) {
    this.#task = task;
    this.#cards = buildCards(task, state, this.#act);
    find("#prompt-body .folding").replaceChildren(...promptNodes(task.prompt));
    find("#completions").replaceChildren(...this.#cards);
    find("#compare-open").hidden = task.completions.length < 2;
    find("#board").hidden = state.kind === "correction";
    find("#history").hidden = state.kind === "correction";
    this.#only("#task");
    foldLong([find("#prompt-body"), ...this.#cards]);
    scrollTo(0, 0);
    find("#prompt-title").focus({ preventScroll: true });
  }

  /** Nothing to do: why, in a sentence. */
  nothing(sentence) {
    this.#task = this.#shown = null;
    find("#nothing-text").textContent = sentence;
    this.#only("#nothing");
    find("#nothing-title").focus();
  }

  #only(selector) {
    for (const part of ["#loading", "#task", "#nothing"]) find(part).hidden = part !== selector;
  }

  /** Bring the page in line with a state. */
  show(state, at, locked) {
    this.#shown = { state, locked };
    showCards(this.#cards, state, at, locked);
    if (state.kind !== "correction") showBoard(find("#board"), this.#task, state, this.ends, this.#act, (card) => this.goTo(card), locked);
    for (const places of document.querySelectorAll("#compare-columns [data-card]")) showPlace(places, state, Number(places.dataset.card));
    if (find("#note").value !== state.note) find("#note").value = state.note;
    find("#note").disabled = locked;
    find("#undo").disabled = locked || state.past.length === 0;
    find("#redo").disabled = locked || state.future.length === 0;
    this.#warn(warnings(state));
    this.#showSubmit(state, locked);
  }

  /** What changes is read aloud, so nothing is changed that stays the same. */
  #warn(sentences) {
    if (find("#warnings").textContent !== sentences.join("")) find("#warnings").replaceChildren(...sentences.map((sentence) => h("p", {}, sentence)));
  }

  #showSubmit(state, locked) {
    const left = waiting(state);
    const what = state.kind === "thumbs" ? "without a thumb" : "unranked";
    find("#submit").disabled = locked || left > 0;
    find("#skip").disabled = locked;
    find("#left").textContent =
      locked ? "Sending…"
      : left === 0 ? "Ready: press Enter, or the button."
      : state.kind === "correction" ? "Correct at least one completion."
      : `${left} ${left === 1 ? "completion is" : "completions are"} still ${what}.`;
  }

  goTo(card) {
    this.#cards[card]?.focus();
  }

  toggleFold(card) {
    if (this.#cards[card]) toggleFold(this.#cards[card]);
  }

  /** The completion that an element belongs to, `null` for none. */
  cardOf(element) {
    const found = element.closest?.("[data-card], [data-drag]");
    return found ? Number(found.dataset.card ?? found.dataset.drag) : null;
  }

  /** Completions beside each other, in full. */
  compare() {
    const { state } = this.#shown;
    const columns = this.#task.completions.map(({ text }, card) =>
      h("section", { class: "column", "data-card": card, "aria-label": `Completion ${letter(card)}` },
        h("h3", {}, letter(card)),
        state.kind === "correction" ? null : buildPlaces(card, state, this.#act),
        h("div", { class: "text", dir: "auto", tabindex: 0, role: "region", "aria-label": `Text of ${letter(card)}` }, ...visible(text))));
    const toggle = (card) => h("label", { class: "choice" }, h("input", { type: "checkbox", checked: true, onchange: (event) => (columns[card].hidden = !event.currentTarget.checked) }), letter(card));
    find("#compare-which").replaceChildren(...columns.map((_, card) => toggle(card)));
    find("#compare-columns").replaceChildren(...columns);
    columns.forEach((column, card) => showPlace(column, state, card));
    find("#compare").showModal();
  }

  // What is said

  /** For ears: a polite announcement. The same sentence twice is heard twice. */
  say(sentence) {
    const region = find("#live");
    region.textContent = region.textContent === sentence ? `${sentence}\u00a0` : sentence;
  }

  /** For eyes: where the work is. */
  status(sentence) {
    if (find("#status").textContent !== sentence) find("#status").textContent = sentence;
  }

  progress({ done, today }) {
    find("#progress").textContent = `${done} judged, ${today} of them today`;
  }

  /** A sentence that stays until the next task, with what is wrong. */
  problem(sentence) {
    find("#problem").hidden = !sentence;
    find("#problem-text").textContent = sentence;
  }

  /** The red bar; no sentence takes it away. */
  trouble(sentence) {
    if (find("#trouble-text").textContent !== sentence) find("#trouble-text").textContent = sentence;
    find("#trouble").hidden = sentence === "";
  }
}
