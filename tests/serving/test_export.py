"""The stage export: which policy ships, and what its folder says."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from lea_core.common import tables
from lea_core.common.artifacts import write_json, write_tensors
from lea_core.common.errors import LeaError
from lea_core.common.sources import file_sha256
from lea_core.models.policy_network import PolicyConfig, PolicyNetwork
from lea_core.params import load
from lea_core.serving import Policy
from lea_core.serving.folder import check_folder
from stages import export
from stages.train import settings
from tests.support.lane import PARAMS, change_params
from tests.support.tiny_project import log, write_log

SEQUENCES = log(users=12, longest=7)
PLAIN = {"backbone": "gru4rec", "method": "supervised", "state": "none", "reward": "none", "actions": "none"}
VARIANTS = {
    "one": {**PLAIN, "ranking": "none", "items": "none"},
    "two": {**PLAIN, "ranking": "le", "items": "none", "set": {"train.learning_rate": 0.5}},
    "worst": {**PLAIN, "ranking": "none", "items": "none"},
}
SEEDS = [3, 1]  # in metrics.json their values come in order: 1, then 3
# NDCG@10 by variant: of validation and test, of seed 1 and seed 3
SCORES = {"one": ([0.2, 0.3], [0.9, 0.8]), "two": ([0.5, 0.4], [0.1, 0.2]), "worst": ([0.1, 0.1], [0.95, 0.95])}


def network(variant: str, seed: int) -> PolicyNetwork:
    torch.manual_seed(list(VARIANTS).index(variant) + 10 * seed)
    return PolicyNetwork(PolicyConfig("gru4rec", {"width": 4, "layers": 1, "dropout": 0.0}, 9, 5)).eval()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_log(tmp_path, SEQUENCES)
    shutil.copyfile(PARAMS, tmp_path / "params.yaml")
    change_params(tmp_path, {"variants": VARIANTS, "train.seeds": SEEDS})
    monkeypatch.chdir(tmp_path)
    for name, scores in SCORES.items():
        metrics: dict[str, Any] = {"events": {"valid": 12, "test": 11}}
        for split, values in zip(("valid", "test"), scores, strict=True):
            metrics[split] = {"NDCG@10": {"mean": sum(values) / 2, "sd": abs(values[0] - values[1]), "seeds": values}}
        write_json(Path("data/evaluations", name, "metrics.json"), metrics)
        for seed in SEEDS:
            network(name, seed).save(Path("data/policies", name, f"seed-{seed}"))
        write_json(Path("data/policies", name, "training.json"), {"params": settings(load(), name)})
    return tmp_path


def shipped() -> tuple[Policy, dict[str, Any], dict[str, Any], str]:
    export.main([])
    metrics, made_of = (
        json.loads(Path("data/policy", name).read_text()) for name in ("metrics.json", "provenance.json")
    )
    return Policy.load("data/policy"), metrics, made_of, Path("data/policy/README.md").read_text()


def test_the_best_on_validation_ships_whatever_its_test_scores(project: Path) -> None:
    policy, metrics, made_of, card = shipped()
    assert (metrics["variant"], metrics["seed"], metrics["named"]) == ("two", 1, [])
    assert metrics["valid"]["NDCG@10"] == {"value": 0.5, "mean": 0.45, "sd": pytest.approx(0.1)}
    assert metrics["test"]["NDCG@10"]["value"] == 0.1
    assert metrics["test"]["events"] == 11
    histories = np.array([[0, 4], [7, 8]])
    assert torch.equal(policy.network.scores(histories), network("two", 1).scores(histories))
    assert policy.item_ids == [f"i{item}" for item in range(9)]
    assert policy.counts.tolist() == np.bincount(SEQUENCES.train().items, minlength=9).tolist()
    assert "| NDCG@10 | 0.5000 | 0.1000 | 0.1500 ± 0.1000 |" in card
    assert "GRU4Rec, trained supervised with what a language model gave: a ranking of the items" in card
    assert "12 users" in card
    assert "the best on validation (NDCG@10)" in card
    assert "Items of the history are left out, as they were when it was evaluated" in card
    assert policy.exclude_seen
    assert made_of["params"]["training"]["train"]["learning_rate"] == 0.5  # its own
    assert made_of["params"]["llm"]["source"] == load().llm.source


def test_provenance_by_hand(project: Path) -> None:
    made_of = shipped()[2]
    assert (made_of["commit"], made_of["changed"]) == (None, None)  # the folder is no repository
    path = Path("data/interactions/interactions.parquet")
    assert made_of["data"]["interactions.parquet"] == file_sha256(path)
    assert made_of["versions"]["torch"] == torch.__version__
    before = made_of["params_sha256"]
    assert shipped()[2]["params_sha256"] == before
    for command in (["init", "-q"], ["add", "params.yaml"]):
        subprocess.run(["git", *command], check=True)
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *author, "commit", "-qm", "first"], check=True)
    made_of = shipped()[2]
    assert (len(made_of["commit"]), made_of["changed"]) == (40, False)
    change_params(project, {"export.variant": "one"})
    made_of = shipped()[2]
    assert made_of["changed"] is True
    assert made_of["params"]["llm"] is None
    assert made_of["params_sha256"] != before


def test_the_one_that_is_named(project: Path) -> None:
    change_params(project, {"export": {"variant": "one", "seed": 1}})
    change_params(project, {"evaluate.mask_seen": False})
    policy, metrics, _, card = shipped()
    assert (metrics["variant"], metrics["seed"]) == ("one", 1)
    assert "Items of the history are recommended too, as they were" in card
    assert not policy.exclude_seen
    assert torch.equal(policy.network.actor.weight, network("one", 1).actor.weight)
    assert "section export named its variant and seed" in card
    change_params(project, {"export.seed": None})
    assert shipped()[1]["seed"] == 3  # its best


def test_a_control_never_ships_by_itself(project: Path) -> None:
    change_params(project, {"variants.two.items": "random", "variants.two.ranking": "none", "train.seeds": SEEDS})
    control = {"items-random": {"part": "items", "source": "random"}}
    change_params(project, {"controls.sources": control})
    assert shipped()[1]["variant"] == "one"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"export.variant": "three"}, r"export\.variant: variants has no 'three': write one of them, or null"),
        ({"export.seed": 2}, r"export\.seed 2 is none of train\.seeds: write one of them, or null"),
    ],
)
def test_what_was_not_trained_cannot_ship(change: dict[str, Any], message: str, project: Path) -> None:
    change_params(project, change)
    with pytest.raises(LeaError, match=message):
        export.main([])


def test_the_path_of_new_items(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For a policy whose items started from texts, as far as there are items enough to fit one on."""
    assert "New items cannot enter" in shipped()[3]
    change_params(project, {"variants.one.items": "le", "export.variant": "one"})
    vectors = np.eye(9, dtype=np.float32)
    table = pa.table({"item": np.arange(9, dtype=np.int32), "vector": tables.vectors(vectors)})
    items = Path("data/interactions/items.parquet")
    tables.write_parts(Path("data/items/le.parquet"), [table], tables.ITEM_VECTORS, made_from=items)
    statistics = {"mean": np.zeros(3), "map": np.zeros((3, 9))}
    Path("data/item_tokens").mkdir()
    write_tensors(Path("data/item_tokens/statistics.safetensors"), statistics)
    shipped()
    assert "9 items have text and training events, 10 make a text path" in capsys.readouterr().err
    assert not Path("data/policy/item_path.safetensors").exists()


def test_the_folder_is_whole(project: Path) -> None:
    shipped()
    files = {path.name for path in Path("data/policy").iterdir()}
    assert {*check_folder(Path("data/policy")), "manifest.json"} == files
