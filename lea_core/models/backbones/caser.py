"""Caser: convolutions over the last items (Tang & Wang, WSDM'18, arXiv 1809.07426).

It follows the SA2C paper's code, in the deviations of its first convolution weights too (not truncated here; the last
layer gets the same). It departs from the original by having no embedding of the user and one vertical filter, with a
ReLU; from that code by the original's fully connected layer, which makes a state of width D of all features, and by the
zeros of a window with few items, which stand in front, not behind, so that the newest item always meets the same
weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lea_core.common.bounds import Bounds, Count, Share
from lea_core.models.backbone import EMBEDDING_DEVIATION, Backbone, Dropout
from lea_core.models.ragged import RaggedBatch

TITLE = "Caser"


@dataclass(frozen=True)
class Settings:
    """Caser: convolutions over the last items."""

    width: Count
    window: Count  # items that a state reads
    heights: Annotated[list[Count], Bounds(min_length=1)]  # of the horizontal filters, in items
    filters: Count  # per height
    dropout: Share

    def problems(self) -> Iterator[str]:
        """Say what does not fit together, and the mend."""
        if max(self.heights) > self.window:
            yield f"heights {self.heights} must fit into window {self.window}: change one of them"


class Network(Backbone):
    """Convolutions over the last `window` items: `filters` of each of the `heights` across items, one along them."""

    def __init__(self, num_items: int, _history: int, settings: Settings) -> None:
        super().__init__()
        width, filters = settings.width, settings.filters
        self.window, self.heights = settings.window, settings.heights
        self.item_embedding = nn.Embedding(num_items, width)
        self.horizontal = nn.ModuleList(nn.Conv1d(width, filters, height) for height in self.heights)
        self.vertical = nn.Linear(self.window, 1)
        self.dropout = Dropout(settings.dropout)
        self.output = nn.Linear(filters * len(self.heights) + width, width)
        nn.init.normal_(self.item_embedding.weight, std=EMBEDDING_DEVIATION)
        for name, weight in self.named_parameters():
            if name.endswith("bias"):
                nn.init.constant_(weight, 0.1)  # a ReLU that starts below 0 for every input would learn nothing
            elif not name.startswith("item_embedding"):
                nn.init.normal_(weight, std=0.1)

    def states(self, ragged: RaggedBatch) -> Tensor:
        """The states of the R items: (R, D)."""
        x = ragged.align(self.item_embedding(ragged.items)).transpose(1, 2)  # (B, D, T)
        x = F.pad(x, (self.window - 1, 0))  # zeros before the first item: every position has a whole window
        return self._state(ragged.flatten(self._features(x).transpose(1, 2)))

    def last(self, ragged: RaggedBatch) -> Tensor:
        """(B, D) states: of each row its last window alone."""
        x = F.pad(ragged.align(self.item_embedding(ragged.items)), (0, 0, self.window - 1, 0))  # (B, window - 1 + T, D)
        newest = (ragged.lengths - 1).clamp(min=0)[:, None] + torch.arange(self.window, device=x.device)
        x = x.gather(1, newest[:, :, None].expand(-1, -1, x.shape[2]))  # (B, window, D)
        states = self._state(self._features(x.transpose(1, 2)).squeeze(2))
        return states * (ragged.lengths > 0)[:, None]

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


CASES = (Settings(width=16, window=5, heights=[1, 2, 5], filters=3, dropout=0.2),)
