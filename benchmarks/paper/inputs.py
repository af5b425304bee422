"""What a configuration or baseline of the benchmark is made of: its parameters, what it reads, and what computes it.

In: the parameters of a data set, its folder, the name of a configuration or baseline. Out: what is noted beside a
result when it runs, and in what it differs from what would be read today. Parameters hold no path of this machine;
files are known by their hashes.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.support.prepared import number_format
from lea_core.common.artifacts import read_json
from lea_core.common.code_hash import computed_by
from lea_core.common.layout import table_path
from lea_core.common.sources import file_sha256
from lea_core.params import Params

TEXTS = ("le", "text_knn")  # baselines that read item texts
MADE_OF = "made_of"  # the key of a note; results from before it was noted have none
LE, LLM, LOG, TOKENS = "data/le", "data/llm", "data/interactions", "data/item_tokens/items.parquet"
MEASURED = "quality.json"  # of the LE: nothing reads it
# Beside the LE, beyond DVC's reach: what code trained it. DVC, which does not know of the code, keeps it after an edit.
LE_CODE, LE_STAGE = "data/le_code.json", "stages.finetune_le"
CODE = {"le": ("stages.evaluate_le",)}
CONFIGURATION, BASELINE = ("stages.train", "stages.evaluate"), ("stages.baselines",)


def own_parameters(params: Params, variant: str) -> dict[str, Any]:
    """What a configuration was trained and ranked with."""
    own = params.of(variant)
    known = own.variant(variant)
    return {
        "variant": known.model_dump(exclude={"set"}),
        "backbone": getattr(own.backbones, known.backbone).model_dump(),
        "method": getattr(own.methods, known.method).model_dump(),
        "train": own.train.model_dump(),
        "evaluate": own.evaluate.model_dump(include={"cutoffs", "mask_seen"}),
    }


def parameters_of(params: Params, name: str) -> dict[str, Any]:
    """All parameters that a configuration or baseline depends on."""
    le = {
        "llm": params.llm.model_dump(include={"sha256", "layers"}),
        "tokenize_items": params.tokenize_items.model_dump(mode="json"),
        "finetune_le": params.finetune_le.model_dump(mode="json"),
        "annotate": params.annotate.model_dump(include={"sampled_actions", "seed"}),
        "augment": params.augment.model_dump(mode="json"),
        "rank": params.rank.model_dump(mode="json"),
        "controls": params.controls.seed,
    }
    data = data_of(params)
    if name in params.variants:
        own = {**own_parameters(params, name), **data}
        return {**own, **le} if params.variants[name].uses_le else own
    own = {
        "baseline": params.baselines.model_dump(mode="json").get(name),
        "evaluate": params.evaluate.model_dump(include={"cutoffs", "mask_seen"}),
        **data,
    }
    return {**own, **le} if name in TEXTS else own


def data_of(params: Params) -> dict[str, Any]:
    """The parameters that the log of a data set depends on."""
    return {
        "dataset": _without_sources(params.dataset.model_dump(mode="json")),
        "preprocess": params.preprocess.model_dump(mode="json"),
    }


def _without_sources(section: Mapping[str, Any]) -> dict[str, Any]:
    """The same but for where files lie: their hashes say what they are."""
    return {
        key: _without_sources(value) if isinstance(value, Mapping) else value
        for key, value in section.items()
        if key != "source"
    }


def note_of(params: Params, folder: Path, name: str) -> dict[str, Any]:
    """What is noted of a configuration or baseline that runs now; where it reads the LE, what code trained that."""
    note = {"parameters": parameters_of(params, name), MADE_OF: made_of(params, folder, name)}
    trained = folder / LE_CODE
    return {**note, "le_trained_by": read_json(trained)} if LE in note[MADE_OF] and trained.exists() else note


def made_of(params: Params, folder: Path, name: str) -> dict[str, Any]:
    """Hashes of what a configuration or baseline reads in the folder of a data set, and what computes it here and now.

    A file that is not there has none. The LE and its LLM count where the result depends on any table made with them.
    """
    variant = params.variants.get(name)
    if variant:
        tables = [table_path(Path("data"), part, source) for part, source in variant.sources.items()]
        paths, code, reads_le = [LOG, *map(str, tables)], CONFIGURATION, variant.uses_le
    else:
        paths, code, reads_le = [LOG, *([TOKENS] if name in TEXTS else [])], CODE.get(name, BASELINE), name == "le"
    paths += [LE, LLM] if reads_le else []
    hashes = {path: content_hash(folder / path) for path in paths if (folder / path).exists()}
    device = {"device": "cuda" if torch.cuda.is_available() else "cpu"}
    return {**hashes, **computed_by(*code), **device, **({"number_format": number_format()} if reads_le else {})}


def differences(note: Mapping[str, Any], today: Mapping[str, Any]) -> list[str]:
    """Wherein a noted result differs from `today`'s `made_of`, as far as both say; none where it notes nothing."""
    noted = note.get(MADE_OF, {})
    return [key for key, value in today.items() if key in noted and noted[key] != value]


def told(notes: Iterable[Mapping[str, Any]]) -> str:
    """One line on results that stand side by side: how many note nothing, and wherein the others differ."""
    every = list(notes)
    noted = [note[MADE_OF] for note in every if MADE_OF in note]
    lines = []
    if len(noted) < len(every):
        lines.append(
            f"{len(every) - len(noted)} hold no hash of the LE, data and code that they read: they ran before that was "
            "noted"
        )
    keys = dict.fromkeys(key for one in noted for key in one)
    versions = {key: len({json.dumps(one[key], sort_keys=True) for one in noted if key in one}) for key in keys}
    if several := [f"{key} ({count})" for key, count in versions.items() if count > 1]:
        lines.append(f"of those that do, not all read the same: versions of {', '.join(several)}")
    return "; ".join(lines)


def content_hash(path: Path) -> str:
    """Of a file, or of a folder's files and their names."""
    if path.is_file():
        return _file_hash(path, path.stat().st_mtime_ns, path.stat().st_size)
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name != MEASURED)
    lines = [f"{file.relative_to(path)} {content_hash(file)}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@functools.cache
def _file_hash(path: Path, changed: int, size: int) -> str:  # noqa: ARG001 (an LLM is not read again for every configuration)
    return file_sha256(path)
