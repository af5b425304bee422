"""A GGUF file -> a Hugging Face folder that computes what the file states.

In: a GGUF file. Out: config, float16 weights (a quantised file carries less precision than that) and tokenizer.

transformers silently ignores metadata and tensors of a GGUF file that it does not support. So everything that the file
states is compared with the model that transformers made. Rotary frequencies, their scaling and the sliding window are
added to the config here. Whatever else is missing, different or unsupported is refused by name.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lea_core.common.artifacts import publish_folder, write_json
from lea_core.common.errors import LeaError, reason

ROTARY = "rope.scaling."
FACTORS = "rope_freqs.weight"  # what Llama 3's scaling divides each rotary frequency by
YARN = {
    "factor": "factor",
    "original_context_length": "original_max_position_embeddings",
    "yarn_beta_fast": "beta_fast",
    "yarn_beta_slow": "beta_slow",
}
# Keys without the architecture's name -> attributes of the config, beside those that transformers maps itself.
CONFIG = {
    "attention.key_length": "head_dim",
    "attention.value_length": "head_dim",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "attention.sliding_window": "sliding_window",
    "context_length": "max_position_embeddings",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
    "feed_forward_length": "intermediate_size",
    "final_logit_softcapping": "final_logit_softcapping",
    "rope.dimension_count": "rotary_dim",
    "rope.freq_base": "rope_theta",
    "vocab_size": "vocab_size",
}
IGNORED = ("rope.scaling.finetuned", "tensor_data_layout")  # keys without influence on what the model computes
MEND = "use the model's Hugging Face folder"


@dataclass(frozen=True)
class Header:
    """architecture: its name.  stated: its metadata, by key without that name.  tensors: their names."""

    architecture: str
    stated: dict[str, Any]
    tensors: tuple[str, ...]


def convert(file: Path, source: str, folder: Path, card: str) -> None:
    """Publish the model of `file` as `folder`, with the file `card` beside it; messages call the GGUF file `source`.

    Raises `LeaError` where the file is broken, or where transformers' model would compute something else.
    """
    import torch
    from safetensors.torch import save_file

    header = _read_header(file, source)
    with _read_once():
        model = _load_model(file, source)
        _check_tensors(header, model, source)
        _complete_config(header, file, model.config, source)
        tokenizer = _load_tokenizer(file, source)
    _check_config(header, model.config, source)
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)} - dict(model.named_parameters()).keys()
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items() if name not in tied}
    if large := [name for name, value in weights.items() if not torch.isfinite(value).all()]:
        raise LeaError(f"{source}: GGUF file with {shortened(large)} beyond the range of float16: {MEND}")
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config  # the saved weights are plain
    with publish_folder(folder) as temporary:
        model.config.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        save_file(weights, temporary / "model.safetensors", metadata={"format": "pt"})
        write_json(temporary / card, {"kind": "here", "source": source})


def shortened(names: list[str]) -> str:
    """The first three of some names, and how many more there are."""
    first = ", ".join(sorted(names)[:3])
    return f"{first} and {len(names) - 3} more" if len(names) > 3 else first


@contextmanager
def _read_once() -> Iterator[None]:
    """Let transformers read a file's header once, instead of once each for config, weights and tokenizer.

    It also builds gguf's map of tensor names once. transformers would build it for every module of a model, which takes
    longer than reading all weights.
    """
    import gguf

    kept: dict[str, Any] = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    for name, made in kept.items():
        setattr(gguf, name, cache(made))
    try:
        yield
    finally:
        for name, made in kept.items():
            setattr(gguf, name, made)


def _unreadable(source: str, error: Exception) -> LeaError:
    return LeaError(
        f"{source}: GGUF file that cannot be read ({reason(error)}): fetch it again, or use a file of a supported "
        "architecture and a common quantisation (F16, Q8_0)"
    )


def _read_header(file: Path, source: str) -> Header:
    """What the file states. Raises `LeaError` where its header is damaged or it is one part of a model."""
    from transformers.integrations.gguf.reader import read_gguf_metadata

    with file.open("rb") as handle:
        if handle.read(4) != b"GGUF":
            raise LeaError(f"{source}: neither a folder nor a GGUF file: mend llm.source in params.yaml")
    try:
        found, tensors = read_gguf_metadata(str(file))
    except struct.error:
        raise LeaError(f"{source}: GGUF file whose header is cut short: fetch it again") from None
    except Exception as error:  # damaged files make the readers raise all kinds of errors; the reason is shown
        raise _unreadable(source, error) from None
    if (parts := found.get("split.count", 1)) > 1:
        raise LeaError(
            f"{source}: one of {parts} parts of a GGUF model (split.count): join them with llama.cpp's "
            "`llama-gguf-split --merge` and name the whole file in llm.source"
        )
    architecture = found["general.architecture"]
    own = {key.removeprefix(f"{architecture}."): value for key, value in found.items()}
    stated = {key: value for key, value in own.items() if key not in found and key not in IGNORED}
    # zero and "none" mean that the model has no such thing
    return Header(architecture, {key: value for key, value in stated.items() if value not in (0, "none")}, tensors)


def _load_model(file: Path, source: str) -> Any:
    """The model in float32. Raises `LeaError` where the file lacks some of its weights."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # as in `_read_header`
        raise _unreadable(source, error) from None
    model, found = loaded
    if missing := list(found["missing_keys"]):
        raise LeaError(f"{source}: GGUF file without {shortened(missing)}: use a file that holds the whole model")
    return model


def _load_tokenizer(file: Path, source: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except Exception as error:  # tokenizers raises no other kind
        raise LeaError(
            f"{source}: GGUF file whose tokenizer cannot be built ({reason(error)}): use a file with whole "
            "tokenizer.ggml.tokens, and tokenizer.ggml.merges or tokenizer.ggml.scores"
        ) from None


def _check_tensors(header: Header, model: Any, source: str) -> None:
    """Raise `LeaError` naming the tensors that no weight of the model was made from."""
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

    processor: Any = TENSOR_PROCESSORS.get(header.architecture, TensorProcessor)
    used = {FACTORS: ""} | get_gguf_hf_weights_map(model, processor(config=model.config.to_dict()))
    # experts' weights are parameters of their own name, without ".weight"
    unused = [name for name in header.tensors if name not in used and name.removesuffix(".weight") not in used]
    if unused:
        raise LeaError(
            f"{source}: GGUF file with tensors that {type(model).__name__} has no place for ({shortened(unused)}): "
            f"{MEND}"
        )


def _complete_config(header: Header, file: Path, config: Any, source: str) -> None:
    """Set sliding window, rotary frequencies and their scaling in the config.

    Raises `LeaError` where the scaling is of another kind than linear, yarn and a factor for each frequency.
    """
    window, kinds = header.stated.get("attention.sliding_window"), getattr(config, "layer_types", None)
    if window and hasattr(config, "sliding_window") and (kinds is None or "sliding_attention" in kinds):
        config.sliding_window = window
    rotary = _rotary(config)
    if rotary and "rope.freq_base" in header.stated:
        rotary["rope_theta"] = header.stated["rope.freq_base"]
    scaling = {key.removeprefix(ROTARY): value for key, value in header.stated.items() if key.startswith(ROTARY)}
    kind = scaling.pop("type", "linear" if "factor" in scaling else None)
    factors = FACTORS in header.tensors
    if not scaling and not factors and kind is None:
        return
    if kind == "linear" and set(scaling) == {"factor"} and rotary and not factors:
        rotary |= {"rope_type": "linear", "factor": scaling["factor"]}
    elif (
        kind == "yarn" and {"factor", "original_context_length"} <= set(scaling) <= set(YARN) and rotary and not factors
    ):
        rotary |= {"rope_type": "yarn"} | {YARN[key]: value for key, value in scaling.items()}
    elif factors and kind is None and not scaling and rotary:
        # "longrope" with the same list for all lengths divides each frequency by its factor and does nothing else
        each = _tensor(file, FACTORS)
        rotary |= {"rope_type": "longrope", "short_factor": each, "long_factor": each, "attention_factor": 1.0}
        rotary["original_max_position_embeddings"] = config.max_position_embeddings
    else:
        named = sorted(key for key in (*header.stated, *header.tensors) if key.startswith(ROTARY) or key == FACTORS)
        raise LeaError(f"{source}: GGUF file with a rotary scaling not known here ({', '.join(named)}): {MEND}")


def _tensor(file: Path, name: str) -> list[float]:
    from gguf import GGUFReader

    return next(tensor.data.astype(float).tolist() for tensor in GGUFReader(file).tensors if tensor.name == name)


def _rotary(config: Any) -> dict[str, Any]:
    """The config's rotary parameters, those of full attention where it has several; empty where it has none."""
    found: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    return found.get("full_attention", found)  # type: ignore[no-any-return]


def _check_config(header: Header, config: Any, source: str) -> None:
    """Raise `LeaError` naming what the file states and the config does not hold."""
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

    mapping: dict[str, dict[str, str | None]] = GGUF_CONFIG_MAPPING  # type: ignore[assignment]
    own = mapping.get(config.model_type) or mapping.get(header.architecture, {})
    names = CONFIG | {key: name for key, name in own.items() if name}
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rotary = _rotary(config)
    derived = {
        "head_dim": width,
        "rotary_dim": int(width * rotary.get("partial_rotary_factor", 1.0)),
        "rope_theta": rotary.get("rope_theta"),
    }
    for key, value in header.stated.items():
        if key.startswith(ROTARY):
            continue  # see `_complete_config`
        name = names.get(key, key)
        held = derived[name] if name in derived else getattr(config, name, None)
        same = math.isclose(value, held, rel_tol=1e-6) if isinstance(value, float) and held else value == held
        if not same:
            raise LeaError(
                f"{source}: GGUF file that states {header.architecture}.{key} {value}, but transformers makes "
                f"{type(config).__name__} of it with {held}: {MEND}"
            )
