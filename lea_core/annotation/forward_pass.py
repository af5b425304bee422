"""Inference of the LE on windows of training events: states of all positions, rewards of the actions at all steps.

In: a trained LE, training events, one or more actions for every step. Out: `Outputs`, by event.

One forward pass of the LLM over a batch of packed windows gives all states, the rewards of the logged next items, which
are part of the windows, and the rewards of the appended actions. `window_keys` hashes what a window contains: windows
with the same key have the same states and rewards, up to rounding, which depends on the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch

from lea_core.data.sequences import Sequences, Window, learning_steps, windows
from lea_core.environment.model import Environment
from lea_core.llm.packing import Packed, as_arrays, fitted_packs


@dataclass(frozen=True)
class Outputs:
    """Outputs of the LE for N events with A actions each. NaN where nothing was computed, or where no event follows."""

    states: np.ndarray  # (N, C + K) float16
    rewards: np.ndarray  # (N,) float32: of the next event
    action_rewards: np.ndarray  # (N, A) float32

    @classmethod
    def empty(cls, environment: Environment, events: int, actions: int) -> Outputs:
        """All NaN."""
        return cls(
            np.full((events, environment.heads.state_width), np.nan, np.float16),
            np.full(events, np.nan, np.float32),
            np.full((events, actions), np.nan, np.float32),
        )


@torch.inference_mode()
def fill_outputs(
    environment: Environment,
    train: Sequences,
    cut: list[Window],
    actions: np.ndarray,
    batch_tokens: int,
    outputs: Outputs,
) -> Iterator[Packed]:
    """Compute windows with `actions` (N, A) and fill their rows of `outputs`; yields each batch when it is done."""
    for packed in fitted_packs(train, cut, batch_tokens, actions.shape[1], learning_steps(train)):
        acting = packed.events[packed.acting]
        predicted = environment.predict(train, packed, actions[acting])
        states = predicted.states[torch.from_numpy(packed.owned)]
        outputs.states[packed.events[packed.owned]] = states.half().cpu().numpy()
        outputs.rewards[acting] = predicted.logged_rewards.cpu().numpy()
        outputs.action_rewards[acting] = predicted.rewards.cpu().numpy()
        yield packed


def run_all(environment: Environment, train: Sequences, actions: np.ndarray, batch_tokens: int) -> Outputs:
    """Outputs for all events of all users. actions: (N, A)."""
    outputs = Outputs.empty(environment, len(train.items), actions.shape[1])
    cut = windows(train, np.arange(train.num_users), environment.shape.history)
    for _ in fill_outputs(environment, train, cut, actions, batch_tokens, outputs):
        pass
    return outputs


def item_keys(environment: Environment) -> np.ndarray:
    """(I, 16) uint8: a hash of what the LE knows of each item: token, text vectors, number of training events."""
    heads = environment.heads
    parts = (environment.token, heads.pooled, heads.content, heads.counts[:, None])
    rows = np.concatenate([part.detach().float().cpu().numpy() for part in parts], axis=1)
    return _bytes([blake2b(row.tobytes(), digest_size=16).digest() for row in rows])


def window_keys(
    environment: Environment, train: Sequences, cut: list[Window], actions: np.ndarray, keys: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A hash of what each window contains, by its items' `keys`: (W, 16) uint8; and its ranges of events: (W, 4).

    The ranges are start and end of the events that the window owns, and start and end of the steps that it rewards.
    """
    found = as_arrays(train, cut, learning_steps(train))
    before = environment.shape.recent_items - 1  # a state also depends on this number of items before its window
    looked = np.maximum(found.start - before, found.first)
    step = np.append(found.acting, 0)[np.cumsum(found.steps) - found.steps]
    step = np.where(found.steps > 0, step, found.end)  # the first step that a window rewards
    last = step + found.steps
    ends_user = found.end == found.user_end
    layout = (found.start - looked, found.new - found.start, step - found.start, found.steps, ends_user)
    parts = [
        _slices(np.stack(layout, axis=1), np.arange(len(cut)), np.arange(len(cut)) + 1),
        _slices(keys[train.items], looked, found.end),
        _slices(keys[actions].reshape(len(actions), -1), step, last),
    ]
    digests = [blake2b(b"".join(window), digest_size=16).digest() for window in zip(*parts, strict=True)]
    return _bytes(digests), np.stack([found.new, found.end, step, last], axis=1)


def _slices(rows: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Iterator[bytes]:
    """The bytes of rows start to end - 1, for each start and end."""
    whole, size = rows.tobytes(), rows.itemsize * rows.shape[1]
    return (whole[start:end] for start, end in zip((size * starts).tolist(), (size * ends).tolist(), strict=True))


def _bytes(digests: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 16)
