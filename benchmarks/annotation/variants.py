"""What makes an inference run fast, and what each step costs in accuracy; part of `make bench-annotate`.

In: a data set. Out: for each variant tokens per second (one thread, the fastest of ROUNDS runs in turns) and the root
mean square error of states and rewards, relative to their spread, against float32.

`int8` is torch's dynamic quantisation of all linear layers, `compiled` torch.compile of the norms and the feed-forward
layers (its seconds of compiling are beside it); neither is used by the pipeline.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from peft.tuners.lora import LoraLayer

from benchmarks.annotation.le import load, ready, rows
from lea_core.annotation.forward_pass import Outputs
from lea_core.common.cores import usable_cores
from lea_core.data.sequences import learning_steps, windows
from lea_core.environment.model import Environment
from lea_core.llm.packing import Packed, fitted_packs, packs

USERS = 40
ROUNDS = 3
Packer = Callable[..., list[Packed]]
Change = Callable[[Environment], object]


def variants(name: str) -> dict[str, dict[str, float]]:
    """Measure them all on a data set."""
    warnings.filterwarnings("ignore")
    prepared = ready(name)
    train, users, actions = rows(prepared, USERS)
    full, batch_tokens = torch.float32, prepared.params.annotate.batch_tokens

    def changed(change: Change, dtype: torch.dtype | None = None) -> Environment:
        le = load(prepared, dtype=dtype)
        change(le)
        return le

    def run(le: Environment, pack: Packer) -> tuple[float, Outputs]:
        passed = Outputs.empty(le, len(train.items), actions.shape[1])
        cut = windows(train, users, le.shape.history)
        batches = pack(train, cut, batch_tokens, actions.shape[1], learning_steps(train))
        started = time.perf_counter()
        with torch.inference_mode():
            for packed in batches:
                acting = packed.events[packed.acting]
                predicted = le.predict(train, packed, actions[acting])
                passed.states[packed.events[packed.owned]] = predicted.states[torch.from_numpy(packed.owned)].numpy()
                passed.rewards[acting] = predicted.logged_rewards.numpy()
                passed.action_rewards[acting] = predicted.rewards.numpy()
        return sum(packed.tokens for packed in batches) / (time.perf_counter() - started), passed

    chosen: dict[str, tuple[Environment, Packer]] = {
        "float32": (load(prepared, dtype=full), fitted_packs),
        "packed in given order, torch's attention, float32 adapter": (load(prepared, for_inference=False), packs),
        "rows fitted by length": (load(prepared, for_inference=False), fitted_packs),
        "attention by prefix": (changed(_float_adapter), fitted_packs),
        "adapter in the LLM's format (the default)": (load(prepared), fitted_packs),
        "merged adapter": (changed(_merge), fitted_packs),
    }
    started = time.perf_counter()
    chosen["compiled"] = (changed(_compile), fitted_packs)
    run(*chosen["compiled"])
    compiling = time.perf_counter() - started
    chosen["int8"] = (changed(_quantise, full), fitted_packs)
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


def _error(found: np.ndarray, exact: np.ndarray) -> float:
    known = np.isfinite(exact)
    difference = found[known].astype(np.float64) - exact[known]
    return float(np.sqrt((difference**2).mean()) / exact[known].astype(np.float64).std())


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
