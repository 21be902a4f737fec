"""The loop of reinforcement learning: it learns, it starts neutral, and no kill changes where it ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import torch

import tiny
from heedful.engines.base import Sampling
from heedful.engines.local import LocalLearner, Optimiser
from heedful.engines.networks import LanguageNetwork, Lora
from heedful.engines.seeding import seeded
from heedful.errors import ModelProblem, NotFinite, SettingProblem
from heedful.policy.grpo import GRPO
from heedful.policy.ppo import PPO
from heedful.policy.reference import check_neutral_start
from heedful.policy.reinforce import Reinforcement
from heedful.policy.rollout import collect
from heedful.policy.stopping import Stopping
from heedful.progress import SilentProgress
from heedful.records import Prompt
from heedful.settings import GrpoSettings, PpoSettings, RewardSettings

LIKED = len(tiny.SPECIAL) + 5
PROMPTS = [Prompt(str(i), f"w{i} w{i + 1}") for i in range(6)]
PROMPT_IDS = [[6 + i, 7 + i] for i in range(6)]


class Killed(Exception):
    pass


@dataclass
class ShareOfToken:
    """How much of a completion is one certain token. ``kill_at`` dies in that call."""

    kill_at: int = -1
    calls: int = 0

    def score(self, prompts, texts, batch):
        if self.calls == self.kill_at:
            raise Killed
        self.calls += 1
        return [ids.count(LIKED) / len(ids) for ids in batch.completion_ids]


@dataclass
class Trial:
    """A run with fresh objects every time, as a process that was started again has."""

    folder: Any
    network: Any = None
    steps: int = 4
    settings: dict[str, Any] = field(default_factory=dict)
    stopping: dict[str, Any] = field(default_factory=dict)
    figures: Any = None
    reward: dict[str, Any] = field(default_factory=dict)
    rate: float = 0.01
    tokens: int = 5
    evaluate_every: int = 2
    kind: str = "ppo"

    def start(self, rows: list[tuple[int, dict[str, float]]], *, kill_log=-1, kill_score=-1, kill_update=-1) -> Reinforcement:
        network = self.network() if self.network else tiny.network("llama", roles=("policy", "reference"))
        learner, scorer, logged = LocalLearner(network, optimiser=Optimiser(self.rate)), ShareOfToken(kill_score), [0]
        step = learner.step

        def dying_step():
            if learner.steps == kill_update:
                raise Killed
            return step()

        def log(at, metrics):
            if logged[0] == kill_log:
                raise Killed
            if not logged[0]:  # as Run.log does for a stage that goes on after a kill
                rows[:] = [row for row in rows if row[0] < at]
            logged[0] += 1
            rows.append((at, metrics))

        learner.step = dying_step  # type: ignore[method-assign]
        held_out = self.figures or (lambda at: self.held_out(learner))
        options = {
            "batch_size": 6,
            "minibatch_size": 3,
            "epochs": 2,
            "max_steps": self.steps,
            "kl_controller": "adaptive",
            "kl_target": 0.5,
            "kl_horizon": 50,
        }
        return Reinforcement(
            learner=learner,
            tokenizer=tiny.tokenizer(),
            scorer=scorer,
            prompts=PROMPTS,
            prompt_ids=PROMPT_IDS,
            sampling=Sampling(self.tokens),
            algorithm=self.algorithm({**options, **self.settings}),
            reward=RewardSettings(**self.reward),
            stopping=Stopping(max_steps=self.steps, **self.stopping),
            evaluate_every=self.evaluate_every,
            evaluate=held_out,
            folder=self.folder,
            log=log,
            progress=SilentProgress(),
            seed=5,
        )

    def algorithm(self, settings):
        return GRPO(GrpoSettings(completions_per_prompt=3, **settings)) if self.kind == "grpo" else PPO(PpoSettings(**settings))

    def held_out(self, learner):
        seen = collect(learner, tiny.tokenizer(), ShareOfToken(), PROMPTS, PROMPT_IDS, Sampling(self.tokens), range(90, 96))
        return {"score": float(seen.scores.mean()), "kl": float(seen.kl.sum(1).mean())}

    def run(self, rows=None, **kill):
        loop = self.start([] if rows is None else rows, **kill)
        loop.train()
        return loop


def assert_same(one, rows, other, others):
    """Weights, moments, metrics, KL controller and the memory of the stopping rules, bit for bit."""
    assert others == rows
    assert other.stopping == one.stopping
    assert other.algorithm.kl_control.coef == one.algorithm.kl_control.coef
    assert other.scale == one.scale
    assert (other.step, other.learner.steps) == (one.step, one.learner.steps)
    for name, parameter in one.learner.parameters.items():
        twin = other.learner.parameters[name]
        assert torch.equal(parameter, twin), name
        moments, twins = one.learner.optimiser.state.get(parameter, {}), other.learner.optimiser.state.get(twin, {})
        assert moments.keys() == twins.keys()
        assert all(torch.equal(moments[key], twins[key]) for key in moments), name
    for (_, first), (_, second) in zip(newest_checkpoints(one), newest_checkpoints(other), strict=True):
        assert first == second


def newest_checkpoints(loop):
    found = [checkpoints.newest() for checkpoints in (loop.checkpoints, loop.best)]
    return [(step, (folder / "weights.safetensors").read_bytes()) for step, folder in found]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    rows: list[Any] = []
    loop = Trial(tmp_path_factory.mktemp("whole")).run(rows)
    assert (loop.step, loop.stopping.reason, loop.learner.steps > 0) == (4, "max_steps", True)
    assert [step for step, _ in rows] == [0, 1, 2, 2, 3, 4, 4]
    assert loop.algorithm.kl_control.coef != PpoSettings().kl_coef, "the adaptive controller has moved"
    return loop, rows


KILLS = [{"kill_log": at} for at in range(7)] + [{"kill_score": at} for at in range(4)] + [{"kill_update": at} for at in range(0, 16, 3)]


@pytest.mark.parametrize("kill", KILLS, ids=lambda kill: "-".join(f"{k}{v}" for k, v in kill.items()))
def test_killed_anywhere_and_resumed_is_uninterrupted(kill, whole, tmp_path):
    rows: list[Any] = []
    with pytest.raises(Killed):
        Trial(tmp_path).run(rows, **kill)
    assert_same(*whole, Trial(tmp_path).run(rows), rows)


CASES = [(kind, lora) for kind in tiny.KINDS for lora in (True, False)]
NAMES = [f"{kind}-{'lora' if lora else 'full'}" for kind, lora in CASES]


@pytest.mark.parametrize(("kind", "lora"), CASES, ids=NAMES)
def test_grpo_killed_again_and_again_is_uninterrupted(kind, lora, tmp_path):
    """While the first rollout is scored, while the second step is logged, while the third is scored, between its updates."""

    def trial(folder):
        network = partial(tiny.network, kind, lora=lora, roles=("policy", "reference"))
        return Trial(folder, network, steps=3, kind="grpo", settings={"epochs": 1})

    rows: list[Any] = []
    whole_rows: list[Any] = []
    whole = trial(tmp_path / "whole").run(whole_rows)
    assert [step for step, _ in whole_rows] == [0, 1, 2, 2, 3, 3]
    for kill in ({"kill_score": 0}, {"kill_log": 1}, {"kill_score": 0}, {"kill_update": 5}):
        with pytest.raises(Killed):
            trial(tmp_path / "killed").run(rows, **kill)
    assert_same(whole, whole_rows, trial(tmp_path / "killed").run(rows), rows)


def test_grpo_samples_several_completions_of_each_prompt(tmp_path):
    """Three of each of two prompts, side by side; the next rollout takes the next two, so that three make a pass."""
    loop, seen = Trial(tmp_path, steps=3, kind="grpo").start([]), []
    score = loop.scorer.score
    loop.scorer.score = lambda prompts, texts, batch: (seen.append((prompts, batch)), score(prompts, texts, batch))[1]
    loop.train()
    assert len(seen) == 3
    for prompts, batch in seen:
        assert [p.id for p in prompts[:3]] == [prompts[0].id] * 3
        assert [p.id for p in prompts[3:]] == [prompts[3].id] * 3
        assert batch.prompt_ids == [PROMPT_IDS[int(p.id)] for p in prompts]
        assert len({tuple(ids) for ids in batch.completion_ids}) > 3, "completions of a prompt are drawn apart"
    assert sorted(prompts[at].id for prompts, _ in seen for at in (0, 3)) == [p.id for p in PROMPTS]


@pytest.mark.parametrize("every", [2, 3])
def test_fewer_checkpoints_only_cost_time(every, whole, tmp_path):
    rows: list[Any] = []
    trial = Trial(tmp_path, settings={"checkpoint_every": every})
    with pytest.raises(Killed):
        trial.run(rows, kill_update=13)
    loop = trial.run(rows)
    assert loop.scorer.calls < 4, "it did not start again"
    assert_same(*whole, loop, rows)


def test_a_rollout_that_was_sampled_before_the_kill_is_not_sampled_again(tmp_path):
    with pytest.raises(Killed):
        Trial(tmp_path).run(kill_update=10)  # in the middle of the third iteration's updates
    assert Trial(tmp_path).run().scorer.calls == 1, "only the fourth iteration's"


def test_only_the_newest_rollout_is_kept_and_none_at_the_end(tmp_path):
    with pytest.raises(Killed):
        Trial(tmp_path).run(kill_update=10)  # in the middle of the third iteration's updates
    assert [path.name for path in (tmp_path / "rollouts").iterdir()] == ["step-00000002"]
    Trial(tmp_path).run()
    assert not (tmp_path / "rollouts").exists()


@pytest.mark.parametrize("damage", ["truncate", "remove", "garble"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(damage, whole, tmp_path):
    rows: list[Any] = []
    with pytest.raises(Killed):
        Trial(tmp_path).run(rows, kill_update=13)
    newest = max((tmp_path / "checkpoints").glob("step-*"))
    assert newest.name == "step-00000003"
    weights = newest / "weights.safetensors"
    content = weights.read_bytes()
    if damage == "remove":
        weights.unlink()
    else:
        weights.write_bytes(content[:100] if damage == "truncate" else content[:-4] + b"abcd")
    assert_same(*whole, Trial(tmp_path).run(rows), rows)


def test_a_finished_run_does_nothing_more(whole, tmp_path):
    rows: list[Any] = []
    Trial(tmp_path).run(rows)
    again = Trial(tmp_path).run(rows)
    assert again.scorer.calls == 0
    assert_same(*whole, again, rows)


def test_a_run_that_may_go_on_for_longer_ends_where_a_longer_one_ends(whole, tmp_path):
    """Half-way through, and after its last step."""
    for steps, kill in ((2, {}), (3, {"kill_update": 8})):
        rows: list[Any] = []
        trial = Trial(tmp_path / str(steps), steps=steps)
        if kill:
            with pytest.raises(Killed):
                trial.run(rows, **kill)
        else:
            assert trial.run(rows).stopping.reason == "max_steps"
        assert_same(*whole, Trial(tmp_path / str(steps)).run(rows), rows)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_run_that_shall_end_sooner_than_it_has_come_looks_once_more_and_ends(steps, tmp_path):
    rows: list[Any] = []
    with pytest.raises(Killed):
        Trial(tmp_path).run(rows, kill_score=3)
    assert [step for step, _ in rows] == [0, 1, 2, 2, 3]
    loop = Trial(tmp_path, steps=steps).run(rows)
    assert (loop.stopping.reason, loop.step, loop.scorer.calls) == ("max_steps", 3, 0)
    assert [row["step"] for row in loop.stopping.history] == [0, 2, 3]


@pytest.mark.parametrize(("kind", "rate"), [("llama", 0.01), ("t5", 0.02)])
def test_it_learns_to_write_the_token_it_is_paid_for(kind, rate, tmp_path):
    """A Llama with adapters, a T5 with all of its weights."""

    def network():
        lora = Lora(8, 16, targets=("q_proj", "v_proj", "o_proj", "up_proj", "down_proj")) if kind == "llama" else None
        with seeded(0):
            return LanguageNetwork(tiny.language_model(kind), tiny.tokenizer(), lora=lora, with_value=True)

    settings = {"batch_size": 48, "minibatch_size": 24, "kl_controller": "fixed", "kl_coef": 0.01, "checkpoint_every": 20}
    rows: list[Any] = []
    loop = Trial(tmp_path, network, steps=20, rate=rate, tokens=6, evaluate_every=20, settings=settings).run(rows)
    first, last = loop.stopping.history
    assert first["score"] < 0.15
    assert last["score"] > 0.5
    assert last["kl"] > 1
    assert next(metrics["objective/kl"] for at, metrics in rows if at == 1) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("kind", "lora"), CASES, ids=NAMES)
def test_grpo_learns_to_write_the_token_it_is_paid_for(kind, lora, tmp_path):
    def network():
        with seeded(0):
            adapters = Lora(8, 16, targets=("all-linear",)) if lora else None
            return LanguageNetwork(tiny.language_model(kind), tiny.tokenizer(), lora=adapters)

    settings = {"batch_size": 24, "minibatch_size": 24, "kl_controller": "fixed", "kl_coef": 0.01, "checkpoint_every": 20}
    trial = Trial(tmp_path, network, steps=12, rate=0.02, tokens=4, evaluate_every=12, settings=settings, kind="grpo")
    first, last = trial.run().stopping.history
    assert first["score"] < 0.2
    assert last["score"] > first["score"] + 0.3
    assert last["kl"] > 0.5


def test_a_policy_that_is_not_its_reference_at_the_start_is_refused(tmp_path):
    def network():
        return tiny.shake(tiny.network("llama", roles=("policy", "reference")))

    with pytest.raises(ModelProblem, match=r"before the first update the policy and the reference differ by \d+\.\d+"):
        Trial(tmp_path, network).run()
    loop = Trial(tmp_path / "again", lambda: tiny.network("llama", roles=("policy", "reference"))).start([])
    assert loop.train().reason == "max_steps"


@pytest.mark.parametrize(("kind", "lora"), CASES, ids=NAMES)
def test_in_bfloat16_the_start_is_checked_as_closely(kind, lora, tmp_path):
    """A policy and a reference that differ by less than bfloat16 may round while sampling are still two models."""
    fresh = tiny.network(kind, lora=lora, roles=("policy", "reference"), precision=torch.bfloat16)
    check_neutral_start(learner := LocalLearner(fresh), tiny.batch(4))
    tiny.shake(fresh, by=0.005 if lora else 0.001)
    policy, reference = (learner.evaluate(tiny.batch(4), role).logprobs for role in ("policy", "reference"))
    assert 1e-3 < float((policy - reference).abs().max()) < learner.rounding
    with pytest.raises(ModelProblem, match=r"before the first update the policy and the reference differ by 0\.\d+"):
        check_neutral_start(learner, tiny.batch(4))
    if kind == "llama":
        with pytest.raises(ModelProblem, match="before the first update"):
            Trial(tmp_path, lambda: fresh).run()


def test_noise_in_the_model_is_noticed_before_it_learns_from_it(tmp_path):
    def network():
        noisy = tiny.network("llama", roles=("policy", "reference"))
        plain = noisy.forward

        def with_noise(batch, role, **more):
            found = plain(batch, role, **more)
            if torch.is_grad_enabled():
                object.__setattr__(found, "logprobs", found.logprobs + 0.05)
            return found

        noisy.forward = with_noise
        return noisy

    with pytest.raises(ModelProblem, match=r"the first ratio is 1\.05\d*, not 1"):
        Trial(tmp_path, network).run()


def test_what_is_no_number_is_told_with_its_iteration_and_leaves_the_checkpoint(tmp_path):
    trial = Trial(tmp_path)
    loop = trial.start([])
    scorer = loop.scorer

    class Exploding:
        def score(self, prompts, texts, batch):
            scores = scorer.score(prompts, texts, batch)
            return [float("nan")] * len(scores) if scorer.calls == 3 else scores

    loop.scorer = Exploding()
    with pytest.raises(NotFinite, match="PPO iteration 3: the loss became"):
        loop.train()
    assert loop.checkpoints.newest()[0] == 2


def figures_from(values):
    """Held-out evaluations with given scores (and KLs), in order."""
    supply = iter(values)

    def evaluate(step):
        value = next(supply)
        return dict(zip(("score", "kl"), value if isinstance(value, tuple) else (value, 0.0), strict=True))

    return evaluate


@pytest.mark.parametrize(
    ("stopping", "values", "reason", "step", "best_step"),
    [
        ({"target": 0.9}, [0.1, 0.5, 0.95], "target", 2, 2),
        ({"target": 0.2, "direction": "below"}, [0.5, 0.3, 0.2], "target", 2, 2),
        ({"kl_budget": 2.0}, [(0.1, 0.0), (0.5, 1.0), (0.9, 2.5)], "kl_budget", 2, 1),
        ({"patience": 2}, [0.1, 0.5, 0.4, 0.45], "turned_down", 3, 1),
        ({}, [0.1, 0.5, 0.4, 0.3, 0.2], "max_steps", 4, 1),
    ],
    ids=["target", "below", "kl_budget", "turned_down", "max_steps"],
)
def test_every_rule_stops_and_the_best_weights_are_kept(stopping, values, reason, step, best_step, tmp_path):
    trial = Trial(tmp_path, stopping=stopping, figures=figures_from(values), evaluate_every=1)
    weights: dict[int, torch.Tensor] = {}
    loop = trial.start([])
    save = loop.checkpoints.save

    def remember(at, write):
        weights[at] = next(iter(loop.learner.parameters.values())).detach().clone()
        return save(at, write)

    loop.checkpoints.save = remember
    stopped = loop.train()
    assert (stopped.reason, loop.step, stopped.best_step) == (reason, step, best_step)
    assert len(stopped.history) == step + 1
    final = next(iter(loop.learner.parameters.values()))
    assert torch.equal(final, weights[best_step])
    if step != best_step:
        assert not torch.equal(final, weights[step]), "the best, not the last"


def test_an_unknown_metric_is_named_before_anything_is_trained(tmp_path):
    trial = Trial(tmp_path, stopping={"metric": "scor"})
    loop = trial.start([])
    with pytest.raises(
        SettingProblem, match=r"stopping\.metric is 'scor', but held-out evaluations measure kl, score.*Did you mean 'score'\?"
    ):
        loop.train()
    assert loop.learner.steps == 0


def test_scores_are_scaled_once_by_the_starting_policys(tmp_path):
    rows: list[Any] = []
    loop = Trial(tmp_path, reward={"normalise": True, "clip": 5.0}).run(rows)
    first = next(metrics for at, metrics in rows if "objective/score" in metrics)
    assert loop.scale.mean == pytest.approx(first["objective/score"])
    assert loop.scale.sd == pytest.approx(first["objective/score_sd"])
    assert first["objective/reward"] == pytest.approx(0, abs=1e-5)
    plain = Trial(tmp_path / "plain", reward={"normalise": False}).run()
    assert (plain.scale.mean, plain.scale.sd) == (0.0, 1.0)


def test_where_the_best_weights_are_damaged_the_last_are_kept_and_it_is_said(tmp_path, monkeypatch):
    """Told, with the best step put right; never the last weights under the name of the best."""
    figures = {0: 1.0, 2: 5.0, 4: 2.0}
    trial, said = Trial(tmp_path, figures=lambda at: {"score": figures[at], "kl": 0.1}), []
    monkeypatch.setattr(SilentProgress, "say", lambda _, line: said.append(line))
    loop = trial.start([])
    weigh = loop.stopping.update

    def update(step, values):
        if step == 4:
            for file in (tmp_path / "best").glob("step-*/*.safetensors"):
                file.write_bytes(b"damaged")
        return weigh(step, values)

    loop.stopping.update = update
    stopped = loop.train()
    assert (stopped.best_step, stopped.best) == (4, 2.0)
    assert any("is damaged" in line for line in said), "checkpoints tell of damage"
    assert any("the best weights, of step 2" in line and "those of the last step, 4" in line for line in said)
