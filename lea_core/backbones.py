"""Backbones: item ids in, one state per position out.

One contract, tested for each (tests/test_backbones.py): `forward(items)` takes (B, T) int64 item indices, with -1 where
there is none, and returns (B, T, D) states. The state at t depends on the items up to t alone; padding, wherever it
stands, changes nothing and has state 0. `item_embedding` is its (I, D) table.

Inside, each row's items are moved to its front (`_pack`), so that position 0 is the first item read and a causal
network cannot see padding; the states are moved back afterwards (`_unpack`).

SASRec (Kang & McAuley, ICDM'18, arXiv 1808.09781) departs from its source: both sub-layers normalise before, and add to
what was not normalised (the original adds to the normalised query); no dropout on attention weights, which would leave
the fused kernel, nor inside the feed-forward layer; GELU. GRU4Rec (Hidasi et al., ICLR'16, arXiv 1511.06939) is here
its network, with an embedding layer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EMBEDDING_DEVIATION = 0.02


class Sasrec(nn.Module):
    """Causal self-attention with learned positions."""

    def __init__(self, num_items: int, history: int, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.item_embedding = nn.Embedding(num_items, width)
        self.position_embedding = nn.Embedding(history, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(_Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for embedding in (self.item_embedding, self.position_embedding):
            nn.init.normal_(embedding.weight, std=EMBEDDING_DEVIATION)

    def forward(self, items: Tensor) -> Tensor:
        """(B, T) items, -1 for none -> (B, T, D) states.

        Items beyond the `history`-th share its position: training reads one more, for the value of its next state.
        """
        packed, order = _pack(items)
        positions = torch.arange(items.shape[1], device=items.device)
        positions = positions.clamp(max=self.position_embedding.num_embeddings - 1)
        x = self.dropout(self.item_embedding(packed) + self.position_embedding(positions))  # (B, T, D)
        for block in self.blocks:
            x = block(x)
        return _unpack(self.norm(x), items, order)


class _Block(nn.Module):
    """Causal attention, then a feed-forward layer, each on normalised input and added to its input."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        batch, time, width = x.shape
        joint = self.query_key_value(self.attention_norm(x)).view(batch, time, 3, self.heads, width // self.heads)
        query, key, value = joint.permute(2, 0, 3, 1, 4)  # each (B, heads, T, D / heads)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.dropout(self.output(mixed.transpose(1, 2).reshape(batch, time, width)))
        result: Tensor = x + self.dropout(self.feed_forward(x))
        return result


class Gru4Rec(nn.Module):
    """A gated recurrent network over item embeddings."""

    def __init__(self, num_items: int, _history: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.item_embedding = nn.Embedding(num_items, width)
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(width, width, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        nn.init.normal_(self.item_embedding.weight, std=EMBEDDING_DEVIATION)

    def forward(self, items: Tensor) -> Tensor:
        """(B, T) items, -1 for none -> (B, T, D) states."""
        packed, order = _pack(items)
        states, _ = self.gru(self.dropout(self.item_embedding(packed)))
        return _unpack(self.dropout(states), items, order)


BACKBONES: dict[str, type[Sasrec] | type[Gru4Rec]] = {"sasrec": Sasrec, "gru4rec": Gru4Rec}


def _pack(items: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's items first, in their order, with 0 for none after them; and where each came from. Both (B, T)."""
    order = (items < 0).int().argsort(dim=1, stable=True)
    return items.gather(1, order).clamp(min=0), order


def _unpack(states: Tensor, items: Tensor, order: Tensor) -> Tensor:
    """Undo `_pack` on (B, T, D) states; padding gets 0."""
    index = order.argsort(dim=1)[:, :, None].expand_as(states)
    return states.gather(1, index).masked_fill((items < 0)[:, :, None], 0.0)
