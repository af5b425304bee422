"""Attention under the prefix mask of packing.py, computed only where the mask can be open.

In: queries, keys and values of one layer of any model that uses transformers' attention interface, and the `Prefix` of
the batch. Out: the same attention output as with the full mask, up to rounding.

A token sees events of its window and itself, but never another action. So only an action itself needs its key. Scores
are computed against the keys of the events (B, N, M) and, separately, against each token's own key. With A actions per
state these are 1 / (1 + A) of all scores. The softmax over both parts together is in float32.

On CPUs this is faster in bfloat16 than torch's fused attention with a mask (docs/scale.md). GPUs use the latter.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

NAME = "lea_prefix"
CACHED_SCORES = 2**18  # scores computed at a time: they fit in the cache of a core


@dataclass(frozen=True)
class Prefix:
    """The keys that each token of a batch may see; B rows of N tokens.

    keys: (B, M) columns of the row's events, padded with other columns.  mask: (B, 1, N, M) additive float32, for
    these keys.  own: (B, 1, N) additive float32: 0 where the token's own key is not in `keys` (actions), else -inf.
    """

    keys: Tensor
    mask: Tensor
    own: Tensor


_current: ContextVar[Prefix] = ContextVar("prefix")


@contextlib.contextmanager
def use(prefix: Prefix) -> Iterator[None]:
    """Forward passes in this context use `prefix`."""
    token = _current.set(prefix)
    try:
        yield
    finally:
        _current.reset(token)


class UnsupportedAttentionError(Exception):
    """The model's attention has a part that `attend` does not compute."""


def attend(
    module: nn.Module,  # noqa: ARG001 (the interface's signature)
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001
    scaling: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Query (B, heads, N, D), key (B, groups, N, D), value (B, groups, N, V) -> (B, N, heads, V)."""
    if s_aux is not None:
        raise UnsupportedAttentionError("its attention has sinks")
    prefix = _current.get()
    rows, heads, tokens, width = query.shape
    groups, events = key.shape[1], prefix.keys.shape[1]
    scale = width**-0.5 if scaling is None else scaling
    index = prefix.keys[:, None, :, None].expand(rows, groups, events, 1)
    event_keys = key.gather(2, index.expand(-1, -1, -1, width)).transpose(2, 3)
    event_values = value.gather(2, index.expand(-1, -1, -1, value.shape[-1]))
    repeats = heads // groups
    query = query.reshape(rows, groups, repeats, tokens, width)
    own = (query * key[:, :, None]).sum(dim=-1, dtype=torch.float32) * scale + prefix.own[:, :, None]  # (B, G, r, N)
    output = query.new_empty(rows, groups, repeats, tokens, value.shape[-1])
    step = max(CACHED_SCORES // (heads * tokens * events), 1)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        scores = torch.matmul(query[part].flatten(2, 3), event_keys[part]).view(-1, groups, repeats, tokens, events)
        joined = torch.empty(*scores.shape[:-1], events + 1, dtype=torch.float32, device=query.device)
        torch.add(prefix.mask[part][:, :, None], scores, alpha=scale, out=joined[..., :events])
        joined[..., events] = own[part]
        weights = joined.softmax(dim=-1).to(query.dtype)
        seen = torch.matmul(weights[..., :events].flatten(2, 3), event_values[part])
        output[part] = (
            seen.view(-1, groups, repeats, tokens, value.shape[-1]) + weights[..., events:] * value[part][:, :, None]
        )
    return output.flatten(1, 2).transpose(1, 2).contiguous(), None


def register() -> None:
    """Register this attention in transformers under NAME; masks are passed on unchanged."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
