"""Fine-tuning of one LE by several processes, started by `torchrun` or `accelerate launch`.

In: a batch that is the same in all processes. Out: the share of each process, and the sums of gradients and losses over
all processes. Without a launcher there is one process. All processes hold the same weights, because they start from the
same seed and make the same optimiser steps.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import nn

Item = TypeVar("Item")


class DistributedContext:
    """The processes that work together: one alone, or, with an `accelerate.Accelerator`, several."""

    def __init__(self, accelerator: Any = None) -> None:
        self._accelerator = accelerator

    @property
    def is_main(self) -> bool:
        """Whether this process writes files."""
        return self._accelerator is None or bool(self._accelerator.is_main_process)

    def own_share(self, batch: Sequence[Item]) -> list[Item]:
        """The part of a batch that this process works on; it may be empty."""
        if self._accelerator is None:
            return list(batch)
        return list(batch[self._accelerator.process_index :: self._accelerator.num_processes])

    def sum_over_processes(self, parameters: Sequence[nn.Parameter], losses: Sequence[float]) -> list[float]:
        """Sum gradients, in place, and losses over all processes. A missing gradient counts as zero."""
        if self._accelerator is None:
            return list(losses)
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        # One reduction of one long vector: each reduction waits for the network once.
        flat = torch.cat([gradient.reshape(-1).float() for gradient in gradients] + [gradients[0].new_tensor(losses)])
        flat = self._accelerator.reduce(flat, reduction="sum")
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].reshape(gradient.shape))
            start += gradient.numel()
        return [float(value) for value in flat[start:]]

    def wait_for_all(self) -> None:
        """Return when every process has called this."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()


def distributed_context() -> DistributedContext:
    """The context of the processes that a launcher started, or of this process alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return DistributedContext()
    from accelerate import Accelerator

    return DistributedContext(Accelerator(cpu=not torch.cuda.is_available()))
