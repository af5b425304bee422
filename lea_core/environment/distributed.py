"""Several processes that fine-tune one LE together, started by `torchrun` or `accelerate launch`.

In: a batch that all of them know. Out: each one's share of it, and gradients and losses added up over all. Without a
launcher there is one process and nothing to add. The processes hold the same weights, for they start from the same seed
and make the same steps.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import nn

Item = TypeVar("Item")


class Team:
    """One process, or, with an `accelerate.Accelerator`, one of several."""

    def __init__(self, accelerator: Any = None) -> None:
        self._accelerator = accelerator

    @property
    def first(self) -> bool:
        """Whether this process writes files."""
        return self._accelerator is None or bool(self._accelerator.is_main_process)

    def share(self, batch: Sequence[Item]) -> list[Item]:
        """The part of a batch that falls to this process; it may be empty."""
        if self._accelerator is None:
            return list(batch)
        return list(batch[self._accelerator.process_index :: self._accelerator.num_processes])

    def add_up(self, parameters: Sequence[nn.Parameter], losses: Sequence[float]) -> list[float]:
        """Add up gradients, in place, and losses over all processes; an absent gradient counts as zero."""
        if self._accelerator is None:
            return list(losses)
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        # One message for all: a reduction per parameter would wait for the network as often.
        flat = torch.cat([gradient.reshape(-1).float() for gradient in gradients] + [gradients[0].new_tensor(losses)])
        flat = self._accelerator.reduce(flat, reduction="sum")
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].reshape(gradient.shape))
            start += gradient.numel()
        return [float(value) for value in flat[start:]]

    def wait(self) -> None:
        """Return when every process has come here."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()


def assemble() -> Team:
    """The team that a launcher started, or this process alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Team()
    from accelerate import Accelerator

    return Team(Accelerator(cpu=not torch.cuda.is_available()))
