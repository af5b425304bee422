"""Whether a graph answers as its policy does, and what 8-bit integers cost of that.

In: two runtimes of one policy; held-out events, where they are there. Out: differences, in numbers and in a line each.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lea_core.errors import LeaError
from lea_core.policy.recommendations import Recommendations
from lea_core.policy.recommender import Recommender

# Of scores, where they are about 1; above that relative to the largest, for float32 has seven digits.
TOLERANCE = 1e-5
HISTORIES, LIST = 64, 10


@dataclass(frozen=True)
class Parity:
    """difference: the largest of two scores at the same place of a list.  overlap: share of the items in common."""

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
    """Two answers to the same histories. Scores are compared place by place."""
    gaps = np.abs(np.nan_to_num(one.scores - other.scores))
    shares = [
        len(set(mine) & set(theirs)) / len(mine) for mine, theirs in zip(one.items, other.items, strict=True) if mine
    ]
    return Parity(float(gaps.max(initial=0.0)), float(np.mean(shares)) if shares else 1.0)


def check_parity(policy: Recommender, graph: Recommender, history: int) -> Parity:
    """Compare on random histories. Raises `LeaError` where lists differ in more than the order of equals, or scores."""
    histories = random_histories(policy.item_ids, history)
    one, other = policy.recommend(histories, LIST), graph.recommend(histories, LIST)
    found = compare(one, other)
    allowed = TOLERANCE * max(1.0, float(np.nanmax(np.abs(one.scores), initial=0.0)))
    if found.difference > allowed or (one.indices < 0).tolist() != (other.indices < 0).tolist():
        raise LeaError(
            f"the graph does not answer as the policy does: {found.line}, {allowed:.1e} are allowed: "
            "nothing was published; try the versions of constraints.txt"
        )
    return found


def measure_int8(
    whole: Recommender, small: Recommender, history: int, interactions: Path
) -> tuple[dict[str, Any], str]:
    """What 8-bit integers cost, as numbers and as a line: overlap of lists, and NDCG@10 where there are events.

    interactions: the folder of the pipeline's interactions; left aside where it is not there or of other items.
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
    from lea_core.sequences import read_sequences
    from lea_core.tables import ITEMS, read_table

    try:
        if read_table(folder / "items.parquet", ITEMS)["item_id"].to_pylist() != item_ids:
            return None
        sequences = read_sequences(folder)
    except LeaError:
        return None
    users, positions = sequences.targets("valid")
    starts = sequences.offsets[users]
    histories = [
        [item_ids[item] for item in sequences.items[start : start + length]]
        for start, length in zip(starts, positions, strict=True)
    ]
    return (histories, sequences.items[starts + positions]) if histories else None
