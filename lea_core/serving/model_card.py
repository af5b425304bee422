"""The model card of a policy: README.md of its folder.

In: config, metrics, provenance, counts of the data. Out: Markdown with the front matter that model hubs read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lea_core.common.registry import BACKBONES
from lea_core.models.policy_network import PolicyConfig
from lea_core.params.methods import has_critic

PARTS = {
    "state": "states of histories",
    "reward": "rewards of actions",
    "actions": "proposed positive actions",
    "ranking": "a ranking of the items",
    "items": "vectors of the items' texts",
}


def model_card(
    config: PolicyConfig,
    metrics: Mapping[str, Any],
    made_of: Mapping[str, Any],
    size: Mapping[str, int],
    path: str,
    takes_new: bool,
) -> str:
    """README.md. size: `users`, `events`, `weights` (numbers in the network). takes_new: has a path for new items."""
    used = made_of["params"]
    variant = used["training"]["variant"]
    return f"""---
library_name: lea
tags: [recommendation, sequential-recommendation, reinforcement-learning, {config.backbone}, {variant["method"]}]
---

# {made_of["variant"]}: a recommender for {used["dataset"]["name"]}

The next item after a history of items. {BACKBONES.load(config.backbone).TITLE}, {_trained(variant)}.
{size["weights"]:,} numbers, {config.num_items:,} items; the {config.history} newest of a history are read. No language
model is needed.

## Use

    from lea_core.serving import Policy

    policy = Policy.load("{path}")
    policy.recommend([["an item id", "another, newer"]], k=10).items

or `echo '["an item id"]' | lea recommend {path}`. Ids are those of the data. A history without a known item is
answered with the most popular items, marked as such. Scores order the items of one history; they are no probabilities
and do not compare between histories. Items of the history are {_lists(used)}, as they were when it was evaluated;
`exclude_seen` says otherwise.

## Worth

{_table(metrics)}

Each held-out event's item is ranked among all items, {_seen(used)}, given the true history before it:
{metrics["valid"]["events"]:,} validation and {metrics["test"]["events"]:,} test events. {_chosen(metrics)}

## Training data

{size["users"]:,} users, {size["events"]:,} events, {config.num_items:,} items; `preprocess` in provenance.json has the
filters and the split. Seed {made_of["seed"]} of {", ".join(map(str, used["training"]["train"]["seeds"]))};
{_language_model(used)}

## Limits

- It was measured offline, on logs of what people chose among what they were shown then. That tells little of what they
  would do with its lists (docs/protocol.md).
- It knows {config.num_items:,} items and no others, and favours what was popular in the log.
  {_new_items(path, takes_new)}
- Users who repeat items or do not, and how often, are as in the log that it learned from.

## Provenance

provenance.json: parameters (SHA-256 {made_of["params_sha256"][:16]}...), data (interactions
{made_of["data"]["interactions.parquet"][:16]}...), commit {_commit(made_of)}, versions of the packages.
manifest.json holds the SHA-256 of every file, and loading checks them.
"""


def _trained(variant: Mapping[str, Any]) -> str:
    method = variant["method"]
    by_reward = f"trained by reinforcement learning ({method.upper()})"
    how = by_reward if has_critic(method) else "trained supervised"
    learned = [words for part, words in PARTS.items() if variant[part] in ("le", "le_item_knn")]
    return f"{how} with what a language model gave: {'; '.join(learned)}" if learned else how


def _chosen(metrics: Mapping[str, Any]) -> str:
    if metrics["named"]:
        return f"In params.yaml, section export named its {' and '.join(metrics['named'])}."
    return f"Of all variants and seeds it was the best on validation ({metrics['headline']}); test chose nothing."


def _table(metrics: Mapping[str, Any]) -> str:
    names = sorted((name for name in metrics["valid"] if name != "events"), key=_by_cutoff)
    lines = ["| | validation | test | mean of the seeds, test |", "|---|--:|--:|--:|"]
    for name in names:
        test = metrics["test"][name]
        spread = "" if test["sd"] is None else f" ± {test['sd']:.4f}"
        lines.append(
            f"| {name} | {metrics['valid'][name]['value']:.4f} | {test['value']:.4f} | {test['mean']:.4f}{spread} |"
        )
    return "\n".join(lines)


def _new_items(path: str, takes_new: bool) -> str:
    if takes_new:
        return (
            f"New items enter by their texts: `lea add-items {path} --items FILE` (it needs the LE's language model)."
        )
    return "New items cannot enter: its item embeddings did not start from texts."


def _by_cutoff(metric: str) -> tuple[int, str]:
    name, _, cutoff = metric.partition("@")
    return int(cutoff), name


def _seen(used: Mapping[str, Any]) -> str:
    return "those of the history left out" if used["mask_seen"] else "those of the history among them"


def _lists(used: Mapping[str, Any]) -> str:
    return "left out" if used["mask_seen"] else "recommended too"


def _language_model(used: Mapping[str, Any]) -> str:
    if used["llm"] is None:
        return "no language model had a part."
    return f"the LE's language model: {used['llm']['source'].rsplit('/', 1)[-1]}."


def _commit(made_of: Mapping[str, Any]) -> str:
    if made_of["commit"] is None:
        return "unknown (no git)"
    return f"{made_of['commit'][:12]}{' with changes' if made_of['changed'] else ''}"
