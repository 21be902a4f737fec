"""Made-up but realistic data for the tests of the report, hostile text included."""

from __future__ import annotations

import numpy as np

from heedful.maths.statistics import paired_change, wilson
from heedful.records import Verdict
from heedful.report.data import MeasureRow, ReportData, jsonable

SCRIPT = "<script>alert('x')</script>"
HOSTILE_NAME = "<img src=x onerror=alert(1)>"


def measure(name: str, start: float, step: float, higher_is: str, seed: int) -> MeasureRow:
    rng = np.random.default_rng(seed)
    before = rng.normal(start, 0.3 * start, 120)
    change = paired_change(before, before + rng.normal(step, abs(step), 120), resamples=199)
    return MeasureRow.from_dict({"name": name, "higher_is": higher_is, **change.to_dict()})


def labelers() -> list[dict[str, object]]:
    rows = []
    for name, agreed in (("Ada", 86), ("王小明", 74), (HOSTILE_NAME, 31)):
        share = wilson(agreed, 100)
        rows.append(
            {"labeler": name, "agreement": share.estimate, "low": share.low, "high": share.high, "judgements": 100, "note": "agrees"}
        )
    return rows


def reward() -> dict[str, object]:
    margins = [("under 1", 112, 0.52), ("1 to 2", 150, 0.54), ("over 2", 172, 0.59)]
    bins = [(margin, wilson(right, 200), longer) for margin, right, longer in margins]
    return {
        "accuracy": wilson(434, 600),
        "longer_wins": wilson(330, 600),
        "ece": 0.041,
        "temperature": 1.31,
        "by_margin": [
            {"margin": m, "accuracy": w.estimate, "low": w.low, "high": w.high, "longer_wins": longer, "pairs": 200}
            for m, w, longer in bins
        ],
        "reliability": [{"predicted": p, "observed": 0.5 + 0.8 * (p - 0.5), "n": 60} for p in (0.05, 0.25, 0.5, 0.75, 0.95)],
    }


def history() -> list[dict[str, float]]:
    return [
        {"step": s, "train_score": 0.5 + s / 150, "score": 0.4 + s / 170, "held_out_score": 0.4 + s / 200 - (s / 190) ** 3, "kl": s / 16}
        for s in range(0, 201, 20)
    ]


def sample() -> ReportData:
    return ReportData(
        title="Detoxified summaries <b>",
        verdict=Verdict("The aligned model is less toxic.", ["Mean toxicity fell, see below.", f"A model said {SCRIPT}"]),
        summary={"Method": "PPO", "Win rate": wilson(196, 300), "Held-out prompts": 300},
        comparison=[
            measure("reward model score", 1.0, 0.5, "better", 0),
            measure("length", 30, 4, "neither", 1),
            measure("ROUGE-L", 0.4, -0.1, "better", 2),
        ],
        toxicity=[measure("Mean toxicity", 0.04, -0.01, "worse", 3)],
        labelers=labelers(),
        agreement={"Krippendorff's alpha": {"estimate": 0.62, "low": 0.57, "high": 0.66}},
        reward=jsonable(reward()),
        history=history(),
        hacking={
            "level": "hacking",
            "sentence": "The score rose while the held-out score fell.",
            "evidence": ["the score rose from 0.4 to 1.58"],
            "phrases": [{"text": f"most awesome {SCRIPT}", "before": 0.0, "after": 0.125, "z": 3.4, "p": 1e-5}],
        },
        side_by_side=[
            {
                "prompt": [{"role": "user", "content": "Summarise"}],
                "before": "so stupid",
                "after": SCRIPT,
                "before_score": -1.0,
                "after_score": 1.5,
            },
            {
                "prompt": "plain",
                "before": "\ud800 half a surrogate",
                "after": "{{ 7 * 7 }}",
                "before_score": 1.0,
                "after_score": float("nan"),
            },
        ],
        settings={"policy": {"method": "ppo", "beta": 0.05}, "note": SCRIPT},
        provenance={"base_model": "summarizer", "seed": 0, "seconds": 412.5, "hashes": {"pairs": "3b1c"}},
    )
