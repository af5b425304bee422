"""The contract of every backbone, and what the convolutional ones read."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lea_core.common.artifacts import read_tensors, write_tensors
from lea_core.common.registry import BACKBONES
from lea_core.models.backbone import Backbone
from lea_core.models.ragged import RaggedBatch, StaticBatch

ITEMS, HISTORY, WIDTH = 30, 8, 16
CASES = [(name, case) for name in BACKBONES.names for case in BACKBONES.load(name).CASES]


def build(name: str, **changes: Any) -> Any:
    """The first test case of a backbone, with changes."""
    torch.manual_seed(0)
    file = BACKBONES.load(name)
    return file.Network(ITEMS, HISTORY, replace(file.CASES[0], **changes)).eval()


@pytest.fixture(params=CASES, ids=lambda case: case[0])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    name, settings = request.param
    torch.manual_seed(0)
    built: Backbone = BACKBONES.load(name).Network(ITEMS, HISTORY, settings)
    return built.eval()


def items(seed: int = 0, time: int = HISTORY) -> Tensor:
    return torch.randint(ITEMS, (5, time), generator=torch.Generator().manual_seed(seed))


def test_shape(backbone: Backbone) -> None:
    assert backbone(items()).shape == (5, HISTORY, WIDTH)
    assert backbone(items(time=HISTORY + 1)).shape == (5, HISTORY + 1, WIDTH)  # training reads one more


def test_padding_changes_nothing_and_has_state_0(backbone: Backbone) -> None:
    plain = backbone(items())
    for left, inside, right in [(3, 0, 0), (0, 0, 3), (1, 2, 1)]:
        first, last = items().split([5, HISTORY - 5], dim=1)
        pads = [torch.full((5, count), -1) for count in (left, inside, right)]
        padded = torch.cat([pads[0], first, pads[1], last, pads[2]], dim=1)
        states = backbone(padded)
        torch.testing.assert_close(states[padded >= 0].view(5, HISTORY, WIDTH), plain)
        assert (states[padded < 0] == 0).all()
    assert (backbone(torch.full((2, 4), -1)) == 0).all()


def test_the_last_states_are_those_of_all(backbone: Backbone) -> None:
    """Wherever the padding stands, one row empty; and with items in front, of shapes that do not depend on data."""
    given = items()
    given[0, :] = -1
    given[1, :5] = -1
    given[2, 3] = -1
    given[3, 4:] = -1
    newest = torch.tensor([0, 7, 7, 3, 7])
    expected = backbone(given)[torch.arange(5), newest]
    torch.testing.assert_close(backbone.last(RaggedBatch(given)), expected)
    assert (expected[0] == 0).all()
    assert (backbone.last(RaggedBatch(given[:1])) == 0).all()
    front = given[[0, 3, 4]]
    torch.testing.assert_close(backbone.last(StaticBatch(front)), expected[[0, 3, 4]])
    ragged = StaticBatch(front)
    torch.testing.assert_close(ragged.restore(backbone.states(ragged)), backbone(front))


def test_future_changes_nothing(backbone: Backbone) -> None:
    changed = items().clone()
    changed[:, 4] = (changed[:, 4] + 1) % ITEMS
    before, after = backbone(items()), backbone(changed)
    assert torch.equal(before[:, :4], after[:, :4])
    assert (before[:, 4:] != after[:, 4:]).any(dim=2).all()  # and the past does change it


def test_future_changes_nothing_after_padding(backbone: Backbone) -> None:
    padded = torch.cat([torch.full((5, 3), -1), items(time=5)], dim=1)
    changed = padded.clone()
    changed[:, 6] = (changed[:, 6] + 1) % ITEMS
    assert torch.equal(backbone(padded)[:, :6], backbone(changed)[:, :6])


def test_rows_do_not_mix(backbone: Backbone) -> None:
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(backbone(items()[order]), backbone(items())[order])


def test_gradients_reach_every_parameter(backbone: Backbone) -> None:
    every_item = torch.arange(ITEMS).view(-1, 1).expand(ITEMS, HISTORY)
    states = backbone(every_item)
    (states * torch.randn(states.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    missing = [name for name, weight in backbone.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert missing == []


def test_save_and_load_round_trip(backbone: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    before = backbone(items())
    write_tensors(path, {name: weight.detach().numpy() for name, weight in backbone.state_dict().items()})
    for weight in backbone.parameters():
        nn.init.zeros_(weight)
    backbone.load_state_dict({name: torch.from_numpy(array) for name, array in read_tensors(path).items()})
    assert torch.equal(backbone(items()), before)


# ---- Caser and NextItNet


def caser_by_windows(backbone: Any, history: list[int]) -> Tensor:
    """The state after a history, from one window as a picture of `window` by `width` pixels, as the paper draws it."""
    rows = [torch.zeros(WIDTH)] * backbone.window + [backbone.item_embedding.weight[item] for item in history]
    picture = torch.stack(rows[-backbone.window :])[None, None]  # (1, 1, window, D)
    features = []
    for layer in backbone.horizontal:
        filters, _, height = layer.weight.shape
        weight = torch.stack([layer.weight[:, :, row] for row in range(height)], dim=1)[:, None]
        assert weight.shape == (filters, 1, height, WIDTH)
        features.append(F.relu(F.conv2d(picture, weight, layer.bias)).amax(dim=(2, 3)).flatten())
    weight = backbone.vertical.weight.view(1, 1, backbone.window, 1)
    features.append(F.relu(F.conv2d(picture, weight, backbone.vertical.bias)).flatten())
    return F.relu(backbone.output(torch.cat(features)))


def test_caser_is_a_loop_over_windows() -> None:
    backbone = build("caser")
    nn.init.normal_(backbone.item_embedding.weight)  # large enough that filters differ and ReLUs close
    given = items(time=12)
    wanted = [[caser_by_windows(backbone, row[: t + 1]) for t in range(12)] for row in given.tolist()]
    found = backbone(given)
    assert (found == 0).any()
    torch.testing.assert_close(found, torch.stack([torch.stack(states) for states in wanted]))


def plain_half(x: list[Tensor], weights: dict[str, Tensor], at: int, dilation: int) -> list[Tensor]:
    """Convolution, layer norm and ReLU of one sequence; `at` is the convolution's place in its block."""
    kernel, result = weights[f"{at}.convolution.weight"], []
    for t in range(len(x)):
        y = weights[f"{at}.convolution.bias"]
        for back in range(kernel.shape[2]):
            if t - back * dilation >= 0:
                y = y + kernel[:, :, -1 - back] @ x[t - back * dilation]
        y = (y - y.mean()) / (y.var(correction=0) + 1e-5).sqrt()
        result.append((y * weights[f"{at + 1}.weight"] + weights[f"{at + 1}.bias"]).clamp(min=0))
    return result


def test_nextitnet_is_a_loop_over_positions() -> None:
    backbone = build("nextitnet")
    for weight in backbone.parameters():
        nn.init.normal_(weight)
    given = items()
    found = backbone(given)
    for row, states in zip(given, found, strict=True):
        x = list(backbone.item_embedding.weight[row])
        for block, dilation in zip(backbone.blocks, [1, 2], strict=True):
            weights = dict(block.residual.named_parameters())
            added = plain_half(plain_half(x, weights, 0, dilation), weights, 3, 2 * dilation)
            x = [one + other for one, other in zip(x, added, strict=True)]
        torch.testing.assert_close(states, torch.stack(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "settings", "reach"),
    [
        ("caser", {"window": 5}, 5),
        ("caser", {"window": 7, "heights": [2]}, 7),
        ("nextitnet", {"dilations": [1], "kernel": 2}, 4),  # 1 + 1 + 2
        ("nextitnet", {"dilations": [1], "kernel": 3}, 7),  # 1 + 2 + 4
        ("nextitnet", {"dilations": [1, 2], "kernel": 3}, 19),  # 1 + 2 + 4 + 4 + 8
    ],
)
def test_receptive_field(name: str, settings: dict[str, Any], reach: int) -> None:
    """The last `reach` items make the state, and the one at the edge is among them."""
    backbone = build(name, **settings)
    if name == "nextitnet":
        for layer in backbone.modules():
            if isinstance(layer, nn.Conv1d):
                nn.init.normal_(layer.weight)  # large enough that a single item far back shows
    given = items(time=24)
    for position, reads in ((24 - reach - 1, False), (24 - reach, True)):
        changed = given.clone()
        changed[:, position] = (changed[:, position] + 1) % ITEMS
        equal = (backbone(given)[:, -1] == backbone(changed)[:, -1]).all(dim=1)
        assert (~equal).all() if reads else equal.all()
