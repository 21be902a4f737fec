"""The stopping rules and their memory."""

from __future__ import annotations

import json

import pytest

from heedful.errors import SettingProblem
from heedful.policy.stopping import Stopping


def feed(stopping, *figures):
    """Updates in order; for each whether it was the best, until a rule speaks."""
    found = []
    for step, one in enumerate(figures):
        found.append(stopping.update(step, one if isinstance(one, dict) else {"score": one, "kl": 0.0}))
        if stopping.reason:
            break
    return found


def test_the_target_counts_when_it_is_met_exactly_and_from_the_wanted_side():
    above, below = Stopping(target=0.5), Stopping(target=0.5, direction="below")
    assert feed(above, 0.4, 0.5) == [True, True]
    assert feed(below, 0.6, 0.4) == [True, True]
    assert above.reason == below.reason == "target"
    assert feed(Stopping(target=0.5), 0.4, 0.499) == [True, True]


def test_a_target_of_zero_is_a_target():
    stopping = Stopping(target=0.0)
    feed(stopping, -1.0, 0.0)
    assert stopping.reason == "target"


def test_what_is_beyond_the_kl_budget_is_never_the_best():
    stopping = Stopping(kl_budget=2.0)
    assert feed(stopping, {"score": 0.1, "kl": 2.0}, {"score": 0.9, "kl": 2.1}) == [True, False]
    assert (stopping.reason, stopping.best, stopping.best_step) == ("kl_budget", 0.1, 0)


def test_the_kl_budget_speaks_before_the_target():
    stopping = Stopping(target=0.5, kl_budget=2.0)
    feed(stopping, {"score": 0.9, "kl": 3.0})
    assert stopping.reason == "kl_budget"


def test_patience_counts_evaluations_without_a_better_one_and_starts_again_after_a_better_one():
    stopping = Stopping(patience=2)
    assert feed(stopping, 0.5, 0.4, 0.6, 0.6, 0.5, 0.9) == [True, False, True, False, False]
    assert (stopping.reason, stopping.best, stopping.best_step) == ("turned_down", 0.6, 2)
    never = Stopping(patience=0)
    feed(never, *[1.0 - i / 10 for i in range(9)])
    assert never.reason is None


def test_max_steps_is_the_last_rule():
    stopping = Stopping(max_steps=2)
    feed(stopping, 0.1, 0.2, 0.3)
    assert stopping.reason == "max_steps"
    stopping = Stopping(max_steps=2, target=0.3)
    feed(stopping, 0.1, 0.2, 0.3)
    assert stopping.reason == "target"


def test_an_unknown_metric_names_the_nearest():
    with pytest.raises(SettingProblem, match=r"'toxcity', but held-out evaluations measure score, toxicity.*Did you mean 'toxicity'\?"):
        Stopping(metric="toxcity").update(0, {"score": 1.0, "toxicity": 0.1})


def test_another_metric_decides():
    stopping = Stopping(metric="toxicity", direction="below")
    assert feed(stopping, {"score": 1.0, "toxicity": 0.5}, {"score": 2.0, "toxicity": 0.6}, {"score": 0.0, "toxicity": 0.1}) == [
        True,
        False,
        True,
    ]


def remembered(stopping, **rules):
    """A new run's rules with the memory of another, as JSON keeps it."""
    again = Stopping(**rules)
    again.load_state_dict(json.loads(json.dumps(stopping.state_dict())), step=len(stopping.history) - 1)
    return again


def test_the_memory_survives_json():
    rules = {"target": 0.9, "kl_budget": 3.0, "patience": 4}
    stopping = Stopping(**rules)
    feed(stopping, 0.1, 0.3, 0.2)
    again = remembered(stopping, **rules)
    assert again == stopping
    assert feed(again, 0.95) == [True]


def test_the_rules_are_those_of_the_run_that_goes_on():
    stopping = Stopping(max_steps=2)
    feed(stopping, 0.1, 0.3, 0.2)
    assert stopping.reason == "max_steps"
    assert [remembered(stopping, max_steps=steps).reason for steps in (1, 2, 3)] == ["max_steps", "max_steps", None]
    feed(reached := Stopping(max_steps=5, target=0.3), 0.1, 0.3)
    assert remembered(reached, max_steps=50, target=0.3).reason == "target"
