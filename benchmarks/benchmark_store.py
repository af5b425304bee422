"""What stays of a cell when its machine is gone: benchmarks/results/cells/<data>/<name>.json and .parquet.

In: the folder of a data set, as far as cells and baselines have run there. Out, for each: its parameters, scores,
validation curves and circumstances (JSON), and the ranks of its test events (KEPT: a row for each event with a rank by
seed; a rank beyond the largest cutoff counts as no other does, and is written as the cutoff plus one). From these alone
benchmark.py makes its tables and tests, on any machine; `make benchmark` runs what is not kept with the present
parameters. To run everything again, delete the folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.benchmark_stage import own_parameters
from benchmarks.common import ROOT
from lea_core.artifacts import read_json, write_json
from lea_core.evidence import UserScores, ranked_tests, scores_by_user
from lea_core.metrics import by_name, too_few
from lea_core.params import Params
from lea_core.protocol import Protocol
from lea_core.results import BASELINE_SEEDS, SELECTION, Cost, Result, Score, read_results
from lea_core.tables import Schema, Vector, read_table, to_numpy, vectors, write_table

STORE = ROOT / "benchmarks" / "results" / "cells"
KEPT: Schema = {"user": pa.int32(), "ranks": Vector(pa.float32())}
STAGES = "stages.json"
CUTOFF = 10  # of the metric by which results are compared
TEXTS = ("le", "text_knn")  # baselines that read item texts


@dataclass(frozen=True)
class Kept:
    """A cell or a baseline. `users`: NDCG@10 of each on test, seed by seed."""

    result: Result
    users: UserScores
    note: dict[str, Any]


def parameters_of(params: Params, name: str) -> dict[str, Any]:
    """All that a cell or baseline depends on, and no path of this machine."""
    le = {
        "llm": params.llm.model_dump(include={"sha256", "layers"}),
        "tokenize_items": params.tokenize_items.model_dump(mode="json"),
        "finetune_le": params.finetune_le.model_dump(mode="json"),
        "annotate": params.annotate.model_dump(include={"sampled_actions", "seed"}),
        "augment": params.augment.model_dump(mode="json"),
        "rank": params.rank.model_dump(mode="json"),
        "controls": params.controls.seed,
    }
    data = data_of(params)
    if name in params.variants:
        own = {**own_parameters(params, name), **data}
        return {**own, **le} if params.variants[name].uses_le else own
    own = {
        "baseline": params.baselines.model_dump(mode="json").get(name),
        "evaluate": params.evaluate.model_dump(include={"cutoffs", "mask_seen"}),
        **data,
    }
    return {**own, **le} if name in TEXTS else own


def data_of(params: Params) -> dict[str, Any]:
    """What the log of a data set depends on, and no path of this machine."""
    return {
        "dataset": _without_sources(params.dataset.model_dump(mode="json")),
        "preprocess": params.preprocess.model_dump(mode="json"),
    }


def _without_sources(section: Mapping[str, Any]) -> dict[str, Any]:
    """The same but for where files lie: their hashes say what they are."""
    return {
        key: _without_sources(value) if isinstance(value, Mapping) else value
        for key, value in section.items()
        if key != "source"
    }


def keep(params: Params, folder: Path, store: Path) -> None:
    """Write what has run in `folder` with these parameters."""
    data = folder / "data"
    for name in params.variants:
        path = data / "cells" / f"{name}.json"
        note = read_json(path) if path.exists() else {}
        if note.get("parameters") == own_parameters(params, name):
            [result] = read_results(data, {name: params.variants[name]}, params.train.seeds, [])
            circumstances = {"seconds": note["seconds"], "where": note["where"]}
            _write(store, params, result, {**circumstances, "best_epochs": result.best_epochs, "curves": result.curves})
    for name in params.baselines.names:
        if (data / "baselines" / name / "metrics.json").exists():
            [result] = read_results(data, {}, [], [name])
            _write(store, params, result, {"cost": read_json(data / "baselines" / name / "cost.json")})
    if notes := {file.stem: read_json(file)["seconds"] for file in sorted((data / "seconds").glob("*.json"))}:
        former = read_json(store / STAGES) if (store / STAGES).exists() else {}
        write_json(store / STAGES, {**former, **notes})


def _write(store: Path, params: Params, result: Result, note: Mapping[str, Any]) -> None:
    metrics = read_json(result.ranks.with_name("metrics.json"))
    parts = ranked_tests(result, ("seed", "split", "user", "rank", "candidates"))
    most = max(params.evaluate.cutoffs) + 1.0
    ranks = np.minimum(np.stack([to_numpy(part, "rank") for part in parts], axis=1), most)  # (N, S)
    ranks[too_few(to_numpy(parts[0], "candidates"), CUTOFF)] = most
    table = pa.table({"user": parts[0]["user"], "ranks": vectors(ranks)})
    write_table(store / f"{result.name}.parquet", table, KEPT)
    known = {"events": result.events, "valid": metrics["valid"], "test": metrics["test"]}
    write_json(store / f"{result.name}.json", {"parameters": parameters_of(params, result.name), **known, **note})


def read_kept(params: Params, store: Path, name: str) -> Kept | None:
    """A cell or baseline with the present parameters; None where there is none."""
    path = store / f"{name}.json"
    note = read_json(path) if path.exists() else {}
    if not note or note["parameters"] != parameters_of(params, name):
        return None
    curves = note.get("curves", {})
    table = read_table(path.with_suffix(".parquet"), KEPT)
    users = to_numpy(table, "user")
    result = Result(
        name,
        params.variants.get(name),
        path.with_suffix(".parquet"),
        Protocol(note["events"], len(np.unique(users)), None, params.evaluate.mask_seen),
        scores_of(note["test"]),
        curve=[
            {"seed": float(seed), "epoch": float(place), SELECTION: score}
            for seed, scores in curves.items()
            for place, score in enumerate(scores)
        ],
        best_epochs=note.get("best_epochs", []),
        cost=Cost(**note["cost"]) if "cost" in note else None,
        valid=scores_of(note["valid"]),
    )
    scores = by_name(f"NDCG@{CUTOFF}", to_numpy(table, "ranks").T)  # (S, N)
    return Kept(result, scores_by_user(result, scores, users), note)


def scores_of(metrics: Mapping[str, Any]) -> dict[str, Score]:
    """The scores of a split of metrics.json."""
    return {name: Score(**score) for name, score in metrics.items()}


def seeds_of(params: Params, result: Result) -> list[int]:
    """In the order of its scores."""
    return sorted(params.train.seeds if result.variant else BASELINE_SEEDS)


def stage_seconds(store: Path) -> float:
    """Of all stages but the cells that have run for this data set."""
    return sum(read_json(store / STAGES).values()) if (store / STAGES).exists() else 0.0
