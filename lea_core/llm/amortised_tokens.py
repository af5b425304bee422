"""Amortised item tokens: one small network maps the pooled token of any item to a token that generates its text.

In: the texts' token ids, pooled tokens, the whole LLM. Out: the network's weights. With them, `encode` gives a token
for any item, also for a later one, without the LLM.

    token = pooled + scale * (W2 gelu(W1 (pooled - mean) / deviation + b1) + b2)

Learned tokens (learned_tokens.py) need training for every item. Here the same loss, -log P(text | token) with the LLM
frozen, trains W1, b1, W2, b2 on a sample of items. W2 and b2 start at zero, so the network starts at the pooled token.
`scale` is the mean absolute input embedding. The optimiser is Adam with a rate that falls linearly to zero. The network
is our addition: no source on the paper mentions one. (Measured on SmolLM2-135M, 256 items, 3 epochs: nearly all of the
gain is one offset that all items share; a text is hardly more likely with its own token than with another item's.
`text_loss_swapped` in measured.json shows it.)
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lea_core.common.checkpoints import Checkpoint
from lea_core.common.errors import LeaError, warn
from lea_core.common.progress import announce, bar
from lea_core.llm.language_model import LanguageModel
from lea_core.llm.learned_tokens import SAVE_SECONDS, adam_step, embedding_scale, mean_loss, swapped_loss, text_losses
from lea_core.llm.pooled_tokens import by_length, padded
from lea_core.params import AmortisedTokens

BATCH_ITEMS = 16
MEASURED_ITEMS = 128
SEED = 0  # of the sample, the initial weights and the order
TRAINED = ("first.weight", "first.bias", "second.weight", "second.bias")


def encode(weights: Mapping[str, np.ndarray], pooled: np.ndarray) -> np.ndarray:
    """Tokens (I, H) from pooled tokens (I, H), with the weights of the artifact."""
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    return _encode(tensors, torch.from_numpy(pooled)).numpy()


def _encode(weights: Mapping[str, Tensor], pooled: Tensor) -> Tensor:
    inputs = (pooled - weights["mean"]) / weights["deviation"]
    hidden = F.gelu(F.linear(inputs, weights["first.weight"], weights["first.bias"]))  # (I, W)
    return pooled + weights["scale"] * F.linear(hidden, weights["second.weight"], weights["second.bias"])


def train_encoder(
    llm: LanguageModel, rows: list[list[int]], pooled: np.ndarray, params: AmortisedTokens, checkpoint: Checkpoint
) -> tuple[dict[str, np.ndarray], dict[str, Any], float]:
    """The network's weights, trained on a sample of items; text losses, on other items if there are any; seconds.

    Raises `LeaError` where the training diverges.
    """
    present = np.flatnonzero([len(row) > 0 for row in rows])
    order = np.random.default_rng(SEED).permutation(present)
    sample, others = order[: params.items], order[params.items :][:MEASURED_ITEMS]
    training = Training(llm, rows, pooled, params, sample)
    training.run(checkpoint)
    weights = {name: tensor.cpu().numpy() for name, tensor in training.weights.items()}
    predicted = others if len(others) else sample[:MEASURED_ITEMS]
    token = encode(weights, pooled)
    before, after = (mean_loss(llm, rows, tokens, predicted) for tokens in (pooled, token))
    if not after < before:
        warn(f"tokenize_items.amortised: text loss {before:.3f} before and {after:.3f} after: lower the learning_rate")
    measured = {
        "text_loss_before": before,
        "text_loss_after": after,
        "text_loss_swapped": swapped_loss(llm, rows, token, predicted),
        "text_loss_items": len(predicted),
        "encoder_items": len(sample),
    }
    return weights, measured, training.seconds


class Training:
    """The network's training on a sample of items. Its state is arrays and two numbers, so that it can be resumed."""

    def __init__(
        self, llm: LanguageModel, rows: list[list[int]], pooled: np.ndarray, params: AmortisedTokens, sample: np.ndarray
    ) -> None:
        self.llm, self.rows, self.params, self.pooled = llm, rows, params, torch.from_numpy(pooled).to(llm.device)
        # The batches are fixed, with texts of similar lengths; each epoch has them in another order.
        self.batches = [sample[chosen] for chosen in by_length([rows[item] for item in sample], BATCH_ITEMS)]
        self.weights = first_weights(pooled, sample, params.width, embedding_scale(llm))
        self.weights = {name: tensor.to(llm.device) for name, tensor in self.weights.items()}
        self.means, self.squares = ({name: torch.zeros_like(self.weights[name]) for name in TRAINED} for _ in range(2))
        self.step, self.seconds = 0, 0.0

    def run(self, checkpoint: Checkpoint) -> None:
        """Train for all epochs; continues from `checkpoint` where it holds a state."""
        self._restore(checkpoint)
        steps = self.params.epochs * len(self.batches)
        total = self.params.epochs * sum(len(self.rows[item]) for batch in self.batches for item in batch)
        with bar(total, "token encoder", "token") as progress:
            begun = self.step
            progress.update(total * begun // steps)
            for step in range(begun, steps):
                started = time.perf_counter()
                epoch, place = divmod(step, len(self.batches))
                order = np.random.default_rng([SEED, epoch]).permutation(len(self.batches))
                self._learn(self.batches[order[place]], 1.0 - step / steps)
                tokens = sum(len(self.rows[item]) for item in self.batches[order[place]])
                seconds = time.perf_counter() - started
                self.seconds += seconds
                progress.update(tokens)
                if step == begun + 1:  # the first step is slower: it is not timed
                    announce("token encoder", total * (steps - step) // steps, tokens / seconds)
                if checkpoint.due(SAVE_SECONDS):
                    self._save(checkpoint)
        self._save(checkpoint)

    def _learn(self, items: np.ndarray, share: float) -> None:
        """One step on a batch, at this share of the learning rate."""
        ids, mask = padded([self.rows[item] for item in items], self.llm.device)
        trained = {name: self.weights[name].clone().requires_grad_() for name in TRAINED}
        losses = text_losses(self.llm, _encode(self.weights | trained, self.pooled[items]), ids, mask)
        if not bool(losses.isfinite().all()):
            raise LeaError("tokenize_items.amortised: the text loss is not finite: lower the learning_rate")
        gradients = torch.autograd.grad(losses.mean(), list(trained.values()))
        self.step += 1
        for name, gradient in zip(trained, gradients, strict=True):
            state = (self.means[name], self.squares[name], torch.tensor(self.step))
            adam_step(self.weights[name], gradient, *state, self.params.learning_rate * share)

    def _groups(self) -> dict[str, dict[str, Tensor]]:
        return {"weights": self.weights, "means": self.means, "squares": self.squares}

    def _save(self, checkpoint: Checkpoint) -> None:
        groups = self._groups().items()
        tensors = {f"{group}.{name}": tensor.cpu().numpy() for group, all_ in groups for name, tensor in all_.items()}
        checkpoint.save(tensors, {"step": self.step, "seconds": self.seconds})

    def _restore(self, checkpoint: Checkpoint) -> None:
        if (saved := checkpoint.load()) is None:
            return
        arrays, state = saved
        self.step, self.seconds = state["step"], state["seconds"]
        for group, tensors in self._groups().items():
            for name, tensor in tensors.items():
                tensors[name] = torch.from_numpy(arrays[f"{group}.{name}"]).to(tensor.device)


def first_weights(pooled: np.ndarray, sample: np.ndarray, width: int, scale: float) -> dict[str, Tensor]:
    """Initial weights, with which every token is the pooled one."""
    generator = torch.Generator().manual_seed(SEED)
    count = pooled.shape[1]
    known = torch.from_numpy(pooled[sample])  # (N, H)
    return {
        "mean": known.mean(dim=0),
        "deviation": known.std(dim=0, correction=0) + 1e-6,
        "scale": torch.tensor([scale]),
        "first.weight": torch.randn(width, count, generator=generator) / count**0.5,
        "first.bias": torch.zeros(width),
        "second.weight": torch.zeros(count, width),
        "second.bias": torch.zeros(count),
    }
