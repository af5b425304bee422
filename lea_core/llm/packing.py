"""Windows of several users packed into rows of tokens without padding, with candidate actions under a prefix mask.

In: windows of sequences, and which events' states get candidate actions. Out: `Packed` batches: what the LLM reads, the
mask that keeps windows and actions apart, and where each event's state and each action's hidden state come out.

Several windows share a row of the LLM's input; a token sees its own window alone (block-diagonal attention). A window
is its items, then the candidate actions of its chosen states; an action sees the items up to its state, and itself, at
the position id after them. So one pass gives the states of all positions and the hidden states of all actions, and the
next logged item needs no token of its own: it already stands there.
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

OPEN_ROWS = 32  # rows that still take windows while a batch is packed
LEAST_ROW = 256  # tokens: attention within shorter rows costs little beside everything else
LEAST_FITTED_ROW = 256  # the same where attention goes by the prefix alone
# Keys of a batch's events are padded to a multiple of this: for every other shape of a product of bfloat16 matrices,
# oneDNN compiles and keeps a kernel, up to 1024 of them.
KEYS = 32


@dataclass(frozen=True)
class Packed:
    """One pass of the LLM over B rows of N tokens. S events stand in the windows, R of their states have A actions.

    An event in two overlapping windows is there twice; `owned` says which window's state of it counts.
    """

    items: np.ndarray  # (B, N) int64: of the events; -1 at actions and padding
    positions: np.ndarray  # (B, N): position ids, from 0 in each window
    windows: np.ndarray  # (B, N): number of a token's window within the row; -1 at padding
    limits: np.ndarray  # (B, N): last position id that a token sees, itself apart
    cells: np.ndarray  # (S,): where each event stands in (B * N,); this is where its state comes out
    events: np.ndarray  # (S,): its row in the sequences
    following: np.ndarray  # (S,): index into S of the next event of the same window, -1 at its end
    owned: np.ndarray  # (S,) bool
    acting: np.ndarray  # (R,): index into S of the states with actions
    action_cells: np.ndarray  # (R, A): where these stand in (B * N,)

    @property
    def tokens(self) -> int:
        """Real tokens, padding left out."""
        return int((self.windows >= 0).sum())

    def mask(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Additive attention mask (B, 1, N, N): token n sees m in its window, if m is an event up to its limit or n."""
        windows, positions, limits, items = (
            torch.from_numpy(array).to(device) for array in (self.windows, self.positions, self.limits, self.items)
        )
        same = windows[:, :, None] == windows[:, None, :]
        before = (positions[:, None, :] <= limits[:, :, None]) & (items >= 0)[:, None, :]
        sees = same & before
        sees |= torch.eye(sees.shape[1], dtype=torch.bool, device=device)  # padding sees itself: no row without any
        return torch.zeros_like(sees, dtype=dtype).masked_fill(~sees, torch.finfo(dtype).min)[:, None]

    def prefix(self, device: torch.device) -> Prefix:
        """The same as `mask`, as where prefix_attention.py looks: an event's own key is among the row's events."""
        is_event = self.items >= 0
        most = int(is_event.sum(axis=1).max())
        # fewer than the row's tokens where there are others: attention that does not look at `keys` must fail
        most = min(-(-most // KEYS) * KEYS, max(most, is_event.shape[1] - 1))
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

    `chosen` (N,) bool: the events whose states get `actions` candidates, in the window that owns the step to the next
    event, or, at a user's last event, in the window that owns it. A window above the budget is a batch by itself.
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
    """The same as `packs` in an order of its own, longest windows first: rows as short as their windows allow.

    A row takes the longest remaining window that fits. What a batch holds depends on these windows alone.
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
                place = bisect_right(sizes, left) - 1
                left -= sizes.pop(place)
                row.append(windows[pool.pop(place)])
            rows.append(row)
        found.append(_lay_out(sequences, rows, actions, chosen))
    return found


@dataclass(frozen=True)
class Cut:
    """Windows as arrays, their events as rows of the sequences: (W,) each, but `acting`.

    first: of the user.  start to end - 1: of the window, which owns those from `new` on.  acting: (R,), the chosen
    events whose step to the next one the window owns, window by window, `steps` of each.
    """

    first: np.ndarray
    start: np.ndarray
    new: np.ndarray
    end: np.ndarray
    user_end: np.ndarray
    steps: np.ndarray
    acting: np.ndarray

    def costs(self, actions: int) -> np.ndarray:
        """Tokens of each window with so many actions at each of its acting events: (W,)."""
        costs: np.ndarray = self.end - self.start + actions * self.steps
        return costs


def as_arrays(sequences: Sequences, windows: list[Window], chosen: np.ndarray) -> Cut:
    """What the windows are in rows of the sequences, and which of the `chosen` events (N,) act in them."""
    found = np.array([(window.user, window.start, window.new, window.end) for window in windows], dtype=np.int64)
    users, *places = found.reshape(-1, 4).T
    first, user_end = sequences.offsets[users], sequences.offsets[users + 1]
    start, new, end = (first + place for place in places)
    step = np.maximum(new - 1, start)  # the step into a window's first own event begins one before it
    last = end - (end < user_end)  # the step out of a window is the next window's; out of the sequence leads none
    lengths = np.maximum(last - step, 0)
    rows, owner = _ranges(step, lengths), np.repeat(np.arange(len(windows)), lengths)
    acts = chosen[rows]
    steps = np.bincount(owner[acts], minlength=len(windows))
    return Cut(first, start, new, end, user_end, steps, rows[acts])


def acting_events(sequences: Sequences, windows: list[Window], chosen: np.ndarray) -> np.ndarray:
    """The chosen events, rows of the sequences, whose step to the next one these windows own, window by window."""
    return as_arrays(sequences, windows, chosen).acting


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """`lengths` numbers from `starts` on, one range after the other: (W,) -> (sum of lengths,)."""
    before = np.cumsum(lengths) - lengths
    found: np.ndarray = np.repeat(starts - before, lengths) + np.arange(lengths.sum())
    return found


def _fill_rows(windows: list[Window], costs: list[int], width: int) -> Iterator[list[Window]]:
    """First fit into a few open rows of `width`; the fullest one closes when another is needed.

    A window of more is a row by itself.
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
