"""What both sides of a row read and write: one folder of weights, token ids and settings, one JSON file of results.

Imported in every environment: at the top nothing but the standard library (``texts.py`` keeps to it, too), and nothing of heedful's.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.texts import open_tokenizer


def distinct_words(completions: Sequence[str], **_: Any) -> list[float]:
    """A score that costs next to nothing, on both sides alike."""
    return [float(len(set(text.split()))) for text in completions]


@dataclass
class Work:
    """One row's work, as it lies in ``folder``, and where the results go.

    ``variant`` is how the side is to be run: ``defaults``, ``tuned``, ... or ``check``, which computes one batch and
    writes what the other side must agree with.
    """

    folder: Path
    result: Path
    variant: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of all threads of this process. On a machine that does something else as well they say more than seconds."""

    @classmethod
    def from_command_line(cls) -> Work:
        """FOLDER RESULT VARIANT."""
        parser = argparse.ArgumentParser()
        parser.add_argument("folder", type=Path)
        parser.add_argument("result", type=Path)
        parser.add_argument("variant")
        return cls(**vars(parser.parse_args()))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Sizes, batch, epochs, learning rate: see ``rows.py``."""
        return json.loads((self.folder / "settings.json").read_text())

    @cached_property
    def prompts(self) -> list[list[int]]:
        """Token ids."""
        return json.loads((self.folder / "prompts.json").read_text())

    @cached_property
    def pairs(self) -> list[dict[str, Any]]:
        """Texts and ids of ``prompt``, ``chosen`` and ``rejected``; ids end with the end token."""
        return json.loads((self.folder / "pairs.json").read_text())

    @cached_property
    def rollout(self) -> dict[str, list[list[float]]]:
        """One made-up rollout for the check, as ``[B, T]``: ``completions`` (ids), ``noise`` of the old logprobs, ``advantages``."""
        return json.loads((self.folder / "rollout.json").read_text())

    def model(self, name: str) -> str:
        """The folder of a model: ``policy``, ``nudged`` (the policy after some learning), ``reward`` or ``value``."""
        return str(self.folder / name)

    def tokenizer(self, **more: Any) -> Any:
        """The tokenizer that the ids are of."""
        return open_tokenizer(self.folder / "tokenizer.json", **more)

    def trainer_settings(self) -> dict[str, Any]:
        """What every trainer of today's TRL is told: a processor, float32, and nothing saved or shown."""
        return {
            "output_dir": str(self.result.parent / "trl"),
            "use_cpu": True,
            "bf16": False,
            "report_to": "none",
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
        }

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add to the seconds of the work. Imports and loading stay outside on both sides."""
        began, cpu_began = time.perf_counter(), time.process_time()
        yield
        self.seconds += time.perf_counter() - began
        self.cpu_seconds += time.process_time() - cpu_began

    def finish(self, **more: Any) -> None:
        """Write the results."""
        self.result.write_text(json.dumps({"seconds": self.seconds, "cpu_seconds": self.cpu_seconds, **more}))
