"""What each setting of the LE is worth on validation: `make search-le`.

In: MovieLens and ../shared/data/scientific. Out: benchmarks/results/le_search.csv, a row per data set and change: one
setting at a time is changed from params.yaml, the LE is fine-tuned (seed 0) and measured on the validation events of
users outside its subset. A row is known by its data set and change alone, and stays: after a change of code, data or
other settings, remove it by hand, and it is run again.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.environment.quality import tune
from benchmarks.support.jobs import RESULTS
from benchmarks.support.prepared import Prepared, changed, prepare
from benchmarks.support.written import read_csv
from lea_core.common.artifacts import write_csv

RESULT = RESULTS / "le_search.csv"
HEADS = {"finetune_le.lora.epochs": 0}
CHANGES: list[dict[str, Any]] = [
    {},
    HEADS,
    {"finetune_le.state_negatives": 256, **HEADS},
    {"llm.layers": 2},
    {"llm.layers": 12},
    {"finetune_le.lora.rank": 32, "finetune_le.lora.alpha": 64},
    {"finetune_le.lora.targets": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]},
    {"finetune_le.lora.learning_rate": 0.001},
    {"finetune_le.heads.width": 16, **HEADS},
    {"finetune_le.heads.width": 256, **HEADS},
    {"finetune_le.heads.dropout": 0.2, **HEADS},
    {"finetune_le.weight_decay": 0.01, **HEADS},
    {"finetune_le.temperature": 0.05, **HEADS},
    {"finetune_le.temperature": 0.5, **HEADS},
    {"finetune_le.recent_items": 1, **HEADS},
    {"finetune_le.recent_items": 20, "finetune_le.recent_decay": 0.9, **HEADS},
    {"finetune_le.reward_negatives": {"uniform": 3, "popular": 0, "text": 0}, **HEADS},
    {"finetune_le.users_share": 0.05, **HEADS},
    {"finetune_le.users_share": 0.1, **HEADS},
    {"finetune_le.users_share": 0.95, **HEADS},
]
TOKENS: list[dict[str, Any]] = [
    {"tokenize_items.content_width": 128},
    {"tokenize_items.layer": 4},
    {"tokenize_items.layer": 30},
    {"tokenize_items.method": "amortised"},
]


def row(prepared: Prepared, name: str, change: Mapping[str, Any], shown: Mapping[str, Any]) -> dict[str, Any]:
    """Fine-tune with `change` and measure; `shown` names it."""
    started = time.time()
    valid = tune(prepared, changed(prepared.params, change))[3]["le"]["valid"]
    numbers = ("ndcg10", "hr10", "reward_auc_uniform", "reward_auc_popularity", "reward_auc_text_hard")
    return {
        "dataset": name,
        "change": json.dumps(shown),
        **{number: round(valid[number], 4) for number in numbers},
        "seconds": round(time.time() - started),
    }


def main() -> None:
    """Run what is missing."""
    rows = read_csv(RESULT)
    done = {(old["dataset"], old["change"]) for old in rows}
    for name in sys.argv[1:] or ("ml-100k", "scientific"):
        for number, change in enumerate([*CHANGES, *TOKENS]):
            if (name, json.dumps(change)) in done:
                continue
            tokens = change in TOKENS
            prepared = prepare(name, change, f"-{number}") if tokens else prepare(name)
            rows.append(row(prepared, name, HEADS if tokens else change, change))
            print(rows[-1], flush=True)
            write_csv(RESULT, rows)


if __name__ == "__main__":
    main()
