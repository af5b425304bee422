"""Packed training batches: every position of a window is a state, and one forward pass serves them all.

In: the training sequences and their supervision. Out: `Batch`es of windows.

A window holds at most history + 1 events: the states after its first `history` ones are trained, and the last one's is
there for its value alone. A user's windows overlap in one event, so that every training event is once a target in each
epoch. Where a user has more than one window, the first is cut short at random, anew in each epoch, so that the borders,
where a state sees little of the past, fall elsewhere each time.

The papers instead give each state its own padded sample of the last 10 items, with a second pass for the next state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from lea_core.errors import LeaError
from lea_core.le_parts import Supervision, transitions
from lea_core.params import QParams
from lea_core.sequences import Sequences, batches, sample_actions


@dataclass(frozen=True)
class Batch:
    """B windows of T events: R events in all, P transitions, A actions. An absent part is None."""

    items: Tensor  # (B, T) int64, -1 after a window's end
    events: Tensor  # (R,) int64: where in items.flatten() each event stands
    source: (
        Tensor  # (P,) int64: which of the R events each transition starts from; the next state is that of source + 1
    )
    action: Tensor  # (P,) int64
    last: Tensor  # (P,) bool: the action is the user's last training event
    reward: Tensor  # (P,)
    le_states: Tensor | None  # (R, C) float32
    sampled_actions: Tensor | None  # (P, A) int64: negatives; None for the supervised method
    sampled_rewards: Tensor | None  # (P, A)
    proposed_actions: Tensor | None  # (P, A) int64
    proposed_preferences: Tensor | None  # (P, A)

    def states(self, states: Tensor) -> Tensor:
        """(B, T, D) states of the windows -> (R, D) of their events."""
        return states.flatten(0, 1).index_select(0, self.events)


class TrainingData:
    """The training sequences, ready to be cut into batches."""

    def __init__(
        self, train: Sequences, supervision: Supervision, settings: QParams | None, device: torch.device
    ) -> None:
        """train: training events alone. supervision: theirs, row by row. device: where batches go.

        settings: negatives are drawn by them where the supervision has none; None: the method needs none.
        """
        self.train, self.settings, self.device = train, settings, device
        self.supervision = supervision.to(device)
        self.items = torch.from_numpy(train.items).to(device)
        rows = transitions(train)
        transition = np.full(len(train.items), -1)
        transition[rows] = np.arange(len(rows))
        self.transition = torch.from_numpy(transition).to(device)  # (N,): which transition starts from each event

    def epoch(self, history: int, size: int, generator: np.random.Generator) -> Iterator[Batch]:
        """Batches of `size` windows that cover every transition once, in random order."""
        starts, stops = training_windows(self.train, history, generator)
        shuffled = generator.permutation(len(starts))
        for part in batches(len(shuffled), size):
            chosen = shuffled[part]
            yield self.batch(starts[chosen], stops[chosen], generator)

    def batch(self, starts: np.ndarray, stops: np.ndarray, generator: np.random.Generator) -> Batch:
        """The batch of windows [start, stop) of the training events."""
        time = np.arange((stops - starts).max())
        rows = starts[:, None] + time  # (B, T)
        inside = rows < stops[:, None]
        ends = (rows == stops[:, None] - 1)[inside]  # (R,): no transition starts from a window's last event
        event = torch.from_numpy(rows[inside]).to(self.device)  # (R,) row among the training events
        events = torch.from_numpy(np.flatnonzero(inside)).to(self.device)
        source = torch.from_numpy(np.flatnonzero(~ends)).to(self.device)
        items = torch.full(rows.shape, -1, device=self.device)
        items.view(-1)[events] = self.items[event]
        begin, end = event[source], event[source] + 1
        transition = self.transition[begin]

        def of(values: Tensor | None, index: Tensor) -> Tensor | None:
            return None if values is None else values.index_select(0, index)

        given = self.supervision
        le_states = of(given.le_states, event)
        action = self.items[end]
        sampled_actions = of(given.sampled_actions, transition)
        sampled_rewards = of(given.sampled_rewards, transition)
        if self.settings is not None and sampled_actions is None:
            drawn = sample_actions(action.cpu().numpy(), self.settings.negatives, self.train.num_items, generator)
            sampled_actions = torch.from_numpy(drawn).to(self.device)
            sampled_rewards = torch.full(drawn.shape, self.settings.negative_reward, device=self.device)
        return Batch(
            items=items,
            events=events,
            source=source,
            action=action,
            last=self.transition[end] < 0,
            reward=given.rewards[transition],
            le_states=None if le_states is None else le_states.float(),
            sampled_actions=sampled_actions,
            sampled_rewards=sampled_rewards,
            proposed_actions=of(given.proposed_actions, transition),
            proposed_preferences=of(given.proposed_preferences, transition),
        )


def training_windows(train: Sequences, history: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """First row and end row of every window of an epoch: two (W,) arrays."""
    starts, stops = [], []
    for first, end in pairwise(train.offsets):
        targets = end - first - 1
        if targets < 1:
            continue
        cut = generator.integers(1, history + 1) if targets > history else targets
        begins = np.concatenate([[first], np.arange(first + cut, end - 1, history)])
        starts.append(begins)
        stops.append(np.append(begins[1:] + 1, end))
    if not starts:
        raise LeaError("no user has two training events: give more data, or a smaller preprocess.k_core")
    return np.concatenate(starts), np.concatenate(stops)
