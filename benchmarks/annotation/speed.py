"""Annotation against two other methods to do it, on MovieLens-100K and Amazon Scientific: `make bench-annotate`.

In: the recbole wheel; ../shared/data/scientific (left out where it is absent). Out: benchmarks/results/annotate.json,
per data set, and annotate.md, the same as a table.

All methods read the same rows with the same LE (bfloat16 where the processor multiplies it; history 50), each in a
process of its own with one thread, in turns; the fastest run counts, for what else a machine does can only slow one
down.

  ratio_naive, ratio_kv_cache   interactions per second, ours over theirs
  useful_tokens                 real tokens over computed ones
  matmul_share                  operations per second of our run in the LLM's linear layers, over what torch's matrix
                                product of these shapes reaches in the same process; all else counts as loss
  peak_mib                      of the process
  float32_*                     largest difference of ours from naive in float32, and whether both rank actions alike
  engine_*, forecast_*          the stage itself, all workers, on the whole data set; what `lea forecast` said before
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import psutil
import torch

from benchmarks.annotation import methods
from benchmarks.annotation.le import HISTORY, load, ready, rows
from benchmarks.annotation.methods import Annotation
from benchmarks.annotation.variants import variants
from benchmarks.support.jobs import RESULTS, peak_mib
from benchmarks.support.prepared import datasets, run_stage, where
from benchmarks.support.written import table, write_text
from lea_core.annotation import run as shard_run
from lea_core.annotation.annotate import Annotating
from lea_core.annotation.cost_estimate import RunCost, estimate
from lea_core.annotation.forward_pass import Outputs, fill_outputs
from lea_core.common.artifacts import read_json, write_json
from lea_core.common.processes import side_by_side
from lea_core.data.sequences import Sequences, learning_steps, windows
from lea_core.environment.model import Environment

USERS = {"ml-100k": 60, "scientific": 1000}
PARITY_USERS = 6
ROUNDS = 2  # processes of each method
RUNS = 2  # in each process: the first one warms up


def packed(
    le: Environment, train: Sequences, users: np.ndarray, actions: np.ndarray, history: int, budget: int
) -> Annotation:
    """Ours, in the form of the other methods."""
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


METHODS = {"naive": methods.naive, "kv_cache": methods.kv_cache, "packed": packed}


def measure(argument: str) -> dict[str, float]:
    """One method on one data set, in this process: `ml-100k packed`."""
    name, method = argument.split()
    prepared = ready(name)
    le, budget = load(prepared, for_inference=method == "packed"), prepared.params.annotate.batch_tokens
    for parameter in le.llm.decoder.parameters():  # the others' adapter is in the LLM's number format too
        parameter.data = parameter.data.to(le.llm.dtype)
    train, users, actions = rows(prepared, USERS[name])
    seconds = float("inf")
    for _ in range(RUNS):
        started = time.perf_counter()
        found = METHODS[method](le, train, users, actions, HISTORY, budget)
        seconds = min(seconds, time.perf_counter() - started)
    peak = peak_mib()
    linear = [part for part in le.llm.decoder.modules() if isinstance(part, torch.nn.Linear)]
    return {
        "interactions_per_s": len(found.states) / seconds,
        "tokens_per_s": found.real_tokens / seconds,
        "useful_tokens": found.real_tokens / found.computed_tokens,
        "peak_mib": peak,
        "flops": 2 * sum(part.weight.numel() for part in linear) * found.real_tokens / seconds,
        "ceiling": ceiling({tuple(part.weight.shape) for part in linear}, le.llm.dtype, budget),
    }


@torch.inference_mode()
def ceiling(shapes: set[tuple[int, ...]], dtype: torch.dtype, tokens: int) -> float:
    """The best rate, in operations per second, of a matrix product of the shapes of the LLM's linear layers."""
    rates = []
    for outputs, inputs in sorted(shape for shape in shapes if min(shape) > 100):  # not the adapter's
        left, right = torch.randn(tokens, inputs).to(dtype), torch.randn(outputs, inputs).to(dtype)
        for _ in range(5):
            started = time.perf_counter()
            for _ in range(10):
                torch.nn.functional.linear(left, right)
            rates.append(10 * 2 * tokens * inputs * outputs / (time.perf_counter() - started))
    return max(rates)


def parity(name: str) -> dict[str, float]:
    """Largest differences of ours from one prompt per state and action, in float32."""
    prepared = ready(name)
    given = (*rows(prepared, PARITY_USERS), HISTORY, prepared.params.annotate.batch_tokens)
    own, naive = (
        METHODS[method](load(prepared, method == "packed", torch.float32), *given) for method in ("packed", "naive")
    )
    ours, theirs = (np.concatenate([found.logged_rewards[:, None], found.rewards], axis=1) for found in (own, naive))
    largest = float(np.abs(ours - theirs).max())
    in_our_order = np.take_along_axis(theirs, ours.argsort(axis=1), axis=1)
    return {
        "float32_state_difference": float(np.abs(own.states - naive.states).max()),
        "float32_reward_difference": largest,
        # equal actions tie, and may stand in either order
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
    job = shard_run.prepare(kind, prepared.folder, prepared.params)
    shutil.rmtree(job.run.parent, ignore_errors=True)
    price = side_by_side(priced, [name])[0]
    started = time.perf_counter()
    run_stage(prepared.folder, "annotate")
    return {
        "engine_seconds": round(time.perf_counter() - started, 1),
        "engine_interactions": sum(shard.events for shard in job.shards),
        "engine_tokens": read_json(job.run / "manifest.json")["total"]["tokens"],
        "engine_bytes": sum((prepared.folder / path).stat().st_size for path in kind.outs),
        "forecast_tokens": price.left,
        "forecast_seconds": round(price.seconds, 1),
        "forecast_bytes": price.bytes,
    }


def on(name: str) -> dict[str, Any]:
    """All numbers of one data set."""
    ready(name)
    runs: dict[str, list[dict[str, float]]] = {method: [] for method in METHODS}
    for _ in range(ROUNDS):
        for method, found in runs.items():
            found += side_by_side(measure, [f"{name} {method}"])
            print(f"{name} {method}: {found[-1]['interactions_per_s']:,.0f} interactions/s", flush=True)
    best = {method: max(found, key=lambda one: one["interactions_per_s"]) for method, found in runs.items()}
    rates = {method: found["interactions_per_s"] for method, found in best.items()}
    most = max(found["ceiling"] for found in runs["packed"])
    share = best["packed"]["flops"] / most
    for found in best.values():
        del found["flops"], found["ceiling"]
    return {
        "users": USERS[name],
        "ratio_naive": rates["packed"] / rates["naive"],
        "ratio_kv_cache": rates["packed"] / rates["kv_cache"],
        "matmul_share": share,
        "ceiling_gflops": most / 1e9,
        **best["packed"],
        "spread_interactions_per_s": sorted(found["interactions_per_s"] for found in runs["packed"]),
        "methods": best,
        **side_by_side(parity, [name])[0],
        **engine(name),
    }


def markdown(found: Mapping[str, Any]) -> list[str]:
    """annotate.md."""
    lines = []
    for name, one in found.items():
        for method in METHODS:  # a kept result has them sorted
            values = one["methods"][method]
            numbers = [f"{values[key]:,.0f}" for key in ("interactions_per_s", "tokens_per_s")]
            numbers += [f"{values['useful_tokens']:.1%}", f"{values['peak_mib']:,.0f}"]
            lines.append([name, method, *numbers, "" if method == "packed" else f"{one[f'ratio_{method}']:.1f}"])
    head = "data | method | >interactions/s | >tokens/s | >useful tokens | >peak MiB | >ours is faster by"
    return table(head, lines)


def main() -> None:
    """Measure and write the results."""
    started = time.time()
    found: dict[str, Any] = {name: on(name) for name in datasets(USERS)}
    fast = side_by_side(variants, ["ml-100k"])[0]
    record = {"variants": fast, "minutes": round((time.time() - started) / 60, 1), "command": "make bench-annotate"}
    write_json(RESULTS / "annotate.json", {**found, **record, **where()})
    write_text(RESULTS / "annotate.md", markdown(found))
    print("\n".join(markdown(found)))


if __name__ == "__main__":
    main()
