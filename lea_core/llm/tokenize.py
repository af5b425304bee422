"""The methods of `tokenize_items`: item texts -> tokens, by the one that params.yaml names.

  pooled     the mean of the text's input embeddings (pooled_tokens.py)
  learned    the paper's method: the token of each item is trained, starting at the pooled token (learned_tokens.py)
  mixed      the weighted mean of the learned token (weight learned.mix) and the pooled token: pooled tokens of similar
             texts are similar, learned tokens hold more about each item
  amortised  a small network maps pooled tokens to better ones; it is trained on some items (amortised_tokens.py)

In: texts, the frozen LLM. Out: the tokens, their statistics, the network's weights where there is a network, the
measurements, and the checkpoint, which the stage removes when everything is published.

Pooled vectors and learned tokens are cached by text (text_cache.py): a known text needs no computation and gets the
same numbers. The network is trained on a sample of items, so with `amortised` one changed text can change every token.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lea_core.common.checkpoints import Checkpoint
from lea_core.common.sources import cache_folder, fetch_file
from lea_core.llm.amortised_tokens import MEASURED_ITEMS, SEED, encode, train_encoder
from lea_core.llm.language_model import LanguageModel, fingerprint
from lea_core.llm.learned_tokens import Learner, mean_loss, swapped_loss
from lea_core.llm.packed_forward import check_independence
from lea_core.llm.pooled_tokens import ItemTokens, Pooled, Statistics, pooled_tokens, read_statistics, text_cache
from lea_core.llm.text_cache import TextCache
from lea_core.params import TokenParams

LEARNED = ("before", "after", "steps")  # of each text: losses with the pooled and the learned token, training steps


@dataclass(frozen=True)
class Tokenised:
    """The result of `tokenise`; `encoder` has the weights for `amortised_tokens.encode`, empty for other methods."""

    tokens: ItemTokens
    statistics: Statistics
    measured: dict[str, Any]
    encoder: dict[str, np.ndarray] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True)
class Trained:
    """Tokens (I, H) of a method that trains, and its cost; no checkpoint where nothing was left to train."""

    token: np.ndarray
    measured: dict[str, Any]
    seconds: float
    checkpoint: Checkpoint | None
    encoder: dict[str, np.ndarray] = field(default_factory=dict)


def tokenise(load: Callable[[int], LanguageModel], texts: list[str], params: TokenParams) -> Tokenised:
    """All items' tokens and content vectors.

    `load(n)` returns the LLM with its first n layers (0: all). Content vectors need `params.layer` layers. Every method
    but `pooled` needs the whole model, because it generates text. Raises `LeaError` as `pooled_tokens` and
    `read_statistics` do, and where the LE could not use the LLM.
    """
    llm = load(params.layer)
    check_independence(llm)  # only the LE needs this, but it is better to fail before hours of training
    pooled = _pooled(llm, texts, params)
    if params.method == "pooled":
        return Tokenised(pooled.tokens, pooled.statistics, pooled.measured)
    llm = load(0)
    method = _amortised if params.method == "amortised" else _learned
    trained = method(llm, pooled.rows, pooled.tokens.token, params)
    seconds = {"seconds_per_1000_items": 1000.0 * trained.seconds / len(texts)}
    return Tokenised(
        replace(pooled.tokens, token=trained.token),
        pooled.statistics,
        pooled.measured | trained.measured | seconds,
        trained.encoder,
        trained.checkpoint,
    )


def _pooled(llm: LanguageModel, texts: list[str], params: TokenParams) -> Pooled:
    """Pooled tokens, with the statistics that `params` name and cached vectors of known texts."""
    given, width = None, params.content_width
    if wanted := params.statistics:
        file = fetch_file(wanted.source, wanted.sha256, cache_folder(), "tokenize_items.statistics")
        given = read_statistics(file, llm.width, width)
    return pooled_tokens(llm, texts, params.text_tokens, width, given, text_cache(llm, params.text_tokens))


def _learned(llm: LanguageModel, rows: list[list[int]], pooled: np.ndarray, params: TokenParams) -> Trained:
    """Learned or mixed tokens. A text keeps a token that was learned before; the seconds are of the other texts."""
    present = np.flatnonzero([len(row) > 0 for row in rows])
    basis = _basis(llm, params)
    learners: list[tuple[Learner, Checkpoint]] = []

    def learn(new: np.ndarray) -> dict[str, np.ndarray]:
        items = present[new]
        some, start = [rows[item] for item in items], pooled[items]
        learner = Learner(llm, some, start, params.learned)
        checkpoint = Checkpoint("tokenize_items", __name__, _identity(basis, some, start))
        learners.append((learner, checkpoint))
        learner.run(checkpoint)
        return {name: tensor.numpy() for name, tensor in learner.of_all.items()}

    cache = TextCache("learned", __name__, basis, {"token": (llm.width,)} | dict.fromkeys(LEARNED, ()))
    kept = cache.complete([rows[item] for item in present], learn)
    token = pooled.copy()
    token[present] = kept["token"]
    means = {name: float(kept[name].mean()) for name in LEARNED}
    found = {
        "text_loss_before": means["before"],
        "text_loss_after": means["after"],
        "steps_per_item": means["steps"],
    }
    if params.method == "mixed":
        token = pooled + np.float32(params.learned.mix) * (token - pooled)
        found["text_loss_learned"] = found["text_loss_after"]
        found["text_loss_after"] = mean_loss(llm, rows, token, present)
    some = np.random.default_rng(SEED).permutation(present)[:MEASURED_ITEMS]
    found["text_loss_swapped"] = swapped_loss(llm, rows, token, some)
    learner, checkpoint = learners[0] if learners else (None, None)
    return Trained(token, found, learner.seconds if learner else 0.0, checkpoint)


def _amortised(llm: LanguageModel, rows: list[list[int]], pooled: np.ndarray, params: TokenParams) -> Trained:
    """Encoded tokens and the encoder's weights."""
    checkpoint = Checkpoint("tokenize_items", __name__, _identity(_basis(llm, params), rows, pooled))
    weights, found, seconds = train_encoder(llm, rows, pooled, params.amortised, checkpoint)
    return Trained(encode(weights, pooled), found, seconds, checkpoint, weights)


def _basis(llm: LanguageModel, params: TokenParams) -> dict[str, Any]:
    """Everything that the training depends on beside code, texts and their pooled tokens; the mix is not part of it."""
    settings = params.amortised.model_dump() if params.method == "amortised" else params.learned.model_dump()
    settings.pop("mix", None)
    return {"llm": fingerprint(llm), "settings": settings}


def _identity(basis: dict[str, Any], rows: list[list[int]], pooled: np.ndarray) -> dict[str, Any]:
    """Everything that the training of these texts' tokens depends on."""
    return basis | {
        "texts": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
        "pooled": hashlib.sha256(pooled.tobytes()).hexdigest(),
    }
