"""The network of a policy: what a learner trains and what ships. Small, sequential, and it needs no language model.

In: histories of item indices. Out: a score for every item. On disk a folder with policy.json (which backbone, its
settings, catalogue size, history) and policy.safetensors (weights). Imports neither transformers nor peft nor the LE.

With `repeat_bias` a learned number is added to the logits of the items that the policy reads: where users seldom repeat
and seen items stay in the ranking, attention puts what it has just read on top, and a linear head cannot take it off
(RepeatNet, AAAI'19, arXiv 1812.02646, gives repeating a mode of its own; this is the least that does).

The actor is a linear head of its own, as in the papers. Logits tied to the item embeddings were tried and were no
better within the noise of the seeds.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lea_core.common.artifacts import read_json, read_tensors, write_json, write_tensors
from lea_core.common.errors import LeaError
from lea_core.common.registry import BACKBONES
from lea_core.models.backbone import Backbone
from lea_core.models.ragged import RaggedBatch


@dataclass(frozen=True)
class PolicyConfig:
    """What it takes to build a policy: `settings` are the keyword arguments of its backbone."""

    backbone: str
    settings: dict[str, Any]
    num_items: int
    history: int
    repeat_bias: bool = False  # one learned number is added to the logits of the items that the policy reads


REPEAT_STEP = 10.0  # the learned number counts so many times: it has far to go, and moves like any other weight


class PolicyNetwork(nn.Module):
    """A backbone and its actor."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        file = BACKBONES.load(config.backbone)
        settings = file.Settings(**config.settings)
        self.backbone: Backbone = file.Network(config.num_items, config.history, settings)
        self.actor = nn.Linear(self.width, config.num_items)
        self.repeat_bias = nn.Parameter(torch.zeros(())) if config.repeat_bias else None
        self.sparse = False

    def use_sparse_gradients(self) -> None:
        """From now on the gradients of the item tables hold the rows that were read, and not zeros for all others.

        Scores of all items (`logits`) are not to be trained then.
        """
        self.sparse = self.backbone.item_embedding.sparse = True

    @property
    def width(self) -> int:
        """D, the width of a state."""
        return self.backbone.item_embedding.embedding_dim

    def forward(self, items: Tensor) -> Tensor:
        """(B, T) items, -1 for none -> (B, T, D) states."""
        states: Tensor = self.backbone(items)
        return states

    def logits(self, states: Tensor) -> Tensor:
        """(..., D) states -> (..., I) unnormalised log-probabilities of the next item."""
        logits: Tensor = self.actor(states)
        return logits

    def scored(self, states: Tensor, items: Tensor, events: Tensor) -> Tensor:
        """States (P, D) of these events, numbered in items.flatten(), (P,) -> (P, I) logits, the repeat bias in them.

        items: (B, T), -1 for none. An event's history is all of its row up to it.
        """
        logits = self.logits(states)
        if self.repeat_bias is None:
            return logits
        owner, seen = read_items(items, events)
        return logits.index_put((owner, seen), (REPEAT_STEP * self.repeat_bias).expand(len(seen)), accumulate=True)

    def logits_of(self, states: Tensor, actions: Tensor) -> Tensor:
        """(P, D) states, (P, A) int64 items -> (P, A) logits of these alone."""
        weight, bias = table_rows(self.actor, actions, self.sparse)  # (P, A, D), (P, A)
        return torch.bmm(weight, states[:, :, None]).squeeze(2) + bias

    @torch.inference_mode()
    def scores(self, histories: np.ndarray) -> Tensor:
        """(B, T) right-aligned histories, -1 for none -> (B, I) scores of the next item; higher is better.

        Only the last `history` items count. Raises `LeaError` where a history is empty or an item is unknown.
        """
        if histories.size == 0 or (histories[:, -1] < 0).any():
            raise LeaError("a history is empty: give at least one item, the newest last")
        if histories.max() >= self.config.num_items:
            raise LeaError(
                f"item {histories.max()} is unknown: the policy knows items 0 to {self.config.num_items - 1}"
            )
        training = self.training
        self.eval()
        items = torch.from_numpy(histories[:, -self.config.history :]).to(self.actor.weight.device)
        last = torch.arange(1, len(items) + 1, device=items.device) * items.shape[1] - 1
        scores = self.scored(self.backbone.last(RaggedBatch(items)), items, last)
        self.train(training)
        return scores

    def save(self, folder: Path) -> None:
        """Write policy.json and policy.safetensors into `folder`."""
        write_json(folder / "policy.json", asdict(self.config))
        weights = {name: tensor.detach().cpu().numpy() for name, tensor in self.state_dict().items()}
        write_tensors(folder / "policy.safetensors", weights)


def read_items(items: Tensor, events: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct items of each event's history, the event itself among them: (M,) pairs (index of the event, item).

    items: (B, T), -1 for none. events: (P,), numbered in items.flatten().
    """
    time = torch.arange(items.shape[1], device=items.device)
    earlier = time[:, None] > time  # (T, T)
    again = ((items[:, :, None] == items[:, None, :]) & earlier).any(dim=2)  # (B, T): there before in its row
    row, place = events // items.shape[1], events % items.shape[1]
    read = ((items >= 0) & ~again)[row] & (time <= place[:, None])  # (P, T)
    owner = read.nonzero()[:, 0]
    return owner, items[row][read]


def table_rows(head: nn.Linear, items: Tensor, sparse: bool) -> tuple[Tensor, Tensor]:
    """Weights (..., D) and biases (...) that a head over the catalogue has for int64 items (...)."""
    weight = F.embedding(items, head.weight, sparse=sparse)
    if not sparse:
        return weight, head.bias[items]
    return weight, head.bias.gather(0, items.flatten(), sparse_grad=True).view(items.shape)


class _Uninitialised(TorchFunctionMode):
    """Within it, what works in place does nothing: layers without memory draw no first weights.

    Drawing them there is no work, but loads a compiler, which takes a second.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name.endswith("_") and not name.endswith("__"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def without_weights(config: PolicyConfig) -> PolicyNetwork:
    """The network without memory for its weights: for `load_state_dict(..., assign=True)`, or to know their shapes."""
    with torch.device("meta"), _Uninitialised():
        return PolicyNetwork(config)


def load_network(folder: Path) -> PolicyNetwork:
    """Read what `save` wrote, ready to score. Raises `LeaError` where a file is absent, broken or of another."""
    path = folder / "policy.json"
    raw = read_json(path)
    try:
        policy = PolicyNetwork(PolicyConfig(**raw))
    except (TypeError, LeaError) as error:
        raise LeaError(f"{path}: not a policy's description ({error}): delete {folder} and run `dvc repro`") from None
    path = folder / "policy.safetensors"
    weights = {name: torch.from_numpy(array) for name, array in read_tensors(path).items()}
    try:
        policy.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise LeaError(f"{path}: weights of another policy ({reason}): delete {folder} and run `dvc repro`") from None
    return policy.eval()
