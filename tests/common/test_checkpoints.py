"""checkpoints.py: what was saved comes back, to the same inputs alone, whatever kills the run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lea_core.common.checkpoints import KEPT, Checkpoint

MODULE = "lea_core.environment.finetune"  # whose code computes what is kept


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEA_CACHE", str(tmp_path))
    return tmp_path / "resume"


def test_what_was_saved_comes_back_to_the_same_inputs_alone(cache: Path) -> None:
    rng = np.random.default_rng(7)
    rng.normal(size=3)
    tensors = {
        "moment": np.arange(6, dtype=np.float32).reshape(2, 3).T,  # not contiguous
        "step": np.array(4),
        "none": np.zeros((0, 2)),
    }
    Checkpoint("finetune", MODULE, {"b": 2, "a": [1.5, None]}).save(
        tensors, {"epoch": 3, "rng": rng.bit_generator.state}
    )
    loaded = Checkpoint("finetune", MODULE, {"a": [1.5, None], "b": 2}).load()
    assert loaded is not None
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(loaded[0][name], tensor, strict=True)
    again = np.random.default_rng()
    again.bit_generator.state = loaded[1]["rng"]  # integers of 128 bits
    assert again.normal() == rng.normal()
    assert Checkpoint("finetune", MODULE, {"b": 3, "a": [1.5, None]}).load() is None
    assert Checkpoint("tokenize", MODULE, {"b": 2, "a": [1.5, None]}).load() is None
    Checkpoint("finetune", MODULE, {"a": [1.5, None], "b": 2}).remove()
    assert list(cache.iterdir()) == []


def test_a_broken_one_is_dropped_with_a_warning(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = Checkpoint("finetune", MODULE, {})
    checkpoint.save({"a": np.ones(50)}, {})
    (file,) = cache.glob("*/checkpoint.safetensors")
    file.write_bytes(file.read_bytes()[:-7])
    assert checkpoint.load() is None
    assert "broken checkpoint" in capsys.readouterr().err
    assert not file.exists()


def test_those_of_a_stage_used_last_stay(cache: Path) -> None:
    Checkpoint("finetune", MODULE, {}).save({}, {"epoch": 1})
    for number in range(KEPT + 2):
        Checkpoint("tokenize", MODULE, {"number": number}).save({}, {"number": number})
        for folder in cache.glob("tokenize-*"):
            os.utime(folder, (folder.stat().st_mtime - 10,) * 2)
    kept = [Checkpoint("tokenize", MODULE, {"number": number}).load() is not None for number in range(KEPT + 2)]
    assert kept == [False, False, True, True, True]
    assert Checkpoint("finetune", MODULE, {}).load() == ({}, {"epoch": 1})
    for folder in cache.glob("tokenize-*"):
        os.utime(folder, (folder.stat().st_mtime - 10,) * 2)
    assert Checkpoint("tokenize", MODULE, {"number": 2}).load() is not None  # the oldest, in use again
    for number in (9, 10):
        Checkpoint("tokenize", MODULE, {"number": number}).save({}, {})
    kept = [Checkpoint("tokenize", MODULE, {"number": number}).load() is not None for number in (2, 3, 4, 9, 10)]
    assert kept == [True, False, False, True, True]


def test_a_save_that_fails_ends_no_run(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache.write_text("a file where the folder should be")
    Checkpoint("finetune", MODULE, {}).save({}, {})
    assert "no checkpoint saved" in capsys.readouterr().err


# Saves 1, 2, ... for ever; after each completed save it says so.
SAVER = """
import numpy as np
from lea_core.common.checkpoints import Checkpoint
checkpoint = Checkpoint("killed", "lea_core.environment.finetune", {})
for number in range(1, 10**9):
    checkpoint.save({"a": np.full(1 << 18, number)}, {"number": number})
    print(number, flush=True)
"""


def test_a_kill_amid_a_save_leaves_the_former_or_the_new_one() -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", SAVER], cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while (line := process.stdout.readline()) != "5\n":
            assert line
        process.send_signal(signal.SIGKILL)
        completed = max([5, *map(int, process.stdout.read().split())])
    loaded = Checkpoint("killed", MODULE, {}).load()
    assert loaded is not None
    assert loaded[1]["number"] in (completed, completed + 1)
    assert (loaded[0]["a"] == loaded[1]["number"]).all()
