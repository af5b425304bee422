"""`lea info` and `lea export`: describe a policy's folder, and write the policy for another runtime.

In: a policy folder. Out: tables or JSON on stdout; a folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lea_core.cli.printing import needing, print_table, say
from lea_core.common.artifacts import read_json
from lea_core.common.errors import LeaError, show_causes
from lea_core.common.progress import amount

INFO_EXAMPLES = ["lea info", "lea info data/policy --json | jq .metrics"]
EXPORT_EXAMPLES = ["lea export --onnx data/policy-onnx", "lea export data/policy --onnx small --int8 -k 20"]
Folder = Annotated[Path, typer.Argument(help="The policy's folder.")]
DEFAULT = Path("data/policy")
SIGNALS = ("state", "reward", "actions", "ranking", "items")  # of the LE, in the order of params.yaml


def info(
    folder: Folder = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Describe a policy's folder: network, items, size, metrics, provenance, and whether all hashes are right."""
    found = describe(folder)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print_table(str(folder), ["what", ""], facts(found), left=2)
        if found["metrics"]:
            print_table(
                "Worth", ["metric", "validation", "test", "mean of the seeds, test"], worth(found["metrics"]), left=1
            )
        files = [[name, f"{size:,}"] for name, size in found["files"].items()]
        print_table(f"Files: {amount(sum(found['files'].values()))}", ["file", "bytes"], files, left=1)
        say("All hashes hold." if found["sound"] else f"NOT SOUND: {found['problem']}")
    if not found["sound"]:
        raise typer.Exit(1)


def describe(folder: Path) -> dict[str, Any]:
    """The content of the folder: policy, metrics, provenance, onnx, bytes of its files; and whether it is sound.

    Raises `LeaError` where it is no policy folder; a folder with wrong hashes is described as far as possible.
    """
    from lea_core.serving.folder import MANIFEST, check_folder

    sound, problem = True, ""
    try:
        check_folder(folder)
    except LeaError as error:
        if not (folder / MANIFEST).is_file():
            raise
        show_causes(error)
        sound, problem = False, str(error)
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return {
        "folder": str(folder),
        "sound": sound,
        "problem": problem,
        **{part: _json(folder / f"{part}.json") for part in ("policy", "metrics", "provenance", "onnx")},
        "files": {path.name: path.stat().st_size for path in files},
    }


def _json(path: Path) -> dict[str, Any]:
    """A JSON object; empty if it is absent or broken, which the check of the hashes reports."""
    try:
        return read_json(path) if path.exists() else {}
    except LeaError as error:
        show_causes(error)
        return {}


def facts(found: Mapping[str, Any]) -> list[list[str]]:
    """Names and values of what the folder is and was made from; unknown ones are omitted."""
    policy, made, onnx = found["policy"], found["provenance"], found["onnx"]
    variant = _at(made, "params", "training", "variant")
    signals = [f"{name} {source}" for name in SIGNALS if (source := variant.get(name, "none")) != "none"]
    data, versions = _at(made, "data"), _at(made, "versions")
    commit = f"{_cut(made['commit'], 12)}{' with changes' if made.get('changed') else ''}" if made.get("commit") else ""
    rows = {
        "variant": made.get("variant"),
        "method": variant.get("method"),
        "signals of the LE": ", ".join(signals) or ("none" if variant else None),
        "seed": made.get("seed"),
        "backbone": policy.get("backbone") or onnx.get("backbone"),
        "settings": ", ".join(f"{name} {value}" for name, value in _at(policy, "settings").items()),
        "items": policy.get("num_items") or onnx.get("num_items"),
        "history": policy.get("history") or onnx.get("history"),
        "repeat bias": policy.get("repeat_bias"),
        "seen items": _seen({**_at(made, "params"), **onnx}),
        "ONNX": ", ".join(f"{name} {onnx[name]}" for name in ("opset", "k", "int8") if name in onnx),
        "data set": _at(made, "params", "dataset").get("name"),
        "data (SHA-256)": ", ".join(f"{name} {_cut(digest)}" for name, digest in data.items()),
        "parameters (SHA-256)": _cut(made.get("params_sha256", "")),
        "commit": commit or ("unknown" if made else None),
        "versions": ", ".join(f"{name} {value}" for name, value in versions.items()),
    }
    return [[name, str(value)] for name, value in rows.items() if value not in (None, "")]


def _seen(said: Mapping[str, Any]) -> str:
    """Whether items of the history are excluded, as they are by default if the folder does not say."""
    value = said.get("exclude_seen", said.get("mask_seen"))
    if isinstance(value, bool):
        return "left out" if value else "kept"
    return repr(value) if said.keys() & {"exclude_seen", "mask_seen"} else "not said (left out)"


def worth(metrics: Mapping[str, Any]) -> list[list[str]]:
    """A row for each metric of validation and test: this seed's value, and the mean over the seeds."""
    valid, test = _at(metrics, "valid"), _at(metrics, "test")
    rows = []
    for name in sorted(valid, key=lambda name: (name.partition("@")[0], len(name), name)):  # HR@5 before HR@10
        if isinstance(valid[name], Mapping) and isinstance(now := test.get(name), Mapping):
            spread = "" if now.get("sd") is None else f" ± {_number(now['sd'], '.4f')}"
            values = (valid[name].get("value"), now.get("value"), now.get("mean"))
            first, second, mean = (_number(value, ".4f") for value in values)
            rows.append([name, first, second, mean + spread])
    return [*rows, ["events", *(_number(part.get("events", 0), ",") for part in (valid, test)), ""]]


def _number(value: Any, form: str) -> str:
    """A number as text; any other value unchanged, for `lea info` shows what a folder holds."""
    return format(value, form) if isinstance(value, int | float) else str(value)


def _cut(digest: Any, length: int = 16) -> str:
    return str(digest)[:length]


def _at(value: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """The map below these names, empty where there is none."""
    found: Any = value
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


@needing("the extra onnx", "onnx")
def export(
    folder: Folder = DEFAULT,
    onnx: Annotated[Path | None, typer.Option(help="Folder to write for ONNX Runtime.")] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Weights as 8-bit integers, a quarter of the size.")] = False,
    k: Annotated[int, typer.Option("-k", min=1, help="The most items that it will recommend.")] = 100,
) -> None:
    """Write the policy for a runtime without torch, and check that both give the same answers."""
    if onnx is None:
        raise LeaError("nothing to do: name the folder to write with --onnx")
    from lea_core.serving.onnx_export import export_folder

    for line in export_folder(folder, onnx, k, int8):
        say(line)
