"""The LE that annotates in this room: trained heads and a random adapter, the same in every process."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from benchmarks.support.prepared import LLM, Prepared, prepare
from lea_core.data.sequences import Sequences
from lea_core.environment import model as environment
from lea_core.environment.model import Environment
from lea_core.llm import language_model

HISTORY = 50


def ready(name: str) -> Prepared:
    """A data set with an LE: its heads trained, its adapter still without effect."""
    changes = {"finetune_le.history": HISTORY, "finetune_le.lora.epochs": 0}
    return prepare(name, changes, "-annotate", ("finetune_le",))


def load(prepared: Prepared, for_inference: bool = True, dtype: torch.dtype | None = None) -> Environment:
    """That LE, on demand in another number format; its adapter is as large as after some hundred steps."""
    model = language_model.load(prepared.folder / LLM, prepared.params.llm.layers)
    if dtype is not None:
        model = replace(model, dtype=dtype)
        model.causal.to(dtype)
    le = environment.load(prepared.folder / "data" / "le", model, prepared.tokens, for_inference)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in le.llm.decoder.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.01 * torch.randn(parameter.shape, generator=generator))
    return le


def rows(prepared: Prepared, count: int) -> tuple[Sequences, np.ndarray, np.ndarray]:
    """Training events, so many drawn users, in order, and sampled actions at every event."""
    train, rng = prepared.sequences.train(), np.random.default_rng(0)
    users = np.flatnonzero(np.diff(train.offsets) > 0)
    users = np.sort(rng.permutation(users)[:count])
    wanted = prepared.params.annotate.sampled_actions
    return train, users, rng.integers(0, train.num_items, (len(train.items), wanted))
