"""Overlays: a part of params.yaml in a file of its own, merged into params.yaml by `lea use`.

In: params.yaml and a YAML file of some of its keys, such as settings/scientific.yaml. Out: params.yaml with those keys
set, its comments and layout kept, and the list of what changed; or a `LeaError`, and params.yaml as it was.

Sections are merged key by key and variants by their names. These are replaced whole: a section whose `name` says which
class it is (`dataset`, `train.loss`) where the names differ, and maps of the user's own names, where a key that stayed
behind would mean something (`train.event_rewards`, `tune.space`, a variant's `set`).
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.emitter import Emitter
from ruamel.yaml.representer import RoundTripRepresenter

from lea_core.common.artifacts import publish_file
from lea_core.common.errors import LeaError
from lea_core.params import PARAMS, assign, parse, read_yaml

WHOLE = re.compile(r"train\.event_rewards|tune\.space|variants\.[^.]+\.set")
ABSENT = "-"
ONE_LINE = 110  # characters


class _Emitter(Emitter):
    """Writes `{ a: 1 }`, as params.yaml is written, and not `{a: 1}`."""

    _opened = False

    def write_indicator(self, indicator: str, *arguments: Any, **settings: Any) -> None:
        opens = indicator.endswith("{")
        if opens or (indicator == "}" and not self._opened):
            indicator = f"{indicator} " if opens else " }"
        self._opened = opens
        super().write_indicator(indicator, *arguments, **settings)


class _Representer(RoundTripRepresenter):
    """Writes `key: null`, not `key:`."""


_Representer.add_representer(type(None), lambda self, _: self.represent_scalar("tag:yaml.org,2002:null", "null"))


def round_trip() -> YAML:
    """A reader and writer that keeps comments and the layout of params.yaml."""
    yaml = YAML()
    yaml.Emitter, yaml.Representer = _Emitter, _Representer
    yaml.width, yaml.preserve_quotes = 4096, True
    return yaml


def use(file: Path, path: Path = PARAMS) -> list[str]:
    """Merge the overlay `file` into params.yaml at `path`; returns a line for every key that changed.

    Raises `LeaError`, one line that names file and key, where a key is unknown or a value wrong; `path` is unchanged.
    """
    before = read_yaml(path)
    parse(before, path)  # a mistake that was there before is not the overlay's
    try:
        text = merged(path.read_text(encoding="utf-8"), read_yaml(file))
    except ValueError as error:
        raise LeaError(f"{file}: {error}") from None
    after: dict[str, Any] = YAML(typ="safe", pure=True).load(text)
    parse(after, file)
    changes = differences(before, after)
    if changes:
        with publish_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return changes


def merged(text: str, overlay: Mapping[str, Any]) -> str:
    """The text of params.yaml with the keys of `overlay` set; sections that it does not name stay to the byte."""
    yaml = round_trip()
    for name, value in overlay.items():
        # A section is its line and the indented ones below; comments between sections belong to neither.
        found = re.search(rf"^{re.escape(str(name))}:.*(?:\n+[ \t]+\S.*)*", text, re.MULTILINE)
        if not found:
            raise ValueError(f"{name} is unknown: remove it or mend its spelling")
        section = yaml.load(found[0])
        section[name] = merge(section[name], value, name)
        out = io.StringIO()
        yaml.dump(section, out)
        text = text[: found.start()] + out.getvalue().rstrip() + text[found.end() :]
    return text


def assigned(text: str, changes: Mapping[str, object]) -> str:
    """The text of params.yaml with dotted keys set, or removed where the value is `...`; nothing is checked."""
    yaml, out = round_trip(), io.StringIO()
    raw = yaml.load(text)
    for key, value in changes.items():
        assign(raw, key, value)
    yaml.dump(raw, out)
    return out.getvalue()


def change_params(folder: Path, changes: Mapping[str, object]) -> None:
    """Set or remove dotted keys of params.yaml in `folder`, see `assigned`."""
    path = folder / PARAMS.name
    text = assigned(path.read_text(encoding="utf-8"), changes)
    with publish_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def merge(old: Any, new: Any, key: str) -> Any:
    """`old` with what `new` sets at the dotted `key`; maps are merged in place but for those replaced whole."""
    if old == new:
        return old  # as it is written
    if not isinstance(old, dict) or not isinstance(new, Mapping) or WHOLE.fullmatch(key) or (not old and new):
        return styled(new)
    if "name" in old and "name" in new and old["name"] != new["name"]:
        return styled(new)
    for name, value in new.items():
        old[name] = merge(old[name], value, f"{key}.{name}") if name in old else styled(value)
    return old


def styled(value: Any) -> Any:
    """Lists, and short maps without others in them, on one line."""
    if isinstance(value, list):
        values = CommentedSeq(styled(below) for below in value)
        values.fa.set_flow_style()
        return values
    if not isinstance(value, Mapping):
        return value
    node = CommentedMap((key, styled(below)) for key, below in value.items())
    if len(str(value)) < ONE_LINE and not any(isinstance(below, Mapping) for below in value.values()):
        node.fa.set_flow_style()
    return node


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """`key: old -> new` of every leaf that is not the same."""
    old, new = leaves(before), leaves(after)
    return [
        f"{key}: {word(old.get(key, ABSENT))} -> {word(new.get(key, ABSENT))}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key, ABSENT) != new.get(key, ABSENT)
    ]


def word(value: object) -> str:
    """A value as YAML has it: null, true."""
    return value if isinstance(value, str) else json.dumps(value)


def leaves(value: object, key: str = "") -> dict[str, object]:
    """Dotted key -> value of everything below; what is replaced whole is one value."""
    if not isinstance(value, Mapping) or WHOLE.fullmatch(key):
        return {key: value}
    found: dict[str, object] = {}
    for name, below in value.items():
        found |= leaves(below, f"{key}.{name}" if key else str(name))
    return found
