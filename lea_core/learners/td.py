"""Terms of the losses that several methods share, computed once from a batch.

In: a network, its states of a batch's R events and the batch. Out: terms per transition (P,), or their mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lea_core.learners.actor import ActorTerms
from lea_core.learners.batches import Batch
from lea_core.learners.critics import CriticNetwork, Network
from lea_core.learners.losses import alignment, proposed, ranked, td_logged, td_same_state
from lea_core.params import LeUseParams, QParams


def le_terms(network: Network, states: Tensor, actor: ActorTerms, batch: Batch, le: LeUseParams) -> Tensor:
    """What the LE adds to any method: weighted supervision toward its proposals, and alignment with its states."""
    total = states.new_zeros(())
    if actor.proposed_loss is not None and batch.proposed_preferences is not None:
        total = total + le.action_weight * proposed(actor.proposed_loss, batch.proposed_preferences).mean()
    if actor.ranked_loss is not None and batch.ranked_log_probabilities is not None:
        toward = ranked(actor.ranked_loss, batch.ranked_log_probabilities, le.ranking_temperature)
        total = total + le.ranking_weight * toward.mean()
    if network.alignment is not None and batch.le_states is not None:
        here = network.alignment(states[batch.source])
        total = total + le.state_alignment * alignment(here, batch.le_states[batch.source]).mean()
    return total


@dataclass(frozen=True)
class TdTerms:
    """The TD loss of each transition, (P,), and the Q values that it is made of."""

    loss: Tensor  # (P,): logged action + sum over negatives + weighted mean over proposals
    q_logged: Tensor  # (P,)
    q_sampled: Tensor  # (P, A); A = 0 for methods without negatives
    bootstrap: Tensor  # (R,) the greedy action's value, as the target network sees it


def td_terms(
    online: CriticNetwork,
    target: CriticNetwork,
    states: Tensor,
    batch: Batch,
    settings: QParams,
    le: LeUseParams,
) -> TdTerms:
    """The SNQN loss without its cross-entropy (SA2C paper, eq. 4-5), with double Q-learning and the LE's proposals.

    states: (R, D) of the online policy. The greedy action is the online critic's, its value the target's (double
    Q-learning, van Hasselt et al. 2016). Without negatives in the batch it is the loss of SQN (SQN paper, eq. 5-6).
    """
    seen = online.critic_states(states, batch.le_states)  # (R, D + W)
    with torch.no_grad():
        greedy = online.greedy(seen, batch.greedy_items)  # (R, 1)
        target_states = batch.states(target.policy(batch.items))
        bootstrap = target.q_of(target.critic_states(target_states, batch.le_states), greedy).squeeze(1)  # (R,)
    here, after = bootstrap[batch.source], bootstrap[batch.source + 1]  # b(s), b(s')

    logged = batch.action[:, None]
    sampled = logged[:, :0] if batch.sampled_actions is None else batch.sampled_actions
    proposals = logged[:, :0] if batch.proposed_actions is None else batch.proposed_actions
    values = online.q_of(seen[batch.source], torch.cat([logged, sampled, proposals], dim=1))  # (P, 1 + A + A')
    q_logged, q_sampled, q_proposed = values.tensor_split([1, 1 + sampled.shape[1]], dim=1)
    q_logged = q_logged.squeeze(1)

    terminal = batch.last & settings.end_is_terminal
    loss = td_logged(q_logged, batch.reward, after, terminal, settings.gamma)
    if batch.sampled_rewards is not None:
        loss = loss + td_same_state(q_sampled, batch.sampled_rewards, here, settings.gamma).sum(dim=1)
    if batch.proposed_preferences is not None:
        reward = le.reward_scale * batch.proposed_preferences
        loss = loss + le.action_q_weight * td_same_state(q_proposed, reward, here, settings.gamma).mean(dim=1)
    return TdTerms(0.5 * loss if settings.half_td else loss, q_logged, q_sampled, bootstrap)
