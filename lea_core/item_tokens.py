"""Item tokens from the frozen LLM's own vectors: pooled tokens and content vectors.

In: item texts and the frozen LLM. Out: pooled tokens, what the `ITEM_TOKENS` table holds beside them, and the texts'
token ids, which the other methods (token_methods.py) start from.

`token` stands for the item in every sequence that the LE reads (paper, figure 2: one token embedding per item); pooled,
it is the mean of the text's input embeddings. (Measured on MovieLens-100K: heads on the frozen LLM reach more with it
than with whitened last hidden states, docs/log.md.)
`content` is the mean of the text's hidden states at one layer, whitened: the content similarity where the LE starts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lea_core.errors import LeaError, warn
from lea_core.llm import LanguageModel
from lea_core.progress import announce, bar

BATCH_ITEMS = 64


@dataclass(frozen=True)
class ItemTokens:
    """token: (I, H).  pooled: (I, H), zero mean and unit deviation over the items.  content: (I, C), unit rows."""

    token: np.ndarray
    pooled: np.ndarray
    content: np.ndarray


def pooled_tokens(
    llm: LanguageModel, texts: list[str], text_tokens: int, content_width: int
) -> tuple[ItemTokens, list[list[int]], dict[str, Any]]:
    """All items' pooled tokens and content vectors, their texts' token ids, and what was measured on the way.

    `llm` has as many layers as the content is to be read after. An item without text gets the mean token and a content
    vector of zeros: similar to nothing.
    Raises `LeaError` where fewer than two items have text, the catalogue is too small to whiten, or the LLM cannot read
    the texts.
    """
    rows, cut = text_ids(llm, texts, text_tokens)
    present = np.array([len(row) > 0 for row in rows])
    if present.sum() < 2:
        raise LeaError("items.parquet: fewer than two items have text: give dataset.text columns that hold some")
    embedded, hidden = _pool(llm, rows)
    embedded[~present] = embedded[present].mean(axis=0)
    tokens = ItemTokens(embedded, standardise(hidden, present), whiten(hidden, present, content_width))
    return tokens, rows, {"items": len(rows), "without_text": int((~present).sum()), "texts_cut": cut}


def text_ids(llm: LanguageModel, texts: list[str], limit: int) -> tuple[list[list[int]], int]:
    """Token ids of every text, cut after `limit`, and how many were cut.

    Raises `LeaError` where a text is longer than the LLM reads or has a token that the LLM lacks.
    """
    whole: list[list[int]] = llm.tokenizer(texts, add_special_tokens=False)["input_ids"]
    rows = [row[:limit] for row in whole]
    cut = sum(len(row) > limit for row in whole)
    if cut:
        warn(f"{cut} of {len(rows)} item texts are longer than tokenize_items.text_tokens = {limit}: cut")
    longest = max(map(len, rows), default=0)
    if llm.max_positions is not None and longest > llm.max_positions:
        raise LeaError(
            f"params.yaml: tokenize_items.text_tokens {limit} leaves an item text of {longest} tokens, but the LLM "
            f"reads at most {llm.max_positions}: lower it to that"
        )
    known = len(llm.decoder.get_input_embeddings().weight)
    if any(max(row, default=0) >= known for row in rows):
        raise LeaError(f"llm.source: the tokenizer has tokens beyond the model's {known}: use a model with its own one")
    return rows, cut


def standardise(vectors: np.ndarray, present: np.ndarray) -> np.ndarray:
    """(I, H) -> the same with zero mean and unit deviation per column over the `present` rows; zeros elsewhere."""
    chosen = vectors[present]
    scaled = (vectors - chosen.mean(axis=0)) / (chosen.std(axis=0) + 1e-6)
    return np.where(present[:, None], scaled, 0.0).astype(np.float32)


def whiten(vectors: np.ndarray, present: np.ndarray, width: int) -> np.ndarray:
    """(I, H) -> (I, C): the `width` strongest principal directions, each scaled to equal variance, rows of unit length.

    Raises `LeaError` where the present rows span fewer directions.
    """
    centred = vectors[present] - vectors[present].mean(axis=0)
    left, strengths, _ = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    spanned = int((strengths > strengths[0] * 1e-6).sum())
    if width > spanned:
        raise LeaError(
            f"params.yaml: tokenize_items.content_width {width} is more than the {spanned} directions that the "
            f"{int(present.sum())} item texts span: lower it"
        )
    # The sign of a singular vector is arbitrary: fix it, so that equal input gives equal bytes.
    signs = np.sign(left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])])
    unit = (left * signs)[:, :width]
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    result = np.zeros((len(vectors), width), dtype=np.float32)
    result[present] = unit
    return result


def by_length(rows: list[list[int]], size: int) -> Iterator[np.ndarray]:
    """Indices of non-empty rows in batches of about equal length, longest first."""
    order = np.array([row for row in np.argsort([-len(row) for row in rows], kind="stable") if rows[row]])
    for start in range(0, len(order), size):
        yield order[start : start + size]


def padded(rows: list[list[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids, right-padded with 0, and their mask; both (B, T). A causal LLM never looks at right padding."""
    width = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1.0
    return ids.to(device), mask.to(device)


def _pool(llm: LanguageModel, rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean input embedding and mean last hidden state of every text; both (I, H), zeros for an empty text."""
    embedded = np.zeros((len(rows), llm.width), dtype=np.float32)
    hidden = np.zeros_like(embedded)
    total = sum(len(row) for row in rows)
    with torch.inference_mode(), bar(total, "item texts", "token") as progress:
        for number, chosen in enumerate(by_length(rows, BATCH_ITEMS)):
            started = time.perf_counter()
            ids, mask = padded([rows[row] for row in chosen], llm.device)
            embeddings = llm.decoder.get_input_embeddings()(ids)
            states = llm.decoder(inputs_embeds=embeddings, use_cache=False).last_hidden_state  # (B, T, H)
            weights = (mask / mask.sum(dim=1, keepdim=True))[..., None]  # (B, T, 1)
            embedded[chosen] = (embeddings.float() * weights).sum(dim=1).cpu().numpy()
            hidden[chosen] = (states.float() * weights).sum(dim=1).cpu().numpy()
            tokens = int(mask.sum())
            progress.update(tokens)
            if number == 1:  # the first batch warms up
                announce("tokenize_items", total, tokens / (time.perf_counter() - started))
    return embedded, hidden
