"""What pydantic found wrong with params.yaml, in one line that names the key and the mend."""

from __future__ import annotations

from pydantic import ValidationError

from lea_core.params.data import DATASET_NAMES

# Sections whose key `name` says which class they are. Pydantic puts that name into the place of an error; no user does.
TAGS = {
    "dataset": DATASET_NAMES,
    "train.loss": ("softmax", "sampled_softmax", "gbce"),
    "tune.space": ("float range", "integer range", "choice"),  # named so that no key has such a name
}


def first_mistake(error: ValidationError) -> str:
    """One line for the first mistake; the count of the others."""
    first = error.errors()[0]
    names = {name for tags in TAGS.values() for name in tags}
    key = ".".join(str(part) for part in first["loc"] if part not in names)
    more = f" (and {error.error_count() - 1} more mistakes)" if error.error_count() > 1 else ""
    kind, given = first["type"], first.get("input")
    if kind == "missing":
        return f"{key} is missing: add it{more}"
    if kind == "extra_forbidden":
        return f"{key} is unknown: remove it or mend its spelling{more}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return f"{key}.name must be {' or '.join(TAGS[key])}: mend it{more}"
    if kind == "value_error":
        return f"{key}: {first['ctx']['error']}{more}".removeprefix(": ")  # no key where it is about two sections
    demand = first["msg"].partition(" should ")[2]  # of "Input should be a valid integer", "List should have at ..."
    quoted = ": remove the quotes" if isinstance(given, str) and _is_number(given) else ": mend it"
    return f"{key} is {given!r}, but must {demand}{quoted}{more}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
