"""Two other methods to annotate, beside ours, the packed run: a prompt for everything, and a cache of the prefixes.

In: an LE, training sequences, users of them, sampled actions of every event. Out: the states, the rewards of the logged
next items and those of the sampled actions of these users' events, as `annotate` gives them, and how many tokens the
LLM read for it.

  naive      one prompt x_1 .. x_t per state and one x_1 .. x_t, a per state and action, the logged next item among them
  kv_cache   one forward per window: its states, and the logged next items' hidden states, which stand in it; then for
             each position t one forward of the sampled actions, a token each, against the window's keys and values
             cut to x_1 .. x_t; a mask keeps the actions apart, so they share these without copies

Both read the windows of sequences.windows(), so every state and reward sees the same history as in the packed run.
Both sort what they read by length and pad it on the right, where no real token of a causal LLM looks. A forward reads
about `batch_tokens` tokens, padding included, as far as there are so many to read together.

R, the actions' states: those of the events that another event of the user follows. Axis letters as in
lea_core/data/sequences.py; S events, W windows, P prefixes (Reads), E of them in a batch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from lea_core.data.sequences import Sequences, learning_steps, windows
from lea_core.environment.model import Environment
from lea_core.llm.packing import as_arrays


@dataclass(frozen=True)
class Annotation:
    """What the LE says of S events, user by user in the order given; R of them have a following event."""

    states: np.ndarray  # (S, C + K) float32
    logged_rewards: np.ndarray  # (R,) float32: of the next event
    rewards: np.ndarray  # (R, A) float32: of the sampled actions
    real_tokens: int  # that the LLM read, padding left out
    computed_tokens: int  # padding included


@dataclass(frozen=True)
class Reads:
    """P prefixes x_1 .. x_t to read, each within one of W windows.

    Where two windows of a user meet, the first owns the last state and the second the step out of it, so that event is
    read in both.
    """

    starts: np.ndarray  # (W,): the window's first row in the sequences
    lengths: np.ndarray  # (W,): its items
    windows: np.ndarray  # (P,): number of the prefix's window
    events: np.ndarray  # (P,): the prefix's last row in the sequences
    owned: np.ndarray  # (P,) bool: this read gives the event's state
    acting: np.ndarray  # (P,) bool: this read gives the rewards there

    @property
    def times(self) -> np.ndarray:
        """(P,): place of the prefix's last item in its window."""
        return self.events - self.starts[self.windows]


@torch.inference_mode()
def naive(
    le: Environment, sequences: Sequences, users: np.ndarray, actions: np.ndarray, history: int, batch_tokens: int
) -> Annotation:
    """One prompt per state and one per state and action: `actions` (N, A), read where another event follows."""
    reads = find_reads(sequences, users, history)
    starts, lengths = reads.starts[reads.windows], reads.times + 1  # (P,)
    hidden = torch.empty(len(lengths), le.llm.width, device=le.llm.device)
    states = np.empty((len(lengths), le.heads.state_width), dtype=np.float32)
    computed = 0
    for batch in cut(lengths, batch_tokens):
        prompts = cut_out(sequences, starts[batch], lengths[batch])
        hidden[to(le, batch)] = last_hidden(le, prompts, lengths[batch])
        content, inputs = head_inputs(le, sequences, reads.events[batch], hidden[to(le, batch)])
        states[batch] = le.heads.state(content, inputs).cpu().numpy()
        computed += prompts.size

    acting = np.flatnonzero(reads.acting)
    candidates = with_logged(sequences, reads.events[acting], actions)  # (R, 1 + A)
    rewards = np.empty(candidates.shape, dtype=np.float32)
    count = candidates.shape[1]
    for batch in cut((lengths[acting] + 1) * count, batch_tokens):
        chosen = acting[batch]
        ends = np.repeat(lengths[chosen], count)  # where the action stands
        prompts = np.pad(cut_out(sequences, starts[chosen], lengths[chosen]), ((0, 0), (0, 1))).repeat(count, axis=0)
        prompts[np.arange(len(ends)), ends] = candidates[batch].reshape(-1)
        action_hidden = last_hidden(le, prompts, ends + 1).reshape(len(batch), count, -1)
        content, inputs = head_inputs(le, sequences, reads.events[chosen], hidden[to(le, chosen)])
        judged = le.heads.rewards(content, inputs, to(le, candidates[batch]), action_hidden)
        rewards[batch] = judged.cpu().numpy()
        computed += prompts.size
    real = int(lengths.sum() + count * (lengths[acting] + 1).sum())
    return Annotation(states[reads.owned], rewards[:, 0], rewards[:, 1:], real, computed)


@torch.inference_mode()
def kv_cache(
    le: Environment, sequences: Sequences, users: np.ndarray, actions: np.ndarray, history: int, batch_tokens: int
) -> Annotation:
    """One forward per window, then one token per sampled action against its cached prefix: `actions` (N, A).

    A batch is as many windows of about equal length as neither their items nor their actions at one position, A each,
    are more than `batch_tokens`.
    """
    reads = find_reads(sequences, users, history)
    count = actions.shape[1]
    states = np.empty((len(reads.events), le.heads.state_width), dtype=np.float32)
    rewards = np.empty((len(reads.events), 1 + count), dtype=np.float32)
    rows = np.empty(len(reads.lengths), dtype=np.int64)
    computed = 0
    for batch in cut(reads.lengths, batch_tokens, least=count):
        cache = DynamicCache()
        items = cut_out(sequences, reads.starts[batch], reads.lengths[batch])  # (B, T)
        hidden = read(le, items, cache)
        rows[batch] = np.arange(len(batch))
        inside = np.flatnonzero(np.isin(reads.windows, batch))
        row, times = rows[reads.windows[inside]], reads.times[inside]  # (E,)
        here = hidden[to(le, row), to(le, times)].float()
        content, inputs = head_inputs(le, sequences, reads.events[inside], here)
        states[inside] = le.heads.state(content, inputs).cpu().numpy()
        computed += items.size

        acting = np.flatnonzero(reads.acting[inside])
        if not len(acting):
            continue
        events, row, times = reads.events[inside[acting]], row[acting], times[acting]
        logged_hidden = hidden[to(le, row), to(le, times + 1)].float()
        action_hidden = read_actions(le, cache, actions[events], row, times)
        judged = le.heads.rewards(
            content[to(le, acting)],
            inputs[to(le, acting)],
            to(le, with_logged(sequences, events, actions)),
            torch.cat([logged_hidden[:, None], action_hidden], dim=1),
        )
        rewards[inside[acting]] = judged.cpu().numpy()
        computed += count * len(acting)
    real = int(reads.lengths.sum() + count * reads.acting.sum())
    rewards = rewards[reads.acting]
    return Annotation(states[reads.owned], rewards[:, 0], rewards[:, 1:], real, computed)


def read_actions(
    le: Environment, cache: DynamicCache, actions: np.ndarray, row: np.ndarray, times: np.ndarray
) -> Tensor:
    """h_{t,a} (E, A, H) of actions (E, A), each after items 0 to times (E,) of the cached window row (E,).

    Every window that has a state at t has real keys up to there, so all of the cut cache is seen. That one row of it
    serves all A actions is faster than A rows that serve one each: by a seventh with 2 actions, by over half with 8.
    """
    states, count = actions.shape
    hidden = torch.empty(states, count, le.llm.width, device=le.llm.device)
    for time in np.unique(times):
        chosen, length = np.flatnonzero(times == time), int(time) + 1
        prefix = branch(cache, length, to(le, row[chosen]))
        read_here = read(le, actions[chosen], prefix, apart(le, len(chosen), length, count))
        hidden[to(le, chosen)] = read_here.float()
    return hidden


def apart(le: Environment, rows: int, length: int, count: int) -> dict[str, Tensor]:
    """Mask (B, 1, A, length + A) and position ids (B, A) of actions that follow the same items, but not each other."""
    device, dtype = le.llm.device, number_format(le)
    mask = torch.full((count, length + count), torch.finfo(dtype).min, dtype=dtype, device=device)
    mask[:, :length] = 0.0
    mask[:, length:].fill_diagonal_(0.0)
    positions = torch.full((rows, count), length, device=device)
    return {"attention_mask": mask.expand(rows, 1, -1, -1), "position_ids": positions}


def branch(cache: DynamicCache, length: int, rows: Tensor) -> DynamicCache:
    """The first `length` keys and values of these rows of the cache, which stays as it is.

    The layers are copied, not their tensors: no layer writes into a tensor that it holds.
    """
    result = copy.copy(cache)
    result.layers = [copy.copy(layer) for layer in cache.layers]
    if length < cache.get_seq_length():
        result.crop(length - cache.get_seq_length())
    result.reorder_cache(rows)  # or fewer rows, in spite of the name
    return result


def find_reads(sequences: Sequences, users: np.ndarray, history: int) -> Reads:
    """The prefixes that give all states and rewards of these users, in their order, then in time order."""
    found = as_arrays(sequences, windows(sequences, users, history), learning_steps(sequences))
    first = np.maximum(found.new - 1, found.start)  # the step into a window's first own event begins one before it
    counts, numbers = found.end - first, np.arange(len(first))
    number = np.repeat(numbers, counts)
    events = np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(len(number))
    total = len(sequences.items) + 1
    acting = np.isin(number * total + events, np.repeat(numbers, found.steps) * total + found.acting)
    return Reads(found.start, found.end - found.start, number, events, events >= found.new[number], acting)


def cut(lengths: np.ndarray, batch_tokens: int, least: int = 1) -> Iterator[np.ndarray]:
    """Indices of lengths (P,), the longest first, in batches of `batch_tokens` tokens when padded.

    What is shorter than `least` counts as that long. What is shorter than two thirds of a batch's longest goes to the
    next: of a few thousand short windows and some long ones, this is a tenth faster than batches that are always full.
    """
    order = np.argsort(-lengths, kind="stable")
    descending = lengths[order]
    start = 0
    while start < len(order):
        longest = int(descending[start])
        alike = int((3 * descending[start:] >= 2 * longest).sum())
        size = min(max(batch_tokens // max(longest, least), 1), alike)
        yield order[start : start + size]
        start += size


def cut_out(sequences: Sequences, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Items of rows starts to starts + lengths - 1 of the sequences, both (B,), padded on the right: (B, T)."""
    places = np.arange(lengths.max())
    rows = np.where(places < lengths[:, None], starts[:, None] + places, 0)
    return sequences.items[rows]


def with_logged(sequences: Sequences, events: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """The next item after events (E,), which have one, and their sampled actions: (E, 1 + A)."""
    return np.concatenate([sequences.items[events + 1][:, None], actions[events]], axis=1)


def read(
    le: Environment, items: np.ndarray, cache: DynamicCache | None = None, arranged: dict[str, Tensor] | None = None
) -> Tensor:
    """Raw hidden states (B, T, H) of items (B, T), after what the cache holds; it takes them up.

    With neither mask nor position ids in `arranged`, each item sees those before it.
    """
    hidden: Tensor = le.llm.decoder(
        inputs_embeds=le.token[to(le, items)].to(number_format(le)),
        past_key_values=cache,
        use_cache=cache is not None,
        **(arranged or {}),
    ).last_hidden_state
    return hidden


def number_format(le: Environment) -> torch.dtype:
    """What the LLM computes in."""
    dtype: torch.dtype = next(le.llm.decoder.parameters()).dtype
    return dtype


def last_hidden(le: Environment, prompts: np.ndarray, lengths: np.ndarray) -> Tensor:
    """Hidden state at the end of prompts (B, T), of lengths (B,): (B, H) float32."""
    hidden = read(le, prompts)
    return hidden[torch.arange(len(prompts), device=hidden.device), to(le, lengths - 1)].float()


def head_inputs(le: Environment, sequences: Sequences, events: np.ndarray, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """b_t (E, C) and u_t (E, 2H + C) at events (E,) of hidden (E, H)."""
    content, inputs = le.heads.inputs(le.recent(sequences, events), hidden)
    return content, inputs


def to(le: Environment, array: np.ndarray) -> Tensor:
    """The array as a tensor where the LE is."""
    return torch.from_numpy(array).to(le.llm.device)
