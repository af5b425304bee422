"""GRU4Rec: a gated recurrent network over item embeddings (Hidasi et al., ICLR'16, arXiv 1511.06939).

Here it is PyTorch's GRU, with dropout before and after.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from lea_core.common.bounds import Count, Share
from lea_core.models.backbone import EMBEDDING_DEVIATION, Backbone, Dropout
from lea_core.models.ragged import RaggedBatch

TITLE = "GRU4Rec"
PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # of a layer of torch's GRU


@dataclass(frozen=True)
class Settings:
    """GRU4Rec's recurrent network."""

    width: Count
    layers: Count
    dropout: Share


class Network(Backbone):
    """A gated recurrent network over item embeddings."""

    def __init__(self, num_items: int, _history: int, settings: Settings) -> None:
        super().__init__()
        width, layers = settings.width, settings.layers
        between = settings.dropout if layers > 1 else 0.0
        self.item_embedding = nn.Embedding(num_items, width)
        self.dropout = Dropout(settings.dropout)
        self.gru: nn.Module = nn.GRU(width, width, layers, batch_first=True, dropout=between)
        nn.init.normal_(self.item_embedding.weight, std=EMBEDDING_DEVIATION)

    def states(self, ragged: RaggedBatch) -> Tensor:
        """The states of the R items: (R, D)."""
        states, _ = self.gru(ragged.align(self.dropout(self.item_embedding(ragged.items))))
        result: Tensor = self.dropout(ragged.flatten(states))
        return result

    def use_onnx_layers(self) -> None:
        """ONNX's own GRU in the place of torch's."""
        self.gru = OnnxGru(cast(nn.GRU, self.gru))


class OnnxGru(nn.Module):
    """A GRU as ONNX's own operation: (B, T, D) -> (B, T, D), and nothing for the last states.

    torch 2.13 exports a GRU right only once in a process. While it traces one it exchanges how a GRU is computed, but a
    cache keeps the way of before, and every later graph takes no other number of items than it was traced with.
    """

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        self.layers, self.width = gru.num_layers, gru.hidden_size
        for layer in range(self.layers):
            # torch has a GRU's gates in the order reset, update, new; ONNX update, reset, new.
            parts = [gru.get_parameter(f"{name}_l{layer}").detach().chunk(3) for name in PARTS]
            input_, state, *biases = (torch.cat([update, reset, new])[None] for reset, update, new in parts)
            for name, weight in (("input", input_), ("state", state), ("bias", torch.cat(biases, dim=1))):
                self.register_buffer(f"{name}_{layer}", weight)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """See the class."""
        x = x.transpose(0, 1)  # ONNX takes (T, B, D) and gives (T, 1, B, D)
        for layer in range(self.layers):
            weights = [self.get_buffer(f"{name}_{layer}") for name in ("input", "state", "bias")]
            settings: dict[str, Any] = {"hidden_size": self.width, "linear_before_reset": 1}
            shape = (x.shape[0], 1, *x.shape[1:])
            x = torch.onnx.ops.symbolic("GRU", (x, *weights), settings, dtype=x.dtype, shape=shape).squeeze(1)
        return x.transpose(0, 1), None


CASES = (Settings(width=16, layers=2, dropout=0.2),)
