"""A pass over all shards: planned, done once, resumed where a former run stopped, and published.

In: data/, params. Out: the stage's Parquet tables. Between them, in the cache folder and therefore beyond DVC's reach,
annotations/<LE>/<pass and inputs>/: `plan.json`, `known.sqlite` (windows that earlier runs
of this LE passed), a file per shard, and `manifest.json`, written when all shards are there.

A killed run goes on with the shards that are missing; nothing else of it can differ, for the folder's name holds a hash
of all that the result depends on. Runs that share an LE take turns.
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
from lea_core.annotation.worker import KNOWN, Job, Kind
from lea_core.common.artifacts import read_json, read_tensors, write_json
from lea_core.common.code_hash import computed_by
from lea_core.common.errors import LeaError
from lea_core.common.sources import cache_folder, file_sha256
from lea_core.common.stage_costs import note_tokens
from lea_core.common.tables import ITEM_TOKENS, read_rows, write_parts
from lea_core.llm.language_model import choose_device_and_dtype
from lea_core.params import Params

PLAN, MANIFEST = "plan.json", "manifest.json"
KEPT = 3  # runs of an LE and a pass, and LEs: the newest stay
ROUNDS = 3  # of making broken shards again


def prepare(kind: Kind, root: Path, wanted: Params) -> Job:
    """Plan a pass; nothing is loaded or computed yet."""
    data = root / "data"
    shape, interactions, tokens = read_json(data / "le" / "le.json"), data / "interactions", data / "item_tokens"
    plan = shards.plan(interactions, wanted.annotate.shard_events, int(shape["history"]))
    if not plan:
        raise LeaError(f"{interactions}: holds no training event: give the pipeline more data")
    files = [interactions / "interactions.parquet", interactions / "users.parquet", tokens / "items.parquet"]
    inputs = {
        "files": [file_sha256(file) for file in [*files, data / "le" / "heads.safetensors"]],
        "sizes": [wanted.annotate.batch_tokens, wanted.annotate.shard_events],
        "kind": kind.identity(root),
        **computed_by(type(kind).__module__),
    }
    run = cache_folder() / "annotations" / le_identity(root, wanted) / f"{kind.name}-{_hash(inputs)}"
    content = read_rows(tokens / "items.parquet", {"content": ITEM_TOKENS["content"]}, 0, 1)["content"]
    return Job(
        kind=kind,
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
    """What a window's states and rewards depend on beside its items: LLM, adapter, heads, number format, code.

    Counts of the items are left out: they are part of an item's key. So is the code that chooses actions: they are part
    of a window's key, and with other code windows of the same actions stay known.
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
    """Do what is missing of a pass and publish its tables; in a process that torchrun started, its share alone."""
    if engines.is_member():
        engines.work(job)
        return
    with turn(job):
        begin(job)
        for _ in range(ROUNDS):
            records = [job.record(shard) for shard in job.shards]
            engines.run(job, [shard for shard, done in zip(job.shards, records, strict=True) if done is None])
            _write_manifest(job)
            try:
                for path, schema in job.kind.outs.items():
                    parts = job.kind.tables(path, _arrays(job))
                    write_parts(job.root / path, parts, schema, job.root / "data/interactions/interactions.parquet")
                break
            except MissingShardError:
                continue
        else:
            raise LeaError(f"{job.run}: shard files break as soon as they are written: check the disk")
        _prune(job)


def turn(job: Job) -> AbstractContextManager[bool]:
    """Hold the LE's annotations for this process; waits for the end of another run."""
    return _lock(job.run.parent / "lock")


def begin(job: Job) -> None:
    """Fix what is known before the first shard, once: a resumed run must not find its own windows known."""
    if not (job.run / PLAN).exists():
        earlier = _runs(job.run.parent, job.kind.name, but=job.run)
        if earlier:
            shard_store.write_known(job.run / KNOWN, earlier)
        write_json(job.run / PLAN, {"run": job.name, "shards": [asdict(shard) for shard in job.shards]})


class MissingShardError(Exception):
    """A shard's file broke after it was written."""


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
    print(f"{job.kind.name}: {totals['windows']:,} windows{known}; {totals['tokens']:,} tokens passed", file=sys.stderr)


def _runs(folder: Path, kind: str, but: Path) -> list[Path]:
    """Folders of other runs of a pass, the newest first."""
    found = [run for run in folder.glob(f"{kind}-*") if run != but]
    return sorted(found, key=lambda run: run.stat().st_mtime, reverse=True)


def _prune(job: Job) -> None:
    """Remove the oldest runs of this LE and pass, and the oldest LEs."""
    for run in _runs(job.run.parent, job.kind.name, but=job.run)[KEPT - 1 :]:
        shutil.rmtree(run, ignore_errors=True)
    others = [le for le in job.run.parent.parent.iterdir() if le != job.run.parent]
    for le in sorted(others, key=lambda le: le.stat().st_mtime, reverse=True)[KEPT - 1 :]:
        with _lock(le / "lock", wait=False) as free:
            if free:
                shutil.rmtree(le, ignore_errors=True)


@contextmanager
def _lock(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a lock that ends with this process; wait for another's end, or say that it is taken."""
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
