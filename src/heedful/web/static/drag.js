// Dragging with whatever points: a mouse, a pen, a finger. A finger drags by the grip, as elsewhere it scrolls.

const FAR = 6;
const EDGE = 60;

/**
 * Make everything with `data-drag` inside `root` draggable.
 * `dropAt(card, x, y)` says what a drop there means ({target, how, action}), `drop(action, card)` does it.
 */
export function enableDragging(root, { allowed, dropAt, drop }) {
  root.addEventListener("pointerdown", (event) => {
    const source = event.target.closest("[data-drag]");
    const byGrip = event.target.closest(".grip");
    if (!source || event.button !== 0 || !event.isPrimary || !allowed() || (event.target.closest("button") && event.pointerType !== "mouse")) return;
    if (event.pointerType === "touch" && !byGrip) return;
    if (event.target.closest(".step")) return;
    new Drag(source, event, dropAt, drop);
  });
}

class Drag {
  #stop = new AbortController();
  #ghost = null;
  #found = null;

  constructor(source, event, dropAt, drop) {
    this.card = Number(source.dataset.drag);
    this.pointer = event.pointerId;
    this.start = { x: event.clientX, y: event.clientY };
    this.dropAt = dropAt;
    this.drop = drop;
    const options = { signal: this.#stop.signal };
    addEventListener("pointermove", (move) => move.pointerId === this.pointer && this.#move(move), options);
    addEventListener("pointerup", (up) => up.pointerId === this.pointer && this.#end(true), options);
    addEventListener("pointercancel", (gone) => gone.pointerId === this.pointer && this.#end(false), options);
    addEventListener("blur", () => this.#end(false), options);
    addEventListener("keydown", (key) => key.key === "Escape" && this.#end(false), options);
  }

  #move(event) {
    if (!this.#ghost && Math.hypot(event.clientX - this.start.x, event.clientY - this.start.y) < FAR) return;
    event.preventDefault();
    this.#ghost ??= this.#lift();
    this.#ghost.style.transform = `translate(${event.clientX + 10}px, ${event.clientY + 10}px)`;
    this.#scrollNearEdge(event.clientY);
    this.#show(this.dropAt(this.card, event.clientX, event.clientY));
  }

  #lift() {
    getSelection()?.removeAllRanges();
    document.body.classList.add("dragging");
    const ghost = document.createElement("div");
    ghost.className = "ghost";
    const name = document.querySelector(`#name-${this.card}`);
    ghost.textContent = name.lastChild.textContent;
    document.body.append(ghost);
    // The click that ends a drag is not a click on what was dragged.
    addEventListener("click", (click) => { click.preventDefault(); click.stopPropagation(); }, { capture: true, once: true, signal: this.#clickEnd() });
    return ghost;
  }

  #clickEnd() {
    const end = new AbortController();
    addEventListener("pointerup", () => setTimeout(() => end.abort(), 0), { once: true });
    return end.signal;
  }

  #show(found) {
    if (this.#found) this.#found.target.classList.remove("drop-into", "drop-before", "drop-after");
    if (found) found.target.classList.add(`drop-${found.how}`);
    this.#found = found;
  }

  #scrollNearEdge(y) {
    if (y < EDGE) scrollBy(0, -12);
    else if (y > innerHeight - EDGE) scrollBy(0, 12);
  }

  #end(dropped) {
    this.#stop.abort();
    document.body.classList.remove("dragging");
    const found = this.#found;
    this.#show(null);
    this.#ghost?.remove();
    if (dropped && this.#ghost && found) this.drop(found.action, this.card);
  }
}
