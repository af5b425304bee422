"""NextItNet: residual blocks of dilated causal convolutions (Yuan et al., WSDM'19, arXiv 1808.05163).

It follows the SA2C paper's code, in the deviations of its first convolution weights too (not truncated here), and
departs from it by its dropout, of the embeddings and of what a block adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from lea_core.common.bounds import Bounds, Count, Share
from lea_core.models.backbone import EMBEDDING_DEVIATION, Backbone, Dropout
from lea_core.models.ragged import RaggedBatch

TITLE = "NextItNet"


@dataclass(frozen=True)
class Settings:
    """NextItNet: dilated causal convolutions."""

    width: Count
    dilations: Annotated[list[Count], Bounds(min_length=1)]  # of each residual block; its second half doubles it
    kernel: Annotated[int, Bounds(ge=2)]  # items that a convolution reads
    dropout: Share


class Network(Backbone):
    """Residual blocks of dilated causal convolutions, one block for each of the `dilations`.

    A state reads the last 1 + 3 * (kernel - 1) * sum(dilations) items.
    """

    def __init__(self, num_items: int, _history: int, settings: Settings) -> None:
        super().__init__()
        width, kernel, dropout = settings.width, settings.kernel, settings.dropout
        self.item_embedding = nn.Embedding(num_items, width)
        self.dropout = Dropout(dropout)
        blocks = (_ResidualBlock(width, kernel, dilation, dropout) for dilation in settings.dilations)
        self.blocks = nn.Sequential(*blocks)
        nn.init.normal_(self.item_embedding.weight, std=EMBEDDING_DEVIATION)

    def states(self, ragged: RaggedBatch) -> Tensor:
        """The states of the R items: (R, D)."""
        x = ragged.align(self.dropout(self.item_embedding(ragged.items)))
        return ragged.flatten(self.blocks(x))


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


CASES = (Settings(width=16, dilations=[1, 2], kernel=3, dropout=0.2),)
