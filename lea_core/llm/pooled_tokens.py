"""Item tokens from the frozen LLM's own vectors: pooled tokens and content vectors.

In: item texts and the frozen LLM. Out: pooled tokens, what the `ITEM_TOKENS` table holds beside them, the statistics
that scale them, and the texts' token ids, which the other methods (tokenize.py) start from.

`token` stands for the item in every sequence that the LE reads (paper, figure 2: one token embedding per item); pooled,
it is the mean of the text's input embeddings. (Measured on MovieLens-100K: heads on the frozen LLM reach more with it
than with whitened last hidden states, docs/lab-notebook.md.)
`content` is the mean of the text's hidden states at one layer, whitened: the content similarity where the LE starts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from lea_core.common.artifacts import read_tensors
from lea_core.common.errors import LeaError, show_causes, warn
from lea_core.common.progress import announce, bar
from lea_core.llm.language_model import LanguageModel, fingerprint
from lea_core.llm.text_cache import TextCache

BATCH_ITEMS = 64


@dataclass(frozen=True)
class ItemTokens:
    """token: (I, H).  pooled: (I, H), zero mean and unit deviation over the items.  content: (I, C), unit rows."""

    token: np.ndarray
    pooled: np.ndarray
    content: np.ndarray


@dataclass(frozen=True)
class Statistics:
    """What the items' vectors are measured against: `statistics.safetensors`.

    mean, deviation: (H,) of the hidden states.  map: (H, C) float64, from hidden states less their mean to equal
    variance along the principal directions.  embedded_mean: (H,), the token of an item without text.
    """

    mean: np.ndarray
    deviation: np.ndarray
    map: np.ndarray
    embedded_mean: np.ndarray


@dataclass(frozen=True)
class Pooled:
    """rows: the texts' token ids.  measured: counts of items, of those without text, of texts cut."""

    tokens: ItemTokens
    statistics: Statistics
    rows: list[list[int]]
    measured: dict[str, int]


def pooled_tokens(
    llm: LanguageModel,
    texts: list[str],
    text_tokens: int,
    content_width: int,
    given: Statistics | None = None,
    cache: TextCache | None = None,
) -> Pooled:
    """All items' pooled tokens and content vectors, and what was measured on the way.

    `llm` has as many layers as the content is to be read after. An item without text gets the mean token and a content
    vector of zeros: similar to nothing. With `given` statistics, an item's vectors depend on its own text alone;
    without, these items give the statistics. `cache`, from `text_cache`, has the texts that were pooled before.
    Raises `LeaError` where fewer than two items have text, the catalogue is too small to whiten, or the LLM cannot read
    the texts.
    """
    rows, cut = text_ids(llm, texts, text_tokens)
    present = np.flatnonzero([len(row) > 0 for row in rows])
    if len(present) < (1 if given else 2):
        raise LeaError("items.parquet: fewer than two items have text: give dataset.text columns that hold some")
    read = [rows[item] for item in present]
    found = cache.complete(read, lambda new: _pool(llm, [read[n] for n in new])) if cache else _pool(llm, read)
    used = given or fit(found["embedded"], found["hidden"], content_width)
    token = np.tile(used.embedded_mean, (len(rows), 1))
    pooled = np.zeros_like(token)
    content = np.zeros((len(rows), used.map.shape[1]), dtype=np.float32)
    token[present] = found["embedded"]
    pooled[present] = (found["hidden"] - used.mean) / used.deviation
    content[present] = whiten(found["hidden"], used)
    measured = {"items": len(rows), "without_text": len(rows) - len(present), "texts_cut": cut}
    return Pooled(ItemTokens(token, pooled, content), used, rows, measured)


def text_cache(llm: LanguageModel, text_tokens: int) -> TextCache:
    """The vectors of texts that this LLM, with as many layers, has pooled before, by this code."""
    identity = {"llm": fingerprint(llm), "layers": llm.num_layers, "text_tokens": text_tokens}
    return TextCache("pooled", __name__, identity, {"embedded": (llm.width,), "hidden": (llm.width,)})


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


def fit(embedded: np.ndarray, hidden: np.ndarray, width: int) -> Statistics:
    """Statistics of the texts' mean input embeddings and mean hidden states, both (N, H); C is `width`.

    Raises `LeaError` where the hidden states span fewer directions.
    """
    mean = hidden.mean(axis=0)
    left, strengths, right = np.linalg.svd((hidden - mean).astype(np.float64), full_matrices=False)
    spanned = int((strengths > strengths[0] * 1e-6).sum())
    if width > spanned:
        raise LeaError(
            f"params.yaml: tokenize_items.content_width {width} is more than the {spanned} directions that the "
            f"{len(hidden)} item texts span: lower it"
        )
    # The sign of a singular vector is arbitrary: fix it, so that equal input gives equal bytes.
    signs = np.sign(left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])])
    directions = right[:width] * (signs[:width] / strengths[:width])[:, None]  # (C, H)
    return Statistics(mean, hidden.std(axis=0) + 1e-6, np.ascontiguousarray(directions.T), embedded.mean(axis=0))


def read_statistics(file: Path, llm_width: int, content_width: int) -> Statistics:
    """Read what an earlier run wrote, for an LLM of width H and content vectors of width C.

    Raises `LeaError` where the file holds no statistics, or ones of other widths.
    """
    mend = "name the statistics.safetensors of a run with this LLM and layer in tokenize_items.statistics, or set it to"
    try:
        arrays = read_tensors(file)
    except LeaError as error:
        show_causes(error)
        arrays = {}
    if arrays.keys() != {field.name for field in fields(Statistics)} or arrays["map"].ndim != 2:
        raise LeaError(f"{file}: holds no statistics of item texts: {mend} null")
    width, columns = arrays["map"].shape
    shapes = {name: array.shape for name, array in arrays.items() if name != "map"}
    if (width, columns) != (llm_width, content_width) or set(shapes.values()) != {(width,)}:
        raise LeaError(
            f"{file}: statistics of an LLM of width {width} and a content_width of {columns}, but they are {llm_width} "
            f"and {content_width} here: {mend} null to fit anew"
        )
    return Statistics(**arrays)


def whiten(hidden: np.ndarray, statistics: Statistics) -> np.ndarray:
    """(N, H) -> (N, C) float32: along the principal directions, rows of unit length."""
    centred = (hidden - statistics.mean).astype(np.float64)
    # One row at a time: the rounding of a product of matrices depends on how many rows there are.
    directed = np.matmul(centred[:, None, :], statistics.map)[:, 0]
    lengths = np.linalg.norm(directed, axis=1, keepdims=True)
    return (directed / np.maximum(lengths, 1e-12)).astype(np.float32)  # type: ignore[no-any-return]


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


def _pool(llm: LanguageModel, rows: list[list[int]]) -> dict[str, np.ndarray]:
    """`embedded`, `hidden`: mean input embedding and mean last hidden state of every text; (N, H). No text is empty."""
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
    return {"embedded": embedded, "hidden": hidden}
