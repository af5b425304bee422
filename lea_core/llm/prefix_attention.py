"""Attention under the prefix mask of packing.py, computed only where the mask can be open.

In: queries, keys and values of one layer of any model that asks transformers' attention interface, and the `Prefix` of
the batch. Out: the same attention output as under the full mask, up to rounding.

A token sees events of its window and itself, never another action, so an action's key matters to itself alone: scores
are computed against the events' keys (B, N, M) and, apart, against each token's own key. With A actions per state this
is 1 / (1 + A) of the full scores. Softmax is in float32 over both parts together.

On CPUs this is faster in bfloat16 than torch's fused attention with a mask (docs/scale.md); GPUs keep theirs.
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
SCORES = 2**18  # computed at a time: what a core's cache holds


@dataclass(frozen=True)
class Prefix:
    """Where the tokens of a batch of B rows of N tokens may look.

    keys: (B, M) columns of the row's events, padded with column 0.  mask: (B, 1, N, M) additive float32, of those keys.
    own: (B, 1, N) additive float32: 0 where a token sees its own key apart (actions), -inf where `keys` has it.
    """

    keys: Tensor
    mask: Tensor
    own: Tensor


_current: ContextVar[Prefix] = ContextVar("prefix")


@contextlib.contextmanager
def under(prefix: Prefix) -> Iterator[None]:
    """Attention of the passes within looks where `prefix` says."""
    token = _current.set(prefix)
    try:
        yield
    finally:
        _current.reset(token)


def attend(
    module: nn.Module,  # noqa: ARG001 (the interface's signature)
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Query (B, heads, N, D), key and value (B, groups, N, D) -> (B, N, heads, D), as transformers wants it."""
    prefix = _current.get()
    rows, heads, tokens, width = query.shape
    groups, events = key.shape[1], prefix.keys.shape[1]
    scale = width**-0.5 if scaling is None else scaling
    index = prefix.keys[:, None, :, None].expand(rows, groups, events, width)
    event_keys, event_values = key.gather(2, index).transpose(2, 3), value.gather(2, index)
    repeats = heads // groups
    query = query.reshape(rows, groups, repeats, tokens, width)
    own = (query * key[:, :, None]).sum(dim=-1, dtype=torch.float32) * scale + prefix.own[:, :, None]  # (B, G, r, N)
    output = query.new_empty(rows, groups, repeats, tokens, width)
    step = max(SCORES // (heads * tokens * events), 1)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        scores = torch.matmul(query[part].flatten(2, 3), event_keys[part]).view(-1, groups, repeats, tokens, events)
        joined = torch.empty(*scores.shape[:-1], events + 1, dtype=torch.float32, device=query.device)
        torch.add(prefix.mask[part][:, :, None], scores, alpha=scale, out=joined[..., :events])
        joined[..., events] = own[part]
        weights = joined.softmax(dim=-1).to(query.dtype)
        seen = torch.matmul(weights[..., :events].flatten(2, 3), event_values[part])
        output[part] = seen.view(-1, groups, repeats, tokens, width) + weights[..., events:] * value[part][:, :, None]
    return output.flatten(1, 2).transpose(1, 2).contiguous(), None


def register() -> None:
    """Make the attention known to transformers under NAME; a mask is passed on as it is."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
