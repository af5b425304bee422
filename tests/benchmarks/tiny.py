"""Kept results of the paper-scale benchmark, made up: which users each policy is right for is known by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.paper.inputs import note_of
from benchmarks.paper.params import params_of, read_benchmark
from benchmarks.paper.slices import keep_events
from benchmarks.paper.stage import NOTE
from benchmarks.paper.store import keep
from lea_core.common.artifacts import write_csv, write_json
from lea_core.common.tables import RANKS, vectors
from lea_core.data.sequences import Sequences
from lea_core.metrics.full_ranking import write_evaluation
from lea_core.metrics.ranking import ALL
from lea_core.params import Params
from tests.support.tiny_project import log, write_log, write_tokens

BENCHMARK = read_benchmark()


def write_ranks(folder: Path, sequences: Sequences, seeds: list[int], shares: dict[str, float]) -> None:
    """Ranks of made-up policies: by split, the item of this share of the users is first, that of the others at 99."""
    parts = []
    for seed in seeds:
        for split, share in shares.items():
            users, positions = sequences.targets(split)
            numbers = {
                "seed": np.full(len(users), seed),
                "user": users,
                "position": positions,
                "item": sequences.items[sequences.offsets[users] + positions],
                "rank": np.where(users < share * sequences.num_users, 1.0, 99.0),
                "candidates": np.full(len(users), ALL),
            }
            columns: dict[str, Any] = {name: pa.array(column, RANKS[name]) for name, column in numbers.items()}
            columns |= {"split": pa.array([split] * len(users)), "event": pa.array([""] * len(users))}
            columns |= {"top": vectors(np.zeros((len(users), 1), dtype=np.int32))}
            parts.append(pa.table({name: columns[name] for name in RANKS}))
    write_evaluation(folder, pa.concat_tables(parts), sequences, [5, 10, 20])


SHARES = {  # valid, test
    "sasrec-supervised": (0.2, 0.2),
    "sasrec-snqn": (0.3, 0.4),
    "sasrec-snqn-lea": (0.6, 0.7),
    "sasrec-supervised-lea": (0.5, 0.9),  # better on test, which must not count
    "sasrec-snqn-state": (0.4, 0.8),
    "sasrec-snqn-state-shuffled": (0.9, 0.5),
    "sasrec-snqn-state-text": (0.1, 0.1),
    "sasrec-snqn-reward": (0.1, 0.5),
}


def keep_configurations(folder: Path) -> tuple[Params, Path]:
    """A data set of 100 users of whose configurations eight have run, and a ninth with other parameters."""
    _, params = params_of({**BENCHMARK, "changes": {"train.seeds": [0, 1]}}, "scientific")
    sequences = log(100)
    write_log(folder, sequences)
    write_tokens(folder)
    data = folder / "data"
    for name, (valid, test) in {**SHARES, "sasrec-sa2c-lea": (1.0, 1.0)}.items():
        write_ranks(data / "evaluations" / name, sequences, [0, 1], {"valid": valid, "test": test})
        policy = data / "policies" / name
        policy.mkdir(parents=True)
        write_json(policy / "training.json", {"seeds": {str(s): {"seconds": 1.0, "best_epoch": 2} for s in (0, 1)}})
        write_csv(policy / "curves.csv", [{"seed": 0, "epoch": 2, "NDCG@10": valid}])
        where = {"commit": "c" * 40, "processor": "P", "cores": 2, "gpu": None, "torch": "2"}
        note = {**note_of(params, folder, name), "seconds": 1800.0, "where": where}
        if name not in SHARES:
            note["parameters"]["train"]["learning_rate"] = 1.0
        write_json(data / "cells" / f"{name}.json", note)
    write_json(data / "seconds" / "finetune_le.json", {"seconds": 5400.0})
    write_ranks(data / "baselines" / "popularity", sequences, [0], {"valid": 0.1, "test": 0.1})
    write_json(data / "baselines" / "popularity" / "cost.json", {"seconds_per_user": 0.0, "needs_llm": False})
    write_json(data / "baselines" / "popularity" / NOTE, note_of(params, folder, "popularity"))
    keep(params, folder, folder / "store")
    keep_events(params, folder, folder / "store")
    return params, folder / "store"
