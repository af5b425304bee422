"""What all backbones share: the contract, and a fast dropout.

One contract, tested for each (tests/models/test_backbones.py): `forward(items)` takes (B, T) int64 item indices, with
-1 where there is none, and returns (B, T, D) states. The state at t depends on the items up to t alone; padding,
wherever it stands, changes nothing and has state 0. `item_embedding` is its (I, D) table.

`last(ragged)` is for scoring alone: the states (B, D) after each row's newest item, without dropout; 0 for an empty
row.

Inside, what concerns one position alone (embeddings, linear layers, dropout) sees the R items that there are, and no
padding; what mixes positions sees each row's items moved to its front, so that position 0 is the first item read and a
causal network cannot see padding (ragged.py).

A backbone is one file of lea_core/models/backbones/ with `TITLE`, `Settings`, `Network` and `CASES`, and its section
of params.yaml: docs/extending.md.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lea_core.models.ragged import RaggedBatch

EMBEDDING_DEVIATION = 0.02


class Dropout(nn.Module):
    """Dropout with 16 random bits per element, so that a share is met to 1 / 65536, at a fraction of the usual cost.

    On the CPU, where a full random number per element takes as long as the layers around it.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """(...) -> (...), zero at the share, larger elsewhere; x itself outside training."""
        if not self.training or self.share == 0.0:
            return x
        if self.share == 1.0:
            return torch.zeros_like(x)
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device).random_(-(2**63), None)
        bits = draws.view(torch.int16)[: x.numel()].view(x.shape)  # uniform over -32768 to 32767
        keep = (bits >= round(65536 * self.share) - 32768).to(x.dtype)
        return x * keep.mul_(1.0 / (1.0 - self.share))


class Backbone(nn.Module):
    """A backbone defines `__init__(num_items, history, settings)`, `states`, and `last` where there is a shortcut."""

    item_embedding: nn.Embedding

    def forward(self, items: Tensor) -> Tensor:
        """(B, T) items, -1 for none -> (B, T, D) states."""
        ragged = RaggedBatch(items)
        return ragged.restore(self.states(ragged))

    def states(self, ragged: RaggedBatch) -> Tensor:
        """The states of the R items: (R, D)."""
        raise NotImplementedError

    def last(self, ragged: RaggedBatch) -> Tensor:
        """The states after each row's newest item: (B, D). For scoring: it has no dropout."""
        return ragged.newest(self.states(ragged))

    def use_onnx_layers(self) -> None:
        """Exchange layers, in a copy made for the export, that torch's ONNX exporter does not know; mostly none."""
