"""The supervised part of every method: how unlikely the policy finds the logged action, and the LE's proposals.

In: a policy, its states at P transitions, the batch and the loss that params.yaml names (`train.loss`). Out: one loss
per transition, and per proposal. With `softmax` all I items are scored; with `sampled_softmax` and `gbce` the S items
that the batch brings, the same for all its transitions, so that memory does not grow with the catalogue (a departure
from gSASRec, which draws anew for each).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from lea_core.learners.batches import Batch
from lea_core.learners.losses import cross_entropy, gbce, gbce_beta, sampled_cross_entropy, sampled_log_partition
from lea_core.models.policy_network import PolicyNetwork, table_rows
from lea_core.params import GbceLoss, Loss, SoftmaxLoss


@dataclass(frozen=True)
class ActorTerms:
    """What the actor says of a batch's P transitions."""

    loss: Tensor  # (P,) of the logged action
    proposed_loss: Tensor | None  # (P, A) of each of the LE's proposals, as if it had been logged
    ranked_loss: Tensor | None  # (P, K) of each item of the LE's ranking, as if it had been logged
    log_policy: Tensor | None  # (P,) log pi(a+ | s) without gradient; None where the loss does not give it


def actor_terms(policy: PolicyNetwork, states: Tensor, batch: Batch, loss: Loss, smoothing: float = 0.0) -> ActorTerms:
    """states: (P, D) of the transitions. smoothing: of the softmax loss."""
    if isinstance(loss, SoftmaxLoss):
        return _softmax(policy, states, batch, smoothing)
    if batch.loss_items is None or batch.loss_log_counts is None:
        raise ValueError("the batch has no sampled items for the supervised loss: give its TrainingData that loss")
    logit = policy.logits_of(states, batch.action[:, None]).squeeze(1)  # (P,)
    sampled = F.linear(states, *table_rows(policy.actor, batch.loss_items, policy.sparse))  # (P, S)
    is_logged = batch.action[:, None] == batch.loss_items
    if isinstance(loss, GbceLoss):
        beta = gbce_beta(loss.negatives, policy.config.num_items, loss.calibration)

        def toward(items: Tensor) -> Tensor:
            return -beta * F.logsigmoid(policy.logits_of(states, items)) / (1 + loss.negatives)

        return ActorTerms(gbce(logit, sampled, is_logged, beta), *_further(batch, toward), None)
    log_partition = sampled_log_partition(logit, sampled, batch.loss_log_counts, is_logged)
    further = _further(batch, lambda items: sampled_cross_entropy(policy.logits_of(states, items), log_partition))
    return ActorTerms(sampled_cross_entropy(logit, log_partition), *further, None)


def _further(batch: Batch, toward: Callable[[Tensor], Tensor]) -> tuple[Tensor | None, Tensor | None]:
    """The loss toward the proposals (P, A) and toward the ranked items (P, K), where the batch has them."""
    proposed, ranked = batch.proposed_actions, batch.ranked_items
    return (None if proposed is None else toward(proposed), None if ranked is None else toward(ranked))


def _softmax(policy: PolicyNetwork, states: Tensor, batch: Batch, smoothing: float) -> ActorTerms:
    log_policy = policy.scored(states, batch.items, batch.events[batch.source]).log_softmax(dim=1)  # (P, I)
    loss = cross_entropy(log_policy, batch.action, smoothing)
    return ActorTerms(loss, *_further(batch, lambda items: -log_policy.gather(1, items)), -loss.detach())
