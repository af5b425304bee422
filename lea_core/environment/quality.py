"""Quality of an LE's states and rewards on held-out events of users that it did not learn from.

In: an LE, the sequences, users outside its subset. Out, for their validation events and their test events:
  state    NDCG@10 and HR@10 of the next item, all items ranked by the LE
  reward   the next item compared with uniformly drawn items, equally popular items, and its text neighbours: AUC (over
           all states) and pairwise accuracy (within a state); correlation with popularity; reliability of differences

The LE ranks all items; none is masked. It knows how often users repeat items (heads.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lea_core.common.errors import warn
from lea_core.data.sequences import SPLITS, Sequences, windows
from lea_core.environment.batches import sampled_actions
from lea_core.environment.model import Environment
from lea_core.environment.negatives import TEXT_NEIGHBOURS, text_neighbours
from lea_core.environment.top_items import rank_next
from lea_core.llm.packing import packs
from lea_core.metrics.ranking import metrics
from lea_core.metrics.reward import auc, pairwise_accuracy, popularity_correlation, reliability
from lea_core.params import LeParams, RewardNegatives

KINDS = ("uniform", "popularity", "text_hard")
EACH = 2  # negatives of each kind


def quality(environment: Environment, sequences: Sequences, users: np.ndarray, p: LeParams) -> dict[str, Any]:
    """{"users", "valid": {...}, "test": {...}}; a split without events of `users` is missing."""
    result: dict[str, Any] = {"users": len(users)}
    if not held_out_steps(sequences, users).any():
        return result
    found = _measure(environment, sequences, users, p)
    counts = environment.heads.counts.cpu().numpy()
    for code, name in enumerate(SPLITS):
        chosen = sequences.split[found["event"] + 1] == code
        if chosen.any() and code:
            result[name] = _summary({key: value[chosen] for key, value in found.items()}, counts)
    return result


def held_out_steps(sequences: Sequences, users: np.ndarray) -> np.ndarray:
    """(N,) bool: events of `users` whose next event is a held-out event of the same user."""
    owners, positions = sequences.users_and_positions()
    target = (sequences.split != SPLITS.index("train")) & (positions > 0) & np.isin(owners, users)
    return np.append(target[1:], False)


@torch.inference_mode()
def _measure(environment: Environment, sequences: Sequences, users: np.ndarray, p: LeParams) -> dict[str, np.ndarray]:
    """Event, rank, logged item and reward of every step to a held-out event; negatives, their rewards (N, 3 * EACH)."""
    heads = environment.heads
    chosen = held_out_steps(sequences, users)
    events = np.flatnonzero(chosen)
    actions = np.zeros((len(sequences.items), len(KINDS) * EACH), dtype=np.int64)
    actions[events] = sampled_actions(
        sequences,
        events,
        heads.counts.cpu().numpy(),
        text_neighbours(heads.content.cpu().numpy(), TEXT_NEIGHBOURS),
        RewardNegatives(uniform=EACH, popular=EACH, text=EACH),
        np.random.default_rng([p.seed, 8]),
    )
    able = np.unique(sequences.users_and_positions()[0][chosen])
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("event", "rank", "reward", "rewards")}
    for packed in packs(sequences, windows(sequences, able, p.history), p.batch_tokens, actions.shape[1], chosen):
        if not len(packed.acting):
            continue
        mine = packed.events[packed.acting]
        predicted = environment.predict(sequences, packed, actions[mine])
        parts["event"].append(mine)
        parts["reward"].append(predicted.logged_rewards.cpu().numpy())
        parts["rewards"].append(predicted.rewards.cpu().numpy())
        parts["rank"].append(rank_next(heads, sequences, mine, predicted.states[packed.acting]))
    found = {name: np.concatenate(values) for name, values in parts.items()}
    return found | {"logged": sequences.items[found["event"] + 1], "negatives": actions[found["event"]]}


def _summary(found: dict[str, np.ndarray], counts: np.ndarray) -> dict[str, Any]:
    values = metrics(found["rank"], (10,))
    result: dict[str, Any] = {"events": len(found["rank"]), "ndcg10": values["NDCG@10"], "hr10": values["HR@10"]}
    for number, kind in enumerate(KINDS):
        negatives = found["rewards"][:, number * EACH : (number + 1) * EACH]
        result[f"reward_auc_{kind}"] = auc(found["reward"], negatives)
        result[f"reward_accuracy_{kind}"] = pairwise_accuracy(found["reward"], negatives)
    uniform = slice(0, EACH)
    result["reward_popularity_correlation"] = popularity_correlation(
        found["rewards"][:, uniform], found["negatives"][:, uniform], counts
    )
    # Over the uniform and the equally popular negatives, without the text neighbours.
    result["reliability"] = reliability(found["reward"], found["rewards"][:, : 2 * EACH])
    return result


def worse_than_start(trained: dict[str, Any], start: dict[str, Any]) -> bool:
    """Whether the trained LE is worse on the validation events than its untrained start; warns if so."""
    if "valid" not in trained:
        return False
    (ndcg, accuracy), (start_ndcg, start_accuracy) = (
        (found["valid"]["ndcg10"], found["valid"]["reward_accuracy_uniform"]) for found in (trained, start)
    )
    if ndcg * accuracy >= start_ndcg * start_accuracy:
        return False
    warn(
        f"on validation events of unseen users the LE has NDCG@10 {ndcg:.4f} and reward accuracy {accuracy:.4f}; the "
        f"content similarity that it started from has {start_ndcg:.4f} and {start_accuracy:.4f}: the untrained LE is "
        "kept; see le_curve.csv"
    )
    return True
