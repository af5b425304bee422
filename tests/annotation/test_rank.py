"""The LE's rankings, against its own probabilities item by item."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from lea_core.annotation.rank import rankings
from lea_core.common.errors import LeaError
from lea_core.common.tables import RANKINGS, STATES, check, to_numpy, vectors, write_table
from lea_core.data.sequences import Sequences
from lea_core.environment.model import load_heads
from tests.support import tiny_le

TRAIN = Sequences(np.array([0, 3, 0, 5, 7, 2, 2]), np.zeros(7, np.int8), np.array([0, 4, 5, 7]), tiny_le.ITEMS)


def write_states(path: Path, width: int) -> np.ndarray:
    users, positions = TRAIN.users_and_positions()
    states = np.random.default_rng(1).normal(size=(len(users), width)).astype(np.float16)
    columns = {"user": users.astype(np.int32), "position": positions.astype(np.int32), "state": vectors(states)}
    write_table(path, pa.table(columns), STATES)
    return states


def test_every_transition_has_the_likeliest_items_first(tmp_path: Path) -> None:
    le = tiny_le.make(tmp_path / "llm")
    le.save(tmp_path / "le", {})
    heads = load_heads(tmp_path / "le", tiny_le.item_tokens())
    for name, value in le.heads.state_dict().items():
        assert torch.equal(heads.state_dict()[name], value)
    states = write_states(tmp_path / "states.parquet", heads.state_width)
    (table,) = rankings(heads, TRAIN, tmp_path / "states.parquet", tiny_le.ITEMS)
    check(tmp_path, table, RANKINGS)
    assert table["user"].to_pylist() == [0, 0, 0, 2]  # a user with one event has no transition
    assert table["position"].to_pylist() == [0, 1, 2, 0]
    items, found = to_numpy(table, "items"), to_numpy(table, "log_probabilities")
    for row, (event, history) in enumerate([(0, [0]), (1, [0, 3]), (2, [0, 3]), (5, [2])]):
        scores = heads.scores(torch.from_numpy(states[event].astype(np.float32))[None])[0].exp()
        seen = np.isin(np.arange(tiny_le.ITEMS), history)
        wanted = scores.numpy() * np.where(seen, 0.5 / scores[seen].sum(), 0.5 / scores[~seen].sum())  # half repeats
        np.testing.assert_allclose(np.exp(found[row]), wanted[items[row]], rtol=1e-4)
        assert sorted(items[row]) == list(range(tiny_le.ITEMS))
        assert (np.diff(found[row]) <= 0).all()
    (first,) = rankings(heads, TRAIN, tmp_path / "states.parquet", 2)
    assert (to_numpy(first, "items") == items[:, :2]).all()


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    tiny_le.make(tmp_path / "llm").save(tmp_path / "le", {})
    heads = load_heads(tmp_path / "le", tiny_le.item_tokens())
    write_states(tmp_path / "states.parquet", heads.state_width)
    with pytest.raises(LeaError, match=r"rank\.items 10: there are 9 items: lower it"):
        next(rankings(heads, TRAIN, tmp_path / "states.parquet", 10))
    other = Sequences(TRAIN.items, TRAIN.split, np.array([0, 3, 5, 7]), tiny_le.ITEMS)
    with pytest.raises(LeaError, match=r"not the training events: run `dvc repro annotate`"):
        next(rankings(heads, other, tmp_path / "states.parquet", 2))
    with pytest.raises(LeaError, match=r"do not fit these item tokens: run `dvc repro finetune_le`"):
        load_heads(tmp_path / "le", tiny_le.item_tokens(items=7))
