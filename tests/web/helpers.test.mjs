// Active time, drafts and sending, by `node --test`: with a clock, a storage and a network that the test turns.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ActiveTime, IDLE_MS } from "../../src/heedful/web/static/activity.js";
import { Drafts, storageThatWorks } from "../../src/heedful/web/static/drafts.js";
import { isPassing, persistently, post } from "../../src/heedful/web/static/sending.js";

const minutes = (n) => n * 60_000;

test("active time ends two minutes after the last sign of life", () => {
  const time = new ActiveTime(0);
  time.touch(minutes(1));
  assert.equal(time.total(minutes(2)), minutes(2));
  assert.equal(time.total(minutes(60)), minutes(3), "one minute, and two until idle");
  assert.ok(!time.active(minutes(60)));
  time.touch(minutes(60));
  time.touch(minutes(61));
  assert.equal(time.total(minutes(61)), minutes(4), "the hour away does not count");
  assert.equal(IDLE_MS, minutes(2));
});

test("active time stands still while the page is out of view", () => {
  const time = new ActiveTime(0, minutes(5));
  time.show(false, minutes(1));
  assert.equal(time.total(minutes(9)), minutes(6));
  assert.ok(!time.active(minutes(1)));
  time.show(true, minutes(9));
  assert.equal(time.total(minutes(10)), minutes(7));
  assert.ok(time.active(minutes(10)));
});

test("many signs of life count no time twice", () => {
  const time = new ActiveTime(0);
  for (let ms = 0; ms <= minutes(3); ms += 500) time.touch(ms);
  assert.equal(time.total(minutes(3)), minutes(3));
});

test("a clock that goes back takes nothing away", () => {
  const time = new ActiveTime(1000);
  assert.equal(time.total(0), 0);
});

const draft = { key: "k1", state: { places: [1] }, activeMs: 5, sent: null };

test("a draft comes back as it was, and only to whom it belongs", () => {
  const storage = storageThatWorks();
  const mine = new Drafts(storage, "ann", "p");
  mine.keep("t1", draft, 0);
  assert.deepEqual(mine.open("t1"), { ...draft, at: 0 });
  assert.equal(new Drafts(storage, "bob", "p").open("t1", () => "new").key, "new");
  assert.equal(new Drafts(storage, "ann", "p q").open("t1", () => "new").key, "new");
  mine.drop("t1");
  assert.deepEqual(mine.open("t1", () => "new"), { key: "new", state: null, activeMs: 0, sent: null });
});

test("only what was sent is unconfirmed; what was sent is never forgotten", () => {
  const storage = storageThatWorks();
  const mine = new Drafts(storage, "ann", "p");
  mine.keep("old", draft, 0);
  mine.keep("sent", { ...draft, sent: { token: "sent" } }, 0);
  mine.keep("new", draft, minutes(200_000));
  new Drafts(storage, "bob", "p").keep("his", { ...draft, sent: {} }, 0);
  assert.deepEqual(mine.unconfirmed().map(([token]) => token), ["sent"]);
  mine.forgetOld(minutes(200_001));
  assert.deepEqual(["old", "sent", "new"].map((token) => mine.open(token, () => "gone").key), ["gone", "k1", "k1"]);
});

test("a damaged draft is as none", () => {
  const storage = storageThatWorks();
  const mine = new Drafts(storage, "ann", "p");
  mine.keep("t", draft);
  const name = storage.key(0);
  for (const text of ["{", "null", "3", '{"key": 3}', '{"key": "k"}']) {
    storage.setItem(name, text);
    assert.equal(mine.open("t", () => "new").key, "new", text);
  }
  assert.equal(mine.taskOf(name), "t");
  assert.equal(mine.taskOf("heedful-theme"), null);
  assert.equal(mine.taskOf(null), null);
});

test("a request goes again until an answer comes, and waits longer each time", async () => {
  const told = (status, after = 0) => ({ status, after });
  const answers = [told(0), told(503), told(429, 7000), told(500), told(0), told(429, 90000), { status: 409, data: 1 }];
  const heard = [];
  const waited = [];
  const answer = await persistently(async () => answers.shift(), (status) => heard.push(status), async (ms) => waited.push(ms));
  assert.deepEqual(answer, { status: 409, data: 1 });
  assert.deepEqual(heard, [0, 503, 429, 500, 0, 429]);
  assert.deepEqual(waited, [1000, 2000, 7000, 8000, 15000, 60000], "or as long as the server says, up to a minute");
});

test("what no waiting mends is passed on at once", () => {
  assert.deepEqual([0, 200, 400, 401, 403, 404, 408, 409, 422, 429, 500, 502, 503].filter(isPassing), [0, 408, 429, 500, 502, 503]);
});

test("no network, and a page that is not ours, are no answer", async () => {
  const respond = (ok, status, json, wait = null) => async () => ({ ok, status, json, headers: new Headers(wait ? { "Retry-After": wait } : {}) });
  const bad = async () => { throw new SyntaxError("<html>"); };
  assert.deepEqual(await post("/", {}, "c", async () => { throw new TypeError("offline"); }), { status: 0, data: null, after: 0 });
  assert.deepEqual(await post("/", {}, "c", respond(true, 200, bad)), { status: 0, data: null, after: 0 });
  assert.deepEqual(await post("/", {}, "c", respond(false, 502, bad)), { status: 502, data: null, after: 0 });
  assert.deepEqual(await post("/", {}, "c", respond(false, 429, bad, "3")), { status: 429, data: null, after: 3000 });
  assert.deepEqual(await post("/", {}, "c", respond(true, 200, async () => ({ stored: true }))), { status: 200, data: { stored: true }, after: 0 });
});

test("a request carries the token of the session and its body", async () => {
  let sent;
  await post("/x", { a: 1 }, "token", async (url, options) => { sent = [url, options]; return { ok: true, status: 200, json: async () => ({}) }; });
  assert.equal(sent[0], "/x");
  assert.equal(sent[1].headers["X-CSRF-Token"], "token");
  assert.equal(sent[1].body, '{"a":1}');
});
