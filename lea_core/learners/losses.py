"""The losses of all learners: pure functions of tensors, one equation each.

In: what a learner's networks say at P positions (state-action pairs; the learner has left padding out before its
heads, so no loss needs a mask). Out: one loss per position, (P,), unless said otherwise; the learner takes means.

Shapes: P positions, I items, A sampled or proposed actions per position, C width of an LE state. Actions are int64
item indices, everything else floats. A wrong shape or dtype is a bug of ours and raises ValueError.

Sources: SQN (Xin et al., SIGIR'20, arXiv 2006.05779); SNQN and SA2C (Xin et al., WSDM'22, arXiv 2111.03474); double
Q-learning (van Hasselt et al., AAAI'16, arXiv 1509.06461). The squared TD error is that of the papers; the factor 0.5
of their code is a parameter of the learners (`half_td`). SAC's loss needs no function of its own: it is the
cross-entropy times a Q value. What concerns the LE is LEA as implemented here, not the authors' formulas.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(log_policy: Tensor, action: Tensor, smoothing: float = 0.0) -> Tensor:
    """-log pi(a+ | s) over all items (SA2C paper, eq. 3), with label smoothing: (P,).

    log_policy: (P, I) log-probabilities. action: (P,). A share `smoothing` of the target is spread over all items.
    """
    _check(log_policy, "log_policy", 2)
    _check_actions(action, "action", log_policy.shape[:1])
    logged = F.nll_loss(log_policy, action, reduction="none")
    if smoothing == 0.0:
        return logged
    return (1.0 - smoothing) * logged - smoothing * log_policy.mean(dim=1)


def sampled_cross_entropy(logit: Tensor, log_partition: Tensor) -> Tensor:
    """-log pi(a | s) = log Z(s) - y(s, a), for an estimate of the partition function Z.

    logit y: (P,) of the action, or (P, A) of several. log_partition log Z: (P,).
    """
    _check(log_partition, "log_partition", 1, logit.shape[:1])
    if logit.dim() == 1:
        return log_partition - logit
    _check(logit, "logit", 2)
    return log_partition[:, None] - logit


def sampled_log_partition(logit: Tensor, sampled: Tensor, log_counts: Tensor, is_logged: Tensor) -> Tensor:
    """log(exp y(s, a+) + sum_j exp(y(s, a_j) - log(S q_j))) over sampled a_j other than a+: (P,).

    logit: (P,) of a+. sampled: (P, S) of the S items drawn with replacement from q. log_counts log(S q_j): (S,), how
    often each was to be expected. is_logged: (P, S) bool, a_j = a+. Its exponential is an unbiased estimate of the
    partition function (sampled softmax: Bengio & Senecal, 2008; Jean et al., ACL'15, arXiv 1412.2007).
    """
    _check(logit, "logit", 1)
    _check(sampled, "sampled", 2, torch.Size((len(logit), len(log_counts))))
    _check(log_counts, "log_counts", 1)
    corrected = (sampled - log_counts).masked_fill(is_logged, -torch.inf)
    return torch.cat([logit[:, None], corrected], dim=1).logsumexp(dim=1)


def gbce(logit: Tensor, sampled: Tensor, is_logged: Tensor, beta: float) -> Tensor:
    """-(beta * log sigmoid(y(s, a+)) + sum_j log(1 - sigmoid(y(s, a-_j)))) / (1 + S) (gSASRec, arXiv 2308.07192): (P,).

    logit: (P,). sampled: (P, S) of uniformly drawn items; those that are a+ (`is_logged`, (P, S) bool) do not count.
    """
    _check(logit, "logit", 1)
    _check(sampled, "sampled", 2, is_logged.shape)
    negative = F.softplus(sampled).masked_fill(is_logged, 0.0).sum(dim=1)
    return (negative - beta * F.logsigmoid(logit)) / (1 + sampled.shape[1])


def gbce_beta(negatives: int, num_items: int, calibration: float) -> float:
    """The power of the positive's probability: alpha * (t * (1 - 1 / alpha) + 1 / alpha), same source.

    alpha is the share of the other items that are sampled, t the calibration. t = 0 gives 1, plain binary
    cross-entropy; t = 1 gives alpha.
    """
    alpha = min(negatives / (num_items - 1), 1.0)
    return alpha * (calibration * (1.0 - 1.0 / alpha) + 1.0 / alpha)


def proposed(per_action: Tensor, preferences: Tensor) -> Tensor:
    """(1/A) sum_k w_k * l(s, a_k): a supervised loss toward the LE's proposals, (P,).

    per_action l: (P, A), the loss of each proposal as if it had been logged. preferences w: (P, A) in (0, 1), the
    sigmoid of the standardised LE reward. The weights are not normalised: where the LE thinks little of all it could
    propose, the whole term is small.
    """
    _check(per_action, "per_action", 2)
    _check(preferences, "preferences", 2, per_action.shape)
    return (preferences * per_action).mean(dim=1)


def ranked(per_action: Tensor, log_probabilities: Tensor, temperature: float) -> Tensor:
    """sum_k p_k * l(s, a_k), p = softmax(log_probabilities / temperature): cross-entropy toward a ranking, (P,).

    per_action l: (P, K), the loss of each item as if it had been logged. log_probabilities: (P, K) of the K items that
    the LE ranks first; what it gives to the others is spread over these (knowledge distillation: Hinton et al., arXiv
    1503.02531; the first K alone: Tang & Wang, KDD'18, arXiv 1809.07428).
    """
    _check(per_action, "per_action", 2)
    _check(log_probabilities, "log_probabilities", 2, per_action.shape)
    return ((log_probabilities / temperature).softmax(dim=1) * per_action).sum(dim=1)


def td_logged(q: Tensor, reward: Tensor, next_bootstrap: Tensor, terminal: Tensor, gamma: float) -> Tensor:
    """(stopgrad(r + gamma * (1 - terminal) * b(s')) - Q(s, a+))^2 (SQN paper, eq. 5-6; SA2C paper, eq. 4).

    All (P,); `terminal` is bool: no bootstrap where the user's sequence ends with this action.
    """
    for name, tensor in (("q", q), ("reward", reward), ("next_bootstrap", next_bootstrap)):
        _check(tensor, name, 1, q.shape)
    if terminal.dtype != torch.bool or terminal.shape != q.shape:
        raise ValueError(f"terminal must be bool {tuple(q.shape)}, got {terminal.dtype} {tuple(terminal.shape)}")
    target = reward + gamma * next_bootstrap.masked_fill(terminal, 0.0)
    return (target.detach() - q) ** 2


def td_same_state(q: Tensor, reward: Tensor, bootstrap: Tensor, gamma: float) -> Tensor:
    """(stopgrad(r_j + gamma * b(s)) - Q(s, a_j))^2 for actions that leave the state as it is; (P, A).

    q, reward: (P, A). bootstrap: (P,), of the same state s, at the end of a sequence too. For sampled negatives this
    is SA2C paper, eq. 4-5, to be summed over A; the LE's proposals use it too.
    """
    _check(q, "q", 2)
    _check(reward, "reward", 2, q.shape)
    _check(bootstrap, "bootstrap", 1, q.shape[:1])
    target = reward + gamma * bootstrap[:, None]
    return (target.detach() - q) ** 2


def advantage(q_logged: Tensor, q_sampled: Tensor) -> Tensor:
    """A = Q(s, a+) - (Q(s, a+) + sum_j Q(s, a-_j)) / (1 + N), without gradient (SA2C paper, eq. 7-8).

    q_logged: (P,). q_sampled: (P, N). Result: (P,).
    """
    _check(q_logged, "q_logged", 1)
    _check(q_sampled, "q_sampled", 2)
    if len(q_logged) != len(q_sampled):
        raise ValueError(f"{len(q_logged)} logged Q values, but {len(q_sampled)} rows of sampled ones")
    average = (q_logged + q_sampled.sum(dim=1)) / (1 + q_sampled.shape[1])
    return (q_logged - average).detach()


def of_mean(weight: Tensor, mean: float) -> Tensor:
    """The weights, scaled so that the mean of their sizes is `mean`; zeros where all are. (P,) -> (P,).

    Ours: the level of Q depends on the rewards, and a weight of another level is another learning rate
    (docs/lab-notebook.md).
    """
    _check(weight, "weight", 1)
    return weight * (mean / weight.abs().mean().clamp(min=1e-12))


def importance_ratio(log_policy: Tensor, log_behaviour: Tensor, low: float, high: float, power: float) -> Tensor:
    """clip(pi(a+ | s) / beta(a+), low, high)^power, without gradient (SA2C paper, eq. 9-10; clip and power: its code).

    log_policy: (P,). log_behaviour log beta: (P,), the logged item's share of the training events. Power 0 gives 1.
    """
    _check(log_policy, "log_policy", 1)
    _check(log_behaviour, "log_behaviour", 1, log_policy.shape)
    return (log_policy - log_behaviour).detach().exp().clamp(low, high) ** power


def alignment(predicted: Tensor, le_state: Tensor) -> Tensor:
    """1 - cos(M s, s^LE): how far the recommender's state is from telling the LE's.

    predicted: (P, C), a linear map of the recommender's state. le_state: (P, C), without gradient.
    """
    _check(predicted, "predicted", 2)
    _check(le_state, "le_state", 2, predicted.shape)
    return 1.0 - F.cosine_similarity(predicted, le_state.detach(), dim=1)


def _check(tensor: Tensor, name: str, dimensions: int, shape: torch.Size | None = None) -> None:
    if not tensor.is_floating_point() or tensor.dim() != dimensions or (shape is not None and tensor.shape != shape):
        wanted = tuple(shape) if shape is not None else f"{dimensions} dimensions"
        raise ValueError(f"{name} must be float {wanted}, got {tensor.dtype} {tuple(tensor.shape)}")


def _check_actions(actions: Tensor, name: str, shape: torch.Size) -> None:
    if actions.dtype != torch.int64 or actions.shape != shape:
        raise ValueError(f"{name} must be int64 {tuple(shape)}, got {actions.dtype} {tuple(actions.shape)}")
