"""A small world for tests of the learners: users who walk round a circle of items, and an LE of made-up numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from ruamel.yaml import YAML

from lea_core.common.tables import (
    ACTIONS,
    INTERACTIONS,
    ITEM_VECTORS,
    ITEMS,
    RANKINGS,
    REWARDS,
    STATES,
    vectors,
    write_table,
)
from lea_core.common.tables import write_parts as write_made
from lea_core.data.sequences import Sequences
from lea_core.learners.critics import CriticNetwork, target_of
from lea_core.learners.supervision import transitions
from lea_core.models.policy_network import PolicyConfig, PolicyNetwork
from lea_core.params import Params, assign
from tests.support.lane import PARAMS

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
NONE = {"state": "none", "reward": "none", "actions": "none", "ranking": "none", "items": "none"}
LE = {"state": "le", "reward": "le", "actions": "le", "ranking": "le", "items": "le"}


def params(changes: dict[str, Any] | None = None) -> Params:
    """The project's parameters at a small size, with dotted changes."""
    raw = YAML(typ="safe", pure=True).load(PARAMS)
    raw["backbones"] |= {
        "sasrec": {"width": 16, "layers": 1, "heads": 2, "dropout": 0.0},
        "gru4rec": {"width": 16, "layers": 1, "dropout": 0.0},
        "caser": {"width": 16, "window": 3, "heights": [2, 3], "filters": 8, "dropout": 0.0},
        "nextitnet": {"width": 16, "dilations": [1], "kernel": 3, "dropout": 0.0},
    }
    raw["variants"] = {
        f"{method}{end}": {"backbone": backbone, "method": method, **parts}
        for method in ("supervised", "sqn", "sac", "snqn", "sa2c")
        for end, backbone, parts in (
            ("", "sasrec", NONE),
            ("-gru4rec", "gru4rec", NONE),
            ("-caser", "caser", NONE),
            ("-nextitnet", "nextitnet", NONE),
            ("-lea", "sasrec", LE),
        )
    }
    raw["variants"]["supervised-lea"]["reward"] = "none"
    small = {
        "methods.sa2c.warmup_epochs": 3,
        "methods.sa2c.q_weight": 1.0,
        "methods.sac.warmup_epochs": 3,
        "methods.snqn.negatives": 5,
        "methods.sa2c.negatives": 5,
        "methods.sac.q_weight": 1.0,
        "train.epochs": 20,
        "train.patience": 20,
        "train.evaluate_every": 1,
        "train.history": 4,
        "train.batches": {"kind": "packed", "size": 8},
        "train.learning_rate": 0.01,
        "train.event_rewards": {"": 1.0, "buy": 5.0},
        "train.le.state_alignment": 0.1,
        "train.repeat_bias": False,
        "preprocess.repeats": True,
        "evaluate.mask_seen": False,
    }
    for key, value in {**small, **(changes or {})}.items():
        assign(raw, key, value)
    return Params.model_validate(raw)


def sequences(lengths: list[int], num_items: int = 10) -> Sequences:
    """Users who walk round a circle of items; the last two events are held out."""
    items = np.concatenate([(user + np.arange(length)) % num_items for user, length in enumerate(lengths)])
    split = np.concatenate([[0] * (length - 2) + [1, 2] for length in lengths]).astype(np.int8)
    return Sequences(items, split, np.concatenate([[0], np.cumsum(lengths)]), num_items)


WORLD = sequences([12] * 12)


def write_parts(folder: Path, data: Sequences, event: str = "") -> Params:
    """Tables of a small LE: reward 2 for logged items above 4, 1 for others, 0 for samples, 1 for odd proposals."""
    users, positions = (column.astype(np.int32) for column in data.users_and_positions())
    names = np.array(["train", "valid", "test"])[data.split]
    interactions = {
        "user": users,
        "position": positions,
        "item": data.items.astype(np.int32),
        "timestamp": positions.astype(np.int64),
        "event": [event] * len(users),
        "rating": np.zeros(len(users), np.float32),
        "split": names,
    }
    made_from = folder / "interactions" / "interactions.parquet"
    write_table(made_from, pa.table(interactions), INTERACTIONS)
    train = data.train()
    users, positions = (column.astype(np.int32) for column in train.users_and_positions())
    rows = transitions(train)
    generator = np.random.default_rng(0)
    state = vectors(generator.normal(size=(len(users), 6)).astype(np.float16))
    states = pa.table({"user": users, "position": positions, "state": state})
    write_made(folder / "states" / "le.parquet", [states], STATES, made_from)
    action = train.items[rows + 1].astype(np.int32)
    others = (action[:, None] + [[5, 6]]).astype(np.int32) % data.num_items
    zeros = vectors(np.zeros_like(others, dtype=np.float32))
    key = {"user": users[rows], "position": positions[rows]}
    rewards = pa.table(
        {
            **key,
            "action": action,
            "reward": (1.0 + (action > 4)).astype(np.float32),
            "sampled_actions": vectors(others),
            "sampled_rewards": zeros,
        }
    )
    write_made(folder / "rewards" / "le.parquet", [rewards], REWARDS, made_from)
    actions = pa.table(
        {**key, "actions": vectors(others), "scores": zeros, "rewards": vectors((others % 2).astype(np.float32))}
    )
    write_made(folder / "actions" / "le.parquet", [actions], ACTIONS, made_from)
    likely = vectors(np.log(np.tile(np.float32([0.5, 0.25, 0.125]), (len(rows), 1))))
    ranked = vectors(np.concatenate([action[:, None], others], axis=1))
    rankings = pa.table({**key, "items": ranked, "log_probabilities": likely})
    write_made(folder / "rankings" / "le.parquet", [rankings], RANKINGS, made_from)
    catalogue = pa.table(
        {
            "item": np.arange(data.num_items, dtype=np.int32),
            "item_id": [str(item) for item in range(data.num_items)],
            "text": [""] * data.num_items,
            "train_count": np.bincount(train.items, minlength=data.num_items).astype(np.int32),
        }
    )
    write_table(made_from.with_name("items.parquet"), catalogue, ITEMS)
    item_vectors = vectors(generator.normal(size=(data.num_items, 20)).astype(np.float32))
    start = pa.table({"item": catalogue["item"], "vector": item_vectors})
    write_made(folder / "items" / "le.parquet", [start], ITEM_VECTORS, made_from.with_name("items.parquet"))
    return params()


def networks(p: Params, num_items: int, le_width: int | None) -> tuple[CriticNetwork, CriticNetwork]:
    torch.manual_seed(0)
    settings = p.backbones.sasrec.model_dump()
    online = CriticNetwork(PolicyNetwork(PolicyConfig("sasrec", settings, num_items, 4)), None, le_width, 3)
    target = target_of(online)
    for weight in target.parameters():
        weight += 0.3 * torch.randn_like(weight)  # so that online and target differ
    return online, target
