"""processes.py: results in order, errors and kills told, nobody left behind."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lea_core.common.cores import usable_cores
from lea_core.common.errors import LeaError, in_full
from lea_core.common.processes import side_by_side


def square(number: int) -> int:
    if number < 0:
        try:
            math.sqrt(number)
        except ValueError:
            raise LeaError(f"{number} is negative") from None
    return number * number


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def threads_and_process(_: int) -> tuple[int, int]:
    import torch

    return torch.get_num_threads(), os.getpid()


def sleep_and_tell(folder: str) -> None:
    Path(folder, str(os.getpid())).touch()
    time.sleep(60)


def test_results_come_in_the_order_of_the_arguments() -> None:
    assert side_by_side(square, [3, 1, 2]) == [9, 1, 4]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_bound_to_one_core_there_is_one_process_with_one_thread() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cores() == 1
        ((threads, _),) = set(side_by_side(threads_and_process, [0, 1, 2]))
        assert threads == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert usable_cores() == len(allowed)


def test_a_mistake_of_one_is_told_and_a_killed_one_too() -> None:
    with pytest.raises(LeaError, match=r"^-1 is negative$") as caught:
        side_by_side(square, [2, -1])
    assert "ValueError: math domain error" in in_full(caught.value)  # what led to it comes along
    with pytest.raises(LeaError, match="a training process was killed, likely for lack of memory"):
        side_by_side(die, [1])


def start_two(folder: Path) -> subprocess.Popen[str]:
    """A process with two sleeping children, who wrote their names into `folder`."""
    code = (
        "from lea_core.common.entrypoint import run; from lea_core.common.processes import side_by_side; "
        "from tests.common.test_processes import sleep_and_tell; "
        f"run(lambda argv: print(side_by_side(sleep_and_tell, [{str(folder)!r}] * 2)))"
    )
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < min(2, usable_cores()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


def living(folder: Path) -> list[str]:
    """Children that still run, after the time in which they should have ended."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = [worker.name for worker in folder.iterdir() if Path("/proc", worker.name).exists()]
        if not found:
            return []
        time.sleep(0.1)
    return found


def test_ctrl_c_is_one_line_and_ends_all(tmp_path: Path) -> None:
    with start_two(tmp_path) as process:
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert errors.splitlines() == [
        "error: interrupted: nothing was published; run the same command to start again",
    ]
    assert not living(tmp_path)


def test_a_killed_parent_leaves_nobody_behind(tmp_path: Path) -> None:
    with start_two(tmp_path) as process:
        process.kill()  # it alone, and it cannot answer
    assert len(list(tmp_path.iterdir())) >= 1
    assert not living(tmp_path)
