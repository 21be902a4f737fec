"""Prompts: read a file, see what was left out, split it so that near-copies stay on one side.

python examples/01_prompts.py
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from heedful.demo.world import World
from heedful.prompts.load import load_prompts
from heedful.prompts.split import split
from heedful.settings import PromptSettings


def main() -> None:
    examples = World(seed=0).examples(50, "feedback")
    rows = [{"dialogue": e.prompt, "summary": e.summary} for e in examples] + [{"dialogue": "", "summary": "of nothing"}]

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dialogues.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        # The prompt is a template over the columns; the others travel along for reward functions.
        settings = PromptSettings(path=str(path), prompt_column="dialogue", reference_column="summary")
        prompts = load_prompts(settings, say=print)

    parts = split(prompts, train=None, validation=10, test=10, seed=0)
    print(f"{len(parts.train)} for training, {len(parts.validation)} for validation, {len(parts.test)} for the test")
    print(f"prompt:    {parts.test[0].prompt}")
    print(f"reference: {(parts.test[0].reference or [''])[0]}")


if __name__ == "__main__":
    main()
