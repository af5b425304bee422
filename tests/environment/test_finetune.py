"""finetune, checkpoint_selection, quality, distributed: learning, resuming after kills, several processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lea_core.common import checkpoints
from lea_core.common.checkpoints import Checkpoint
from lea_core.common.errors import LeaError
from lea_core.data.sequences import Sequences
from lea_core.environment import finetune
from lea_core.environment.finetune import Finetuning
from lea_core.environment.quality import quality, worse_than_start
from lea_core.environment.user_split import choose_users
from stages import finetune_le
from tests.support.edited import edit
from tests.support.lane import ROOT, change_params
from tests.support.tiny_le import circle, finetuning, make, sequences, settings
from tests.support.tiny_project import log, write_project

SHORT = {"heads_epochs": 3, "lora_epochs": 2}


def uneven(users: int = 11, length: int = 8) -> Sequences:
    """Random walks in which some items are taken more often than others; last two events held out."""
    rng = np.random.default_rng(0)
    return sequences(*rng.choice(9, size=(users, length), p=np.arange(1, 10) / 45).tolist(), held_out=2)


@pytest.mark.parametrize("state_negatives", [None, 3])
def test_le_learns_the_rule_of_the_log(tmp_path: Path, state_negatives: int | None) -> None:
    log, le, p = circle(users=60, length=8), make(tmp_path), settings(state_negatives=state_negatives)
    users, unseen = choose_users(log.train(), p.users_share, np.random.default_rng(0))
    assert (len(users), len(unseen), len(np.intersect1d(users, unseen))) == (30, 30, 0)
    training = finetuning(le, log, p)
    before = quality(le, log, unseen, p)
    curve = training.run()
    after = quality(le, log, unseen, p)
    # The next item follows from the last one alone, so every rank is 1 once that is learnt.
    for name in ("ndcg10", "reward_accuracy_uniform"):
        assert before["valid"][name] < 0.8
        assert after["valid"][name] > 0.9
        assert after["test"][name] > 0.9
    assert not worse_than_start(after, before)
    assert curve[-1]["state_loss"] < 0.5 * curve[1]["state_loss"]
    assert curve[-1]["reward_loss"] < 0.5 * curve[1]["reward_loss"]


def test_le_ends_at_its_best_epoch(tmp_path: Path) -> None:
    le, p = make(tmp_path), settings(heads_learning_rate=0.5, lora_learning_rate=0.5, patience=2)
    training = finetuning(le, circle(users=20, length=8), p)
    selected = [row["selected"] for row in training.run()]
    best = int(np.argmax(selected))
    assert 0 < best < len(selected) - 1 < 32  # steps so long do harm later, and patience ends both phases early
    verdict = training.selection.score(le, frozen=False)
    assert verdict.ndcg10 * verdict.reward_accuracy == pytest.approx(selected[best])


def test_le_that_only_gets_worse_keeps_its_start(tmp_path: Path) -> None:
    walks = [[(user + way * time) % 9 for time in range(6)] for way in (2, -2) for user in range(10)]
    le, p = make(tmp_path), settings(patience=3)
    angles = torch.arange(9) * 5 * 2 * torch.pi / 9  # items two apart are neighbours in a plane
    le.heads.content.copy_(torch.stack([angles.cos(), angles.sin(), 0 * angles, 0 * angles], dim=1))
    training = Finetuning(
        le, sequences(*walks), np.arange(10), np.arange(10, 20), p
    )  # selected on users who walk the other way round
    start = le.snapshot()
    curve = training.run()
    assert [row["phase"] for row in curve] == ["start"] + ["heads"] * 3 + ["lora"] * 2
    assert all(row["selected"] < curve[0]["selected"] for row in curve[1:])
    assert all(torch.equal(value, start[name]) for name, value in le.snapshot().items())


def test_an_le_below_its_start_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    def measured(ndcg: float) -> dict[str, Any]:
        return {"users": 3, "valid": {"ndcg10": ndcg, "reward_accuracy_uniform": 0.5}}

    assert not worse_than_start({"users": 0}, {"users": 0})
    assert not worse_than_start(measured(0.2), measured(0.2))
    assert worse_than_start(measured(0.1), measured(0.2))
    assert "the LE has NDCG@10 0.1000" in capsys.readouterr().err


def test_counts_of_the_subset_by_hand(tmp_path: Path) -> None:
    le = make(tmp_path)
    # Steps 0 -> 1, 1 -> 0, 0 -> 2, 2 -> 2: the second and the fourth repeat. One event of user 1: no step.
    finetuning(le, sequences([0, 1, 0, 2, 2], [5]), settings(users_share=0.99))
    assert le.heads.counts.tolist() == [2, 1, 2, 0, 0, 0, 0, 0, 0]
    assert float(le.heads.repeat_share) == pytest.approx(2.5 / 5)


class KilledError(Exception):
    """Stands for a kill."""


def resumable(folder: Path) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    """A short fine-tuning with a checkpoint: its curve and what it leaves the LE with."""
    p = settings(heads_dropout=0.3, state_negatives=4, batch_tokens=48, weight_decay=0.1, **SHORT)
    le = make(folder, dropout=0.3)
    return finetuning(
        le, uneven(), p, Checkpoint("finetune_le", "lea_core.environment.finetune", {})
    ).run(), le.snapshot()


@pytest.fixture
def busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints in a folder of their own, after every step; some steps in each epoch."""
    monkeypatch.setenv("LEA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(checkpoints, "PAUSE", 0)
    monkeypatch.setattr(finetune, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(finetune, "STEPS_PER_BATCH", 8)


@pytest.mark.usefixtures("busy")
def test_a_killed_run_goes_on_with_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, places, kills = Checkpoint.save, [], [(0, 1, 2), (1, 1, 1)]

    def saving(self: Checkpoint, tensors: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        save(self, tensors, state)
        places.append((state["phase"], state["epoch"], state["step"]))
        if kills and places[-1] == kills[0]:
            kills.pop(0)
            raise KilledError

    monkeypatch.setattr(Checkpoint, "save", saving)
    for _ in range(2):
        with pytest.raises(KilledError):
            resumable(tmp_path)
    curve, weights = resumable(tmp_path)
    assert (0, 2, 1) in places
    assert (1, 1, 2) in places
    assert len(set(places)) == len(places)  # no step was made twice
    Checkpoint("finetune_le", "lea_core.environment.finetune", {}).remove()
    unbroken_curve, unbroken_weights = resumable(tmp_path)
    assert curve == unbroken_curve
    assert weights.keys() == unbroken_weights.keys()
    assert all(torch.equal(value, unbroken_weights[name]) for name, value in weights.items())


@pytest.mark.usefixtures("busy")
def test_other_code_mixes_no_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage goes on where it was killed, and after an edit of what it imports from the start."""
    write_project(tmp_path, log(20))
    change_params(tmp_path, {"finetune_le.history": 8})
    monkeypatch.chdir(tmp_path)
    places, save = [], Checkpoint.save

    def saving(self: Checkpoint, tensors: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        save(self, tensors, state)
        places.append((state["phase"], state["epoch"], state["step"]))
        raise KilledError

    monkeypatch.setattr(Checkpoint, "save", saving)
    for edited in ("", "serving/folder", "environment/losses"):
        if edited:
            edit(monkeypatch, tmp_path / edited, f"lea_core/{edited}.py")
        with pytest.raises(KilledError):
            finetune_le.main([])
    assert places == [(0, 0, 1), (0, 0, 2), (0, 0, 1)]


# The same fine-tuning in a process of its own, which says when it has saved in the second phase, and waits for its end.
RUN = """
from lea_core.common import checkpoints
from lea_core.environment import finetune
from tests.environment import test_finetune
from pathlib import Path
import signal
import sys
checkpoints.PAUSE, finetune.SAVE_EVERY, finetune.STEPS_PER_BATCH = 0, 0.0, 8
save = checkpoints.Checkpoint.save
def saving(self, tensors, state):
    save(self, tensors, state)
    if (state["phase"], state["epoch"], state["step"]) == (1, 0, 2):
        print("saved", flush=True)
        signal.pause()
checkpoints.Checkpoint.save = saving
test_finetune.resumable(Path(sys.argv[1]))
"""


@pytest.mark.usefixtures("busy")
def test_a_real_kill(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, str(tmp_path / "killed")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "saved\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    found = Checkpoint("finetune_le", "lea_core.environment.finetune", {}).load()
    assert found is not None
    assert (found[1]["phase"], found[1]["step"]) == (1, 2)
    curve, weights = resumable(tmp_path / "resumed")
    Checkpoint("finetune_le", "lea_core.environment.finetune", {}).remove()
    unbroken_curve, unbroken_weights = resumable(tmp_path / "unbroken")
    assert curve == unbroken_curve
    assert all(torch.equal(value, unbroken_weights[name]) for name, value in weights.items())


def together(folder: Path) -> None:
    """The work of one of several processes; the first one writes what came out."""
    from lea_core.environment.distributed import distributed_context

    le = make(folder / os.environ.get("RANK", "alone"))  # first: in a context, one process alone would write the model
    context = distributed_context()
    # 11 windows of 24 tokens each in batches of ten and of one: then one process has nothing to do.
    training = finetuning(le, uneven(), settings(users_share=0.99, batch_tokens=240, heads_epochs=4), None, context)
    curve = training.run()
    if context.is_main:
        (folder / "curve.json").write_text(json.dumps(curve))
        np.savez(folder / "weights.npz", **{name: value.numpy() for name, value in le.snapshot().items()})


def test_two_processes_reach_what_one_does(tmp_path: Path) -> None:
    script = tmp_path / "together.py"
    script.write_text(
        "import pathlib, sys; from tests.environment.test_finetune import together; together(pathlib.Path(sys.argv[1]))"
    )
    both, alone = tmp_path / "both", tmp_path / "alone"
    alone.mkdir()
    both.mkdir()
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script), str(both)]
    done = subprocess.run(
        [sys.executable, "-m", *launcher],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert {folder.name for folder in both.iterdir() if folder.is_dir()} == {"0", "1"}
    together(alone)
    curves = [json.loads((folder / "curve.json").read_text()) for folder in (both, alone)]
    assert len(curves[0]) == len(curves[1]) == 1 + 4 + 2
    for name in ("state_loss", "reward_loss"):
        found, expected = ([row[name] for row in curve[1:]] for curve in curves)
        np.testing.assert_allclose(found, expected, atol=1e-4)
    weights = [np.load(folder / "weights.npz") for folder in (both, alone)]
    assert set(weights[0]) == set(weights[1])
    for name in weights[0]:
        np.testing.assert_allclose(weights[0][name], weights[1][name], atol=1e-4)


def test_subset_of_nobody_is_refused() -> None:
    with pytest.raises(LeaError, match=r"users_share 0\.01 of 12 users .* leaves the LE none"):
        choose_users(circle(12, 8).train(), 0.01, np.random.default_rng(0))


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_users_with_one_event_or_none_are_skipped(tmp_path: Path, share: float) -> None:
    walks = [[(user + 2 * time) % 9 for time in range(6)] for user in range(8)]
    train_alone = [[4], [], [5]]
    log, le, p = sequences(*train_alone, *walks), make(tmp_path), settings(users_share=share, **SHORT)
    users, unseen = choose_users(log, share, np.random.default_rng(0))
    assert set(users) | set(unseen) == set(range(11))
    assert not {0, 1, 2} & set(users)
    curve = finetuning(le, log, p).run()
    assert all(np.isfinite(row["selected"]) for row in curve)
    assert quality(le, log, unseen, p) == {"users": len(unseen)}  # nothing is held out


def test_an_le_that_learns_from_everybody_is_judged_by_them(tmp_path: Path) -> None:
    log, le = circle(users=30, length=8), make(tmp_path)
    curve = finetuning(le, log, settings(users_share=0.99)).run()
    assert max(row["selected"] for row in curve) > 0.9
    nobody = np.zeros(0, dtype=np.int64)
    assert quality(le, log, nobody, settings()) == {"users": 0}


def test_fewer_items_than_negatives(tmp_path: Path) -> None:
    log = sequences(*[[0, 1, 0, 1, 1, 0]] * 4, held_out=2, items=2)
    many = settings(state_negatives=20, reward_negatives={"uniform": 4, "popular": 4, "text": 4}, **SHORT)
    le = make(tmp_path, items=2)
    curve = finetuning(le, log, many).run()
    assert all(np.isfinite(row["selected"]) for row in curve)
    assert quality(le, log, np.arange(4), many)["valid"]["events"] == 4
    with pytest.raises(LeaError, match="one item leaves nothing to sample against"):
        finetuning(make(tmp_path, items=1), sequences([0, 0, 0], [0, 0, 0], items=1), settings())
