"""Parity: whether an ONNX graph answers as its policy does, and how much 8-bit integers change.

In: two runtimes of one policy; held-out events, if there are any. Out: differences, as numbers and as a line each.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lea_core.common.errors import LeaError, show_causes
from lea_core.serving.histories import read_histories
from lea_core.serving.recommendations import Recommendations
from lea_core.serving.recommender import Recommender

if TYPE_CHECKING:
    from lea_core.serving.torch_policy import Policy

# Largest difference of scores. It is relative to the largest score if that is above 1, for float32 has seven digits.
TOLERANCE = 1e-5
HISTORIES, LIST = 64, 10
SAID = 5  # items of a history that an error names, its last ones


@dataclass(frozen=True)
class Parity:
    """difference: the largest of two scores that should be the same.  overlap: share of the items in common."""

    difference: float
    overlap: float

    @property
    def line(self) -> str:
        """In words."""
        return f"scores differ by {self.difference:.1e} at most, {100 * self.overlap:.2f} % of the items are the same"


def random_histories(item_ids: list[str], history: int, count: int = HISTORIES, seed: int = 0) -> list[list[str]]:
    """Histories of 1 to 2 * `history` items, repeats among them; the first has one item, the last most."""
    rng = np.random.default_rng(seed)
    lengths = np.linspace(1, 2 * history, count).astype(int)
    pool = [rng.integers(0, len(item_ids), max(1, length * 3 // 4)) for length in lengths]
    return [[item_ids[item] for item in rng.choice(own, length)] for own, length in zip(pool, lengths, strict=True)]


def compare(one: Recommendations, other: Recommendations) -> Parity:
    """Two answers to the same histories. Scores are compared by rank; with one of them missing: infinity."""
    return Parity(_largest_gap(one.scores, other.scores), _overlap(one, other))


def _largest_gap(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference of two arrays of scores; NaN equals NaN alone."""
    gaps = np.where(np.isnan(one) & np.isnan(other), 0.0, np.abs(one - other))
    return float(np.nan_to_num(gaps, nan=np.inf).max(initial=0.0))


def _overlap(one: Recommendations, other: Recommendations) -> float:
    """The mean share of a row's items that the other answer has too."""
    shares = [
        len(set(mine) & set(theirs)) / len(mine) for mine, theirs in zip(one.items, other.items, strict=True) if mine
    ]
    return float(np.mean(shares)) if shares else 1.0


def check_parity(policy: Policy, graph: Recommender) -> Parity:
    """Compare on random histories, with the seen items excluded and with them included.

    Raises `LeaError` where the graph's lists differ in more than the order of equals: at every place both have a score
    or neither has, the scores are equal, the graph's item has this score of the policy too, and no item comes twice.
    """
    histories = random_histories(policy.item_ids, policy.config.history)
    found = [_check(policy, graph, histories, exclude_seen) for exclude_seen in (True, False)]
    return Parity(max(one.difference for one in found), min(one.overlap for one in found))


def _check(policy: Policy, graph: Recommender, histories: list[list[str]], exclude_seen: bool) -> Parity:
    one, other = (runtime.recommend(histories, LIST, exclude_seen) for runtime in (policy, graph))
    own = own_scores(policy, histories, other.indices, exclude_seen)
    found = Parity(max(_largest_gap(one.scores, other.scores), _largest_gap(own, other.scores)), _overlap(one, other))
    allowed = TOLERANCE * max(1.0, float(np.nanmax(np.abs(one.scores), initial=0.0)))
    problem = f"{found.line}, {allowed:.1e} are allowed" if found.difference > allowed else ""
    for history, row in zip(histories, other.items, strict=True):
        if again := [item for place, item in enumerate(row) if item in row[:place]]:
            end = " ".join(["..."] * (len(history) > SAID) + history[-SAID:])
            problem = f"after {end} it names {again[0]!r} twice"
            break
    if problem:
        raise LeaError(
            f"the graph does not answer as the policy does: {problem}: nothing was published; try the versions of "
            "constraints.txt"
        )
    return found


def own_scores(policy: Policy, histories: list[list[str]], items: np.ndarray, exclude_seen: bool) -> np.ndarray:
    """The network's scores of these items (B, K) after these histories: NaN without an item, or if it is excluded."""
    found = read_histories(histories, {name: item for item, name in enumerate(policy.item_ids)}, "refuse")
    scores = np.full(items.shape, np.nan, dtype=np.float32)
    for row in range(len(items)):  # one at a time: of a large catalogue all scores together are too many
        chosen, there = np.array([row]), items[row] >= 0
        of_all = policy.network.scores(found.newest(chosen, policy.config.history))[0].cpu().numpy()
        if exclude_seen:
            of_all[found.of(chosen)[1]] = np.nan
        scores[row, there] = of_all[items[row, there]]
    return scores


def measure_int8(
    whole: Recommender, small: Recommender, history: int, interactions: Path
) -> tuple[dict[str, Any], str]:
    """What 8-bit integers change, as numbers and as a line: overlap of lists, and NDCG@10 if there are events.

    interactions: the folder of the pipeline's interactions; not used if it is absent or has other items.
    """
    events = _validation(interactions, whole.item_ids)
    histories = events[0] if events else random_histories(whole.item_ids, history)
    one, other = whole.recommend(histories, LIST), small.recommend(histories, LIST)
    found = compare(one, other)
    numbers: dict[str, Any] = {"int8_difference": found.difference, "int8_overlap": found.overlap}
    if not events:
        return numbers, f"int8, on random histories: {found.line}"
    before, after = (ndcg(answer.indices, events[1]) for answer in (one, other))
    numbers |= {"ndcg10_float32": before, "ndcg10_int8": after, "events": len(histories)}
    return numbers, (
        f"int8, on {len(histories):,} validation events: {found.line}; NDCG@10 {after:.4f}, of float32 {before:.4f}"
    )


def ndcg(lists: np.ndarray, targets: np.ndarray) -> float:
    """NDCG of lists (N, K) with one right item each, (N,)."""
    hits = lists == targets[:, None]
    return float((hits / np.log2(np.arange(lists.shape[1]) + 2)).sum(axis=1).mean())


def _validation(folder: Path, item_ids: list[str]) -> tuple[list[list[str]], np.ndarray] | None:
    """Histories and next items of the validation events in a folder of interactions of these items, if it is one."""
    from lea_core.common.tables import ITEMS, read_table
    from lea_core.data.sequences import read_sequences

    try:
        if read_table(folder / "items.parquet", ITEMS)["item_id"].to_pylist() != item_ids:
            return None
        sequences = read_sequences(folder)
    except LeaError as error:
        show_causes(error)
        return None
    users, positions = sequences.targets("valid")
    starts = sequences.offsets[users]
    histories = [
        [item_ids[item] for item in sequences.items[start : start + length]]
        for start, length in zip(starts, positions, strict=True)
    ]
    return (histories, sequences.items[starts + positions]) if histories else None
