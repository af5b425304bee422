"""RecBole's SASRec or GRU4Rec on our events; in its environment: `python -m benchmarks.peers.recbole_run FOLDER`.

In: settings.json in FOLDER (see harness.py); `model` is SASRec or GRU4Rec, `batch` counts samples.
Out: result.json.

RecBole is given finished samples (its `benchmark_filename`): each training event but a user's first is the target of
one sample, whose history is the last `history` training events before it. That is what its own augmentation makes of a
user, and any split can be said so. Cross-entropy runs over all items and RecBole's padding item 0.
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.trainer import Trainer
from recbole.utils import get_model, init_seed

from benchmarks.peers import harness
from lea_core.data.sequences import SPLITS, Sequences

NAME = "lea"


class RecBole:
    """One of RecBole's sequential models with its trainer."""

    def __init__(self, log: Sequences, settings: dict[str, Any], folder: Path) -> None:
        torch.set_num_threads(settings["threads"])
        self.length = settings["history"]
        write_samples(log, self.length, folder / NAME)
        config = Config(model=settings["model"], dataset=NAME, config_dict=configuration(settings, folder))
        init_seed(settings["seed"], config["reproducibility"])
        dataset = create_dataset(config)
        self.train, self.valid, _ = data_preparation(config, dataset)
        self.model = get_model(settings["model"])(config, self.train.dataset)
        self.trainer = Trainer(config, self.model)
        self.trainer.eval_collector.data_collect(self.train)  # as `Trainer.fit` begins
        ours = dataset.field2id_token["item_id"][1:].astype(np.int64)  # of each of RecBole's items but 0, padding
        self.internal = np.zeros(log.num_items + 1, dtype=np.int64)  # of our items, and 0 of -1, which is none
        self.internal[ours] = np.arange(1, log.num_items + 1)
        self.epochs = 0
        self.parameters = sum(weight.numel() for weight in self.model.parameters() if weight.requires_grad)
        self.targets, self.steps = len(self.train.dataset), len(self.train)
        self.notes: dict[str, Any] = {"evaluation": "Trainer.evaluate, seen items ranked too", "own_ndcg": []}

    def epoch(self) -> float:
        """Train one epoch; its seconds."""
        started = time.perf_counter()
        self.trainer._train_epoch(self.train, self.epochs)
        self.epochs += 1
        return time.perf_counter() - started

    def evaluate(self) -> float:
        """Rank all items for the validation events; its seconds."""
        started = time.perf_counter()
        found = self.trainer.evaluate(self.valid, load_best_model=False)
        self.notes["own_ndcg"].append(float(found["ndcg@10"]))
        return time.perf_counter() - started

    @torch.no_grad()
    def scores(self, items: np.ndarray) -> torch.Tensor:
        """(B, I) scores of all items for histories (B, T)."""
        self.model.eval()
        given = harness.aligned(self.internal[items], self.length, left=True)
        fields = {"item_id_list": torch.from_numpy(given), "item_length": torch.from_numpy((given > 0).sum(axis=1))}
        found: torch.Tensor = self.model.full_sort_predict(Interaction(fields)).view(len(items), -1)
        return found[:, torch.from_numpy(self.internal[:-1])]

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the weights."""
        return {name: weight.clone() for name, weight in self.model.state_dict().items()}

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        """Take these weights."""
        self.model.load_state_dict(weights)


def configuration(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """RecBole's names for our settings; what is not here stays at its default."""
    width, dropout = settings["width"], settings["dropout"]
    models = {
        "SASRec": {
            "n_layers": settings["layers"],
            "n_heads": settings["heads"],
            "hidden_size": width,
            "inner_size": width,  # as in the paper and in ours; RecBole's default is 4 times as wide
            "hidden_dropout_prob": dropout,
            "attn_dropout_prob": dropout,
        },
        "GRU4Rec": {
            "embedding_size": width,
            "hidden_size": width,
            "num_layers": settings["layers"],
            "dropout_prob": dropout,
        },
    }
    return {
        **models[settings["model"]],
        "loss_type": "CE",
        "train_neg_sample_args": None,  # cross-entropy over all items samples none
        "learner": "adamw" if settings["weight_decay"] else "adam",
        "learning_rate": settings["learning_rate"],
        "weight_decay": settings["weight_decay"],
        "train_batch_size": settings["batch"],
        "epochs": settings["epochs"],
        "seed": settings["seed"],
        "MAX_ITEM_LIST_LENGTH": settings["history"],
        "data_path": str(folder),
        "checkpoint_dir": str(folder / "saved"),
        "benchmark_filename": ["train", "valid", "test"],
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "LIST_SUFFIX": "_list",
        "ITEM_LIST_LENGTH_FIELD": "item_length",
        "alias_of_item_id": ["item_id_list"],
        "load_col": {"inter": ["user_id", "item_id", "item_id_list"], "item": ["item_id"]},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
        "metrics": ["NDCG", "Hit"],
        "topk": [10],
        "valid_metric": "NDCG@10",
        "gpu_id": "",
        "use_gpu": False,
        "show_progress": False,
        "state": "ERROR",
    }


def write_samples(log: Sequences, length: int, folder: Path) -> None:
    """RecBole's files: the catalogue, and a history and a target for each event of a split."""
    folder.mkdir(exist_ok=True)
    catalogue = "\n".join(map(str, range(log.num_items)))
    (folder / f"{NAME}.item").write_text(f"item_id:token\n{catalogue}\n")
    for split in SPLITS:
        lines = ["user_id:token\titem_id:token\titem_id_list:token_seq"]
        for user, position in zip(*log.targets(split), strict=True):
            items = log.user_items(user)
            history = " ".join(map(str, items[max(position - length, 0) : position]))
            lines.append(f"{user}\t{items[position]}\t{history}")
        (folder / f"{NAME}.{split}.inter").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=FutureWarning)
    where = Path(sys.argv.pop()).resolve()  # RecBole reads the command line too
    harness.run(where, RecBole, ["recbole", "torch", "numpy", "pandas", "scipy"])
