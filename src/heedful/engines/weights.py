"""Was everything that a model computes with in its file? What was not would be random numbers, and nobody would notice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from heedful.errors import ModelProblem

WHOLE = "The file is incomplete or belongs to another config.json: save or download the model again."


def check_weights(model: Any, loading: Mapping[str, Any], path: str, *, new_head: bool) -> None:
    """Raise ``ModelProblem`` for the first weight that was missing or of another shape.

    ``loading`` is what ``from_pretrained(..., output_loading_info=True)`` returned; tied weights are not
    in it. A ``new_head`` may be absent, and so may a pooler that feeds nothing but that head; a
    language model never uses its pooler.
    """
    may_be_new = _may_be_new(model, new_head)
    for name, saved, wanted in sorted(loading["mismatched_keys"]):
        if not may_be_new(name):
            raise ModelProblem(
                f"the weight {name} in {path} has the shape {list(saved)}, but its config.json asks for {list(wanted)}", WHOLE
            )
    missing = sorted(name for name in loading["missing_keys"] if not may_be_new(name))
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelProblem(f"the weight {missing[0]}{more} of the {type(model).__name__} in {path} is missing", WHOLE)


def check_adapter(model: Any, path: str) -> None:
    """Raise ``ModelProblem`` where the file of a LoRA adapter lacks one of its weights."""
    from peft import get_peft_model_state_dict
    from peft.utils.save_and_load import load_peft_weights

    missing = sorted(set(get_peft_model_state_dict(model)) - set(load_peft_weights(path, device="cpu")))
    if missing:
        raise ModelProblem(f"the weight {missing[0]} of the adapter in {path} is missing", WHOLE)


def _may_be_new(model: Any, new_head: bool) -> Callable[[str], bool]:
    trunk, is_language_model = f"{model.base_model_prefix}.", model.can_generate()
    return lambda name: (new_head and not name.startswith(trunk)) or ((new_head or is_language_model) and "pooler." in name)
