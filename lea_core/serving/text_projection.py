"""The text projection: linear maps from an item's text vector to trained item rows, for items without interactions.

In: a trained policy whose item rows started from text vectors (variants with `items: le`), the vectors, and the
training count of each item. Out: linear maps from a vector to an embedding row and an actor row, and one actor bias; a
larger policy with rows for items that no user has interacted with.

Training moves the rows of an item away from their start (learners/build.start_items), partly in a direction that its
text predicts. A ridge regression of the moved rows on the vectors recovers that part. The vectors are whitened: the
first directions hold the largest differences of texts, and the last ones are noise of the same size, so the penalty
grows with the index of the direction. Five-fold cross-validation over the items chooses its strength. An actor bias is
close to the item's training count, which a text does not predict (explained variance -.02 to .04 on held-out items), so
every new item gets the mean bias.

A predicted row is shorter than a trained one, because the text does not explain all of it, so new items would rarely be
recommended. Therefore `boost` is added to their scores: a higher boost recommends new items more often and known items
less often. The default was chosen on validation of Amazon Scientific; on MovieLens validation chose 0, and .5 costs
.0001 of NDCG@10 there (see benchmarks/results/cold_start.md).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from lea_core.common.errors import LeaError
from lea_core.models.policy_network import PolicyNetwork, without_weights

Arrays = dict[str, np.ndarray]
PENALTIES = (0.001, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
FOLDS = 5
HALF_WEIGHT = 10.0  # training events with which an item counts half as much as one with very many
FEWEST = 2 * FOLDS  # items to fit on
BOOST = 0.5
EMBEDDING, ACTOR, ACTOR_BIAS = "backbone.item_embedding.weight", "actor.weight", "actor.bias"


def fit_item_path(network: PolicyNetwork, vectors: np.ndarray, counts: np.ndarray) -> Arrays:
    """Fit the path of a policy whose training started from these vectors (I, C); counts: (I,) training events.

    embedding, actor: (C + 1, D) float32, from [vector, 1] to a row.  bias: () float32.  explained: (2,) float32, the
    share of the variance of embedding and actor rows that it predicts on items left out of the fit. Fitted on the items
    with text and training events. Raises `LeaError` where these are too few, or the vectors are not of this policy.
    """
    vectors = vectors.astype(np.float64)
    if len(vectors) != network.config.num_items or len(counts) != len(vectors) or vectors.shape[1] < network.width:
        raise LeaError(
            f"item vectors {vectors.shape} and {len(counts)} counts are not of a policy of {network.config.num_items} "
            f"items and width {network.width}: make them again with `dvc repro`"
        )
    chosen = usable(vectors, counts)
    if chosen.sum() < FEWEST:
        raise LeaError(f"{chosen.sum()} items have text and training events: a text path takes {FEWEST} or more")
    known = {name: tensor.detach().cpu().numpy().astype(np.float64) for name, tensor in network.state_dict().items()}
    weights = counts[chosen] / (counts[chosen] + HALF_WEIGHT)
    weights = weights / weights.mean()
    embedding, embedding_share = _fit(vectors[chosen], known[EMBEDDING][chosen], weights)
    actor, actor_share = _fit(vectors[chosen], known[ACTOR][chosen], weights)
    bias = np.average(known[ACTOR_BIAS][chosen], weights=weights)
    found = {"embedding": embedding, "actor": actor, "bias": bias, "explained": [embedding_share, actor_share]}
    return {name: np.asarray(array, dtype=np.float32) for name, array in found.items()}


def usable(vectors: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(I,) bool: items that a path can be fitted on, with text and training events."""
    return (counts > 0) & (vectors != 0).any(axis=1)  # type: ignore[no-any-return]


def _fit(vectors: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
    """The map (C + 1, D) from vectors (N, C) to rows (N, D), and the share of their variance it explains, held out.

    The start of the rows, a common multiple of the first D columns, is fitted first and without penalty. So if training
    did not move the rows, the map gives them exactly.
    """
    width = rows.shape[1]
    start = vectors[:, :width]
    scale = (weights[:, None] * start * rows).sum() / (weights[:, None] * start**2).sum()
    moved = rows - scale * start  # (N, D)
    ones = np.concatenate([vectors, np.ones((len(vectors), 1))], axis=1)
    places = np.arange(1, vectors.shape[1] + 1)
    size = np.average((vectors**2 / places).sum(axis=1), weights=weights)
    penalty = np.append(size * places, 0.0)  # (C + 1,), none on the mean
    fold = np.arange(len(vectors)) % FOLDS
    errors = np.zeros(len(PENALTIES))
    for held_out in range(FOLDS):
        inside, outside = fold != held_out, fold == held_out
        maps = _ridges(ones[inside], moved[inside], weights[inside], penalty)
        errors += [(weights[outside, None] * (moved[outside] - ones[outside] @ map_) ** 2).sum() for map_ in maps]
    variance = (weights[:, None] * (rows - np.average(rows, axis=0, weights=weights)) ** 2).sum()
    best = int(errors.argmin())
    result = _ridges(ones, moved, weights, penalty)[best]
    result[np.arange(width), np.arange(width)] += scale
    return result, float(1.0 - errors[best] / variance) if variance > 0 else 1.0


def _ridges(ones: np.ndarray, rows: np.ndarray, weights: np.ndarray, penalty: np.ndarray) -> list[np.ndarray]:
    """The ridge regression of rows (N, D) on (N, C + 1) for each of PENALTIES, which multiply `penalty`."""
    weighted = (ones * weights[:, None]).T
    gram, product = weighted @ ones, weighted @ rows
    return [np.linalg.solve(gram + np.diag(strength * penalty), product) for strength in PENALTIES]


def rows_of(path: Arrays, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Embedding and actor rows, (N, D) float32 each, that the path gives to vectors (N, C).

    Raises `LeaError` where the vectors are of another width or hold what is no number.
    """
    width = len(path["embedding"]) - 1
    if vectors.ndim != 2 or vectors.shape[1] != width:
        raise LeaError(f"item vectors are {vectors.shape}, but the policy's text path reads vectors of width {width}")
    if not np.isfinite(vectors).all():
        raise LeaError("an item vector holds a number that is infinite or none: make it again from the text")
    # One row at a time, so that a row does not depend on the other new items.
    ones = np.concatenate([vectors, np.ones((len(vectors), 1))], axis=1)[:, None, :]
    embedding, actor = (
        np.matmul(ones, path[name].astype(np.float64))[:, 0].astype(np.float32) for name in ("embedding", "actor")
    )
    return embedding, actor


def extend(network: PolicyNetwork, path: Arrays, vectors: np.ndarray, boost: float = BOOST) -> PolicyNetwork:
    """A network with N more items, of vectors (N, C), after its own; `boost` is added to the scores of these.

    Raises `LeaError` as `rows_of` does, and where the path is of a network of another width.
    """
    if path["embedding"].shape[1] != network.width:
        raise LeaError(
            f"the text path gives rows of width {path['embedding'].shape[1]}, but the policy's are {network.width} wide"
        )
    embedding, actor = rows_of(path, vectors)
    return with_rows(network, embedding, actor, np.full(len(vectors), path["bias"] + boost, dtype=np.float32))


def with_rows(network: PolicyNetwork, embedding: np.ndarray, actor: np.ndarray, bias: np.ndarray) -> PolicyNetwork:
    """A network with more items: their embedding and actor rows (N, D) and biases (N,), float32. Ready to score."""
    config = replace(network.config, num_items=network.config.num_items + len(bias))
    weights = network.state_dict()
    for name, rows in ((EMBEDDING, embedding), (ACTOR, actor), (ACTOR_BIAS, bias)):
        weights[name] = torch.cat([weights[name], torch.from_numpy(rows).to(weights[name])])
    larger = without_weights(config)
    larger.load_state_dict({name: tensor.clone() for name, tensor in weights.items()}, assign=True)
    return larger.eval()
