"""What a user sees when something goes wrong: one line and exit status 1; a bug of ours keeps its traceback."""

import errno
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lea_core.annotation.engines.local import as_answer, as_error
from lea_core.common.entrypoint import run
from lea_core.common.errors import LeaError, in_full, warn

ROOT = Path(__file__).parents[2]


def raised_by(error: BaseException) -> BaseException:
    """What leaves `run` when `main` raises `error`."""

    def main(argv: list[str]) -> None:
        raise error

    with pytest.raises((Exception, SystemExit)) as caught:
        run(main)
    return caught.value


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def python(folder: Path, code: str, **settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_mistake_becomes_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    error = raised_by(LeaError("items.csv: row 3:\n   item_id is empty"))
    assert isinstance(error, SystemExit)
    assert error.code == "error: items.csv: row 3: item_id is empty"


def broken(folder: Path) -> dict[str, tuple[str, str]]:
    """Damaged files of each kind: the code that reads one, and the kind of error that a library raises at it."""
    for name in ("a.json", "a.safetensors", "a.parquet"):
        (folder / name).write_bytes(b"{ no such thing")
    return {
        "json": ("artifacts.read_json(Path('a.json'))", "json.decoder.JSONDecodeError: Expecting property name"),
        "safetensors": ("artifacts.read_tensors(Path('a.safetensors'))", "SafetensorError: "),
        "parquet": (
            "tables.read_table(Path('a.parquet'), tables.USERS)",
            "pyarrow.lib.ArrowInvalid: Parquet magic bytes",
        ),
    }


READ = """
from pathlib import Path
from lea_core.common import artifacts, entrypoint as entry, tables

entry.run(lambda _: {read})
"""


@pytest.mark.parametrize("kind", ["json", "safetensors", "parquet"])
def test_causes_are_shown_on_demand(tmp_path: Path, kind: str) -> None:
    """Where a library found the damage, before the same one line."""
    read, cause = broken(tmp_path)[kind]
    line, shown = (python(tmp_path, READ.format(read=read), LEA_DEBUG=debug) for debug in "01")
    _, error = line.communicate(timeout=60)
    _, causes = shown.communicate(timeout=60)
    assert (line.returncode, shown.returncode) == (1, 1)
    assert error.startswith("error: a.")
    assert error.count("\n") == 1
    assert causes.endswith(f"\n{error}")
    assert cause in causes
    assert f'{ROOT / "lea_core" / "common" / ("tables.py" if kind == "parquet" else "artifacts.py")}", line ' in causes
    assert '"<string>", line 5, in <lambda>' in causes


def test_errors_from_elsewhere_are_the_same_to_the_user() -> None:
    """As JSON: what engines take from a worker."""

    def fail(error: Exception) -> Exception:
        try:
            try:
                raise KeyError("the cause")
            except KeyError:
                raise error from None
        except Exception as caught:
            return as_error(*json.loads(json.dumps(as_answer(caught))))

    mistake = fail(LeaError("a mistake"))
    assert (type(mistake), str(mistake)) == (LeaError, "a mistake")
    assert "KeyError: 'the cause'" in in_full(mistake)
    full = fail(OSError(errno.ENOSPC, "full", Path("a/b")))
    assert isinstance(full, OSError)
    assert (full.errno, full.strerror, full.filename) == (errno.ENOSPC, "full", "a/b")
    assert "KeyError: 'the cause'" in in_full(full)
    bug = fail(PermissionError(errno.EACCES, "denied"))
    assert type(bug) is RuntimeError
    assert "PermissionError: [Errno 13] denied" in str(bug)


def test_an_error_that_leads_to_itself() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__context__ = other, one
    assert in_full(one).splitlines()[::4] == ["ValueError: other", "ValueError: one"]


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
from lea_core.common import artifacts, entrypoint as entry, tables

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
from lea_core.common import artifacts, entrypoint as entry

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
