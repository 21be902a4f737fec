"""Opening models from Hugging Face folders or hub names; ``export.py`` writes such folders.

safetensors only; remote code runs only where the user asked for it; every failure is a sentence.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from heedful.engines.weights import check_adapter, check_weights
from heedful.errors import DeviceProblem, ModelProblem
from heedful.settings import ModelSettings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# Names that architectures give their query and value projections (Hu et al. 2021 adapt these two).
QUERY_AND_VALUE = {"q", "v", "q_proj", "v_proj", "query", "value", "q_lin", "v_lin", "c_attn", "query_key_value", "qkv_proj", "Wqkv"}


def choose_device(name: str) -> torch.device:
    """``auto`` takes a GPU where there is one; asking for one that is not there is refused."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise DeviceProblem(
            f"the device {name!r} was asked for, but torch sees no GPU",
            'Set model.device = "cpu" (or "auto"), or install a CUDA build of torch.',
        )
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """``auto`` takes bfloat16 where the device multiplies matrices in it natively."""
    if name != "auto":
        return DTYPES[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    natively = any(getattr(torch.cpu, f"_is_{kind}_supported", lambda: False)() for kind in ("avx512_bf16", "amx_tile"))
    return torch.bfloat16 if device.type == "cpu" and natively else torch.float32


def open_base(chosen: ModelSettings, *, learns: bool) -> tuple[Any, torch.dtype]:
    """The language model of the settings, and the precision to compute in.

    Weights that learn are float32. A base that stays as it is may stay as it was saved, unless
    everything is to be computed in float32.
    """
    device = choose_device(chosen.device)
    precision = choose_precision(chosen.precision, device)
    model = load_language_model(
        chosen.path,
        architecture=chosen.architecture,
        dtype="float32" if learns or precision == torch.float32 else "auto",
        device=chosen.device,
        trust_remote_code=chosen.trust_remote_code,
    )
    return model, precision


def load_tokenizer(path: str, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a model folder or hub name."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    except Exception as error:
        raise _cannot_open("tokenizer", path, error) from None


def load_language_model(
    path: str, *, architecture: str = "auto", dtype: str = "float32", device: str = "auto", trust_remote_code: bool = False
) -> Any:
    """A causal or encoder-decoder language model; ``dtype`` "auto" keeps the weights as they were saved.

    Where the folder holds a LoRA adapter, it is merged into its base: what the policy was when RL
    began is the reference, never the raw base below it.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    if _is_adapter(path):
        return _merge_adapter(path, architecture, dtype, device, trust_remote_code)
    config = _config(path, trust_remote_code)
    _refuse_encoder(config, path)
    encoder_decoder = config.is_encoder_decoder if architecture == "auto" else architecture == "seq2seq"
    opener = AutoModelForSeq2SeqLM if encoder_decoder else AutoModelForCausalLM
    return _open(opener, "language model", path, dtype, device, trust_remote_code)


def load_scalar_model(
    path: str, *, labels: Sequence[str] | None = None, dtype: str = "float32", device: str = "auto", trust_remote_code: bool = False
) -> Any:
    """A sequence classifier. ``labels`` makes a new head with one logit per label (one unnamed logit: ``[""]``)."""
    from transformers import AutoModelForSequenceClassification

    more: dict[str, Any] = {}
    if labels is not None:
        more = {"num_labels": len(labels)}
        if len(labels) > 1:
            more |= {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    new_head = labels is not None
    return _open(
        AutoModelForSequenceClassification, "sequence classifier", path, dtype, device, trust_remote_code, new_head=new_head, **more
    )


def load_trunk(path: str, *, dtype: str = "float32", device: str = "auto", trust_remote_code: bool = False) -> Any:
    """An encoder (or another trunk) without any head: what ``ScalarNetwork`` reads with a ``mean_head``."""
    from transformers import AutoModel

    return _open(AutoModel, "encoder", path, dtype, device, trust_remote_code)


def load_head(path: str, name: str) -> nn.Linear | None:
    """The ``mean_head`` or ``score_head`` that :mod:`heedful.engines.export` put beside a model, where there is one."""
    from safetensors.torch import load_file

    file = Path(path) / f"{name}.safetensors"
    if not file.exists():
        return None
    try:
        weight = load_file(file)["weight"]
    except Exception as error:
        raise _cannot_open("score head", str(file), error) from None
    head = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    head.weight.data.copy_(weight)
    return head


def freeze_lower(model: Any, layers: int) -> None:
    """The embeddings and the lowest ``layers`` layers stop learning, and no gradient is computed for them."""
    if layers == 0:
        return
    found = max((m for m in model.base_model.modules() if isinstance(m, nn.ModuleList)), key=len, default=nn.ModuleList())
    if layers >= len(found):
        raise ModelProblem(
            f"reward.frozen_layers is {layers}, but {type(model).__name__} has {len(found)} layers",
            f"Freeze at most {max(0, len(found) - 1)}, so that something learns.",
        )
    above = {id(p) for p in found[layers].parameters()}
    for parameter in model.base_model.parameters():  # in the order of the forward pass: embeddings, then layer after layer
        if id(parameter) in above:
            return
        parameter.requires_grad_(False)


def adapter_targets(model: nn.Module, targets: Sequence[str]) -> list[str]:
    """The module names LoRA adapts: ``["auto"]`` means every query and value projection (Hu et al. 2021),
    ``["all-linear"]`` every linear layer but the language-model head (Dettmers et al. 2023)."""
    head = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if module is output_head(model)}
    names = {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    } - head
    if list(targets) == ["all-linear"]:
        return sorted(names)
    wanted = sorted(names & QUERY_AND_VALUE) if list(targets) == ["auto"] else list(targets)
    if named := head.intersection(wanted):
        raise ModelProblem(
            f"lora.targets names {min(named)!r}, the language-model head, which gets no adapter",
            f"Leave it out. There are: {', '.join(sorted(names))}.",
        )
    missing = [t for t in wanted if t not in names]
    if missing or not wanted:
        raise ModelProblem(
            f"LoRA finds no projection named {missing or 'like query or value'} in {type(model).__name__}",
            f"Set lora.targets to some of: {', '.join(sorted(names))}.",
        )
    return wanted


def output_head(model: Any) -> Any:
    """The language-model head of a model that has one."""
    return model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None


def add_adapter(model: Any, name: str, *, r: int, alpha: int, targets: Sequence[str]) -> Any:
    """Add a LoRA adapter called ``name`` (Hu et al. 2021) and return the PEFT model around the one base."""
    from peft import LoraConfig, PeftModel, get_peft_model

    base = model.get_base_model() if isinstance(model, PeftModel) else model
    config = LoraConfig(r=r, lora_alpha=alpha, lora_dropout=0.0, bias="none", target_modules=_plain_targets(base, targets))
    if isinstance(model, PeftModel):
        model.add_adapter(name, config)
        return model
    return get_peft_model(model, config, adapter_name=name)


def set_dropout(model: nn.Module, probability: float = 0.0) -> None:
    """Set every dropout layer: RL needs the sampled and the trained policy to be the same function."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = probability


def count_parameters(*modules: nn.Module) -> tuple[int, int]:
    """(trainable, all) parameters, shared ones once."""
    every = {id(p): p for module in modules for p in module.parameters()}
    return sum(p.numel() for p in every.values() if p.requires_grad), sum(p.numel() for p in every.values())


def _plain_targets(base: nn.Module, targets: Sequence[str]) -> list[str]:
    """Like :func:`adapter_targets`, also when an earlier adapter has already wrapped the projections."""
    wrapped = {name.removesuffix(".base_layer").rsplit(".", 1)[-1] for name, _ in base.named_modules() if name.endswith(".base_layer")}
    if wrapped and list(targets) == ["auto"]:
        return sorted(wrapped & QUERY_AND_VALUE)
    if wrapped and list(targets) == ["all-linear"]:
        return sorted(wrapped)
    return list(targets) if wrapped and set(targets) <= wrapped else adapter_targets(base, targets)


def _config(path: str, trust_remote_code: bool) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    except Exception as error:
        raise _cannot_open("model", path, error) from None


def _refuse_encoder(config: Any, path: str) -> None:
    """Encoders and classifiers write nothing, though transformers opens some of them as causal language models."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    encodes = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not (
        config.is_encoder_decoder or getattr(config, "is_decoder", False)
    )
    classifies = any(name.endswith("ForSequenceClassification") for name in config.architectures or [])
    kind = "a classifier" if classifies else "an encoder"
    if encodes or classifies:
        raise ModelProblem(
            f"{path} is {kind} ({config.model_type}), not a language model: it cannot write completions",
            "Name it in reward.path or reward.base; model.path wants a causal or encoder-decoder language model.",
        )


def _open(
    opener: Any, kind: str, path: str, dtype: str, device: str, trust_remote_code: bool, *, new_head: bool = False, **more: Any
) -> Any:
    where, wanted = choose_device(device), DTYPES.get(dtype, dtype)
    try:
        model, loading = opener.from_pretrained(
            path,
            dtype=wanted,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name and shapes
            **more,
        )
    except Exception as error:
        raise _cannot_open(kind, path, error) from None
    check_weights(model, loading, path, new_head=new_head)
    if model.dtype == torch.float16:  # whose range is too small to learn in
        model = model.to(torch.bfloat16)
    # eval() for good: dropout never runs in this house, whatever the folder's config says.
    return model.to(where).eval()


def _is_adapter(path: str) -> bool:
    return (Path(path) / "adapter_config.json").exists()


def _merge_adapter(path: str, architecture: str, dtype: str, device: str, trust_remote_code: bool) -> Any:
    from peft import PeftModel

    base = load_language_model(
        _base_of_adapter(path), architecture=architecture, dtype=dtype, device=device, trust_remote_code=trust_remote_code
    )
    try:
        adapted = PeftModel.from_pretrained(base, path)
        check_adapter(adapted, path)
        merged = adapted.merge_and_unload().eval()
    except ModelProblem:
        raise
    except Exception as error:
        raise _cannot_open("adapter", path, error) from None
    # An adapter learnt on top stands on the merged weights: its folder must not name the raw base.
    merged.name_or_path = path
    return merged


def _base_of_adapter(path: str) -> str:
    """The model that an adapter's folder says it was learnt on."""
    if not list(Path(path).glob("*.safetensors")):
        raise ModelProblem(
            f"the adapter folder {path} holds no weights: there is no *.safetensors file",
            "Save the adapter again with safe serialisation; pickled weights are not opened.",
        )
    try:
        base = json.loads((Path(path) / "adapter_config.json").read_text())["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        base = None
    if not isinstance(base, str):
        raise ModelProblem(
            f"the adapter in {path} does not say which model it was learnt on",
            "Set base_model_name_or_path in its adapter_config.json to that model's folder or hub name.",
        )
    return base


def _cannot_open(kind: str, path: str, error: Exception) -> ModelProblem:
    """One sentence for the many ways in which ``from_pretrained`` fails."""
    reason = f"it has no entry {error}" if isinstance(error, KeyError) else _first_sentence(str(error)) or type(error).__name__
    local = Path(path)
    if "trust_remote_code" in str(error):
        return ModelProblem(
            f"the {kind} {path} wants to run its own code", "Set model.trust_remote_code = true only if you trust its authors."
        )
    if local.is_dir():
        if not (local / "config.json").exists():
            return ModelProblem(f"the folder {path} holds no model: config.json is missing", "Name the folder that save_pretrained wrote.")
        if kind != "tokenizer" and not list(local.glob("*.safetensors")):
            return ModelProblem(
                f"the folder {path} holds no weights: there is no *.safetensors file",
                "Save the model again with safe serialisation; pickled weights are not opened.",
            )
        return ModelProblem(
            f"the {kind} in {path} cannot be opened: {reason}", "Check that the folder is complete and that its files are whole."
        )
    if local.is_absolute() or path.startswith("."):
        return ModelProblem(f"there is no model folder {path}", "Check the path, or name a model on the hub.")
    return ModelProblem(
        f"the {kind} {path!r} is neither a folder here nor could it be fetched from the hub: {reason}",
        "Check the name and the network, or download it first and name its folder.",
    )


def _first_sentence(text: str, longest: int = 300) -> str:
    words = " ".join(text.split())
    end = words.find(". ")
    return words[: end if 0 < end < longest else longest].rstrip(".")
