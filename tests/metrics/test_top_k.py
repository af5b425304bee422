"""top_k.py: by hand, and against loops; the tie rule against Python's own sort."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lea_core.baselines import neighbours
from lea_core.data.sequences import Sequences
from lea_core.environment.top_items import propose
from lea_core.metrics import top_k
from lea_core.metrics.top_k import best_items


def test_best_items_by_hand() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.5, 0.9], [0.0, -0.0, 0.0, 0.0], [0.3, 0.2, 0.1, 0.0]])
    found, values = best_items(scores, 3, (np.array([0, 2, 2, 2]), np.array([1, 0, 1, 2])))
    assert found.tolist() == [
        [3, 2, 0],  # item 1 is left out
        [0, 1, 2],  # equals by their index; minus zero is zero
        [3, -1, -1],  # all that is left
    ]
    np.testing.assert_allclose(values, [[0.9, 0.5, 0.1], [0.0, 0.0, 0.0], [0.0, -math.inf, -math.inf]])
    assert scores[0, 1] == pytest.approx(0.9)  # the scorer's own stay
    assert best_items(scores[:1], 6)[0].tolist() == [[1, 3, 2, 0, -1, -1]]
    assert best_items(torch.tensor([[0.0, -math.inf]]), 2)[0].tolist() == [[0, -1]]
    expanded = torch.tensor([0.1, 0.3, 0.2]).expand(2, 3)  # one row in memory, as popularity gives
    assert best_items(expanded, 2, (np.array([0]), np.array([1])))[0].tolist() == [[2, 0], [1, 2]]


@given(st.data())
def test_best_items_against_a_sort(data: st.DataObject) -> None:
    """Piece by piece, with ties within, across and beyond the end of the list."""
    rows, items = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 9))
    count = data.draw(st.integers(1, 10))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    scores = rng.integers(0, data.draw(st.integers(1, 6)), (rows, items)) / 2.0
    seen = rng.random((rows, items)) < 0.4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(top_k, "SCORES", data.draw(st.integers(1, 60)))
        found, _ = best_items(torch.from_numpy(scores), count, np.nonzero(seen))
    for row in range(rows):
        candidates = [item for item in range(items) if not seen[row, item]]
        best = sorted(candidates, key=lambda item: (-scores[row, item], item))[:count]
        assert found[row].tolist() == best + [-1] * (count - len(best))


def makers(scores: torch.Tensor, count: int) -> dict[str, np.ndarray]:
    """What makes tables of the best items, given scores (B, I) by hand: user b has the last item, then the one before.

    The last item is in every history; `baselines` leaves it out.
    """
    rows, items = scores.shape
    train = Sequences(
        np.tile([items - 1, items - 2], rows), np.zeros(2 * rows, np.int8), 2 * np.arange(rows + 1), items
    )
    events, states = 2 * np.arange(rows), np.zeros((rows, 1), np.float16)
    heads = SimpleNamespace(rank_all=lambda *_: scores.clone(), content=scores)
    users, first = np.arange(rows), np.zeros(rows, np.int64)
    return {
        "proposals": propose(heads, train, events, states, count, skip_seen=False, skip_next=False)[0],  # type: ignore[arg-type]
        "baselines": neighbours.propose(lambda *_: scores, train, users, first, count, skip_next=False)[0],
    }


@settings(deadline=None)
@given(st.integers(2, 90), st.integers(1, 6), st.integers(0, 999), st.data())
def test_every_table_keeps_the_tie_rule(items: int, levels: int, seed: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, items - 1))
    scores = np.random.default_rng(seed).integers(0, levels, (3, items)).astype(np.float32)
    for name, found in makers(torch.from_numpy(scores), count).items():
        for row in range(3):
            known = range(items - 1 if name == "baselines" else items)
            assert found[row].tolist() == sorted(known, key=lambda item: (-scores[row, item], item))[:count]
