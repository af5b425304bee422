"""`lea info` and `lea export`: what a policy's folder is, and the same policy for another runtime.

In: a policy folder. Out: tables or JSON on stdout; a folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lea_core.artifacts import read_json
from lea_core.cli.printing import needing, print_table, say
from lea_core.errors import LeaError
from lea_core.progress import amount

INFO_EXAMPLES = ["lea info", "lea info data/policy --json | jq .metrics"]
EXPORT_EXAMPLES = ["lea export --onnx data/policy-onnx", "lea export data/policy --onnx small --int8 -k 20"]
Folder = Annotated[Path, typer.Argument(help="The policy's folder.")]
DEFAULT = Path("data/policy")


def info(
    folder: Folder = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a policy's folder is: network, items, size, metrics, provenance, and whether all hashes hold."""
    found = describe(folder)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        for part in ("policy", "metrics", "provenance"):
            if found[part]:
                print_table(part.capitalize(), ["", ""], [list(row) for row in flat(found[part])], left=2)
        files = [[name, f"{size:,}"] for name, size in found["files"].items()]
        print_table(f"{folder}: {amount(sum(found['files'].values()))}", ["file", "bytes"], files, left=1)
        say("All hashes hold." if found["sound"] else f"NOT SOUND: {found['problem']}")
    if not found["sound"]:
        raise typer.Exit(1)


def describe(folder: Path) -> dict[str, Any]:
    """All that the folder says of itself: policy, metrics, provenance, files with their bytes, and whether it is sound.

    Raises `LeaError` where it is no policy folder; one whose hashes do not hold is described as far as it can be.
    """
    from lea_core.policy.folder import MANIFEST, check_folder

    sound, problem = True, ""
    try:
        check_folder(folder)
    except LeaError as error:
        if not (folder / MANIFEST).is_file():
            raise
        sound, problem = False, str(error)
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return {
        "folder": str(folder),
        "sound": sound,
        "problem": problem,
        **{part: _json(folder / f"{part}.json") for part in ("policy", "metrics", "provenance")},
        "files": {path.name: path.stat().st_size for path in files},
    }


def _json(path: Path) -> dict[str, Any]:
    """A JSON object, empty where it is not there or is broken: the hashes tell of that."""
    try:
        return read_json(path)
    except LeaError:
        return {}


def flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf of nested maps with its dotted name."""
    for key, below in value.items():
        name = f"{prefix}.{key}" if prefix else key
        if isinstance(below, Mapping) and below:
            yield from flat(below, name)
        else:
            yield name, f"{below:.4f}" if isinstance(below, float) else str(below)


@needing("the extra onnx", "onnx")
def export(
    folder: Folder = DEFAULT,
    onnx: Annotated[Path | None, typer.Option(help="Folder to write for ONNX Runtime.")] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Weights as 8-bit integers, a quarter of the size.")] = False,
    k: Annotated[int, typer.Option("-k", min=1, help="The most items that it will recommend.")] = 100,
) -> None:
    """Write the policy for a runtime without torch, checked against the one that it comes from."""
    if onnx is None:
        raise LeaError("nothing to do: name the folder to write with --onnx")
    from lea_core.policy.onnx_export import export_folder

    for line in export_folder(folder, onnx, k, int8):
        say(line)
