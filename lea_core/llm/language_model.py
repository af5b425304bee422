"""The language model under the LE: fetched once, then loaded from the folder `data/llm`.

In: `llm.source`: a Hugging Face id with revision, a folder of such a model, or a GGUF file from anywhere that
`sources.py` reaches. Out: `data/llm/llm.json`, which names the model and pins its content, and, for a GGUF file, the
model itself as a plain Hugging Face folder (gguf_model.py), converted once because reading GGUF takes many times longer
than reading safetensors.

A hub model stays in the Hugging Face cache and a local folder stays where it is: llm.json pins them by commit and by
file hashes, so DVC sees a change without copying gigabytes.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lea_core.common.artifacts import publish_folder, read_json, write_json
from lea_core.common.errors import LeaError, reason
from lea_core.common.sources import fetch_file, file_sha256, local_path
from lea_core.llm import gguf_model

if TYPE_CHECKING:
    import torch

CARD = "llm.json"
# Messages about a model folder whose files have changed since it was fetched.
FETCHED_OTHER = "gone, new or changed since the model was fetched"
RESTORE = "restore the file, or take the folder as it is with `dvc repro --force fetch_llm`"
WEIGHTS = ("*.safetensors", "*.json", "tokenizer*", "*.model", "*.txt", "*.jinja")


@dataclass(frozen=True)
class LanguageModel:
    """A decoder-only transformer in evaluation mode, without gradients, and its tokenizer.

    causal: the whole model with its vocabulary head.  decoder: the part that maps input embeddings (B, T, H) to
    last hidden states (B, T, H).  width: H.  num_layers: decoder layers in use.  max_positions: the longest T that the
    model's config allows, None without a limit.  window: the number of tokens, with itself, that a token sees in the
    layer with the shortest attention; None where every layer sees all.
    """

    causal: Any
    decoder: Any
    tokenizer: Any
    width: int
    num_layers: int
    max_positions: int | None
    window: int | None
    device: torch.device
    dtype: torch.dtype


def fetch(source: str, sha256: str | None, cache: Path, folder: Path) -> None:
    """Make `folder` name (and, from GGUF, hold) the model at `source`. Raises `LeaError` where it cannot."""
    if source.startswith("hub:"):
        card = _fetch_hub(source.removeprefix("hub:"))
    elif (local := local_path(source)).is_dir():
        card = _fetch_folder(local)
    else:
        _quiet()
        gguf_model.convert(fetch_file(source, sha256, cache, "llm"), source, folder, CARD)
        return
    with publish_folder(folder) as temporary:
        write_json(temporary / CARD, card)


def folder_hash(folder: Path) -> str:
    """A hash of the model that `folder` names: its weights and tokenizer, or what pins them."""
    card = read_json(folder / CARD)
    if card["kind"] == "here":
        files = [*sorted(folder.glob("*.safetensors")), folder / "tokenizer.json"]
        card = {file.name: file_sha256(file) for file in files if file.exists()}
    elif card["kind"] == "folder":
        card = card["sha256"]
    return hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()


def _fetch_hub(name: str) -> dict[str, Any]:
    """Bring a hub model into the Hugging Face cache; HF_HUB_OFFLINE is honoured by the hub's own library."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    model, _, revision = name.partition("@")
    if not revision:
        raise LeaError(f"params.yaml: llm.source hub:{model} pins no revision: write hub:{model}@COMMIT")
    try:
        path = snapshot_download(model, revision=revision, allow_patterns=list(WEIGHTS))
    except LocalEntryNotFoundError:
        raise LeaError(
            f"llm.source hub:{name}: not in the Hugging Face cache and the hub is out of reach: connect, unset "
            "HF_HUB_OFFLINE, or use a folder or GGUF file"
        ) from None
    except (HfHubHTTPError, HFValidationError) as error:
        raise LeaError(f"llm.source hub:{name}: {str(error).splitlines()[0]}: mend the id or revision") from None
    return {"kind": "hub", "model": model, "revision": Path(path).name}


def _fetch_folder(path: Path) -> dict[str, Any]:
    if not (path / "config.json").is_file():
        raise LeaError(f"{path}: no Hugging Face model: config.json is missing: mend llm.source in params.yaml")
    return {"kind": "folder", "path": str(path.resolve()), "sha256": _hashes(path)}


def _hashes(path: Path) -> dict[str, str]:
    """The SHA-256 of each file that transformers may read in a model's folder, by name."""
    files = sorted({file for pattern in WEIGHTS for file in path.glob(pattern)})
    return {file.name: file_sha256(file) for file in files}


def changed_files(card: Mapping[str, Any]) -> list[Path]:
    """Files of a model that stays where it is that are gone, new or not what they were when it was fetched."""
    folder, known = Path(card["path"]), card["sha256"]
    found = _hashes(folder)
    return [folder / name for name in sorted({*known, *found}) if known.get(name) != found.get(name)]


def load(folder: Path, layers: int, random_seed: int | None = None) -> LanguageModel:
    """Load the model that `folder` names, with its first `layers` decoder layers (0: all), frozen.

    With `random_seed`, the weights are random: the same architecture without pre-training, for comparison.

    Raises `LeaError` where the folder is no causal language model, is broken or not what was fetched, has fewer layers,
    or does not hold their weights.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    _quiet()
    where, options = _location(folder)
    try:
        config = AutoConfig.from_pretrained(where, **options)
        if config.is_encoder_decoder:
            raise LeaError(
                f"{where}: {config.model_type} is an encoder-decoder: use a decoder-only model as llm.source"
            )
        _keep_layers(config, layers, where)
        device, dtype = choose_device_and_dtype()
        causal: Any
        if random_seed is None:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                where, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
            )
            causal = _checked(loaded, where)
        else:
            torch.manual_seed(random_seed)
            causal = AutoModelForCausalLM.from_config(config).to(dtype)  # type: ignore[no-untyped-call]
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
    except LeaError:
        raise
    except Exception as error:  # damaged files make the libraries raise all kinds of errors; the reason is shown
        raise LeaError(
            f"{where}: cannot be loaded as a causal language model ({reason(error)}): mend llm.source"
        ) from None
    decoder = _decoder(causal, config.get_text_config().hidden_size, where)
    causal.to(device).eval().requires_grad_(False)
    return LanguageModel(
        causal=causal,
        decoder=decoder,
        tokenizer=tokenizer,
        width=config.get_text_config().hidden_size,
        num_layers=config.get_text_config().num_hidden_layers,
        max_positions=getattr(config.get_text_config(), "max_position_embeddings", None),
        window=_window(config.get_text_config()),
        device=device,
        dtype=dtype,
    )


def _checked(loaded: tuple[Any, dict[str, Any]], where: str) -> Any:
    """The model. Raises `LeaError` where the files lack weights (they are random then) or hold weights not read.

    loaded: the model and transformers' loading info. Weights of unused layers and of other parts are allowed.
    """
    causal, found = loaded
    if missing := list(found["missing_keys"]):
        raise LeaError(
            f"{where}: the files hold no {gguf_model.shortened(missing)}: fetch the whole model, or use another one"
        )
    numbered = re.compile(r"(.+?\.\d+)\.")  # of a layer in use
    layers = {match[1] for name in causal.state_dict() if (match := numbered.match(name))}
    unread = [name for name in found["unexpected_keys"] if (match := numbered.match(name)) and match[1] in layers]
    if unread:
        raise LeaError(
            f"{where}: the files hold {gguf_model.shortened(unread)}, which {type(causal).__name__} does not read with "
            "this config.json: mend that, or use another model"
        )
    return causal


def _window(config: Any) -> int | None:
    """The shortest attention window of the layers; None where no layer has one."""
    kinds = getattr(config, "layer_types", None)
    reaches = [
        getattr(config, name, None)
        for kind, name in (("sliding_attention", "sliding_window"), ("chunked_attention", "attention_chunk_size"))
        if kinds is None or kind in kinds
    ]
    return min((reach for reach in reaches if reach), default=None)


def _decoder(causal: Any, width: int, where: str) -> Any:
    """The part of `causal` that reads item tokens. Raises `LeaError` where it cannot read them."""
    name = f"{where}: {type(causal).__name__}"
    decoder = causal.get_decoder()
    if decoder is None or decoder is causal:
        raise LeaError(f"{name} has no decoder to feed item tokens to: use another model as llm.source")
    for part in (causal, decoder):
        if "inputs_embeds" not in inspect.signature(part.forward).parameters:
            raise LeaError(f"{name} reads token ids alone, no item tokens (inputs_embeds): use another model")
    try:
        embeddings = decoder.get_input_embeddings().weight  # (V, H)
    except (AttributeError, NotImplementedError):
        raise LeaError(f"{name} has no table of input embeddings: use another model as llm.source") from None
    if embeddings.shape[1] != width:
        raise LeaError(
            f"{name}: its input embeddings are {embeddings.shape[1]} wide, its hidden states {width}: use another model"
        )
    return decoder


def fingerprint(llm: LanguageModel) -> str:
    """A hash of everything that the model's outputs depend on: config, weights, device, dtype, library versions."""
    import torch

    config = {**llm.causal.config.to_dict(), "_name_or_path": None}  # the libraries' versions are in it
    digest = hashlib.sha256(
        f"{llm.device.type} {llm.dtype} {torch.__version__} {json.dumps(config, default=str)}".encode()
    )
    for name, tensor in llm.causal.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def choose_device_and_dtype() -> tuple[torch.device, torch.dtype]:
    """CUDA where there is one, else the CPU; bfloat16 where the hardware multiplies it natively, else float32."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda"), torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    abilities = torch.cpu.get_capabilities()
    native = abilities.get("avx512_bf16") or abilities.get("amx_bf16")
    return torch.device("cpu"), torch.bfloat16 if native else torch.float32


def _location(folder: Path) -> tuple[str, dict[str, Any]]:
    """The path or id of the model for transformers, and the options that pin its version."""
    card = read_json(folder / CARD)
    if card["kind"] == "hub":
        return card["model"], {"revision": card["revision"]}
    path = Path(card["path"]) if card["kind"] == "folder" else folder
    if not path.is_dir():
        raise LeaError(f"{path}: the model folder is gone: restore it, or mend llm.source and run `dvc repro`")
    if card["kind"] == "folder" and (changed := changed_files(card)):
        raise LeaError(f"{changed[0]}: {FETCHED_OTHER}: {RESTORE}")
    return str(path), {"local_files_only": True}


def _keep_layers(config: Any, layers: int, where: str) -> None:
    text = config.get_text_config()
    if layers > text.num_hidden_layers:
        raise LeaError(f"{where}: has {text.num_hidden_layers} layers, fewer than {layers}: lower it in params.yaml")
    if layers:
        text.num_hidden_layers = layers
        if getattr(text, "layer_types", None):
            text.layer_types = text.layer_types[:layers]


def _quiet() -> None:
    """Turn off the libraries' progress bars and hints."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
