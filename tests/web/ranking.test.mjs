// The state machine of a task, by `node --test`. Hand-worked cases, a second opinion (what a list of tiers would do) and laws.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as ranking from "../../src/heedful/web/static/ranking.js";

const { begin, reduce, answer, waiting, keyAction, nextWaiting, whereabouts } = ranking;

function play(state, ...actions) {
  return actions.reduce(reduce, state);
}

function type(state, keys) {
  let card = nextWaiting(state) ?? 0;
  for (const key of keys) {
    state = reduce(state, keyAction(state, card, typeof key === "string" ? { key } : key));
    card = nextWaiting(state, card) ?? card;
  }
  return state;
}

const place = (card, rank) => ({ type: "place", card, rank });
const insert = (card, rank) => ({ type: "insert", card, rank });
const move = (card, by) => ({ type: "move", card, by });

function randomActions(count, seed) {
  let x = seed;
  const draw = (n) => (x = (x * 1103515245 + 12345) % 2147483648) % n;
  const types = ["place", "insert", "flag", "move", "unplace", "undo", "redo", "place", "move"];
  return Array.from({ length: 60 }, () => ({ type: types[draw(types.length)], card: draw(count), rank: 1 + draw(count), by: draw(2) ? 1 : -1, up: draw(2) === 1 }));
}

test("nothing is placed at first: the order shown is not an answer", () => {
  const state = begin("ranking", 4);
  assert.deepEqual(state.places, [null, null, null, null]);
  assert.equal(waiting(state), 4);
});

test("four completions are ranked in four keys, with ties and Fs", () => {
  assert.deepEqual(answer(type(begin("ranking", 4), "2131")), { ranks: [2, 1, 3, 1], reasons: {}, corrections: {} });
  assert.deepEqual(answer(type(begin("ranking", 4), "f1n2")), { ranks: [null, 1, null, 2], reasons: { 2: "nonsensical" }, corrections: {} });
  assert.deepEqual(answer(type(begin("ranking", 4), "nciF")).ranks, [null, null, null, null]);
});

test("every ranking of four with ties and Fs takes four keys, and comes out as it went in", () => {
  let seen = 0;
  for (let code = 0; code < 5 ** 4; code += 1) {
    const wanted = [0, 1, 2, 3].map((card) => Math.floor(code / 5 ** card) % 5 || null);
    const used = [...new Set(wanted.filter(Boolean))].sort();
    if (used.some((rank, index) => rank !== index + 1)) continue; // a rank that nobody is on
    seen += 1;
    assert.deepEqual(answer(type(begin("ranking", 4), wanted.map((rank) => (rank ? `${rank}` : "f")))).ranks, wanted);
  }
  // Weak orders of 0..4 things are 1, 1, 3, 13, 75 (Fubini numbers): sum of C(4, k) times these.
  assert.equal(seen, 1 + 4 * 1 + 6 * 3 + 4 * 13 + 75);
});

test("ranks that nobody is on close up when everything is placed, and not before", () => {
  const three = type(begin("ranking", 4), "144");
  assert.deepEqual(three.places, [1, 4, 4, null]);
  assert.deepEqual(type(three, "3").places, [1, 3, 3, 2]);
  assert.deepEqual(type(begin("ranking", 4), "1224").places, [1, 2, 2, 3]);
});

test("insert takes a rank of its own, before what stands there", () => {
  assert.deepEqual(play(begin("ranking", 4), place(0, 1), place(1, 2), insert(2, 2)).places, [1, 3, 2, null]);
  assert.deepEqual(play(begin("ranking", 3), place(0, 2), place(1, 3), insert(2, 3)).places, [1, 3, 2]);
  assert.deepEqual(play(begin("ranking", 3), place(0, 3), place(1, 3), insert(2, 4)).places, [1, 1, 2], "after the last");
  assert.deepEqual(play(begin("ranking", 3), place(0, 1), place(1, 1), place(2, 2), insert(0, 1)).places, [1, 2, 3], "out of a tie");
});

test("a step is half a rank where ties are allowed: into a tie, and out of it", () => {
  let state = type(begin("ranking", 3), "123");
  const steps = [[2, -1], [2, -1], [2, -1], [2, -1], [2, -1], [2, 1], [0, 1]];
  const expected = [[1, 2, 2], [1, 3, 2], [1, 2, 1], [2, 3, 1], [2, 3, 1], [1, 2, 1], [2, 3, 1]];
  steps.forEach(([card, by], index) => {
    state = reduce(state, move(card, by));
    assert.deepEqual(state.places, expected[index], `step ${index}`);
  });
});

test("a step out of the tray or an F goes to the end", () => {
  assert.deepEqual(play(begin("ranking", 3), place(0, 1), move(1, -1)).places, [1, 2, null]);
  const flagged = type(begin("ranking", 3), "f12");
  assert.deepEqual(reduce(flagged, move(0, -1)).places, [3, 1, 2]);
  assert.equal(reduce(flagged, move(0, 1)), flagged);
});

test("without ties, a taken rank is opened up and a step swaps", () => {
  const none = begin("ranking", 3, "none");
  assert.deepEqual(type(none, "111").places, [3, 2, 1]);
  assert.deepEqual(reduce(type(none, "123"), move(2, -1)).places, [1, 3, 2]);
  assert.deepEqual(type(none, "333").places, [3, 1, 2], "no room below: what is above moves up");
});

test("ties warn where they should be rare, and never block", () => {
  const tied = type(begin("ranking", 3, "sparing"), "112");
  assert.equal(ranking.warnings(tied).length, 1);
  assert.match(ranking.warnings(tied)[0], /^2 completions share a rank/);
  assert.equal(waiting(tied), 0);
  assert.deepEqual(ranking.warnings(type(begin("ranking", 3, "free"), "112")), []);
  assert.deepEqual(ranking.warnings(type(begin("ranking", 2), "f1")), ["Say why A got an F, if you can."]);
  assert.deepEqual(ranking.warnings(type(begin("ranking", 2), "n1")), []);
});

test("reasons belong to Fs only, corrections to anything; blank ones are nothing", () => {
  const state = play(type(begin("ranking", 3), "n12"), { type: "correct", card: 1, text: "Better." }, { type: "correct", card: 2, text: "  " });
  assert.deepEqual(answer(state), { ranks: [null, 1, 2], reasons: { 0: "nonsensical" }, corrections: { 1: "Better." } });
  assert.deepEqual(answer(reduce(state, place(0, 1))).reasons, {});
});

test("undo and redo walk through what was done; something new ends the redo", () => {
  const done = type(begin("ranking", 3), "132");
  const back = play(done, { type: "undo" }, { type: "undo" });
  assert.deepEqual(back.places, [1, null, null]);
  assert.deepEqual(play(back, { type: "redo" }, { type: "redo" }).places, [1, 3, 2]);
  const other = reduce(back, place(1, 1));
  assert.equal(reduce(other, { type: "redo" }), other);
  assert.equal(reduce(begin("ranking", 3), { type: "undo" }).past.length, 0);
});

test("what a screen reader hears", () => {
  const state = type(begin("ranking", 4), "122");
  assert.equal(whereabouts(state, 1), "B moved to rank 2 of 4, tied with C");
  assert.equal(whereabouts(state, 0), "A moved to rank 1 of 4");
  assert.equal(whereabouts(state, 3), "D is back among the unranked");
  assert.equal(whereabouts(type(state, "i"), 3), "D has an F: irrelevant");
  assert.deepEqual([5, 6, 8].map(ranking.letter), ["G", "H", "J"], "no completion is called F");
});

test("thumbs are up or down, all of them", () => {
  const thumbs = type(begin("thumbs", 3), "121");
  assert.deepEqual(answer(thumbs), { thumbs: [true, false, true], corrections: {} });
  assert.equal(waiting(type(begin("thumbs", 3), "12")), 1);
});

test("a correction is enough where corrections are asked for", () => {
  const state = begin("correction", 2);
  assert.equal(waiting(state), 1);
  const mended = reduce(state, { type: "correct", card: 1, text: "So." });
  assert.equal(waiting(mended), 0);
  assert.deepEqual(answer(mended), { corrections: { 1: "So." } });
});

test("a note goes along, where there is one", () => {
  const state = reduce(type(begin("thumbs", 1), "1"), { type: "note", text: "A phone number." });
  assert.deepEqual(answer(state), { thumbs: [true], corrections: {}, note: "A phone number." });
  assert.deepEqual(answer(reduce(state, { type: "note", text: " " })), { thumbs: [true], corrections: {} });
});

test("an answer that is reopened gives the same answer, and can be changed", () => {
  const given = { ranks: [2, null, 1, 2], reasons: { 1: "confusing" }, corrections: { 0: "x" } };
  const state = ranking.reopen(begin("ranking", 4), given);
  assert.deepEqual(answer(state), given);
  assert.deepEqual(answer(reduce(state, place(3, 1))).ranks, [2, null, 1, 1]);
  assert.deepEqual(answer(ranking.reopen(begin("ranking", 3), { ranks: [1, 3, 3], reasons: {}, corrections: {} })).ranks, [1, 2, 2]);
  assert.deepEqual(answer(ranking.reopen(begin("thumbs", 2), { thumbs: [true, false] })).thumbs, [true, false]);
});

test("a draft survives its way through text; another task's or a damaged one is refused", () => {
  const state = play(type(begin("ranking", 3), "n1"), { type: "undo" });
  const again = ranking.restore(begin("ranking", 3), JSON.parse(JSON.stringify(state)));
  assert.deepEqual(again, state);
  const fresh = begin("ranking", 3);
  for (const bad of [null, 7, {}, { ...state, count: 2 }, { ...state, kind: "thumbs" }, { ...state, places: [1, 9, null] }, { ...state, past: [[1]] }, { ...state, past: 3 }, { ...state, reasons: { 0: 5 } }, { ...state, corrections: null }, { ...state, note: 1 }])
    assert.equal(ranking.restore(fresh, bad), fresh, JSON.stringify(bad));
});

test("what does not fit is ignored", () => {
  const state = type(begin("ranking", 3), "1");
  for (const action of [{ type: "jump" }, { type: "constructor" }, place(3, 1), place(-1, 1), place(0.5, 1), place(0, 0), place(0, 4), place(0, 1.5), place(0, "2"), insert(0, 5), { type: "thumb", card: 0, up: true }])
    assert.equal(reduce(state, action), state, JSON.stringify(action));
  const thumbs = begin("thumbs", 2);
  for (const action of [place(0, 1), insert(0, 1), move(0, -1), { type: "flag", card: 0 }]) assert.equal(reduce(thumbs, action), thumbs);
});

test("keys with Ctrl, Meta or Alt are the browser's, but for undo, redo and steps", () => {
  const state = begin("ranking", 4);
  for (const held of [{ ctrlKey: true }, { metaKey: true }, { altKey: true }]) for (const key of ["1", "f", "n", "c", "Backspace"]) assert.equal(keyAction(state, 0, { key, ...held }), null);
  assert.deepEqual(keyAction(state, 0, { key: "z", ctrlKey: true }), { type: "undo" });
  assert.deepEqual(keyAction(state, 0, { key: "Z", ctrlKey: true, shiftKey: true }), { type: "redo" });
  assert.deepEqual(keyAction(state, 2, { key: "ArrowUp", altKey: true }), move(2, -1));
  assert.equal(keyAction(state, 0, { key: "Tab" }), null);
  assert.equal(keyAction(begin("correction", 1), 0, { key: "1" }), null);
});

for (const ties of ["none", "sparing", "free"])
  test(`laws that hold whatever is done, with ties ${ties}`, () => {
    for (let seed = 1; seed <= 60; seed += 1) {
      const count = 2 + (seed % 8);
      let state = begin("ranking", count, ties);
      for (const action of randomActions(count, seed)) {
        for (const part of [state, ...Object.values(state)]) Object.freeze(part); // a state that is changed throws
        const next = reduce(state, action);
        const ranks = next.places.filter((rank) => typeof rank === "number");
        assert.ok(ranks.every((rank) => rank >= 1 && rank <= count));
        if (waiting(next) === 0) assert.equal(Math.max(0, ...ranks), new Set(ranks).size, "no empty rank");
        if (ties === "none") assert.equal(new Set(ranks).size, ranks.length, "no tie");
        if (action.type === "insert" && next !== state) checkOrderKept(state, next, action.card);
        if (next !== state && !["undo", "redo"].includes(action.type)) assert.deepEqual(reduce(next, { type: "undo" }).places, state.places);
        state = next;
      }
    }
  });

function checkOrderKept(before, after, card) {
  const others = before.places.map((_, other) => other).filter((other) => other !== card && typeof before.places[other] === "number");
  for (const a of others) for (const b of others) assert.equal(Math.sign(before.places[a] - before.places[b]), Math.sign(after.places[a] - after.places[b]), "the others keep their order");
  assert.deepEqual(ranking.sharing(after.places, card), [], "a rank of its own");
}
