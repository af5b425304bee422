"""The methods of `tokenize_items`: item texts -> tokens, by the one that params.yaml names.

  pooled     the mean of the text's input embeddings (item_tokens.py)
  learned    the paper's: each item's token trained alone, from the pooled one (learned_tokens.py)
  mixed      learned.mix of the learned token and the rest of the pooled one: pooled tokens are smooth over the items,
             learned ones say more of each
  amortised  a small network from pooled to better tokens, trained on a sample of items (token_encoder.py)

In: texts, the frozen LLM. Out: the tokens, the network's weights where there is one, what was measured, and the
checkpoint, for the stage to remove once all of this is published.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lea_core.checkpoints import Checkpoint
from lea_core.item_tokens import ItemTokens, pooled_tokens
from lea_core.learned_tokens import Learner, mean_loss, swapped_loss
from lea_core.llm import LanguageModel, fingerprint
from lea_core.params import TokenParams
from lea_core.sources import file_sha256
from lea_core.token_encoder import MEASURED_ITEMS, SEED, encode, train_encoder


@dataclass(frozen=True)
class Tokenised:
    """What tokenising gives; `encoder` has the weights for `token_encoder.encode`, empty for the other methods."""

    tokens: ItemTokens
    measured: dict[str, Any]
    encoder: dict[str, np.ndarray] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None


def tokenise(load: Callable[[int], LanguageModel], texts: list[str], params: TokenParams) -> Tokenised:
    """All items' tokens and content vectors.

    `load(n)` gives the LLM with its first n layers (0: all): the content needs `params.layer` of them, every method but
    `pooled` the whole model, which generates text. Raises `LeaError` as `pooled_tokens` does.
    """
    tokens, rows, measured = pooled_tokens(load(params.layer), texts, params.text_tokens, params.content_width)
    if params.method == "pooled":
        return Tokenised(tokens, measured)
    llm = load(0)
    checkpoint = Checkpoint("tokenize_items", _identity(llm, rows, tokens.token, params))
    method = _amortised if params.method == "amortised" else _learned
    token, encoder, found, seconds = method(llm, rows, tokens.token, params, checkpoint)
    found["seconds_per_1000_items"] = 1000.0 * seconds / len(rows)
    return Tokenised(replace(tokens, token=token), measured | found, encoder, checkpoint)


def _learned(
    llm: LanguageModel, rows: list[list[int]], pooled: np.ndarray, params: TokenParams, checkpoint: Checkpoint
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, Any], float]:
    """Learned or mixed tokens (I, H), no encoder, what was measured, seconds."""
    learner = Learner(llm, rows, pooled, params.learned)
    learner.run(checkpoint)
    token, found = learner.of_all["token"].numpy(), learner.measured()
    present = np.flatnonzero([len(row) > 0 for row in rows])
    if params.method == "mixed":
        token = pooled + np.float32(params.learned.mix) * (token - pooled)
        found["text_loss_learned"] = found["text_loss_after"]
        found["text_loss_after"] = mean_loss(llm, rows, token, present)
    some = np.random.default_rng(SEED).permutation(present)[:MEASURED_ITEMS]
    found["text_loss_swapped"] = swapped_loss(llm, rows, token, some)
    return token, {}, found, learner.seconds


def _amortised(
    llm: LanguageModel, rows: list[list[int]], pooled: np.ndarray, params: TokenParams, checkpoint: Checkpoint
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, Any], float]:
    """Encoded tokens (I, H), the encoder's weights, what was measured, seconds."""
    weights, found, seconds = train_encoder(llm, rows, pooled, params.amortised, checkpoint)
    return encode(weights, pooled), weights, found, seconds


def _identity(llm: LanguageModel, rows: list[list[int]], pooled: np.ndarray, params: TokenParams) -> dict[str, Any]:
    """All that the training depends on; the mix is not part of it."""
    settings = params.amortised.model_dump() if params.method == "amortised" else params.learned.model_dump()
    settings.pop("mix", None)
    return {
        "texts": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
        "pooled": hashlib.sha256(pooled.tobytes()).hexdigest(),
        "llm": fingerprint(llm),
        "settings": settings,
        "code": [file_sha256(Path(__file__).with_name(f"{name}.py")) for name in ("learned_tokens", "token_encoder")],
    }
