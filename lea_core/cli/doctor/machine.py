"""What `lea doctor` looks at on this machine: Python, torch, packages, disk and memory.

In: this process. Out: findings. Nothing is written.
"""

from __future__ import annotations

import importlib.metadata as metadata
import os
import re
import shutil
import sys
from pathlib import Path

from lea_core.cli.doctor.finding import TRAIN, Found
from lea_core.common.cores import memory_limit, usable_cores
from lea_core.common.progress import amount
from lea_core.common.sources import cache_folder

OLDEST = (3, 11)
LITTLE_DISK, NO_DISK = 5e9, 5e8  # bytes; a run of MovieLens-100K takes 2.5 GB with its installation
LITTLE_MEMORY = 4e9  # bytes


def python() -> Found:
    """Which Python."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST:
        yield "problem", f"Python {found}", "install Python {}.{} or newer".format(*OLDEST)
    else:
        yield "ok", f"Python {found}, {sys.platform}", ""


def torch_and_device() -> Found:
    """Which torch, where language models run and in which number format."""
    import torch

    from lea_core.llm.language_model import choose_device_and_dtype

    wanted = _requirements("torch").get("torch", "")
    if wanted and torch.__version__.partition("+")[0] != wanted.removeprefix("=="):
        yield "warning", f"torch {torch.__version__}, but torch{wanted} is what is tested", f"pip install torch{wanted}"
    device, dtype = choose_device_and_dtype()
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
    if torch.backends.mps.is_available():
        where += " (there is a GPU of Apple's, which is not used)"
    kind = str(dtype).removeprefix("torch.")
    yield "ok", f"torch {torch.__version__}, {torch.get_num_threads()} threads; language models run on {where}", ""
    native = "" if dtype != torch.float32 else ": this CPU multiplies no bfloat16, so language models are slower"
    yield "ok", f"number format of language models: {kind}{native}", ""


def _requirements(*names: str, extra: str = "") -> dict[str, str]:
    """Version demands of lea's own installation by the package's name; of these names, or of an extra."""
    try:
        lines = metadata.requires("lea-recommender") or []
    except metadata.PackageNotFoundError:
        return {}
    found = {}
    for line in lines:
        demand, _, marker = line.partition(";")
        parsed = re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?(.*)", demand.strip())
        if parsed and (f'extra == "{extra}"' in marker.replace("'", '"') if extra else parsed[1] in names):
            found[parsed[1]] = parsed[2].strip()
    return found


def train_extra() -> Found:
    """Whether the pipeline's packages are installed."""
    wanted = _requirements(extra="train")
    if not wanted:
        yield "warning", "no installation of lea-recommender says what the pipeline needs", TRAIN
        return
    absent = [name for name in wanted if not installed(name)]
    if absent:
        names = f"{', '.join(absent)}: recommend, info and export work, the pipeline does not"
        yield "warning", f"{len(absent)} of {len(wanted)} packages are not there: {names}", TRAIN
    else:
        yield "ok", f"all {len(wanted)} packages of the pipeline are installed", ""


def installed(name: str) -> bool:
    """Whether a package of that name is installed."""
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def disk() -> Found:
    """Free space for the working folder and for the cache folder, where that is on another disk."""
    seen: set[int] = set()
    for name, folder in (("the working folder", Path()), ("the cache folder", cache_folder())):
        place = folder.absolute()
        while not place.exists():
            place = place.parent
        device = place.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        free = shutil.disk_usage(place).free
        message = f"{amount(free)} free for {name}"
        if not os.access(place, os.W_OK):
            yield "problem", f"{place} cannot be written", "mend its permissions, or set LEA_CACHE to another folder"
        elif free < NO_DISK:
            yield "problem", message, f"free some space on the disk of {place}"
        elif free < LITTLE_DISK:
            yield "warning", f"{message}: little for the pipeline", f"free some space on the disk of {place}"
        else:
            yield "ok", message, ""


def memory() -> Found:
    """Memory and cores of the machine, or what a container may take of them."""
    size = min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), memory_limit())
    little = size < LITTLE_MEMORY
    mend = "use a machine with 4 GB or more for the pipeline" if little else ""
    yield "warning" if little else "ok", f"{amount(size)} of memory, {usable_cores()} cores", mend
