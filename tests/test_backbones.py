"""The contract of every backbone."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lea_core.artifacts import read_tensors, write_tensors
from lea_core.backbones import BACKBONES

ITEMS, HISTORY, WIDTH = 30, 8, 16
SETTINGS = {"sasrec": {"layers": 2, "heads": 2, "dropout": 0.2}, "gru4rec": {"layers": 2, "dropout": 0.2}}


@pytest.fixture(params=sorted(BACKBONES))
def backbone(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return BACKBONES[request.param](ITEMS, HISTORY, width=WIDTH, **SETTINGS[request.param]).eval()


def items(seed: int = 0, time: int = HISTORY) -> Tensor:
    return torch.randint(ITEMS, (5, time), generator=torch.Generator().manual_seed(seed))


def test_shape(backbone: nn.Module) -> None:
    assert backbone(items()).shape == (5, HISTORY, WIDTH)
    assert backbone(items(time=HISTORY + 1)).shape == (5, HISTORY + 1, WIDTH)  # training reads one more


def test_padding_changes_nothing_and_has_state_0(backbone: nn.Module) -> None:
    plain = backbone(items())
    for left, inside, right in [(3, 0, 0), (0, 0, 3), (1, 2, 1)]:
        first, last = items().split([5, HISTORY - 5], dim=1)
        pads = [torch.full((5, count), -1) for count in (left, inside, right)]
        padded = torch.cat([pads[0], first, pads[1], last, pads[2]], dim=1)
        states = backbone(padded)
        torch.testing.assert_close(states[padded >= 0].view(5, HISTORY, WIDTH), plain)
        assert (states[padded < 0] == 0).all()
    assert (backbone(torch.full((2, 4), -1)) == 0).all()


def test_future_changes_nothing(backbone: nn.Module) -> None:
    changed = items().clone()
    changed[:, 4] = (changed[:, 4] + 1) % ITEMS
    before, after = backbone(items()), backbone(changed)
    assert torch.equal(before[:, :4], after[:, :4])
    assert (before[:, 4:] != after[:, 4:]).any(dim=2).all()  # and the past does change it


def test_rows_do_not_mix(backbone: nn.Module) -> None:
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(backbone(items()[order]), backbone(items())[order])


def test_gradients_reach_every_parameter(backbone: nn.Module) -> None:
    every_item = torch.arange(ITEMS).view(-1, 1).expand(ITEMS, HISTORY)
    states = backbone(every_item)
    (states * torch.randn(states.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    missing = [name for name, weight in backbone.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert missing == []


def test_save_and_load_round_trip(backbone: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    before = backbone(items())
    write_tensors(path, {name: weight.detach().numpy() for name, weight in backbone.state_dict().items()})
    for weight in backbone.parameters():
        nn.init.zeros_(weight)
    backbone.load_state_dict({name: torch.from_numpy(array) for name, array in read_tensors(path).items()})
    assert torch.equal(backbone(items()), before)
