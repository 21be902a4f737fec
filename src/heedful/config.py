"""Where settings come from, and what is wrong with them.

    defaults  <  heed.toml  <  --set section.key=value

``heedful.settings`` says what can be set. An unknown key is refused with the nearest known one, a
value of the wrong kind with what is expected, and a contradiction with its reason.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from heedful.errors import FileProblem, SettingProblem, nearest
from heedful.settings import Section, Settings, is_optional

__all__ = ["Settings", "describe_settings", "load_settings", "require", "require_complete", "settings_to_toml", "to_toml"]


def load_settings(path: Path | None, overrides: Sequence[str] = (), defaults: Mapping[str, Any] | None = None) -> Settings:
    """Settings from ``defaults``, over them a TOML file, over it overrides such as ``ppo.clip=0.1``.

    Raises ``SettingProblem`` or ``FileProblem``, each in words.
    """
    values = _merge(dict(defaults or {}), _read_toml(path) if path else {})
    for override in overrides:
        values = _merge(values, _read_override(override))
    _refuse_unknown(values)
    top = {name: value if name not in _sections() else _build(_sections()[name], value, name + ".") for name, value in values.items()}
    settings = _build(Settings, top, "")
    assert isinstance(settings, Settings)
    return settings


def require(settings: Settings, *names: str) -> None:
    """Refuse settings in which one of ``names`` (such as ``model.path``) is empty or none."""
    for name in names:
        value: Any = settings
        for part in name.split("."):
            value = getattr(value, part)
        if value in (None, ""):
            raise SettingProblem(f"{name} is not set", f"Set it in heed.toml or with --set {name}=...: {_field(name).description}")


def require_complete(settings: Settings) -> None:
    """Refuse settings that a whole run from prompts to report cannot start with."""
    require(settings, "model.path", "prompts.path")
    if settings.reward.kind == "learn" and settings.feedback.source == "none":
        raise SettingProblem(
            "reward.kind is 'learn' but feedback.source is 'none', so there is nothing to learn from",
            "Set feedback.source to 'rankings' or 'store', or reward.kind to 'pairs', 'model', 'classifier' or 'function'.",
        )


def settings_to_toml(settings: Settings) -> str:
    """Every setting as TOML; ``load_settings`` reads it back to equal settings."""
    return to_toml(settings.model_dump())


def describe_settings() -> str:
    """Every setting with its default, its kind and a sentence, as TOML that loads to the defaults."""
    lines = ["# Settings of heedful. Each stands at its default; a line that begins with '# key =' is not set."]
    sections: dict[str, type[Section]] = {"": Settings, **_sections()}
    for section, model in sections.items():
        if section:
            lines += ["", f"# {model.__doc__}", f"[{section}]"]
        for name, info in model.model_fields.items():
            if section or name not in _sections():
                unset = "# " if info.default in (None, "") else ""
                lines += [f"# {info.description} ({_expected(info)})", f"{unset}{name} = {_toml_value(info.default)}"]
    return "\n".join(lines) + "\n"


def to_toml(values: Mapping[str, Any], prefix: str = "") -> str:
    """Plain nested dictionaries as TOML: plain keys first, then a table for each dictionary."""
    plain = [f"{_toml_key(key)} = {_toml_value(value)}\n" for key, value in values.items() if not isinstance(value, Mapping)]
    tables = [(prefix + _toml_key(key), value) for key, value in values.items() if isinstance(value, Mapping)]
    return "".join(plain) + "".join(f"\n[{name}]\n{to_toml(value, name + '.')}" for name, value in tables)


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml_value(key)


def _toml_value(value: Any) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    if isinstance(value, float):
        return repr(value)
    # A JSON string is a TOML string, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise SettingProblem(f"{path} is not TOML: {error}", "Mend that line; texts stand in quotes.") from None
    except UnicodeDecodeError:
        raise FileProblem(f"{path} is not UTF-8 text", "Save it as UTF-8.") from None
    except OSError as error:
        raise FileProblem(
            f"the settings file {path} cannot be read: {error.strerror}", "Check the path, or write one with heed init."
        ) from None


def _read_override(override: str) -> dict[str, Any]:
    """``ppo.clip=0.1`` as nested dictionaries; what is not TOML, and what is meant for a text, is taken as text."""
    name, equals, raw = override.partition("=")
    parts = name.strip().split(".")
    if not equals or not all(parts):
        raise SettingProblem(f"the override {override!r} is not of the form section.key=value", "For example: --set ppo.learning_rate=1e-5")
    try:
        value: Any = tomllib.loads(f"value = {raw.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()
    if not isinstance(value, str) and _is_text(".".join(parts)):
        value = raw.strip()
    for part in reversed(parts):
        value = {part: value}
    return dict(value)


def _is_text(name: str) -> bool:
    """Whether the setting of that name holds a text, so that ``output=2024`` is one too."""
    try:
        return _field(name).annotation is str
    except KeyError:
        return False


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = {k: _merge(dict(below[k]), v) for k, v in above.items() if isinstance(v, Mapping) and isinstance(below.get(k), Mapping)}
    return {**below, **above, **both}


def _sections() -> dict[str, type[Section]]:
    return {n: type(f.default) for n, f in Settings.model_fields.items() if isinstance(f.default, Section)}


def _field(name: str) -> FieldInfo:
    """The field of a dotted name; ``KeyError`` where there is none."""
    section, dot, key = name.rpartition(".")
    return (_sections()[section] if dot else Settings).model_fields[key]


def _names() -> Iterator[str]:
    for name in Settings.model_fields:
        yield from ([name] if name not in _sections() else (f"{name}.{key}" for key in _sections()[name].model_fields))


def _refuse_unknown(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if name not in Settings.model_fields:
            meant = nearest(name, Settings.model_fields) or _elsewhere(name)
            raise SettingProblem(f"there is no setting or section {name!r}", f"Known are {', '.join(Settings.model_fields)}.{meant}")
        if name in _sections() and not isinstance(value, (Mapping, Section)):
            raise SettingProblem(f"{name} is {value!r}", f"It is a section: write [{name}] and its keys below it, or {name}.key=value.")
        known = _sections()[name].model_fields if name in _sections() else {}
        for key in value if isinstance(value, Mapping) else ():
            if key not in known:
                meant = _elsewhere(key) or nearest(key, known) or f" Known are {', '.join(known)}."
                raise SettingProblem(f"there is no setting {key!r} in section [{name}]", meant.strip())


def _elsewhere(key: str) -> str:
    """Where a key that stands in the wrong section belongs."""
    homes = [name for name in _names() if name.rpartition(".")[2] == key]
    return f" Did you mean {' or '.join(homes)}?" if homes else ""


def _build(model: type[Section], values: Any, prefix: str) -> Section:
    try:
        return model.model_validate(values)
    except ValidationError as problem:
        error = problem.errors()[0]
        name = prefix + str(error["loc"][0])
        value = values[error["loc"][0]]
        raise SettingProblem(f"{name} is {value!r}", f"It must be {_expected(_field(name))}. {_field(name).description}") from None


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list of texts"}
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "min_length": "of length at least"}


def _expected(info: FieldInfo) -> str:
    """What a setting takes, in words: ``a whole number, at least 1, or "none"``."""
    kinds = [kind for kind in get_args(info.annotation) if kind is not type(None)] if is_optional(info.annotation) else [info.annotation]
    if get_origin(kinds[0]) is Literal:
        words = "one of " + ", ".join(f'"{choice}"' for choice in get_args(kinds[0]))
    else:
        words = _KINDS[get_origin(kinds[0]) or kinds[0]]  # type: ignore[index]
    bounds = [f"{word} {getattr(limit, name)}" for limit in info.metadata for name, word in _BOUNDS.items() if hasattr(limit, name)]
    return ", ".join([words, " and ".join(bounds)] if bounds else [words]) + (', or "none"' if is_optional(info.annotation) else "")
