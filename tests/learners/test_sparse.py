"""Sparse item tables: each piece against its dense twin, then whole learners."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from lea_core.learners.batches import TrainingData
from lea_core.learners.build import build_learner
from lea_core.learners.critics import ITEM_TABLES, polyak
from lea_core.learners.sparse import RowAdamW, RowPolyak, clip_gradients
from lea_core.learners.supervision import Supervision, transitions
from lea_core.models.policy_network import PolicyConfig, PolicyNetwork
from lea_core.params import Params
from tests.support.circle import CPU, params, sequences

SAMPLED = {"train.loss": {"name": "sampled_softmax", "negatives": 9, "popularity": 0.5}, "train.greedy_items": 9}


def sparse(gradient: Tensor, rows: list[int]) -> Tensor:
    """The rows of a dense gradient, as `backward` leaves them once coalesced."""
    found = torch.sparse_coo_tensor(torch.tensor([rows]), gradient[rows], gradient.shape, check_invariants=True)
    return found.coalesce()


def test_where_every_row_is_touched_it_is_adamw() -> None:
    torch.manual_seed(0)
    ours, usual = (nn.Parameter(torch.ones(5, 3)) for _ in range(2))
    by_rows, adamw = RowAdamW([ours], lr=0.01, weight_decay=0.0), torch.optim.AdamW([usual], lr=0.01, weight_decay=0.0)
    for _ in range(20):
        usual.grad = torch.randn(5, 3)
        ours.grad = sparse(usual.grad, [0, 1, 2, 3, 4])
        by_rows.step()
        adamw.step()
        assert ours.grad is None
    torch.testing.assert_close(ours, usual, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("width", [(3,), ()])
def test_a_row_takes_adamw_steps_when_touched_and_else_stays(width: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    table, alone = nn.Parameter(torch.ones(4, *width)), nn.Parameter(torch.ones(1, *width))
    by_rows, adamw = RowAdamW([table], lr=0.01, weight_decay=0.0), torch.optim.AdamW([alone], lr=0.01, weight_decay=0.0)
    for step in range(12):
        rows = [0, 2] if step % 3 == 0 else [0]
        before, gradient = table.detach().clone(), torch.randn(4, *width)
        table.grad = sparse(gradient, rows)
        by_rows.step()
        others = [row for row in range(4) if row not in rows]
        assert torch.equal(table[others], before[others])
        assert not torch.equal(table[rows], before[rows])
        if 2 in rows:
            alone.grad = gradient[2:3]
            adamw.step()
    torch.testing.assert_close(table[2:3], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("limit", [0.1, 1e6])
def test_clipping_is_that_of_the_dense_gradient(limit: float) -> None:
    items = torch.tensor([3, 1, 3, 3])
    found = []
    for use in (True, False):
        torch.manual_seed(0)
        table, layer = nn.Embedding(6, 4, sparse=use), nn.Linear(4, 2)
        layer(table(items)).square().sum().backward()
        weights = [table.weight, *layer.parameters(), nn.Parameter(torch.ones(1))]  # the last has no gradient
        clip_gradients(weights, limit)
        found.append([weight.grad.to_dense() for weight in weights if weight.grad is not None])
    for ours, usual in zip(*found, strict=True):
        torch.testing.assert_close(ours, usual)


def test_a_target_by_rows_is_the_polyak_average_when_it_is_read() -> None:
    torch.manual_seed(0)
    online, target, usual = (nn.Linear(3, 6) for _ in range(3))
    usual.load_state_dict(target.state_dict())
    by_rows = RowPolyak(target, online, ["weight"], 0.1)
    for step in range(30):
        rows = [step % 4, 4]  # row 5 never changes
        online.weight.grad = sparse(torch.ones(6, 3), rows)
        by_rows.before_step()
        with torch.no_grad():
            online.weight[rows] += torch.randn(2, 3)
            online.bias += 0.1
        by_rows.after_step()
        polyak(usual, online, 0.1)  # type: ignore[arg-type]
        read = torch.tensor([step % 6, step % 6, 5])
        by_rows.catch_up("weight", read)
        torch.testing.assert_close(target.weight[read], usual.weight[read])
    torch.testing.assert_close(target.bias, usual.bias)


def trained(name: str, changes: dict[str, Any]) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """All weights of a learner after an epoch in which every batch holds every item, and its losses."""
    torch.manual_seed(0)
    p: Params = params({**SAMPLED, "methods.sa2c.warmup_epochs": 0, "methods.sac.warmup_epochs": 0, **changes})
    world = sequences([14] * 24).train()
    policy = PolicyNetwork(PolicyConfig("sasrec", p.backbones.sasrec.model_dump(), 10, p.train.history))
    supervision = Supervision(torch.ones(len(transitions(world))))
    learner: Any = build_learner(p.variant(name), p, policy, supervision)
    data = TrainingData(world, supervision, getattr(p.methods, name), p.train, CPU)
    steps = [learner.update(batch, 1) for batch in data.epoch(np.random.default_rng(0))]
    losses = [{key: value.item() for key, value in step.items()} for step in steps]
    if name == "supervised":
        return dict(learner.solo.network.named_parameters()), losses
    if learner.critics.by_rows is not None:
        for table in ITEM_TABLES:
            learner.critics.by_rows.catch_up(table, torch.arange(10))
    networks = enumerate(learner.critics.networks)
    return {f"{k} {key}": weight for k, network in networks for key, weight in network.named_parameters()}, losses


@pytest.mark.parametrize("method", ["supervised", "sqn", "sac", "snqn", "sa2c"])
@pytest.mark.parametrize("rate", [0.05, None])
@pytest.mark.parametrize("loss", ["sampled_softmax", "gbce"])
def test_a_learner_whose_batches_hold_every_item_is_the_dense_one(method: str, rate: float | None, loss: str) -> None:
    changes: dict[str, Any] = {"train.batches": {"kind": "packed", "size": 40}, "train.learning_rate": 1e-3}
    if method != "supervised":
        changes[f"methods.{method}.target_rate"] = rate
    if loss == "gbce":
        changes["train.loss"] = {"name": "gbce", "negatives": 9, "calibration": 0.5}
    dense, dense_losses = trained(method, changes)
    ours, losses = trained(method, {**changes, "train.sparse": True})
    assert dense.keys() == ours.keys()
    assert len(losses) > 1
    for key, weight in dense.items():
        torch.testing.assert_close(ours[key], weight, rtol=1e-3, atol=2e-5, msg=key)
    for one, other in zip(losses, dense_losses, strict=True):
        assert one == pytest.approx(other, rel=1e-3)


@pytest.mark.parametrize(
    "changes",
    [{"train.greedy_items": None}, {"train.loss": {"name": "softmax"}}, {"train.weight_decay": 0.1}],
)
def test_sparse_needs_samples(changes: dict[str, Any]) -> None:
    assert params({**SAMPLED, "train.sparse": True}).train.sparse
    with pytest.raises(ValidationError, match="give a sampled loss, a number of greedy_items and weight_decay 0"):
        params({**SAMPLED, "train.sparse": True, **changes})
