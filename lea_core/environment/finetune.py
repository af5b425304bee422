"""Fine-tuning of the LE on a subset of the users (paper, figure 2: L_sm and L_rm), in two phases.

In: an untrained LE, the training events. Out: the LE at its best epoch, a learning curve.

  heads  The frozen LLM reads the subset once, and its hidden states are kept. The heads are trained on them; an epoch
         takes a few seconds. The reward does not use hidden states of actions yet.
  lora   Adapter and heads are trained together. The LLM reads packed windows; one forward pass gives states and
         rewards. Each epoch samples new actions.

Both phases minimise, over all steps into a training event (batches.py),
    L = L_sm + reward_weight * (L_rm + reward_centring * centre)

The best epoch is selected by NDCG@10 times reward accuracy on training events of users outside the subset
(checkpoint_selection.py). The untrained LE counts as epoch 0, so the result is never worse than it on these events.

Every random draw depends only on the seed and the number of the step. So a run that was killed continues from its
checkpoint with the same losses. Several processes share each batch of the lora phase and reach the losses of one
process (with dropout only approximately, because each process draws its own).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lea_core.common.checkpoints import Checkpoint
from lea_core.common.errors import LeaError
from lea_core.common.progress import announce, bar
from lea_core.data.sequences import Sequences, Window, count_repeats, learning_steps, windows
from lea_core.environment.batches import (
    Candidates,
    FrozenStates,
    Steps,
    draw_candidates,
    join,
    read_steps,
    sampled_actions,
    step_losses,
)
from lea_core.environment.checkpoint_selection import CheckpointSelection, SelectionScore
from lea_core.environment.distributed import DistributedContext
from lea_core.environment.model import Environment
from lea_core.environment.negatives import TEXT_NEIGHBOURS, text_neighbours
from lea_core.llm.packing import acting_events, packs
from lea_core.params import LeParams, RewardNegatives

STEPS_PER_BATCH = 512  # of the heads phase
HEADS_NEGATIVES = 4  # times as many sampled actions in the heads phase, where they cost no tokens
SAVE_EVERY = 60.0  # seconds
SCALAR_RATE = 10.0  # learning rate of the heads' few scalar parameters, relative to that of the matrices
PHASES = ("heads", "lora")
Losses = list[float]  # state loss and reward loss, means over a batch


class Finetuning:
    """One fine-tuning and its progress. It changes the LE in place.

    The best epoch is selected on `selection_users`. Where none of them has two events (the LE learns from everybody),
    it is selected on the subset's own users. `distributed` are the processes that share the work.
    """

    def __init__(
        self,
        environment: Environment,
        train: Sequences,
        users: np.ndarray,
        selection_users: np.ndarray,
        p: LeParams,
        checkpoint: Checkpoint | None = None,
        distributed: DistributedContext | None = None,
    ) -> None:
        self.environment, self.train, self.p = environment, train, p
        self.checkpoint, self.distributed = checkpoint, distributed or DistributedContext()
        self.windows = windows(train, users, p.history)
        owners, _ = train.users_and_positions()
        mine = np.isin(owners, users)
        self.chosen = mine & learning_steps(train)  # (N,) events whose next event is learned
        self.counts = np.bincount(train.items[mine], minlength=train.num_items)
        self.neighbours = text_neighbours(environment.heads.content.cpu().numpy(), TEXT_NEIGHBOURS)
        self.frozen = self._read_frozen(mine)
        able = selection_users[np.diff(train.offsets)[selection_users] >= 2]
        self.selection = CheckpointSelection(
            environment, train, able if len(able) else users, self.counts, self.neighbours, p
        )
        self.curve = [_point("start", 0, [], self.selection.score(environment, frozen=True))]
        self.best = environment.snapshot()
        self.losses: list[Losses] = []  # of this epoch so far
        self.start(0)

    def run(self) -> list[dict[str, Any]]:
        """Train through both phases, leave the LE at its best epoch and return the learning curve."""
        self._resume()
        self.distributed.wait_for_all()  # the main process must not save before all have read
        while self.phase < len(PHASES):
            self._run_phase()
            self.environment.restore(self.best)
            self.start(self.phase + 1)
        return self.curve

    def start(self, phase: int) -> None:
        """Begin a phase, before its first step."""
        self.phase, self.epoch, self.step, self.worse = phase, 0, 0, 0
        self.optimiser = self._new_optimiser()

    def _run_phase(self) -> None:
        epochs = (self.p.heads.epochs, self.p.lora.epochs)[self.phase]
        with bar(epochs, PHASES[self.phase], "epoch") as progress:
            progress.update(self.epoch)
            while self.epoch < epochs and self.worse < self.p.patience:
                for losses in (self._heads_epoch, self.lora_epoch)[self.phase]():
                    self.losses.append(losses)
                    self.step += 1
                    if self.checkpoint and self.distributed.is_main and self.checkpoint.due(SAVE_EVERY):
                        self._save(self.checkpoint)
                self._end_epoch()
                progress.update(1)

    def _end_epoch(self) -> None:
        phase = PHASES[self.phase]
        score = self.selection.score(self.environment, frozen=phase == "heads")
        point = _point(phase, len(self.curve), self.losses, score)
        better = point["selected"] > max(row["selected"] for row in self.curve)
        self.curve.append(point)
        if better:
            self.best = self.environment.snapshot()
        self.worse = 0 if better else self.worse + 1
        self.epoch, self.step, self.losses = self.epoch + 1, 0, []

    def _read_frozen(self, mine: np.ndarray) -> FrozenStates:
        """Hidden states of the subset's events under the frozen LLM; sets the statistics of the heads from them."""
        frozen = FrozenStates(self.environment, self.train, self.windows, mine, self.p.batch_tokens)
        events = np.flatnonzero(self.chosen)
        repeats = count_repeats(self.train, events)
        self.environment.heads.set_statistics(frozen.hidden.float(), self.train.items[mine], repeats, len(events))
        return frozen

    def _actions(self, phase: int, epoch: int, times: int) -> np.ndarray:
        """Sampled actions of every step, `times` as many as `reward_negatives`; by event: (N, A)."""
        events, p = np.flatnonzero(self.chosen), self.p.reward_negatives
        wanted = RewardNegatives(uniform=times * p.uniform, popular=times * p.popular, text=times * p.text)
        rng = np.random.default_rng([self.p.seed, phase, epoch])
        result = np.zeros((len(self.train.items), wanted.total), dtype=np.int64)
        result[events] = sampled_actions(self.train, events, self.counts, self.neighbours, wanted, rng)
        return result

    def _heads_epoch(self) -> Iterator[Losses]:
        """The rest of an epoch on frozen states. Every process does all of it."""
        kept = np.flatnonzero(self.chosen[self.frozen.events.cpu().numpy()])
        order = np.random.default_rng([self.p.seed, 0, self.epoch, 1]).permutation(kept)
        actions = torch.from_numpy(self._actions(0, self.epoch, HEADS_NEGATIVES)).to(self.frozen.hidden.device)
        for start in range(self.step * STEPS_PER_BATCH, len(order), STEPS_PER_BATCH):
            index = torch.from_numpy(order[start : start + STEPS_PER_BATCH]).to(actions.device)
            events = self.frozen.events[index]
            steps = Steps(events, self.frozen.hidden[index], actions[events])
            yield self._update(steps, events.cpu().numpy(), shared=False)

    def lora_epoch(self) -> Iterator[Losses]:
        """The rest of an epoch through the LLM. Each process does its share of every batch."""
        actions = self._actions(1, self.epoch, 1)
        batches = self.window_batches(self.epoch)
        for number in range(self.step, len(batches)):
            started = time.perf_counter()
            self._schedule((self.epoch * len(batches) + number) / max(self.p.lora.epochs * len(batches), 1))
            events = acting_events(self.train, batches[number], self.chosen)
            steps = self.read(self.distributed.own_share(batches[number]), actions)
            yield self._update(steps, events, shared=True)
            if number == min(1, len(batches) - 1) and self.epoch == 0:  # the first batch is slower: it is not timed
                total = self.p.lora.epochs * sum(map(self._tokens, batches))
                announce("finetune_le (lora)", total, self._tokens(batches[number]) / (time.perf_counter() - started))

    def read(self, batch: list[Window], actions: np.ndarray) -> Steps | None:
        """The steps that the windows of a batch own, by the LLM; None where the batch is empty."""
        packed = packs(self.train, batch, self.p.batch_tokens, actions.shape[1], self.chosen)
        parts = [read_steps(self.environment, one, actions[one.events[one.acting]]) for one in packed]
        return join(parts) if parts else None

    def _tokens(self, batch: list[Window]) -> int:
        return sum(window.length for window in batch) * (1 + self.p.reward_negatives.total)

    def window_batches(self, epoch: int) -> list[list[Window]]:
        """The subset's windows in the epoch's random order, in batches of about `batch_tokens` tokens."""
        order = np.random.default_rng([self.p.seed, 1, epoch, 1]).permutation(len(self.windows))
        result: list[list[Window]] = []
        filled = 0
        for index in order:
            cost = self._tokens([self.windows[index]])
            if not result or filled + cost > self.p.batch_tokens:
                result.append([])
                filled = 0
            result[-1].append(self.windows[index])
            filled += cost
        return result

    def _schedule(self, done: float) -> None:
        """Set the learning rate: linear warm-up, then linear decay to 1 %, over the share of the phase that is done."""
        warm = self.p.lora.warmup_share
        factor = done / warm if done < warm else (1.0 - done) / (1.0 - warm)
        for group in self.optimiser.param_groups:
            group["lr"] = group["highest"] * max(factor, 0.01)

    def _update(self, steps: Steps | None, events: np.ndarray, shared: bool) -> Losses:
        """One optimiser step on `steps`, this process's share of the steps at `events`."""
        place = [self.p.seed, self.phase, self.epoch, self.step]
        candidates = draw_candidates(
            self.train.items[events + 1], self.counts, self.p.state_negatives, np.random.default_rng([*place, 2]),
            self.environment.llm.device,
        )  # fmt: skip
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))  # dropout
        self.environment.heads.train()
        self.optimiser.zero_grad()
        of_state, of_reward = self._backward(steps, candidates, len(events))
        self.environment.heads.eval()
        parameters = [value for group in self.optimiser.param_groups for value in group["params"]]
        if shared:
            of_state, of_reward = self.distributed.sum_over_processes(parameters, [of_state, of_reward])
        if not np.isfinite(of_state + of_reward):
            raise LeaError(
                "finetune_le: the loss is no longer finite: lower finetune_le.*.learning_rate in params.yaml"
            )
        torch.nn.utils.clip_grad_norm_(parameters, self.p.gradient_clip)
        self.optimiser.step()
        return [of_state, of_reward]

    def _backward(self, steps: Steps | None, candidates: Candidates, count: int) -> Losses:
        if steps is None:
            return [0.0, 0.0]
        of_state, of_reward = (
            loss.sum() / count
            for loss in step_losses(self.environment, self.train, steps, candidates, self.p.reward_centring)
        )
        (of_state + self.p.reward_weight * of_reward).backward()  # type: ignore[no-untyped-call]
        return [float(of_state.detach()), float(of_reward.detach())]

    def _new_optimiser(self) -> torch.optim.Optimizer:
        p, heads = self.p, self.environment.heads
        rate = p.heads.learning_rate if self.phase == 0 else p.lora.learning_rate
        groups: list[dict[str, Any]] = [
            {"params": heads.matrices(), "lr": rate, "weight_decay": p.weight_decay},
            {"params": heads.scalars(), "lr": SCALAR_RATE * rate, "weight_decay": 0.0},
        ]
        if self.phase == 1:
            adapter = list(self.environment.adapter().values())
            groups.append({"params": adapter, "lr": rate, "weight_decay": p.weight_decay})
        return torch.optim.AdamW([{**group, "highest": group["lr"]} for group in groups])

    # ---- checkpoints

    def _save(self, checkpoint: Checkpoint) -> None:
        tensors = {f"now.{name}": value for name, value in self.environment.snapshot().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        for number, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{name}": value for name, value in moments.items()}
        place = {name: getattr(self, name) for name in ("phase", "epoch", "step", "worse", "losses", "curve")}
        checkpoint.save({name: value.detach().cpu().numpy() for name, value in tensors.items()}, place)

    def _resume(self) -> None:
        found = self.checkpoint.load() if self.checkpoint else None
        if found is None:
            return
        tensors = {name: torch.from_numpy(value) for name, value in found[0].items()}
        for name, value in found[1].items():
            setattr(self, name, value)
        self.environment.restore(_under(tensors, "now."))
        self.best = _under(tensors, "best.")
        self.optimiser = self._new_optimiser()
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(tensors, "optimiser.").items():
            number, _, moment = name.partition(".")
            moments.setdefault(int(number), {})[moment] = value
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": moments})


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _point(phase: str, epoch: int, losses: list[Losses], score: SelectionScore) -> dict[str, Any]:
    """A row of the learning curve. Losses are means over the epoch's batches; None for the untrained LE.

    `reward_loss` there is with its centring (batches.py).
    """
    of_state, of_reward = np.mean(losses, axis=0).tolist() if losses else (None, None)
    return {
        "phase": phase,
        "epoch": epoch,
        "state_loss": of_state,
        "reward_loss": of_reward,
        "ndcg10": score.ndcg10,
        "reward_accuracy": score.reward_accuracy,
        "selected": score.ndcg10 * score.reward_accuracy,
    }
