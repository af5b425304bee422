"""What a learner gets for each training event: rewards, and the signals that its variant names.

In: `interactions.parquet` (events) and, by variant, `states`, `rewards` and `actions` of the LE, or of a control in the
LE's place (lea_core/experiments/controls/). Out: `Supervision`,
tensors by training event or by transition, checked against the training sequences row by row.

A transition is a training event that another training event of its user follows: its state is the one after the event,
its action the event that follows. `Supervision` holds transitions in the order of the training events.

An LE reward R enters as reward_scale * sigmoid((R - mean) / deviation), mean and deviation taken over the logged
actions; without the LE's rewards table, over the proposed ones. So an average logged action gets half the scale.
Rewards of a control go the same way; where all its logged ones are equal they enter as they are, times reward_scale.
Proposals are standardised by the logged actions only where the LE gives both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from lea_core.common.errors import LeaError
from lea_core.common.layout import FOLDERS, origin, stage_of, table_path
from lea_core.common.tables import (
    ACTIONS,
    INTERACTIONS,
    ITEM_VECTORS,
    RANKINGS,
    REWARDS,
    STATES,
    Schema,
    is_made_from,
    read_table,
    to_numpy,
)
from lea_core.data.rewards import of_events
from lea_core.data.sequences import Sequences, learning_steps
from lea_core.params import TrainParams, Variant, has_critic


@dataclass(frozen=True)
class Supervision:
    """N training events, M transitions, A actions each; None where the variant does without."""

    rewards: Tensor  # (M,) of the logged action; zeros for a method without a critic, which reads none
    le_states: Tensor | None = None  # (N, C) float16: the LE's state after each event
    sampled_actions: Tensor | None = None  # (M, A) int64: negatives with an LE reward
    sampled_rewards: Tensor | None = None  # (M, A)
    proposed_actions: Tensor | None = None  # (M, A) int64
    proposed_preferences: Tensor | None = None  # (M, A) in (0, 1): their LE reward before the scale
    ranked_items: Tensor | None = None  # (M, K) int64
    ranked_log_probabilities: Tensor | None = None  # (M, K): what the LE's ranking gives them
    item_vectors: Tensor | None = None  # (I, C): what item embeddings start from

    def to(self, device: torch.device) -> Supervision:
        """The same on another device."""
        return replace(self, **{name: part.to(device) for name, part in vars(self).items() if part is not None})


def transitions(train: Sequences) -> np.ndarray:
    """Row, among the training events, of each transition's state: (M,)."""
    return np.flatnonzero(learning_steps(train))


def read_supervision(data: Path, variant: Variant, params: TrainParams, train: Sequences) -> Supervision:
    """Read what `variant` uses from the folders under `data`, for the training sequences `train`.

    Raises `LeaError` where a table is of another dataset, holds NaN, or an event has no reward.
    """
    rows = transitions(train)
    paths = {part: table_path(data, part, getattr(variant, part)) for part in FOLDERS}
    makers = {part: stage_of(part, getattr(variant, part)) for part in FOLDERS}
    states = None if variant.state == "none" else _read_states(paths["state"], train, makers["state"])
    sampled_actions = sampled_rewards = proposed_actions = proposed_preferences = None
    centre = None  # mean and deviation of the logged LE rewards
    if variant.reward != "none":
        path, maker = paths["reward"], makers["reward"]
        table = _read_transitions(path, REWARDS, train, rows, maker)
        if not np.array_equal(to_numpy(table, "action"), train.items[rows + 1]):
            raise _of_another_dataset(path, "an action is not the item that follows in training", maker)
        logged = _finite(path, table, "reward")
        centre = _centre(path, logged, variant.reward)
        rewards = params.le.reward_scale * preference(logged, centre)
        sampled_actions = _items(path, table, "sampled_actions", train, maker)
        sampled_rewards = params.le.reward_scale * preference(_finite(path, table, "sampled_rewards"), centre)
    elif not has_critic(variant.method):
        rewards = torch.zeros(len(rows))
    else:
        rewards = _event_rewards(data / "interactions" / "interactions.parquet", params.event_rewards, rows)
    if variant.actions != "none":
        path, maker = paths["actions"], makers["actions"]
        table = _read_transitions(path, ACTIONS, train, rows, maker)
        proposed_actions = _items(path, table, "actions", train, maker)
        proposed = _finite(path, table, "rewards")
        if not variant.reward == variant.actions == "le":
            centre = _centre(path, proposed, variant.actions)
        proposed_preferences = preference(proposed, centre)
    ranked_items = ranked_log_probabilities = None
    if variant.ranking != "none":
        path, maker = paths["ranking"], makers["ranking"]
        table = _read_transitions(path, RANKINGS, train, rows, maker)
        ranked_items = _items(path, table, "items", train, maker)
        ranked_log_probabilities = torch.from_numpy(_finite(path, table, "log_probabilities"))
    _check_origin(data, variant)
    return Supervision(
        rewards,
        states,
        sampled_actions,
        sampled_rewards,
        proposed_actions,
        proposed_preferences,
        ranked_items,
        ranked_log_probabilities,
        None if variant.items == "none" else _read_item_vectors(paths["items"], train, makers["items"]),
    )


def _check_origin(data: Path, variant: Variant) -> None:
    """Raise `LeaError` where a table was made from other interactions, or from these in another order."""
    for part, source in variant.sources.items():
        path, made_from = table_path(data, part, source), origin(data, part)
        if not is_made_from(path, made_from):
            raise _of_another_dataset(path, f"its hash is not that of {made_from}", stage_of(part, source))


def _read_item_vectors(path: Path, train: Sequences, stage: str) -> Tensor:
    table = read_table(path, ITEM_VECTORS)
    if not np.array_equal(to_numpy(table, "item"), np.arange(train.num_items)):
        raise _of_another_dataset(path, f"its rows are not the {train.num_items} items", stage)
    return torch.from_numpy(_finite(path, table, "vector"))


def _read_states(path: Path, train: Sequences, stage: str) -> Tensor:
    table = read_table(path, STATES)
    _check_rows(path, table, *train.users_and_positions(), stage)
    return torch.from_numpy(_finite(path, table, "state"))


def _read_transitions(path: Path, schema: Schema, train: Sequences, rows: np.ndarray, stage: str) -> pa.Table:
    table = read_table(path, schema)
    users, positions = train.users_and_positions()
    _check_rows(path, table, users[rows], positions[rows], stage)
    return table


def _check_rows(path: Path, table: pa.Table, users: np.ndarray, positions: np.ndarray, stage: str) -> None:
    if table.num_rows != len(users):
        raise _of_another_dataset(path, f"{table.num_rows} rows, but training has {len(users)}", stage)
    found = np.stack([to_numpy(table, "user"), to_numpy(table, "position")])
    wrong = np.flatnonzero((found != np.stack([users, positions])).any(axis=0))
    if len(wrong):
        (user, position), row = found[:, wrong[0]], wrong[0]
        wanted = f"user {users[row]} position {positions[row]}"
        raise _of_another_dataset(path, f"row {row} is user {user} position {position}, not {wanted}", stage)


def _of_another_dataset(path: Path, reason: str, stage: str) -> LeaError:
    return LeaError(f"{path}: made from another dataset ({reason}): run `dvc repro {stage}` to make it anew")


def _finite(path: Path, table: pa.Table, column: str) -> np.ndarray:
    values = to_numpy(table, column)
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).reshape(len(values), -1).all(axis=1)))
        raise LeaError(f"{path}: column {column!r} holds NaN or infinity (row {row}): train the LE again")
    return np.array(values)  # Arrow's memory is read-only, torch wants its own


def _items(path: Path, table: pa.Table, column: str, train: Sequences, stage: str) -> Tensor:
    values = to_numpy(table, column).astype(np.int64)
    if values.size and not 0 <= values.min() <= values.max() < train.num_items:
        reason = f"column {column!r} holds items outside 0 to {train.num_items - 1}"
        raise _of_another_dataset(path, reason, stage)
    return torch.from_numpy(values)


def _centre(path: Path, rewards: np.ndarray, source: str) -> tuple[float, float] | None:
    """Mean and deviation, None for a control's equal rewards. Raises `LeaError` where those of the LE are equal."""
    centre = mean_and_deviation(rewards)
    if centre is None and source == "le":
        raise LeaError(f"{path}: all rewards are equal, the LE prefers nothing: look at its metrics, train it longer")
    return centre


def mean_and_deviation(rewards: np.ndarray) -> tuple[float, float] | None:
    """Of rewards of any shape; None where they do not differ."""
    if rewards.min() == rewards.max():
        return None
    return float(rewards.mean(dtype=np.float64)), float(rewards.std(dtype=np.float64))


def preference(rewards: np.ndarray, centre: tuple[float, float] | None) -> Tensor:
    """sigmoid((R - mean) / deviation) of rewards of any shape, float32; R itself without a centre."""
    plain = torch.from_numpy(rewards).float()
    return plain if centre is None else torch.sigmoid((plain - centre[0]) / centre[1])


def _event_rewards(path: Path, rewards: dict[str, float], rows: np.ndarray) -> Tensor:
    """Reward of each transition's action by its event."""
    table = read_table(path, INTERACTIONS)
    events = table.filter(pc.equal(table["split"], "train"))["event"]
    return torch.from_numpy(of_events(path, events, rewards)[rows + 1]).float()
