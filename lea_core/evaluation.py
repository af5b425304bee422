"""Evaluation: the ranks that policies give to held-out events, and their best items, as a table and in a few numbers.

In: scorers, policies' or others, by seed; the sequences. Out: the RANKS table, one row per seed and event; its metrics
over the seeds, of all events and, where they are of more than one type (purchases and clicks), of each type. Every
metric is a mean over events.

Where items of the history are left out (`evaluate.mask_seen`), no event is a hit for want of candidates: one whose item
the user had before has an infinite rank, and one with no more candidates than a cutoff is a miss at that cutoff. Both
stay in the mean, are counted in metrics.json (`Misses`), and said in a warning and in the report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lea_core.artifacts import write_json
from lea_core.errors import warn
from lea_core.lists import best_items
from lea_core.metrics import ALL, metrics, ranks_among_unseen, seen_items, too_few
from lea_core.sequences import SPLITS, Sequences, batches, histories
from lea_core.tables import RANKS, to_numpy, vectors, write_table

if TYPE_CHECKING:
    from torch import Tensor

    from lea_core.baselines import Scorer

# Scores that exist at once, 128 MiB as float32: a batch of 512 stays whole up to 65,536 items, and of a catalogue of a
# million the actor's weights are still read for 33 events together.
SCORES_AT_ONCE = 2**25


@dataclass(frozen=True)
class Ranked:
    """N events: the rank of each one's item and the number of candidates, (N,) both; the best ones, (N, listed).

    rank: float32, infinite where a mask leaves the item out. candidates: int32, ALL without a mask. top: int32, best
    first, of equal scores the lower index, -1 where there are fewer (`lists.best_items`).
    """

    rank: np.ndarray
    candidates: np.ndarray
    top: np.ndarray

    def metrics(self, cutoffs: Iterable[int]) -> dict[str, float]:
        """Their means over the events, see `metrics.metrics`."""
        return metrics(self.rank, cutoffs, self.candidates)


@dataclass(frozen=True)
class Misses:
    """How many events of a split are misses whatever the scores, because items of the history are left out.

    repeated: the user had the item before. no_candidate: of those, by users who had every item. few: by cutoff, those
    with no more candidates than it.
    """

    repeated: int
    no_candidate: int
    few: dict[str, int]

    @property
    def none(self) -> bool:
        """Whether every event can be a hit and a miss."""
        return not self.repeated and not any(self.few.values())


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
    mask_seen: leave out the items of the history.

    However large the catalogue, no more than SCORES_AT_ONCE scores are held. The split into calls of `scorer` changes
    no rank as far as its scores do not depend on what else is in the batch.
    """
    found = Ranked(
        np.empty(len(users), dtype=np.float32),
        np.full(len(users), ALL, dtype=np.int32),
        np.empty((len(users), listed), dtype=np.int32),
    )
    widest = max(sequences.num_items, int(positions.max(initial=0)))  # of a row: its scores, or its seen items
    for part in batches(len(users), max(1, min(batch, SCORES_AT_ONCE // widest))):
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
    """`rank_events` of few events; a function of its own, so that its scores are gone before the next ones come."""
    import torch

    scores = scorer(histories(sequences, users, positions, history))  # (B, I)
    targets = torch.from_numpy(sequences.items[sequences.offsets[users] + positions]).to(scores.device)
    candidates = np.full(len(users), ALL, dtype=np.int32)
    owner = items = targets[:0]
    if mask_seen:
        rows, seen = seen_items(sequences, users, positions)
        candidates[:] = sequences.num_items - np.bincount(rows, minlength=len(users))
        owner, items = (torch.from_numpy(part).to(scores.device) for part in (rows, seen))
    found = ranks_among_unseen(scores, targets, owner, items)
    top = best_items(scores, owner, items, listed) if listed else targets.new_empty((len(targets), 0))
    return Ranked(found.cpu().numpy(), candidates, top.cpu().numpy())


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
            ranked = rank_events(scorer, sequences, users, positions, history, mask_seen, batch, listed)
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


def write_evaluation(folder: Path, table: pa.Table, sequences: Sequences, cutoffs: Iterable[int]) -> None:
    """Write a RANKS table and its metrics into `folder`: ranks.parquet, metrics.json.

    Warns of test events that no policy can hit or miss.
    """
    found = summarise(table, sequences, cutoffs)
    test = Misses(**found["misses"]["test"])
    if not test.none:
        warn(f"{folder.name}: {in_words(test, found['events']['test'])}")
    if certain := [cutoff for cutoff in cutoffs if cutoff >= sequences.num_items]:
        warn(
            f"evaluate.cutoffs: {', '.join(map(str, certain))}: there are {sequences.num_items} items, so every "
            "candidate is a hit there: give smaller ones"
        )
    write_table(folder / "ranks.parquet", table, RANKS)
    write_json(folder / "metrics.json", found)


def count_misses(table: pa.Table, cutoffs: Iterable[int]) -> Misses:
    """Of the events in a RANKS table of one split; every seed ranks the same ones."""
    seed = to_numpy(table, "seed")
    own = seed == seed[0] if len(seed) else seed.astype(bool)
    rank, candidates = to_numpy(table, "rank")[own], to_numpy(table, "candidates")[own]
    few = {str(cutoff): int((too_few(candidates, cutoff) & np.isfinite(rank)).sum()) for cutoff in cutoffs}
    return Misses(int(np.isinf(rank).sum()), int((candidates == 0).sum()), few)


def in_words(misses: Misses, events: int) -> str:
    """What counts as a miss whatever the scores, and why; empty where nothing does."""
    said = []
    if misses.repeated:
        whole = f", {misses.no_candidate:,} by users who had every item" if misses.no_candidate else ""
        said.append(f"{misses.repeated:,} are of an item that the user had before{whole}")
    said += [
        f"{count:,} leave no more than {cutoff} items to rank, where every one would be a hit at {cutoff}"
        for cutoff, count in misses.few.items()
        if count
    ]
    if not said:
        return ""
    return (
        f"of {events:,} test events {'; '.join(said)}: they count as misses there, as evaluate.mask_seen leaves items "
        "of the history out"
    )


def summarise(table: pa.Table, sequences: Sequences, cutoffs: Iterable[int]) -> dict[str, Any]:
    """A RANKS table -> for each split and metric: mean and standard deviation over seeds, and each seed's value.

    The deviation is that of a sample (n - 1), null for one seed. `events` counts what was ranked, `users` whose they
    are, `skipped` the events that no other precedes, `misses` those that are misses whatever the scores (`Misses`);
    `items` is the size of the catalogue. Where events of more than one type were ranked, `by_event` has the same of
    each, by its name: `events`, and the metrics of every split that has such an event.
    """
    cutoffs = list(cutoffs)
    result: dict[str, Any] = {"events": {}, "users": {}, "skipped": {}, "misses": {}, "items": sequences.num_items}
    for code, name in enumerate(SPLITS[1:], start=1):
        own = table.filter(pc.field("split") == name)
        users, _ = sequences.targets(name)
        result[name] = _over_seeds(own, cutoffs)
        result["events"][name], result["users"][name] = len(users), len(np.unique(users))
        result["skipped"][name] = int((sequences.split == code).sum()) - len(users)
        result["misses"][name] = asdict(count_misses(own, cutoffs))
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
    seed, rank, candidates = (to_numpy(table, name) for name in ("seed", "rank", "candidates"))
    seeds = [seed == one for one in np.unique(seed)] or [slice(None)]  # without a row there is none: `metrics` says so
    by_seed = [metrics(rank[own], cutoffs, candidates[own]) for own in seeds]
    result = {}
    for metric in by_seed[0]:
        values = [scores[metric] for scores in by_seed]
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
        result[metric] = {"mean": float(np.mean(values)), "sd": deviation, "seeds": values}
    return result
