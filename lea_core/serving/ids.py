"""Item ids as texts, as in a vocabulary: of single values and of whole Arrow columns.

A text stays as it is. A whole number becomes its digits, and so does a float that is whole, because a column of numbers
with a missing one is a column of floats. A float that is too large to stand for one whole number is refused. The text
`7.0`, as a file may store such a float, is the item `7` if the vocabulary has no `7.0`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Container, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lea_core.common.errors import LeaError

TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
NUMBERS = (pa.types.is_integer, pa.types.is_floating)
LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)
WHOLE = re.compile(r"-?\d+(\.0+)?")  # training reads such ids as whole numbers (datasets/columns.py), if all are such


def known_as(name: str, known: Container[str]) -> str | None:
    """A text id as the vocabulary has it: unchanged, or a whole number without its ".0"; None if it has neither."""
    if name in known:
        return name
    whole = name.partition(".")[0] if name.endswith("0") and WHOLE.fullmatch(name) else None
    return whole if whole in known else None


def whole_ids(names: Sequence[str], known: Collection[str]) -> list[str]:
    """New ids in the form of the known ones: without ".0" if all ids, new and known, are whole numbers."""
    pointed = any("." in name for name in names)
    if pointed and all(WHOLE.fullmatch(name) for ids in (names, known) for name in ids):
        return [name.partition(".")[0] for name in names]
    return list(names)


def item_id(item: object, where: str) -> str:
    """An id as the vocabulary has it, a text. Raises `LeaError`, which begins with `where`, where it is none."""
    if isinstance(item, str):
        return item
    if isinstance(item, int | np.integer) and not isinstance(item, bool):
        try:
            return str(item)
        except ValueError:  # more digits than Python turns into text
            raise LeaError(f"{where}: an item is a number of too many digits: give ids as the data has them") from None
    if isinstance(item, float | np.floating) and float(item).is_integer():
        if abs(float(item)) >= 2 ** (np.finfo(type(item)).nmant + 1):  # it may stand for its neighbour, too
            raise LeaError(
                f"{where}: item {short(item)} is a float of more digits than it holds: give such ids as text"
            )
        return str(int(item))
    if isinstance(item, bytes):
        try:
            return item.decode()
        except UnicodeDecodeError:
            raise LeaError(f"{where}: item {short(item)} is not UTF-8: save ids as UTF-8 text") from None
    raise LeaError(f"{where}: item {short(item)} is neither text nor whole number: give ids as the data has them")


def short(value: object) -> str:
    """A value for an error message, on one line of at most 60 characters."""
    value = value.item() if isinstance(value, np.generic) else value
    try:
        text = " ".join(repr(value).split())
    except ValueError:
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def id_column(column: pa.ChunkedArray | pa.Array, name: str, row: Callable[[int], int] = int) -> list[str]:
    """The ids of a column without nulls. row: from a place in it to the row that an error names.

    Raises `LeaError`, which names the column, and the row where it is one value that is no id.
    """
    kind = column.type
    if pa.types.is_integer(kind):
        return column.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]
    floats = pa.types.is_floating(kind)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        kind = kind.value_type
    if not any(is_kind(kind) for is_kind in (*TEXTS, *BYTES, *NUMBERS, pa.types.is_null)):
        raise LeaError(f"column {name!r} holds {kind}: give texts or whole numbers")
    try:
        # Of NumPy, floats keep their kind, and with it what they hold exactly.
        items = list(column.to_numpy()) if floats else column.to_pylist()
    except UnicodeDecodeError:
        items = column.cast(pa.large_binary()).to_pylist()
    try:
        return [item_id(item, "") for item in items]
    except LeaError:
        for place, item in enumerate(items):
            item_id(item, f"row {row(place)}: column {name!r}")
        raise


def id_lists(column: pa.ChunkedArray | pa.Array, name: str, first: int = 0) -> list[list[str]]:
    """The ids of a column of lists; its rows count from `first` in errors. Raises `LeaError` as `id_column` does."""
    if not any(is_kind(column.type) for is_kind in LISTS):
        raise LeaError(f"column {name!r} holds {column.type}: give lists of item ids")
    if column.null_count:
        place = first + int(pc.index(pc.is_null(column), True).as_py())
        raise LeaError(f"row {place}: column {name!r} is null: give an empty list where there is none")
    ends = np.cumsum(pc.list_value_length(column).to_numpy().astype(np.int64))
    items = pc.list_flatten(column)
    if items.null_count:
        place = int(pc.index(pc.is_null(items), True).as_py())
        raise LeaError(f"row {first + _owner(ends, place)}: column {name!r} holds a null: leave such items out")
    found = id_column(items, name, lambda place: first + _owner(ends, place))
    return [found[start:end] for start, end in pairwise([0, *ends.tolist()])]


def _owner(ends: np.ndarray, place: int) -> int:
    """The row of a place, where row r ends before ends[r]."""
    return int(np.searchsorted(ends, place, side="right"))
