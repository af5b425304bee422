"""What makes a pass fast, one thing after another, and what each costs in accuracy; part of `make bench-annotate`.

In: a prepared data set with an LE. Out: for each variant tokens per second (one thread, the fastest of ROUNDS passes in
turns) and the root mean square error of states and rewards, relative to their spread, against float32.

`int8` is torch's dynamic quantisation of all linear layers, `compiled` torch.compile of the norms and the feed-forward
layers (its seconds of compiling are beside it); neither is used by the pipeline.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from peft.tuners.lora import LoraLayer

from lea_core import params
from lea_core.annotation.forward_pass import Outputs
from lea_core.common.cores import usable_cores
from lea_core.data.sequences import learning_steps, read_sequences, windows
from lea_core.environment import model as environment
from lea_core.environment.model import Environment
from lea_core.llm import language_model
from lea_core.llm.packing import Packed, fitted_packs, packs

USERS = 40
ROUNDS = 3
Packer = Callable[..., list[Packed]]
Change = Callable[[Environment], object]


def variants(folder: str) -> dict[str, dict[str, float]]:
    """Measure them all on the prepared data set in `folder`."""
    warnings.filterwarnings("ignore")
    root = Path(folder)
    wanted = params.load(root / "params.yaml")
    train = read_sequences(root / "data" / "interactions").train()
    tokens = environment.read_item_tokens(root / "data" / "item_tokens" / "items.parquet")
    rng = np.random.default_rng(0)
    users = np.sort(rng.permutation(np.flatnonzero(np.diff(train.offsets) > 0))[:USERS])
    actions = rng.integers(0, train.num_items, (len(train.items), wanted.annotate.sampled_actions))

    def load(
        change: Callable[[Environment], object], dtype: torch.dtype | None = None, fast: bool = True
    ) -> Environment:
        model = language_model.load(root / "data" / "llm", wanted.llm.layers)
        if dtype is not None:
            model = replace(model, dtype=dtype)
            model.causal.to(dtype)
        le = environment.load(root / "data" / "le", model, tokens, for_inference=fast)
        shake(le)
        change(le)
        return le

    def run(le: Environment, pack: Packer) -> tuple[float, Outputs]:
        passed = Outputs.empty(le, len(train.items), actions.shape[1])
        cut = windows(train, users, le.shape.history)
        batches = pack(train, cut, wanted.annotate.batch_tokens, actions.shape[1], learning_steps(train))
        started = time.perf_counter()
        with torch.inference_mode():
            for packed in batches:
                acting = packed.events[packed.acting]
                predicted = le.predict(train, packed, actions[acting])
                passed.states[packed.events[packed.owned]] = predicted.states[torch.from_numpy(packed.owned)].numpy()
                passed.rewards[acting] = predicted.logged_rewards.numpy()
                passed.action_rewards[acting] = predicted.rewards.numpy()
        return sum(packed.tokens for packed in batches) / (time.perf_counter() - started), passed

    full = torch.float32
    chosen: dict[str, tuple[Environment, Packer]] = {
        "float32": (load(_nothing, full), fitted_packs),
        "packed in given order, torch's attention, float32 adapter": (load(_nothing, fast=False), packs),
        "rows fitted by length": (load(_nothing, fast=False), fitted_packs),
        "attention by prefix": (load(_float_adapter), fitted_packs),
        "adapter in the LLM's format (the default)": (load(_nothing), fitted_packs),
        "merged adapter": (load(_merge), fitted_packs),
    }
    started = time.perf_counter()
    chosen["compiled"] = (load(_compile), fitted_packs)
    run(*chosen["compiled"])
    compiling = time.perf_counter() - started
    chosen["int8"] = (load(_quantise, full), fitted_packs)
    found: dict[str, list[tuple[float, Outputs]]] = {name: [] for name in chosen}
    for _ in range(ROUNDS):
        for name, (le, pack) in chosen.items():
            found[name].append(run(le, pack))
    exact = found["float32"][0][1]
    result: dict[str, dict[str, float]] = {
        name: {
            "tokens_per_s": max(rate for rate, _ in runs),
            "state_error": _error(runs[0][1].states, exact.states),
            "reward_error": _error(runs[0][1].action_rewards, exact.action_rewards),
        }
        for name, runs in found.items()
    }
    result["compiled"]["compile_seconds"] = compiling
    threads = usable_cores()
    torch.set_num_threads(threads)
    rates = [run(*chosen["adapter in the LLM's format (the default)"])[0] for _ in range(ROUNDS)]
    result[f"the default with {threads} threads"] = {"tokens_per_s": max(rates)}
    return result


def shake(le: Environment) -> None:
    """Give the adapter random weights of the size that some hundred steps of training give it."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in le.llm.decoder.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.01 * torch.randn(parameter.shape, generator=generator))


def _error(found: np.ndarray, exact: np.ndarray) -> float:
    known = np.isfinite(exact)
    difference = found[known].astype(np.float64) - exact[known]
    return float(np.sqrt((difference**2).mean()) / exact[known].astype(np.float64).std())


def _nothing(_: Environment) -> None:
    """As it is loaded."""


def _float_adapter(le: Environment) -> None:
    for name, parameter in le.llm.decoder.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()


def _merge(le: Environment) -> None:
    for name, part in list(le.llm.decoder.named_modules()):
        if isinstance(part, LoraLayer):
            part.merge()
            above, _, own = name.rpartition(".")
            setattr(le.llm.decoder.get_submodule(above), own, part.base_layer)


def _compile(le: Environment) -> None:
    for layer in le.llm.decoder.layers:
        for part in (layer.mlp, layer.input_layernorm, layer.post_attention_layernorm):
            part.compile(dynamic=True)


def _quantise(le: Environment) -> None:
    _merge(le)
    torch.ao.quantization.quantize_dynamic(le.llm.decoder, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)
