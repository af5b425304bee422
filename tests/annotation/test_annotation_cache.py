"""The cache of annotation: what an earlier run computed is reused only where nothing that it depends on has changed.

And what may happen to its shard files: cut, edited, of another LE, a full disk, two runs at once.
"""

import fcntl
import json
import resource
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from lea_core.annotation import augment, engines, run, shard_store
from lea_core.annotation.annotate import Annotating
from lea_core.annotation.augment import Augmenting
from lea_core.annotation.worker import Job
from lea_core.common import tables
from lea_core.common.artifacts import read_tensors, write_tensors
from lea_core.common.errors import LeaError
from lea_core.common.tables import to_numpy
from lea_core.data.sequences import Sequences, drawn_actions, windows
from lea_core.params import load
from lea_core.params.overlay import change_params
from tests.annotation.test_run import LOG, REWARDS, STATES, annotated, files, fresh, same, total
from tests.support.edited import edit
from tests.support.tiny_le import item_tokens, make, shake
from tests.support.tiny_project import change, log, start, write_log, write_project, write_tokens

HISTORY = 8  # of the tiny project's LE


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of 30 users, annotated, with the cache that this left."""
    folder = tmp_path_factory.mktemp("done")
    write_project(folder, LOG)
    with pytest.MonkeyPatch.context() as patch:
        annotated(folder, patch)
    return folder


@pytest.fixture
def again(done: Path, tmp_path: Path) -> Path:
    """A copy of it, cache and all."""
    return shutil.copytree(done, tmp_path, dirs_exist_ok=True)


def window_count(sequences: Sequences) -> int:
    train = sequences.train()
    return len(windows(train, np.arange(train.num_users), HISTORY))


def with_users(sequences: Sequences, more: Sequences, place: int) -> Sequences:
    """The users of `more` put in before user `place`."""
    row = sequences.offsets[place]
    items, split = (
        np.concatenate([getattr(sequences, name)[:row], getattr(more, name), getattr(sequences, name)[row:]])
        for name in ("items", "split")
    )
    lengths = np.insert(np.diff(sequences.offsets), [place] * more.num_users, np.diff(more.offsets))
    return Sequences(items, split, np.concatenate([[0], np.cumsum(lengths)]), sequences.num_items)


def test_new_users_alone_are_annotated(again: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: tables.read_table(again / path, schema) for path, schema in Annotating.outs.items()}
    new = log(2, seed=1)
    ids = [f"u{user:03d}" for user in range(30)]
    write_log(again, with_users(LOG, new, 7), [*ids[:7], "u006a", "u006b", *ids[7:]])
    job = annotated(again, monkeypatch)
    assert total(job)["windows"] == window_count(LOG) + window_count(new)
    assert total(job)["windows_known"] == window_count(LOG)
    assert total(job)["tokens"] == sum(job.tokens(shard) for shard in job.shards) - _tokens(LOG)
    for path, schema in Annotating.outs.items():
        after = tables.read_table(again / path, schema)
        users = to_numpy(after, "user")
        old = (users < 7) | (users >= 9)
        for name in schema:
            if name != "user":
                np.testing.assert_array_equal(to_numpy(after, name)[old], to_numpy(before[path], name))


def _tokens(sequences: Sequences) -> int:
    train = sequences.train()
    reads = sum(window.length for window in windows(train, np.arange(train.num_users), HISTORY))
    return reads + 2 * int(np.maximum(np.diff(train.offsets) - 1, 0).sum())


def test_a_changed_item_costs_its_holders_alone(again: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = item_tokens().token.copy()
    token[8] += 1.0
    write_tokens(again, token)
    train, ids = LOG.train(), [f"u{user:03d}" for user in range(30)]
    followers = np.where(np.diff(np.append(train.users_and_positions()[0], -1)) == 0, np.roll(train.items, -1), 0)
    sampled = drawn_actions(ids, train, followers, 2, 0)
    touched = 0
    for window in windows(train, np.arange(30), HISTORY):
        offset, end = train.offsets[window.user], train.offsets[window.user] + window.end
        looked = train.items[max(offset + window.start - 1, offset) : end]  # two recent items: one before the window
        first = offset + max(window.new - 1, window.start)
        last = min(end, train.offsets[window.user + 1] - 1) - (end < train.offsets[window.user + 1])
        touched += 8 in looked or 8 in sampled[first:last]
    job = annotated(again, monkeypatch)
    assert 0 < touched < total(job)["windows"]
    assert total(job)["windows"] - total(job)["windows_known"] == touched


def test_another_le_shares_nothing(again: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    le = shake(make(again / "other", history=8))
    le.heads.state_map.weight.data.mul_(2.0)
    le.save(again / "data" / "le", {})
    job = annotated(again, monkeypatch)
    assert total(job)["windows_known"] == 0


def one_less(path: Path) -> None:
    """Leave the last column out of the first matrix of a file of tensors."""
    parts = read_tensors(path)
    name = next(name for name, part in parts.items() if part.ndim == 2)
    write_tensors(path, parts | {name: np.ascontiguousarray(parts[name][:, :-1])})


IDENTITY = {
    "LLM": lambda folder, _: (folder / "data" / "llm" / "more.txt").write_text("another file"),
    "adapter": lambda folder, _: one_less(folder / "data" / "le" / "adapter.safetensors"),
    "heads": lambda folder, _: one_less(folder / "data" / "le" / "heads.safetensors"),
    "shape": lambda folder, _: (folder / "data" / "le" / "le.json").write_text("{}"),
    "layers": lambda folder, _: change_params(folder, {"llm.layers": 1}),
    "threads": lambda folder, _: change_params(folder, {"annotate.threads": 3}),
    "dtype": lambda _, patch: patch.setattr(run, "choose_device_and_dtype", lambda: (CPU, torch.float16)),
    "device": lambda _, patch: patch.setattr(run, "choose_device_and_dtype", lambda: (torch.device("meta"), F32)),
    "code": lambda folder, patch: edit(patch, folder / "code", "lea_core/environment/heads.py"),
}
CPU, F32 = torch.device("cpu"), torch.float32


@pytest.mark.parametrize("what", IDENTITY)
def test_what_an_le_is_in_the_cache(again: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Each of these alone makes it another LE, which shares nothing; the counts of the items do not."""
    llm = again / "data" / "llm"
    if llm.is_symlink():  # changed below
        target = llm.resolve()
        llm.unlink()
        shutil.copytree(target, llm)
    monkeypatch.setattr(run, "choose_device_and_dtype", lambda: (CPU, F32))
    before = run.le_identity(again, change(again))
    heads = again / "data" / "le" / "heads.safetensors"
    parts = read_tensors(heads)
    write_tensors(heads, parts | {"counts": parts["counts"] + 1})
    assert run.le_identity(again, load(again / "params.yaml")) == before
    IDENTITY[what](again, monkeypatch)
    assert run.le_identity(again, load(again / "params.yaml")) != before


@pytest.mark.parametrize("harm", ["cut", "edited", "of another shard", "of another LE", "deleted"])
def test_a_harmed_shard_is_made_again(
    again: Path, done: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], harm: str
) -> None:
    for path in (STATES, REWARDS):
        (again / path).unlink()
    victim, other = sorted(files(again))[2:4]
    content = victim.read_bytes()
    if harm == "cut":
        victim.write_bytes(content[:-100])
    elif harm == "edited":
        victim.write_bytes(content[:-100] + bytes(100))
    elif harm == "of another shard":
        shutil.copyfile(other, victim)
    elif harm == "of another LE":
        arrays, record = shard_store.read(victim) or ({}, {})
        shard_store.write(victim, arrays, {**record, "run": f"0123456789abcdef/{victim.parent.name}"})
    else:
        victim.unlink()
    untouched = {path: when for path, when in files(again).items() if path != victim}
    annotated(again, monkeypatch)
    assert same(again, done)
    assert {path: when for path, when in files(again).items() if path != victim} == untouched
    told = {"cut": "broken shard", "edited": "its content is not what was written", "deleted": ""}
    assert told.get(harm, "the work of another LE or of other data: it is computed again") in capsys.readouterr().err


def test_a_manifest_names_every_shard(again: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = annotated(again, monkeypatch)
    manifest = json.loads((job.run / "manifest.json").read_text())
    assert [shard["shard"]["number"] for shard in manifest["shards"]] == list(range(len(job.shards)))
    for shard, record in zip(job.shards, manifest["shards"], strict=True):
        arrays, header = shard_store.read(job.file(shard)) or ({}, {})
        assert header["sha256"] == record["sha256"]
        assert len(arrays["user"]) == record["shard"]["end_event"] - record["shard"]["first_event"]


def test_two_runs_at_once_take_turns(again: Path, done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (lock,) = again.glob("cache/annotations/*/lock")
    shutil.rmtree(next(again.glob("cache/annotations/*/annotate-*")))
    (again / STATES).unlink()
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = start(again, "annotate")
        assert process.stderr is not None
        assert "another run annotates with this LE: waiting" in process.stderr.readline()
        assert not files(again)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert same(again, done)


def test_a_full_disk_loses_nothing(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fresh(done, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(engines, "run", Mock(side_effect=KeyboardInterrupt))  # only what comes before the shards
        with pytest.raises(KeyboardInterrupt):
            annotated(folder, monkeypatch)
    sizes = sorted(path.stat().st_size for path in files(done))
    limit = sizes[len(sizes) // 2]  # some shards are larger than a file may grow
    process = start(folder, "annotate", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr.splitlines()[-1].startswith("error: disk full while writing in ")
    finished = files(folder)
    assert not (folder / STATES).exists()
    annotated(folder, monkeypatch)
    assert {path: when for path, when in files(folder).items() if path in finished} == finished
    assert same(folder, done)


def test_what_is_not_finite_is_named(again: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = item_tokens().token.copy()
    token[5] = np.nan
    write_tokens(again, token)
    train = LOG.train()
    event = int(np.flatnonzero(train.items == 5)[0])
    user, position = (int(values[event]) for values in train.users_and_positions())
    with pytest.raises(LeaError, match=r"user \d+ at position \d+ is not finite: run .* finetune_le") as told:
        annotated(again, monkeypatch)
    named = [int(word) for word in str(told.value).split() if word.isdigit()]
    assert tuple(named[:2]) <= (user, position)  # a sampled action may be item 5 before the user takes it
    for held in STATES, REWARDS:
        assert (again / held).exists()  # what was published before stays


def test_other_code_of_the_proposals_proposes_anew(
    again: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it proposes is published; of the LE nothing changed, so windows of the same actions stay known."""

    def augmented() -> tuple[Job, np.ndarray]:
        wanted = change(again)
        job = run.prepare(Augmenting(wanted.augment.actions, wanted.preprocess.repeats), again, wanted)
        run.perform(job)
        return job, to_numpy(tables.read_table(again / "data/actions/le.parquet", tables.ACTIONS), "actions")

    annotated(again, monkeypatch)
    _, actions = augmented()
    propose = augment.propose

    def turned(*others: Any, **kinds: Any) -> tuple[np.ndarray, np.ndarray]:
        """The other way round, where item 1 would be the first."""
        proposed, scores = propose(*others, **kinds)
        return np.where(proposed[:, :1] == 1, proposed[:, ::-1], proposed), scores

    monkeypatch.setattr(augment, "propose", turned)
    edit(monkeypatch, tmp_path / "code", "lea_core/environment/top_items.py")
    after, turned_actions = augmented()
    ones = actions[:, 0] == 1
    np.testing.assert_array_equal(turned_actions[ones], actions[ones, ::-1])
    np.testing.assert_array_equal(turned_actions[~ones], actions[~ones])
    assert 0 < ones.sum() < len(ones)
    assert 0 < total(after)["windows_known"] < total(after)["windows"]


def test_augment_reads_the_states_of_its_shard(again: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    annotated(again, monkeypatch)
    wanted = change(again)
    kind = Augmenting(wanted.augment.actions, wanted.preprocess.repeats)
    run.perform(run.prepare(kind, again, wanted))
    found = tables.read_table(again / "data/actions/le.parquet", tables.ACTIONS)
    rewards = tables.read_table(again / REWARDS, tables.REWARDS)
    for name in ("user", "position"):
        assert found[name].equals(rewards[name])
    assert (to_numpy(found, "actions") != to_numpy(rewards, "action")[:, None]).all()
    states = tables.read_table(again / STATES, tables.STATES)
    tables.write_table(again / STATES, states.slice(0, states.num_rows - 1), tables.STATES)
    with pytest.raises(
        LeaError, match=r"states/le\.parquet: has \d+ rows, not \d+|its rows are not the training events"
    ):
        run.perform(run.prepare(kind, again, wanted))
