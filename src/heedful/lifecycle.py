"""START HERE: the whole of heedful, each stage once, in order.

    prompts -> completions -> feedback -> pairs -> reward model -> policy -> evaluation -> report

``heed demo`` and ``heed run`` call ``align`` and nothing else; the demo is a configuration and a
source of data. Every stage writes into its own folder of the run and is done once: a run that was
killed goes on from the last completed unit of work.
"""

from __future__ import annotations

import time
from typing import Any

from heedful.jobs import data, dpo, evaluation, policy, report, reward
from heedful.jobs.workspace import Source, Workspace
from heedful.progress import Progress
from heedful.run import Run
from heedful.settings import Settings


def align(settings: Settings, source: Source, run: Run, progress: Progress) -> dict[str, Any]:
    """Prompts to report; returns what ``summary.json`` holds and the verdict."""
    began = time.monotonic() - run.seconds_done()
    ws = Workspace(settings, source, run, progress)
    done: dict[str, dict[str, Any]] = {}

    # What the model is asked, split by prompt; nothing is ever decided on the test prompts.
    done["prompts"] = ws.stage("prompts", data.load_prompts)

    # What it answers, what people say about that, whom of them to believe.
    if settings.reward.kind == "learn":
        done["completions"] = ws.stage("completions", data.sample, "prompts")
        done["feedback"] = ws.stage("feedback", data.judge, "completions")

    # Preferences, frozen; a reward model that predicts them, and one that only watches.
    if ws.learns_reward:
        done["pairs"] = ws.stage("pairs", data.build_pairs, "feedback" if "feedback" in done else "prompts")
        done["reward"] = ws.stage("reward", reward.learn_reward, "pairs")

    # The policy learns to score well, or what the pairs prefer, without leaving its reference behind.
    learn = dpo.learn_from_pairs if settings.policy.algorithm == "dpo" else policy.reinforce
    policy.reopen(ws)
    done["policy"] = ws.stage("policy", learn, "reward" if "reward" in done else "prompts")

    # Did it help? On prompts that nobody has seen, with intervals; then for people to read.
    done["evaluation"] = ws.stage("evaluation", evaluation.evaluate, "policy")
    return report.write_report(ws, done, time.monotonic() - began)
