"""Annotation against two other ways to do it, on MovieLens-100K and Amazon Scientific: `make bench-annotate`.

In: the recbole wheel; ../shared/data/scientific (left out where it is absent). Out: benchmarks/results/annotate.json,
per data set, and annotate.md, the same as a table.

All ways read the same rows with the same LE (bfloat16 where the processor multiplies it; history 50; trained heads, a
random adapter), each in a process of its own with one thread, in turns; the fastest pass counts, for what else a
machine does can only slow one down.

  ratio_naive, ratio_kv_cache   interactions per second, ours over theirs
  useful_tokens                 real tokens over computed ones
  matmul_share                  operations per second of our pass in the LLM's linear layers, over what torch's matrix
                                product of these shapes reaches in the same process; all else counts as loss
  peak_mib                      of the process
  float32_*                     largest difference of ours from naive in float32, and whether both rank actions alike
  engine_*, forecast_*          the stage itself, all workers, on the whole data set; what `lea forecast` said before
"""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from benchmarks import annotation_ways
from benchmarks.annotation_variants import shake, variants
from benchmarks.annotation_ways import Annotation
from benchmarks.common import LLM, ROOT, Prepared, prepare, run_stage, where
from lea_core.annotation import run
from lea_core.annotation.annotate import Annotating
from lea_core.annotation.cost_estimate import RunCost, estimate
from lea_core.annotation.forward_pass import Outputs, fill_outputs
from lea_core.common.artifacts import publish_file, read_json, write_json
from lea_core.common.processes import side_by_side
from lea_core.data.sequences import Sequences, learning_steps, windows
from lea_core.environment import model as environment
from lea_core.environment.model import Environment
from lea_core.llm import language_model

USERS = {"ml-100k": 60, "scientific": 1000}
PARITY_USERS = 6
ROUNDS = 2  # processes of each way
PASSES = 2  # in each process: the first one warms up
HISTORY = 50
RESULTS = ROOT / "benchmarks" / "results"


def packed(
    le: Environment, train: Sequences, users: np.ndarray, actions: np.ndarray, history: int, budget: int
) -> Annotation:
    """Ours, in the form of the other ways."""
    passed = Outputs.empty(le, len(train.items), actions.shape[1])
    batches = list(fill_outputs(le, train, windows(train, users, history), actions, budget, passed))
    mine = np.isin(train.users_and_positions()[0], users)
    steps = mine & learning_steps(train)
    return Annotation(
        passed.states[mine].astype(np.float32),
        passed.rewards[steps],
        passed.action_rewards[steps],
        sum(batch.tokens for batch in batches),
        sum(batch.items.size for batch in batches),
    )


WAYS = {"naive": annotation_ways.naive, "kv_cache": annotation_ways.kv_cache, "packed": packed}


def ready(name: str) -> Prepared:
    """A data set with an LE: its heads trained, its adapter still without effect."""
    changes = {"finetune_le.history": HISTORY, "finetune_le.lora.epochs": 0}
    return prepare(name, changes, "-annotate", ("finetune_le",))


def build(prepared: Prepared, for_inference: bool = True) -> Environment:
    """That LE with a random adapter, of the size that training gives it; the same in every process.

    Ours is optimized for inference. The others have the adapter in the LLM's number format.
    """
    model = language_model.load(prepared.folder / LLM, prepared.params.llm.layers)
    le = environment.load(prepared.folder / "data" / "le", model, prepared.tokens, for_inference)
    shake(le)
    for parameter in le.llm.decoder.parameters():
        parameter.data = parameter.data.to(le.llm.dtype)
    return le


def rows(prepared: Prepared, count: int) -> tuple[Sequences, np.ndarray, np.ndarray]:
    """Training events, so many drawn users, in order, and sampled actions at every event."""
    train, rng = prepared.sequences.train(), np.random.default_rng(0)
    users = np.flatnonzero(np.diff(train.offsets) > 0)
    users = np.sort(rng.permutation(users)[:count])
    wanted = prepared.params.annotate.sampled_actions
    return train, users, rng.integers(0, train.num_items, (len(train.items), wanted))


def measure(argument: str) -> dict[str, float]:
    """One way on one data set, in this process: `ml-100k packed`."""
    name, way = argument.split()
    prepared = ready(name)
    le, budget = build(prepared, for_inference=way == "packed"), prepared.params.annotate.batch_tokens
    train, users, actions = rows(prepared, USERS[name])
    seconds = float("inf")
    for _ in range(PASSES):
        started = time.perf_counter()
        found = WAYS[way](le, train, users, actions, HISTORY, budget)
        seconds = min(seconds, time.perf_counter() - started)
    peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
    linear = [part for part in le.llm.decoder.modules() if isinstance(part, torch.nn.Linear)]
    work = 2 * sum(part.weight.numel() for part in linear) * found.real_tokens / seconds
    return {
        "interactions_per_s": len(found.states) / seconds,
        "tokens_per_s": found.real_tokens / seconds,
        "useful_tokens": found.real_tokens / found.computed_tokens,
        "peak_mib": peak,
        "flops": work,
        "ceiling": ceiling(le, budget),
    }


@torch.inference_mode()
def ceiling(le: Environment, tokens: int) -> float:
    """The best rate, in operations per second, of a matrix product of the shapes of the LLM's linear layers."""
    shapes = {tuple(p.weight.shape) for p in le.llm.decoder.modules() if isinstance(p, torch.nn.Linear)}
    rates = []
    for outputs, inputs in sorted(shape for shape in shapes if min(shape) > 100):  # not the adapter's
        left, right = torch.randn(tokens, inputs).to(le.llm.dtype), torch.randn(outputs, inputs).to(le.llm.dtype)
        for _ in range(5):
            started = time.perf_counter()
            for _ in range(10):
                torch.nn.functional.linear(left, right)
            rates.append(10 * 2 * tokens * inputs * outputs / (time.perf_counter() - started))
    return max(rates)


def parity(name: str) -> dict[str, float]:
    """Largest differences of ours from one prompt per state and action, in float32."""
    prepared = ready(name)
    budget = prepared.params.annotate.batch_tokens
    train, users, actions = rows(prepared, PARITY_USERS)
    answers = []
    for way in ("packed", "naive"):
        le = build(prepared, for_inference=way == "packed")
        le.llm.causal.float()
        le.llm = replace(le.llm, dtype=torch.float32)
        answers.append(WAYS[way](le, train, users, actions, HISTORY, budget))
    ours, theirs = (np.concatenate([found.logged_rewards[:, None], found.rewards], axis=1) for found in answers)
    largest = float(np.abs(ours - theirs).max())
    in_our_order = np.take_along_axis(theirs, ours.argsort(axis=1), axis=1)
    return {
        "float32_state_difference": float(np.abs(answers[0].states - answers[1].states).max()),
        "float32_reward_difference": largest,
        # equal actions tie, and may stand either way
        "float32_same_ranking": float((np.diff(in_our_order, axis=1) >= -2 * largest).all(axis=1).mean()),
    }


def priced(name: str) -> RunCost:
    """What `lea forecast` says of annotate, in a process that begins as a stage does."""
    prepared = ready(name)
    return estimate(prepared.folder, prepared.params, psutil.Process().create_time()).runs[0]


def engine(name: str) -> dict[str, float]:
    """The stage on the whole data set, all workers, from a cold cache."""
    prepared = ready(name)
    kind = Annotating(prepared.params.annotate.sampled_actions, prepared.params.annotate.seed)
    job = run.prepare(kind, prepared.folder, prepared.params)
    shutil.rmtree(job.run.parent, ignore_errors=True)
    price = side_by_side(priced, [name])[0]
    started = time.perf_counter()
    run_stage(prepared.folder, "annotate")
    wall = time.perf_counter() - started
    written = sum((prepared.folder / path).stat().st_size for path in kind.outs)
    total = read_json(job.run / "manifest.json")["total"]
    events = sum(shard.events for shard in job.shards)
    return {
        "engine_interactions": events,
        "engine_tokens": total["tokens"],
        "engine_seconds": round(wall, 1),
        "engine_bytes": written,
        "forecast_tokens": price.left,
        "forecast_seconds": round(price.seconds, 1),
        "forecast_bytes": price.bytes,
    }


def on(name: str) -> dict[str, Any]:
    """All numbers of one data set."""
    ready(name)
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(ROUNDS):
        for way in WAYS:
            runs[way] += side_by_side(measure, [f"{name} {way}"])
            print(f"{name} {way}: {runs[way][-1]['interactions_per_s']:,.0f} interactions/s", flush=True)
    best = {way: max(found, key=lambda one: one["interactions_per_s"]) for way, found in runs.items()}
    ours = best["packed"]
    rates = {way: found["interactions_per_s"] for way, found in best.items()}
    return {
        "users": USERS[name],
        "ratio_naive": rates["packed"] / rates["naive"],
        "ratio_kv_cache": rates["packed"] / rates["kv_cache"],
        "matmul_share": ours["flops"] / max(found["ceiling"] for found in runs["packed"]),
        "ceiling_gflops": max(found["ceiling"] for found in runs["packed"]) / 1e9,
        **{key: ours[key] for key in ("useful_tokens", "interactions_per_s", "tokens_per_s", "peak_mib")},
        "spread_interactions_per_s": sorted(found["interactions_per_s"] for found in runs["packed"]),
        "ways": {way: {key: best[way][key] for key in best[way] if key not in ("flops", "ceiling")} for way in WAYS},
        **side_by_side(parity, [name])[0],
        **engine(name),
    }


def table(found: dict[str, Any]) -> str:
    """annotate.md."""
    lines = [
        "| data | way | interactions/s | tokens/s | useful tokens | peak MiB | ours is faster by |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for name, one in found.items():
        for way, values in one["ways"].items():
            ratio = "" if way == "packed" else f"{one[f'ratio_{way}']:.1f}"
            lines.append(
                f"| {name} | {way} | {values['interactions_per_s']:,.0f} | {values['tokens_per_s']:,.0f} | "
                f"{values['useful_tokens']:.1%} | {values['peak_mib']:,.0f} | {ratio} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the results."""
    started = time.time()
    names = [name for name in USERS if name == "ml-100k" or (ROOT.parent / "shared" / "data" / name).is_dir()]
    found: dict[str, Any] = {name: on(name) for name in names}
    fast = side_by_side(variants, [str(ready("ml-100k").folder)])[0]
    record = {"variants": fast, "minutes": round((time.time() - started) / 60, 1), "command": "make bench-annotate"}
    write_json(RESULTS / "annotate.json", {**found, **record, **where()})
    with publish_file(RESULTS / "annotate.md") as temporary:
        temporary.write_text(table(found), encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
