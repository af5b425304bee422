"""A reader sees the old artifact or the new one, whatever ends the writer: an exception, a full disk, or kill -9."""

import math
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lea_core.common import artifacts
from lea_core.common.errors import LeaError

ROOT = Path(__file__).parents[2]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def python(folder: Path, code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )


def killed(folder: Path, code: str) -> None:
    """Run `code` until it has printed a line, and kill it there."""
    process = python(folder, code)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()


def fill(path: Path, **files: str) -> None:
    with artifacts.publish_folder(path) as folder:
        for name, text in files.items():
            (folder / name).write_text(text)


def contents(path: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in path.iterdir()}


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    fill(tmp_path / "data" / "le", a="1", b="2")
    fill(tmp_path / "data" / "le", b="3")
    assert contents(tmp_path / "data" / "le") == {"b": "3"}
    assert names(tmp_path / "data") == ["le"]


def fail_halfway(folder: Path, file: Path) -> None:
    with artifacts.publish_folder(folder) as new_folder, artifacts.publish_file(file) as new_file:
        (new_folder / "a").write_text("new")
        new_file.write_text("new")
        raise KeyboardInterrupt


def test_an_exception_keeps_the_old(tmp_path: Path) -> None:
    fill(tmp_path / "le", a="old")
    artifacts.write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(KeyboardInterrupt):
        fail_halfway(tmp_path / "le", tmp_path / "a.json")
    assert contents(tmp_path / "le") == {"a": "old"}
    assert artifacts.read_json(tmp_path / "a.json") == {"a": 1}
    assert names(tmp_path) == ["a.json", "le"]


KILLED = """
import time
from pathlib import Path
from lea_core.common import artifacts

with artifacts.{publish}(Path("{name}")) as path:
    {write}
    print("here", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("publish", "name", "write"),
    [
        ("publish_file", "a.json", "path.write_text('{')"),
        ("publish_folder", "le", "(path / 'a').write_text('half')"),
    ],
)
def test_kill_between_two_writes(tmp_path: Path, publish: str, name: str, write: str) -> None:
    fill(tmp_path / "le", a="old")
    artifacts.write_json(tmp_path / "a.json", {"a": 1})
    killed(tmp_path, KILLED.format(publish=publish, name=name, write=write))
    assert contents(tmp_path / "le") == {"a": "old"}
    assert artifacts.read_json(tmp_path / "a.json") == {"a": 1}
    assert len(names(tmp_path)) == 3  # what the dead process left

    fill(tmp_path / "le", a="new")
    artifacts.write_json(tmp_path / "a.json", {"a": 2})
    assert contents(tmp_path / "le") == {"a": "new"}
    assert artifacts.read_json(tmp_path / "a.json") == {"a": 2}
    assert names(tmp_path) == ["a.json", "le"]


KILLED_IN_THE_SWAP = """
import time
from pathlib import Path
from lea_core.common import artifacts

def wait(self, target):
    print("here", flush=True)
    time.sleep(60)

rename = Path.rename
with artifacts.publish_folder(Path("le")) as path:
    Path.rename = lambda self, target: rename(self, target) if self.name == "le" else wait(self, target)
"""


def test_kill_in_the_swap_loses_nothing(tmp_path: Path) -> None:
    """The old folder has stepped aside, the new one is not yet in its place."""
    fill(tmp_path / "le", a="old")
    killed(tmp_path, KILLED_IN_THE_SWAP)
    assert not (tmp_path / "le").exists()
    with pytest.raises(ValueError, match="later"), artifacts.publish_folder(tmp_path / "le"):
        raise ValueError("something else goes wrong later")
    assert contents(tmp_path / "le") == {"a": "old"}
    assert names(tmp_path) == ["le"]


def test_a_running_writer_is_left_alone(tmp_path: Path) -> None:
    process = python(
        tmp_path, KILLED.format(publish="publish_folder", name="le", write="(path / 'a').write_text('mine')")
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        fill(tmp_path / "le", a="other")
        assert contents(tmp_path / "le") == {"a": "other"}
        assert contents(tmp_path / f".le.tmp-{process.pid}") == {"a": "mine"}
    finally:
        process.kill()
        process.communicate()


FULL_DISK = """
import resource
from pathlib import Path
import numpy as np
from lea_core.common import artifacts, entrypoint as entry

def main(argv):
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
    {write}

entry.run(main)
"""


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("policy", "artifacts.write_tensors(Path('data/policy'), {'w': np.zeros(10_000)})"),
        ("quality", "artifacts.write_json(Path('data/quality'), {'a': 'b' * 10_000})"),
    ],
)
def test_a_full_disk(tmp_path: Path, name: str, write: str) -> None:
    """The process may write 4,000 bytes to a file; the kernel refuses the rest."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK.format(write=write)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "error: disk full while writing in data: nothing was published; free some space and run again\n"
    )
    assert contents(tmp_path / "data") == {name: "old"}


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    artifacts.write_json(path, {"b": 1.5, "a": [1, "ü"]})
    first = path.read_bytes()
    artifacts.write_json(path, {"a": [1, "ü"], "b": 1.5})
    assert path.read_bytes() == first
    assert artifacts.read_json(path) == {"a": [1, "ü"], "b": 1.5}
    with pytest.raises(ValueError, match="not JSON compliant"):
        artifacts.write_json(path, {"a": math.nan})
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"not found: run `dvc repro` to make it$"),
        (b'{"a": ', r"no readable JSON \(.*\): delete it and run `dvc repro`$"),
        (b"\xff", r"no readable JSON"),
        (b"[1]", r"holds list, not an object"),
    ],
)
def test_json_that_cannot_be_read(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LeaError, match=r"^.*a\.json: " + message):
        artifacts.read_json(path)


def test_tensors(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    wide = np.arange(12, dtype=np.float32).reshape(3, 4)
    artifacts.write_tensors(path, {"turned": wide.T, "half": wide.astype(np.float16), "empty": wide[:0]})
    read = artifacts.read_tensors(path)
    assert read["turned"].tolist() == wide.T.tolist()
    assert (read["half"].dtype, read["empty"].shape) == (np.float16, (0, 4))

    whole = path.read_bytes()
    for length in (0, 5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(LeaError, match=r"a\.safetensors: broken safetensors file \(.*\): delete it and run"):
            artifacts.read_tensors(path)
    path.unlink()
    with pytest.raises(LeaError, match=r"a\.safetensors: not found: run `dvc repro`"):
        artifacts.read_tensors(path)
