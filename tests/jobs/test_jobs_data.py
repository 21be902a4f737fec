"""Prompts that are too long are counted where a run is looked at afterwards, too."""

from __future__ import annotations

import pytest

from heedful.jobs.data import load_prompts
from heedful.records import Prompt, write_jsonl

SIZES = {"train": (4, 0), "validation": (3, 9), "test": (2, 17)}
"""How many prompts each split has, and the first word of the first."""


@pytest.mark.parametrize(("action", "done", "left"), [("truncate", "cut", 4), ("drop", "left out", 2)])
def test_prompts_that_are_too_long_are_counted_in_the_stages_line(workspace, tmp_path, action, done, left):
    """Two of the four for training are, at a limit of five tokens."""
    rows = [
        Prompt(f"{split}{n}", " ".join([f"w{first + n}"] * (9 if split == "train" and n < 2 else 3)))
        for split, (size, first) in SIZES.items()
        for n in range(size)
    ]
    write_jsonl(tmp_path / "rows.jsonl", [{**row.to_dict(), "split": row.id[:-1]} for row in rows])
    (tmp_path / "rewards.py").write_text("def zero(prompts, completions):\n    return [0] * len(completions)\n")
    chosen = [f"prompts.path={tmp_path}/rows.jsonl", "prompts.split_column=split", "prompts.validation=3", "prompts.test=2"]
    reward = ["reward.kind=function", f"reward.path={tmp_path}/rewards.py:zero"]
    ws = workspace("llama", *chosen, *reward, "model.max_prompt_tokens=5", f"prompts.too_long={action}")
    found = load_prompts(ws, ws.folder("prompts"))
    assert found["line"] == f"{left} train (2 too long, {done}), 3 validation, 2 test"
    assert {split: row["too_long"] for split, row in found["splits"].items()} == {"train": 2, "validation": 0, "test": 0}
