"""Items held out of training, added by their texts: what the trained text path is worth. `make bench-cold`.

In: MovieLens, and Amazon Scientific where it lies beside this checkout. Out: benchmarks/results/cold_start.{json,md}.

A tenth of the items is cold: none of their events is trained on, nor are they in the catalogue; the statistics behind
the item vectors are of the warm items alone. Then they are added (lea_core/serving/text_projection.py), and every
validation and test event whose item is cold is ranked among all items, and among the cold ones alone. Histories are the
true ones, with their cold items read by the text path, or without them. Events that no warm item precedes are left out.
Each seed has its own cold items. `boost` is chosen on validation, by NDCG@10 over all events, warm and cold; test is
ranked once.

    python -m benchmarks.serving.cold_start --data ml-100k --seeds 2
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.support.jobs import RESULTS, SETTINGS, WORK
from benchmarks.support.prepared import DEFAULT, changed, datasets, prepare, where
from benchmarks.support.written import table, write_ordered_json, write_text
from lea_core.baselines.neighbours import popularity, text_neighbours
from lea_core.common.artifacts import read_json, read_tensors
from lea_core.common.processes import side_by_side
from lea_core.data.leaks import training_events
from lea_core.data.sequences import Sequences
from lea_core.learners.loop import train_seed
from lea_core.learners.supervision import Supervision, transitions
from lea_core.llm.pooled_tokens import ItemTokens, fit, whiten
from lea_core.metrics.full_ranking import Scorer, rank_events
from lea_core.models.policy_network import PolicyNetwork, load_network
from lea_core.params import Params, read_yaml
from lea_core.serving.text_projection import ACTOR, ACTOR_BIAS, EMBEDDING, extend, fit_item_path, with_rows

JSON = RESULTS / "cold_start.json"
DATA = {DEFAULT: 4, "scientific": 2}  # and seeds
VARIANTS = ("supervised-items", "supervised-items-frozen")
COLD = 0.1
BOOSTS = (0.0, 0.5, 1.0, 1.5, 2.0)
NEAREST = 10
NOT_ADDED = "not added"
SLICES = ("cold", "cold, warm histories", "cold among cold", "warm", "warm, warm histories")
KEYS = ("HR@10", "NDCG@10")
HEAD = (
    "| >cold items, among all: HR@10 | >NDCG@10 | >with warm histories | >among cold alone: HR@10 | >NDCG@10 "
    "| >warm items: NDCG@10 | >with warm histories | >all events: NDCG@10"
)
COLUMNS = (  # of that table: slice and metric
    *(("cold", key) for key in KEYS),
    ("cold, warm histories", "NDCG@10"),
    *(("cold among cold", key) for key in KEYS),
    *((key, "NDCG@10") for key in ("warm", "warm, warm histories", "all")),
)


@dataclass(frozen=True)
class Split:
    """Warm items first, then the cold ones: `whole` has the events of all, `warm` of the first W alone.

    vectors: (I, C) in that order.
    """

    whole: Sequences
    warm: Sequences
    vectors: np.ndarray

    def events(self, split: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Users and positions of the events that a warm item precedes, of cold and of warm items."""
        users, positions = self.whole.targets(split)
        first = self.whole.offsets[users]
        warm = self.whole.items < self.warm.num_items
        before = np.concatenate([[0], np.cumsum(warm)])
        led = before[first + positions] > before[first]
        own = warm[first + positions]
        return {
            name: (users[led & chosen], positions[led & chosen]) for name, chosen in (("cold", ~own), ("warm", own))
        }


def hold_out(sequences: Sequences, tokens: ItemTokens, statistics: Mapping[str, np.ndarray], seed: int) -> Split:
    """Take a tenth of the items, drawn with `seed`, out of training and out of the catalogue."""
    drawn = np.random.default_rng(seed).permutation(sequences.num_items)
    count = round(COLD * sequences.num_items)
    order = np.concatenate([np.sort(drawn[count:]), np.sort(drawn[:count])])
    number = np.empty_like(order)
    number[order] = np.arange(len(order))
    whole = Sequences(number[sequences.items], sequences.split, sequences.offsets, len(order))
    kept = whole.items < len(order) - count
    offsets = np.concatenate([[0], np.cumsum(kept)])[whole.offsets]
    warm = Sequences(whole.items[kept], whole.split[kept], offsets, len(order) - count)
    hidden = tokens.pooled * statistics["deviation"] + statistics["mean"]  # what `pooled` was made of
    present = (tokens.content != 0).any(axis=1)
    known = order[: warm.num_items][present[order[: warm.num_items]]]
    own = fit(tokens.token[known], hidden[known], tokens.content.shape[1])
    return Split(whole, warm, np.where(present[:, None], whiten(hidden, own), 0.0).astype(np.float32)[order])


def without_cold(scorer: Scorer, warm: int, length: int) -> Scorer:
    """The scorer, given histories without their cold items."""

    def scores(items: np.ndarray) -> Tensor:
        kept = (items >= 0) & (items < warm)
        order = np.argsort(kept, axis=1, kind="stable")  # those that stay to the right, in order
        moved = np.where(np.take_along_axis(kept, order, 1), np.take_along_axis(items, order, 1), -1)
        return scorer(moved[:, -length:])

    return scores


def among_cold(scorer: Scorer, warm: int) -> Scorer:
    """The scorer with the warm items last of all."""

    def scores(items: np.ndarray) -> Tensor:
        found = scorer(items).clone()
        found[:, :warm] = -torch.inf
        return found

    return scores


def scores_of(scorer: Scorer, split: Split, name: str, length: int, mask_seen: bool) -> dict[str, Any]:
    """HR@10 and NDCG@10 of a scorer of all items on every slice, and on all events; of the events of split `name`."""
    events, warm = split.events(name), split.warm.num_items
    bare = without_cold(scorer, warm, length)
    rankings = {
        "cold": (scorer, "cold"),
        "cold, warm histories": (bare, "cold"),
        "cold among cold": (among_cold(scorer, warm), "cold"),
        "warm": (scorer, "warm"),
        "warm, warm histories": (bare, "warm"),
    }
    found = {}
    for key, (ranking, kind) in rankings.items():
        read = int(np.diff(split.whole.offsets).max()) if ranking is bare else length
        ranked = rank_events(ranking, split.whole, *events[kind], read, mask_seen, 512)
        found[key] = {one: ranked.metrics([10])[one] for one in KEYS}
    share = len(events["cold"][0]) / sum(len(own[0]) for own in events.values())
    found["all"] = {one: share * found["cold"][one] + (1.0 - share) * found["warm"][one] for one in KEYS}
    return {**found, "events": {kind: len(own[0]) for kind, own in events.items()}}


def systems(network: PolicyNetwork, split: Split, counts: np.ndarray, boost: float, scale: float) -> dict[str, Scorer]:
    """What is compared: `text path`, and other rows for the cold items, with the same boost; two without a network."""
    warm, vectors = split.vectors[: split.warm.num_items], split.vectors[split.warm.num_items :]
    path = fit_item_path(network, warm, counts)
    weights = {name: network.state_dict()[name].numpy() for name in (EMBEDDING, ACTOR, ACTOR_BIAS)}
    rng = np.random.default_rng(0)
    bias = np.full(len(vectors), path["bias"] + boost, dtype=np.float32)
    drawn = {
        name: rng.normal(0.0, weights[name].std(), (len(vectors), network.width)).astype(np.float32)
        for name in (EMBEDDING, ACTOR)
    }
    alike = vectors @ warm.T
    near = np.argsort(-alike, axis=1, kind="stable")[:, :NEAREST]
    mean = {name: weights[name][near].mean(axis=1) for name in (EMBEDDING, ACTOR)}
    start = np.ascontiguousarray(vectors[:, : network.width]) * np.float32(scale / warm[:, : network.width].std())
    never = np.full(len(vectors), -1e9, dtype=np.float32)
    zeros = np.zeros((len(vectors), network.width), dtype=np.float32)
    whole = np.concatenate([counts, np.zeros(len(vectors), dtype=counts.dtype)])
    return {
        "text path": extend(network, path, vectors, boost).scores,
        "rows as training starts them": with_rows(network, start, start, bias).scores,
        f"mean rows of the {NEAREST} nearest": with_rows(network, mean[EMBEDDING], mean[ACTOR], bias).scores,
        "random rows": with_rows(network, drawn[EMBEDDING], drawn[ACTOR], bias).scores,
        NOT_ADDED: with_rows(network, zeros, zeros, never).scores,
        "text neighbours": text_neighbours(split.vectors),
        "popularity": popularity(whole),
    }


@dataclass(frozen=True)
class Seed:
    """One seed of a data set and variant: its split, its parameters and its training counts (W,)."""

    name: str
    variant: str
    seed: int

    @property
    def folder(self) -> Path:
        """Where its policy lies."""
        return WORK / "cold" / f"{self.name}-{self.variant}-{self.seed}"

    def split(self) -> tuple[Split, Params, np.ndarray]:
        """The split, the parameters and the warm items' training counts (W,)."""
        prepared = prepare(self.name)
        statistics = read_tensors(prepared.folder / "data" / "item_tokens" / "statistics.safetensors")
        split = hold_out(prepared.sequences, prepared.tokens, statistics, self.seed)
        counts = np.bincount(split.warm.train().items, minlength=split.warm.num_items)
        return split, with_variants(self.name, prepared.params), counts


def train_and_validate(one: Seed) -> dict[str, Any]:
    """Train without the cold items and keep the policy; how the text path ranks validation with every boost."""
    split, params, counts = one.split()
    train = training_events(split.warm)
    vectors = torch.from_numpy(split.vectors[: split.warm.num_items].copy())
    supervision = Supervision(torch.zeros(len(transitions(train))), item_vectors=vectors)
    network = train_seed(one.variant, one.seed, params, split.warm, supervision, torch.device("cpu")).policy.eval()
    one.folder.mkdir(parents=True, exist_ok=True)
    network.save(one.folder)
    path = fit_item_path(network, vectors.numpy(), counts)
    found: dict[str, Any] = {"explained": path["explained"].tolist()}
    for boost in BOOSTS:
        scorer = extend(network, path, split.vectors[split.warm.num_items :], boost).scores
        found[str(boost)] = scores_of(scorer, split, "valid", params.train.history, params.evaluate.mask_seen)
    return found


def test(boost: float, one: Seed) -> dict[str, Any]:
    """How every system ranks the test events."""
    split, params, counts = one.split()
    scale = params.train.le.item_scale
    found = systems(load_network(one.folder), split, counts, boost, scale)
    length, mask = params.train.history, params.evaluate.mask_seen
    result = {key: scores_of(scorer, split, "test", length, mask) for key, scorer in found.items()}
    alone = result[NOT_ADDED]  # such a policy skips cold items in a history
    alone |= {kind: alone[f"{kind}, warm histories"] for kind in ("cold", "warm")}
    share = alone["events"]["warm"] / sum(alone["events"].values())
    alone["all"] = {key: share * alone["warm"][key] for key in KEYS}
    return result


def with_variants(name: str, params: Params) -> Params:
    """The variants, on another data set with the tuned settings of `supervised` there, as in `make benchmark`."""
    own = read_yaml(SETTINGS / f"{name}.yaml")["variants"]["supervised"]["set"] if name != DEFAULT else {}
    changes = {f"variants.{variant}": {**params.variants[variant].model_dump(), "set": own} for variant in VARIANTS}
    changes[f"variants.{VARIANTS[1]}"]["set"] = {**own, "train.le.freeze_items": True}
    return changed(params, changes)


def mean_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds, and of NDCG@10 the deviation."""
    result: dict[str, Any] = {}
    for key in (*SLICES, "all"):
        result[key] = {one: float(np.mean([run[key][one] for run in runs])) for one in KEYS}
        result[key]["sd"] = float(np.std([run[key]["NDCG@10"] for run in runs], ddof=1)) if len(runs) > 1 else None
    result["events"] = {kind: sum(run["events"][kind] for run in runs) for kind in ("cold", "warm")}
    return result


def measure(name: str, variant: str, seeds: int) -> dict[str, Any]:
    """All of one data set and variant: the boost that is best on validation, and what it is worth on test."""
    all_seeds = [Seed(name, variant, seed) for seed in range(seeds)]
    runs = side_by_side(train_and_validate, all_seeds)
    valid = {str(boost): mean_of([run[str(boost)] for run in runs]) for boost in BOOSTS}
    best = max(valid, key=lambda boost: valid[boost]["all"]["NDCG@10"])
    tested = side_by_side(partial(test, float(best)), all_seeds)
    return {
        "seeds": seeds,
        "explained": np.mean([run["explained"] for run in runs], axis=0).tolist(),
        "valid": valid,
        "boost": float(best),
        "test": {key: mean_of([run[key] for run in tested]) for key in tested[0]},
    }


def markdown(results: Mapping[str, Any]) -> list[str]:
    """cold_start.md."""

    def rows(found: Mapping[str, Any]) -> list[str]:
        return table(HEAD, ([name, *(f"{row[key][one]:.4f}" for key, one in COLUMNS)] for name, row in found.items()))

    lines = [
        "`make bench-cold`: a tenth of the items is cold, drawn anew for every seed; means over the seeds; see "
        "benchmarks/serving/cold_start.py."
    ]
    for name, measured in results.items():
        place = measured["where"]
        lines += ["", f"# {name}", "", f"{place['processor']}, {place['cores']} cores, torch {place['torch']}."]
        for variant, found in measured["variants"].items():
            events = next(iter(found["test"].values()))["events"]
            lines += [
                "",
                f"## {variant}",
                "",
                f"{found['seeds']} seeds, {events['cold']} cold and {events['warm']} warm test events in all. On items "
                f"left out of the fit, texts explain {found['explained'][0]:.2f} of the variance of trained embeddings "
                f"and {found['explained'][1]:.2f} of the actor's rows. Boost {found['boost']:g}, chosen on validation. "
                "Test:",
                "",
                *rows(found["test"]),
                "",
                "Validation, text path, by boost:",
                "",
                *rows(found["valid"]),
            ]
    return lines


def main() -> None:
    """Measure on one data set after another."""
    parser = argparse.ArgumentParser(description="Items held out of training, added by their texts.")
    parser.add_argument("--data", nargs="+", default=list(DATA))
    parser.add_argument("--variants", nargs="+", default=VARIANTS)
    parser.add_argument("--seeds", type=int, help="default: 4 on MovieLens, 2 on others")
    options = parser.parse_args()
    results = read_json(JSON) if JSON.exists() else {}  # a data set alone leaves the others
    for name in datasets(options.data):
        prepare(name)  # once, before processes ask for it
        seeds = options.seeds or DATA.get(name, 2)
        found = {variant: measure(name, variant, seeds) for variant in options.variants}
        results[name] = {"where": where(), "variants": found}
        write_ordered_json(JSON, results)
        write_text(JSON.with_suffix(".md"), markdown(results))


if __name__ == "__main__":
    main()
