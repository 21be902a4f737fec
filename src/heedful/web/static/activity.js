// How long somebody worked on a task: with the page in view, and no longer than IDLE_MS after their last sign of life.
// Pure but for the time, which the caller brings (milliseconds, from any clock that does not go back).

export const IDLE_MS = 2 * 60 * 1000;

export class ActiveTime {
  #sum; #last; #inView;

  /** From `now` on; `already` counts what a draft had before. */
  constructor(now, already = 0) {
    this.#sum = already;
    this.#last = now;
    this.#inView = true;
  }

  /** A key, a click, a scroll. */
  touch(now) {
    this.#sum = this.total(now);
    this.#last = now;
  }

  /** The page went out of view, or came back into it. Coming back is a sign of life. */
  show(inView, now) {
    this.touch(now);
    this.#inView = inView;
  }

  /** Whether somebody is at it. */
  active(now) {
    return this.#inView && now - this.#last < IDLE_MS;
  }

  /** Milliseconds worked until `now`. */
  total(now) {
    return Math.round(this.#sum + (this.#inView ? Math.min(Math.max(now - this.#last, 0), IDLE_MS) : 0));
  }
}
