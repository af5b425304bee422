"""benchmarks/serving/cold_start.py: what is held out, and what each slice ranks, by hand."""

import numpy as np
import pytest
import torch

from benchmarks.serving.cold_start import Split, hold_out, scores_of, without_cold
from lea_core.data.sequences import Sequences
from lea_core.llm.pooled_tokens import ItemTokens, fit, whiten
from tests.support.tiny_project import log


def test_no_cold_item_is_left_and_the_rest_stays_in_order() -> None:
    sequences = log(users=40)
    sequences = Sequences(
        sequences.items * 2 + np.arange(len(sequences.items)) % 2, *list(vars(sequences).values())[1:3], 20
    )
    hidden = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    statistics = {"mean": np.full(5, 0.5, np.float32), "deviation": np.full(5, 2.0, np.float32)}
    tokens = ItemTokens(hidden, (hidden - 0.5) / 2.0, np.ones((20, 3), np.float32))
    split = hold_out(sequences, tokens, statistics, seed=3)
    assert (split.warm.num_items, split.whole.num_items) == (18, 20)
    cold = np.sort(np.random.default_rng(3).permutation(20)[:2])
    order = [*(item for item in range(20) if item not in cold), *cold]
    assert [order[item] for item in split.whole.items] == sequences.items.tolist()
    for user in range(40):
        own = sequences.user_items(user)
        assert [order[item] for item in split.warm.user_items(user)] == [item for item in own if item not in cold]
    expected = whiten(hidden, fit(hidden[order[:18]], hidden[order[:18]], 3))[
        order
    ]  # the statistics are the warm items'
    np.testing.assert_allclose(split.vectors, expected, atol=1e-5)


def test_every_slice_by_hand() -> None:
    """Items 0 and 1 are warm. Scores 4, 1, 3, 2, and 10 more for item 3 after item 2."""
    items, split = np.array([0, 2, 3, 1, 0, 1]), np.array([0, 0, 2, 2, 0, 2], dtype=np.int8)
    whole = Sequences(items, split, np.array([0, 3, 4, 6]), 4)
    own = Split(whole, Sequences(items[:0], split[:0], np.array([0]), 2), np.zeros((4, 1)))

    def scorer(histories: np.ndarray) -> torch.Tensor:
        scores = torch.tensor([4.0, 1.0, 3.0, 2.0]).repeat(len(histories), 1)
        scores[torch.from_numpy(histories[:, -1] == 2), 3] += 10.0
        return scores

    found = scores_of(scorer, own, "test", 2, mask_seen=False)
    assert found["events"] == {"cold": 1, "warm": 1}  # the second user's event has none before it
    ranks = {"cold": 1, "cold, warm histories": 3, "cold among cold": 1, "warm": 4, "warm, warm histories": 4}
    for name, rank in ranks.items():
        assert found[name] == {"HR@10": 1.0, "NDCG@10": pytest.approx(1 / np.log2(rank + 1))}, name
    assert found["all"]["NDCG@10"] == pytest.approx((1 + 1 / np.log2(5)) / 2)


def test_histories_without_cold_items_stay_in_order() -> None:
    seen: list[np.ndarray] = []

    def scorer(histories: np.ndarray) -> torch.Tensor:
        seen.append(histories)
        return torch.zeros(len(histories), 4)

    without_cold(scorer, 2, 2)(np.array([[0, 1, 3, 2], [-1, 2, 1, 3], [1, 0, 1, 2]]))
    assert seen[0].tolist() == [[0, 1], [-1, 1], [0, 1]]
