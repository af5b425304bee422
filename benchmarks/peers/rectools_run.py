"""RecTools' SASRec on our events; in the RecTools environment: `python -m benchmarks.peers.rectools_run FOLDER`.

In: settings.json in FOLDER (see harness.py); `model` is SASRec, `batch` counts sessions. Out:
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
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

from benchmarks.peers import harness
from benchmarks.peers.harness import BATCH, CUTOFF
from lea_core.data.sequences import Sequences


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

    def __init__(self, log: Sequences, settings: dict[str, Any], _folder: Path) -> None:
        if settings["model"] != "SASRec" or settings["weight_decay"]:
            raise SystemExit("RecTools has no GRU4Rec, and its SASRec no weight decay")
        torch.set_num_threads(settings["threads"])
        seed_everything(settings["seed"], verbose=False)
        self.log, self.length, self.mask_seen = log, settings["history"], settings["mask_seen"]
        self.train = training_data(log, self.length, settings.get("sessions", "windows") == "windows")
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
        self.internal = np.zeros(log.num_items + 1, dtype=np.int64)  # 0 of items that it does not know, and of -1
        self.internal[external[1:].astype(np.int64)] = np.arange(1, len(external))
        events = {split: list(zip(*log.targets(split), strict=True)) for split in ("valid", "test")}
        targets = {split: [log.user_items(user)[place] for user, place in found] for split, found in events.items()}
        self.notes: dict[str, Any] = {
            "evaluation": f"recommend(k={CUTOFF}) for the validation events",
            "sessions": len(loader.dataset),
            "unknown_items": int((self.internal[:-1] == 0).sum()),
            "unknown_targets": {split: int((self.internal[items] == 0).sum()) for split, items in targets.items()},
            "same_recommendations": [],  # share of what `recommend` gives that our ranking of its scores has as well
        }
        self.valid = dataset([log.user_items(user)[:place] for user, place in events["valid"]])

    def epoch(self) -> float:
        """Train one epoch; its seconds, without what `fit_partial` does before."""
        self.model.fit_partial(self.train, min_epochs=1, max_epochs=1)
        return next(one.seconds for one in self.model.fit_trainer.callbacks if isinstance(one, Clock))

    def evaluate(self) -> float:
        """Recommend for the validation events; its seconds."""
        started = time.perf_counter()
        found = self.model.recommend(
            users=np.arange(len(self.log.targets("valid")[0])),
            dataset=self.valid,
            k=CUTOFF,
            filter_viewed=self.mask_seen,
            on_unsupported_targets="ignore",
        )
        seconds = time.perf_counter() - started
        self.notes["same_recommendations"].append(self.share_of(found))
        return seconds

    def share_of(self, found: pd.DataFrame) -> float:
        """How many of these recommendations, of the first events, are among the best of `scores`."""
        best = harness.rank(self, self.log, "valid", self.mask_seen, BATCH, CUTOFF).top
        found = found[found[Columns.User] < BATCH]
        same = sum(len(np.intersect1d(items, best[user])) for user, items in found.groupby(Columns.User)[Columns.Item])
        return same / max(len(found), 1)

    @torch.no_grad()
    def scores(self, items: np.ndarray) -> torch.Tensor:
        """(B, I) scores of all items for histories (B, T), -inf for those that RecTools does not know."""
        torch_model = self.model.torch_model.eval()
        given = harness.aligned(self.internal[items], self.length, left=False)
        vectors = torch_model.item_model.get_all_embeddings()
        states = torch_model.encode_sessions({"x": torch.from_numpy(given)}, vectors)[:, -1]
        found = (states @ vectors.T)[:, torch.from_numpy(self.internal[:-1])]
        return found.masked_fill(torch.from_numpy(self.internal[:-1] == 0), -torch.inf)

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the weights."""
        return {name: weight.clone() for name, weight in self.model.torch_model.state_dict().items()}

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        """Take these weights."""
        self.model.torch_model.load_state_dict(weights)


def training_data(log: Sequences, length: int, windows: bool) -> Dataset:
    """The training events as sessions of at most `length` + 1 events; without `windows` each user's last one alone."""
    train, sessions = log.train(), []
    for user in range(train.num_users):
        items = train.user_items(user)
        stop = len(items)
        while stop > 1:  # from the end, so that the last session is the full one
            start = max(0, stop - length - 1)
            sessions.append(items[start:stop])
            stop = start + 1 if windows else 0
    return dataset(sessions)


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
