"""Evaluation at size: 100,000 users ranked over 100,000 items with the masks and lists of the stage evaluate.

In: nothing; a SASRec of params.yaml's settings with random weights, users with random histories. Out:
benchmarks/results/evaluation.json: seconds, users a second, and the memory that ranking took above what the network and
the log hold.

    make bench-evaluation
"""

from __future__ import annotations

import time

import numpy as np
import torch

from benchmarks.support.jobs import DEFAULTS, RESULTS, peak_mib
from benchmarks.support.prepared import where
from lea_core.common.artifacts import write_json
from lea_core.data.sequences import Sequences
from lea_core.metrics.full_ranking import rank_events
from lea_core.models.policy_network import PolicyConfig, PolicyNetwork
from lea_core.params import load

USERS, ITEMS, LONGEST = 100_000, 100_000, 50


def made_log(users: int, items: int, longest: int) -> Sequences:
    """Random histories of 3 to `longest` items; each user's last event is the test event."""
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(3, longest + 1, users))]).astype(np.int64)
    split = np.zeros(offsets[-1], dtype=np.int8)
    split[offsets[1:] - 1] = 2
    return Sequences(rng.integers(0, items, offsets[-1]), split, offsets, items)


def main() -> None:
    """Rank, and write what it took."""
    params = load(DEFAULTS)
    torch.manual_seed(0)
    config = PolicyConfig("sasrec", params.backbones.sasrec.model_dump(), ITEMS, params.train.history, repeat_bias=True)
    network = PolicyNetwork(config).eval()
    log = made_log(USERS, ITEMS, LONGEST)
    users, positions = log.targets("test")
    before, started = peak_mib(), time.perf_counter()
    ranked = rank_events(
        network.scores, log, users, positions, config.history, True, params.evaluate.batch_users, listed=20
    )
    seconds = time.perf_counter() - started
    found = {
        "users": USERS,
        "items": ITEMS,
        "seconds": round(seconds, 1),
        "users_per_s": round(USERS / seconds),
        "peak_mib": round(peak_mib()),
        "above_start_mib": round(peak_mib() - before),
        # about half the items: the weights are random
        "mean_rank": float(ranked.rank[np.isfinite(ranked.rank)].mean()),
        "listed": int((ranked.top >= 0).sum()),
        "command": "make bench-evaluation",
        **where(),
    }
    write_json(RESULTS / "evaluation.json", found)
    print(found)


if __name__ == "__main__":
    main()
