"""One pass of the LE over the windows of some users: states of all positions, rewards of the actions at all steps.

In: a trained LE, training events, an action or more for every step. Out: `Passed`, by event.

One pass of the LLM over packed windows gives all states, the reward of each logged next item (it stands in the
sequence) and the rewards of the actions appended to it. `window_keys` says by content what a window is: two windows of
the same key have the same states and rewards, up to the rounding of the batch that they came in.
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
class Passed:
    """By event: N events, A actions each; NaN where no window has filled them, and at steps that there are not."""

    states: np.ndarray  # (N, C + K) float16
    rewards: np.ndarray  # (N,) float32: of the next event
    action_rewards: np.ndarray  # (N, A) float32

    @classmethod
    def empty(cls, environment: Environment, events: int, actions: int) -> Passed:
        """Nothing filled."""
        widths = (environment.heads.state_width,), (), (actions,)
        kinds = (np.float16, np.float32, np.float32)
        return cls(*(np.full((events, *width), np.nan, kind) for width, kind in zip(widths, kinds, strict=True)))


@torch.inference_mode()
def fill(
    environment: Environment,
    train: Sequences,
    cut: list[Window],
    actions: np.ndarray,
    batch_tokens: int,
    passed: Passed,
) -> Iterator[Packed]:
    """Pass over windows with `actions` (N, A), fill their rows of `passed`; each batch is given when it is done."""
    for packed in fitted_packs(train, cut, batch_tokens, actions.shape[1], learning_steps(train)):
        acting = packed.events[packed.acting]
        judged = environment.judge(train, packed, actions[acting])
        states = judged.states[torch.from_numpy(packed.owned)]
        passed.states[packed.events[packed.owned]] = states.half().cpu().numpy()
        passed.rewards[acting] = judged.logged_rewards.cpu().numpy()
        passed.action_rewards[acting] = judged.rewards.cpu().numpy()
        yield packed


def pass_over(environment: Environment, train: Sequences, actions: np.ndarray, batch_tokens: int) -> Passed:
    """All windows of all users at once; actions: (N, A)."""
    passed = Passed.empty(environment, len(train.items), actions.shape[1])
    cut = windows(train, np.arange(train.num_users), environment.shape.history)
    for _ in fill(environment, train, cut, actions, batch_tokens, passed):
        pass
    return passed


def item_keys(environment: Environment) -> np.ndarray:
    """(I, 16) uint8: a hash of all that the LE knows of an item: token, text vectors, count of training events."""
    heads = environment.heads
    parts = (environment.token, heads.pooled, heads.content, heads.counts[:, None])
    rows = np.concatenate([part.detach().float().cpu().numpy() for part in parts], axis=1)
    return _bytes([blake2b(row.tobytes(), digest_size=16).digest() for row in rows])


def window_keys(
    environment: Environment, train: Sequences, cut: list[Window], actions: np.ndarray, keys: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What each window holds by its items' `keys`: (W, 16) uint8, and its ranges of events, (W, 4).

    The ranges are first and end of the events that the window owns, first and end of the steps that it rewards.
    """
    found = as_arrays(train, cut, learning_steps(train))
    before = environment.shape.recent_items - 1  # items that a state may look back beyond its window
    looked = np.maximum(found.start - before, found.first)
    step = np.append(found.acting, 0)[np.cumsum(found.steps) - found.steps]
    step = np.where(found.steps > 0, step, found.end)  # the first that a window rewards
    last = step + found.steps
    ends_user = found.end == found.user_end
    places = (found.start - looked, found.new - found.start, step - found.start, found.steps, ends_user)
    parts = [
        _slices(np.stack(places, axis=1), np.arange(len(cut)), np.arange(len(cut)) + 1),
        _slices(keys[train.items], looked, found.end),
        _slices(keys[actions].reshape(len(actions), -1), step, last),
    ]
    digests = [blake2b(b"".join(window), digest_size=16).digest() for window in zip(*parts, strict=True)]
    return _bytes(digests), np.stack([found.new, found.end, step, last], axis=1)


def _slices(rows: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Iterator[bytes]:
    """The bytes of rows start to end - 1, for each of many such ranges."""
    whole, size = rows.tobytes(), rows.itemsize * rows.shape[1]
    return (whole[start:end] for start, end in zip((size * starts).tolist(), (size * ends).tolist(), strict=True))


def _bytes(digests: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 16)
