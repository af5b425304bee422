"""Evaluation by full ranking: all items are ranked for each held-out event.

In: scorers, of policies or others, by seed; the sequences. Out: the RANKS table, one row per seed and event, and its
metrics over the seeds: for all events and, if there are several types of events (purchases and clicks), for each type.
Every metric is a mean over events.

With `evaluate.mask_seen`, items of the history are no candidates. Then no event is a hit only because few candidates
are left: an event whose item is in its history has an infinite rank, and an event with no more candidates than a cutoff
is a miss at that cutoff. Both stay in the mean, are counted in metrics.json, and are named in a warning and in the
report (protocol.py). A cutoff that is not below the number of items is refused, for any ranking would be a hit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lea_core.common.artifacts import write_json
from lea_core.common.errors import LeaError
from lea_core.common.tables import RANKS, to_numpy, vectors, write_table
from lea_core.data.sequences import SPLITS, Sequences, batches, histories
from lea_core.metrics.ranking import ALL, metrics, ranks_among_unseen, seen_items, too_few
from lea_core.metrics.top_k import best_items

if TYPE_CHECKING:
    from torch import Tensor

Scorer = Callable[[np.ndarray], "Tensor"]  # (B, T) item indices, -1 for none -> (B, I) scores, higher is better

# Scores in memory at a time, 128 MiB as float32. A batch of 512 is not split up to 65,536 items; with a million items a
# batch still has 33 events, so the actor's weights are read once for all of these.
SCORES_AT_ONCE = 2**25


@dataclass(frozen=True)
class Ranked:
    """N events: the rank of each event's item and the number of candidates, (N,) both; the best items, (N, listed).

    rank: float32, infinite if a mask excludes the item.  candidates: int32, ALL without a mask.  top: int32, best
    first, -1 if there are fewer (`top_k.best_items`).
    """

    rank: np.ndarray
    candidates: np.ndarray
    top: np.ndarray

    def metrics(self, cutoffs: Iterable[int]) -> dict[str, float]:
        """Means over the events, see `ranking.metrics`."""
        return metrics(self.rank, cutoffs, self.candidates)


def rank_events(
    scorer: Callable[[np.ndarray], Tensor],
    sequences: Sequences,
    users: np.ndarray,
    positions: np.ndarray,
    history: int,
    mask_seen: bool,
    batch: int,
    listed: int = 0,
) -> Ranked:
    """The items at (users, positions), both (N,), ranked given the true history before each; the best `listed` too.

    scorer: (B, history) right-aligned item indices, -1 for none -> (B, I) scores, such as `PolicyNetwork.scores`.
    mask_seen: exclude the items of the history.

    At most SCORES_AT_ONCE scores are in memory, or those of one event. The batch size changes no rank if the scorer's
    scores do not depend on the rest of the batch.
    """
    found = Ranked(
        np.empty(len(users), dtype=np.float32),
        np.full(len(users), ALL, dtype=np.int32),
        np.empty((len(users), listed), dtype=np.int32),
    )
    widest = max(sequences.num_items, int(positions.max(initial=0)))  # of a row: its scores, or its seen items
    for part in batches(len(users), min(batch, SCORES_AT_ONCE // widest)):
        one = _at_once(scorer, sequences, users[part], positions[part], history, mask_seen, listed)
        found.rank[part], found.top[part] = one.rank, one.top
        found.candidates[part] = one.candidates
    return found


def _at_once(
    scorer: Callable[[np.ndarray], Tensor],
    sequences: Sequences,
    users: np.ndarray,
    positions: np.ndarray,
    history: int,
    mask_seen: bool,
    listed: int,
) -> Ranked:
    """`rank_events` of one batch; a function, so that its scores are freed before the next batch."""
    import torch

    scores = scorer(histories(sequences, users, positions, history))  # (B, I)
    targets = torch.from_numpy(sequences.items[sequences.offsets[users] + positions]).to(scores.device)
    candidates = np.full(len(users), ALL, dtype=np.int32)
    seen = None
    owner = items = targets[:0]
    if mask_seen:
        seen = seen_items(sequences, users, positions)
        candidates[:] = sequences.num_items - np.bincount(seen[0], minlength=len(users))
        owner, items = (torch.from_numpy(part).to(scores.device) for part in seen)
    found = ranks_among_unseen(scores, targets, owner, items)
    top = best_items(scores, listed, seen)[0] if listed else targets.new_empty((len(targets), 0))
    return Ranked(found.cpu().numpy(), candidates, top.cpu().numpy())


def rank_table(
    scorers: Mapping[int, tuple[Scorer, int]],
    sequences: Sequences,
    events: pa.ChunkedArray,
    mask_seen: bool,
    batch: int,
    cutoffs: Sequence[int],
) -> pa.Table:
    """The RANKS table: every valid and test event ranked by the scorer of every seed, given with its history length.

    events: (N,) strings, what each row of the sequences is: the event column of the interactions. Each row has as many
    of the best items as the largest cutoff. Raises `LeaError` where a cutoff is not below the number of items.
    """
    items = sequences.num_items
    if large := [str(cutoff) for cutoff in cutoffs if cutoff >= items]:
        raise LeaError(
            f"params.yaml: evaluate.cutoffs has {', '.join(large)}, but there are only {items} items, and any ranking "
            "would be a hit: give cutoffs below that"
        )
    parts = []
    for seed, (scorer, history) in scorers.items():
        for split in SPLITS[1:]:
            users, positions = sequences.targets(split)
            rows = sequences.offsets[users] + positions
            ranked = rank_events(scorer, sequences, users, positions, history, mask_seen, batch, max(cutoffs))
            columns = {
                "seed": np.full(len(users), seed, dtype=np.int32),
                "split": pa.array([split] * len(users), pa.string()),
                "user": users.astype(np.int32),
                "position": positions.astype(np.int32),
                "event": events.take(pa.array(rows)),
                "item": sequences.items[rows].astype(np.int32),
                "rank": ranked.rank,
                "candidates": ranked.candidates,
                "top": vectors(ranked.top),
            }
            parts.append(pa.table(columns))
    return pa.concat_tables(parts)


def write_evaluation(folder: Path, table: pa.Table, sequences: Sequences, cutoffs: Iterable[int]) -> dict[str, Any]:
    """Write a RANKS table and its metrics, which are returned, into `folder`: ranks.parquet, metrics.json."""
    found = summarise(table, sequences, cutoffs)
    write_table(folder / "ranks.parquet", table, RANKS)
    write_json(folder / "metrics.json", found)
    return found


def summarise(table: pa.Table, sequences: Sequences, cutoffs: Iterable[int]) -> dict[str, Any]:
    """A RANKS table -> for each split and metric: mean and standard deviation over seeds, and each seed's value.

    The deviation is that of a sample (n - 1), null for one seed. `items` is the size of the catalogue, `mask_seen`
    whether items of the history were left out. Of each split `events` counts what was ranked, `users` whose they are,
    `misses` those that are misses whatever the scores (`protocol.Misses`), `skipped` the events that no other precedes.
    Where events of more than one type were ranked, `by_event` has the same of each, by its name: `events`, `users`,
    `misses`, and the metrics of every split that has such an event.
    """
    cutoffs = list(cutoffs)
    masked = bool((to_numpy(table, "candidates") != ALL).any())
    result: dict[str, Any] = {"items": sequences.num_items, "mask_seen": masked, "skipped": {}}
    result |= _of_events(table, cutoffs, SPLITS[1:])
    for code, name in enumerate(SPLITS[1:], start=1):
        result["skipped"][name] = int((sequences.split == code).sum()) - result["events"][name]
    types = sorted(table["event"].unique().to_pylist())
    if len(types) > 1:
        result["by_event"] = {}
        for kind in types:
            own = table.filter(pc.field("event") == kind)
            result["by_event"][kind] = _of_events(own, cutoffs, own["split"].unique().to_pylist())
    return result


def _of_events(table: pa.Table, cutoffs: Sequence[int], measured: Sequence[str]) -> dict[str, Any]:
    """`summarise` of the events of this table; metrics of the splits `measured`, counts of both."""
    result: dict[str, Any] = {"events": {}, "users": {}, "misses": {}}
    for name in SPLITS[1:]:
        own = table.filter(pc.field("split") == name)
        first = own.filter(pc.field("seed") == pc.min(own["seed"]))  # every seed ranks the same events
        result["events"][name] = first.num_rows
        result["users"][name] = len(first["user"].unique())
        result["misses"][name] = _misses(first, cutoffs)
        if name in measured:
            result[name] = _over_seeds(own, cutoffs)
    return result


def _misses(table: pa.Table, cutoffs: Iterable[int]) -> dict[str, Any]:
    """Of the events in a RANKS table of one seed: the fields of `protocol.Misses`."""
    rank, candidates = to_numpy(table, "rank"), to_numpy(table, "candidates")
    few = {str(cutoff): int((too_few(candidates, cutoff) & np.isfinite(rank)).sum()) for cutoff in cutoffs}
    return {"repeated": int(np.isinf(rank).sum()), "no_candidate": int((candidates == 0).sum()), "few": few}


def _over_seeds(table: pa.Table, cutoffs: Iterable[int]) -> dict[str, Any]:
    """The metrics of a table's ranks, by name: their mean and deviation over the seeds, and each seed's value."""
    seed, rank, candidates = (to_numpy(table, name) for name in ("seed", "rank", "candidates"))
    seeds = [seed == one for one in np.unique(seed)] or [slice(None)]  # without a row there is none: `metrics` says so
    by_seed = [metrics(rank[own], cutoffs, candidates[own]) for own in seeds]
    result = {}
    for metric in by_seed[0]:
        values = [scores[metric] for scores in by_seed]
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
        result[metric] = {"mean": float(np.mean(values)), "sd": deviation, "seeds": values}
    return result
