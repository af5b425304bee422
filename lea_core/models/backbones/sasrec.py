"""SASRec: causal self-attention with learned positions (Kang & McAuley, ICDM'18, arXiv 1808.09781).

Departures: both sub-layers normalise before, keys and values too (the original the query alone), and add to what was
not normalised (the original adds to the normalised query); a linear layer after the heads; no dropout on attention
weights, which would leave the fused kernel, nor inside the feed-forward layer; GELU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lea_core.common.bounds import Count, Share
from lea_core.models.backbone import EMBEDDING_DEVIATION, Backbone, Dropout
from lea_core.models.ragged import RaggedBatch

TITLE = "SASRec"


@dataclass(frozen=True)
class Settings:
    """SASRec: causal self-attention."""

    width: Count
    layers: Count
    heads: Count
    dropout: Share

    def problems(self) -> Iterator[str]:
        """Say what does not fit together, and the mend."""
        if self.width % self.heads:
            yield f"width {self.width} is no multiple of heads {self.heads}: change one of them"


class Network(Backbone):
    """Causal self-attention with learned positions."""

    def __init__(self, num_items: int, history: int, settings: Settings) -> None:
        super().__init__()
        width = settings.width
        self.item_embedding = nn.Embedding(num_items, width)
        self.position_embedding = nn.Embedding(history, width)
        self.dropout = Dropout(settings.dropout)
        self.blocks = nn.ModuleList(
            _AttentionBlock(width, settings.heads, settings.dropout) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(width)
        for embedding in (self.item_embedding, self.position_embedding):
            nn.init.normal_(embedding.weight, std=EMBEDDING_DEVIATION)

    def states(self, ragged: RaggedBatch) -> Tensor:
        """The states of the R items: (R, D)."""
        x = self._embedded(ragged)
        for block in self.blocks:
            x = block(x, ragged)
        normal: Tensor = self.norm(x)
        return normal

    def last(self, ragged: RaggedBatch) -> Tensor:
        """(B, D) states: the last block asks for the newest item alone."""
        *earlier, final = self.blocks
        x = self._embedded(ragged)
        for block in earlier:
            x = block(x, ragged)
        states: Tensor = self.norm(cast(_AttentionBlock, final).last(x, ragged))
        return states * (ragged.lengths > 0)[:, None]

    def _embedded(self, ragged: RaggedBatch) -> Tensor:
        """(R, D). Items beyond the `history`-th share its position: training reads one more, for its next state."""
        positions = ragged.positions.clamp(max=self.position_embedding.num_embeddings - 1)
        x: Tensor = self.dropout(self.item_embedding(ragged.items) + self.position_embedding(positions))
        return x


class _AttentionBlock(nn.Module):
    """Causal attention, then a feed-forward layer, each on normalised input and added to its input."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)  # the softmax cancels a key's bias
        self.output = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)
        )
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, ragged: RaggedBatch) -> Tensor:
        """(R, D) -> (R, D)."""
        joint = ragged.align(self.query_key_value(self.attention_norm(x)))  # (B, T, 3 D)
        joint = joint.view(*joint.shape[:2], 3, self.heads, -1)
        query, key, value = joint.permute(2, 0, 3, 1, 4)  # each (B, heads, T, D / heads)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.dropout(self.output(ragged.flatten(mixed.transpose(1, 2).flatten(2))))
        result: Tensor = x + self.dropout(self.feed_forward(x))
        return result

    def last(self, x: Tensor, ragged: RaggedBatch) -> Tensor:
        """What `forward` has for each row's newest item: (R, D) -> (B, D), an empty row's of no meaning.

        One query stands against T keys, so the weights of keys and values go to its side: q (W x) is (q W) x, and a
        mean of W x is W times the mean. That is 2 D numbers for each head and position in the place of 2 D^2.
        """
        normal = self.attention_norm(x)
        keys = ragged.align(normal)  # (B, T, D)
        to_query, to_key, to_value = self.query_key_value.weight.view(3, self.heads, -1, x.shape[1])  # (heads, d, D)
        query = torch.einsum("bw,hdw->bhd", ragged.newest(normal), to_query)
        query = torch.einsum("bhd,hdw->bhw", query, to_key) * to_key.shape[1] ** -0.5  # (B, heads, D)
        # An empty row looks at its first place, which is finite.
        there = torch.arange(ragged.time, device=x.device) < ragged.lengths.clamp(min=1)[:, None]  # (B, T)
        shares = (query @ keys.transpose(1, 2)).masked_fill(~there[:, None], -torch.inf).softmax(2)  # (B, heads, T)
        mixed = torch.einsum("bhw,hdw->bhd", shares @ keys, to_value).flatten(1)
        own = ragged.newest(x) + self.output(mixed)
        result: Tensor = own + self.feed_forward(own)
        return result


CASES = (Settings(width=16, layers=2, heads=2, dropout=0.2),)
