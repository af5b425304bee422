"""Tables of controls: the rows of the LE's table, with other numbers.

In: data/<signal>/le.parquet, the training events and the items' content vectors. Out: tables of the same schema, for
data/<signal>/<control>.parquet. The same seed gives the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F

from lea_core.baselines.neighbours import Ranker, propose
from lea_core.common import layout, tables
from lea_core.common.errors import LeaError
from lea_core.common.stamps import write_stamp
from lea_core.data.sequences import Sequences, batches, in_history, seen_pairs
from lea_core.experiments.controls.actions import item_neighbours_of_others, ranker
from lea_core.experiments.controls.rewards import HALF, control_rewards
from lea_core.experiments.controls.states import control_states
from lea_core.metrics.top_k import best_first
from lea_core.params import FOLDERS, LE_AND_NEIGHBOURS

SCHEMAS = {FOLDERS[part]: schema for part, schema in layout.SCHEMAS.items()}
SCORES = 2**24  # in memory at once
FLOOR = 1e-5  # added to each share: 100 items that are no neighbours get a thousandth together
KEYS = {folder: part for part, folder in FOLDERS.items()}


@dataclass(frozen=True)
class World:
    """What controls are made from, in addition to the LE's table."""

    train: Sequences
    content: np.ndarray  # (I, C)
    recent: int  # items that the text's mean is over
    decay: float  # the weight of each older one against the next newer


def read_le(data: Path, part: str) -> pa.Table:
    """The LE's table of a signal. Raises `LeaError` where it was made from other interactions."""
    path = data / part / "le.parquet"
    table = tables.read_table(path, SCHEMAS[part])
    if not tables.is_made_from(path, layout.origin(data, KEYS[part])):
        raise LeaError(f"{path}: made from other interactions: run `dvc repro` to make it anew")
    return table


def write(data: Path, part: str, source: str, table: pa.Table) -> None:
    """Publish data/<signal>/<source>.parquet and its stamp."""
    tables.write_parts(data / part / f"{source}.parquet", [table], SCHEMAS[part], layout.origin(data, KEYS[part]))
    write_stamp(data, part, source)


def control_table(part: str, source: str, le: pa.Table, world: World, seed: int) -> pa.Table:
    """The table of a control, for the LE's table `le` of that signal."""
    generator = np.random.default_rng([seed, *f"{part} {source}".encode()])  # does not depend on other controls
    if part == "actions":
        return proposals(le, ranker(source, world.train, world.content), world.train)
    if part == "rankings":
        if source == LE_AND_NEIGHBOURS:
            return with_neighbours(le, item_neighbours_of_others(world.train), world.train)
        return rankings(le, ranker(source, world.train, world.content), world.train)
    if part == "items":
        return _with(le, {"vector": tables.vectors(control_items(source, tables.to_numpy(le, "vector"), generator))})
    if part == "states":
        states = control_states(
            source,
            tables.to_numpy(le, "state"),
            world.train,
            world.content,
            world.recent,
            world.decay,
            generator,
        )
        return _with(le, {"state": tables.vectors(states)})
    logged, sampled = control_rewards(
        source,
        tables.to_numpy(le, "reward"),
        tables.to_numpy(le, "sampled_rewards"),
        tables.to_numpy(le, "action"),
        tables.to_numpy(le, "sampled_actions"),
        world.train,
        generator,
    )
    return _with(le, {"reward": pa.array(logged), "sampled_rewards": tables.vectors(sampled)})


def proposals(le: pa.Table, rank: Ranker, train: Sequences) -> pa.Table:
    """As many proposals by `rank` as the LE's, after the same events, with a reward of one half for all.

    Proposals of the LE that are items of the history stay; the LE proposes them as often as users repeat items. So a
    control differs from the LE only in which new items it proposes.
    """
    users, positions = (tables.to_numpy(le, name).astype(np.int64) for name in ("user", "position"))
    proposed = tables.to_numpy(le, "actions")
    batch = SCORES // train.num_items
    new, scores = propose(rank, train, users, positions, proposed.shape[1], skip_next=True, batch=batch)
    again = in_history(train, users, positions, proposed)  # (N, A)
    place = (np.cumsum(~again, axis=1) - 1).clip(min=0)  # of each new item among the new ones
    actions = np.where(again, proposed, np.take_along_axis(new, place, axis=1)).astype(np.int32)
    scores = np.take_along_axis(scores, place, axis=1)
    columns = {"actions": actions, "scores": scores, "rewards": np.full_like(scores, HALF)}
    return _with(le, {name: tables.vectors(values) for name, values in columns.items()})


def rankings(le: pa.Table, rank: Ranker, train: Sequences) -> pa.Table:
    """As many items ranked by `rank` as by the LE, after the same events, with the LE's probabilities by rank.

    So a control differs from the LE in its items, but not in its probabilities. Items of the history are excluded.
    """
    users, positions = (tables.to_numpy(le, name).astype(np.int64) for name in ("user", "position"))
    count = tables.to_numpy(le, "items").shape[1]
    batch = SCORES // train.num_items
    items, _ = propose(rank, train, users, positions, count, skip_next=False, batch=batch)
    return _with(le, {"items": tables.vectors(items)})


def with_neighbours(le: pa.Table, rank: Ranker, train: Sequences) -> pa.Table:
    """The LE's items, ranked by P(a | s) times the share of item neighbours: a product of experts.

    rank: scores of item neighbours, not negative. n(a | s) is an item's share of the scores of all items that are not
    in the history. The new log-probabilities are those of (n(a | s) + FLOOR) P(a | s), normalised over the LE's items.
    """
    users, positions = (tables.to_numpy(le, name).astype(np.int64) for name in ("user", "position"))
    items = tables.to_numpy(le, "items").copy()
    log_probabilities = tables.to_numpy(le, "log_probabilities").copy()
    for part in batches(len(users), SCORES // train.num_items):
        scores = rank(users[part], positions[part])  # (B, I)
        owner, seen = seen_pairs(train, train.offsets[users[part]] + positions[part])
        scores[torch.from_numpy(owner), torch.from_numpy(seen)] = 0.0
        listed = torch.from_numpy(items[part]).long()  # (B, K)
        share = F.normalize(scores, p=1, dim=1).gather(1, listed)
        both = (torch.from_numpy(log_probabilities[part]) + (share + FLOOR).log()).log_softmax(dim=1)
        by_item = listed.argsort(dim=1)  # so that of equal scores the lower item comes first (top_k.py)
        best = by_item.gather(1, best_first(both.gather(1, by_item), both.shape[1]))
        items[part], log_probabilities[part] = listed.gather(1, best).numpy(), both.gather(1, best).numpy()
    return _with(le, {"items": tables.vectors(items), "log_probabilities": tables.vectors(log_probabilities)})


def control_items(source: str, vectors: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """`shuffled`: every item has another's vector; `random`: normal numbers with the columns' standard deviations."""
    if source == "shuffled":
        return vectors[generator.permutation(len(vectors))]
    if source == "random":
        drawn: np.ndarray = generator.normal(size=vectors.shape).astype(np.float32) * vectors.std(axis=0)
        return drawn
    raise ValueError(f"no control of items is called {source!r}")


def _with(table: pa.Table, columns: dict[str, pa.Array]) -> pa.Table:
    """The table with these columns replaced, and without the file's metadata."""
    for name, column in columns.items():
        table = table.set_column(table.column_names.index(name), name, column)
    return table.replace_schema_metadata(None)
