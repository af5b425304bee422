"""cores.py: limits of control groups, in a folder that looks like them and, where permitted, in a real one."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lea_core.common.cores import memory_limit, usable_cores

ROOT = Path(__file__).parents[2]

V1 = "32 31 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
V2 = "41 31 0:38 {top} /sys/fs/cgroup/all\\040of\\040them rw,relatime - cgroup2 cgroup2 rw,nsdelegate"
DISK = "31 23 0:28 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"


def machine(root: Path, groups: str, mounts: list[str], files: dict[str, str]) -> Path:
    """A root folder: /proc/self/cgroup, the mounts, and files below /sys/fs/cgroup."""
    files = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    files |= {"proc/self/cgroup": groups, "proc/self/mountinfo": "\n".join([DISK, *mounts])}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


@pytest.fixture(autouse=True)
def _sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


@pytest.mark.parametrize(
    ("own", "above", "mount", "cores"),
    [
        ("max 100000", "max 100000", None, 16),
        ("50000 100000", None, None, 1),  # half a core
        ("250000 100000", None, None, 2),  # 2.5
        ("max 100000", "300000 100000", None, 3),  # the group above
        ("400000 100000", "300000 100000", "50000 10000", 3),  # the smallest of all; another period
        (None, None, "120000 20000", 6),  # a container's own group is the mount
        ("6400000 100000", None, None, 16),  # more than there are
    ],
)
def test_quotas(tmp_path: Path, own: str | None, above: str | None, mount: str | None, cores: int) -> None:
    """Of both versions alike, as the same numbers are written in them."""
    quotas = {"jobs/mine": own, "jobs": above, "": mount}
    one, two = {}, {"all of them/jobs/other/cpu.max": "10000 100000"}  # another group's counts for nothing
    for group, text in quotas.items():
        if text is not None:
            two[f"all of them/{group}/cpu.max"] = text
            quota, period = text.split()
            one[f"cpu,cpuacct/{group}/cpu.cfs_quota_us"] = "-1" if quota == "max" else quota
            one[f"cpu,cpuacct/{group}/cpu.cfs_period_us"] = period
    groups = "4:memory:/elsewhere\n2:cpu,cpuacct:/jobs/mine\n1:name=systemd:/a:b\n0::/unused"
    mounts = [V1_MEMORY, V1.format(top="/"), V2.format(top="/")]
    assert usable_cores(machine(tmp_path / "1", groups, mounts, one)) == cores
    assert usable_cores(machine(tmp_path / "2", "0::/jobs/mine", [V2.format(top="/")], two)) == cores


@pytest.mark.parametrize(
    ("top", "group"),
    [
        ("/docker/abc", "/docker/abc/jobs"),  # the mount shows a part of the groups
        ("/docker/abc", "/user/seen/outside"),  # and the group's name is the one outside: then it is the mount's top
        ("/../..", "/"),
        ("/", "/../gone"),
    ],
)
def test_a_mount_of_a_part(tmp_path: Path, top: str, group: str) -> None:
    files = {"all of them/cpu.max": "200000 100000", "all of them/memory.max": "5000"}
    root = machine(tmp_path, f"0::{group}", [V2.format(top=top)], files)
    assert usable_cores(root) == 2
    assert memory_limit(root) == 5000


def test_limits_of_memory(tmp_path: Path) -> None:
    """The smallest of the own group and those above; a machine without control groups has none, nor a quota."""
    files = {"memory/job/memory.limit_in_bytes": "7000", "memory/memory.limit_in_bytes": "9000"}
    assert memory_limit(machine(tmp_path / "1", "4:memory:/job", [V1_MEMORY], files)) == 7000
    files = {"all of them/job/memory.max": "max", "all of them/memory.max": "8000"}
    assert memory_limit(machine(tmp_path / "2", "0::/job", [V2.format(top="/")], files)) == 8000
    assert memory_limit(tmp_path / "nothing") == float("inf")
    assert usable_cores(tmp_path / "nothing") == 16


PROGRAM = """
import os, sys
from pathlib import Path
import pyarrow, torch
from lea_core.common import entrypoint as entry
from lea_core.common.cores import usable_cores
Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
entry.run(lambda _: print(usable_cores(), torch.get_num_threads(), pyarrow.cpu_count(), os.environ["OMP_NUM_THREADS"]))
"""


@pytest.fixture
def half_a_core() -> Iterator[Path]:
    """The folder of a real control group with a quota of half a core."""
    name = f"lea-test-{os.getpid()}"
    for folder, file, text in (
        (Path("/sys/fs/cgroup/cpu", name), "cpu.cfs_quota_us", "50000"),
        (Path("/sys/fs/cgroup", name), "cpu.max", "50000 100000"),
    ):
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            if (folder / file).exists():
                (folder / file).write_text(text)
                yield folder
                return
        finally:
            folder.rmdir()
    pytest.skip("needs the right to make a control group with a CPU quota")


def test_a_real_quota(half_a_core: Path) -> None:
    """Its cores, and threads of libraries that look at affinity alone."""
    environment = {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, half_a_core]
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout == "1 1 1 1\n"
