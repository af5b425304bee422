"""One measurement of the serving benchmark, in a process of its own: `python -m benchmarks.serving.worker JSON`.

In: a `Job` as JSON; a folder with policy/, onnx/ and onnx-int8/, the same policy three times, and histories.json. Out:
a line of JSON with its numbers. Nothing is imported that the runtime does not need: memory and start are its own.

  make     the folder, with an untrained SASRec of params.yaml's settings and random histories of LENGTH items
  adopt    the folder, of a trained policy in data/policy and the histories of its data's test events
  latency  milliseconds from ids to ids, a history at a time: p50 and p99, the median of ROUNDS; load seconds; peak MiB
  batch    users per second, many histories at a time, the median of ROUNDS; microseconds of the processor per user,
           which others on the machine lengthen less
  le       the LE asked the same: seconds per history, as `evaluate_le` ranks them and one at a time
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.support.jobs import DEFAULTS, ROOT, answer, peak_mib

LENGTH, LIST = 50, 10
ROUNDS = 5
ROUND_SECONDS, FEWEST, MOST = 0.5, 50, 2000  # of requests in a round
BATCH_USERS, BATCH_SCORES = 8192, 2**25  # histories of a batch, and scores of all items that it has at most
LE_HISTORIES = 30  # that the LE is asked one at a time
WARM_UP = 20


@dataclass(frozen=True)
class Job:
    """What one process does. runtime: torch, onnx or onnx-int8. items: of a catalogue to make."""

    part: str
    folder: str
    runtime: str = ""
    items: int = 0
    threads: int = 1
    data: str = ""


def make(job: Job) -> dict[str, float]:
    """An untrained policy, three times."""
    import torch

    from lea_core.models.policy_network import PolicyConfig, PolicyNetwork
    from lea_core.params import load
    from lea_core.serving.folder import Vocabulary, seal, write_vocabulary

    chosen = load(DEFAULTS)
    torch.manual_seed(0)
    settings, train = chosen.backbones.sasrec.model_dump(), chosen.train
    network = PolicyNetwork(PolicyConfig("sasrec", settings, job.items, train.history, train.repeat_bias))
    folder = Path(job.folder)
    policy = folder / "policy"
    policy.mkdir(parents=True, exist_ok=True)
    network.save(policy)
    item_ids = [str(item) for item in range(job.items)]
    write_vocabulary(policy, Vocabulary(item_ids, np.ones(job.items, dtype=np.int64)))
    seal(policy)
    users = max(64, min(BATCH_USERS, BATCH_SCORES // job.items))
    drawn = np.random.default_rng(0).integers(0, job.items, (users, LENGTH)).astype(str).tolist()
    return _export(policy, folder, drawn)


def adopt(job: Job) -> dict[str, float]:
    """A trained policy, twice more, and the test events' histories."""
    from lea_core.common.tables import ITEMS, read_table
    from lea_core.data.sequences import read_sequences

    data, folder = Path(job.data), Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    item_ids = read_table(data / "interactions" / "items.parquet", ITEMS)["item_id"].to_pylist()
    sequences = read_sequences(data / "interactions")
    users, positions = sequences.targets("test")
    rows = zip(sequences.offsets[users].tolist(), positions.tolist(), strict=True)
    histories = [[item_ids[item] for item in sequences.items[start : start + length]] for start, length in rows]
    (folder / "policy").unlink(missing_ok=True)
    (folder / "policy").symlink_to((data / "policy").resolve())
    return _export(data / "policy", folder, histories)


def _export(policy: Path, folder: Path, histories: list[list[str]]) -> dict[str, float]:
    from lea_core.serving.onnx_export import export_folder

    for name in ("onnx", "onnx-int8"):
        export_folder(policy, folder / name, LIST, name == "onnx-int8")
    (folder / "histories.json").write_text(json.dumps(histories))
    return {}


def load_policy(job: Job) -> Any:
    """The policy in the job's runtime, on its threads."""
    if job.runtime == "torch":
        import torch

        from lea_core.serving import Policy

        torch.set_num_threads(job.threads)
        return Policy.load(Path(job.folder) / "policy")
    from lea_core.serving.onnx_policy import OnnxPolicy

    return OnnxPolicy.load(Path(job.folder) / job.runtime, threads=job.threads)


def latency(job: Job) -> dict[str, float]:
    """From ids to ids, a history at a time."""
    started = time.perf_counter()
    policy = load_policy(job)
    loaded = time.perf_counter() - started
    histories = _histories(job)
    found = requests(lambda number: policy.recommend([histories[number % len(histories)]], LIST).items)
    return {**found, "load_s": loaded, "peak_mib": peak_mib()}


def requests(ask: Callable[[int], object]) -> dict[str, float]:
    """p50_ms and p99_ms of `ask`, called with 0, 1, ...; the medians of ROUNDS."""
    for number in range(WARM_UP):
        ask(number)
    rounds = []
    for _ in range(ROUNDS):
        taken: list[float] = []
        ends = time.perf_counter() + ROUND_SECONDS
        while len(taken) < FEWEST or (len(taken) < MOST and time.perf_counter() < ends):
            started = time.perf_counter()
            ask(len(taken))
            taken.append(1000 * (time.perf_counter() - started))
        rounds.append(np.percentile(taken, [50, 99]))
    p50, p99 = np.median(rounds, axis=0)
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


def batch(job: Job) -> dict[str, float]:
    """From ids to ids, all histories together."""
    policy, histories = load_policy(job), _histories(job)
    users = max(len(histories), min(BATCH_USERS, BATCH_SCORES // len(policy.item_ids)))
    histories = [histories[number % len(histories)] for number in range(users)]
    policy.recommend(histories, LIST)
    rates, spent = [], time.process_time()
    for _ in range(ROUNDS):
        started = time.perf_counter()
        answer = policy.recommend(histories, LIST).items
        rates.append(len(answer) / (time.perf_counter() - started))
    spent = (time.process_time() - spent) / ROUNDS / users
    return {"users_per_s": float(np.median(rates)), "batch_cpu_us": 1e6 * spent, "batch_peak_mib": peak_mib()}


def _histories(job: Job) -> list[list[str]]:
    found: list[list[str]] = json.loads((Path(job.folder) / "histories.json").read_text())
    return found


def le(job: Job) -> dict[str, float]:
    """The LE asked for the histories of the test events, together and one at a time, on the job's threads."""
    import torch

    from lea_core import params
    from lea_core.baselines.environment import le_ranker
    from lea_core.data.sequences import read_sequences
    from lea_core.environment import model as environment
    from lea_core.llm import language_model
    from lea_core.metrics.full_ranking import rank_events
    from lea_core.serving.folder import read_exclude_seen

    torch.set_num_threads(job.threads)
    started = time.perf_counter()
    wanted, data = params.load(ROOT / "params.yaml"), Path(job.data)
    policy = Path(job.folder) / "policy"
    mask_seen = read_exclude_seen(policy, [file.name for file in policy.iterdir()])  # as the policy is asked
    tokens = environment.read_item_tokens(data / "item_tokens" / "items.parquet")
    asked = environment.load(data / "le", language_model.load(data / "llm", wanted.llm.layers), tokens)
    loaded = time.perf_counter() - started
    sequences = read_sequences(data / "interactions")
    users, positions = sequences.targets("test")
    ranker = le_ranker(asked, wanted.annotate.batch_tokens)

    def answer(rows: slice) -> object:
        own = users[rows], positions[rows]
        return rank_events(ranker, sequences, *own, asked.shape.history, mask_seen, wanted.evaluate.batch_users, LIST)

    answer(slice(0, 64))
    started, spent = time.perf_counter(), time.process_time()
    answer(slice(None))
    seconds, spent = (time.perf_counter() - started) / len(users), (time.process_time() - spent) / len(users)
    single = []
    for number in range(LE_HISTORIES):
        started = time.perf_counter()
        answer(slice(number, number + 1))
        single.append(1000 * (time.perf_counter() - started))
    p50, p99 = np.percentile(single, [50, 99])
    found = {"p50_ms": p50, "p99_ms": p99, "users_per_s": 1 / seconds, "batch_cpu_us": 1e6 * spent}
    return {**found, "load_s": loaded, "peak_mib": peak_mib()}


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    answer(Job, {"make": make, "adopt": adopt, "latency": latency, "batch": batch, "le": le})
