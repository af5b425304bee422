"""Training speed and quality: our learners, packed and in the papers' way, RecBole and RecTools. `make bench-train`.

In: MovieLens, and the data sets of settings/ that are there. Out: benchmarks/results/train.json and
train.md, or files of another name (--out).

Quality first: every system tries the same settings (GRID), validation NDCG@10 chooses, and the best is trained from
several seeds; test scores play no part in the choice. Then speed, all systems in one go: seconds per epoch with one
ranking of all items for the validation events, one thread each, the median of rounds that take turns. Trainings are
kept (systems.py), so a killed run goes on; speed is always measured anew.

    python -m benchmarks.peers.train --data ml-100k --systems supervised rectools:SASRec --quality-only
    python -m benchmarks.peers.train --data scientific --systems supervised snqn recbole:SASRec --out train-scientific
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.peers.systems import FAITHFUL, PATIENCE, Data, Run, Trial, train
from benchmarks.support.jobs import RESULTS
from benchmarks.support.prepared import datasets, prepare_stages, where
from benchmarks.support.written import table, write_ordered_json, write_text
from lea_core.data.sequences import read_sequences
from lea_core.evaluation.significance import Comparison, compare, user_means
from lea_core.metrics.protocol import Protocol
from lea_core.metrics.ranking import by_name

HISTORY = {"ml-100k": 50, "ml-100k-by-user": 50, "scientific": 20, "lastfm": 50}  # scientific: 7 events in the mean
OURS = ("supervised", "supervised-gru4rec", "snqn", "sa2c")
FAITHFULS = ("snqn" + FAITHFUL, "sa2c" + FAITHFUL)
PEERS = ("rectools:SASRec", "recbole:SASRec", "recbole:GRU4Rec")
GRID = (
    {"learning_rate": 0.001, "dropout": 0.3},
    {"learning_rate": 0.003, "dropout": 0.3},
    {"learning_rate": 0.003, "dropout": 0.5},
)
SEEDS = {"recbole:SASRec": 1, "recbole:GRU4Rec": 1, **dict.fromkeys(FAITHFULS, 1)}  # five of the others
# The baseline that each system is compared with, seed by seed and user by user; `twin` in the kept results.
BASELINES = {
    "snqn": "supervised",
    "sa2c": "supervised",
    "rectools:SASRec": "supervised",
    "recbole:SASRec": "supervised",
    "recbole:GRU4Rec": "supervised-gru4rec",
    "snqn-faithful": "snqn",
    "sa2c-faithful": "sa2c",
}
# The papers' way and RecBole take hours on all data sets: what each is asked for, where it is not everything.
ASKED = {
    "ml-100k-by-user": (*OURS, "rectools:SASRec"),
    "scientific": (*OURS, "rectools:SASRec", "recbole:SASRec"),
    "lastfm": (*OURS, "rectools:SASRec", "recbole:SASRec"),
}
RATIOS = {  # name in train.json: slow system, fast system
    "ratio_faithful_snqn": ("snqn-faithful", "snqn"),
    "ratio_faithful_sa2c": ("sa2c-faithful", "sa2c"),
    "ratio_recbole_sasrec": ("recbole:SASRec", "supervised"),
    "ratio_recbole_gru4rec": ("recbole:GRU4Rec", "supervised-gru4rec"),
    "ratio_rectools_sasrec": ("rectools:SASRec", "supervised"),
}
ROUNDS, TIMED_EPOCHS = 3, 3


def load_data(name: str) -> Data:
    """A data set after preprocess."""
    folder, params = prepare_stages(name, ("fetch_data", "preprocess"), label="-log")
    return Data(name, folder, params, read_sequences(folder / "data" / "interactions"), HISTORY[name])


def chosen(data: Data, system: str, seeds: int) -> list[Run]:
    """The best setting of the grid on validation, from so many seeds."""
    trials = [train(Trial(data, system, settings, 0)) for settings in GRID]
    best = max(trials, key=lambda run: run.valid)
    return [train(Trial(data, system, best.settings, seed)) for seed in range(seeds)]


def quality(data: Data, systems: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Validation and test scores of the systems, and each beside its baseline."""
    runs = {system: chosen(data, system, SEEDS.get(system, 5)) for system in systems}
    found = {}
    for system, own in runs.items():
        test = [run.test["NDCG@10"] for run in own]
        found[system] = {
            "trials": len(GRID),
            "settings": own[0].settings,
            "seeds": len(own),
            "valid_ndcg10": float(np.mean([run.valid for run in own])),
            "test_ndcg10": float(np.mean(test)),
            "test_ndcg10_sd": float(np.std(test, ddof=1)) if len(test) > 1 else None,
            "test_hr10": float(np.mean([run.test["HR@10"] for run in own])),
            "epochs": float(np.mean([run.epochs for run in own])),
        }
        if (other := BASELINES.get(system)) in runs:
            found[system] |= {"twin": other, "against_twin": against(data, own, runs[other])}
    return found


def against(data: Data, runs: Sequence[Run], others: Sequence[Run]) -> dict[str, float]:
    """The difference of test NDCG@10, mean over events, over the seeds that both have."""
    seeds = min(len(runs), len(others))
    users, _ = data.sequences.targets("test")
    scores = (np.array([ndcg10(run) for run in part[:seeds]]) for part in (runs, others))  # (S, N)
    (own, events), (other, _) = (user_means(part, users) for part in scores)  # (S, U) and (U,)
    found: Comparison = compare(own, other, events, np.random.default_rng(0))
    return {"difference": found.difference, "low": found.low, "high": found.high, "p": found.p_randomisation}


def ndcg10(run: Run) -> np.ndarray:
    """NDCG@10 of each test event, (N,)."""
    return by_name("NDCG@10", np.array(run.test_ranks), np.array(run.test_candidates))


def protocol(data: Data) -> str:
    """What the test scores of a data set are means over, and what was ranked."""
    users, _ = data.sequences.targets("test")
    mask_seen = data.params.evaluate.mask_seen
    return Protocol(len(users), len(np.unique(users)), data.sequences.num_items, mask_seen).in_words


def speed(data: Data, systems: Sequence[str]) -> dict[str, dict[str, float]]:
    """Seconds per epoch of each system, in rounds that take turns."""
    seconds: dict[str, list[float]] = {system: [] for system in systems}
    steps = {}
    for turn in range(ROUNDS):
        for system in systems:
            if system.startswith("recbole") and turn:
                continue  # half a minute per epoch: once
            run = train(Trial(data, system, GRID[0], 0, TIMED_EPOCHS), fresh=True)
            seconds[system].append(run.seconds_per_epoch)
            steps[system] = run.steps_per_epoch
    return {
        system: {"seconds_per_epoch": float(np.median(found)), "rounds": found, "steps_per_epoch": steps[system]}
        for system, found in seconds.items()
    }


def markdown(result: Mapping[str, Any]) -> list[str]:
    """The tables of train.md."""
    place = result["where"]
    lines = [
        "# Training: speed and quality",
        "",
        f"`{place['command']}` at {place['commit'][:10]}, {place['processor']}, {place['cores']} cores, a thread each; "
        "trainings that were kept may be of an earlier commit. "
        f"Each system: {len(GRID)} settings (learning rate, dropout), the best by validation, patience {PATIENCE}. "
        "The interval is of the difference from the twin (95 %, bootstrap over users), p of a paired randomisation "
        "test over users.",
        "",
    ]
    head = "system | >s / epoch | >valid NDCG@10 | >test NDCG@10 | >seeds | twin | >difference | >p"
    for name, found in result["data"].items():
        times = found.get("speed", {})
        rows = [
            [
                system,
                f"{times[system]['seconds_per_epoch']:.2f}" if system in times else "",
                *words(found["quality"].get(system)),
            ]
            for system in {**found["quality"], **times}
        ]
        lines += [f"## {name}", "", f"NDCG@10 and HR@10: {found['protocol']}", "", *table(head, rows), ""]
    ratios = ([name, f"{value:.1f}"] for name, value in result.items() if name.startswith("ratio_"))
    return [*lines, *table("ratio of seconds per epoch | >", ratios)]


def words(row: Mapping[str, Any] | None) -> list[str]:
    """What the table says of a system's quality; nothing where it was not asked for."""
    if row is None:
        return [""] * 6
    spread = f" ± {row['test_ndcg10_sd']:.4f}" if row["test_ndcg10_sd"] is not None else ""
    found = [f"{row['valid_ndcg10']:.4f}", f"{row['test_ndcg10']:.4f}{spread}", str(row["seeds"])]
    if "twin" not in row:
        return [*found, "", "", ""]
    twin = row["against_twin"]
    difference = f"{twin['difference']:+.4f} ({twin['low']:+.4f} to {twin['high']:+.4f})"
    return [*found, row["twin"], difference, f"{twin['p']:.4f}"]


def main() -> None:
    """Quality, speed, and the two files."""
    parser = argparse.ArgumentParser(description="Training speed and quality beside RecBole and RecTools.")
    parser.add_argument("--data", nargs="+", default=list(HISTORY))
    parser.add_argument("--systems", nargs="+", default=[*OURS, *FAITHFULS, *PEERS])
    parser.add_argument("--speed-only", nargs="+", default=[], help="systems whose quality is not asked for")
    parser.add_argument("--quality-only", action="store_true", help="train what is not kept yet, and write nothing")
    parser.add_argument("--out", default="train", help="name of the two files in benchmarks/results")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    command = " ".join(["python -m benchmarks.peers.train", *sys.argv[1:]])
    result: dict[str, Any] = {"where": {**where(), "command": command}, "data": {}}
    for name in datasets(options.data):
        data = load_data(name)
        systems = [system for system in options.systems if system in ASKED.get(name, options.systems)]
        judged = [system for system in systems if system not in options.speed_only]
        result["data"][name] = {"quality": quality(data, judged), "protocol": protocol(data)}
        if name == "ml-100k" and not options.quality_only:
            times = speed(data, systems)
            result["data"][name]["speed"] = times
            for ratio, (slow, fast) in RATIOS.items():
                if slow in times and fast in times:
                    result[ratio] = times[slow]["seconds_per_epoch"] / times[fast]["seconds_per_epoch"]
    if not options.quality_only:
        write_ordered_json(RESULTS / f"{options.out}.json", result)
        write_text(RESULTS / f"{options.out}.md", markdown(result))
        print("\n".join(markdown(result)))


if __name__ == "__main__":
    main()
