"""Backbones: item ids in, one state per position out.

One contract, tested for each (tests/models/test_backbones.py): `forward(items)` takes (B, T) int64 item indices, with
-1 where there is none, and returns (B, T, D) states. The state at t depends on the items up to t alone; padding,
wherever it stands, changes nothing and has state 0. `item_embedding` is its (I, D) table.

`last(places)` is for scoring alone: the states (B, D) after each row's newest item, without dropout; 0 for an empty
row.

Inside, what concerns one position alone (embeddings, linear layers, dropout) sees the R items that there are, and no
padding; what mixes positions sees each row's items moved to its front, so that position 0 is the first item read and a
causal network cannot see padding (ragged.py).

SASRec (Kang & McAuley, ICDM'18, arXiv 1808.09781) departs from its source: both sub-layers normalise before, keys and
values too (the original the query alone), and add to what was not normalised (the original adds to the normalised
query); a linear layer after the heads; no dropout on attention weights, which would leave the fused kernel, nor inside
the feed-forward layer; GELU. GRU4Rec (Hidasi et al., ICLR'16, arXiv 1511.06939) is here PyTorch's GRU over embeddings,
with dropout before and after.

Caser (Tang & Wang, WSDM'18, arXiv 1809.07426) and NextItNet (Yuan et al., WSDM'19, arXiv 1808.05163) follow the SA2C
paper's code, in the deviations of their first convolution weights too (not truncated here; Caser's last layer gets
the same). Caser departs from the original by having no embedding of the user and one vertical filter, with a ReLU;
from that code by the original's fully connected layer, which makes a state of width D of all features, and by the
zeros of a window with few items, which stand in front, not behind, so that the newest item always meets the same
weights. NextItNet departs by its dropout, of the embeddings and of what a block adds.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lea_core.models.ragged import Places

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
    """What all have in common: a backbone defines `states`, and `last` where that can be had for less."""

    item_embedding: nn.Embedding

    def forward(self, items: Tensor) -> Tensor:
        """(B, T) items, -1 for none -> (B, T, D) states."""
        places = Places(items)
        return places.restore(self.states(places))

    def states(self, places: Places) -> Tensor:
        """The states of the R items: (R, D)."""
        raise NotImplementedError

    def last(self, places: Places) -> Tensor:
        """The states after each row's newest item: (B, D). For scoring: it has no dropout."""
        return places.newest(self.states(places))


class Sasrec(Backbone):
    """Causal self-attention with learned positions."""

    def __init__(self, num_items: int, history: int, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.item_embedding = nn.Embedding(num_items, width)
        self.position_embedding = nn.Embedding(history, width)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(_AttentionBlock(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for embedding in (self.item_embedding, self.position_embedding):
            nn.init.normal_(embedding.weight, std=EMBEDDING_DEVIATION)

    def states(self, places: Places) -> Tensor:
        """The states of the R items: (R, D)."""
        x = self._embedded(places)
        for block in self.blocks:
            x = block(x, places)
        normal: Tensor = self.norm(x)
        return normal

    def last(self, places: Places) -> Tensor:
        """(B, D) states: the last block asks for the newest item alone."""
        *earlier, final = self.blocks
        x = self._embedded(places)
        for block in earlier:
            x = block(x, places)
        states: Tensor = self.norm(cast(_AttentionBlock, final).last(x, places))
        return states * (places.lengths > 0)[:, None]

    def _embedded(self, places: Places) -> Tensor:
        """(R, D). Items beyond the `history`-th share its position: training reads one more, for its next state."""
        positions = places.positions.clamp(max=self.position_embedding.num_embeddings - 1)
        x: Tensor = self.dropout(self.item_embedding(places.items) + self.position_embedding(positions))
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

    def forward(self, x: Tensor, places: Places) -> Tensor:
        """(R, D) -> (R, D)."""
        joint = places.align(self.query_key_value(self.attention_norm(x)))  # (B, T, 3 D)
        joint = joint.view(*joint.shape[:2], 3, self.heads, -1)
        query, key, value = joint.permute(2, 0, 3, 1, 4)  # each (B, heads, T, D / heads)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.dropout(self.output(places.flatten(mixed.transpose(1, 2).flatten(2))))
        result: Tensor = x + self.dropout(self.feed_forward(x))
        return result

    def last(self, x: Tensor, places: Places) -> Tensor:
        """What `forward` has for each row's newest item: (R, D) -> (B, D), an empty row's of no meaning.

        One query stands against T keys, so the weights of keys and values go to its side: q (W x) is (q W) x, and a
        mean of W x is W times the mean. That is 2 D numbers for each head and position in the place of 2 D^2.
        """
        normal = self.attention_norm(x)
        keys = places.align(normal)  # (B, T, D)
        to_query, to_key, to_value = self.query_key_value.weight.view(3, self.heads, -1, x.shape[1])  # (heads, d, D)
        query = torch.einsum("bw,hdw->bhd", places.newest(normal), to_query)
        query = torch.einsum("bhd,hdw->bhw", query, to_key) * to_key.shape[1] ** -0.5  # (B, heads, D)
        # An empty row looks at its first place, which is finite.
        there = torch.arange(places.time, device=x.device) < places.lengths.clamp(min=1)[:, None]  # (B, T)
        shares = (query @ keys.transpose(1, 2)).masked_fill(~there[:, None], -torch.inf).softmax(2)  # (B, heads, T)
        mixed = torch.einsum("bhw,hdw->bhd", shares @ keys, to_value).flatten(1)
        own = places.newest(x) + self.output(mixed)
        result: Tensor = own + self.feed_forward(own)
        return result


class Gru4Rec(Backbone):
    """A gated recurrent network over item embeddings."""

    def __init__(self, num_items: int, _history: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.item_embedding = nn.Embedding(num_items, width)
        self.dropout = Dropout(dropout)
        self.gru = nn.GRU(width, width, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        nn.init.normal_(self.item_embedding.weight, std=EMBEDDING_DEVIATION)

    def states(self, places: Places) -> Tensor:
        """The states of the R items: (R, D)."""
        states, _ = self.gru(places.align(self.dropout(self.item_embedding(places.items))))
        result: Tensor = self.dropout(places.flatten(states))
        return result


class Caser(Backbone):
    """Convolutions over the last `window` items: `filters` of each of the `heights` across items, one along them."""

    def __init__(
        self,
        num_items: int,
        _history: int,
        width: int,
        window: int,
        heights: list[int],
        filters: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.window, self.heights = window, heights
        self.item_embedding = nn.Embedding(num_items, width)
        self.horizontal = nn.ModuleList(nn.Conv1d(width, filters, height) for height in heights)
        self.vertical = nn.Linear(window, 1)
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(filters * len(heights) + width, width)
        nn.init.normal_(self.item_embedding.weight, std=EMBEDDING_DEVIATION)
        for name, weight in self.named_parameters():
            if name.endswith("bias"):
                nn.init.constant_(weight, 0.1)  # a ReLU that starts below 0 for every input would learn nothing
            elif not name.startswith("item_embedding"):
                nn.init.normal_(weight, std=0.1)

    def states(self, places: Places) -> Tensor:
        """The states of the R items: (R, D)."""
        x = places.align(self.item_embedding(places.items)).transpose(1, 2)  # (B, D, T)
        x = F.pad(x, (self.window - 1, 0))  # zeros before the first item: every position has a whole window
        return self._state(places.flatten(self._features(x).transpose(1, 2)))

    def last(self, places: Places) -> Tensor:
        """(B, D) states: of each row its last window alone."""
        x = F.pad(places.align(self.item_embedding(places.items)), (0, 0, self.window - 1, 0))  # (B, window - 1 + T, D)
        newest = (places.lengths - 1).clamp(min=0)[:, None] + torch.arange(self.window, device=x.device)
        x = x.gather(1, newest[:, :, None].expand(-1, -1, x.shape[2]))  # (B, window, D)
        states = self._state(self._features(x.transpose(1, 2)).squeeze(2))
        return states * (places.lengths > 0)[:, None]

    def _features(self, x: Tensor) -> Tensor:
        """(B, D, window - 1 + T) -> (B, features, T)."""
        across = [
            self._across(x, convolution, height)
            for convolution, height in zip(self.horizontal, self.heights, strict=True)
        ]
        return F.relu(torch.cat([*across, self._along(x)], dim=1))

    def _state(self, features: Tensor) -> Tensor:
        """(..., features) -> (..., D)."""
        return F.relu(self.output(self.dropout(features)))

    def _across(self, x: Tensor, convolution: nn.Module, height: int) -> Tensor:
        """(B, D, window - 1 + T) -> (B, filters, T): the largest answer in each window.

        The windows overlap: the whole sequence is convolved once.
        """
        return F.max_pool1d(convolution(x), self.window - height + 1, stride=1)

    def _along(self, x: Tensor) -> Tensor:
        """(B, D, window - 1 + T) -> (B, D, T): the weighted sum of each window, the same weights for every feature."""
        width = x.shape[1]
        weight, bias = self.vertical.weight.expand(width, 1, -1), self.vertical.bias.expand(width)
        return F.conv1d(x, weight, bias, groups=width)


class NextItNet(Backbone):
    """Residual blocks of dilated causal convolutions, one block for each of the `dilations`.

    A state reads the last 1 + 3 * (kernel - 1) * sum(dilations) items.
    """

    def __init__(
        self, num_items: int, _history: int, width: int, dilations: list[int], kernel: int, dropout: float
    ) -> None:
        super().__init__()
        self.item_embedding = nn.Embedding(num_items, width)
        self.dropout = Dropout(dropout)
        self.blocks = nn.Sequential(*(_ResidualBlock(width, kernel, dilation, dropout) for dilation in dilations))
        nn.init.normal_(self.item_embedding.weight, std=EMBEDDING_DEVIATION)

    def states(self, places: Places) -> Tensor:
        """The states of the R items: (R, D)."""
        x = places.align(self.dropout(self.item_embedding(places.items)))
        return places.flatten(self.blocks(x))


class _ResidualBlock(nn.Module):
    """Two causal convolutions, the second with twice the dilation, added to their input."""

    def __init__(self, width: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *(_CausalConvolution(width, kernel, dilation), nn.LayerNorm(width), nn.ReLU()),
            *(_CausalConvolution(width, kernel, 2 * dilation), nn.LayerNorm(width), nn.ReLU()),
            Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        result: Tensor = x + self.residual(x)
        return result


class _CausalConvolution(nn.Module):
    """A convolution that reads each position and `kernel` - 1 before it, `dilation` apart; zeros before the first."""

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.reach = dilation * (kernel - 1)
        self.convolution = nn.Conv1d(width, width, kernel, dilation=dilation)
        nn.init.normal_(self.convolution.weight, std=0.02)
        # A larger bias would drown the small embeddings in the layer norm that follows.
        nn.init.zeros_(self.convolution.get_parameter("bias"))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        result: Tensor = self.convolution(F.pad(x.transpose(1, 2), (self.reach, 0))).transpose(1, 2)
        return result


BACKBONES: dict[str, type[Sasrec] | type[Gru4Rec] | type[Caser] | type[NextItNet]] = {
    "sasrec": Sasrec,
    "gru4rec": Gru4Rec,
    "caser": Caser,
    "nextitnet": NextItNet,
}
