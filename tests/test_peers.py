"""What the benchmarks' peers are given and how they are ranked; no peer is installed here."""

import importlib
import json
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.peers import ranking, run
from lea_core.data.sequences import SPLITS, Sequences
from lea_core.metrics import ranking as metrics

ROOT = Path(run.HERE).parent.parent


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """harness.py as the peers' scripts import it: by path."""
    monkeypatch.syspath_prepend(str(run.HERE))
    return importlib.import_module("harness")


@pytest.fixture
def sequences() -> Sequences:
    """Users of 5, 1, 0 and 3 events."""
    items = np.array([3, 1, 4, 1, 5, 2, 0, 4, 3])
    split = np.array([0, 0, 0, 1, 2, 2, 0, 0, 1], dtype=np.int8)
    return Sequences(items, split, np.array([0, 5, 6, 6, 9]), 7)


@given(st.integers(0, 2**32 - 1))
def test_ranks_are_ours(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, items = rng.integers(1, 6, size=2)
    scores = rng.choice([-np.inf, -1.0, 0.0, 0.5], size=(rows, items)).astype(np.float32)
    targets, seen = rng.integers(0, items, size=rows), rng.random((rows, items)) < 0.4
    before = seen.copy()
    for mask in (None, seen):
        ours = metrics.ranks(
            torch.from_numpy(scores), torch.from_numpy(targets), None if mask is None else torch.from_numpy(mask)
        ).numpy()
        found, candidates = ranking.ranks(scores, targets, mask)
        assert found.tolist() == ours.tolist()
        left = [metrics.ALL if mask is None else items - row.sum() for row in seen]
        assert candidates.tolist() == left
        expected = metrics.metrics(ours, [3], np.array(left))
        assert ranking.at_cutoff(found, candidates, 3) == {name: expected[name] for name in ("NDCG@3", "HR@3")}
    assert (seen == before).all()


def test_nan_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        ranking.ranks(np.array([[0.0, np.nan]]), np.array([0]))


def test_a_peer_reads_our_events(tmp_path: Path, harness: ModuleType, sequences: Sequences) -> None:
    run.write_events(sequences, tmp_path / "events.parquet")
    (tmp_path / "settings.json").write_text(json.dumps({"num_items": sequences.num_items}))
    events, _ = harness.read(tmp_path)
    users, positions = sequences.users_and_positions()
    assert events.users.tolist() == users.tolist()
    assert events.items.tolist() == sequences.items.tolist()
    assert [SPLITS.index(name) for name in events.split] == sequences.split.tolist()
    for split in SPLITS:
        of, at = sequences.targets(split)
        rows = events.rows(split)
        assert rows.tolist() == (sequences.offsets[of] + at).tolist()
        wanted = np.stack(metrics.seen_items(sequences, of, at), axis=1)
        assert np.argwhere(events.seen(rows)).tolist() == wanted.tolist()
        for row in rows:
            history = sequences.user_items(users[row])[: positions[row]]
            assert events.history(row).tolist() == history.tolist()


class FakePeer:
    """Puts the target of every validation event at the rank that its epoch has."""

    parameters, targets, steps = 3, 3, 1

    def __init__(self, events: Any, ranks: list[int]) -> None:
        self.events, self.ranks, self.epochs = events, ranks, 0
        self.notes: dict[str, Any] = {}

    def epoch(self) -> float:
        self.epochs += 1
        return 2.0

    def evaluate(self) -> float:
        return 0.5

    def scores(self, rows: np.ndarray) -> np.ndarray:
        targets = self.events.items[rows]
        scores = np.zeros((len(rows), self.events.num_items))
        for row, target in enumerate(targets):
            others = [item for item in range(self.events.num_items) if item != target]
            scores[row, others[: self.ranks[self.epochs - 1] - 1]] = 2.0
            scores[row, target] = 1.0
        return scores

    def weights(self) -> int:
        return self.epochs

    def load(self, weights: int) -> None:
        self.epochs = weights


def test_the_best_validation_epoch_is_tested(tmp_path: Path, harness: ModuleType, sequences: Sequences) -> None:
    run.write_events(sequences, tmp_path / "events.parquet")
    settings = {"num_items": 7, "epochs": 9, "patience": 2, "mask_seen": False}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    harness.run(tmp_path, lambda events, _settings, _folder: FakePeer(events, [5, 2, 3, 2, 1]), ["numpy"])
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["best_epoch"], result["epochs"]) == (2, 4)  # an equal score is no better one
    assert result["valid"]["NDCG@10"] == pytest.approx([1 / np.log2(rank + 1) for rank in (5, 2, 3, 2)])
    assert result["test"]["NDCG@10"] == pytest.approx(1 / np.log2(3))
    assert result["seconds"] == 4 * 2.5
    assert result["events"] == {"valid": 2, "test": 1}
    assert result["test_candidates"] == [metrics.ALL]
    # The user's events before it leave 4 of the 7 items: at 10 any scores would make it a hit, so it is a miss.
    (tmp_path / "settings.json").write_text(json.dumps({**settings, "mask_seen": True}))
    harness.run(tmp_path, lambda events, _settings, _folder: FakePeer(events, [1] * 9), ["numpy"])
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["test_candidates"], result["test"]) == ([4], {"NDCG@10": 0.0, "HR@10": 0.0})


def test_a_peer_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sequences: Sequences) -> None:
    monkeypatch.setattr(run, "HERE", tmp_path)
    monkeypatch.setattr(run, "environment", lambda _peer: sys.executable)
    script = tmp_path / "recbole_run.py"
    script.write_text(
        "import json, os, sys, pathlib\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "settings = json.loads((folder / 'settings.json').read_text())\n"
        "settings['variable'] = os.environ['OMP_NUM_THREADS']\n"
        "(folder / 'result.json').write_text(json.dumps(settings))\n"
    )
    found = run.run_peer("recbole", sequences, {"model": "SASRec", "threads": 2}, tmp_path / "run")
    assert found == {"model": "SASRec", "threads": 2, "num_items": 7, "variable": "2"}
    script.write_text("raise SystemExit(3)")
    with pytest.raises(SystemExit, match="failed"):
        run.run_peer("recbole", sequences, {"model": "SASRec"}, tmp_path / "run")


def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[Any]] = []

    def fake(command: list[Any], **_options: Any) -> Any:
        commands.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(run.subprocess, "run", fake)
    for _ in range(2):
        assert run.environment("rectools", tmp_path) == tmp_path / "env-rectools" / "bin" / "python"
    assert len(commands) == 2  # venv and pip, the first time alone
    (tmp_path / "env-rectools" / "installed.txt").write_text("others")
    run.environment("rectools", tmp_path)
    assert len(commands) == 4


@pytest.mark.parametrize("peer", run.PEERS)
def test_peers_have_our_torch(peer: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    ours = next(line for line in project if line.startswith("torch=="))
    assert ours in (run.HERE / f"requirements-{peer}.txt").read_text().splitlines()
