"""What the benchmarks' peers are given and how they are ranked; no peer is installed here."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.peers import environments, harness
from benchmarks.support.jobs import ROOT
from lea_core.data.sequences import Sequences
from lea_core.metrics import ranking as metrics
from tests.support.tiny_project import write_log

# Users of 5, 1 and 3 events.
LOG = Sequences(
    np.array([3, 1, 4, 1, 5, 2, 0, 4, 3]),
    np.array([0, 0, 0, 1, 2, 2, 0, 0, 1], dtype=np.int8),
    np.array([0, 5, 6, 9]),
    7,
)


def test_the_scripts_need_no_more_than_the_peers_environments_have() -> None:
    missing = ("aiohttp", "fsspec", "optuna", "polars", "pydantic", "safetensors", "scipy", "torch", "transformers")
    code = f"import sys; sys.modules |= dict.fromkeys({missing}); import benchmarks.peers.harness"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_histories_are_aligned() -> None:
    numbers = np.array([[0, 4, 0, 5, 6], [0, 0, 0, 0, 7], [1, 2, 3, 4, 5]])
    assert harness.aligned(numbers, 3, left=False).tolist() == [[4, 5, 6], [0, 0, 7], [3, 4, 5]]
    assert harness.aligned(numbers, 3, left=True).tolist() == [[4, 5, 6], [7, 0, 0], [3, 4, 5]]
    assert harness.aligned(numbers[:, 3:], 4, left=False).tolist() == [[0, 0, 5, 6], [0, 0, 0, 7], [0, 0, 4, 5]]


FOLLOWING = {(3, 1, 4): 1, (0, 4): 3, (3, 1, 4, 1): 5}


class FakePeer:
    """Puts the item that follows a history at the rank that its epoch has."""

    parameters, targets, steps = 3, 3, 1

    def __init__(self, ranks: list[int]) -> None:
        self.ranks, self.epochs = ranks, 0
        self.notes: dict[str, Any] = {}

    def epoch(self) -> float:
        self.epochs += 1
        return 2.0

    def evaluate(self) -> float:
        return 0.5

    def scores(self, items: np.ndarray) -> torch.Tensor:
        scores = torch.zeros(len(items), LOG.num_items)
        for row, history in enumerate(items):
            target = FOLLOWING[tuple(history[history >= 0].tolist())]
            others = [item for item in range(LOG.num_items) if item != target]
            scores[row, others[: self.ranks[self.epochs - 1] - 1]] = 2.0
            scores[row, target] = 1.0
        return scores

    def weights(self) -> int:
        return self.epochs

    def load(self, weights: int) -> None:
        self.epochs = weights


def test_the_best_validation_epoch_is_tested(tmp_path: Path) -> None:
    write_log(tmp_path, LOG)
    settings = {"log": str(tmp_path / "data" / "interactions"), "epochs": 9, "patience": 2, "mask_seen": False}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    harness.run(tmp_path, lambda *_: FakePeer([5, 2, 3, 2, 1]), ["numpy"])
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["best_epoch"], result["epochs"]) == (2, 4)  # an equal score is no better one
    assert result["valid"]["NDCG@10"] == pytest.approx([1 / np.log2(rank + 1) for rank in (5, 2, 3, 2)])
    assert result["test"]["NDCG@10"] == pytest.approx(1 / np.log2(3))
    assert result["seconds"] == 4 * 2.5
    assert result["events"] == {"valid": 2, "test": 1}
    assert result["test_candidates"] == [metrics.ALL]
    # The user's events before it leave 4 of the 7 items: at 10 any scores would make it a hit, so it is a miss.
    (tmp_path / "settings.json").write_text(json.dumps({**settings, "mask_seen": True}))
    harness.run(tmp_path, lambda *_: FakePeer([1] * 9), ["numpy"])
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["test_candidates"], result["test"]) == ([4], {"HR@10": 0.0, "NDCG@10": 0.0, "MRR@10": 0.0})


def test_a_peer_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []

    def fake(command: list[Any], cwd: Path, env: dict[str, str]) -> Any:
        ran[:] = [command, env["OMP_NUM_THREADS"], env["PYTHONPATH"], json.loads((cwd / "settings.json").read_text())]
        (cwd / "result.json").write_text('{"epochs": 4}')
        return type("Done", (), {"returncode": len(command) - 4})

    monkeypatch.setattr(environments, "environment", lambda _peer: "python")
    monkeypatch.setattr(environments.subprocess, "run", fake)
    found = environments.run_peer("recbole", tmp_path / "log", {"model": "SASRec", "threads": 2}, tmp_path / "run")
    settings = {"model": "SASRec", "threads": 2, "log": str(tmp_path / "log")}
    assert found == {"epochs": 4}
    assert ran == [["python", "-m", "benchmarks.peers.recbole_run", tmp_path / "run"], "2", str(ROOT), settings]
    monkeypatch.setattr(environments.subprocess, "run", lambda *_, **__: type("Done", (), {"returncode": 3}))
    with pytest.raises(SystemExit, match=r"recbole_run\.py failed"):
        environments.run_peer("recbole", tmp_path / "log", {"model": "SASRec"}, tmp_path / "run")


def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[Any]] = []

    def fake(command: list[Any], **_options: Any) -> Any:
        commands.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(environments.subprocess, "run", fake)
    for _ in range(2):
        assert environments.environment("rectools", tmp_path) == tmp_path / "env-rectools" / "bin" / "python"
    assert len(commands) == 2  # venv and pip, the first time alone
    (tmp_path / "env-rectools" / "installed.txt").write_text("others")
    environments.environment("rectools", tmp_path)
    assert len(commands) == 4


@pytest.mark.parametrize("peer", environments.PEERS)
def test_peers_have_our_torch(peer: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    ours = next(line for line in project if line.startswith("torch=="))
    assert ours in (environments.HERE / f"requirements-{peer}.txt").read_text().splitlines()
