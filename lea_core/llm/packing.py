"""Packing: windows of several users in rows of tokens with little padding, with candidate actions and a prefix mask.

In: windows of sequences, and the events whose states get candidate actions. Out: `Packed` batches: the LLM's input, a
mask that makes windows and actions independent of each other, and the cells of the events' and actions' hidden states.

Several windows share a row of the LLM's input. A token sees only its own window (block-diagonal attention). A window
holds its items, followed by the candidate actions of its chosen states. An action sees the items up to its state, and
itself; its position id is the next one after them. So one forward pass gives the states of all positions and the hidden
states of all actions. The next logged item needs no additional token: it is part of the window.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lea_core.data.sequences import Sequences, Window
from lea_core.llm.prefix_attention import Prefix

OPEN_ROWS = 32  # rows that are not full yet while windows are packed
LEAST_ROW = 256  # tokens: in shorter rows, attention is a small part of the cost
LEAST_FITTED_ROW = 256  # the same with prefix attention
# The number of event keys of a batch is padded to a multiple of this. oneDNN compiles and keeps a kernel for every
# shape of a product of bfloat16 matrices, up to 1024 kernels.
KEYS_MULTIPLE = 32


@dataclass(frozen=True)
class Packed:
    """The input of one forward pass: B rows of N tokens, S events in windows, A actions at R of their states.

    An event in two overlapping windows is there twice; `owned` says which of its two states counts.
    """

    items: np.ndarray  # (B, N) int64: of the events; -1 at actions and padding
    positions: np.ndarray  # (B, N): position ids, from 0 in each window
    windows: np.ndarray  # (B, N): number of a token's window within the row; -1 at padding
    limits: np.ndarray  # (B, N): last position id that a token sees, beside itself
    cells: np.ndarray  # (S,): the cell of each event in (B * N,), of input and hidden state
    events: np.ndarray  # (S,): its row in the sequences
    following: np.ndarray  # (S,): index into S of the next event of the same window, -1 at its end
    owned: np.ndarray  # (S,) bool
    acting: np.ndarray  # (R,): index into S of the states with actions
    action_cells: np.ndarray  # (R, A): the cells of the actions in (B * N,)

    @property
    def tokens(self) -> int:
        """Number of tokens without padding."""
        return int((self.windows >= 0).sum())

    def mask(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Additive attention mask (B, 1, N, N): token n sees m of its window if m is an event up to its limit, or n."""
        windows, positions, limits, items = (
            torch.from_numpy(array).to(device) for array in (self.windows, self.positions, self.limits, self.items)
        )
        same = windows[:, :, None] == windows[:, None, :]
        before = (positions[:, None, :] <= limits[:, :, None]) & (items >= 0)[:, None, :]
        sees = same & before
        sees |= torch.eye(sees.shape[1], dtype=torch.bool, device=device)  # padding sees itself: softmax needs a key
        return torch.zeros_like(sees, dtype=dtype).masked_fill(~sees, torch.finfo(dtype).min)[:, None]

    def prefix(self, device: torch.device) -> Prefix:
        """The same as `mask` for prefix_attention.py: the keys of the row's events, and each action's own key."""
        is_event = self.items >= 0
        most = int(is_event.sum(axis=1).max())
        # fewer keys than tokens where there are actions: attention that ignores `keys` then fails on the shape
        most = min(-(-most // KEYS_MULTIPLE) * KEYS_MULTIPLE, max(most, is_event.shape[1] - 1))
        keys = np.argsort(~is_event, axis=1, kind="stable")[:, :most]  # (B, M)
        key_windows = np.where(np.take_along_axis(is_event, keys, 1), np.take_along_axis(self.windows, keys, 1), -2)
        key_positions = np.take_along_axis(self.positions, keys, 1)
        sees = (self.windows[:, :, None] == key_windows[:, None, :]) & (
            key_positions[:, None, :] <= self.limits[:, :, None]
        )

        def additive(open_: np.ndarray) -> Tensor:
            return torch.from_numpy(np.where(open_, np.float32(0.0), np.float32(-np.inf))[:, None]).to(device)

        return Prefix(torch.from_numpy(keys).to(device), additive(sees), additive(~is_event))


def packs(
    sequences: Sequences,
    windows: list[Window],
    batch_tokens: int,
    actions: int = 0,
    chosen: np.ndarray | None = None,
) -> list[Packed]:
    """Pack `windows`, in their order, into batches of about `batch_tokens` tokens.

    `chosen` (N,) bool: the events whose states get `actions` candidates. They get them in the window that owns the step
    to the next event; a user's last event, in the window that owns it. A window larger than `batch_tokens` is a batch
    by itself.
    """
    if chosen is None:
        chosen = np.zeros(len(sequences.items), dtype=bool)
    costs = as_arrays(sequences, windows, chosen).costs(actions).tolist()
    width = min(max([LEAST_ROW, *costs]), batch_tokens)
    rows_per_batch = max(batch_tokens // width, 1)
    rows = list(_fill_rows(windows, costs, width))
    return [
        _lay_out(sequences, rows[start : start + rows_per_batch], actions, chosen)
        for start in range(0, len(rows), rows_per_batch)
    ]


def fitted_packs(
    sequences: Sequences, windows: list[Window], batch_tokens: int, actions: int, chosen: np.ndarray
) -> list[Packed]:
    """The same as `packs`, but longest windows first, so that the rows of a batch are only as long as necessary.

    A row takes the longest remaining window that fits. The batches depend only on these windows.
    """
    costs = as_arrays(sequences, windows, chosen).costs(actions).tolist()
    pool = sorted(range(len(windows)), key=lambda index: (costs[index], -index))
    sizes = [costs[index] for index in pool]
    found = []
    while pool:
        width = max(sizes[-1], min(LEAST_FITTED_ROW, batch_tokens))
        rows: list[list[Window]] = []
        while pool and len(rows) < max(batch_tokens // width, 1):
            row, left = [], width
            while pool and sizes[0] <= left:
                longest = bisect_right(sizes, left) - 1
                left -= sizes.pop(longest)
                row.append(windows[pool.pop(longest)])
            rows.append(row)
        found.append(_lay_out(sequences, rows, actions, chosen))
    return found


@dataclass(frozen=True)
class WindowRows:
    """Rows of windows in the sequences: (W,) each, except `acting`.

    first, user_end: of the user.  start to end - 1: of the window, which owns the rows from `new` on.  acting: (R,),
    the chosen events whose step to the next event a window owns, window by window.  steps: their number per window.
    """

    first: np.ndarray
    start: np.ndarray
    new: np.ndarray
    end: np.ndarray
    user_end: np.ndarray
    steps: np.ndarray
    acting: np.ndarray

    def costs(self, actions: int) -> np.ndarray:
        """Tokens of each window with this number of actions at each of its acting events: (W,)."""
        costs: np.ndarray = self.end - self.start + actions * self.steps
        return costs


def as_arrays(sequences: Sequences, windows: list[Window], chosen: np.ndarray) -> WindowRows:
    """The rows of the windows in the sequences, and which of the `chosen` events (N,) have actions in them."""
    found = np.array([(window.user, window.start, window.new, window.end) for window in windows], dtype=np.int64)
    users, *positions = found.reshape(-1, 4).T
    first, user_end = sequences.offsets[users], sequences.offsets[users + 1]
    start, new, end = (first + position for position in positions)
    step = np.maximum(new - 1, start)  # the step to a window's first own event starts one event before it
    last = end - (end < user_end)  # the step out of a window belongs to the next window
    lengths = np.maximum(last - step, 0)
    rows, owner = _ranges(step, lengths), np.repeat(np.arange(len(windows)), lengths)
    acts = chosen[rows]
    steps = np.bincount(owner[acts], minlength=len(windows))
    return WindowRows(first, start, new, end, user_end, steps, rows[acts])


def acting_events(sequences: Sequences, windows: list[Window], chosen: np.ndarray) -> np.ndarray:
    """Rows of the chosen events whose step to the next event these windows own, window by window."""
    return as_arrays(sequences, windows, chosen).acting


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Ragged ranges: start, start + 1, .. of `lengths` numbers each, concatenated: (W,) -> (sum of lengths,)."""
    before = np.cumsum(lengths) - lengths
    found: np.ndarray = np.repeat(starts - before, lengths) + np.arange(lengths.sum())
    return found


def _fill_rows(windows: list[Window], costs: list[int], width: int) -> Iterator[list[Window]]:
    """First-fit packing into at most `OPEN_ROWS` open rows of `width`; the fullest is closed when a new one is needed.

    A window larger than `width` is a row by itself.
    """
    rows: list[tuple[int, list[Window]]] = []
    for window, cost in zip(windows, costs, strict=True):
        for index, (filled, row) in enumerate(rows):
            if filled + cost <= width:
                row.append(window)
                rows[index] = (filled + cost, row)
                break
        else:
            if len(rows) == OPEN_ROWS:
                fullest = max(range(len(rows)), key=lambda index: rows[index][0])
                yield rows.pop(fullest)[1]
            rows.append((cost, [window]))
    for _, row in rows:
        yield row


def _lay_out(sequences: Sequences, rows: list[list[Window]], actions: int, chosen: np.ndarray) -> Packed:
    cut = as_arrays(sequences, [window for row in rows for window in row], chosen)
    costs, lengths, steps = cut.costs(actions), cut.end - cut.start, cut.steps if actions else 0 * cut.steps
    sizes = np.array([len(row) for row in rows])
    row, name = np.repeat(np.arange(len(rows)), sizes), _ranges(np.zeros_like(sizes), sizes)  # (W,)
    before = np.cumsum(costs) - costs
    column = before - before[np.cumsum(sizes) - sizes][row]
    width = int((column + costs).max())
    firsts = np.cumsum(lengths) - lengths  # of a window among the S events
    times, own = _ranges(np.zeros_like(lengths), lengths), np.repeat(np.arange(len(costs)), lengths)  # (S,)
    cells = (row * width + column)[own] + times
    events = cut.start[own] + times
    following = np.arange(1, len(events) + 1)
    following[firsts + lengths - 1] = -1
    owner = np.repeat(np.arange(len(costs)), steps)  # (R,)
    acting_times = (cut.acting if actions else cut.acting[:0]) - cut.start[owner]
    number = _ranges(np.zeros_like(steps), steps)
    action_cells = (row * width + column + lengths)[owner, None] + actions * number[:, None] + np.arange(actions)
    items, windows = (np.full(len(rows) * width, -1, dtype=np.int64) for _ in range(2))
    positions, limits = (np.zeros(len(rows) * width, dtype=np.int64) for _ in range(2))
    items[cells] = sequences.items[events]
    windows[cells], windows[action_cells] = name[own], name[owner, None]
    positions[cells], positions[action_cells] = times, acting_times[:, None] + 1
    limits[cells], limits[action_cells] = times, acting_times[:, None]
    shape = (len(rows), width)
    return Packed(
        items=items.reshape(shape),
        positions=positions.reshape(shape),
        windows=windows.reshape(shape),
        limits=limits.reshape(shape),
        cells=cells,
        events=events,
        following=following,
        owned=events >= cut.new[own],
        acting=firsts[owner] + acting_times,
        action_cells=action_cells,
    )
