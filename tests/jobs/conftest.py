"""A run's workspace around a tiny model."""

from __future__ import annotations

import pytest

import tiny
from heedful.config import load_settings
from heedful.jobs.sources import FileSource
from heedful.jobs.workspace import Workspace
from heedful.progress import SilentProgress
from heedful.run import Run


class Listener(SilentProgress):
    """Remembers what was said."""

    def __init__(self):
        self.said = []

    def say(self, line):
        self.said.append(line)


@pytest.fixture
def workspace(tmp_path):
    """A function that opens a run with a tiny model whose context is 64 tokens, again and again if it must be, as after a kill."""
    runs = {}

    def make(kind="llama", *chosen, source=FileSource):
        model = tmp_path / kind
        tiny.language_model(kind).save_pretrained(model)
        tiny.tokenizer().save_pretrained(model)
        settings = load_settings(None, [f"model.path={model}", "lora.r=2", "completions.max_new_tokens=8", *chosen])
        if "run" not in runs:
            runs["run"] = Run.create(tmp_path / "run", settings.model_dump())
        return Workspace(settings, source(settings), runs["run"], Listener())

    yield make
    for run in runs.values():
        run.close()
