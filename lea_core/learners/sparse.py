"""Item tables of which a step touches few rows: their gradients, their optimiser and their target (`train.sparse`).

In: a network whose item tables (item embeddings; weights and biases of actor and critic) have sparse gradients: the
rows that a batch read. Out: a step that costs those rows, where the usual one passes over all I of them: it fills a
gradient with zeros, adds its moments to every row, and moves every row of the target.

Two things are so. The target is that of the usual Polyak averaging up to rounding: a row is brought up to date when
somebody is about to read it, or when the row that it follows is about to change. The optimiser is not the usual one
(a departure): a row's steps are AdamW's over the steps that touched it, moments and their correction its own. In the
usual one a row moves on by its moments after its last gradient, and rows with few gradients move far by each of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn


class RowAdamW(torch.optim.AdamW):
    """AdamW, row by row for parameters with a sparse gradient; these have no weight decay."""

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Any) -> float: ...
    @torch.no_grad()
    def step(self, closure: Any = None) -> float | None:
        """One step. The gradients must have been coalesced; sparse ones are gone afterwards."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None and table.grad.is_sparse:
                    self._step_rows(table, touched_rows(table), table.grad._values(), group)
                    table.grad = None  # so that AdamW leaves the table alone
        loss: float | None = super().step(closure)
        return loss

    def _step_rows(self, table: Tensor, rows: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """rows: (M,) distinct ones of the table. gradient: (M, ...) of these."""
        state = self.state[table]
        if not state:
            state["row_steps"] = torch.zeros(len(table), dtype=torch.int32, device=table.device)
            state["mean"], state["square"] = torch.zeros_like(table), torch.zeros_like(table)
        first, second = group["betas"]
        steps = state["row_steps"].index_select(0, rows) + 1  # (M,)
        mean = state["mean"].index_select(0, rows).lerp_(gradient, 1.0 - first)
        square = state["square"].index_select(0, rows).mul_(second).addcmul_(gradient, gradient, value=1.0 - second)
        for name, new in (("row_steps", steps), ("mean", mean), ("square", square)):
            state[name].index_copy_(0, rows, new)
        steps = steps.view(-1, *[1] * (gradient.dim() - 1)).to(gradient.dtype)
        size = (square / (1.0 - second**steps)).sqrt_().add_(group["eps"])
        table.index_add_(0, rows, mean.div_(1.0 - first**steps).div_(size), alpha=-float(group["lr"]))


def touched_rows(table: Tensor) -> Tensor:
    """The distinct rows of a table that its coalesced sparse gradient is of: (M,) int64."""
    assert table.grad is not None  # noqa: S101
    rows: Tensor = table.grad._indices()[0]
    return rows


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], limit: float) -> None:
    """Scale all gradients so that their norm does not exceed `limit`; sparse ones are coalesced before."""
    parameters = list(parameters)
    if not any(parameter.grad is not None and parameter.grad.is_sparse for parameter in parameters):
        nn.utils.clip_grad_norm_(parameters, limit)
        return
    given = [parameter for parameter in parameters if parameter.grad is not None]
    for parameter in given:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
    dense = [p.grad._values() if p.grad.is_sparse else p.grad for p in given if p.grad is not None]
    norm = nn.utils.get_total_norm(dense)
    scale = (limit / (norm + 1e-6)).clamp(max=1.0)  # as clip_grad_norm_ does
    for gradient in dense:
        gradient.mul_(scale)


class RowPolyak:
    """Polyak averaging, target <- target + rate * (online - target) at each step, that need not pass over all rows.

    While an online row o stands still, k steps of its target t are one: t <- o + (1 - rate)^k (t - o).
    """

    def __init__(self, target: nn.Module, online: nn.Module, tables: Iterable[str], rate: float) -> None:
        """tables: names of the parameters whose online gradients are sparse."""
        self.rate, self.steps = rate, 0
        old, new = dict(target.named_parameters()), dict(online.named_parameters())
        self.tables = {name: (old.pop(name), new.pop(name)) for name in tables}
        self.others: list[tuple[Tensor, Tensor]] = list(zip(old.values(), new.values(), strict=True))
        # (I,): how many steps each row of the target has made
        self.made = {
            name: torch.zeros(len(table), dtype=torch.int32, device=table.device)
            for name, (table, _) in self.tables.items()
        }

    @torch.no_grad()
    def catch_up(self, name: str, rows: Tensor) -> None:
        """Bring rows (M,) of a target's table up to date; one that comes twice gets the same value twice."""
        target, online = self.tables[name]
        behind = self.steps - self.made[name].index_select(0, rows)  # (M,)
        kept = (1.0 - self.rate) ** behind.view(-1, *[1] * (target.dim() - 1)).to(target.dtype)
        reached = torch.lerp(online.index_select(0, rows), target.index_select(0, rows), kept)
        target.index_copy_(0, rows, reached)
        self.made[name].index_fill_(0, rows, self.steps)

    def before_step(self) -> None:
        """Call when the online network's gradients are there and its rows are about to change."""
        for name, (_, online) in self.tables.items():
            if online.grad is not None:
                self.catch_up(name, touched_rows(online))

    @torch.no_grad()
    def after_step(self) -> None:
        """Count the step of every table, and make that of all else."""
        self.steps += 1
        for target, online in self.others:
            target.lerp_(online, self.rate)
