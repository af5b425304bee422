"""What a user sees when something goes wrong: one line and exit status 1; a bug of ours keeps its traceback."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lea_core.entry import run
from lea_core.errors import LeaError, warn

ROOT = Path(__file__).parent.parent


def raised_by(error: BaseException) -> BaseException:
    """What leaves `run` when `main` raises `error`."""

    def main(argv: list[str]) -> None:
        raise error

    with pytest.raises((Exception, SystemExit)) as caught:
        run(main)
    return caught.value


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def python(folder: Path, code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_mistake_becomes_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    error = raised_by(LeaError("items.csv: row 3:\n   item_id is empty"))
    assert isinstance(error, SystemExit)
    assert error.code == "error: items.csv: row 3: item_id is empty"


def test_main_gets_the_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["stages/train.py", "snqn", "-v"])
    seen: list[list[str]] = []
    run(seen.append)
    assert seen == [["snqn", "-v"]]


@pytest.mark.parametrize("error", [ValueError("a bug"), PermissionError(13, "denied"), OSError("no number")])
def test_a_bug_keeps_its_traceback(error: Exception) -> None:
    assert raised_by(error) is error


def test_a_warning_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    warn("2 items have no text")
    assert capsys.readouterr() == ("", "warning: 2 items have no text\n")


FULL_DISK = """
import os
from pathlib import Path
import pyarrow as pa
from lea_core import artifacts, entry, tables

def main(argv):
    with artifacts.publish_file(Path("data/old.json")) as temporary:
        os.symlink("/dev/full", temporary)  # the kernel answers every write with 'no space left'
        {write}

entry.run(main)
"""


@pytest.mark.parametrize(
    "write",
    [
        "temporary.write_text('new')",
        "tables.pq.write_table(pa.table({'a': range(1000)}), temporary)",
    ],
    ids=["text", "parquet"],
)
def test_a_full_disk_is_one_line_and_the_old_file_stays(tmp_path: Path, write: str) -> None:
    (tmp_path / "data").mkdir()
    old = tmp_path / "data" / "old.json"
    old.write_text("old")
    process = python(tmp_path, FULL_DISK.format(write=write))
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr.startswith("error: disk full while writing in ")
    assert stderr.count("\n") == 1
    assert old.read_text() == "old"
    assert names(tmp_path / "data") == ["old.json"]


INTERRUPTED = """
import time
from pathlib import Path
from lea_core import artifacts, entry

def main(argv):
    with artifacts.publish_folder(Path("data/le")) as folder:
        (folder / "half").write_text("half")
        print("writing", flush=True)
        time.sleep(60)

entry.run(main)
"""


def test_ctrl_c_is_one_line_and_the_old_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "data" / "le").mkdir(parents=True)
    (tmp_path / "data" / "le" / "old").write_text("old")
    process = python(tmp_path, INTERRUPTED)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr == "error: interrupted: nothing was published; run the same command to start again\n"
    assert names(tmp_path / "data") == ["le"]
    assert names(tmp_path / "data" / "le") == ["old"]
