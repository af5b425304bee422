"""Fine-tuning of the LE on a subset of the users (paper, figure 2: L_sm and L_rm), in two phases.

In: an untrained LE, the training events. Out: the LE at its best epoch, a learning curve.

  heads  The frozen LLM reads the subset once; its hidden states are kept, and the heads are trained on them: an epoch
         takes a second or so.
  lora   LoRA and heads together, whole windows through the LLM, fresh sampled actions in each epoch.

Both minimise, at every position whose next event is a training event too,
    L = -log softmax(score(s_t, .))[x_{t+1}]  +  reward_weight * mean_k -log sigmoid(R(s_t, x_{t+1}) - R(s_t, a_k))
with all items in the softmax (the paper: sampled un-interacted items) and a_k uniform over the other items.

An epoch is judged by NDCG@10 on the training events of users outside the subset: held out from the LE, yet no
validation or test event. The start counts as epoch 0, so the LE never ends below the content similarity there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lea_core.environment import Environment
from lea_core.errors import LeaError
from lea_core.le_losses import reward_centre, reward_loss, state_loss
from lea_core.le_quality import Jury
from lea_core.params import LeParams
from lea_core.progress import announce, bar
from lea_core.sequences import (
    Sequences,
    Window,
    batches,
    owned_steps,
    sample_actions,
    window_batches,
    window_items,
    windows,
)

ROWS_PER_STEP = 512  # positions per optimiser step of the heads phase


@dataclass(frozen=True)
class Rows:
    """Steps to learn from; the hidden states are raw or standardised, as the producer says."""

    start: Tensor  # (N, C): b_t
    hidden: Tensor  # (N, H): h_t
    logged: Tensor  # (N,): the next item
    logged_hidden: Tensor  # (N, 1, H): h of that action
    sampled: Tensor  # (N, A): other items
    sampled_hidden: Tensor  # (N, A, H): h of those

    def select(self, chosen: Tensor) -> Rows:
        """The rows of these indices."""
        return Rows(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def choose_users(train: Sequences, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Training users drawn for the LE, and all other users; both sorted. Raises `LeaError` where it gets none."""
    able = np.flatnonzero(np.diff(train.offsets) >= 2)
    count = round(share * len(able))
    if count < 1:
        raise LeaError(
            f"params.yaml: finetune_le.users_share {share} of {len(able)} users with two training events leaves the LE "
            "none to learn from: raise it"
        )
    chosen = np.sort(rng.permutation(able)[:count])
    return chosen, np.setdiff1d(np.arange(train.num_users), chosen)


def finetune(
    environment: Environment, train: Sequences, users: np.ndarray, judges: np.ndarray, mask_seen: bool, p: LeParams
) -> list[dict[str, Any]]:
    """Train `environment` in place on the training events of `users`; `judges` select the epoch. Returns the curve."""
    rng = np.random.default_rng(p.seed)
    jury = Jury(train, judges, mask_seen, p)
    curve = _train_heads(environment, train, users, jury, rng, p)
    return _train_lora(environment, train, users, jury, rng, p, curve) if p.lora.epochs else curve


def _rows(
    environment: Environment, train: Sequences, batch: list[Window], negatives: int, rng: np.random.Generator
) -> Rows:
    """One pass of the LLM over a batch -> its rows, hidden states raw."""
    items = window_items(train, batch)
    following = np.roll(items, -1, axis=1)  # the logged action at each position; what stands at the end is not used
    actions = sample_actions(following.clip(min=0), negatives, train.num_items, rng)
    device = environment.llm.device
    items_, actions_ = torch.from_numpy(items).to(device), torch.from_numpy(actions).to(device)
    hidden, action_hidden = environment.hidden_with_actions(items_, actions_)
    rows, times = owned_steps(batch)
    return Rows(
        start=environment.content_start(items_)[rows, times],
        hidden=hidden[rows, times],
        logged=items_[rows, times + 1],
        logged_hidden=hidden[rows, times + 1][:, None],
        sampled=actions_[rows, times],
        sampled_hidden=action_hidden[rows, times],
    )


def le_losses(environment: Environment, rows: Rows, p: LeParams) -> tuple[Tensor, Tensor]:
    """State loss and centred reward loss of rows with standardised hidden states; both ()."""
    scores = environment.scores(environment.state(rows.start, rows.hidden))  # (N, I)
    logged = environment.reward(scores, rows.logged[:, None], rows.logged_hidden)  # (N, 1)
    sampled = environment.reward(scores, rows.sampled, rows.sampled_hidden)  # (N, A)
    centred = reward_loss(logged, sampled) + p.reward_centring * reward_centre(logged, sampled)
    return state_loss(scores, rows.logged), centred


def _standardised(environment: Environment, rows: Rows) -> Rows:
    """The same rows with the hidden states that the heads read."""
    hidden = {
        name: environment.standardise(getattr(rows, name).float())
        for name in ("hidden", "logged_hidden", "sampled_hidden")
    }
    return Rows(start=rows.start, logged=rows.logged, sampled=rows.sampled, **hidden)


def _halved(rows: Rows) -> Rows:
    """The same rows with hidden states as float16, to be kept."""
    return replace(
        rows,
        hidden=rows.hidden.half(),
        logged_hidden=rows.logged_hidden.half(),
        sampled_hidden=rows.sampled_hidden.half(),
    )


@torch.no_grad()
def _cache_rows(
    environment: Environment, train: Sequences, users: np.ndarray, rng: np.random.Generator, p: LeParams
) -> Rows:
    """All rows of the subset under the frozen LLM, hidden states as float16; sets the LE's standardisation."""
    count = 1 + p.reward_negatives
    cut = window_batches(windows(train, users, p.history), p.batch_tokens, count)
    total = count * sum(window.length for batch in cut for window in batch)
    parts = []
    with bar(total, "frozen states", "token") as progress:
        for number, batch in enumerate(cut):
            started = time.perf_counter()
            parts.append(_halved(_rows(environment, train, batch, p.reward_negatives, rng)))
            tokens = count * sum(window.length for window in batch)
            progress.update(tokens)
            if number == min(1, len(cut) - 1):  # the first batch warms up
                announce("finetune_le (frozen states)", total, tokens / (time.perf_counter() - started))
    result = Rows(*(torch.cat([getattr(part, name) for part in parts]) for name in Rows.__dataclass_fields__))
    hidden = result.hidden.float()
    environment.hidden_mean.copy_(hidden.mean(dim=0))
    environment.hidden_deviation.copy_(hidden.std(dim=0, correction=0) + 1e-6)
    return result


def _train_heads(
    environment: Environment, train: Sequences, users: np.ndarray, jury: Jury, rng: np.random.Generator, p: LeParams
) -> list[dict[str, Any]]:
    """First phase; its curve begins with the untrained LE as epoch 0."""
    cached = _cache_rows(environment, train, users, rng, p)
    parameters = [value for head in environment.heads() for value in head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=p.heads.learning_rate, weight_decay=p.weight_decay)
    start = _point("start", 0, [], jury.judge(environment, frozen=True))
    with bar(p.heads.epochs, "heads", "epoch") as progress:

        def one_epoch() -> list[tuple[float, float]]:
            order = torch.from_numpy(rng.permutation(len(cached.logged))).to(cached.logged.device)
            losses = []
            for part in batches(len(order), ROWS_PER_STEP):
                rows = _standardised(environment, cached.select(order[part]))
                losses.append(_step(environment, rows, optimiser, parameters, p))
            progress.update(1)
            return losses

        return _keep_best(environment, "heads", [start], p.heads.epochs, one_epoch, jury, p.patience)


def _train_lora(
    environment: Environment,
    train: Sequences,
    users: np.ndarray,
    jury: Jury,
    rng: np.random.Generator,
    p: LeParams,
    curve: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Second phase; goes on with the curve of the first."""
    count = 1 + p.reward_negatives
    cut = window_batches(windows(train, users, p.history), p.batch_tokens, count)
    tokens = [count * sum(window.length for window in batch) for batch in cut]
    total = sum(tokens) * p.lora.epochs
    parameters = list(environment.adapter().values())
    parameters += [value for head in environment.heads() for value in head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=p.lora.learning_rate, weight_decay=p.weight_decay)
    with bar(total, "lora", "token") as progress:

        def one_epoch() -> list[tuple[float, float]]:
            losses = []
            for number, index in enumerate(rng.permutation(len(cut))):
                started = time.perf_counter()
                rows = _standardised(environment, _rows(environment, train, cut[index], p.reward_negatives, rng))
                losses.append(_step(environment, rows, optimiser, parameters, p))
                if number == min(1, len(cut) - 1) and progress.n < sum(tokens):  # the first batch warms up
                    announce("finetune_le (lora)", total, tokens[index] / (time.perf_counter() - started))
                progress.update(tokens[index])
            return losses

        return _keep_best(environment, "lora", curve, p.lora.epochs, one_epoch, jury, p.patience)


def _keep_best(
    environment: Environment,
    phase: str,
    curve: list[dict[str, Any]],
    epochs: int,
    one_epoch: Callable[[], list[tuple[float, float]]],
    jury: Jury,
    patience: int,
) -> list[dict[str, Any]]:
    """Train until `patience` epochs in a row are no better; leave the LE at its best epoch, perhaps none of these.

    Returns `curve` with a row per epoch added.
    """
    curve, best, kept, worse = list(curve), max(row["ndcg10"] for row in curve), environment.snapshot(), 0
    for _ in range(epochs):
        losses = one_epoch()
        score = jury.judge(environment, frozen=phase == "heads")
        curve.append(_point(phase, len(curve), losses, score))
        if score > best:
            best, kept, worse = score, environment.snapshot(), 0
        else:
            worse += 1
        if worse >= patience:
            break
    environment.restore(kept)
    return curve


def _step(
    environment: Environment,
    rows: Rows,
    optimiser: torch.optim.Optimizer,
    parameters: list[torch.nn.Parameter],
    p: LeParams,
) -> tuple[float, float]:
    of_state, of_reward = le_losses(environment, rows, p)
    loss = of_state + p.reward_weight * of_reward
    if not bool(torch.isfinite(loss)):
        raise LeaError("finetune_le: the loss is no longer finite: lower finetune_le.*.learning_rate in params.yaml")
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimiser.step()
    return float(of_state.detach()), float(of_reward.detach())


def _point(phase: str, epoch: int, losses: list[tuple[float, float]], score: float) -> dict[str, Any]:
    """A row of the learning curve; losses are means over the epoch's steps, none before the first."""
    of_state, of_reward = np.mean(losses, axis=0).tolist() if losses else (None, None)
    return {"phase": phase, "epoch": epoch, "state_loss": of_state, "reward_loss": of_reward, "ndcg10": score}
