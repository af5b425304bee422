"""RecTools' SASRec on our events; runs in the RecTools environment: `python rectools_run.py FOLDER`.

In: events.parquet and settings.json in FOLDER (see harness.py); `model` is SASRec, `batch` counts sessions. Out:
result.json.

RecTools learns from the last `history` + 1 events of a user. With `sessions: windows` a longer user is cut into
sessions that overlap in one event, so that every training event but the first is once a target, as with us (we cut
anew in each epoch, here the cuts stay); with `sessions: last` the older ones are lost, as in RecTools itself. Items
without a training event do not exist for it: their score is -inf, and a history is what it knows of it.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import harness
import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

CUTOFF = 10


class Clock(Callback):
    """The seconds of the last epoch of training."""

    seconds = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Start."""
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Stop."""
        self.seconds = time.perf_counter() - self.started


def lightning_trainer() -> Trainer:
    """RecTools' own trainer without its messages, and with a clock."""
    return Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Clock()],
    )


class RecTools:
    """RecTools' SASRec and its data."""

    def __init__(self, events: harness.Events, settings: dict[str, Any], _folder: Path) -> None:
        if settings["model"] != "SASRec" or settings["weight_decay"]:
            raise SystemExit("RecTools has no GRU4Rec, and its SASRec no weight decay")
        torch.set_num_threads(settings["threads"])
        seed_everything(settings["seed"], verbose=False)
        self.events, self.length, self.mask_seen = events, settings["history"], settings["mask_seen"]
        windows = settings.get("sessions", "windows") == "windows"
        self.train = training_data(events, self.length, windows)
        self.model = SASRecModel(
            n_blocks=settings["layers"],
            n_heads=settings["heads"],
            n_factors=settings["width"],
            dropout_rate=settings["dropout"],
            session_max_len=self.length,
            loss="softmax",
            lr=settings["learning_rate"],
            batch_size=settings["batch"],
            recommend_torch_device="cpu",
            get_trainer_func=lightning_trainer,
        )
        self.model._build_model_from_dataset(self.train)  # as the first `fit_partial` does, which does it again
        self.parameters = sum(weight.numel() for weight in self.model.torch_model.parameters() if weight.requires_grad)
        loader = self.model.data_preparator.get_dataloader_train()
        self.targets, self.steps = sum(int((batch["yw"] > 0).sum()) for batch in loader), len(loader)
        external = self.model.data_preparator.item_id_map.external_ids  # its item 0 is padding
        self.internal = np.full(events.num_items, -1)
        self.internal[external[1:].astype(np.int64)] = np.arange(1, len(external))
        self.notes: dict[str, Any] = {
            "evaluation": f"recommend(k={CUTOFF}) for the validation events",
            "sessions": len(loader.dataset),
            "unknown_items": int((self.internal < 0).sum()),
            "unknown_targets": {
                split: int((self.internal[events.items[events.rows(split)]] < 0).sum()) for split in ("valid", "test")
            },
            "same_recommendations": [],  # share of what `recommend` gives that our ranking of its scores has as well
        }
        self.valid_rows = events.rows("valid")
        self.valid = histories(events, self.valid_rows)

    def epoch(self) -> float:
        """Train one epoch; its seconds, without what `fit_partial` does before."""
        self.model.fit_partial(self.train, min_epochs=1, max_epochs=1)
        return next(one.seconds for one in self.model.fit_trainer.callbacks if isinstance(one, Clock))

    def evaluate(self) -> float:
        """Recommend for the validation events; its seconds."""
        started = time.perf_counter()
        found = self.model.recommend(
            users=np.arange(len(self.valid_rows)),
            dataset=self.valid,
            k=CUTOFF,
            filter_viewed=self.mask_seen,
            on_unsupported_targets="ignore",
        )
        seconds = time.perf_counter() - started
        self.notes["same_recommendations"].append(self.share_of(found))
        return seconds

    def share_of(self, found: pd.DataFrame) -> float:
        """How many of these recommendations are among the best of `scores`."""
        same, part = 0, self.valid_rows[: harness.RANKED_AT_ONCE]
        scores = self.scores(part)
        if self.mask_seen:
            scores[self.events.seen(part)] = -np.inf
        best = np.argsort(-scores, axis=1, kind="stable")[:, :CUTOFF]
        found = found[found[Columns.User] < len(part)]
        for user, items in found.groupby(Columns.User)[Columns.Item]:
            same += len(np.intersect1d(items, best[user]))
        return same / max(len(found), 1)

    @torch.no_grad()
    def scores(self, rows: np.ndarray) -> np.ndarray:
        """(B, I) scores of all items for events, -inf for those that RecTools does not know."""
        torch_model = self.model.torch_model.eval()
        items = np.zeros((len(rows), self.length), dtype=np.int64)
        for index, row in enumerate(rows):
            history = self.internal[self.events.history(row)]
            history = history[history > 0][-self.length :]
            items[index, self.length - len(history) :] = history
        vectors = torch_model.item_model.get_all_embeddings()
        states = torch_model.encode_sessions({"x": torch.from_numpy(items)}, vectors)[:, -1]
        known = self.internal >= 0
        found = np.full((len(rows), self.events.num_items), -np.inf, dtype=np.float32)
        found[:, known] = (states @ vectors.T).numpy()[:, self.internal[known]]
        return found

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the weights."""
        return {name: weight.clone() for name, weight in self.model.torch_model.state_dict().items()}

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        """Take these weights."""
        self.model.torch_model.load_state_dict(weights)


def training_data(events: harness.Events, length: int, windows: bool) -> Dataset:
    """The training events as sessions of at most `length` + 1 events; without `windows` each user's last one alone."""
    train = np.flatnonzero(events.split == "train")
    bounds = np.flatnonzero(np.diff(events.users[train], prepend=-1, append=-1))
    sessions = []
    for first, end in pairwise(bounds):
        stop = end
        while stop - first > 1:  # from the end, so that the last session is the full one
            start = max(first, stop - length - 1)
            sessions.append(events.items[train[start:stop]])
            stop = start + 1 if windows else first
    return dataset(sessions)


def histories(events: harness.Events, rows: np.ndarray) -> Dataset:
    """The whole history of each row, which is user 0, 1, 2, ..."""
    return dataset([events.history(row) for row in rows])


def dataset(sequences: list[np.ndarray]) -> Dataset:
    """A RecTools data set of these items, one user after the other."""
    users = np.repeat(np.arange(len(sequences)), [len(items) for items in sequences])
    when = pd.to_datetime(np.arange(len(users)), unit="s")
    columns = {
        Columns.User: users,
        Columns.Item: np.concatenate(sequences),
        Columns.Weight: 1.0,
        Columns.Datetime: when,
    }
    return Dataset.construct(pd.DataFrame(columns))


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    harness.run(Path(sys.argv[1]).resolve(), RecTools, ["rectools", "pytorch-lightning", "torch", "numpy", "pandas"])
