"""The LE: a language model as the environment of a recommender (paper, figure 2).

In: item tokens, packed sequences of items and candidate actions. Out: a state for every event, a score and a reward for
every action there.

The LLM's first layers, LoRA-adapted, read the item tokens; h_t is their output at event t, h_{t,a} that at token e_a
appended after x_1 .. x_t. The heads (heads.py) make of them states, scores and rewards. The LLM is causal, so one pass
over a sequence gives all its states, and under the mask of packing.py all actions of all of them.

With `lora_rank` 0 no adapter is put in and every weight of these layers is trained, in float32: what a small
transformer without pre-training needs (yardsticks.py compares with one).

The paper's full text, with its hidden state, heads and losses, was not at hand; docs/method.md (section 4) lists our
choices beside what of it could be read.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
from torch import Tensor, nn

from lea_core.common.artifacts import publish_folder, read_json, read_tensors, write_json, write_tensors
from lea_core.common.errors import LeaError
from lea_core.common.tables import ITEM_TOKENS, read_table, to_numpy
from lea_core.data.sequences import Sequences, learning_steps, windows
from lea_core.environment.heads import Heads
from lea_core.llm import prefix_attention
from lea_core.llm.language_model import LanguageModel
from lea_core.llm.packed_forward import check_apart, pass_packed, stays_apart
from lea_core.llm.packing import Packed, packs
from lea_core.llm.pooled_tokens import ItemTokens
from lea_core.params import LeParams

TRIAL = 8  # events of each window in the trial of the attention by prefix
AGREEMENT = 0.1  # relative difference that the number format may make there


@dataclass(frozen=True)
class Shape:
    """What must be known to rebuild an LE before its weights are loaded."""

    layers: int
    history: int
    recent_items: int
    recent_decay: float
    temperature: float
    head_width: int
    dropout: float
    lora_rank: int
    lora_alpha: int
    lora_targets: list[str]


@dataclass(frozen=True)
class Judged:
    """What the LE says of a packed batch of S events, R of their states with A actions."""

    states: Tensor  # (S, C + K)
    rewards: Tensor  # (R, A): of the appended actions
    logged_rewards: Tensor  # (R,): of the next event; meaningless where the window ends


class Environment(nn.Module):
    """The LE. Its trainable parts are the heads and LoRA's factors (or, with rank 0, the LLM's layers)."""

    def __init__(self, llm: LanguageModel, tokens: ItemTokens, shape: Shape) -> None:
        super().__init__()
        _check_history(llm, shape.history)
        check_apart(llm)
        self.llm, self.shape = llm, shape
        self.token: Tensor = nn.Buffer(torch.from_numpy(tokens.token), persistent=False)
        self.num_items = len(tokens.token)
        self.by_prefix = False  # attention as prefix_attention.py has it
        self.heads = heads_of(shape, tokens)
        if shape.lora_rank:
            self._add_lora()
        else:
            self.llm.decoder.float()
            for name, parameter in self.llm.decoder.named_parameters():
                parameter.requires_grad_("embed" not in name)  # items come as vectors: the table of words is not read
        self.to(llm.device).eval()

    def _add_lora(self) -> None:
        """Put adapters into the decoder's layers, in float32 whatever the frozen weights are."""
        shape = self.shape
        config = peft.LoraConfig(r=shape.lora_rank, lora_alpha=shape.lora_alpha, target_modules=shape.lora_targets)
        try:
            peft.inject_adapter_in_model(config, self.llm.decoder)
        except ValueError as error:
            raise LeaError(f"params.yaml: finetune_le.lora.targets: {str(error).splitlines()[0][:150]}") from None
        for name, parameter in self.llm.decoder.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.float()
                parameter.requires_grad_(True)

    def adapter(self) -> dict[str, nn.Parameter]:
        """The trainable weights of the LLM by name."""
        return {name: value for name, value in self.llm.decoder.named_parameters() if value.requires_grad}

    def hasten(self) -> None:
        """Make a trained LE fast to ask: adapter in the LLM's number format; on CPUs attention by the prefix alone.

        The latter only where trials show that the model's attention can be replaced, gives the same hidden states and
        keeps windows and actions apart.
        """
        for parameter in self.adapter().values():
            parameter.data = parameter.data.to(self.llm.dtype)
        if self.llm.device.type == "cpu":
            self.by_prefix = self._agrees_by_prefix()

    @torch.no_grad()
    def _agrees_by_prefix(self) -> bool:
        decoder, former = self.llm.decoder, self.llm.decoder.config._attn_implementation
        items = np.arange(2 * min(TRIAL, self.shape.history)) % self.num_items
        trial = Sequences(
            items, np.zeros(len(items), np.int8), np.array([0, len(items) // 2, len(items)]), self.num_items
        )
        (packed,) = packs(trial, windows(trial, np.arange(2), self.shape.history), 10**6, 1, learning_steps(trial))
        actions = items[: len(packed.acting), None]
        expected = self.read(packed, actions)
        prefix_attention.register()
        self.by_prefix = True
        try:
            decoder.set_attn_implementation(prefix_attention.NAME)
            found = self.read(packed, actions)
            agrees = all((a - b).norm() <= AGREEMENT * b.norm() for a, b in zip(found, expected, strict=True))
            if agrees and stays_apart(self.llm, by_prefix=True):
                return True
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError):
            pass  # a model that asks no attention interface, or for more than `attend` gives
        decoder.set_attn_implementation(former)
        return False

    def read(self, packed: Packed, actions: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """One pass of the LLM: h (S, H) of the events and h_{t,a} (R, A, H) of `actions` (R, A); raw, float32.

        Without `actions`, R is 0.
        """
        device = self.llm.device
        items = packed.items.copy()
        if actions is not None:
            items.reshape(-1)[packed.action_cells] = actions
        vectors = self.token[torch.from_numpy(items).to(device).clamp(min=0)]
        dtype = next(self.llm.decoder.parameters()).dtype
        hidden = pass_packed(self.llm.decoder, vectors.to(dtype), packed, self.by_prefix)
        flat = hidden.reshape(-1, hidden.shape[-1])
        cells, action_cells = (torch.from_numpy(cells).to(device) for cells in (packed.cells, packed.action_cells))
        return flat[cells].float(), flat[action_cells].float()

    def recent(self, sequences: Sequences, events: np.ndarray) -> Tensor:
        """The last items of each history, newest first: events (S,), rows of the sequences -> (S, J), -1 for none."""
        return torch.from_numpy(recent_items(sequences, events, self.shape.recent_items)).to(self.llm.device)

    def judge(self, sequences: Sequences, packed: Packed, actions: np.ndarray) -> Judged:
        """States of all events and rewards of the actions (R, A), in one pass of the LLM."""
        hidden, action_hidden = self.read(packed, actions)
        content, inputs = self.heads.inputs(self.recent(sequences, packed.events), hidden)
        acting = packed.acting
        following = packed.following[acting]  # the next event's own token stands for it as an action
        next_items = np.where(following >= 0, sequences.items[packed.events[following]], 0)
        candidates = torch.from_numpy(np.concatenate([next_items[:, None], actions], axis=1)).to(self.llm.device)
        rewards = self.heads.rewards(
            content[acting],
            inputs[acting],
            candidates,
            torch.cat([hidden[following][:, None], action_hidden], dim=1),
        )
        return Judged(self.heads.state(content, inputs), rewards[:, 1:], rewards[:, 0])

    def save(self, folder: Path, quality: dict[str, Any]) -> None:
        """Publish adapter, heads, shape and what was measured of them, as safetensors and JSON."""
        with publish_folder(folder) as temporary:
            adapter = {name: value.detach().cpu().numpy() for name, value in self.adapter().items()}
            write_tensors(temporary / "adapter.safetensors", adapter)
            heads = {name: value.cpu().numpy() for name, value in self.heads.state_dict().items()}
            write_tensors(temporary / "heads.safetensors", heads)
            write_json(temporary / "le.json", asdict(self.shape))
            write_json(temporary / "quality.json", quality)

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of everything that training changes: heads, what they count, and the adapter."""
        return {name: value.clone() for name, value in self._parts().items()}

    def restore(self, snapshot: dict[str, Tensor]) -> None:
        """Put a snapshot, or some of it, back."""
        parts = self._parts()
        with torch.no_grad():
            for name, value in snapshot.items():
                parts[name].copy_(value)

    def _parts(self) -> dict[str, Tensor]:
        heads = {f"heads.{name}": value for name, value in self.heads.state_dict().items()}
        return heads | {f"adapter.{name}": value.data for name, value in self.adapter().items()}


def recent_items(sequences: Sequences, events: np.ndarray, count: int) -> np.ndarray:
    """The items at `events` (S,), rows of the sequences, and before them: (S, count), newest first, -1 for none."""
    first = sequences.offsets[np.searchsorted(sequences.offsets, events, side="right") - 1]  # of each event's user
    rows = events[:, None] - np.arange(count)
    return np.where(rows >= first[:, None], sequences.items[rows.clip(min=0)], -1)


def _check_history(llm: LanguageModel, history: int) -> None:
    """Raise `LeaError` where a window and an action are more than the LLM reads, or than a layer's attention reaches.

    The mask of packed windows stands in for the model's own: it would let a layer with a sliding window see all.
    """
    for most, does in ((llm.max_positions, "reads"), (llm.window, "looks back in a layer (sliding window)")):
        if most is not None and history >= most:
            raise LeaError(
                f"params.yaml: finetune_le.history {history} and an action are more than the {most} tokens that the "
                f"LLM {does}: lower it to {most - 1}"
            )


def new(llm: LanguageModel, tokens: ItemTokens, p: LeParams) -> Environment:
    """An untrained LE as params.yaml describes it. Raises `LeaError` where the LLM cannot read its histories."""
    shape = Shape(
        layers=llm.num_layers,
        history=p.history,
        recent_items=p.recent_items,
        recent_decay=p.recent_decay,
        temperature=p.temperature,
        head_width=p.heads.width,
        dropout=p.heads.dropout,
        lora_rank=p.lora.rank,
        lora_alpha=p.lora.alpha,
        lora_targets=p.lora.targets,
    )
    torch.manual_seed(p.seed)  # for the first factors of LoRA and of the heads; all else draws from its own generators
    return Environment(llm, tokens, shape)


def load(folder: Path, llm: LanguageModel, tokens: ItemTokens, hasten: bool = True) -> Environment:
    """Rebuild a saved LE, in evaluation mode, hastened or as it was trained.

    Raises `LeaError` where its parts do not fit together.
    """
    environment = Environment(llm, tokens, read_shape(folder))
    snapshot = {}
    for part in ("heads", "adapter"):
        for name, value in read_tensors(folder / f"{part}.safetensors").items():
            snapshot[f"{part}.{name}"] = torch.from_numpy(value)
    own = environment.snapshot()
    for name in own.keys() | snapshot.keys():
        if name not in own or name not in snapshot or own[name].shape != snapshot[name].shape:
            raise LeaError(f"{folder}: {name} fits neither this LLM nor these item tokens: run `dvc repro finetune_le`")
    environment.restore(snapshot)
    environment.eval()
    if hasten:
        environment.hasten()
    return environment.requires_grad_(False)


def read_shape(folder: Path) -> Shape:
    """The shape of a saved LE. Raises `LeaError` where it is of another version."""
    try:
        return Shape(**read_json(folder / "le.json"))
    except TypeError:
        raise LeaError(f"{folder / 'le.json'}: an LE of another version of LEA: run `dvc repro finetune_le`") from None


def load_heads(folder: Path, tokens: ItemTokens) -> Heads:
    """The heads of a saved LE, without its LLM. Raises `LeaError` where they do not fit the item tokens."""
    heads = heads_of(read_shape(folder), tokens)
    weights = {name: torch.from_numpy(value) for name, value in read_tensors(folder / "heads.safetensors").items()}
    try:
        heads.load_state_dict(weights)
    except RuntimeError:
        raise LeaError(f"{folder}: its heads do not fit these item tokens: run `dvc repro finetune_le`") from None
    return heads.eval().requires_grad_(False)


def heads_of(shape: Shape, tokens: ItemTokens) -> Heads:
    """Untrained heads of this shape."""
    return Heads(tokens, shape.head_width, shape.recent_items, shape.recent_decay, shape.temperature, shape.dropout)


def read_item_tokens(path: Path) -> ItemTokens:
    """Read the table that `tokenize_items` wrote."""
    table = read_table(path, ITEM_TOKENS)
    return ItemTokens(*(np.array(to_numpy(table, name)) for name in ("token", "pooled", "content")))
