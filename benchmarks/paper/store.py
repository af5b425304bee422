"""What stays of a configuration when its machine is gone: benchmarks/results/cells/<data>/<name>.json and .parquet.

In: the folder of a data set, as far as configurations and baselines have run there. Out, for each: its parameters, the
hashes of what it is made of (inputs.py), scores, validation curves and circumstances (JSON), and the ranks of its test
events (KEPT: a row for each event with a rank by seed; a rank beyond the largest cutoff counts as no other does, and is
written as the cutoff plus one). From these alone report.py makes its tables and tests, on any machine. `make
benchmark` runs what is not kept with the present parameters, and again what is made of other files, code or libraries
than it would be here today. Results from before such hashes were noted stay, and are counted. To run everything again,
delete the folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.paper.inputs import MADE_OF, differences, made_of, parameters_of
from benchmarks.paper.stage import NOTE
from benchmarks.support.jobs import RESULTS
from lea_core.common.artifacts import read_json, write_json
from lea_core.common.tables import Schema, Vector, read_table, to_numpy, vectors, write_table
from lea_core.evaluation.comparisons import UserScores, ranked_tests, scores_by_user
from lea_core.evaluation.results import BASELINE_SEEDS, Cost, Result, Score, read_results
from lea_core.metrics.protocol import Protocol
from lea_core.metrics.ranking import SELECTION, by_name, too_few
from lea_core.params import Params

STORE = RESULTS / "cells"
KEPT: Schema = {"user": pa.int32(), "ranks": Vector(pa.float32())}
STAGES = "stages.json"
CUTOFF = 10  # of the metric by which results are compared


@dataclass(frozen=True)
class Kept:
    """A configuration or a baseline. `users`: NDCG@10 of each on test, seed by seed."""

    result: Result
    users: UserScores
    note: dict[str, Any]


def keep(params: Params, folder: Path, store: Path) -> None:
    """Write what has run in `folder` with these parameters; of what is kept already, only what is of today."""
    data = folder / "data"
    for name in (*params.variants, *params.baselines.names):
        variant, baseline = params.variants.get(name), data / "baselines" / name
        note = _note(params, folder, store, name, data / "cells" / f"{name}.json" if variant else baseline / NOTE)
        if note and variant:
            [result] = read_results(data, {name: variant}, params.train.seeds, [])
            _write(store, params, result, {**note, "best_epochs": result.best_epochs, "curves": result.curves})
        elif note:
            [result] = read_results(data, {}, [], [name])
            _write(store, params, result, {**note, "cost": read_json(baseline / "cost.json")})
    if notes := {file.stem: read_json(file)["seconds"] for file in sorted((data / "seconds").glob("*.json"))}:
        former = read_json(store / STAGES) if (store / STAGES).exists() else {}
        write_json(store / STAGES, {**former, **notes})


def _note(params: Params, folder: Path, store: Path, name: str, path: Path) -> dict[str, Any]:
    """What a result noted when it ran; empty where it is not to be kept."""
    note: dict[str, Any] = read_json(path) if path.exists() else {}
    if note.get("parameters") != parameters_of(params, name) or MADE_OF not in note:
        return {}
    if differences(note, made_of(params, folder, name)) and read_kept(params, store, name):
        return {}
    return note


def _write(store: Path, params: Params, result: Result, note: Mapping[str, Any]) -> None:
    metrics = read_json(result.ranks.with_name("metrics.json"))
    parts = ranked_tests(result, ("seed", "split", "user", "rank", "candidates"))
    most = max(params.evaluate.cutoffs) + 1.0
    ranks = np.minimum(np.stack([to_numpy(part, "rank") for part in parts], axis=1), most)  # (N, S)
    ranks[too_few(to_numpy(parts[0], "candidates"), CUTOFF)] = most
    table = pa.table({"user": parts[0]["user"], "ranks": vectors(ranks)})
    write_table(store / f"{result.name}.parquet", table, KEPT)
    known = {"events": result.events, **{key: metrics[key] for key in ("items", "valid", "test")}}
    write_json(store / f"{result.name}.json", {**known, **note})


def read_kept(params: Params, store: Path, name: str) -> Kept | None:
    """A configuration or baseline with the present parameters; None where there is none."""
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
        Protocol(note["events"], len(np.unique(users)), note.get("items"), params.evaluate.mask_seen),
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
    """Of all stages but the configurations that have run for this data set."""
    return sum(read_json(store / STAGES).values()) if (store / STAGES).exists() else 0.0
