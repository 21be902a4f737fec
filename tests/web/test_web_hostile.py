"""Hostile text, in every place where a text goes in, seen from every page where it comes out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
import schemathesis
from apps import Browser, person
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from heedful.records import Completion, Prompt
from heedful.store import Store, accounts, api_tokens, comprehension, labelers
from heedful.store.comprehension import Question
from heedful.store.names import LONGEST_REASON
from heedful.web import forms
from heedful.web.drawings import inline
from heedful.web.texts import difference, local_path, markdown
from stores import Clock, items, project


@pytest.fixture
def store(where: str, clock: Clock) -> Iterator[Store]:
    """In either database: what one of them takes, the other may choke on."""
    with Store.open(where, clock=clock) as opened:
        yield opened


PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg/onload=alert(1)>',
    "'-alert(1)-'",
    "</textarea><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "javascript:alert(1)",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt&colon;alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "![x](https://evil.example/pixel.png)",
    "<https://evil.example/?<script>>",
    "{{ 7*7 }}{% include '/etc/passwd' %}${7*7}#{7*7}",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "<a href=vbscript:alert(1)>x</a><base href=//evil.example/>",
    "\u202egpj.exe\u202c\u2066x\u2069\u200f",
    "<ScRiPt\x0b>alert(1)</sCrIpT>",
    '=HYPERLINK("https://evil.example")',
    "../../../etc/passwd%00.jsonl",
    "\r\nSet-Cookie: heedful=evil\r\n\r\n<script>",
    "' OR 1=1; DROP TABLE slot; --",
    "A" * 5000 + "<b>",
]
TAGS = set(
    "html head meta title link script body header a img nav div button span form input main p h1 h2 h3 section table thead tbody "  # noqa: SIM905
    "tr th td caption dl dt dd small code kbd details summary label select option textarea fieldset legend ul ol li strong em "
    "article ins del bdi figure progress datalist blockquote pre br hr s dialog noscript b svg "
    "g path text defs use tspan clippath rect".split()
)


LEADS = ("href", "src", "action", "formaction", "xlink:href", "data", "poster", "background")
SAFE = ("/", "#", "http://", "https://", "mailto:")


class Reader(HTMLParser):
    """What a browser would find in a page: elements, and attributes that run or load something."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.bad: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.scripts += tag == "script"
        for name, value in attributes:
            target = re.sub(r"[\x00-\x20]", "", value or "").lower()
            if name.startswith("on") or name in ("style", "srcdoc") or (name in LEADS and not target.startswith(SAFE)):
                self.bad.append(f"<{tag} {name}={value!r}>")
            if name == "src" and not target.startswith("/static/"):
                self.bad.append(f"<{tag} src={value!r}>")


def refuse_harm(page: str, where: str) -> None:
    reader = Reader()
    reader.feed(page)
    assert reader.bad == [], where
    assert reader.tags <= TAGS, where
    assert reader.scripts <= 2, where


QUICK = (0, 2, 4, 12, 16, 20)
"""Payloads that walk through all pages in every test run; the others do it in the long one."""
WALKS = [pytest.param(text, marks=() if i in QUICK else pytest.mark.slow, id=str(i)) for i, text in enumerate(PAYLOADS)]


EITHER = pytest.mark.parametrize("where", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True)
"""What takes long is put to PostgreSQL in the long test run."""


@EITHER
@pytest.mark.parametrize("payload", WALKS)
def test_hostile_text_is_text_on_every_page(app: Any, store: Store, payload: str) -> None:
    name = re.sub(r"[^\x20-\x7e]", "", payload)[:90].strip()
    owner = Browser(app).sign_in(store, person(store, "olga", "owner", None))
    kinds = {"higher_is": "better", "task": "ranking", "tie_policy": "free"}
    made = owner.fill("/projects/new", name=name, criterion=name, question=payload[:400], **kinds, content_warning=payload)
    assert made.status_code == 303, made.text
    questions = f"? {one_line(payload)}\n- {one_line(payload)}\n* yes\n! {one_line(payload)}"
    assert owner.fill("/projects/1/instructions", text=payload, questions=questions).status_code == 303
    texts = [payload, payload + " ", payload + "  "]
    row = {"prompt": payload, "completions": [{"text": text} for text in texts]}
    chat = {"prompt": [{"role": "user", "content": payload}], "completions": texts}
    lines = "\n".join(json.dumps(one) for one in (row, chat)).encode()
    owner.post("/projects/1/prompts", data={"csrf": owner.csrf(), "max_shown": "3"}, files={"file": (f"{name}.jsonl", lines)})
    who = person(store, name, "labeler", 1, group=name)
    browser = Browser(app).sign_in(store, who)
    browser.headers["user-agent"] = name
    pages = [browser.get("/label/1/instructions").text]
    version = re.search(r'name="version" value="(\w+)"', pages[0])
    assert version
    browser.fill("/label/1/instructions", version=version[1])
    pages += [browser.get("/label/1/check").text, browser.fill("/label/1/check", q0="0").text]
    assert browser.fill("/label/1/check", q0="1").status_code == 303
    task = browser.fetch("/label/1/next").json()["task"]
    assert {completion["text"] for completion in task["completions"]} == set(texts)  # as it is: the page shows it as text
    said = {"ranks": [1, None, 2], "reasons": {"1": payload}, "corrections": {"0": payload}, "note": payload}
    assert browser.fetch("/label/1/submit", {"token": task["token"], "key": name, "version": version[1], "answer": said}).status_code == 200
    owner.fill("/projects/1/quarantine", labeler=name, quarantined="yes", why=payload)
    owner.fill("/account/tokens", name=name, scope="read", days="1")
    owner.fill("/projects/1/invitations", role="labeler", strata=f"x={name.replace(',', '')}")
    assert owner.fill("/projects/1/judges", name=f"{name[:80]} judge").status_code == 200
    owner.fill("/projects/1/findings")
    app.state.worker.wait()
    pages += [browser.get(path).text for path in ("/", "/label/1", "/label/1/mine", "/account")]
    parts = ("", "/people", "/settings", "/instructions", "/prompts", "/undecided", "/exports", "/notes")
    pages += [owner.get(path).text for path in ("/", "/account", "/accounts", *(f"/projects/1{part}" for part in parts))]
    pages.append(owner.fill("/projects/1/instructions", text=payload, questions="", preview="yes").text)
    pages.append(owner.get("/login", params={"next": payload, "said": payload}).text)
    for number, page in enumerate(pages):
        refuse_harm(page, f"page {number}")
    assert "49" not in "".join(re.findall(r"<h1>.*?</h1>", pages[-3]))
    assert store.check().problem == ""


def one_line(text: str) -> str:
    return " ".join(text.split()) or "x"


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_markdown_does_nothing_but_look_like_something(payload: str) -> None:
    for text in (payload, f"# {payload}\n\n- {payload}\n\n```\n{payload}\n```", f"| {payload} |\n|-|\n| x |"):
        html = str(markdown(text))
        refuse_harm(html, text)
        assert "<img" not in html
        assert "\u202e" not in html


def test_markdown_is_markdown() -> None:
    html = str(markdown("# Do\n\n*it* **now**, see [there](https://example.org/x)\n\n| a | b |\n|---|---|\n| 1 | 2 |"))
    assert "<h1>Do</h1>" in html
    assert "<em>it</em> <strong>now</strong>" in html
    assert '<a href="https://example.org/x" rel="noopener noreferrer nofollow">there</a>' in html
    assert "<td>1</td>" in html


def test_the_difference_of_two_texts_is_told_by_line() -> None:
    assert difference("a\nb\nc", "a\nB\nc\nd") == [("same", "a"), ("removed", "b"), ("added", "B"), ("same", "c"), ("added", "d")]


def test_local_paths() -> None:
    assert local_path("/label/1?reopen=x") == "/label/1?reopen=x"
    assert local_path("label/1") == "/"


@pytest.mark.parametrize("path", ["//[", "//\u2100", "https://[", "/x\x00", "//evil.example", "\\\\evil"])
def test_a_strange_address_to_go_to_is_the_first_page(app: Any, path: str) -> None:
    assert local_path(path) == "/"
    browser = Browser(app)
    assert browser.get("/login", params={"next": path}).status_code == 200
    assert browser.fill("/login", name="x", password="y", next=path).status_code in (401, 422)
    assert browser.fill("/oidc/nobody", next=path).status_code in (404, 422)


HUGE = 10**30


def test_nul_and_numbers_of_any_size_are_refused_in_a_sentence(app: Any, store: Store) -> None:
    """SQLite takes a NUL in a text and no number above 63 bits; PostgreSQL takes neither."""
    store.create_project(project())
    version = store.publish("helpful", "Read.")
    owner = Browser(app).sign_in(store, person(store, "olga", "owner", None))
    ann = Browser(app).sign_in(store, person(store, "ann", "labeler"))
    store.acknowledge("helpful", "ann", version)
    task = {"token": "x\x00", "key": "k", "version": version, "answer": {"ranks": [1, 2, 3]}}
    answers = [
        Browser(app).fill("/login", name="x\x00", password="y"),
        owner.fill("/projects/1/notes", prompt_id="p\x00", withdrawn="yes"),
        owner.fill("/projects/1/undecided", prompt_id="p\x00"),
        owner.fill("/projects/1/quarantine", labeler="ann\x00", quarantined="yes", why="x"),
        owner.fill("/projects/1/invitations", role="labeler", strata="x=\x00"),
        ann.fill("/label/1/instructions", version="\x00"),
        *(ann.fetch(f"/label/1/{what}", {"token": "x\x00"}) for what in ("heartbeat", "skip", "reopen")),
        ann.fetch("/label/1/submit", task),
        ann.fetch("/label/1/submit", {**task, "token": "x", "key": "\x00"}),
        ann.fetch("/label/1/submit", {**task, "token": "x", "version": "\x00"}),
    ]
    assert [answer.status_code for answer in answers] == [422] * len(answers)
    for path in (f"/account/tokens/{HUGE}/revoke", f"/account/identities/{HUGE}/remove", f"/projects/1/people/{HUGE}/role"):
        assert owner.fill(path).status_code in (404, 422), path
    for path in (f"/accounts/{HUGE}/state", f"/accounts/{HUGE}/password", f"/projects/1/invitations/{HUGE}/revoke"):
        assert owner.fill(path).status_code in (404, 422), path
    assert owner.get(f"/projects/{HUGE}").status_code == 404


def test_figures_say_by_attributes_what_they_said_by_styles() -> None:
    svg = '<svg a="b"><defs>\n <style type="text/css">*{x}</style>\n</defs><g style="fill: none; stroke: var(--grid, #c0c1c2)"/></svg>'
    assert (
        str(inline(svg)) == '<svg stroke-linejoin="round" stroke-linecap="butt" a="b"><g fill="none" stroke="var(--grid, #c0c1c2)"/></svg>'
    )


def test_text_that_turns_its_direction_round_is_written_out(app: Any, store: Store) -> None:
    store.create_project(project(overlap=2, max_overlap=2))
    store.publish("helpful", "Read.\n\nPay \u202e001.")
    store.add_prompts("helpful", [(Prompt("p", "pay \u202e001"), [Completion(f"c{i}", "p", f"{i}", [], "stop", 0, "m") for i in range(2)])])
    browsers = [Browser(app).sign_in(store, person(store, name, "labeler")) for name in ("ann", "ben")]
    for browser in browsers:
        version = re.search(r'name="version" value="(\w+)"', browser.get("/label/1/instructions").text)
        assert version
        browser.fill("/label/1/instructions", version=version[1])
        task = browser.fetch("/label/1/next").json()["task"]
        ranks = [int(one["text"]) + 1 for one in task["completions"]]
        said = {"ranks": ranks if browser is browsers[0] else [3 - rank for rank in ranks], "note": "odd \u202eword"}
        body = {"token": task["token"], "key": task["token"], "version": version[1], "answer": said}
        assert browser.fetch("/label/1/submit", body).status_code == 200
    owner = Browser(app).sign_in(store, person(store, "olga", "owner", None))
    owner.fill("/projects/1/findings")
    app.state.worker.wait()
    store.publish("helpful", "Read.\n\nPay \u202e002.")
    seen = [owner.get(f"/projects/1/{name}").text for name in ("undecided", "notes")]
    seen += [browsers[0].get(f"/label/1/{name}").text for name in ("mine", "instructions")]
    for page, times in zip(seen, (1, 4, 1, 3), strict=True):
        assert "\u202e" not in page
        assert page.count("[right-to-left override]") == times


def test_questions_survive_being_typed() -> None:
    typed = "? What is F?\n* Nonsense\n- Fine\n! Read.\n\n? And?\n- a\n* b"
    assert forms.questions_typed(forms.questions_of(typed)) == typed


def test_what_is_kept_in_spite_of_encodings_comes_out_again(app: Any, store: Store) -> None:
    """NUL characters and lone surrogates: models write them."""
    store.create_project(project())
    version = store.publish("helpful", "Read.")
    texts = ["a\x00b", "half \ud800", "whole"]
    prompt = Prompt("p", "odd \x00 \udfff")
    store.add_prompts("helpful", [(prompt, [Completion(f"c{i}", "p", text, [], "stop", 0, "m") for i, text in enumerate(texts)])])
    browser = Browser(app).sign_in(store, person(store, "ann", "labeler"))
    store.acknowledge("helpful", "ann", version)
    answered = browser.fetch("/label/1/next")
    assert answered.status_code == 200
    shown = json.loads(answered.content)["task"]
    assert sorted(c["text"] for c in shown["completions"]) == sorted(texts)
    sent = {"token": shown["token"], "key": "k", "version": version, "answer": {"ranks": [1, 2, 3]}}
    assert browser.fetch("/label/1/submit", sent).status_code == 200
    assert browser.get("/label/1/mine").status_code == 200
    owner = Browser(app).sign_in(store, person(store, "olga", "owner", None))
    owner.fill("/projects/1/findings")
    app.state.worker.wait()
    for path in ("", "/undecided", "/people", "/exports/judgements.jsonl", "/exports/pairs.jsonl"):
        assert owner.get(f"/projects/1{path}").status_code in (200, 422), path


@EITHER
def test_the_description_holds_what_the_api_does(app: Any, store: Store) -> None:
    """Requests made up from the OpenAPI document: no crash, and no answer that the document does not know."""
    store.create_project(project())
    version = store.publish("helpful", "Read.")
    store.add_prompts("helpful", items(3))
    owner = person(store, "olga", "owner", None)
    store.acknowledge("helpful", "olga", version)
    token = store.write(lambda c: api_tokens.make(c, owner, "x", ["read", "manage", "label"], 1, store.clock()))
    schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", app, headers={"host": "testserver"})

    tried = 0
    for result in schema.get_all_operations():

        @given(case=result.ok().as_strategy())
        @settings(max_examples=10, database=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        def try_it(case: Any) -> None:
            nonlocal tried
            tried += 1
            if "project" in (case.path_parameters or {}):
                case.path_parameters["project"] = 1
            # ignored_auth sends the same once more without the token, and does not see that these headers bring it back;
            # positive_data_acceptance knows no rule that a schema cannot say, such as that a name is taken.
            headers = {"authorization": f"Bearer {token}", "host": "testserver"}
            case.call_and_validate(headers=headers, excluded_checks=[ignored_auth, positive_data_acceptance])

        try_it()
    assert tried > 100
    assert store.check().problem == ""


def test_reasons_of_decisions_and_names_of_people_are_bounded(app: Any, store: Store) -> None:
    store.create_project(project())
    owner = Browser(app).sign_in(store, person(store, "olga", "owner", None))
    person(store, "ann", "labeler")
    ann = store.read(lambda c: accounts.credentials(c, "ann"))
    assert ann is not None
    comprehends = [Question("What is rank 1?", ["the best", "the worst"], 0)]
    store.write(lambda c: comprehension.publish(c, "helpful", comprehends, "test", store.clock()))
    for length, status in ((LONGEST_REASON, 303), (LONGEST_REASON + 1, 422), (500_000, 422)):
        why = {"why": "x" * length}
        assert owner.fill("/projects/1/quarantine", labeler="ann", quarantined="yes", **why).status_code == status
        assert owner.fill(f"/projects/1/people/{ann[0].id}/check", decision="passed", **why).status_code == status
    assert [len(row["why"]) for row in store.read(lambda c: labelers.decisions(c, "helpful"))] == [LONGEST_REASON]
    assert owner.fill("/projects/1/quarantine", labeler="ann", quarantined="yes", why="x" * 1_100_000).status_code == 400
