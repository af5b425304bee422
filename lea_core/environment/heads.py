"""The heads of the LE: state, action embedding, reward, on the LLM's hidden states and the items' text vectors.

In: h_t, the last items of a history, the item vectors of `tokenize_items`. Out, in the letters of docs/method.md:

    b_t      = norm( sum_j w_j c_{x_{t-j}} )                content of the recent items, w_j = decay^j at the start
    u_t      = [ norm(h_t) ; b_t ; sum_j w_j norm(f_{x_{t-j}}) / sum_j w_j ],   v_a = [ c_a ; norm(f_a) ]
    s_t      = [ b_t ; U u_t ]                              the state
    z_a      = [ c_a / temperature ; V v_a ]                the action's embedding
    score    = s_t . z_a + popularity log(n_a + 3)          n_a: training events of the LE's subset with item a
    R(s, a)  = scale b_t . c_a + U_R u_t . V_R v_a + w . norm(f_a) + popularity_R log(n_a + 3) + v . norm(h_{t,a})
               + constant

norm is to length 1; each block of u_t and v_a, and norm(f_a) and norm(h_{t,a}) in R, are then made 5 long. h is
standardised by the frozen LLM's mean and deviation before the norm. V, V_R, w, v and both popularity weights start
at zero: the untrained LE is exactly the content similarity of the recent items, and training only adds to it. The
learned part of a score is a second inner product beside the content's, so it cannot bend the geometry of the content.

A history's own items are ranked by a probability of repeating, counted on the subset's events: among new and among
seen items the scores decide, between the two groups this share does (`ranking`).

Of the paper's heads we could read one thing: a score head gives the reward. The rest is ours (docs/method.md, section
4).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lea_core.data.sequences import Sequences, seen_pairs
from lea_core.llm.pooled_tokens import ItemTokens

HIDDEN_CLIP = 5.0  # standard deviations; a few hidden dimensions of an LLM have rare, huge values
INPUT_NORM = 5.0  # length of each block of u_t and v_a
SMOOTHING = 3.0  # events added to every item's count


class Heads(nn.Module):
    """Everything of the LE that is trained beside the LLM's adapter. S states, A actions each, K = `width`."""

    def __init__(
        self, tokens: ItemTokens, width: int, recent: int, decay: float, temperature: float, dropout: float
    ) -> None:
        super().__init__()
        hidden_width, content_width = tokens.token.shape[1], tokens.content.shape[1]
        self.dropout = dropout
        self.content: Tensor = nn.Buffer(torch.from_numpy(tokens.content), persistent=False)  # (I, C)
        pooled = F.normalize(torch.from_numpy(tokens.pooled), dim=-1)
        self.pooled: Tensor = nn.Buffer(pooled, persistent=False)  # (I, H)
        self.hidden_mean: Tensor = nn.Buffer(torch.zeros(hidden_width))
        self.hidden_deviation: Tensor = nn.Buffer(torch.ones(hidden_width))
        self.counts: Tensor = nn.Buffer(torch.zeros(len(tokens.content)))  # (I,): n_a
        self.repeat_share: Tensor = nn.Buffer(torch.tensor(0.5))
        state_input, action_input = 2 * hidden_width + content_width, content_width + hidden_width
        self.ages = nn.Parameter(torch.tensor([decay**age for age in range(recent)]).log())
        self.sharpness = nn.Parameter(torch.tensor(1.0 / temperature).log())
        self.popularity = nn.Parameter(torch.zeros(()))
        self.state_map = nn.Linear(state_input, width, bias=False)
        self.action_map = nn.Linear(action_input, width, bias=False)
        self.reward_sharpness = nn.Parameter(torch.tensor(1.0 / temperature).log())
        self.reward_popularity = nn.Parameter(torch.zeros(()))
        self.reward_state_map = nn.Linear(state_input, width, bias=False)
        self.reward_action_map = nn.Linear(action_input, width, bias=False)
        self.reward_bias = nn.Linear(hidden_width, 1)
        self.reward_score = nn.Linear(hidden_width, 1, bias=False)
        for layer in (self.state_map, self.reward_state_map):
            nn.init.normal_(layer.weight, std=state_input**-0.5)
        for layer in (self.action_map, self.reward_action_map, self.reward_bias, self.reward_score):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.reward_bias.bias)

    def scalars(self) -> list[nn.Parameter]:
        """Parameters that are few and free of scale: they learn faster and never decay."""
        return [value for value in self.parameters() if value.ndim < 2]

    def matrices(self) -> list[nn.Parameter]:
        """All others."""
        return [value for value in self.parameters() if value.ndim == 2]

    @property
    def state_width(self) -> int:
        """C + K: width of a state."""
        return self.content.shape[1] + self.state_map.out_features

    def observe(self, hidden: Tensor, items: np.ndarray, repeats: int, steps: int) -> None:
        """Set what is counted, not trained: standardisation of hidden (N, H), item counts, share of repeats."""
        self.hidden_mean.copy_(hidden.mean(dim=0))
        self.hidden_deviation.copy_(hidden.std(dim=0, correction=0) + 1e-6)
        self.counts.copy_(torch.from_numpy(np.bincount(items, minlength=len(self.counts))))
        self.repeat_share.fill_((repeats + 0.5) / (steps + 1.0))  # never quite zero or one

    def _standardised(self, hidden: Tensor) -> Tensor:
        scaled = (hidden.float() - self.hidden_mean) / self.hidden_deviation
        return INPUT_NORM * F.normalize(scaled.clamp(-HIDDEN_CLIP, HIDDEN_CLIP), dim=-1)

    def _drop(self, values: Tensor) -> Tensor:
        return F.dropout(values, self.dropout, self.training)

    def inputs(self, recent: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """b_t (S, C) and u_t (S, 2H + C) of the last items (S, J), newest first, -1 for none, and raw h_t (S, H)."""
        recent = recent[:, : len(self.ages)]
        weights = self.ages.exp()[: recent.shape[1]] * (recent >= 0)  # (S, J)
        known = recent.clamp(min=0)
        content = F.normalize(torch.einsum("sj,sjc->sc", weights, self.content[known]), dim=-1)
        share = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-12)
        pooled = torch.einsum("sj,sjh->sh", share, self.pooled[known])
        blocks = [self._standardised(hidden), INPUT_NORM * content, INPUT_NORM * pooled]
        return content, self._drop(torch.cat(blocks, dim=-1))

    def _action_inputs(self, items: Tensor | None = None) -> Tensor:
        """v_a of these items (...,), or of all: (..., C + H)."""
        content, pooled = (self.content, self.pooled) if items is None else (self.content[items], self.pooled[items])
        vectors = torch.cat([content, pooled], dim=-1)
        # The same features for all items: a draw for each would cost more than everything else.
        return vectors * self._drop(torch.full((vectors.shape[-1],), INPUT_NORM, device=vectors.device))

    def _log_counts(self, items: Tensor | None = None) -> Tensor:
        return torch.log((self.counts if items is None else self.counts[items]) + SMOOTHING)

    def left_out(self, logged: Tensor) -> Tensor:
        """What log(n_a + 3) loses when the logged event itself is not counted: (S,), for training on counted events."""
        counts = self.counts[logged]
        return torch.log((counts - 1.0).clamp(min=0.0) + SMOOTHING) - torch.log(counts + SMOOTHING)

    def state(self, content: Tensor, inputs: Tensor) -> Tensor:
        """s_t: (S, C + K)."""
        return torch.cat([content, self.state_map(inputs)], dim=-1)

    def scores(self, state: Tensor, items: Tensor | None = None) -> Tensor:
        """score(s, a) of all items, or of some (M,): (S, C + K) -> (S, I) or (S, M)."""
        content = self.content if items is None else self.content[items]
        embedding = torch.cat([content * self.sharpness.exp(), self.action_map(self._action_inputs(items))], dim=-1)
        scores: Tensor = state @ embedding.T + self.popularity * self._log_counts(items)
        return scores

    def rewards(self, content: Tensor, inputs: Tensor, actions: Tensor, hidden: Tensor | None) -> Tensor:
        """R(s, a): b_t (S, C), u_t (S, 2H + C), actions (S, A) and raw h_{t,a} (S, A, H) -> (S, A).

        Without h_{t,a} its term is left out, which is exact while v is zero, before the LLM is trained.
        """
        distinct, which = torch.unique(actions, return_inverse=True)  # (M,), (S, A): an item's part is computed once
        vectors = self._action_inputs(distinct)  # (M, C + H)
        pairs = content @ self.content[distinct].T * self.reward_sharpness.exp()  # (S, M)
        pairs = pairs + self.reward_state_map(inputs) @ self.reward_action_map(vectors).T
        alone = self.reward_bias(INPUT_NORM * self.pooled[distinct])[:, 0]
        alone = alone + self.reward_popularity * self._log_counts(distinct)  # (M,)
        rewards: Tensor = pairs.gather(1, which) + alone[which]
        if hidden is not None:
            rewards = rewards + self.reward_score(self._drop(self._standardised(hidden)))[..., 0]
        return rewards

    def ranking(self, scores: Tensor, seen: Tensor) -> Tensor:
        """Log P(a | s): scores (S, I), seen (S, I) bool, the items of each history."""
        new = scores.masked_fill(seen, -torch.inf).log_softmax(dim=-1) + torch.log1p(-self.repeat_share)
        again = scores.masked_fill(~seen, -torch.inf).log_softmax(dim=-1) + torch.log(self.repeat_share)
        return torch.where(seen, again, new)

    def rank_all(self, states: Tensor, sequences: Sequences, events: np.ndarray) -> Tensor:
        """Log P(a | s) of all items after each event (S,), from its state (S, C + K): (S, I)."""
        scores = self.scores(states)
        seen = torch.zeros_like(scores, dtype=torch.bool)
        owner, items = (torch.from_numpy(pair).to(scores.device) for pair in seen_pairs(sequences, events))
        seen[owner, items] = True
        return self.ranking(scores, seen)
