"""The check of `lea doctor --network`: whether the sources in params.yaml can be reached. Nothing is downloaded.

In: params.yaml. Out: findings.
"""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from lea_core.cli.doctor.finding import TRAIN, Found, output

SECONDS = 5  # for an answer
PATIENCE = 30  # seconds for pip, which tries every index that it is told of


def network(path: Path = Path("params.yaml")) -> Found:
    """A finding for each source."""
    try:
        from lea_core.params import load
    except ModuleNotFoundError:
        yield "warning", "not tried: this needs the pipeline", TRAIN
        return
    from lea_core.data.datasets import as_tables

    if not path.exists():
        yield "warning", f"not tried: there is no {path} that names a place", "run this in the folder that holds it"
        return
    params = load(path)
    tables = as_tables(params.dataset)
    sources = (tables.interactions.source, tables.items.source, params.llm.source)
    for location in dict.fromkeys(source.partition("!")[0] for source in sources):
        yield from _reach(location)


def _reach(location: str) -> Found:
    kind, _, rest = location.partition(":")
    if kind == "pypi":
        yield from _index(rest.partition("==")[0])
    elif kind == "hub":
        from huggingface_hub.constants import ENDPOINT

        yield from _address(f"{ENDPOINT}/{rest.partition('@')[0]}")
    elif kind in ("https", "http"):
        yield from _address(location)
    elif kind in ("s3", "gs"):
        yield "warning", f"{location}: not tried, for it needs your access", "`dvc repro` tries it"


def _index(name: str) -> Found:
    options = ["--disable-pip-version-check", "--no-input", f"--timeout={SECONDS}", "--retries=0"]
    done = output(sys.executable, "-m", "pip", "index", "versions", name, *options, seconds=PATIENCE)
    if done.returncode:
        yield "problem", f"pip does not reach its package index, or {name} is not there", "check the network, and pip's"
    else:
        yield "ok", f"pip reaches its package index ({name})", ""


def _address(location: str) -> Found:
    host = urlsplit(location).netloc
    request = urllib.request.Request(location, method="HEAD")  # noqa: S310 (https or http alone come here)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS):  # noqa: S310
            yield "ok", f"{host} answers", ""
    except urllib.error.HTTPError as error:
        yield "warning", f"{host} answers {error.code} for {location}", "mend the address or your access to it"
    except OSError as error:
        yield "problem", f"{host} is out of reach: {error}", "check the network"
