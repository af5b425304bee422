from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lea_core import losses

HALF_AND_QUARTERS = torch.tensor([[0.5, 0.25, 0.25]]).log()


def close(found: Tensor, wanted: list[float]) -> None:
    torch.testing.assert_close(found, torch.tensor(wanted), atol=1e-6, rtol=1e-6)


def test_cross_entropy_by_hand() -> None:
    two = HALF_AND_QUARTERS.expand(2, 3)
    close(losses.cross_entropy(two, torch.tensor([0, 2])), [0.6931472, 1.3862944])  # ln 2 and ln 4


def test_label_smoothing_is_that_of_torch() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    action = torch.tensor([0, 6, 3, 3, 1])
    wanted = F.cross_entropy(logits, action, label_smoothing=0.3, reduction="none")
    torch.testing.assert_close(losses.cross_entropy(logits.log_softmax(1), action, 0.3), wanted)


def test_proposed_cross_entropy_by_hand() -> None:
    found = losses.proposed_cross_entropy(HALF_AND_QUARTERS, torch.tensor([[0, 1]]), torch.tensor([[0.5, 1.0]]))
    close(found, [0.8664340])  # (0.5 ln 2 + 1 ln 4) / 2


def test_td_logged_by_hand_and_its_gradient() -> None:
    q = torch.tensor([1.0, 1.0], requires_grad=True)
    after = torch.tensor([4.0, 4.0], requires_grad=True)
    loss = losses.td_logged(q, torch.tensor([1.0, 1.0]), after, torch.tensor([False, True]), gamma=0.5)
    close(loss, [2.0, 0.0])  # targets 1 + 0.5 * 4 = 3 and, at the end, 1
    loss.sum().backward()
    close(q.grad, [-2.0, 0.0])  # q - target
    assert after.grad is None  # no gradient into the target


def test_td_same_state_by_hand_and_its_gradient() -> None:
    q = torch.tensor([[1.0, 0.0]], requires_grad=True)
    bootstrap = torch.tensor([2.0], requires_grad=True)
    loss = losses.td_same_state(q, torch.tensor([[0.0, 1.0]]), bootstrap, gamma=0.5)
    close(loss[0], [0.0, 2.0])  # targets 0 + 0.5 * 2 = 1 and 1 + 0.5 * 2 = 2
    loss.sum().backward()
    close(q.grad[0], [0.0, -2.0])
    assert bootstrap.grad is None


def test_advantage_by_hand_clip_and_identity() -> None:
    q_logged = torch.tensor([3.0, 0.0], requires_grad=True)
    q_sampled = torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    free = losses.advantage(q_logged, q_sampled, -10.0, 10.0)
    close(free, [1.0, -1.0])  # 3 - (3 + 1 + 2) / 3 and 0 - (0 + 1 + 2) / 3
    close(losses.advantage(q_logged, q_sampled, 0.0, 0.25), [0.25, 0.0])
    # A = N / (N + 1) * (Q(s, a+) - mean of Q(s, a-)), with N = 2
    torch.testing.assert_close(free, 2 / 3 * (q_logged - q_sampled.mean(dim=1)).detach())
    assert not free.requires_grad


def test_alignment_by_hand() -> None:
    predicted = torch.tensor([[2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    le_state = torch.tensor([[1.0, 0.0]]).expand(3, 2)
    close(losses.alignment(predicted, le_state), [0.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.cross_entropy(torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64)), "action must be int64"),
        (lambda: losses.cross_entropy(torch.zeros(2, 3), torch.zeros(2)), "action must be int64"),
        (lambda: losses.td_same_state(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(3), 0.5), "bootstrap must be"),
        (lambda: losses.td_logged(*[torch.zeros(2)] * 4, 0.5), "terminal must be bool"),
        (lambda: losses.advantage(torch.zeros(2), torch.zeros(3, 4), 0.0, 1.0), "2 logged Q values"),
        (lambda: losses.alignment(torch.zeros(2, 3), torch.zeros(2, 4)), "le_state must be"),
    ],
)
def test_wrong_shapes_and_types_are_refused(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
