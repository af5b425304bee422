"""Evaluation: the ranks that policies give to held-out events, and their best items, as a table and in a few numbers.

In: scorers, policies' or others, by seed; the sequences. Out: the RANKS table, one row per seed and event; its metrics
over the seeds, of all events and, where they are of more than one type (purchases and clicks), of each type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lea_core.artifacts import write_json
from lea_core.lists import best_items
from lea_core.metrics import metrics, ranks_among_unseen, seen_items
from lea_core.sequences import SPLITS, Sequences, batches, histories
from lea_core.tables import RANKS, to_numpy, vectors, write_table

if TYPE_CHECKING:
    from torch import Tensor

    from lea_core.baselines import Scorer

# Scores that exist at once, 128 MiB as float32: a batch of 512 stays whole up to 65,536 items, and of a catalogue of a
# million the actor's weights are still read for 33 events together.
SCORES_AT_ONCE = 2**25


def rank_events(
    scorer: Callable[[np.ndarray], Tensor],
    sequences: Sequences,
    users: np.ndarray,
    positions: np.ndarray,
    history: int,
    mask_seen: bool,
    batch: int,
) -> np.ndarray:
    """Ranks (N,) of the items at (users, positions), both (N,), given the true history before each.

    scorer: (B, history) right-aligned item indices, -1 for none -> (B, I) scores, such as `PolicyNetwork.scores`.

    However large the catalogue, no more than SCORES_AT_ONCE scores are held. The split into calls of `scorer` changes
    no rank as far as its scores do not depend on what else is in the batch.
    """
    return rank_and_list(scorer, sequences, users, positions, history, mask_seen, batch, listed=0)[0]


def rank_and_list(
    scorer: Callable[[np.ndarray], Tensor],
    sequences: Sequences,
    users: np.ndarray,
    positions: np.ndarray,
    history: int,
    mask_seen: bool,
    batch: int,
    listed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """`rank_events`, and the best `listed` candidates of each event from the same scores: (N,) and (N, listed) int32.

    Best first, of equal scores the lower index, -1 where there are fewer (`lists.best_items`).
    """
    ranked = np.empty(len(users), dtype=np.float32)
    top = np.empty((len(users), listed), dtype=np.int32)
    widest = max(sequences.num_items, int(positions.max(initial=0)) + 1)  # of a row: its scores, or its seen items
    for part in batches(len(users), max(1, min(batch, SCORES_AT_ONCE // widest))):
        ranked[part], top[part] = _at_once(scorer, sequences, users[part], positions[part], history, mask_seen, listed)
    return ranked, top


def _at_once(
    scorer: Callable[[np.ndarray], Tensor],
    sequences: Sequences,
    users: np.ndarray,
    positions: np.ndarray,
    history: int,
    mask_seen: bool,
    listed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """`rank_and_list` of few events; a function of its own, so that its scores are gone before the next ones come."""
    import torch

    scores = scorer(histories(sequences, users, positions, history))  # (B, I)
    targets = torch.from_numpy(sequences.items[sequences.offsets[users] + positions]).to(scores.device)
    if mask_seen:
        owner, items = (torch.from_numpy(part).to(scores.device) for part in seen_items(sequences, users, positions))
    else:
        owner = items = targets[:0]
    found = ranks_among_unseen(scores, targets, owner, items)
    top = best_items(scores, targets, owner, items, listed) if listed else targets.new_empty((len(targets), 0))
    return found.cpu().numpy(), top.cpu().numpy()


def rank_table(
    scorers: Mapping[int, tuple[Scorer, int]],
    sequences: Sequences,
    events: pa.ChunkedArray,
    mask_seen: bool,
    batch: int,
    listed: int,
) -> pa.Table:
    """The RANKS table: every valid and test event ranked by the scorer of every seed, given with its history length.

    events: (N,) strings, what each row of the sequences is: the event column of the interactions. listed: how many of
    the best items each row has.
    """
    parts = []
    for seed, (scorer, history) in scorers.items():
        for split in SPLITS[1:]:
            users, positions = sequences.targets(split)
            rows = sequences.offsets[users] + positions
            ranked, top = rank_and_list(scorer, sequences, users, positions, history, mask_seen, batch, listed)
            columns = {
                "seed": np.full(len(users), seed, dtype=np.int32),
                "split": pa.array([split] * len(users), pa.string()),
                "user": users.astype(np.int32),
                "position": positions.astype(np.int32),
                "event": events.take(pa.array(rows)),
                "item": sequences.items[rows].astype(np.int32),
                "rank": ranked,
                "top": vectors(top),
            }
            parts.append(pa.table(columns))
    return pa.concat_tables(parts)


def write_evaluation(folder: Path, table: pa.Table, sequences: Sequences, cutoffs: Iterable[int]) -> None:
    """Write a RANKS table and its metrics into `folder`: ranks.parquet, metrics.json."""
    write_table(folder / "ranks.parquet", table, RANKS)
    write_json(folder / "metrics.json", summarise(table, sequences, cutoffs))


def summarise(table: pa.Table, sequences: Sequences, cutoffs: Iterable[int]) -> dict[str, Any]:
    """A RANKS table -> for each split and metric: mean and standard deviation over seeds, and each seed's value.

    The deviation is that of a sample (n - 1), null for one seed. `events` counts what was ranked, `skipped` the events
    that no other precedes. Where events of more than one type were ranked, `by_event` has the same of each, by its
    name: `events`, and the metrics of every split that has such an event.
    """
    result: dict[str, Any] = {"events": {}, "skipped": {}}
    for code, name in enumerate(SPLITS[1:], start=1):
        result[name] = _over_seeds(table.filter(pc.field("split") == name), cutoffs)
        result["events"][name] = len(sequences.targets(name)[0])
        result["skipped"][name] = int((sequences.split == code).sum()) - result["events"][name]
    types = sorted(table["event"].unique().to_pylist())
    if len(types) > 1:
        result["by_event"] = {kind: _of_type(table.filter(pc.field("event") == kind), cutoffs) for kind in types}
    return result


def _of_type(table: pa.Table, cutoffs: Iterable[int]) -> dict[str, Any]:
    """The part of `by_event` that is about the events of this table."""
    result: dict[str, Any] = {"events": {}}
    for name in SPLITS[1:]:
        own = table.filter(pc.field("split") == name)
        result["events"][name] = own.num_rows // max(len(own["seed"].unique()), 1)  # every seed ranks the same events
        if own.num_rows:
            result[name] = _over_seeds(own, cutoffs)
    return result


def _over_seeds(table: pa.Table, cutoffs: Iterable[int]) -> dict[str, Any]:
    """The metrics of a table's ranks, by name: their mean and deviation over the seeds, and each seed's value."""
    seed, rank = to_numpy(table, "seed"), to_numpy(table, "rank")
    # without a row there is no seed: `metrics` says so
    by_seed = [metrics(rank[seed == one], cutoffs) for one in np.unique(seed)] or [metrics(rank, cutoffs)]
    result = {}
    for metric in by_seed[0]:
        values = [scores[metric] for scores in by_seed]
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
        result[metric] = {"mean": float(np.mean(values)), "sd": deviation, "seeds": values}
    return result
