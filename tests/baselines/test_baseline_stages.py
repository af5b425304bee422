"""The stages of the baselines on a small project: a policy's events, ranks by hand, and what names do."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from lea_core.common.errors import LeaError
from lea_core.common.tables import RANKS, read_table, to_numpy
from lea_core.data.sequences import Sequences, read_sequences
from lea_core.environment import model as environment
from lea_core.environment.quality import quality
from lea_core.llm import language_model
from lea_core.metrics.full_ranking import summarise
from lea_core.metrics.ranking import metrics
from lea_core.params import load
from stages import baselines, evaluate_le, text_knn
from tests.support.lane import change_params
from tests.support.tiny_project import log, write_project

NAMES = ["popularity", "recent_popularity", "item_knn", "session_knn", "text_knn", "le"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_project(tmp_path, log(12, longest=8))
    change_params(tmp_path, {"evaluate.cutoffs": [5, 8], "report.metric": "NDCG@8"})  # of nine items
    monkeypatch.chdir(tmp_path)
    return tmp_path


def popularity_rank(sequences: Sequences, user: int, position: int) -> float:
    """Mean rank by training count of the event's item among the items not taken before; infinite where it was."""
    counts = np.bincount(sequences.train().items, minlength=sequences.num_items)
    walk = sequences.user_items(user)
    target = walk[position]
    if target in walk[:position]:
        return math.inf
    others = [counts[item] for item in range(sequences.num_items) if item not in walk[: position + 1]]
    return 1.0 + sum(count > counts[target] for count in others) + sum(count == counts[target] for count in others) / 2


def test_all_are_ranked_as_policies_are(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    baselines.main([])
    said = capsys.readouterr().err
    assert "warning: popularity: Counted as misses, as items of the history are left out: of the 12 events" in said
    text_knn.main([])
    evaluate_le.main([])
    sequences, params = read_sequences(project / "data" / "interactions"), load()
    events = [(split, *pair) for split in ("valid", "test") for pair in zip(*sequences.targets(split), strict=True)]
    for name in NAMES:
        folder = project / "data" / "baselines" / name
        assert {path.name for path in folder.iterdir()} == {"ranks.parquet", "metrics.json", "cost.json"}
        table = read_table(folder / "ranks.parquet", RANKS)
        found = list(zip(*(table[column].to_pylist() for column in ("split", "user", "position")), strict=True))
        assert found == events
        assert set(table["seed"].to_pylist()) == {0}
        found_metrics = json.loads((folder / "metrics.json").read_text())
        assert found_metrics == summarise(table, sequences, params.evaluate.cutoffs)
        cost = json.loads((folder / "cost.json").read_text())
        assert cost["needs_llm"] == (name == "le")
        assert cost["seconds_per_user"] > 0.0
    ranks = to_numpy(read_table(project / "data" / "baselines" / "popularity" / "ranks.parquet", RANKS), "rank")
    assert ranks.tolist() == [popularity_rank(sequences, user, position) for _, user, position in events]


def test_where_nothing_is_masked_baselines_know_how_often_users_repeat(project: Path) -> None:
    """Popularity by a loop: of the mass, items of the history share the share of the training steps that repeat."""
    change_params(project, {"evaluate.mask_seen": False, "baselines.names": ["popularity"]})
    baselines.main([])
    sequences = read_sequences(project / "data" / "interactions")
    train = sequences.train()
    walks = [train.user_items(user).tolist() for user in range(train.num_users)]
    steps = [item in walk[:place] for walk in walks for place, item in enumerate(walk) if place]
    share = (sum(steps) + 0.5) / (len(steps) + 1)
    counts = np.bincount(train.items, minlength=sequences.num_items)
    expected = []
    for split in ("valid", "test"):
        for user, position in zip(*sequences.targets(split), strict=True):
            walk = sequences.user_items(user)
            seen = np.isin(np.arange(sequences.num_items), walk[:position])
            mass = np.where(seen, share / counts[seen].sum(), (1 - share) / counts[~seen].sum()) * counts
            own = mass[walk[position]]
            expected.append(1 + (mass > own * (1 + 1e-6)).sum() + (np.isclose(mass, own, rtol=1e-6).sum() - 1) / 2)
    ranks = to_numpy(read_table(project / "data" / "baselines" / "popularity" / "ranks.parquet", RANKS), "rank")
    assert ranks.tolist() == expected


def test_the_le_ranks_as_it_is_measured(project: Path) -> None:
    change_params(project, {"evaluate.mask_seen": False})
    evaluate_le.main([])
    data = project / "data"
    sequences, params = read_sequences(data / "interactions"), load()
    tokens = environment.read_item_tokens(data / "item_tokens" / "items.parquet")
    le = environment.load(data / "le", language_model.load(data / "llm", 2), tokens)
    p = params.finetune_le.model_copy(update={"history": le.shape.history})
    measured = quality(le, sequences, np.arange(sequences.num_users), p)
    table = read_table(data / "baselines" / "le" / "ranks.parquet", RANKS)
    for split in ("valid", "test"):
        ranks = to_numpy(table.filter(pc.field("split") == split), "rank")
        assert metrics(ranks, [10])["NDCG@10"] == pytest.approx(measured[split]["ndcg10"])


def test_what_is_not_named_is_an_empty_folder_and_the_rest_the_same_bytes(project: Path) -> None:
    baselines.main([])
    data = project / "data" / "baselines"
    before = (data / "session_knn" / "ranks.parquet").read_bytes()
    change_params(project, {"baselines.names": ["session_knn"]})
    baselines.main([])
    text_knn.main([])
    evaluate_le.main([])
    assert (data / "session_knn" / "ranks.parquet").read_bytes() == before
    assert {path.name: len(list(path.iterdir())) for path in data.iterdir()} == dict.fromkeys(NAMES, 0) | {
        "session_knn": 3
    }


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["le", "le"], "baselines.names: one is named twice: remove it"),
        (["bm25"], r"baselines\.names\.0 is 'bm25', but must be .*'popularity', .* or 'le': mend it"),
    ],
)
def test_bad_names(project: Path, names: list[str], message: str) -> None:
    change_params(project, {"baselines.names": names})
    with pytest.raises(LeaError, match=message):
        load()
