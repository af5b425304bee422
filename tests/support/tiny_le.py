"""A tiny LE over nine items and logs that it can learn; for unit tests alone."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from lea_core.common.checkpoints import Checkpoint
from lea_core.data.sequences import Sequences
from lea_core.environment.distributed import DistributedContext
from lea_core.environment.finetune import Finetuning
from lea_core.environment.model import Environment, Shape
from lea_core.environment.user_split import choose_users
from lea_core.llm.pooled_tokens import ItemTokens
from lea_core.params import LeParams
from tests.support import tiny_llm

ITEMS = 9
SETTINGS: dict[str, Any] = {
    "seed": 0,
    "users_share": 0.5,
    "selection_events": 150,
    "history": 6,
    "recent_items": 2,
    "recent_decay": 0.5,
    "temperature": 0.25,
    "state_negatives": None,
    "reward_negatives": {"uniform": 1, "popular": 1, "text": 1},
    "reward_weight": 1.0,
    "reward_centring": 0.01,
    "weight_decay": 0.0,
    "gradient_clip": 1.0,
    "patience": 20,
    "batch_tokens": 256,
    "heads": {"width": 8, "dropout": 0.0, "epochs": 30, "learning_rate": 0.02},
    "lora": {
        "rank": 2,
        "alpha": 4,
        "targets": ["q_proj", "v_proj"],
        "epochs": 2,
        "learning_rate": 0.005,
        "warmup_share": 0.1,
    },
}


def settings(**changes: Any) -> LeParams:
    """SETTINGS with some changed; those of the heads and of LoRA as `heads_epochs`, `lora_rank`."""
    raw = {name: dict(value) if isinstance(value, dict) else value for name, value in SETTINGS.items()}
    for name, value in changes.items():
        section, _, key = name.partition("_")
        if section in ("heads", "lora"):
            raw[section][key] = value
        else:
            raw[name] = value
    return LeParams(**raw)


def item_tokens(width: int = 16, items: int = ITEMS) -> ItemTokens:
    """Random tokens and random content vectors of unit length."""
    rng = np.random.default_rng(0)
    content = rng.normal(size=(items, 4)).astype(np.float32)
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    token, pooled = rng.normal(size=(2, items, width)).astype(np.float32)
    return ItemTokens(token, pooled, content)


def make(folder: Path, kind: str = "llama", items: int = ITEMS, **changes: Any) -> Environment:
    """An untrained LE with a random LLM of two layers and random item tokens."""
    shape = {
        "layers": 2,
        "history": 6,
        "recent_items": 2,
        "recent_decay": 0.5,
        "temperature": 0.25,
        "head_width": 8,
        "dropout": 0.0,
        "lora_rank": 2,
        "lora_alpha": 4,
        "lora_targets": ["c_attn"] if kind == "gpt2" else ["q_proj", "v_proj"],
    }
    torch.manual_seed(0)
    return Environment(tiny_llm.load(folder, 2, kind), item_tokens(items=items), Shape(**{**shape, **changes}))


def shake(le: Environment) -> Environment:
    """Give every trainable part a random value, as training would."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in [*le.adapter().values(), *le.heads.parameters()]:
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        le.heads.counts.copy_(torch.arange(le.num_items))
        le.heads.hidden_mean.fill_(0.1)
        le.heads.hidden_deviation.fill_(0.7)
    return le


def sequences(*users: list[int], held_out: int = 0, items: int = ITEMS) -> Sequences:
    """These users' items; the last `held_out` events (at most two) of each are validation and test events."""
    split = [[0] * (len(user) - held_out) + [1, 2][:held_out] for user in users]
    offsets = np.concatenate([[0], np.cumsum([len(user) for user in users])]).astype(np.int64)
    flat = np.array([item for user in users for item in user], dtype=np.int64)
    return Sequences(flat, np.array([code for user in split for code in user], dtype=np.int8), offsets, items)


def circle(users: int, length: int) -> Sequences:
    """Every user walks the nine items in a circle: item x is always followed by x + 2. Last two events held out."""
    return sequences(*[[(user + 2 * place) % ITEMS for place in range(length)] for user in range(users)], held_out=2)


def finetuning(
    le: Environment,
    log: Sequences,
    p: LeParams,
    checkpoint: Checkpoint | None = None,
    distributed: DistributedContext | None = None,
) -> Finetuning:
    """A fine-tuning of the LE on the training events of the share of users that `p` wants."""
    train = log.train()
    users, unseen = choose_users(train, p.users_share, np.random.default_rng(p.seed))
    return Finetuning(le, train, users, unseen, p, checkpoint, distributed)
