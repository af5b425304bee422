"""The LE and cheap replacements of it, role by role, on users that it did not learn from.

In: a trained LE with its own measurements, the sequences, its states. Out: one dictionary, as plots.py draws it, for
valid and test events (states, rewards) and for training events (actions).

  state    text neighbours of the last item (raw and whitened vectors), item neighbours (counted over the LE's users,
           and over all users), popularity; optionally ablations of the LE, trained in the same way from the same start:
           `small_transformer`, at most two layers without pre-training over the same item tokens, all weights trained
           (is the LLM needed?), and `random_llm`, the same LLM with random weights, which also makes the item tokens
           and content vectors (is its pre-training needed?)
  reward   the LE's before and after training; those of the ablations
  actions  share of the first k proposals with a later interaction in training, and their diversity; if users may repeat
           items, also the share of the LE's proposals from the history, and how often a step repeats an item

The LE ranks all items, and proposes as `augment` does. The other methods do not know how often users repeat items, so
for them the items of the history are excluded; `*_unmasked` is without this exclusion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lea_core.baselines import neighbours
from lea_core.data.sequences import SPLITS, Sequences, count_repeats, in_history, learning_steps
from lea_core.environment import model as environment
from lea_core.environment.finetune import Finetuning
from lea_core.environment.model import Environment
from lea_core.environment.quality import KINDS, quality
from lea_core.environment.top_items import propose
from lea_core.llm.language_model import LanguageModel
from lea_core.llm.pooled_tokens import ItemTokens, pooled_tokens
from lea_core.metrics.beyond_accuracy import diversity
from lea_core.metrics.full_ranking import Scorer, rank_events
from lea_core.metrics.proposals import later_interaction_share
from lea_core.params import Params

CUTOFFS = (1, 5, 10)
SMALL_LAYERS = 2
BATCH = 512  # events whose scores of all items are in memory at once
Quality = dict[str, Any]


def scorers(train: Sequences, subset: np.ndarray, tokens: ItemTokens) -> dict[str, Scorer]:
    """Scorers that need no training, by name."""
    return {
        "popularity": neighbours.popularity(np.bincount(train.items, minlength=train.num_items)),
        "text_raw": neighbours.text_neighbours(tokens.pooled),
        "text_whitened": neighbours.text_neighbours(tokens.content),
        "item_neighbours_subset": neighbours.item_neighbours(neighbours.of_users(train, subset)),
        "item_neighbours": neighbours.item_neighbours(train),
    }


def states(
    sequences: Sequences, users: np.ndarray, known: Mapping[str, Scorer], history: int
) -> dict[str, dict[str, dict[str, float]]]:
    """{split: {method: {"ndcg10", "hr10"}}} of the scorers on the held-out events of `users`."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    for split in SPLITS[1:]:
        who, where = sequences.targets(split)
        mine = np.isin(who, users)
        if not mine.any():
            continue
        result[split] = {}
        for name, scorer in known.items():
            for masked in (True, False):
                ranked = rank_events(scorer, sequences, who[mine], where[mine], history, masked, BATCH)
                values = ranked.metrics((10,))
                key = name if masked else f"{name}_unmasked"
                result[split][key] = {"ndcg10": values["NDCG@10"], "hr10": values["HR@10"]}
    return result


def actions(
    le: Environment,
    train: Sequences,
    users: np.ndarray,
    le_states: np.ndarray,
    known: Mapping[str, Scorer],
    content: np.ndarray,
    repeats: bool,
) -> dict[str, dict[str, float]]:
    """{source: {"share1", "share5", "share10", "share1_after_next", .., "coverage", "gini", "distance"}}.

    `users` must be outside the LE's subset, and no source may have seen their later events. le_states: (N, C + K), of
    all training events. Where users may repeat (`repeats`), the LE has "history1", "history5", "history10" too, the
    share of its first proposals that are in the history, and "steps_that_repeat", the share of the logged next items.
    """
    owners, positions = train.users_and_positions()
    events = np.flatnonzero(learning_steps(train) & np.isin(owners, users))
    users, positions = owners[events], positions[events]
    count = min(max(CUTOFFS), train.num_items - int(np.diff(train.offsets).max()) - 1)
    result: dict[str, dict[str, float]] = {}
    for name in ("le", *known):
        result[name] = {}
        for skip_next, ending in ((False, ""), (True, "_after_next")):
            if name == "le":
                proposed, _ = propose(le.heads, train, events, le_states[events], count, not repeats, skip_next)
            else:
                rank = neighbours.by_history(known[name], train, le.shape.history)
                proposed, _ = neighbours.propose(rank, train, users, positions, count, skip_next)
            shares = later_interaction_share(proposed, train, users, positions, CUTOFFS, skip_next)
            result[name] |= {f"share{cutoff}{ending}": share for cutoff, share in shares.items()}
            if not skip_next:
                result[name] |= diversity(proposed, content)
            if repeats and skip_next and name == "le":  # as augment proposes
                had = in_history(train, users, positions, proposed)
                result[name] |= {f"history{cutoff}": float(had[:, :cutoff].mean()) for cutoff in shares}
                result[name]["steps_that_repeat"] = count_repeats(train, events) / len(events)
    return result


def ablations(
    names: Sequence[str],
    load: Callable[[int], LanguageModel],
    texts: list[str],
    tokens: ItemTokens,
    sequences: Sequences,
    users: np.ndarray,
    unseen: np.ndarray,
    params: Params,
) -> dict[str, Quality]:
    """Train each ablation of the LE on `users` and measure it on `unseen`, both as for the LE.

    `load(n)` gives the LLM's architecture with its first n layers and random weights.
    """
    result = {}
    for name in names:
        p, layers, own_tokens = params.finetune_le, params.llm.layers, tokens
        if name == "small_transformer":
            p = p.model_copy(update={"lora": p.lora.model_copy(update={"rank": 0})})  # all weights
            layers = min(layers or SMALL_LAYERS, SMALL_LAYERS)
        else:
            own_tokens = pooled_tokens(
                load(params.tokenize_items.layer),
                texts,
                params.tokenize_items.text_tokens,
                params.tokenize_items.content_width,
            ).tokens
        le = environment.new(load(layers), own_tokens, p)
        Finetuning(le, sequences.train(), users, unseen, p).run()
        result[name] = quality(le, sequences, unseen, p)
    return result


def assemble(
    own: Mapping[str, Quality], ablated: Mapping[str, Quality], others: dict[str, dict[str, dict[str, float]]]
) -> Quality:
    """{"users", "valid": {"state", "reward", "reliability"}, "test": ...}.

    own: the LE's data/le/quality.json, "le" and "content_start".  ablated: of `ablations`.  others: of `states`.
    """
    judged = {**own, **ablated}
    result: Quality = {"users": own["le"]["users"]}
    for split, methods in others.items():
        of = {name: found[split] for name, found in judged.items()}
        result[split] = {
            "events": of["le"]["events"],
            "state": {name: {key: found[key] for key in ("ndcg10", "hr10")} for name, found in of.items()} | methods,
            "reward": {
                name: {f"auc_{kind}": found[f"reward_auc_{kind}"] for kind in KINDS}
                | {"popularity_correlation": found["reward_popularity_correlation"]}
                for name, found in of.items()
            },
            "reliability": of["le"]["reliability"]["curve"],
            "calibration_error": of["le"]["reliability"]["calibration_error"],
        }
    return result


def summary(found: Quality) -> Quality:
    """The same in flat rows per split, for a table: {"users", "valid": {name: number}, "test": ...}."""
    result: Quality = {"users": found["users"]}
    for split in ("test", "valid"):
        if split in found:
            part = found[split]
            methods = {name: value for name, value in part["state"].items() if not name.endswith("_unmasked")}
            result[split] = {f"NDCG@10, {_label(name)}": value["ndcg10"] for name, value in methods.items()}
            result[split] |= {
                f"reward AUC against {negatives}, {_label(name)}": part["reward"][name][f"auc_{kind}"]
                for kind, negatives in zip(KINDS, ("uniform", "as popular", "similar text"), strict=True)
                for name in ("le", "content_start")
            }
    return result


def _label(name: str) -> str:
    return "LE" if name == "le" else name.replace("_", " ")


def headline(found: Quality) -> dict[str, float]:
    """The few numbers that DVC shows, on validation events of unseen users; shares on their training events."""
    part = found.get("valid")
    if part is None:
        return {}
    numbers = {f"{name}_ndcg10": value["ndcg10"] for name, value in part["state"].items() if "_unmasked" not in name}
    numbers |= {f"reward_auc_{kind}": part["reward"]["le"][f"auc_{kind}"] for kind in KINDS}
    numbers |= {
        f"{name}_action_share5": value["share5"] for name, value in found["actions"].items() if "share5" in value
    }
    own = found["actions"].get("le", {})
    numbers |= {f"le_action_{key}": own[key] for key in ("history1", "steps_that_repeat") if key in own}
    return {name: round(value, 4) for name, value in numbers.items()}
