"""What both peers' scripts share: the loop over epochs with early stopping, and the result.

In: a folder with settings.json, which names the data set's log (data/interactions). Out: result.json there.

This runs in the peers' environments, with those modules of lea_core that need numpy, pyarrow and torch alone. A peer
trains on the training events; the history of a validation or test event is all events of its user before it, of
whatever split. Ranks are made by lea_core of the peer's scores, so that no two libraries' metrics are compared; the
seconds of an evaluation are those of the peer's own ranking of all items.
"""

from __future__ import annotations

import json
import platform
import resource
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lea_core.data.sequences import Sequences, read_sequences
from lea_core.metrics.full_ranking import Ranked, rank_events

if TYPE_CHECKING:
    from torch import Tensor

SELECTION = "NDCG@10"
CUTOFF = 10
BATCH = 512  # events; changes no result


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

    def scores(self, items: np.ndarray) -> Tensor:
        """(B, I) scores of all items, -inf for an item that the model does not know.

        items: (B, T), the whole histories, right-aligned, -1 for none.
        """

    def weights(self) -> Any:
        """A copy of the weights."""

    def load(self, weights: Any) -> None:
        """Take these weights."""


def rank(peer: Peer, log: Sequences, split: str, mask_seen: bool, most: int | None = None, listed: int = 0) -> Ranked:
    """The events of `split`, or the first `most` of them, ranked by a peer's scores."""
    users, positions = (part[:most] for part in log.targets(split))
    longest = int(np.diff(log.offsets).max(initial=1))
    return rank_events(peer.scores, log, users, positions, longest, mask_seen, BATCH, listed)


def run(folder: Path, prepare: Callable[[Sequences, dict[str, Any], Path], Peer], packages: list[str]) -> None:
    """Train a peer until the validation score stops rising, and write result.json."""
    started = time.perf_counter()
    settings = json.loads((folder / "settings.json").read_text())
    log = read_sequences(Path(settings["log"]))
    peer = prepare(log, settings, folder)
    prepared = time.perf_counter() - started
    train_seconds, train_cpu_seconds, valid_seconds = [], [], []
    curve: list[dict[str, float]] = []
    best, best_weights = -1, peer.weights()
    for epoch in range(settings["epochs"]):
        cpu = time.process_time()
        train_seconds.append(peer.epoch())
        train_cpu_seconds.append(time.process_time() - cpu)
        valid_seconds.append(peer.evaluate())
        curve.append(rank(peer, log, "valid", settings["mask_seen"]).metrics([CUTOFF]))
        print(f"epoch {epoch + 1}: {train_seconds[-1]:.2f} s, valid {valid_seconds[-1]:.2f} s, {curve[-1]}", flush=True)
        if best < 0 or curve[-1][SELECTION] > curve[best][SELECTION]:
            best, best_weights = epoch, peer.weights()
        elif epoch - best >= settings["patience"]:
            break
    peer.load(best_weights)
    test = rank(peer, log, "test", settings["mask_seen"])
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
        "test": test.metrics([CUTOFF]),
        "test_ranks": test.rank.tolist(),  # in the order of users and positions
        "test_candidates": test.candidates.tolist(),
        "events": {split: len(log.targets(split)[0]) for split in ("valid", "test")},
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


def aligned(numbers: np.ndarray, length: int, left: bool) -> np.ndarray:
    """(B, length): the last positive numbers of each row (B, T) in their order, on the left or right of zeros."""
    padded = np.pad(np.maximum(numbers, 0), ((0, 0), (length, 0)))
    order = np.argsort(padded > 0, axis=1, kind="stable")
    last = np.take_along_axis(padded, order, axis=1)[:, -length:]
    return np.take_along_axis(last, np.argsort(last == 0, axis=1, kind="stable"), axis=1) if left else last
