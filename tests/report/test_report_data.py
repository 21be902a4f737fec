"""Report data outlives the run; evaluation's rows fit into it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from report_sample import sample

from heedful.errors import FileProblem
from heedful.evaluation.compare import compare
from heedful.evaluation.toxicity import compare_toxicity
from heedful.maths.statistics import Interval
from heedful.records import Completion
from heedful.report.data import MeasureRow, ReportData, jsonable


def test_saved_and_loaded_again(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    sample().save(path)
    again = ReportData.load(path)
    assert again.to_dict() == sample().to_dict()
    assert again.comparison == sample().comparison
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.mark.parametrize(
    "text", ["", "[]", '{"title": "x"}', '{"title": "x", "verdict": {"sentence": "s", "evidence": []}, "comparison": [{}]}']
)
def test_a_damaged_file_is_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(FileProblem, match=r"report\.json"):
        ReportData.load(path)
    with pytest.raises(FileProblem, match="no report data"):
        ReportData.load(tmp_path / "absent.json")


def test_rows_of_a_comparison_and_of_toxicity_fit() -> None:
    samples = [[Completion(str(i), str(i), "a", [1], "stop", 0, "m")] for i in range(20)]
    values = np.linspace(1, 2, 20)
    found = compare(samples, samples, {"score": (values.tolist(), (values + 1).tolist())}, resamples=99)
    row = MeasureRow.from_dict(found.rows()[0])
    assert row.difference == found["score"].difference
    assert (row.name, row.prompts, row.outcome) == ("score", 20, "better")
    change = compare_toxicity([[0.2, 0.6]] * 5, [[0.1, 0.2]] * 5, resamples=99)
    rows = [MeasureRow.from_dict(r) for r in change.rows()]
    assert rows[0].before == change.mean.before
    assert rows[3].difference == change.sd
    assert rows[4].difference is None, "of the maximum there is none"
    assert MeasureRow.from_dict(rows[0].to_dict()) == rows[0]


def test_everything_becomes_plain_json() -> None:
    plain = jsonable({"a": np.float32(0.5), "b": np.arange(2), 3: (float("inf"), None, Path("x")), "i": Interval(1.0)})
    assert plain == {"a": 0.5, "b": [0, 1], "3": [None, None, "x"], "i": {"estimate": 1.0, "low": None, "high": None}}
