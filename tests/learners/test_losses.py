from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lea_core.learners import losses


def close(found: Tensor, wanted: list[float]) -> None:
    torch.testing.assert_close(found, torch.tensor(wanted), atol=1e-6, rtol=1e-6)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[0.5, 0.25, 0.25]]).log().expand(2, 3) + 5.0  # log Z is 5
    action = torch.tensor([0, 2])
    close(losses.cross_entropy(logits.log_softmax(1), action), [0.6931472, 1.3862944])  # ln 2 and ln 4
    log_partition = logits.logsumexp(1)
    close(losses.sampled_cross_entropy(logits[[0, 1], action], log_partition), [0.6931472, 1.3862944])
    close(losses.sampled_cross_entropy(logits[:, :2], log_partition)[1], [0.6931472, 1.3862944])


def test_label_smoothing_is_that_of_torch() -> None:
    logits, action = random(5, 7), torch.tensor([0, 6, 3, 3, 1])
    wanted = F.cross_entropy(logits, action, label_smoothing=0.3, reduction="none")
    torch.testing.assert_close(losses.cross_entropy(logits.log_softmax(1), action, 0.3), wanted)


def test_sampled_softmax_over_every_item_once_is_the_softmax() -> None:
    logits, action, every = random(5, 7), torch.tensor([0, 6, 3, 3, 1]), torch.arange(7)
    logit = logits.gather(1, action[:, None]).squeeze(1)
    log_counts = torch.zeros(7)  # 7 draws, each item's share 1/7: each is expected once
    found = losses.sampled_log_partition(logit, logits, log_counts, action[:, None] == every)
    torch.testing.assert_close(found, logits.logsumexp(1))


def test_sampled_partition_function_is_unbiased_however_it_is_drawn() -> None:
    """Every draw of two items from q, weighted by its probability, gives the partition function itself."""
    logits, q = torch.tensor([0.3, -1.0, 2.0]), torch.tensor([0.5, 0.2, 0.3])
    expected = torch.zeros(1)
    for first in range(3):
        for second in range(3):
            drawn = torch.tensor([first, second])
            log_counts = (2 * q[drawn]).log()
            is_logged = (drawn == 1)[None]  # the logged item is item 1
            estimate = losses.sampled_log_partition(logits[1:2], logits[drawn][None], log_counts, is_logged).exp()
            expected += q[first] * q[second] * estimate
    torch.testing.assert_close(expected, logits.exp().sum()[None])


def test_gbce_by_hand_and_its_two_ends() -> None:
    logit, sampled = torch.tensor([0.0]), torch.tensor([[0.0, 1.0986123, 0.0]])
    is_logged = torch.tensor([[False, False, True]])
    # (0.5 ln 2 + ln 2 + ln(1 + 3)) / 4, for log sigmoid(0) = -ln 2, exp(1.0986) = 3, and the last draw is a+
    close(losses.gbce(logit, sampled, is_logged, 0.5), [(1.5 * 0.6931472 + 1.3862944) / 4])
    assert losses.gbce_beta(5, 11, 0.0) == 1.0  # plain binary cross-entropy
    assert losses.gbce_beta(5, 11, 1.0) == 0.5  # the share of the other items that are sampled
    wanted = F.binary_cross_entropy_with_logits(torch.tensor([0.0, 0.0, 1.0986123]), torch.tensor([1.0, 0.0, 0.0]))
    close(losses.gbce(logit, sampled[:, :2], is_logged[:, :2], 1.0), [wanted.item()])


def test_proposed_by_hand() -> None:
    # (0.5 * 2 + 1 * 4) / 2
    close(losses.proposed(torch.tensor([[2.0, 4.0]]), torch.tensor([[0.5, 1.0]])), [2.5])


def test_ranked_by_hand() -> None:
    # log probabilities log 4 and log 1: shares 4/5 and 1/5, at temperature 2 the shares of 2 and 1
    per_action, log_probabilities = torch.tensor([[1.0, 6.0]]), torch.tensor([[1.3862944, 0.0]])
    close(losses.ranked(per_action, log_probabilities, 1.0), [0.8 + 1.2])
    close(losses.ranked(per_action, log_probabilities, 2.0), [2 / 3 + 2.0])


def test_td_logged_by_hand_and_its_gradient() -> None:
    q = torch.tensor([1.0, 1.0], requires_grad=True)
    after = torch.tensor([4.0, 4.0], requires_grad=True)
    loss = losses.td_logged(q, torch.tensor([1.0, 1.0]), after, torch.tensor([False, True]), gamma=0.5)
    close(loss, [4.0, 0.0])  # targets 1 + 0.5 * 4 = 3 and, at the end, 1
    loss.sum().backward()
    close(q.grad, [-4.0, 0.0])  # 2 (q - target)
    assert after.grad is None  # no gradient into the target


def test_td_same_state_by_hand_and_its_gradient() -> None:
    q = torch.tensor([[1.0, 0.0]], requires_grad=True)
    bootstrap = torch.tensor([2.0], requires_grad=True)
    loss = losses.td_same_state(q, torch.tensor([[0.0, 1.0]]), bootstrap, gamma=0.5)
    close(loss[0], [0.0, 4.0])  # targets 0 + 0.5 * 2 = 1 and 1 + 0.5 * 2 = 2
    loss.sum().backward()
    close(q.grad[0], [0.0, -4.0])
    assert bootstrap.grad is None


def test_advantage_by_hand_and_identity() -> None:
    q_logged = torch.tensor([3.0, 0.0], requires_grad=True)
    q_sampled = torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    free = losses.advantage(q_logged, q_sampled)
    close(free, [1.0, -1.0])  # 3 - (3 + 1 + 2) / 3 and 0 - (0 + 1 + 2) / 3
    # A = N / (N + 1) * (Q(s, a+) - mean of Q(s, a-)), with N = 2
    torch.testing.assert_close(free, 2 / 3 * (q_logged - q_sampled.mean(dim=1)).detach())
    assert not free.requires_grad


def test_weights_of_mean_by_hand() -> None:
    close(losses.of_mean(torch.tensor([0.1, 0.3]), 1.0), [0.5, 1.5])
    close(losses.of_mean(torch.tensor([-1.0, 3.0]), 0.5), [-0.25, 0.75])  # the mean of the sizes, 2, counts
    close(losses.of_mean(torch.zeros(2), 1.0), [0.0, 0.0])


def test_importance_ratio_by_hand() -> None:
    log_policy = torch.tensor([0.5, 0.5, 0.01]).log().requires_grad_()
    log_behaviour = torch.tensor([0.25, 0.01, 0.5]).log()
    ratio = losses.importance_ratio(log_policy, log_behaviour, 0.1, 10.0, 1.0)
    close(ratio, [2.0, 10.0, 0.1])  # 0.5 / 0.25, and two that are clipped
    assert not ratio.requires_grad
    close(losses.importance_ratio(log_policy, log_behaviour, 0.1, 10.0, 0.5), [2**0.5, 10**0.5, 0.1**0.5])
    close(losses.importance_ratio(log_policy, log_behaviour, 0.1, 10.0, 0.0), [1.0, 1.0, 1.0])


def test_alignment_by_hand() -> None:
    predicted = torch.tensor([[2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    le_state = torch.tensor([[1.0, 0.0]]).expand(3, 2)
    close(losses.alignment(predicted, le_state), [0.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.cross_entropy(torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64)), "action must be int64"),
        (lambda: losses.cross_entropy(torch.zeros(2, 3), torch.zeros(2)), "action must be int64"),
        (lambda: losses.sampled_cross_entropy(torch.zeros(2, 3), torch.zeros(3)), "log_partition must be"),
        (lambda: losses.proposed(torch.zeros(2, 3), torch.zeros(3, 2)), "preferences must be"),
        (lambda: losses.td_same_state(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(3), 0.5), "bootstrap must be"),
        (lambda: losses.td_logged(*[torch.zeros(2)] * 4, 0.5), "terminal must be bool"),
        (lambda: losses.advantage(torch.zeros(2), torch.zeros(3, 4)), "2 logged Q values"),
        (lambda: losses.alignment(torch.zeros(2, 3), torch.zeros(2, 4)), "le_state must be"),
    ],
)
def test_wrong_shapes_and_types_are_refused(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
