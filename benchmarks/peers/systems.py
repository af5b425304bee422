"""The systems that `make bench-train` compares, each trained by one call and never twice for the same settings.

In: a data set's sequences, the name of a system, a trial's settings and a seed. Out: `Run`, kept as JSON in
benchmarks/.work/train/, so that a killed benchmark goes on where it was.

All systems get the same data, split, width, layers, window and batch, and rank all items. Ours are the packed learners,
or, with `faithful` in the name, the papers' way (settings/faithful.yaml); the peers run in environments of their own. A
RecBole batch counts samples, one for each transition: it gets about as many as a batch of windows holds on MovieLens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch

from benchmarks.paper.inputs import content_hash
from benchmarks.peers.environments import HERE, run_peer
from benchmarks.support.jobs import SETTINGS, WORK
from benchmarks.support.prepared import changed
from benchmarks.support.written import write_text
from lea_core.common.code_hash import computed_by
from lea_core.common.sources import file_sha256
from lea_core.data.leaks import training_events
from lea_core.data.sequences import Sequences
from lea_core.learners.loop import EVALUATION_BATCH, train_seed
from lea_core.learners.supervision import read_supervision
from lea_core.metrics.full_ranking import rank_events
from lea_core.params import Params, read_yaml
from lea_core.params.overlay import leaves

WIDTH, LAYERS, HEADS, WINDOWS, SAMPLES = 64, 1, 2, 64, 2048
EVALUATE_EVERY = 2  # epochs, ours; the peers' script does it after each
PATIENCE = 6  # epochs
EPOCHS = 40
FAITHFUL = "-faithful"
# What runs in the peers' own environments; their requirements pin the libraries there.
PEERS = tuple(f"benchmarks.peers.{name}" for name in ("harness", "recbole_run", "rectools_run"))
PLAIN = {"state": "none", "reward": "none", "actions": "none", "ranking": "none", "items": "none"}


@dataclass(frozen=True)
class Data:
    """A data set that went through preprocess, and its parameters."""

    name: str
    folder: Path
    params: Params
    sequences: Sequences
    history: int


@dataclass(frozen=True)
class Trial:
    """A training. settings: learning_rate and dropout.

    epochs: exactly so many, each evaluated, for a measurement of time; None: until the validation score stops rising.
    """

    data: Data
    system: str
    settings: Mapping[str, float]
    seed: int
    epochs: int | None = None


@dataclass(frozen=True)
class Run:
    """What came of a training: the best validation score, and the test score there."""

    system: str
    settings: dict[str, float]
    seed: int
    epochs: int
    best_epoch: int
    seconds_per_epoch: float  # training and one ranking of the validation events
    steps_per_epoch: int
    valid: float  # NDCG@10
    test: dict[str, float]  # NDCG@10, HR@10
    test_ranks: list[float]  # by user and position
    test_candidates: list[int]  # of each, see `metrics.by_name`


def train(trial: Trial, fresh: bool = False) -> Run:
    """Train a system, or read what was kept of it. fresh: train again even so."""
    path = kept(trial)
    if path.exists() and not fresh:
        return Run(**json.loads(path.read_text()))
    found = _peer(trial, path.with_suffix("")) if ":" in trial.system else _ours(trial)
    run = Run(trial.system, dict(trial.settings), trial.seed, **found)
    write_text(path, json.dumps(asdict(run)))  # not write_json: a rank may be infinite
    name = f"{trial.data.name} {trial.system} {run.settings} seed {trial.seed}"
    print(f"{name}: valid {run.valid:.4f}, {run.epochs} epochs", flush=True)
    return run


def kept(trial: Trial) -> Path:
    """Where a training is kept: the name holds a hash of the log, the parameters, the code and its libraries."""
    data, system = trial.data, trial.system
    sections = ["preprocess", "dataset", "evaluate", *([] if ":" in system else ["backbones", "methods", "train"])]
    given = {name: getattr(data.params, name).model_dump(mode="json") for name in sections}
    pinned = [file_sha256(file) for file in sorted(HERE.glob("requirements-*.txt"))]
    code = [computed_by("benchmarks.peers.systems", *PEERS), pinned]
    log = content_hash(data.folder / "data" / "interactions")
    whole = [system, dict(trial.settings), trial.seed, trial.epochs, data.history, given, log, code]
    digest = blake2b(json.dumps(whole, sort_keys=True).encode(), digest_size=8).hexdigest()
    return WORK / "train" / data.name / f"{system}-{trial.seed}-{digest}.json"


def variant_params(trial: Trial) -> Params:
    """The parameters of one of our systems: one variant of its name."""
    faithful = trial.system.endswith(FAITHFUL)
    method, _, backbone = trial.system.removesuffix(FAITHFUL).partition("-")
    changes = leaves(read_yaml(SETTINGS / "faithful.yaml")) if faithful else {}
    backbone = backbone or "sasrec"
    changes |= {
        "variants": {trial.system: {"backbone": backbone, "method": method, **PLAIN}},
        f"backbones.{backbone}.width": WIDTH,
        f"backbones.{backbone}.layers": LAYERS,
        f"backbones.{backbone}.dropout": trial.settings["dropout"],
        "train.learning_rate": trial.settings["learning_rate"],
        "train.repeat_bias": False,  # which the peers do not have
        "train.epochs": trial.epochs or EPOCHS,
        "train.evaluate_every": 1 if trial.epochs else EVALUATE_EVERY,
        "train.patience": trial.epochs or PATIENCE // EVALUATE_EVERY,
    }
    if trial.epochs:
        changes["methods.sa2c.warmup_epochs"] = 0  # so that a measurement is of its second phase
    if backbone == "sasrec" and not faithful:
        changes["backbones.sasrec.heads"] = HEADS
    if not faithful:
        changes |= {"train.history": trial.data.history, "train.batches": {"kind": "packed", "size": WINDOWS}}
    return changed(trial.data.params, changes)


def _ours(trial: Trial) -> dict[str, Any]:
    data, params = trial.data, variant_params(trial)
    torch.set_num_threads(1)
    supervision = read_supervision(
        data.folder / "data", params.variant(trial.system), params.train, training_events(data.sequences)
    )
    trained = train_seed(trial.system, trial.seed, params, data.sequences, supervision, torch.device("cpu"))
    events = data.sequences.targets("test")
    history, mask = params.train.history, params.evaluate.mask_seen
    ranked = rank_events(trained.policy.scores, data.sequences, *events, history, mask, EVALUATION_BATCH)
    summary, scores = trained.summary, ranked.metrics([10])
    return {
        "epochs": summary["epochs"],
        "best_epoch": summary["best_epoch"],
        "seconds_per_epoch": summary["seconds"] / summary["epochs"],
        "steps_per_epoch": summary["steps"] // summary["epochs"],
        "valid": summary["NDCG@10"],
        "test": {key: scores[key] for key in ("NDCG@10", "HR@10")},
        "test_ranks": ranked.rank.tolist(),
        "test_candidates": ranked.candidates.tolist(),
    }


def _peer(trial: Trial, folder: Path) -> dict[str, Any]:
    peer, _, model = trial.system.partition(":")
    given = {
        **trial.settings,
        "model": model,
        "width": WIDTH,
        "layers": LAYERS,
        "heads": HEADS,
        "weight_decay": 0.0,
        "batch": SAMPLES if peer == "recbole" else WINDOWS,
        "history": trial.data.history,
        "epochs": trial.epochs or EPOCHS,
        "patience": trial.epochs or PATIENCE,
        "seed": trial.seed,
        "mask_seen": trial.data.params.evaluate.mask_seen,
    }
    result = run_peer(peer, trial.data.folder / "data" / "interactions", given, folder.absolute())
    same = ("epochs", "best_epoch", "steps_per_epoch", "test", "test_ranks", "test_candidates")
    return {
        **{key: result[key] for key in same},
        "seconds_per_epoch": result["seconds"] / result["epochs"],
        "valid": max(result["valid"]["NDCG@10"]),
    }
