"""What the pages say of people, and how well they agree, is what the command line says of the same store, with the same evidence."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from apps import Browser, person, serving
from panels import FEW, NEW, OLD, PANEL, PROMPTS, asked_about

from heedful.cli.main import main
from heedful.feedback import panel as model
from heedful.records import Ranking
from heedful.store import Store, labelers, projects
from stores import Clock, project

Told = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def judged(judged_template: Path, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    """A store in which the panel has judged, and somebody has had the figures worked out."""
    path = tmp_path / "judged.db"
    path.write_bytes(judged_template.read_bytes())
    with Store.open(path, clock=clock) as opened:
        yield opened


@pytest.fixture
def heed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """Rows of a command of ``heed feedback``."""

    def run(*words: object) -> list[dict[str, Any]]:
        monkeypatch.setattr("sys.argv", ["heed", "feedback", *map(str, words), "--json"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


@pytest.fixture
def manager(judged: Store, clock: Clock) -> Iterator[Browser]:
    """Somebody who looks at the figures."""
    with serving(judged.database.where, clock) as app:
        yield Browser(app).sign_in(judged, person(judged, "olga", "owner", None))


def plain(page: str) -> str:
    """What a reader sees of a piece of HTML."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page))).strip()


def on_the_page(page: str) -> dict[str, tuple[str, str]]:
    """Verdict and evidence with recommendation of each labeler of the people page, as a reader finds them."""
    found = {}
    for row in re.findall(r"<tr>\s*<th scope=\"row\"><bdi>.*?</tr>", page, re.DOTALL):
        [name] = re.findall(r"<bdi>(.*?)</bdi>", row)
        [verdict] = re.findall(r'<span class="badge \w*">([\w ]+)</span>', row.partition("<td>")[2].partition("</td>")[0] or row)[:1] or [
            ""
        ]
        found[name] = verdict, plain(row)
    for card in re.findall(r'<section class="card" id="look-\d+">.*?</section>', page, re.DOTALL):
        [name] = re.findall(r"<bdi>(.*?)</bdi>", card)
        found[name] = found[name][0], plain(card)
    return found


def test_the_people_page_says_what_the_command_line_says(manager: Browser, judged: Store, heed: Told) -> None:
    told = {row["labeler"]: row for row in heed("labelers", judged.database.where)}
    verdicts = {name: row["verdict"] for name, row in told.items()}
    assert {verdicts[f"careful {n}"] for n in range(10)} == {"fine"}
    assert {verdicts[f"young {n}"] for n in range(5)} == {"minority"}
    assert (verdicts["rory"], verdicts["uma"], verdicts["hal"]) == ("random", "upside_down", "careless")
    assert "words per minute" in told["hal"]["evidence"]
    shown = on_the_page(manager.get("/projects/1/people").text)
    assert shown.keys() == told.keys()
    for name, row in told.items():
        verdict, words = shown[name]
        assert verdict == row["verdict"].replace("_", " "), name
        assert f"{row['evidence']} {row['recommendation']}" in words, name


def test_known_answers_and_repeats_stand_in_the_table(manager: Browser, judged: Store, heed: Told) -> None:
    told = {row["labeler"]: row for row in heed("labelers", judged.database.where)}
    assert told["careful 0"]["consistency"] == 1
    assert told["rory"]["consistency"] == 0
    assert "gold" in told["uma"]["signs"]
    assert "with a known answer" in told["uma"]["evidence"]
    assert told["careful 1"]["gold"] > 0.8 > 0.2 > told["uma"]["gold"]
    page = manager.get("/projects/1/people").text
    assert "Same again" in page
    assert "Known answers" in page
    shown = on_the_page(page)
    assert f"· 0 % 100 % {100 * told['careful 0']['gold']:.0f} % Counts" in shown["careful 0"][1]
    rows = {row["labeler"]: row for row in judged_labelers(manager)}
    assert rows["rory"]["judgements"] == str(PROMPTS + 20)
    assert rows["rory"]["tasks"] == str(PROMPTS), "to judge again is no further task"
    assert rows["uma"]["recommendation"] == told["uma"]["recommendation"]


def judged_labelers(manager: Browser) -> list[dict[str, str]]:
    import csv
    import io

    return list(csv.DictReader(io.StringIO(manager.get("/projects/1/exports/labelers.csv").text)))


def test_reliability_has_its_interval_in_the_table_the_picture_and_the_file(manager: Browser, judged: Store, heed: Told) -> None:
    told = {row["labeler"]: row for row in heed("labelers", judged.database.where)}
    rows = {row["labeler"]: row for row in judged_labelers(manager)}
    page = manager.get("/projects/1/people").text
    shown = {name: plain(row) for row, name in re.findall(r"(<tr>\s*<th scope=\"row\"><bdi>(.*?)</bdi>.*?</tr>)", page, re.DOTALL)}
    for name, row in told.items():
        low, found, high = row["reliability_low"], row["reliability"], row["reliability_high"]
        assert low < found < high, name
        assert " {:.2f} {:.2f} to {:.2f} ".format(*(round(figure, 2) + 0 for figure in (found, low, high))) in shown[name], name
        assert [float(rows[name][column]) for column in ("reliability_low", "reliability", "reliability_high")] == [low, found, high]
    assert told["uma"]["reliability_high"] < -0.5 < 0.5 < told["careful 0"]["reliability_low"]
    wide, narrow = (told[name]["reliability_high"] - told[name]["reliability_low"] for name in ("hal", "careful 0"))
    assert wide > narrow, "hal judged few"
    for drawn in (
        "Reliability of 18 labelers, with intervals",
        "Agreement of 18 labelers with the others, with intervals",
        "Ties and Fs of 18 labelers",
    ):
        assert f'aria-label="{drawn}"' in page
    seen = Browser(manager.app).sign_in(judged, person(judged, "vera", "viewer")).get("/projects/1").text
    assert "Agreement between labelers" in seen
    assert "Reliability of" not in seen, "how reliable somebody is, is for whoever leads the project"


def test_nobody_is_quarantined_but_by_a_person(manager: Browser, judged: Store, heed: Told) -> None:
    assert judged.read(lambda c: labelers.quarantined(c, "helpful")) == {}
    assert manager.fill("/projects/1/quarantine", labeler="uma", quarantined="yes", why="we will talk").status_code == 303
    assert judged.read(lambda c: labelers.quarantined(c, "helpful")) == {"uma": "we will talk"}
    assert {row["labeler"]: row["quarantined"] for row in heed("labelers", judged.database.where)}["uma"] == "we will talk"
    assert "we will talk" in on_the_page(manager.get("/projects/1/people").text)["uma"][1]


def test_agreement_stands_on_the_overview_as_the_command_line_has_it(manager: Browser, judged: Store, heed: Told) -> None:
    told = heed("agreement", judged.database.where)
    versions = sorted([OLD.version, NEW.version])
    assert [row["of"] for row in told] == [
        "all",
        *(f"version {version}" for version in versions),
        "age: 18-29",
        "language: learnt",
        "language: native",
        "the same labeler again",
    ]
    page = manager.get("/projects/1").text
    [table] = re.findall(r'aria-label="Agreement by group"><table>(.*?)</table>', page, re.DOTALL)
    lines = [plain(line) for line in re.findall(r"<tr><th scope=\"row\">.*?</tr>", table, re.DOTALL)]
    assert len(lines) == len(told)
    for line, row in zip(lines, told, strict=True):
        share, alpha = row["agreement"], row["alpha"]
        percents = f"{100 * share['estimate']:.0f} % ({100 * share['low']:.0f}–{100 * share['high']:.0f} %)"
        assert line.startswith(f"{row['of']} {row['labelers']} {row['decisions']} {percents} {alpha['estimate']:.2f} (")
    young, native = told[3], told[5]
    assert young["agreement"]["estimate"] > 0.85, "the minority agrees among itself"
    assert young["labelers"] == 5
    assert native["agreement"]["estimate"] < young["agreement"]["estimate"]
    again = told[-1]
    assert (again["labelers"], again["prompts"]) == (2, 20)
    assert again["agreement"]["estimate"] == pytest.approx(0.5, abs=0.05), "one decides the same twice, one the opposite"
    assert 'aria-label="Agreement between labelers in 7 groups, with intervals"' in page
    assert "published labelers, 72 to 77 %" in page


def test_the_figure_of_coverage_is_the_command_lines(manager: Browser, judged: Store, heed: Told, tmp_path: Any) -> None:
    heed("coverage", judged.database.where, "-o", tmp_path)
    [drawn] = [
        figure for figure in re.findall(r"<svg .*?</svg>", manager.get("/projects/1").text, re.DOTALL) if "People by group" in figure
    ]
    words = re.findall(r"<text[^>]*>([^<]+)<", (tmp_path / "coverage.svg").read_text())
    assert re.findall(r"<text[^>]*>([^<]+)<", drawn) == words
    assert "age: not stated" in words


def test_the_model_of_the_panel_is_fitted_once(judged: Store, heed: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    from heedful.web import analysis

    fitted = []

    def counted(*given: Any) -> Any:
        fitted.append(given[0].rankings)
        return fit(*given)

    fit = model.fit_panel
    monkeypatch.setattr(model, "fit_panel", counted)
    analysis.work_out(judged, "helpful")
    everything = PROMPTS * (len(PANEL) - 1) + FEW
    assert fitted == [everything]
    heed("consensus", judged.database.where, "--save")
    assert fitted == [everything] * 2
    judged.write(lambda c: labelers.decide(c, "helpful", "uma", True, "a test", "upside down", judged.clock()))
    analysis.work_out(judged, "helpful")
    assert fitted[2:] == [everything - PROMPTS, everything], "whoever is set aside is reported on, and takes no part in the consensus"


def test_what_an_adjudicator_settled_is_settled_from_the_command_line_too(app: Any, store: Store, heed: Told) -> None:
    store.create_project(project(overlap=2, max_overlap=2))
    rows = asked_about()[:1]
    store.add_prompts("helpful", rows)
    ids = [c.id for c in rows[0][1]]
    said = [Ranking("p0", who, ids, ranks, "helpfulness", "v") for who, ranks in (("ann", [1, 2, 3, 4]), ("ben", [1, 2, 3, 4]))]
    store.import_judgements("helpful", [*said, Ranking("p0", "adam", ids, [4, 3, 2, 1], "helpfulness", "v", purpose="ruling")])
    [found] = heed("consensus", store.database.where)
    assert (found["rankings"], found["labelers"], found["decided"]) == (1, 1, 6)
    project_id = store.read(lambda c: projects.find(c, "helpful"))[0]
    owner = Browser(app).sign_in(store, person(store, "olga", "owner", None))
    pairs = [json.loads(line) for line in owner.get(f"/projects/{project_id}/exports/pairs.jsonl").text.splitlines()]
    assert len(pairs) == 6
    assert all(pair["chosen"] > pair["rejected"] for pair in pairs), "the last in the alphabet is best, says adam"
