"""One history under the LE, for a person to look at: the actions ranked highest there, and the logged next item.

In: an LE, the sequences, a user and the position of the event to predict. Out: an `Inspection`: the history, the top
actions and the logged next item, each with rank, probability exp(`Heads.ranking`) and reward.

It takes two forward passes of the LLM over this history. The first gives the state, which ranks the actions. The second
gives the hidden states of the top actions, appended to the history (packing.py), which their rewards need. The LLM
reads the same window as in quality.py, so the rank is the same as there.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import torch

from lea_core.common.errors import LeaError
from lea_core.data.sequences import SPLITS, Sequences, windows
from lea_core.environment.model import Environment
from lea_core.llm.packing import acting_events, packs
from lea_core.metrics.ranking import ranks
from lea_core.metrics.top_k import best_first


@dataclass(frozen=True)
class Action:
    """An item and what the LE predicts for it after the history."""

    item: int
    rank: float  # among all items, 1 is the highest; equal items share their mean rank
    probability: float
    reward: float
    later: int | None  # after how many events the user interacts with it: 1 for the next event, None for never


@dataclass(frozen=True)
class Inspection:
    """What the LE predicts at one position of one user."""

    history: np.ndarray  # (T,) item indices of the user's events 0 to T - 1, newest last; T is the position to predict
    read: int  # number of newest events that the LLM reads
    top: list[Action]  # highest probability first
    logged: Action  # the logged event at this position


def find_user(ids: list[str], wanted: str) -> int:
    """Index of the user with this id. Raises `LeaError`, which names similar ids, where there is none."""
    if wanted in ids:
        return ids.index(wanted)
    near = get_close_matches(wanted, ids) or ids[:3]
    raise LeaError(f"--user {wanted!r}: no such user in the data; there are, for instance, {', '.join(near)}")


def choose_position(sequences: Sequences, user: int, wanted: int | None) -> int:
    """The position to predict: `wanted`, else the first test event, else the first validation event, else the last.

    Raises `LeaError` where the user has no event at this position, or none before it.
    """
    split = sequences.split[sequences.offsets[user] : sequences.offsets[user + 1]]
    last = len(split) - 1
    if last < 1:
        raise LeaError(
            f"--user: this user has {len(split)} event(s), and the LE needs one before the next: try another"
        )
    if wanted is not None:
        if not 1 <= wanted <= last:
            raise LeaError(f"--position {wanted}: this user's events with a history are 1 to {last}: give one of them")
        return wanted
    for name in ("test", "valid"):
        places = np.flatnonzero(split[1:] == SPLITS.index(name)) + 1
        if len(places):
            return int(places[0])
    return last


@torch.inference_mode()
def inspect(environment: Environment, sequences: Sequences, user: int, position: int, actions: int) -> Inspection:
    """The `actions` highest actions of the LE and the logged event at `position` (at least 1)."""
    if environment.num_items != sequences.num_items:
        raise LeaError(
            f"data/le knows {environment.num_items} items, data/interactions {sequences.num_items}: run `dvc repro`"
        )
    heads, start = environment.heads, int(sequences.offsets[user])
    event = start + position - 1  # the last event of the history: its state predicts
    events = np.array([event])
    chosen = np.zeros(len(sequences.items), dtype=bool)
    chosen[event] = True
    every = windows(sequences, np.array([user]), environment.shape.history)
    (window,) = (window for window in every if len(acting_events(sequences, [window], chosen)))

    (packed,) = packs(sequences, [window], window.length)
    hidden, _ = environment.read(packed)
    state = heads.state(*heads.inputs(environment.recent(sequences, events), hidden[packed.events == event]))  # (1, S)
    ranking = environment.heads.rank_all(state, sequences, events)[0]  # (I,)

    top = best_first(ranking[None], min(actions, sequences.num_items))[0]  # (A,)
    (packed,) = packs(sequences, [window], window.length + len(top), len(top), chosen)
    predicted = environment.predict(sequences, packed, top.cpu().numpy()[None])

    following = sequences.user_items(user)[position:].tolist()
    items = torch.cat([top, top.new_tensor(following[:1])])  # (A + 1,), the logged item last
    rewards = torch.cat([predicted.rewards[0], predicted.logged_rewards])
    columns = (items, ranks(ranking.expand(len(items), -1), items), ranking[items].exp(), rewards)
    found = [
        Action(item, rank, probability, reward, following.index(item) + 1 if item in following else None)
        for item, rank, probability, reward in zip(*(column.tolist() for column in columns), strict=True)
    ]
    return Inspection(sequences.user_items(user)[:position], position - window.start, found[:-1], found[-1])
