"""The LE: a language model as the environment of a recommender (paper, figure 2).

In: item tokens, sequences of items. Out: a state for every position, a score and a reward for every action there.

    h_t   last hidden state of the LLM (its first layers, LoRA-adapted) at position t over e_{x_1} .. e_{x_t},
          standardised by the frozen LLM's mean and deviation
    s_t = norm( b_t + W_s h_t )                                state; b_t: recency-weighted mean of content vectors
    z_a = norm( c_a + W_a f_a ),  beta_a = w . f_a             action embedding and bias; f_a: pooled text vector
    score(s_t, a)  = s_t . z_a / temperature + beta_a
    R(s_t, a)      = score(s_t, a) + v . h_{t,a}               h_{t,a}: the LLM at token e_a after x_1 .. x_t

W_s, W_a, w and v start at zero and LoRA's second factor does too: the untrained LE is exactly the content similarity
of the recent items, and training can only move away from it where that helps. Everything about an action comes from
its text, so the LE knows items that it was not trained on.

The LLM is causal, so one pass over a sequence gives all its states. Candidate actions are appended to the sequence
under a mask that lets each see its own prefix and itself, at the position id after that prefix: one pass scores all
actions of all positions, and the next logged item needs no extra token because it already stands there.

The paper's own choices of hidden state, heads and losses are not public; docs/lea.md lists ours.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lea_core.artifacts import publish_folder, read_json, read_tensors, write_json, write_tensors
from lea_core.errors import LeaError
from lea_core.item_tokens import ItemTokens
from lea_core.llm import LanguageModel
from lea_core.tables import ITEM_TOKENS, read_table, to_numpy

HIDDEN_CLIP = 5.0  # standard deviations; a few hidden dimensions of an LLM have rare, huge values


@dataclass(frozen=True)
class Shape:
    """What must be known to rebuild an LE before its weights are loaded."""

    layers: int
    history: int
    recent_items: int
    recent_decay: float
    temperature: float
    lora_rank: int
    lora_alpha: int
    lora_targets: list[str]


@dataclass(frozen=True)
class Judged:
    """What the LE says of a window batch. What stands at padding is meaningless."""

    items: Tensor  # (B, T)
    state: Tensor  # (B, T, C): s_t
    scores: Tensor  # (B, T, I)
    hidden: Tensor  # (B, T, H): h_t, standardised; that of the next item, one step later, is also its h_{t,a}
    action_rewards: Tensor  # (B, T, A): R(s_t, a)


class Environment(nn.Module):
    """The LE. Its trainable parts are LoRA's factors and the four heads."""

    def __init__(self, llm: LanguageModel, tokens: ItemTokens, shape: Shape) -> None:
        super().__init__()
        self.llm, self.shape = llm, shape
        num_items, content_width = tokens.content.shape
        self.token: Tensor = nn.Buffer(torch.from_numpy(tokens.token), persistent=False)
        self.pooled: Tensor = nn.Buffer(torch.from_numpy(tokens.pooled), persistent=False)
        self.content: Tensor = nn.Buffer(torch.from_numpy(tokens.content), persistent=False)
        self.hidden_mean: Tensor = nn.Buffer(torch.zeros(llm.width))
        self.hidden_deviation: Tensor = nn.Buffer(torch.ones(llm.width))
        self.state_head = nn.Linear(llm.width, content_width)
        self.action_head = nn.Linear(llm.width, content_width)
        self.bias_head = nn.Linear(llm.width, 1, bias=False)
        self.score_head = nn.Linear(llm.width, 1)
        for head in self.heads():
            nn.init.zeros_(head.weight)
            if head.bias is not None:
                nn.init.zeros_(head.bias)
        self.num_items = num_items
        self._add_lora()
        self.to(llm.device)

    def _add_lora(self) -> None:
        """Put adapters into the decoder's layers, in float32 whatever the frozen weights are."""
        shape = self.shape
        config = peft.LoraConfig(r=shape.lora_rank, lora_alpha=shape.lora_alpha, target_modules=shape.lora_targets)
        try:
            peft.inject_adapter_in_model(config, self.llm.decoder)
        except ValueError as error:
            raise LeaError(f"params.yaml: finetune_le.lora.targets: {str(error).splitlines()[0][:150]}") from None
        for parameter in self.adapter().values():
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)

    def adapter(self) -> dict[str, nn.Parameter]:
        """LoRA's factors by name."""
        return {name: value for name, value in self.llm.decoder.named_parameters() if "lora_" in name}

    def heads(self) -> list[nn.Linear]:
        """The heads of state, action, item bias and reward."""
        return [self.state_head, self.action_head, self.bias_head, self.score_head]

    def hidden(self, items: Tensor) -> Tensor:
        """Last hidden states of sequences: items (B, T), -1 after the end -> (B, T, H), raw float32.

        What stands at padding is meaningless and influences nothing: it comes after everything real.
        """
        return self._decode(inputs_embeds=self._embed(items))

    def hidden_with_actions(self, items: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """The same and, in the same pass, actions (B, T, A) -> (B, T, A, H): each sees its own prefix and itself."""
        batch, time, count = actions.shape
        appended = self._embed(actions.reshape(batch, time * count))
        positions = torch.arange(time, device=items.device)
        positions = torch.cat([positions, positions.repeat_interleave(count) + 1])  # (T + T * A,)
        states = self._decode(
            inputs_embeds=torch.cat([self._embed(items), appended], dim=1),
            attention_mask=prefix_mask(time, count, self.llm.dtype, items.device),
            position_ids=positions[None].expand(batch, -1),
        )
        return states[:, :time], states[:, time:].reshape(batch, time, count, -1)

    def _embed(self, items: Tensor) -> Tensor:
        return self.token[items.clamp(min=0)].to(self.llm.dtype)

    def _decode(self, **inputs: Tensor) -> Tensor:
        result: Tensor = self.llm.decoder(**inputs, use_cache=False).last_hidden_state
        return result.float()

    def standardise(self, hidden: Tensor) -> Tensor:
        """(..., H) raw hidden states -> what the heads read."""
        return ((hidden - self.hidden_mean) / self.hidden_deviation).clamp(-HIDDEN_CLIP, HIDDEN_CLIP)

    def content_start(self, items: Tensor) -> Tensor:
        """b_t: items (B, T), -1 after the end -> (B, T, C) of unit length, the newest item counting most."""
        content = self.content[items.clamp(min=0)] * (items >= 0)[..., None]
        result = torch.zeros_like(content)
        for age in range(min(self.shape.recent_items, items.shape[1])):
            result[:, age:] += self.shape.recent_decay**age * content[:, : items.shape[1] - age]
        return F.normalize(result, dim=-1)

    def state(self, start: Tensor, hidden: Tensor) -> Tensor:
        """s_t from b_t (..., C) and standardised h_t (..., H); (..., C) of unit length."""
        return F.normalize(start + self.state_head(hidden), dim=-1)

    def actions(self) -> tuple[Tensor, Tensor]:
        """z: (I, C) of unit length, and beta: (I,)."""
        return F.normalize(self.content + self.action_head(self.pooled), dim=-1), self.bias_head(self.pooled)[:, 0]

    def scores(self, state: Tensor) -> Tensor:
        """score(s, a) of all items: (..., C) -> (..., I)."""
        embeddings, bias = self.actions()
        scores: Tensor = state @ embeddings.T / self.shape.temperature + bias
        return scores

    def reward(self, scores: Tensor, actions: Tensor, hidden: Tensor) -> Tensor:
        """R(s, a): scores (..., I), actions (..., A), standardised h of these actions (..., A, H) -> (..., A)."""
        corrections: Tensor = self.score_head(hidden)[..., 0]
        return scores.gather(-1, actions) + corrections

    def judge(self, items: np.ndarray, actions: np.ndarray) -> Judged:
        """States of sequences (B, T) and rewards of the actions (B, T, A) there, in one pass of the LLM."""
        device = self.llm.device
        items_, actions_ = torch.from_numpy(items).to(device), torch.from_numpy(actions).to(device)
        hidden, action_hidden = self.hidden_with_actions(items_, actions_)
        hidden = self.standardise(hidden)
        state = self.state(self.content_start(items_), hidden)
        scores = self.scores(state)
        rewards = self.reward(scores, actions_, self.standardise(action_hidden))
        return Judged(items_, state, scores, hidden, rewards)

    def save(self, folder: Path, quality: dict[str, Any]) -> None:
        """Publish LoRA's factors, heads, shape and what was measured of them, as safetensors and JSON."""
        with publish_folder(folder) as temporary:
            adapter = {name: value.detach().cpu().numpy() for name, value in self.adapter().items()}
            write_tensors(temporary / "adapter.safetensors", adapter)
            heads = {name: value.cpu().numpy() for name, value in self.state_dict().items()}
            write_tensors(temporary / "heads.safetensors", heads)
            write_json(temporary / "le.json", asdict(self.shape))
            write_json(temporary / "quality.json", quality)

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of everything that training changes: heads, standardisation and LoRA's factors."""
        return {name: value.clone() for name, value in self._parts().items()}

    def restore(self, snapshot: dict[str, Tensor]) -> None:
        """Put a snapshot back."""
        for name, value in self._parts().items():
            value.copy_(snapshot[name])

    def _parts(self) -> dict[str, Tensor]:
        # The LLM is no submodule of this one, so state_dict() holds the heads and the standardisation alone.
        return dict(self.state_dict()) | {f"adapter.{name}": value.data for name, value in self.adapter().items()}


def load(folder: Path, llm: LanguageModel, tokens: ItemTokens) -> Environment:
    """Rebuild a saved LE, in evaluation mode. Raises `LeaError` where its parts do not fit together."""
    environment = Environment(llm, tokens, Shape(**read_json(folder / "le.json")))
    snapshot = {name: torch.from_numpy(value) for name, value in read_tensors(folder / "heads.safetensors").items()}
    for name, value in read_tensors(folder / "adapter.safetensors").items():
        snapshot[f"adapter.{name}"] = torch.from_numpy(value)
    own = environment.snapshot()
    for name in own.keys() | snapshot.keys():
        if name not in own or name not in snapshot or own[name].shape != snapshot[name].shape:
            raise LeaError(f"{folder}: {name} fits neither this LLM nor these item tokens: run `dvc repro finetune_le`")
    environment.restore(snapshot)
    return environment.eval().requires_grad_(False)


def read_item_tokens(folder: Path) -> ItemTokens:
    """Read the artifact of `tokenize_items`."""
    table = read_table(folder / "items.parquet", ITEM_TOKENS)
    return ItemTokens(*(np.array(to_numpy(table, name)) for name in ("token", "pooled", "content")))


def prefix_mask(time: int, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Additive attention mask (1, 1, N, N), N = T + T * A, of a sequence of T items and A actions after each.

    Item t sees items up to t. Action (t, k), in row T + t * A + k, sees items up to t and itself.
    """
    prefix = torch.arange(time, device=device)
    owner = torch.cat([prefix, prefix.repeat_interleave(count)])  # (N,): the last item that a row sees
    sees = torch.zeros(len(owner), len(owner), dtype=torch.bool, device=device)
    sees[:, :time] = prefix[None] <= owner[:, None]
    sees.fill_diagonal_(True)
    return torch.zeros_like(sees, dtype=dtype).masked_fill(~sees, torch.finfo(dtype).min)[None, None]
