"""A small client of the REST API, with nothing but the standard library.

    client = Client("https://labels.example.org", token)
    project = client.project("support")
    client.add_prompts(project, [{"prompt": "...", "completions": ["...", "..."]}])
    for judgement in client.judgements(project):
        ...

An answer that is sent again under its key is stored once, so whatever fails on the way may be tried again.
"""

from __future__ import annotations

import json
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from heedful.errors import DataProblem, HeedfulError
from heedful.web.site import Site

TOO_OFTEN = 429
PASSING = (0, TOO_OFTEN, 502, 503, 504)
"""Answers (0: none came) after which the same request may go better."""
TRIES = 5
LONGEST_WAIT = 60.0
"""Seconds that a server may make us wait, whatever it says."""
AT_ONCE = 500
LOOK_AGAIN = 2.0
"""Seconds between two looks at whether something is worked out, and how often one looks: for an hour."""
MOST_LOOKS = 1800


class ApiProblem(HeedfulError):
    """What the server says it will not do. ``status`` is HTTP's, 0 where no answer came; ``error`` is one word.

    ``wait``: seconds after which it may do it.
    """

    def __init__(self, status: int, error: str, message: str, wait: float = 0.0) -> None:
        self.status, self.error, self.wait = status, error, wait
        super().__init__(message, "See the API's description, /api/v1/openapi.json.")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A token follows nobody elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Client:
    """Speaks for whoever made the token, within its scopes."""

    def __init__(self, url: str, token: str, timeout: float = 30.0, pause: Callable[[float], None] = time.sleep) -> None:
        self._url, self._token, self._timeout, self._pause = Site(url.rstrip("/")).url, token, timeout, pause
        self._opener = urllib.request.build_opener(_NoRedirect)

    def me(self) -> dict[str, Any]:
        """Whose token this is."""
        found: dict[str, Any] = self._call("GET", "/me")
        return found

    def projects(self) -> list[dict[str, Any]]:
        """The projects that one has a part in."""
        found: list[dict[str, Any]] = self._call("GET", "/projects")
        return found

    def project(self, name: str) -> int:
        """A project's number by its name. Raises DataProblem where there is none."""
        for found in self.projects():
            if found["name"] == name:
                return int(found["id"])
        raise DataProblem(f"there is no project {name!r} for this token", "Check the name.")

    def create_project(self, name: str, criterion: str, question: str, **settings: Any) -> int:
        """Make a project; settings are those of heedful.store.Project."""
        made = self._call("POST", "/projects", {"name": name, "criterion": criterion, "question": question, **settings})
        return int(made["id"])

    def change_project(self, project: int, **changes: Any) -> dict[str, Any]:
        """Change what may change while people are at work."""
        found: dict[str, Any] = self._call("PATCH", f"/projects/{project}", changes)["settings"]
        return found

    def status(self, project: int) -> dict[str, Any]:
        """How far a project is."""
        found: dict[str, Any] = self._call("GET", f"/projects/{project}")["status"]
        return found

    def publish(self, project: int, text: str, questions: Sequence[Mapping[str, Any]] | None = None) -> str:
        """Publish instructions; returns their version."""
        return str(self._call("POST", f"/projects/{project}/instructions", {"text": text, "questions": questions})["version"])

    def retire(self, project: int, prompt_ids: Sequence[str] | None) -> dict[str, int]:
        """Have prompts judged again, those named or (``None``) all, as far as they were judged under older instructions.

        Returns of how many ``prompts`` how many ``judgements`` no longer count. It cannot be undone.
        """
        lots = [None] if prompt_ids is None else [list(prompt_ids[i : i + AT_ONCE]) for i in range(0, len(prompt_ids), AT_ONCE)]
        found = [self._call("POST", f"/projects/{project}/retire", {"prompt_ids": lot}) for lot in lots]
        return {name: sum(int(one[name]) for one in found) for name in ("prompts", "judgements")}

    def add_prompts(self, project: int, items: Sequence[Mapping[str, Any]], max_shown: int | None = None, calibration: bool = False) -> int:
        """Add prompts with completions, 500 at a time; returns how many are new: those that are there already stay as they are.

        So what failed half-way may be done again. ``max_shown``: instead of the project's own.
        """
        lots = (items[start : start + AT_ONCE] for start in range(0, len(items), AT_ONCE))
        bodies = ({"items": lot, "max_shown": max_shown, "calibration": calibration} for lot in lots)
        return sum(int(self._call("POST", f"/projects/{project}/prompts", body)["added"]) for body in bodies)

    def judgements(self, project: int) -> Iterator[dict[str, Any]]:
        """Everything that was said, one at a time; ``record`` says what it is."""
        with self._open("GET", f"/projects/{project}/judgements", None) as answer:
            for line in answer:
                yield json.loads(line)

    def pairs(self, project: int) -> Iterator[dict[str, Any]]:
        """Preferences by consensus, one at a time, once they are worked out. Raises ApiProblem where that takes more than an hour."""
        return self._rows(project, "pairs")

    def unpaired(self, project: int) -> Iterator[dict[str, Any]]:
        """Completions that are wanted or not (``label``), from thumbs and Fs, in the way of :meth:`pairs`."""
        return self._rows(project, "unpaired")

    def demonstrations(self, project: int) -> Iterator[dict[str, Any]]:
        """Prompts with what should have been answered, from corrections, in the way of :meth:`pairs`."""
        return self._rows(project, "demonstrations")

    def people(self, project: int) -> list[dict[str, Any]]:
        """Everybody in a project; ``account`` is their number."""
        found: list[dict[str, Any]] = self._call("GET", f"/projects/{project}/people")
        return found

    def invite(self, project: int, role: str = "labeler", strata: Mapping[str, str] | None = None, days: int = 7) -> str:
        """A link that makes an account, once."""
        return str(
            self._call("POST", f"/projects/{project}/invitations", {"role": role, "strata": dict(strata or {}), "days": days})["link"]
        )

    def add_judge(self, project: int, name: str, days: int = 90) -> str:
        """A token for a program that judges under a name of its own; it is told only now."""
        return str(self._call("POST", f"/projects/{project}/judges", {"name": name, "days": days})["token"])

    def renew_token(self, project: int, account: int, days: int = 90) -> str:
        """Another token for a program that has nothing but one; those that it had work no longer. It is told only now."""
        return str(self._call("POST", f"/projects/{project}/people/{account}/token", {"days": days})["token"])

    def pause(self, project: int, account: int, paused: bool = True) -> None:
        """Ask somebody nothing new, or let them go on."""
        self._call("POST", f"/projects/{project}/people/{account}/pause", {"paused": paused})

    def decide_check(self, project: int, account: int, decision: str, why: str) -> None:
        """Let somebody in who used up their tries at the questions (``passed``), or give them two more (``try_again``)."""
        self._call("POST", f"/projects/{project}/people/{account}/check", {"decision": decision, "why": why})

    def set_kind(self, project: int, account: int, kind: str) -> None:
        """Say whether a ``person`` or a program (``ai``) judges."""
        self._call("POST", f"/projects/{project}/people/{account}/kind", {"kind": kind})

    def quarantine(self, project: int, labeler: str, why: str) -> None:
        """Quarantine somebody's judgements."""
        self._call("POST", f"/projects/{project}/quarantine", {"labeler": labeler, "quarantined": True, "why": why})

    def reinstate(self, project: int, labeler: str, why: str) -> None:
        """Let them count again."""
        self._call("POST", f"/projects/{project}/quarantine", {"labeler": labeler, "quarantined": False, "why": why})

    def undecided(self, project: int) -> list[dict[str, Any]]:
        """What the newest figures left undecided: ``prompt_id``, how sure they are (``p``), and whether one was asked before (``met``)."""
        found: list[dict[str, Any]] = self._call("GET", f"/projects/{project}/undecided")
        return found

    def settle(self, project: int, prompt_id: str) -> dict[str, Any]:
        """A task on an undecided prompt; to submit its answer settles it."""
        found: dict[str, Any] = self._call("POST", f"/projects/{project}/undecided", {"prompt_id": prompt_id})["task"]
        return found

    def findings(self, project: int) -> dict[str, Any]:
        """What was worked out last."""
        found: dict[str, Any] = self._call("GET", f"/projects/{project}/findings")
        return found

    def work_out(self, project: int) -> None:
        """Let the figures be worked out anew."""
        self._call("POST", f"/projects/{project}/findings", {})

    def acknowledge(self, project: int) -> str:
        """Read the instructions; returns their text."""
        read = self._call("GET", f"/projects/{project}/instructions")
        if not read["acknowledged"]:
            self._call("POST", f"/projects/{project}/acknowledge", {"version": read["version"]})
        return str(read["text"])

    def check(self, project: int) -> dict[str, Any]:
        """The questions on the instructions, and how far one is: ``state`` is none, open, passed, or waiting for a person to decide."""
        found: dict[str, Any] = self._call("GET", f"/projects/{project}/check")
        return found

    def answer_check(self, project: int, answers: Sequence[int]) -> dict[str, Any]:
        """Answer them, each by the position of its choice; ``wrong`` says which were answered wrongly, and why."""
        found: dict[str, Any] = self._call("POST", f"/projects/{project}/check", {"answers": list(answers)})
        return found

    def next_task(self, project: int) -> dict[str, Any] | None:
        """The next task, or none."""
        found: dict[str, Any] | None = self._call("POST", f"/projects/{project}/next", {})["task"]
        return found

    def submit(self, project: int, task: Mapping[str, Any], answer: Mapping[str, Any], key: str | None = None) -> dict[str, Any]:
        """Store an answer to a task, e.g. ``{"ranks": [2, 1, None]}``; tried again until it is known to be stored."""
        body = {"token": task["token"], "key": key or secrets.token_urlsafe(16), "version": task["version"], "answer": answer}
        found: dict[str, Any] = self._call("POST", f"/projects/{project}/submit", body)
        return found

    def reopen(self, project: int, task: Mapping[str, Any]) -> dict[str, Any]:
        """A task that was answered, with the answer as ``previous``; to submit it again is to revise it."""
        found: dict[str, Any] = self._call("POST", f"/projects/{project}/reopen", {"token": task["token"]})["task"]
        return found

    def skip(self, project: int, task: Mapping[str, Any], reason: str = "") -> None:
        """Leave a task to somebody else."""
        self._call("POST", f"/projects/{project}/skip", {"token": task["token"], "reason": reason})

    def _rows(self, project: int, what: str) -> Iterator[dict[str, Any]]:
        path = f"/projects/{project}/{what}"
        for _ in range(MOST_LOOKS):
            with self._open("GET", path, None) as answer:
                if answer.status == 200:
                    yield from map(json.loads, answer)
                    return
                path = f"/projects/{project}/{what}?as={json.load(answer)['as']}"
            self._pause(LOOK_AGAIN)
        raise ApiProblem(0, "slow", f"the {what} were not worked out in time")

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        # Sent again only where that changes nothing: reading, answers, which carry a key, and what came too often to be done.
        passing = PASSING if method == "GET" or path.endswith(("/submit", "/next")) else (TOO_OFTEN,)
        for number in range(1, TRIES + 1):
            try:
                with self._open(method, path, body) as answer:
                    return json.load(answer)
            except ApiProblem as problem:
                if problem.status not in passing or number == TRIES:
                    raise
                self._pause(max(0.5 * 2**number, problem.wait))
        raise AssertionError("the last try returns or raises")

    def _open(self, method: str, path: str, body: Any) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {self._token}", "content-type": "application/json", "accept": "application/json"}
        request = urllib.request.Request(f"{self._url}/api/v1{path}", data, headers, method=method)
        try:
            return self._opener.open(request, timeout=self._timeout)
        except urllib.error.HTTPError as error:
            raise _problem(error) from None
        except (urllib.error.URLError, OSError) as error:
            raise ApiProblem(0, "unreachable", f"{self._url} does not answer: {getattr(error, 'reason', error)}") from None


def _problem(error: urllib.error.HTTPError) -> ApiProblem:
    after = error.headers.get("retry-after", "")
    wait = min(float(after), LONGEST_WAIT) if after.isascii() and after.isdigit() else 0.0
    try:
        told = json.load(error)
        return ApiProblem(error.code, str(told["error"]), str(told["message"]), wait)
    except (ValueError, KeyError, TypeError):
        return ApiProblem(error.code, "http", f"the server answered {error.code}", wait)
