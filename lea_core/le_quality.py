"""The LE by itself: what its states and rewards are worth on users it never saw, beside the cheapest replacement.

In: a trained LE, the sequences, users outside its subset. Out: for their valid and their test events
  state    NDCG@10 and HR@10 of ranking all items by the LE's score, by the content start it was trained from (b_t with
           the untrained action embeddings), and by text nearest neighbour (content vector of the last item alone)
  reward   share of events whose next item gets a higher reward than a uniformly sampled other item (ties count half),
           for the LE's reward and for the content start's similarity
and, while it trains, the jury that picks its best epoch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lea_core.environment import Environment
from lea_core.errors import LeaError, warn
from lea_core.metrics import metrics, ndcg, ranks, seen_items
from lea_core.params import LeParams
from lea_core.sequences import (
    SPLITS,
    Sequences,
    Window,
    owned_steps,
    sample_actions,
    window_batches,
    window_items,
    windows,
)

METHODS = ("le", "content_start", "text_nearest_neighbour")


class Jury:
    """Judges an LE by NDCG@10 over the training events of users it does not learn from."""

    def __init__(self, train: Sequences, users: np.ndarray, mask_seen: bool, p: LeParams) -> None:
        self.train, self.mask_seen = train, mask_seen
        usable = users[np.diff(train.offsets)[users] >= 2][: p.selection_users]
        if not len(usable):
            raise LeaError(
                "params.yaml: finetune_le.users_share leaves no user with two events to judge the LE by: lower it"
            )
        self.batches = window_batches(windows(train, usable, p.history), p.batch_tokens)
        self._cached: list[tuple[Tensor, Tensor]] = []

    @torch.inference_mode()
    def judge(self, environment: Environment, frozen: bool) -> float:
        """Mean NDCG@10. With `frozen`, the LLM's hidden states are computed once and kept for the next call."""
        scores = []
        for number, batch in enumerate(self.batches):
            items = torch.from_numpy(window_items(self.train, batch)).to(environment.llm.device)
            if not frozen or number >= len(self._cached):
                hidden = environment.hidden(items)
                kept = (environment.content_start(items), hidden.half())
                if frozen:
                    self._cached.append(kept)
            else:
                kept = self._cached[number]
            scores.append(self._score(environment, batch, kept[0], kept[1].float()))
        return float(np.concatenate(scores).mean())

    def _score(self, environment: Environment, batch: list[Window], start: Tensor, hidden: Tensor) -> np.ndarray:
        rows, times = owned_steps(batch)
        device = start.device
        state = environment.state(start, environment.standardise(hidden))[rows, times]
        users = np.array([batch[row].user for row in rows])
        positions = np.array([batch[row].start for row in rows]) + times + 1
        targets = torch.from_numpy(self.train.items[self.train.offsets[users] + positions]).to(device)
        seen = torch.from_numpy(seen_items(self.train, users, positions)).to(device) if self.mask_seen else None
        return ndcg(ranks(environment.scores(state), targets, seen).cpu().numpy(), 10)


@torch.inference_mode()
def quality(
    environment: Environment, sequences: Sequences, users: np.ndarray, mask_seen: bool, p: LeParams
) -> dict[str, Any]:
    """Yardsticks by split; `users` must be outside the LE's subset. A split without events of theirs is left out."""
    sampled = sample_actions(sequences.items, 1, sequences.num_items, np.random.default_rng(p.seed))[:, 0]
    found: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in SPLITS[1:]}
    for batch in window_batches(_windows_with_targets(sequences, users, p.history), p.batch_tokens, 2):
        for name, part in _measure(environment, sequences, batch, sampled, mask_seen).items():
            found[name].append(part)
    result: dict[str, Any] = {"users": len(users)}
    for name, parts in found.items():
        if parts:
            result[name] = _summary({key: np.concatenate([part[key] for part in parts]) for key in parts[0]})
    return result


def worse_than_start(measured: dict[str, Any]) -> bool:
    """Whether the trained LE ranks the validation events worse than the content start does; says so."""
    valid = measured.get("valid")
    if valid is None or valid["le_ndcg10"] >= valid["content_start_ndcg10"]:
        return False
    warn(
        f"the LE reaches NDCG@10 {valid['le_ndcg10']:.4f} on validation events of unseen users, less than the "
        f"content similarity it started from ({valid['content_start_ndcg10']:.4f}): the start is kept; see le_curve.csv"
    )
    return True


def headline(measured: dict[str, Any]) -> dict[str, float]:
    """The few numbers that DVC shows: on validation events of unseen users."""
    valid = measured.get("valid")
    if valid is None:
        return {}
    names = [f"{method}_ndcg10" for method in METHODS] + ["le_reward_accuracy", "content_start_reward_accuracy"]
    return {name: round(valid[name], 4) for name in names}


def _windows_with_targets(sequences: Sequences, users: np.ndarray, history: int) -> list[Window]:
    """Windows that hold an event to predict, with at least one event before it."""
    held = sequences.split != SPLITS.index("train")
    return [
        window
        for window in windows(sequences, users, history)
        if held[sequences.offsets[window.user] + window.new : sequences.offsets[window.user] + window.end].any()
    ]


def _measure(
    environment: Environment, sequences: Sequences, batch: list[Window], sampled: np.ndarray, mask_seen: bool
) -> dict[str, dict[str, np.ndarray]]:
    """Ranks and reward wins of the targets of a window batch, by split."""
    items = window_items(sequences, batch)
    rows, times, users, positions, flat = [], [], [], [], []
    for row, window in enumerate(batch):
        offset = sequences.offsets[window.user]
        for position in range(max(window.new, window.start + 1), window.end):
            if sequences.split[offset + position]:
                rows.append(row)
                times.append(position - window.start - 1)  # the state before the event
                users.append(window.user)
                positions.append(position)
                flat.append(offset + position)
    if not rows:
        return {}
    actions = np.zeros((*items.shape, 1), dtype=np.int64)
    actions[rows, times, 0] = sampled[flat]
    result = environment.judge(items, actions)
    target, other = sequences.items[flat], sampled[flat]
    device = environment.llm.device
    wanted = torch.from_numpy(target).to(device)
    start = environment.content_start(result.items)[rows, times] @ environment.content.T  # (N, I)
    nearest = environment.content[result.items[rows, times]] @ environment.content.T
    seen = None
    if mask_seen:
        seen = torch.from_numpy(seen_items(sequences, np.array(users), np.array(positions))).to(device)
    following = [time + 1 for time in times]  # the target's own token stands there
    logged = environment.reward(result.scores[rows, times], wanted[:, None], result.hidden[rows, following][:, None])[
        :, 0
    ]
    measured = {
        name: ranks(scores, wanted, seen).cpu().numpy()
        for name, scores in zip(METHODS, (result.scores[rows, times], start, nearest), strict=True)
    }
    measured["le_reward"] = _wins(logged, result.action_rewards[rows, times, 0])
    pick = np.arange(len(target))
    measured["content_start_reward"] = _wins(start[pick, target], start[pick, other])
    split = sequences.split[flat]
    return {
        name: {key: value[split == code] for key, value in measured.items()}
        for code, name in enumerate(SPLITS)
        if (split == code).any()
    }


def _wins(logged: Tensor, other: Tensor) -> np.ndarray:
    """1 where the logged action has the higher value, 0.5 where both are equal; (N,)."""
    return ((logged > other).float() + 0.5 * (logged == other).float()).cpu().numpy()


def _summary(found: dict[str, np.ndarray]) -> dict[str, float]:
    result: dict[str, float] = {"events": len(found["le"])}
    for method in METHODS:
        values = metrics(found[method], (10,))
        result |= {f"{method}_ndcg10": values["NDCG@10"], f"{method}_hr10": values["HR@10"]}
    for method in METHODS[:2]:
        result[f"{method}_reward_accuracy"] = float(found[f"{method}_reward"].mean())
    return result
