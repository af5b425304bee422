"""The evidence of a report: every variant compared with its twin, sliced by kinds of events, its lists judged.

Every number is a mean over the test events, and every comparison a difference of such means (significance.py).

In: the `Result`s of variants and baselines (results.py) with their RANKS tables; data/interactions,
data/item_tokens/items.parquet, the users that the LE learns from. Out: the rows of comparisons.csv,
beside_baseline.csv, slices.csv and lists.csv. All are about the test events.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lea_core.common.errors import LeaError
from lea_core.common.layout import FOLDERS
from lea_core.common.tables import ITEM_TOKENS, ITEMS, RANKS, read_table, to_numpy
from lea_core.data.leaks import training_events
from lea_core.data.sequences import Sequences, read_sequences
from lea_core.environment.user_split import choose_users
from lea_core.evaluation.results import Result, best_baseline, twin
from lea_core.evaluation.significance import Comparison, compare, holm, user_means
from lea_core.evaluation.slices import slice_rows, slices
from lea_core.metrics.beyond_accuracy import list_rows
from lea_core.metrics.ranking import by_name

SEED = 0  # of the resampling: the same for every comparison, so that none depends on the others

COMPARISON = (
    "variant",
    "other",
    "metric",
    "seeds",
    "events",
    "users",
    "difference",
    "low",
    "high",
    "p_randomisation",
    "p_wilcoxon",
    "p_holm",
    "low_with_seeds",
    "high_with_seeds",
    "p_with_seeds",
    "p_holm_with_seeds",
    "effect_size",
    "better",
    "worse",
)


@dataclass(frozen=True)
class UserScores:
    """A metric under each training, user by user.

    users: (U,), ascending.  events: (U,), how many each has.  scores: (S, U), means over a user's events.
    """

    users: np.ndarray
    events: np.ndarray
    scores: np.ndarray


Scores = Mapping[str, UserScores]  # by result


@dataclass(frozen=True)
class Log:
    """What the test events are judged by: all sequences; of each item its training count and content vector.

    counts: (I,).  content: (I, C).  le_users: those that the LE learns from.  Both None where there is no such thing.
    """

    sequences: Sequences
    counts: np.ndarray
    content: np.ndarray | None
    le_users: np.ndarray | None


@dataclass(frozen=True)
class Evidence:
    """Rows of the report's CSV files of these names."""

    comparisons: list[dict[str, Any]]
    beside_baseline: list[dict[str, Any]]
    slices: list[dict[str, Any]]
    lists: list[dict[str, Any]]


def read_log(data: Path, users_share: float, seed: int, signals: Collection[str] = tuple(FOLDERS)) -> Log:
    """Read it from `data`; share and seed are those of `finetune_le`, and draw its users again.

    signals: `le_signals`; without any there are no content vectors, with `items` alone no users of the LE.
    """
    sequences = read_sequences(data / "interactions")
    items = read_table(data / "interactions" / "items.parquet", ITEMS, columns=("train_count",))
    content = le_users = None
    if signals:
        tokens = read_table(data / "item_tokens" / "items.parquet", ITEM_TOKENS, columns=("content",))
        content = to_numpy(tokens, "content")
    if set(signals) - {"items"}:
        le_users, _ = choose_users(training_events(sequences), users_share, np.random.default_rng(seed))
    return Log(sequences, to_numpy(items, "train_count"), content, le_users)


def gather(results: Sequence[Result], metric: str, cutoffs: Sequence[int], scores: Scores, log: Log) -> Evidence:
    """All of it, by the headline's metric; cutoffs: of the lists. scores: `user_scores` of all results."""
    return Evidence(
        comparisons=comparison_rows(twin_pairs(results), metric, scores),
        beside_baseline=comparison_rows(baseline_pairs(results, metric), metric, scores),
        slices=slices_of(results, int(metric.partition("@")[2]), log),
        lists=lists_of(results, cutoffs, log),
    )


def twin_pairs(results: Sequence[Result]) -> list[tuple[Result, Result]]:
    """Every variant with its supervised twin, where it has one and both ran from two seeds or more."""
    pairs = [(result, other) for result in results if (other := twin(result, results)) and other is not result]
    return [pair for pair in pairs if all(len(_seeds(result)) > 1 for result in pair)]


def baseline_pairs(results: Sequence[Result], metric: str) -> list[tuple[Result, Result]]:
    """Every variant that ran from two seeds or more, with the best baseline that needs no LLM; no controls."""
    best = best_baseline(results, metric)
    own = [result for result in results if result.kind == "variant" and len(_seeds(result)) > 1]
    return [(result, best) for result in own] if best else []


def _seeds(result: Result) -> list[float]:
    return next(iter(result.scores.values())).seeds


def comparison_rows(pairs: Sequence[tuple[Result, Result]], metric: str, scores: Scores) -> list[dict[str, Any]]:
    """The rows of comparisons.csv or beside_baseline.csv: the first of each pair minus the other, over the same events.

    scores: `user_scores` of all of them. Holm corrects the p of the randomisation test, and that with seeds, for all
    pairs together. Raises `LeaError` where two are of other users.
    """
    rows: list[dict[str, Any]] = []
    for own, other in pairs:
        found = {
            "variant": own.name,
            "other": other.name,
            "metric": metric,
            "seeds": min(len(_seeds(result)) for result in (own, other) if result.variant),
            "events": int(scores[own.name].events.sum()),
            "users": len(scores[own.name].users),
        }
        rows.append(found | asdict(compare_users(scores, own.name, other.name)))
    for p, corrected in (("p_randomisation", "p_holm"), ("p_with_seeds", "p_holm_with_seeds")):
        for row, value in zip(rows, holm([row[p] for row in rows]), strict=True):
            row[corrected] = value
    return [{name: row[name] for name in COMPARISON} for row in rows]


def slices_of(results: Sequence[Result], cutoff: int, log: Log) -> list[dict[str, Any]]:
    """The rows of slices.csv: HR and NDCG at the cutoff of every variant and baseline in every band of every slice.

    Raises `LeaError` where a table has other events than the log.
    """
    users, positions = log.sequences.targets("test")
    bands = slices(log.sequences, users, positions, log.counts, log.le_users)
    return [
        {"variant": result.name} | row for result in results for row in slice_rows(bands, *_ranks(result, log), cutoff)
    ]


def lists_of(results: Sequence[Result], cutoffs: Sequence[int], log: Log) -> list[dict[str, Any]]:
    """The rows of lists.csv: the worth of every variant's and baseline's lists at every cutoff.

    Raises `LeaError` where lists are shorter than a cutoff or name an item that is none.
    """
    rows = []
    for result in results:
        lists = [to_numpy(part, "top") for part in ranked_tests(result, ("seed", "split", "top"))]
        if any(own.shape[1] < max(cutoffs) for own in lists):
            raise LeaError(f"{result.ranks}: has lists of {lists[0].shape[1]}, not {max(cutoffs)}: run `dvc repro`")
        if any(own.max(initial=-1) >= len(log.counts) for own in lists):
            raise LeaError(f"{result.ranks}: column 'top' has an item that is none: delete it and run `dvc repro`")
        rows += [{"variant": result.name} | row for row in list_rows(lists, cutoffs, log.counts, log.content)]
    return rows


def _ranks(result: Result, log: Log) -> tuple[np.ndarray, np.ndarray]:
    """Ranks and candidates, (S, N) both, of the log's test events, in its order, a row for every seed."""
    users, positions = log.sequences.targets("test")
    wanted = {
        "user": users,
        "position": positions,
        "item": log.sequences.items[log.sequences.offsets[users] + positions],
    }
    parts = ranked_tests(result, ("seed", "split", "user", "position", "item", "rank", "candidates"))
    for part in parts:
        for column, values in wanted.items():
            if not np.array_equal(to_numpy(part, column), values):
                raise LeaError(f"{result.ranks}: column {column!r} is of other events than the log: run `dvc repro`")
    ranks, candidates = (np.stack([to_numpy(part, name) for part in parts]) for name in ("rank", "candidates"))
    return ranks, candidates


def ranked_tests(result: Result, columns: Sequence[str]) -> list[pa.Table]:
    """The test rows of a RANKS table, those of every seed by themselves; `columns` has seed and split."""
    table = read_table(result.ranks, RANKS, columns=columns)
    table = table.filter(pc.field("split") == "test")
    return [table.filter(pc.field("seed") == int(seed)) for seed in np.unique(to_numpy(table, "seed"))]


def user_scores(results: Iterable[Result], metric: str) -> dict[str, UserScores]:
    """Of every result and seed, each user's mean of a metric such as NDCG@10 over the test events.

    Raises `LeaError` where the seeds of a result are of other users.
    """
    found = {}
    for result in results:
        parts = ranked_tests(result, ("seed", "split", "user", "rank", "candidates"))
        users = [to_numpy(part, "user") for part in parts]
        if any(not np.array_equal(other, users[0]) for other in users[1:]):
            raise LeaError(f"{result.ranks}: its seeds are of different users: delete it and run `dvc repro`")
        values = [by_name(metric, to_numpy(part, "rank"), to_numpy(part, "candidates")) for part in parts]
        found[result.name] = scores_by_user(result, np.stack(values), users[0])
    return found


def scores_by_user(result: Result, scores: np.ndarray, users: np.ndarray) -> UserScores:
    """Of a result's events, their scores (S, N) and whose they are (N,), the mean of each user.

    Nothing in a baseline is drawn: made anew it is the same, so its one row is there twice.
    """
    means, events = user_means(scores, users)
    return UserScores(np.unique(users), events, means if result.variant else np.repeat(means, 2, axis=0))


def compare_users(scores: Scores, one: str, other: str) -> Comparison:
    """The first minus the other. Raises `LeaError` where they are not of the same users and as many events of each."""
    first, second = scores[one], scores[other]
    if not (np.array_equal(first.users, second.users) and np.array_equal(first.events, second.events)):
        raise LeaError(f"data/evaluations: {one} and {other} are of different events: run `dvc repro`")
    return compare(first.scores, second.scores, first.events, np.random.default_rng(SEED))
