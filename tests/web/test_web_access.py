"""Who may do what: every route, every role, one's own project and somebody else's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from apps import Browser, person, serving
from fastapi.routing import APIRoute

from heedful.store import Store, accounts, api_tokens, audit, invitations
from heedful.store.accounts import Account
from heedful.store.schema import slot
from heedful.web.access import MAY, SCOPE, Door
from heedful.web.oidc.providers import Provider
from heedful.web.routes import ACCESS
from stores import Clock, items, project

ROLES = ("owner", "manager", "adjudicator", "labeler", "viewer")
PUBLIC = {key for key, need in ACCESS.items() if need == "anyone"}
PAGES = sorted(key for key in ACCESS if key not in PUBLIC and "/api/" not in key)
API = sorted(key for key in ACCESS if key not in PUBLIC and "/api/" in key)
MOUNTS = {"/static"}


def parts_of(app: Any) -> list[Any]:
    """Every route of the app, those of its routers too."""
    return [
        part
        for route in app.routes
        for part in (route.effective_route_contexts() if hasattr(route, "effective_route_contexts") else [route])
    ]


def routes_of(app: Any) -> set[str]:
    """Every method and path that the app answers."""
    found = {f"{method} {part.path}" for part in parts_of(app) for method in getattr(part, "methods", None) or ["MOUNT"]}
    return {key for key in found if key.removeprefix("MOUNT ") not in MOUNTS}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Store, dict[str, Account]]]:
    """Two projects; in the first there is somebody in every role, in the second a manager, who is the stranger."""
    path, clock = tmp_path_factory.mktemp("access") / "labels.db", Clock()
    with Store.open(path, create=True, clock=clock) as store:
        for name in ("mine", "theirs"):
            store.create_project(project(name))
            store.publish(name, "Read this.")
        store.add_prompts("mine", items(40))
        people = {role: person(store, f"{role} one", role, None if role == "owner" else 1) for role in ROLES}
        people["stranger"] = person(store, "stranger", "manager", 2)
        people["victim"] = person(store, "victim", "labeler", 1)  # whom others do things to
        store.add_prompts("theirs", items(5))
        there = Provider("there", "There", "http://127.0.0.1:9", "heedful", "a secret")
        with serving(path, clock, providers=[there]) as app:
            yield app, store, people


def test_every_route_stands_in_the_table(place: tuple[Any, Store, Any]) -> None:
    assert routes_of(place[0]) == set(ACCESS)


def test_every_route_has_a_door(place: tuple[Any, Store, Any]) -> None:
    routes = [getattr(part, "original_route", part) for part in parts_of(place[0])]
    assert {type(route) for route in routes if route.path not in MOUNTS} == {Door}


def test_a_route_without_a_door_answers_nobody(place: tuple[Any, Store, dict[str, Account]]) -> None:
    app, store, people = place
    app.router.add_api_route("/health/again", lambda: "secret", methods=["GET"], route_class_override=APIRoute)
    answer = Browser(app).sign_in(store, people["owner"]).get("/health/again")
    app.router.routes.pop()
    assert answer.status_code == 403
    assert "secret" not in answer.text


def test_a_route_that_is_in_no_table_answers_nobody(place: tuple[Any, Store, dict[str, Account]]) -> None:
    app, store, people = place
    app.add_api_route("/novelty", lambda: "secret", methods=["GET"])
    answer = Browser(app).sign_in(store, people["owner"]).get("/novelty")
    app.router.routes.pop()
    assert answer.status_code == 403
    assert "secret" not in answer.text


def test_needs_and_scopes_are_known() -> None:
    every = set().union(*MAY.values()) | {"account", "anyone", "finish label"}
    assert set(ACCESS.values()) <= every
    assert {need for key, need in ACCESS.items() if key in API} <= set(SCOPE)


OPEN = {"/health", "/login", "/logout", "/join/{secret}", "/join/{secret}/oidc/{provider}", "/api/v1/openapi.json"}
OPEN |= {"/oidc/{provider}", "/oidc/{provider}/callback"}
SEEN = {"GET /projects/{project}", "GET /api/v1/projects/{project}", "GET /api/v1/projects/{project}/findings"}
WORK = {"GET instructions", "POST acknowledge", "GET check", "POST check", "POST next", "POST reopen"}
BEGUN = {"POST heartbeat", "POST submit", "POST skip"}


def meant(key: str) -> str:
    """What a route should take: what is not named here is for whoever manages the project, or owns the store."""
    method, path = key.split(" ")
    what = f"{method} {path.removeprefix('/label/{project}/').removeprefix('/api/v1/projects/{project}/')}"
    if path in OPEN:
        return "anyone"
    if path == "/" or f"{path}/".startswith("/account/") or key in ("GET /api/v1/me", "GET /api/v1/projects"):
        return "account"
    if "{project}" not in path:
        return "own"
    if key in SEEN:
        return "view"
    if path.endswith("/undecided"):
        return "adjudicate"
    if what in BEGUN:
        return "finish label"
    return "label" if what in WORK or path.startswith("/label/") else "manage"


def test_the_table_is_no_looser_than_it_was_meant() -> None:
    """The tests below hold the app to its table; this one holds the table to what stands here once more."""
    assert {key: (need, meant(key)) for key, need in ACCESS.items() if need != meant(key)} == {}
    assert {"viewer": {"view"}, "labeler": {"label"}, "adjudicator": {"view", "label", "adjudicate"}} == {
        role: set(may) for role, may in MAY.items() if role not in ("owner", "manager")
    }
    assert [role for role, may in MAY.items() if "own" in may] == ["owner"]


def address(key: str, project_id: int, member: int) -> tuple[str, str]:
    """A method, and a path with something in every place."""
    method, path = key.split(" ")
    places = {"{project}": str(project_id), "{number}": str(member), "{name}": "judgements.jsonl", "{secret}": "x", "{provider}": "there"}
    for place, value in places.items():
        path = path.replace(place, value)
    return method, path


def expected(key: str, role: str, own: bool) -> bool:
    """Whether the tables let a role in."""
    need = ACCESS[key].removeprefix("finish ")
    if need == "account":
        return True
    if "{project}" in key and not own:
        return role == "owner"
    return need in MAY[role] if "{project}" in key else role == "owner"


def refused(answer: Any) -> bool:
    return answer.status_code in (401, 403) or (answer.status_code == 404 and "not for you" in answer.text)


@pytest.mark.parametrize("own", [True, False], ids=["own", "foreign"])
@pytest.mark.parametrize("role", [*ROLES, "nobody"])
def test_pages_let_in_whom_the_tables_let_in(place: tuple[Any, Store, dict[str, Account]], role: str, own: bool) -> None:
    app, store, people = place
    browser = Browser(app)
    if role != "nobody":
        browser.sign_in(store, people[role])
    csrf = browser.csrf()
    victim = people["victim"] if own else people["stranger"]
    wrong = []
    for key in PAGES:
        method, path = address(key, 1 if own else 2, victim.id)
        fields = {"headers": {"x-csrf-token": csrf}} if method == "POST" else {}
        answer = browser.request(method, path, **fields)
        turned_away = refused(answer) or answer.headers.get("location", "").startswith("/login")
        may = role != "nobody" and expected(key, role, own)
        if turned_away == may or answer.status_code >= 500:
            wrong.append((key, answer.status_code, answer.text[:80]))
        if role != "nobody" and browser.csrf() != csrf:  # whoever lost their session by what they did gets another
            csrf = browser.sign_in(store, people[role]).csrf()
    assert wrong == []


@pytest.mark.parametrize("own", [True, False], ids=["own", "foreign"])
@pytest.mark.parametrize("role", ROLES)
def test_the_api_lets_in_whom_the_tables_let_in(place: tuple[Any, Store, dict[str, Account]], role: str, own: bool) -> None:
    app, store, people = place
    who = people[role]
    for scopes in (["read", "manage", "label"], ["read"], ["label"], ["manage"]):
        token = store.write(lambda c, s=scopes: api_tokens.make(c, who, "a test", s, 1, store.clock()))  # type: ignore[misc]
        wrong = []
        for key in API:
            method, path = address(key, 1 if own else 2, 1)
            body = {} if method == "GET" else {"json": MINIMAL.get("/".join(key.split("/")[-2:]), MINIMAL.get(key.rpartition("/")[2], {}))}
            answer = Browser(app).request(method, path, headers={"authorization": f"Bearer {token}"}, **body)
            may = expected(key, role, own) and SCOPE[ACCESS[key]] in scopes
            if refused(answer) == may or answer.status_code >= 500:
                wrong.append((key, answer.status_code, answer.text[:100]))
        assert wrong == [], scopes


MINIMAL: dict[str, Any] = {
    "projects": {"name": "again", "criterion": "x", "question": ""},
    "instructions": {"text": "Read this."},
    "prompts": {"items": [{"prompt": ""}]},
    "acknowledge": {"version": "x"},
    "heartbeat": {"token": "x"},
    "skip": {"token": "x"},
    "submit": {"token": "x", "key": "k", "version": "v", "answer": {}},
    "reopen": {"token": "x"},
    "check": {"answers": []},
    "{number}/check": {"decision": "passed", "why": "x"},
    "invitations": {"role": "labeler"},
    "judges": {"name": " "},
    "undecided": {"prompt_id": "x"},
    "pause": {"paused": False},
    "kind": {"kind": "person"},
    "quarantine": {"labeler": "nobody", "quarantined": True, "why": "x"},
}
"""Bodies that are read, so that what is tested is who may, not what was sent."""


def test_cookies_are_nothing_to_the_api(place: tuple[Any, Store, dict[str, Account]]) -> None:
    app, store, people = place
    answer = Browser(app).sign_in(store, people["owner"]).get("/api/v1/me")
    assert answer.status_code == 401


def test_people_of_another_project_cannot_be_touched(place: tuple[Any, Store, dict[str, Account]]) -> None:
    app, store, people = place
    browser = Browser(app).sign_in(store, people["manager"])
    stranger = people["stranger"].id
    forms = {
        "role": {"role": "viewer"},
        "pause": {"paused": "yes"},
        "check": {"decision": "passed", "why": "x"},
        "kind": {"kind": "ai"},
        "token": {},
    }
    for path, fields in forms.items():
        assert browser.fill(f"/projects/1/people/{stranger}/{path}", **fields).status_code == 404
    token = store.write(lambda c: api_tokens.make(c, people["manager"], "x", ["manage"], 1, store.clock()))
    headers = {"authorization": f"Bearer {token}"}
    decided = {"decision": "passed", "why": "x"}
    for path, body in (("pause", {"paused": True}), ("kind", {"kind": "ai"}), ("check", decided), ("token", {"days": 2})):
        assert Browser(app).post(f"/api/v1/projects/1/people/{stranger}/{path}", json=body, headers=headers).status_code == 404
    aside = {"labeler": "stranger", "quarantined": True, "why": "x"}
    assert Browser(app).post("/api/v1/projects/1/quarantine", json=aside, headers=headers).status_code == 422
    assert store.read(lambda c: accounts.get(c, stranger)).kind == "person"
    assert browser.fill("/projects/1/quarantine", labeler="stranger", quarantined="yes", why="x").status_code == 422
    secret = store.write(lambda c: invitations.make(c, "labeler", 2, {}, None, store.clock()))
    theirs = store.read(lambda c: invitations.of_project(c, 2, store.clock()))[0]
    browser.fill(f"/projects/1/invitations/{theirs.id}/revoke")
    assert store.read(lambda c: invitations.look(c, secret, store.clock())).id == theirs.id


def test_the_tasks_tokens_and_sessions_of_others_cannot_be_touched(place: tuple[Any, Store, dict[str, Account]]) -> None:
    app, store, people = place
    labeler, other = people["labeler"], people["adjudicator"]
    for who in (labeler, other):
        store.acknowledge("mine", who.labeler, store.publish("mine", "Read this."))
    mine, theirs = Browser(app).sign_in(store, labeler), Browser(app).sign_in(store, other)
    task = theirs.fetch("/label/1/next").json()["task"]
    body = {"token": task["token"], "key": "k1", "version": task["version"], "answer": {"ranks": [1, 2, 3]}}
    unknown = {**body, "token": "unknown"}
    for path in ("submit", "heartbeat", "skip", "reopen"):
        sent, made_up = ({k: b[k] for k in (body if path == "submit" else ["token"])} for b in (body, unknown))
        answer, nothing = mine.fetch(f"/label/1/{path}", sent), mine.fetch(f"/label/1/{path}", made_up)
        assert answer.status_code == nothing.status_code == 404
        assert answer.json() == nothing.json()  # whether it exists is not told
    token = store.write(lambda c: api_tokens.make(c, other, "theirs", ["read"], 1, store.clock()))
    [row] = [t for t in store.read(lambda c: api_tokens.of_account(c, other.id)) if t.name == "theirs"]
    mine.fill(f"/account/tokens/{row.id}/revoke")
    assert Browser(app).get("/api/v1/me", headers={"authorization": f"Bearer {token}"}).status_code == 200


def test_a_task_of_a_project_that_somebody_was_removed_from_cannot_be_touched_by_way_of_another(
    place: tuple[Any, Store, dict[str, Account]],
) -> None:
    app, store, _ = place
    drifter = person(store, "drifter", "labeler", 1)
    store.acknowledge("mine", "drifter", store.publish("mine", "Read this."))
    browser = Browser(app).sign_in(store, drifter)
    judged = browser.fetch("/label/1/next").json()["task"]
    answer = {"token": judged["token"], "key": "early", "version": judged["version"], "answer": {"ranks": [1, 2, 3]}}
    assert browser.fetch("/label/1/submit", answer).status_code == 200
    held = browser.fetch("/label/1/next").json()["task"]
    for role, project_id in (("labeler", 2), (None, 1)):
        store.write(lambda c, r=role, p=project_id: accounts.set_role(c, drifter.id, p, r, "test", store.clock()))  # type: ignore[misc]
    browser.sign_in(store, drifter)
    token = store.write(lambda c: api_tokens.make(c, drifter, "x", ["label"], 1, store.clock()))
    before = store.read(lambda c: audit.chain_end(c).number)
    headers = {"authorization": f"Bearer {token}"}
    for task in (judged, held):
        body = {"token": task["token"], "key": "late", "version": task["version"], "answer": {"ranks": [3, 2, 1]}}
        for path in ("submit", "heartbeat", "skip", "reopen"):
            sent = body if path == "submit" else {"token": task["token"]}
            assert browser.fetch(f"/label/1/{path}", sent).status_code == 404
            found, made_up = (browser.fetch(f"/label/2/{path}", {**sent, "token": name}) for name in (task["token"], "unknown"))
            assert (found.status_code, found.json()) == (404, made_up.json()), path
            if f"POST /api/v1/projects/{{project}}/{path}" in ACCESS:
                by_api = Browser(app).post(f"/api/v1/projects/2/{path}", json=sent, headers=headers)
                assert (by_api.status_code, by_api.json()["error"]) == (404, "no_such_task"), path
    assert store.read(lambda c: audit.chain_end(c).number) == before, "nothing was judged, revised, skipped or noted"


@pytest.mark.parametrize("door", ["page", "api"])
def test_a_labeler_hears_of_no_model_and_no_purpose(store: Store, app: Any, clock: Clock, door: str) -> None:
    """Tasks of all four kinds: of the overlap, drawn at random or not, for everybody, and the same once more."""
    store.create_project(project(calibration_share=0.3, repeat_share=0.3, random_share=0.2, repeat_after=0))
    store.add_prompts("helpful", items(6))
    store.add_prompts("helpful", items(4, first=6), calibration=True)
    ann = person(store, "ann", "labeler")
    store.acknowledge("helpful", "ann", store.publish("helpful", "Read this."))
    browser = Browser(app).sign_in(store, ann)
    token = store.write(lambda c: api_tokens.make(c, ann, "x", ["label"], 1, store.clock()))
    by_api = Browser(app)
    by_api.headers["authorization"] = f"Bearer {token}"
    heard = ""

    def say(what: str, body: dict[str, Any]) -> Any:
        nonlocal heard
        answer = browser.fetch(f"/label/1/{what}", body) if door == "page" else by_api.post(f"/api/v1/projects/1/{what}", json=body)
        assert answer.status_code == 200, answer.text
        heard += answer.text
        return answer.json()

    shapes = set()
    while task := say("next", {})["task"]:
        clock.turn(seconds=1)
        body = {"token": task["token"], "key": task["token"], "version": task["version"], "answer": {"ranks": [1, 1, None]}}
        receipt = say("submit", body)
        say("reopen", {"token": task["token"]})
        shapes.add((*task, "", *receipt, receipt["purpose"]))
    heard += browser.get("/label/1").text + browser.get("/label/1/mine").text
    rows = store.read(lambda c: c.execute(sa.select(slot.c.purpose, slot.c.at_random).where(slot.c.state == "judged")).all())
    assert {tuple(row) for row in rows} >= {("overlap", True), ("overlap", False), ("calibration", False), ("repeat", False)}
    assert len(shapes) == 1, "no task looks otherwise than the others"
    assert "answer a to" in heard
    for told in ("model-", "calibration", "repeat", "at_random", "p1:a", "external_id"):
        assert told not in heard, told
