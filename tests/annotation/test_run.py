"""Sharded passes: the plan, kills at several moments, engines, rows of earlier runs, and files that break."""

import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lea_core.annotation import run, shards
from lea_core.annotation.annotate import Annotating
from lea_core.annotation.worker import Job, Worker
from lea_core.common import tables
from lea_core.common.errors import LeaError
from lea_core.common.tables import to_numpy
from lea_core.data.sequences import windows
from tests.support.tiny_project import change, log, start, write_log, write_project

STATES, REWARDS = Path("data/states/le.parquet"), Path("data/rewards/le.parquet")
LOG = log(30)


def annotated(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: object) -> Job:
    """Annotate the project in this process."""
    monkeypatch.setenv("LEA_CACHE", str(folder / "cache"))
    wanted = change(folder, **changes)
    job = run.prepare(Annotating(wanted.annotate.sampled_actions, wanted.annotate.seed), folder, wanted)
    run.perform(job)
    return job


def total(job: Job) -> dict[str, int]:
    return json.loads((job.run / "manifest.json").read_text())["total"]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose annotation nothing has disturbed."""
    folder = tmp_path_factory.mktemp("unbroken")
    write_project(folder, LOG)
    with pytest.MonkeyPatch.context() as patch:
        annotated(folder, patch)
    return folder


def fresh(unbroken: Path, folder: Path) -> Path:
    """A copy without what annotation made; the LLM's folder stays where it is."""
    shutil.copytree(unbroken, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("cache", "states", "rewards"))
    return folder


def same(one: Path, other: Path) -> bool:
    return all((one / path).read_bytes() == (other / path).read_bytes() for path in (STATES, REWARDS))


def files(folder: Path) -> dict[Path, int]:
    """Finished shard files and when each was written."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("cache/annotations/*/*/*.safetensors")}


def wait_for(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=12), st.integers(1, 30), st.integers(2, 9), st.integers(1, 50))
def test_the_plan_by_hand(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], size: int, history: int, group: int
) -> None:
    sequences = log(len(lengths))
    counts = np.array(lengths) + 1
    sequences = type(sequences)(
        np.arange(counts.sum()) % 9, np.zeros(counts.sum(), np.int8), np.concatenate([[0], np.cumsum(counts)]), 9
    )
    sequences.split[sequences.offsets[1:] - 1] = 2  # the last event of each is held out: some have no training event
    folder = tmp_path_factory.mktemp("plan")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "ROW_GROUP", group)
        write_log(folder, sequences)
    plan = shards.plan(folder / "data" / "interactions", size, history)
    train = sequences.train()
    assert sum(shard.events for shard in plan) == len(train.items)
    for number, shard in enumerate(plan):
        assert shard.number == number
        before = plan[number - 1] if number else None
        assert (shard.first_user, shard.first_row, shard.first_event) == (
            (before.end_user, before.end_row, before.end_event) if before else (0, 0, 0)
        )
        users = np.arange(shard.first_user, shard.end_user)
        assert shard.end_row == sequences.offsets[shard.end_user]
        assert shard.tokens == sum(window.length for window in windows(train, users, history))
        assert shard.steps == sum(max(lengths[user] - 1, 0) for user in users)
        last = lengths[shard.end_user - 1]
        assert shard.events - last < size  # it was not full before its last user
        assert shard.events >= size or shard is plan[-1]
        part = shards.read(folder / "data" / "interactions", shard, 9)
        assert part.train.items.tolist() == train.items[shard.first_event : shard.end_event].tolist()
        assert part.user_ids == [f"u{user:03d}" for user in users]


def test_the_tables_hold_every_event_and_step(unbroken: Path) -> None:
    train = LOG.train()
    users, positions = train.users_and_positions()
    states = tables.read_table(unbroken / STATES, tables.STATES)
    assert to_numpy(states, "user").tolist() == users.tolist()
    assert to_numpy(states, "position").tolist() == positions.tolist()
    steps = np.flatnonzero(np.diff(users) == 0)
    rewards = tables.read_table(unbroken / REWARDS, tables.REWARDS)
    assert to_numpy(rewards, "user").tolist() == users[steps].tolist()
    assert to_numpy(rewards, "action").tolist() == train.items[steps + 1].tolist()
    assert (to_numpy(rewards, "sampled_actions") != to_numpy(rewards, "action")[:, None]).all()


def test_a_run_that_is_killed_after_its_last_shard_goes_on(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some shards: tests/pipeline/test_pipeline.py."""
    folder = fresh(unbroken, tmp_path)
    count = len(files(unbroken))
    process = start(folder, "annotate")
    wait_for(lambda: len(files(folder)) >= count or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    finished = files(folder)
    assert len(finished) >= count
    annotated(folder, monkeypatch)
    assert {path: when for path, when in files(folder).items() if path in finished} == finished
    assert same(folder, unbroken)


def test_a_killed_worker_is_replaced(unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fresh(unbroken, tmp_path)
    killed = []

    def kill() -> None:
        wait_for(lambda: len(files(folder)) >= 2)
        victim = multiprocessing.active_children()[0]
        os.kill(victim.pid or 0, signal.SIGKILL)
        killed.append(victim)

    assassin = threading.Thread(target=kill)
    assassin.start()
    annotated(folder, monkeypatch, workers=2)
    assassin.join()
    assert killed
    assert same(folder, unbroken)


def children(name: bytes) -> list[int]:
    """Processes with `name` in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if name in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.engines
@pytest.mark.parametrize(("engine", "name"), [("torchrun", b"-m\0stages.annotate"), ("ray", b"ray::MapWorker")])
def test_other_engines_give_the_same_bytes_though_a_worker_is_killed(
    unbroken: Path, tmp_path: Path, engine: str, name: bytes
) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
    folder = fresh(unbroken, tmp_path)
    change(folder, workers=2, engine=engine)
    process = start(folder, "annotate")
    wait_for(lambda: len(files(folder)) >= 2 or process.poll() is not None)
    workers = [pid for pid in children(name) if str(folder).encode() in Path(f"/proc/{pid}/environ").read_bytes()]
    os.kill(max(workers), signal.SIGKILL)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert same(folder, unbroken)


def test_workers_that_cannot_live_are_given_up(unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, stop = fresh(unbroken, tmp_path), threading.Event()

    def kill() -> None:
        while not stop.wait(0.05):
            for child in multiprocessing.active_children():
                os.kill(child.pid or 0, signal.SIGKILL)

    assassin = threading.Thread(target=kill)
    assassin.start()
    try:
        with pytest.raises(LeaError, match=r"a worker was killed while loading the LE, .* lower annotate\.workers"):
            annotated(folder, monkeypatch, workers=2)
    finally:
        stop.set()
        assassin.join()
    assert not (folder / STATES).exists()
    annotated(folder, monkeypatch)
    assert same(folder, unbroken)


def test_a_shard_of_one_batch_has_a_rate(unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The forecast's trial leaves the first batch out, but for where there is no other."""
    folder = fresh(unbroken, tmp_path / "project")
    job = annotated(folder, monkeypatch, batch_tokens=100_000)
    tokens, seconds = Worker(job).warm_up(job.shards[0])
    assert tokens > 0
    assert seconds > 0


def test_ray_is_asked_for_where_it_is_not(unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    said = r"annotate\.engine is ray, which is not here: `pip install 'lea-recommender\[ray\]'`"
    with pytest.raises(LeaError, match=said):
        annotated(fresh(unbroken, tmp_path), monkeypatch, engine="ray")
