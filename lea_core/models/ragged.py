"""Ragged batches: padding is dropped for layers that look at one position, rows are aligned for those that mix them.

In: (B, T) item indices, -1 for none. Out: a `RaggedBatch`: the R items that there are in a flat order, and the ways
between that order and batches. `StaticBatch` is the variant for ONNX export: its shapes do not depend on data.
"""

from __future__ import annotations

import torch
from torch import Tensor


class RaggedBatch:
    """The R items of a (B, T) batch, and where they stand in it.

    items: (R,) those there are, row by row. positions: (R,) each one's place among its row's. lengths: (B,) items of
    each row.
    """

    def __init__(self, items: Tensor) -> None:
        there = items >= 0
        self.shape = items.shape
        self.standing = there.flatten().nonzero().squeeze(1)  # (R,): in items.flatten()
        self.items = items.flatten()[self.standing]
        self.positions = (there.cumsum(1) - 1).flatten()[self.standing]
        self.lengths = there.sum(1)
        # At least one column, so that a batch without items has a shape that layers accept.
        self.time = max(int(self.lengths.max()), 1) if items.numel() else 1
        self.slots = self.standing // max(items.shape[1], 1) * self.time + self.positions  # in the aligned batch

    def align(self, x: Tensor) -> Tensor:
        """(R, D) -> (B, T', D): each row's items first, 0 after them; T' is the largest number in a row."""
        aligned = x.new_zeros((self.shape[0] * self.time, x.shape[1]))
        return aligned.index_copy(0, self.slots, x).view(self.shape[0], self.time, -1)

    def flatten(self, aligned: Tensor) -> Tensor:
        """Undo `align`: (B, T', D) -> (R, D)."""
        return aligned.flatten(0, 1).index_select(0, self.slots)

    def restore(self, x: Tensor) -> Tensor:
        """(R, D) -> (B, T, D): each where its item stood, padding 0."""
        states = x.new_zeros((self.shape.numel(), x.shape[1]))
        return states.index_copy(0, self.standing, x).view(*self.shape, -1)

    def newest(self, x: Tensor) -> Tensor:
        """(R, D) -> (B, D): each row's last, 0 for an empty row."""
        if not len(x):
            return x.new_zeros((self.shape[0], x.shape[1]))
        ends = (self.lengths.cumsum(0) - 1).clamp(min=0)
        return x.index_select(0, ends) * (self.lengths > 0)[:, None]


class StaticBatch(RaggedBatch):
    """The same for rows that have their items in front: R is B * T then, and what stands at padding is of no meaning.

    No causal network lets an item see the padding that follows it.
    """

    def __init__(self, items: Tensor) -> None:
        self.shape = items.shape
        self.items = items.clamp(min=0).flatten()
        self.positions = torch.arange(items.shape[1], device=items.device).expand(items.shape).flatten()
        self.lengths = (items >= 0).sum(1)
        self.time = items.shape[1]

    def align(self, x: Tensor) -> Tensor:
        """(B * T, D) -> (B, T, D)."""
        return x.view(*self.shape, x.shape[1])

    def flatten(self, aligned: Tensor) -> Tensor:
        """(B, T, D) -> (B * T, D)."""
        return aligned.flatten(0, 1)

    def restore(self, x: Tensor) -> Tensor:
        """(B * T, D) -> (B, T, D), padding 0."""
        there = torch.arange(self.time, device=x.device) < self.lengths[:, None]
        return self.align(x) * there[:, :, None]

    def newest(self, x: Tensor) -> Tensor:
        """(B * T, D) -> (B, D): each row's last item's, 0 for an empty row."""
        ends = (self.lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, x.shape[1])
        return self.align(x).gather(1, ends).squeeze(1) * (self.lengths > 0)[:, None]
