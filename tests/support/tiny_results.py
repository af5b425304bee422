"""Four variants of seven users, evaluated and trained on paper: what a report reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from lea_core.common.tables import RANKS, vectors, write_table
from lea_core.evaluation.results import Result, read_results
from lea_core.params import Variant
from tests.support.tiny_project import log, write_log, write_tokens

PLAIN = {"backbone": "sasrec", "state": "none", "reward": "none", "actions": "none", "ranking": "none", "items": "none"}
VARIANTS = {
    "snqn": Variant(**PLAIN, method="snqn"),
    "supervised": Variant(**PLAIN, method="supervised"),
    "supervised-actions": Variant(**PLAIN | {"actions": "le"}, method="supervised"),
    "gru4rec": Variant(**PLAIN | {"backbone": "gru4rec"}, method="snqn"),
}
# NDCG@10 and HR@10 of two seeds.
SCORES = {
    "snqn": ([0.11, 0.13], [0.2, 0.2]),
    "supervised": ([0.10, 0.10], [0.2, 0.3]),
    "supervised-actions": ([0.08, 0.09], [0.1, 0.2]),
    "gru4rec": ([0.05, 0.05], [0.1, 0.1]),
}


QUALITY = {"users": 9, "valid": {"events": 7, "le_ndcg10": 0.06}, "test": {"le_ndcg10": 0.05}}


def score(values: list[float]) -> dict[str, object]:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "sd": deviation, "seeds": values}


SEEDS = [0, 1]
LOG = log(7)  # seven users, so seven test events
# Of the users under seed 0, then under seed 1: the variants differ in what the first users get.
RANKED = {
    "snqn": [1.0, 1.0, 1.0, 4.5, 5.0, 2.0, 3.0, 1.0, 1.0, 2.0, 4.0, 5.0, 2.0, 3.0],
    "supervised": [2.0, 2.0, 3.0, 4.5, 5.0, 2.0, 3.0, 1.0, 3.0, 3.0, 4.0, 5.0, 2.0, 3.0],
    "supervised-actions": [2.0, 2.0, 3.0, 4.5, 5.0, 2.0, 3.0, 1.0, 3.0, 3.0, 4.0, 5.0, 2.0, 4.0],
    "gru4rec": [2.0, 2.0, 3.0, 4.5, 5.0, 2.0, 3.0, 1.0, 3.0, 3.0, 4.0, 5.0, 2.0, 3.0],
}


HOW = {"items": 60, "mask_seen": True}


def counted(events: int) -> dict[str, object]:
    """What metrics.json counts of test events of as many users; two are of items that their users had before."""
    return {
        "events": {"valid": 1, "test": events},
        "users": {"valid": 1, "test": events},
        "misses": {"test": {"repeated": 2, "no_candidate": 1, "few": {"10": 0}}},
    }


def write_evaluation(folder: Path, ndcg: list[float], hit_rate: list[float], ranks: list[float]) -> None:
    test = {"HR@10": score(hit_rate), "NDCG@10": score(ndcg)}
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({**HOW, **counted(7), "test": test, "valid": test}))
    users, positions = LOG.targets("test")
    count = len(ranks) // len(users)
    columns = {
        "seed": np.repeat(np.arange(count, dtype=np.int32), len(users)),
        "split": ["test"] * len(ranks),
        "user": np.tile(users, count).astype(np.int32),
        "position": np.tile(positions, count).astype(np.int32),
        "event": [""] * len(ranks),
        "item": np.tile(LOG.items[LOG.offsets[users] + positions], count).astype(np.int32),
        "rank": np.array(ranks, dtype=np.float32),
        "candidates": np.full(len(ranks), 50, dtype=np.int32),
        "top": vectors(np.tile(np.arange(20, dtype=np.int32) % 9, (len(ranks), 1))),
    }
    write_table(folder / "ranks.parquet", pa.table(columns), RANKS)


def write_variant(data: Path, name: str, ndcg: list[float], hit_rate: list[float], ranks: list[float]) -> None:
    policy = data / "policies" / name
    policy.mkdir(parents=True)
    write_evaluation(data / "evaluations" / name, ndcg, hit_rate, ranks)
    (policy / "curves.csv").write_text("seed,epoch,loss,HR@10,NDCG@10\n0,1,2.0,.2,.05\n0,2,1.5,.2,.06\n1,1,2,.1,.04\n")
    seeds = {str(seed): {"seconds": 2.5, "best_epoch": seed + 1, "steps": 3} for seed in SEEDS}
    (policy / "training.json").write_text(json.dumps({"seeds": seeds}))


def write_baseline(data: Path, name: str, ranks: list[float], ndcg: float = 0.07) -> None:
    folder = data / "baselines" / name
    write_evaluation(folder, [ndcg], [0.15], ranks)
    cost = {"seconds_per_user": 0.002, "needs_llm": name == "le"}
    (folder / "cost.json").write_text(json.dumps(cost))


def results_of(data: Path, variants: Mapping[str, Variant] = VARIANTS, baselines: Sequence[str] = ()) -> list[Result]:
    return read_results(data, variants, SEEDS, baselines)


def write_results(root: Path) -> Path:
    """data/ below `root`."""
    folder = root / "data"
    for name, (ndcg, hit_rate) in SCORES.items():
        write_variant(folder, name, ndcg, hit_rate, RANKED[name])
    (folder / "le_quality").mkdir()
    (folder / "le_quality" / "summary.json").write_text(json.dumps(QUALITY))
    events = {"users": 9, "valid": {"events": 7}, "test": {"events": 6}}
    (folder / "le_quality" / "quality.json").write_text(json.dumps(events))
    (folder / "value").mkdir()
    (folder / "value" / "value.csv").write_text(
        "variant,estimator,value,low,high,effective_sample_size,clipped_share\nsnqn,ips,0.5,0.4,0.6,5.0,0.1\n"
    )
    (folder / "value" / "behaviour.json").write_text(json.dumps({"in_words": ["The mean weight is 5."]}))
    write_log(root, LOG)
    write_tokens(root)
    return folder
