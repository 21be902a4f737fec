"""Settings: layers, words for what is wrong, and TOML that reads back."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import heedful
from heedful import errors
from heedful.config import Settings, describe_settings, load_settings, require, require_complete, settings_to_toml, to_toml
from heedful.errors import FileProblem, SettingProblem
from heedful.settings import DpoSettings, GrpoSettings, Section


def refusal(*overrides: str) -> str:
    with pytest.raises(SettingProblem) as caught:
        load_settings(None, overrides)
    return str(caught.value)


def test_later_layers_win_and_leave_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "heed.toml"
    file.write_text('[ppo]\nclip = 0.3\nepochs = 5\n[model]\npath = "from-file"\n')
    settings = load_settings(file, ["ppo.epochs=7", "seed=3"], {"ppo": {"clip": 0.4, "gamma": 0.9}, "model": {"device": "cpu"}})
    assert (settings.ppo.clip, settings.ppo.epochs, settings.ppo.gamma) == (0.3, 7, 0.9)
    assert (settings.model.path, settings.model.device, settings.seed) == ("from-file", "cpu", 3)
    assert settings.ppo.batch_size == Settings().ppo.batch_size


def test_overrides_are_toml_or_text() -> None:
    settings = load_settings(
        None, ["lora.targets=['q', \"v\"]", "model.path=google/flan-t5-small", "output=2024", "lora.enabled=false", "ppo.clip = 0.1"]
    )
    assert settings.lora.targets == ["q", "v"]
    assert settings.model.path == "google/flan-t5-small"
    assert settings.output == "2024"  # a text although it reads as a number
    assert settings.lora.enabled is False
    assert settings.ppo.clip == 0.1


def test_none_is_a_word_only_where_a_setting_may_be_open() -> None:
    assert load_settings(None, ["stopping.kl_budget=none"]).stopping.kl_budget is None
    assert "ppo.epochs is 'none'" in refusal("ppo.epochs=none")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("ppo.clipp=0.1", ["'clipp'", "[ppo]", "'clip'"]),
        ("model.kl_coef=0.1", ["'kl_coef'", "[model]", "ppo.kl_coef"]),
        ("pppo.clip=0.1", ["'pppo'", "'ppo'"]),
        ("kl_coef=0.1", ["'kl_coef'", "ppo.kl_coef"]),
        ("ppo.epochs=many", ["ppo.epochs", "'many'", "a whole number, at least 1"]),
        ("ppo.epochs=true", ["ppo.epochs", "True", "a whole number"]),
        ("ppo.epochs=1.5", ["ppo.epochs", "1.5", "a whole number"]),
        ("ppo.learning_rate=nan", ["ppo.learning_rate", "nan", "above 0"]),
        ("reward.truncated_penalty=nan", ["reward.truncated_penalty", "nan", "a number"]),
        ("reward.truncated_penalty=-inf", ["reward.truncated_penalty", "-inf"]),
        ("ppo.clip=1.5", ["ppo.clip", "1.5", "above 0 and below 1"]),
        ("grpo.completions_per_prompt=1", ["grpo.completions_per_prompt is 1", "at least 2", "compared with one another"]),
        ("grpo.kl_estimator=k1", ["grpo.kl_estimator is 'k1'", '"exact", "k3"']),
        ("dpo.label_smoothing=0.5", ["dpo.label_smoothing is 0.5", "below 0.5"]),
        ("policy.algorithm=reinforce", ["policy.algorithm", '"ppo", "grpo", "dpo"']),
        ("lora.enabled=1", ["lora.enabled", "true or false"]),
        ("lora.targets=q", ["lora.targets", "'q'", "a list of texts"]),
        ("prompts.format=xml", ["prompts.format", "'xml'", '"jsonl"', '"parquet"']),
        ("ppo=3", ["ppo is 3", "[ppo]"]),
        ("ppo.clip.deep=3", ["ppo.clip"]),
        ("ppo.clip", ["'ppo.clip'", "section.key=value"]),
        ("evaluation.max_prompts=0", ["evaluation.max_prompts", 'at least 1, or "none"']),
    ],
)
def test_what_is_wrong_is_named(override: str, words: list[str]) -> None:
    message = refusal(override)
    assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["ppo.batch_size=8", "ppo.minibatch_size=9"], ["ppo.minibatch_size is 9", "ppo.batch_size is 8"]),
        (["prompts.min_characters=10", "prompts.max_characters=9"], ["prompts.min_characters is 10", "prompts.max_characters is 9"]),
        (["ppo.kl_controller=adaptive", "ppo.kl_coef=0"], ["ppo.kl_coef"]),
        (["ppo.warmup_steps=5", "ppo.max_steps=5"], ["ppo.warmup_steps"]),
        (["grpo.warmup_steps=5", "grpo.max_steps=5"], ["grpo.warmup_steps is 5", "grpo.max_steps is 5"]),
        (["grpo.batch_size=16", "grpo.minibatch_size=32"], ["grpo.minibatch_size is 32"]),
        (["grpo.completions_per_prompt=5"], ["grpo.batch_size is 64", "grpo.completions_per_prompt is 5", "stay together"]),
        (["grpo.minibatch_size=4"], ["grpo.minibatch_size is 4", "grpo.completions_per_prompt is 8"]),
        (["grpo.kl_controller=adaptive", "grpo.kl_coef=0"], ["grpo.kl_coef is 0"]),
        (["dpo.variant=ipo", "dpo.label_smoothing=0.1"], ["dpo.label_smoothing is 0.1", "dpo.variant is 'ipo'"]),
        (["dpo.variant=exo_pair"], ["dpo.label_smoothing is 0", "0.001"]),
        (["policy.algorithm=dpo", "reward.kind=function", "reward.path=r.py:f"], ["'dpo'", "reward.kind is 'function'", "'pairs'"]),
        (["feedback.source=rankings"], ["feedback.path"]),
        (["reward.kind=pairs"], ["reward.path"]),
        (["reward.kind=classifier", "reward.path=m"], ["reward.label"]),
        (["feedback.source=simulated", "completions.per_prompt=1"], ["completions.per_prompt", "2 to 9"]),
    ],
)
def test_contradictions_are_refused(overrides: list[str], words: list[str]) -> None:
    message = refusal(*overrides)
    assert [word for word in words if word not in message] == [], message


def test_bounds_that_touch_are_no_contradiction() -> None:
    settings = load_settings(None, ["ppo.batch_size=8", "ppo.minibatch_size=8", "prompts.min_characters=9", "prompts.max_characters=9"])
    assert settings.ppo.minibatch_size == 8


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().ppo.clip = 0.5  # type: ignore[misc]


def test_a_bad_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="No such file"):
        load_settings(tmp_path / "absent.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("seed = 1\n[ppo\n")
    with pytest.raises(SettingProblem, match="line 2"):
        load_settings(broken)
    broken.write_bytes(b'output = "\xff"\n')
    with pytest.raises(FileProblem, match="UTF-8"):
        load_settings(broken)


def test_settings_survive_toml(tmp_path: Path) -> None:
    settings = load_settings(
        None,
        ["stopping.kl_budget=none", "ppo.learning_rate=1e-5", 'prompts.template="a\\n\\"{x}\\"\\\\ é 🙂"', "evaluation.measures=['a','b']"],
    )
    file = tmp_path / "config.toml"
    file.write_text(settings_to_toml(settings), encoding="utf-8")
    assert load_settings(file) == settings
    assert settings != Settings()


def test_the_description_loads_to_the_defaults_and_names_every_setting(tmp_path: Path) -> None:
    file = tmp_path / "heed.toml"
    file.write_text(describe_settings())
    assert load_settings(file) == Settings()
    # With the unset ones taken in as well, every key is there and the values are still the defaults.
    live = "\n".join(line.removeprefix("# ") if '= "' in line else line for line in describe_settings().splitlines())
    live = "\n".join(line for line in live.splitlines() if not line.startswith("# "))
    file.write_text(live)
    assert load_settings(file) == Settings()
    written = tomllib.loads(live)
    assert {k: set(v) for k, v in written.items() if isinstance(v, dict)} == {
        k: set(v) for k, v in Settings().model_dump().items() if isinstance(v, dict)
    }


def test_settings_and_mathematics_know_the_same_losses() -> None:
    pytest.importorskip("torch")
    from heedful.maths import advantages, preference_losses

    variants = DpoSettings.model_fields["variant"].annotation
    assert set(get_args(variants)) == set(preference_losses.VARIANTS)
    for variant in preference_losses.VARIANTS:
        smooths = variant in preference_losses.SMOOTHED
        assert not smooths or DpoSettings(variant=variant, label_smoothing=0.1).label_smoothing == 0.1
        assert smooths or "smooth" in refusal(f"dpo.variant={variant}", "dpo.label_smoothing=0.1")
    assert get_args(GrpoSettings.model_fields["scale"].annotation) == advantages.GROUP_SCALES


def test_the_section_of_the_chosen_algorithm() -> None:
    assert Settings().algorithm == Settings().ppo
    assert load_settings(None, ["policy.algorithm=grpo", "grpo.clip=0.3"]).algorithm == GrpoSettings(clip=0.3)
    assert load_settings(None, ["policy.algorithm=dpo", "dpo.beta=0.3"]).algorithm == DpoSettings(beta=0.3)


def test_every_setting_has_a_sentence() -> None:
    for name, section in Settings().model_dump().items():
        model = type(getattr(Settings(), name))
        for key in section if isinstance(section, dict) else ():
            assert (model.model_fields[key].description or "").endswith("."), f"{name}.{key}"


values = st.one_of(
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]))),
)


@given(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.one_of(values, st.dictionaries(st.sampled_from("ab c"), values)))
)
def test_toml_is_read_back_by_the_standard_library(data: dict) -> None:
    assert tomllib.loads(to_toml(data)) == data


def test_require_names_what_is_missing() -> None:
    with pytest.raises(SettingProblem, match=r"model.path is not set"):
        require(Settings(), "model.path")
    require(load_settings(None, ["model.path=m"]), "model.path")
    ready = ["model.path=m", "prompts.path=p.jsonl"]
    with pytest.raises(SettingProblem, match="nothing to learn from"):
        require_complete(load_settings(None, ready))
    require_complete(load_settings(None, [*ready, "feedback.source=simulated"]))
    require_complete(load_settings(None, [*ready, "reward.kind=model", "reward.path=r"]))


def test_reading_settings_loads_no_model_library() -> None:
    heavy = "'torch', 'transformers', 'rich', 'scipy'"
    code = f"import sys, heedful.config, heedful.run, heedful.progress; print([m for m in ({heavy}) if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_kl_horizon_that_is_too_short_for_a_batch_is_refused_with_the_settings() -> None:
    """0.2 x 64 = 12.8 completions of change in one update."""
    for section in ("ppo", "grpo"):
        adaptive = f"{section}.kl_controller=adaptive"
        assert f"{section}.kl_horizon is 12 but {section}.batch_size is 64" in refusal(adaptive, f"{section}.kl_horizon=12")
        load_settings(None, [adaptive, f"{section}.kl_horizon=13"])
        load_settings(None, [f"{section}.kl_horizon=12"])


SOURCES = sorted(Path(heedful.__file__).parent.rglob("*.py"))
SECTIONS = {name: set(type(value).model_fields) for name, value in Settings() if isinstance(value, Section)}


def said_by_errors(source: Path) -> Iterator[str]:
    """The texts of every error that a file raises or makes."""
    for call in ast.walk(ast.parse(source.read_text())):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in vars(errors):
            yield from (node.value for node in ast.walk(call) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_every_setting_that_an_error_names_exists() -> None:
    named = re.compile(rf"(?<![\w.])({'|'.join(SECTIONS)})\.([a-z]\w*)")
    found = {
        (section, name)
        for source in SOURCES
        for text in said_by_errors(source)
        for section, name in named.findall(text)
        if name not in ("json", "jsonl", "toml")  # a file
    }
    assert len(found) > 25
    assert {f"{section}.{name}" for section, name in found if name not in SECTIONS[section]} == set()
