"""What both peers' scripts share: the events, the loop over epochs with early stopping, and the result.

In: a folder with events.parquet (user, position, item, split; sorted by user and position, items numbered from 0) and
settings.json. Out: result.json in the same folder.

This runs in the peers' environments: numpy and pyarrow are all it needs. A peer trains on the training events alone;
the history of a validation or test event is all events of its user before it, of whatever split. Ranks are made here
of the peer's scores, so that no two libraries' metrics are compared; the seconds of an evaluation are those of the
peer's own ranking of all items.
"""

from __future__ import annotations

import json
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow.parquet as pq
from ranking import at_cutoff, ranks  # beside this file, where the scripts are started

SELECTION = "NDCG@10"
CUTOFF = 10
RANKED_AT_ONCE = 512  # events; changes no result


@dataclass(frozen=True)
class Events:
    """All events, (N,) each, sorted by user and position. starts: the row of each event's user's first event."""

    users: np.ndarray
    items: np.ndarray
    split: np.ndarray
    starts: np.ndarray
    num_items: int

    def rows(self, split: str) -> np.ndarray:
        """The rows to predict in `split`: those that an event of the same user precedes."""
        chosen: np.ndarray = np.flatnonzero((self.split == split) & (np.arange(len(self.items)) > self.starts))
        return chosen

    def history(self, row: int) -> np.ndarray:
        """The items of a row's user before it."""
        return self.items[self.starts[row] : row]

    def seen(self, rows: np.ndarray) -> np.ndarray:
        """(B, I) bool: the items of the history of each row."""
        marked = np.zeros((len(rows), self.num_items), dtype=bool)
        for index, row in enumerate(rows):
            marked[index, self.history(row)] = True
        return marked


class Peer(Protocol):
    """A library with one model, ready to train."""

    parameters: int  # trained numbers
    targets: int  # (history, next item) pairs learned from in an epoch
    steps: int  # of the optimiser in an epoch
    notes: dict[str, Any]

    def epoch(self) -> float:
        """Train one epoch; its seconds."""

    def evaluate(self) -> float:
        """Rank all items for the validation events as the library does it; its seconds."""

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """(B, I) scores of all items for events, -inf for an item that the model does not know."""

    def weights(self) -> Any:
        """A copy of the weights."""

    def load(self, weights: Any) -> None:
        """Take these weights."""


def read(folder: Path) -> tuple[Events, dict[str, Any]]:
    """The events and settings of a run."""
    settings = json.loads((folder / "settings.json").read_text())
    table = pq.read_table(folder / "events.parquet")
    users = table["user"].to_numpy()
    starts = np.searchsorted(users, users)  # users are sorted
    split = np.array(table["split"].to_pylist())
    return Events(users, table["item"].to_numpy().astype(np.int64), split, starts, settings["num_items"]), settings


def rank(peer: Peer, events: Events, split: str, mask_seen: bool) -> tuple[np.ndarray, np.ndarray]:
    """The ranks of the events to predict in `split` and how many candidates each had: (N,) both."""
    rows = events.rows(split)
    found = [(np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.int64))]
    for start in range(0, len(rows), RANKED_AT_ONCE):
        part = rows[start : start + RANKED_AT_ONCE]
        found.append(ranks(peer.scores(part), events.items[part], events.seen(part) if mask_seen else None))
    ranked, candidates = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return ranked, candidates


def run(folder: Path, prepare: Callable[[Events, dict[str, Any], Path], Peer], packages: list[str]) -> None:
    """Train a peer until the validation score stops rising, and write result.json."""
    started = time.perf_counter()
    events, settings = read(folder)
    peer = prepare(events, settings, folder)
    prepared = time.perf_counter() - started
    train_seconds, train_cpu_seconds, valid_seconds = [], [], []
    curve: list[dict[str, float]] = []
    best, best_weights = -1, peer.weights()
    for epoch in range(settings["epochs"]):
        cpu = time.process_time()
        train_seconds.append(peer.epoch())
        train_cpu_seconds.append(time.process_time() - cpu)
        valid_seconds.append(peer.evaluate())
        curve.append(at_cutoff(*rank(peer, events, "valid", settings["mask_seen"]), CUTOFF))
        print(f"epoch {epoch + 1}: {train_seconds[-1]:.2f} s, valid {valid_seconds[-1]:.2f} s, {curve[-1]}", flush=True)
        if best < 0 or curve[-1][SELECTION] > curve[best][SELECTION]:
            best, best_weights = epoch, peer.weights()
        elif epoch - best >= settings["patience"]:
            break
    peer.load(best_weights)
    test_ranks, test_candidates = rank(peer, events, "test", settings["mask_seen"])
    result = {
        "settings": settings,
        "epochs": len(curve),
        "best_epoch": best + 1,
        "train_seconds": train_seconds,
        "train_cpu_seconds": train_cpu_seconds,  # what other processes do leaves these alone
        "valid_seconds": valid_seconds,
        "seconds": sum(train_seconds) + sum(valid_seconds),
        "prepare_seconds": prepared,
        "valid": {name: [row[name] for row in curve] for name in curve[0]},
        "test": at_cutoff(test_ranks, test_candidates, CUTOFF),
        "test_ranks": test_ranks.tolist(),  # in the order of users and positions
        "test_candidates": test_candidates.tolist(),
        "events": {split: len(events.rows(split)) for split in ("valid", "test")},
        "parameters": peer.parameters,
        "targets": peer.targets,
        "steps_per_epoch": peer.steps,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "notes": peer.notes,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }
    part = folder / "result.json.part"
    part.write_text(json.dumps(result, indent=1))
    part.replace(folder / "result.json")
