"""Item tokens: one soft token per item, in the LLM's input space, and the item's content vector.

In: item texts and the frozen LLM. Out: the `ITEM_TOKENS` table and a few numbers about it.

`token` stands for the item in every sequence that the LE reads (paper, figure 2: one token embedding per item).
  pooled   the mean of the text's input embeddings. (Measured on MovieLens-100K: heads on the frozen LLM reach more with
           it than with whitened last hidden states, docs/log.md.)
  learned  the paper's way: starting there, e_i alone is trained so that the frozen LLM generates item i's text after
           it: minimise -sum_l log P(w_l | e_i, w_<l) over e_i. Many items share a batch; their tokens are independent.
`content` is the mean of the text's hidden states at one layer, whitened: the content similarity where the LE starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from lea_core.errors import LeaError, warn
from lea_core.llm import LanguageModel
from lea_core.params import LearnedTokens, TokenParams
from lea_core.progress import announce, bar

BATCH_ITEMS = 64


@dataclass(frozen=True)
class ItemTokens:
    """token: (I, H).  pooled: (I, H), zero mean and unit deviation over the items.  content: (I, C), unit rows."""

    token: np.ndarray
    pooled: np.ndarray
    content: np.ndarray


def item_tokens(
    load: Callable[[int], LanguageModel], texts: list[str], params: TokenParams
) -> tuple[ItemTokens, dict[str, Any]]:
    """All items' tokens and content vectors, and what was measured on the way.

    `load(n)` gives the LLM with its first n layers (0: all): the content needs `params.layer` of them, learning a token
    needs the whole model, which generates text. An item without text gets the mean token and a content vector of zeros:
    similar to nothing.
    Raises `LeaError` where no item has text or the catalogue is too small to whiten.
    """
    llm = load(params.layer)
    rows: list[list[int]] = llm.tokenizer(texts, add_special_tokens=False)["input_ids"]
    lengths = np.array([len(row) for row in rows])
    cut = int((lengths > params.text_tokens).sum())
    if cut:
        warn(f"{cut} of {len(rows)} item texts are longer than tokenize_items.text_tokens = {params.text_tokens}: cut")
    rows = [row[: params.text_tokens] for row in rows]
    present = np.array([len(row) > 0 for row in rows])
    if present.sum() < 2:
        raise LeaError("items.parquet: fewer than two items have text: give dataset.text columns that hold some")
    embedded, hidden = _pool(llm, rows)
    embedded[~present] = embedded[present].mean(axis=0)
    token, learned = embedded, dict[str, float]()
    if params.method == "learned":
        token, learned = _learn(load(0), rows, embedded, params.learned)
    measured = {"items": len(rows), "without_text": int((~present).sum()), "texts_cut": cut, **learned}
    return ItemTokens(token, standardise(hidden, present), whiten(hidden, present, params.content_width)), measured


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


def _by_length(rows: list[list[int]], size: int) -> Iterator[np.ndarray]:
    """Indices of non-empty rows in batches of about equal length, longest first."""
    order = np.array([row for row in np.argsort([-len(row) for row in rows], kind="stable") if rows[row]])
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _padded(rows: list[list[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
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
        for number, chosen in enumerate(_by_length(rows, BATCH_ITEMS)):
            started = time.perf_counter()
            ids, mask = _padded([rows[row] for row in chosen], llm.device)
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


def text_losses(llm: LanguageModel, token: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """-log P(text | token) per text token, for each item: token (B, H), ids and mask (B, T) -> (B,)."""
    embeddings = llm.decoder.get_input_embeddings()(ids)
    inputs = torch.cat([token[:, None].to(embeddings.dtype), embeddings[:, :-1]], dim=1)  # (B, T, H)
    logits = llm.causal(inputs_embeds=inputs, use_cache=False).logits.float()  # (B, T, V)
    losses = F.cross_entropy(logits.transpose(1, 2), ids, reduction="none")  # (B, T)
    return (losses * mask).sum(dim=1) / mask.sum(dim=1)


def _learn(
    llm: LanguageModel, rows: list[list[int]], start: np.ndarray, params: LearnedTokens
) -> tuple[np.ndarray, dict[str, float]]:
    """Train each item's token alone, LLM frozen. Returns tokens (I, H) and the mean text loss before and after."""
    token = start.copy()
    scale = float(llm.decoder.get_input_embeddings().weight.float().abs().mean())  # steps relative to an embedding
    before = after = 0.0
    total = sum(len(row) for row in rows) * params.steps
    with bar(total, "learned tokens", "token") as progress:
        for number, chosen in enumerate(_by_length(rows, params.batch_items)):
            started = time.perf_counter()
            ids, mask = _padded([rows[row] for row in chosen], llm.device)
            leaf = torch.tensor(start[chosen], device=llm.device, requires_grad=True)
            optimiser = torch.optim.Adam([leaf], lr=params.learning_rate * scale)
            best, best_loss = leaf.detach().clone(), torch.full((len(chosen),), torch.inf, device=llm.device)
            for step in range(params.steps + 1):
                losses = text_losses(llm, leaf, ids, mask)
                better = losses.detach() < best_loss
                best[better], best_loss[better] = leaf.detach()[better], losses.detach()[better]
                if step == 0:
                    before += float(losses.detach().sum())
                if step == params.steps:
                    break
                optimiser.zero_grad()
                losses.sum().backward()  # type: ignore[no-untyped-call]  # a sum: no item's gradient depends on the others
                optimiser.step()
                progress.update(int(mask.sum()))
                if number == 0 and step == 1:
                    announce("learned tokens", total, 2 * float(mask.sum()) / (time.perf_counter() - started))
            token[chosen] = best.cpu().numpy()
            after += float(best_loss.sum())
    count = sum(1 for row in rows if row)
    return token, {"text_loss_before": before / count, "text_loss_after": after / count}
