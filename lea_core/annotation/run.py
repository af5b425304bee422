"""One inference run over all shards: plan, compute what is missing, publish.

In: data/, params. Out: the stage's Parquet tables. Intermediate files are in the cache folder, which DVC does not
delete: annotations/<LE>/<task and inputs>/ holds `plan.json`, `known.sqlite` (the windows that earlier runs of this LE
computed), a file per shard, and `manifest.json`, written when all shards are done.

A killed run continues with the missing shards. The folder's name holds a hash of everything that the result depends on,
so finished shards always fit. Two runs with the same LE never work at the same time.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path

from lea_core.annotation import engines, shard_store, shards
from lea_core.annotation.worker import KNOWN, Job, Task
from lea_core.common.artifacts import read_json, read_tensors, write_json
from lea_core.common.code_hash import computed_by
from lea_core.common.errors import LeaError
from lea_core.common.sources import cache_folder, file_sha256
from lea_core.common.stage_costs import note_tokens
from lea_core.common.tables import ITEM_TOKENS, read_rows, write_parts
from lea_core.llm.language_model import choose_device_and_dtype
from lea_core.params import Params

PLAN, MANIFEST = "plan.json", "manifest.json"
KEPT = 3  # number of newest runs that stay for each LE and task, and of newest LEs
ROUNDS = 3  # attempts to compute broken shards again


def prepare(task: Task, root: Path, wanted: Params) -> Job:
    """Plan a run; nothing is loaded or computed yet."""
    data = root / "data"
    shape, interactions, tokens = read_json(data / "le" / "le.json"), data / "interactions", data / "item_tokens"
    plan = shards.plan(interactions, wanted.annotate.shard_events, int(shape["history"]))
    if not plan:
        raise LeaError(f"{interactions}: holds no training event: give the pipeline more data")
    files = [interactions / "interactions.parquet", interactions / "users.parquet", tokens / "items.parquet"]
    inputs = {
        "files": [file_sha256(file) for file in [*files, data / "le" / "heads.safetensors"]],
        "sizes": [wanted.annotate.batch_tokens, wanted.annotate.shard_events],
        "task": task.identity(root),
        **computed_by(type(task).__module__),
    }
    run = cache_folder() / "annotations" / le_identity(root, wanted) / f"{task.name}-{_hash(inputs)}"
    content = read_rows(tokens / "items.parquet", {"content": ITEM_TOKENS["content"]}, 0, 1)["content"]
    return Job(
        task=task,
        root=root.resolve(),
        run=run.resolve(),
        shards=plan,
        state_width=content.type.list_size + int(shape["head_width"]),
        layers=wanted.llm.layers,
        batch_tokens=wanted.annotate.batch_tokens,
        threads=wanted.annotate.threads,
        engine=wanted.annotate.engine,
        workers=wanted.annotate.workers,
    )


def le_identity(root: Path, wanted: Params) -> str:
    """A hash of what a window's states and rewards depend on beside its items: LLM, adapter, heads, dtype, code.

    Not part of it: item counts, which are in an item's key; and the code that chooses actions, because the actions are
    in a window's key, so that a window with the same actions stays known when this code changes.
    """
    le, model = root / "data" / "le", root / "data" / "llm"
    heads = {name: part for name, part in read_tensors(le / "heads.safetensors").items() if name != "counts"}
    device, dtype = choose_device_and_dtype()
    return _hash(
        {
            "llm": [file_sha256(file) for file in sorted(model.iterdir()) if file.is_file()],
            "layers": wanted.llm.layers,
            "adapter": file_sha256(le / "adapter.safetensors"),
            "heads": {name: hashlib.sha256(part.tobytes()).hexdigest() for name, part in heads.items()},
            "shape": read_json(le / "le.json"),
            "number": [device.type, str(dtype), wanted.annotate.threads],
            **computed_by("lea_core.annotation.worker"),
        }
    )


def perform(job: Job) -> None:
    """Compute the missing shards and publish the tables; a process that torchrun started only does its own shards."""
    if engines.is_torchrun_process():
        engines.do_own_shards(job)
        return
    with lock(job):
        write_plan(job)
        for _ in range(ROUNDS):
            records = [job.record(shard) for shard in job.shards]
            engines.run(job, [shard for shard, done in zip(job.shards, records, strict=True) if done is None])
            _write_manifest(job)
            try:
                for path, schema in job.task.outs.items():
                    parts = job.task.tables(path, _arrays(job))
                    write_parts(job.root / path, parts, schema, job.root / "data/interactions/interactions.parquet")
                break
            except MissingShardError:
                continue
        else:
            raise LeaError(f"{job.run}: shard files break as soon as they are written: check the disk")
        _prune(job)


def lock(job: Job) -> AbstractContextManager[bool]:
    """Lock the folder of the LE for this process; waits until another run has ended."""
    return _lock(job.run.parent / "lock")


def write_plan(job: Job) -> None:
    """Write the plan and the index of known windows, once: a resumed run must not find its own windows in the index."""
    if not (job.run / PLAN).exists():
        earlier = _runs(job.run.parent, job.task.name, but=job.run)
        if earlier:
            shard_store.write_known(job.run / KNOWN, earlier)
        write_json(job.run / PLAN, {"run": job.name, "shards": [asdict(shard) for shard in job.shards]})


class MissingShardError(Exception):
    """A shard's file is missing or broken after it was written."""


def _arrays(job: Job) -> Iterator[shard_store.Arrays]:
    for shard in job.shards:
        found = job.read(shard)
        if found is None:
            raise MissingShardError
        yield found[0]


def _write_manifest(job: Job) -> None:
    records = [job.record(shard) for shard in job.shards]
    present = [record for record in records if record is not None]
    totals = {
        name: sum(record[name] for record in present) for name in ("tokens", "windows", "windows_known", "seconds")
    }
    note_tokens(totals["tokens"])
    write_json(job.run / MANIFEST, {"run": job.name, "total": totals, "shards": present})
    known = f", {totals['windows_known']:,} of them known from earlier runs" if totals["windows_known"] else ""
    print(f"{job.task.name}: {totals['windows']:,} windows{known}; {totals['tokens']:,} tokens read", file=sys.stderr)


def _runs(folder: Path, task: str, but: Path) -> list[Path]:
    """Folders of other runs of a task, the newest first."""
    found = [run for run in folder.glob(f"{task}-*") if run != but]
    return sorted(found, key=lambda run: run.stat().st_mtime, reverse=True)


def _prune(job: Job) -> None:
    """Remove the oldest runs of this LE and task, and the oldest LEs."""
    for run in _runs(job.run.parent, job.task.name, but=job.run)[KEPT - 1 :]:
        shutil.rmtree(run, ignore_errors=True)
    others = [le for le in job.run.parent.parent.iterdir() if le != job.run.parent]
    for le in sorted(others, key=lambda le: le.stat().st_mtime, reverse=True)[KEPT - 1 :]:
        with _lock(le / "lock", wait=False) as free:
            if free:
                shutil.rmtree(le, ignore_errors=True)


@contextmanager
def _lock(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a file lock, released when this process ends; without `wait`, yields False where it is held."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                yield False
                return
            print("another run annotates with this LE: waiting for its end", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield True


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()[:16]
