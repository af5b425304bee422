"""Controls of the state signal.

In: the LE's states and their training events, in the same order; the items' content vectors. Out: states of the same
shape, float16.

- shuffled: the LE's states, permuted among all training events.
- random: a normal vector for every event.  constant: one normal vector for all events, so the parameters of the
  alignment are there without information.
- text: the LE's content start before any training, norm(sum_j w_j c_{x_{t-j}}) over the recent items; the other columns
  are zero, which changes no cosine.
- history_length, future_length: how many training events the user has had so far, or will have. With these two
  auxiliary tasks one sees how much an alignment gains from any second task.
"""

from __future__ import annotations

import numpy as np

from lea_core.common.errors import LeaError
from lea_core.data.sequences import Sequences, histories

BUMPS = 8  # the range of the values, in widths of a bump


def control_states(
    source: str,
    le_states: np.ndarray,
    train: Sequences,
    content: np.ndarray,
    recent: int,
    decay: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """States (N, W) of a control that replace the LE's (N, W). content: (I, C). recent, decay: for `recent_content`.

    Raises `LeaError` where the LE's states are narrower than the content vectors, or of other events.
    """
    count, width = le_states.shape
    if count != len(train.items):
        raise LeaError(f"data/states/le.parquet: {count} rows, but training has {len(train.items)}: run `dvc repro`")
    if source == "shuffled":
        found = generator.permutation(le_states)
    elif source == "random":
        found = generator.standard_normal(le_states.shape, dtype=np.float32)
    elif source == "constant":
        found = np.tile(generator.standard_normal(width, dtype=np.float32), (count, 1))
    elif source == "text":
        found = recent_content(train, content, recent, decay, width)
    elif source in ("history_length", "future_length"):
        users, positions = train.users_and_positions()
        lengths = np.diff(train.offsets)[users]
        events = positions + 1 if source == "history_length" else lengths - positions - 1
        found = bumps(np.log1p(events), width)
    else:
        raise ValueError(f"no control of states is called {source!r}")
    return found.astype(np.float16)


def recent_content(train: Sequences, content: np.ndarray, recent: int, decay: float, width: int) -> np.ndarray:
    """norm(sum_j decay^j c_{x_{t-j}}) over the `recent` last items after every event, zero-padded: (N, width)."""
    if content.shape[1] > width:
        raise LeaError(
            f"data/states/le.parquet: states of width {width} do not hold content vectors of {content.shape[1]}: "
            "run `dvc repro`"
        )
    users, positions = train.users_and_positions()
    items = histories(train, users, positions + 1, recent)  # (N, J), the newest last
    result = np.zeros((len(items), width), dtype=np.float32)
    for age in range(recent):
        of_age = items[:, recent - 1 - age]
        result[:, : content.shape[1]] += decay**age * np.where(of_age[:, None] >= 0, content[of_age], 0.0)
    norms = np.linalg.norm(result, axis=1, keepdims=True)
    unit: np.ndarray = result / np.maximum(norms, 1e-12)
    return unit


def bumps(values: np.ndarray, width: int) -> np.ndarray:
    """Values (N,) as unit vectors of `width` Gaussian bumps, (N, width): the cosine of two falls with their distance d.

    The cosine is close to exp(-d^2 / (4 s^2)), where s is an eighth of the values' range, or more if there are few
    bumps. Raises `LeaError` for fewer than 9 bumps.
    """
    if width < BUMPS + 1:
        raise LeaError(f"data/states/le.parquet: states of width {width} are too narrow for a length: give 9 or more")
    low, high = float(values.min()), float(values.max())
    spread = (high - low or 1.0) / min(BUMPS, width - 7)
    centres = np.linspace(low - 3 * spread, high + 3 * spread, width)  # at most `spread` apart
    found = np.exp(-((values[:, None] - centres) ** 2) / (2 * spread**2))
    unit: np.ndarray = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return unit
