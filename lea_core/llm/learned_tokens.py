"""Learned item tokens: the token of each item is trained so that the frozen LLM generates the item's text from it.

In: the texts' token ids, a token to start from (the pooled one), the whole LLM. Out: a token per item, text losses.

As in the paper, -sum_l log P(w_l | e_i, w_<l) is minimised over e_i. The optimiser is Adam. Each item has its own
moments, so its token does not depend on the other items of the batch (except by rounding). We could not read how long
the paper trains. Here an item is finished when `PATIENCE` steps in a row do not lower its loss by the tolerance.

Items with the longest texts are trained first, as many at a time as fit into a batch. The next item replaces a finished
one. So the texts of a batch have similar lengths, and there is little padding. The whole state is arrays: a checkpoint
saves it, and a killed run continues from it to the same tokens.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lea_core.common.checkpoints import Checkpoint
from lea_core.common.errors import LeaError
from lea_core.common.progress import announce, bar
from lea_core.llm.language_model import LanguageModel
from lea_core.llm.pooled_tokens import by_length, padded
from lea_core.params import LearnedTokens

PATIENCE = 5
SAVE_SECONDS = 30.0
MEASURED_TOGETHER = 16
MOMENTS = (0.9, 0.999)


def text_losses(llm: LanguageModel, token: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """-log P(text | token) per text token, for each item: token (B, H), ids and mask (B, T) -> (B,)."""
    embeddings = llm.decoder.get_input_embeddings()(ids)
    inputs = torch.cat([token[:, None].to(embeddings.dtype), embeddings[:, :-1]], dim=1)  # (B, T, H)
    logits = llm.causal(inputs_embeds=inputs, use_cache=False).logits.float()  # (B, T, V)
    losses = F.cross_entropy(logits.transpose(1, 2), ids, reduction="none")  # (B, T)
    return (losses * mask).sum(dim=1) / mask.sum(dim=1)


def mean_loss(llm: LanguageModel, rows: list[list[int]], tokens: np.ndarray, items: np.ndarray) -> float:
    """Mean text loss of some items, all with text, with their tokens (I, H)."""
    total = 0.0
    with torch.inference_mode():
        for chosen in by_length([rows[item] for item in items], MEASURED_TOGETHER):
            ids, mask = padded([rows[item] for item in items[chosen]], llm.device)
            total += float(text_losses(llm, torch.from_numpy(tokens[items[chosen]]).to(llm.device), ids, mask).sum())
    return total / len(items)


def swapped_loss(llm: LanguageModel, rows: list[list[int]], tokens: np.ndarray, items: np.ndarray) -> float:
    """Mean text loss of some items, each with the token of another: what tokens hold about no particular item."""
    return mean_loss(llm, [rows[item] for item in items], tokens[np.roll(items, 1)], np.arange(len(items)))


def embedding_scale(llm: LanguageModel) -> float:
    """The mean absolute input embedding: the unit of a step in token space."""
    return float(llm.decoder.get_input_embeddings().weight.float().abs().mean())


def adam_step(value: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, step: Tensor, rate: float) -> None:
    """One step of Adam in place; `step` counts from 1 and broadcasts against `value`."""
    first, second = MOMENTS
    mean.lerp_(gradient, 1.0 - first)
    square.lerp_(gradient.square(), 1.0 - second)
    value -= rate * (mean / (1.0 - first**step)) / ((square / (1.0 - second**step)).sqrt() + 1e-8)


class Learner:
    """Learns the tokens of all items that have text.

    Arrays of all items, at [i]: token (I, H), text losses before and after (I,), steps (I,).
    Arrays of the items in training, at [s]: item, step, value, mean, square, best, best_loss, mark, stalled. An
    improvement is a loss below `mark` by more than the tolerance.
    """

    def __init__(self, llm: LanguageModel, rows: list[list[int]], start: np.ndarray, params: LearnedTokens) -> None:
        self.llm, self.rows, self.params = llm, rows, params
        self.start = torch.from_numpy(start)
        self.rate = params.learning_rate * embedding_scale(llm)
        self.queue = [int(row) for row in np.argsort([-len(row) for row in rows], kind="stable") if rows[row]]
        self.started = 0  # number of items of the queue whose training has started
        self.seconds = 0.0
        count = len(rows)
        self.of_all = {name: torch.zeros(count) for name in ("before", "after", "steps")}
        self.of_all["token"] = self.start.clone()
        self.of_learned = self._initial_state([])

    def run(self, checkpoint: Checkpoint) -> None:
        """Train until every item is finished; continues from `checkpoint` where it holds a state."""
        self._restore(checkpoint)
        lengths = torch.tensor([len(row) for row in self.rows])
        work = lengths * (self.params.steps + 1)  # at most
        active, done = self.of_learned["item"], self.of_all["steps"] > 0
        behind = int(work[done].sum() + (lengths[active] * self.of_learned["step"].cpu()).sum())
        with bar(int(work.sum()), "learned tokens", "token") as progress:
            progress.update(behind)
            number = 0
            while self._fill_batch():
                started = time.perf_counter()
                tokens = sum(len(self.rows[row]) for row in self.of_learned["item"].tolist())
                self._step()
                seconds = time.perf_counter() - started
                self.seconds += seconds
                number += 1
                if number == 2:  # the first step is slower: it is not timed
                    announce("learned tokens, at most", int(work.sum()) - behind, tokens / seconds)
                finished = self._remove_finished()
                left = work[finished] - lengths[finished] * self.of_all["steps"][finished]
                progress.update(tokens + int(left.sum()))
                if checkpoint.due(SAVE_SECONDS):
                    self._save(checkpoint)
        self._save(checkpoint)

    def _initial_state(self, items: list[int]) -> dict[str, Tensor]:
        value = self.start[items].to(self.llm.device)
        count = torch.zeros(len(items), dtype=torch.long, device=self.llm.device)
        infinite = torch.full((len(items),), torch.inf, device=self.llm.device)
        return {
            "item": torch.tensor(items, dtype=torch.long),
            "step": count,
            "stalled": count,
            "value": value,
            "best": value.clone(),
            "mean": torch.zeros_like(value),
            "square": torch.zeros_like(value),
            "mark": infinite,
            "best_loss": infinite.clone(),
        }

    def _fill_batch(self) -> bool:
        """Start the next items of the queue as far as they fit. Returns whether any item is in training."""
        count, new = len(self.of_learned["item"]), list[int]()
        longest = max((len(self.rows[row]) for row in self.of_learned["item"].tolist()), default=0)
        for row in self.queue[self.started : self.started + self.params.batch_tokens]:
            longest = max(longest, len(self.rows[row]))
            if count + len(new) and (count + len(new) + 1) * longest > self.params.batch_tokens:
                break
            new.append(row)
        self.started += len(new)
        if new:
            added = self._initial_state(new)
            self.of_learned = {name: torch.cat([old, added[name]]) for name, old in self.of_learned.items()}
        return len(self.of_learned["item"]) > 0

    def _step(self) -> None:
        """Measure every item's loss, then update its token."""
        now = self.of_learned
        items = now["item"].tolist()
        ids, mask = padded([self.rows[row] for row in items], self.llm.device)
        leaf = now["value"].clone().requires_grad_()
        losses = text_losses(self.llm, leaf, ids, mask)  # (S,)
        # of the sum, so that no item's gradient depends on the others
        (gradient,) = torch.autograd.grad(losses.sum(), leaf)
        losses = losses.detach()
        beginning = now["step"] == 0
        if not bool(losses[beginning].isfinite().all()):
            raise LeaError("llm.source: the model gives an item's text no finite probability: use another model")
        self.of_all["before"][now["item"][beginning.cpu()]] = losses[beginning].cpu()
        better = losses < now["best_loss"]
        now["best"] = torch.where(better[:, None], now["value"], now["best"])
        now["best_loss"] = torch.where(better, losses, now["best_loss"])
        lower = losses < now["mark"] * (1.0 - self.params.tolerance)
        now["mark"] = torch.where(lower, losses, now["mark"])
        now["stalled"] = torch.where(lower, 0, now["stalled"] + 1)
        now["step"] = now["step"] + 1
        adam_step(now["value"], gradient, now["mean"], now["square"], now["step"][:, None], self.rate)

    def _remove_finished(self) -> list[int]:
        """Store the results of finished items and remove them from the batch."""
        now = self.of_learned
        done = (now["stalled"] >= PATIENCE) | (now["step"] > self.params.steps)
        items = now["item"][done.cpu()]
        self.of_all["token"][items] = now["best"][done].cpu()
        self.of_all["after"][items] = now["best_loss"][done].cpu()
        self.of_all["steps"][items] = now["step"][done].cpu().float()
        self.of_learned = {name: array[~done.to(array.device)] for name, array in now.items()}
        return items.tolist()

    def _save(self, checkpoint: Checkpoint) -> None:
        tensors = {f"all.{name}": array for name, array in self.of_all.items()}
        tensors |= {f"learned.{name}": array for name, array in self.of_learned.items()}
        arrays = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
        checkpoint.save(arrays, {"started": self.started, "seconds": self.seconds})

    def _restore(self, checkpoint: Checkpoint) -> None:
        if (saved := checkpoint.load()) is None:
            return
        arrays, state = saved
        self.started, self.seconds = state["started"], state["seconds"]
        self.of_all = {name: torch.from_numpy(arrays[f"all.{name}"]) for name in self.of_all}
        for name, array in self.of_learned.items():
            self.of_learned[name] = torch.from_numpy(arrays[f"learned.{name}"]).to(array.device)
