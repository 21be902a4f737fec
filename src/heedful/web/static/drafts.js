// Work that the server has not confirmed yet stays in this browser, one draft per user, project and task.
//
// A draft is {key, state, activeMs, sent}: `key` makes sending it twice the same as once, `state` is the
// state machine's, and `sent` is the body of the request as soon as somebody pressed Submit. A draft
// whose `sent` is there is sent again when the page opens next, whatever happened in between; where new
// instructions have come since, once they are read, under their version.

const OLD_MS = 60 * 24 * 3600 * 1000;

/** A key that nobody has had before. Not by randomUUID, which browsers keep from pages that came unencrypted. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Drafts {
  #storage; #prefix;

  /** `storage`: localStorage, or anything with its methods. `user` and `project` keep people on one machine apart. */
  constructor(storage, user, project) {
    this.#storage = storage;
    this.#prefix = `heedful draft ${JSON.stringify([user, project])} `;
  }

  /** The draft of a task; a new one, with a key of its own, where there is none. */
  open(token, fresh = newKey) {
    return this.#read(this.#prefix + token) ?? { key: fresh(), state: null, activeMs: 0, sent: null };
  }

  /** Keep a draft. Raises what the storage raises where it is full or switched off. */
  keep(token, draft, now = Date.now()) {
    this.#storage.setItem(this.#prefix + token, JSON.stringify({ ...draft, at: now }));
  }

  /** The server has it. */
  drop(token) {
    this.#storage.removeItem(this.#prefix + token);
  }

  /** Every draft that was sent and not confirmed, as [token, draft]. */
  unconfirmed() {
    return this.#mine().map((name) => [name.slice(this.#prefix.length), this.#read(name)]).filter(([, draft]) => draft?.sent);
  }

  /** The task that a storage event is about; `null` where it is not about a draft of these. */
  taskOf(name) {
    return name?.startsWith(this.#prefix) ? name.slice(this.#prefix.length) : null;
  }

  /** Forget drafts that nobody sent in two months. What was sent is kept until it is confirmed. */
  forgetOld(now = Date.now()) {
    for (const name of this.#mine()) {
      const draft = this.#read(name);
      if (!draft?.sent && !(now - draft?.at < OLD_MS)) this.#storage.removeItem(name);
    }
  }

  #mine() {
    return Array.from({ length: this.#storage.length }, (_, index) => this.#storage.key(index)).filter((name) => name.startsWith(this.#prefix));
  }

  #read(name) {
    try {
      const draft = JSON.parse(this.#storage.getItem(name));
      return typeof draft?.key === "string" && Number.isFinite(draft.activeMs) ? draft : null;
    } catch {
      return null; // damaged: as if it was not there
    }
  }
}

/** localStorage where it works; else a memory that lasts as long as the page. */
export function storageThatWorks() {
  try {
    localStorage.setItem("heedful probe", "1");
    localStorage.removeItem("heedful probe");
    return localStorage;
  } catch {
    const kept = new Map();
    return {
      get length() { return kept.size; },
      key: (index) => [...kept.keys()][index],
      getItem: (name) => kept.get(name) ?? null,
      setItem: (name, text) => kept.set(name, text),
      removeItem: (name) => kept.delete(name),
    };
  }
}
