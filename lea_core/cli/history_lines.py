"""Histories of item ids from JSON lines or Parquet, a batch at a time; invalid lines are refused by their number.

In: a line `["id", ...]` or `{"history": ["id", ...], "user": anything}`, oldest item first, ids text or whole numbers;
or a Parquet file with a column `history` of such lists and perhaps `user`. Out: `Batch`es in the order of the input.

Memory is bounded: by the number of lines of a batch, by their bytes, and by the longest line that is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from lea_core.common.errors import LeaError, show_causes
from lea_core.serving.histories import HISTORY, USER
from lea_core.serving.ids import TEXTS, id_lists, item_id

LONGEST = 2**24  # bytes of a line: some 400,000 ids of 40 letters
BATCH_BYTES = 2**25  # of lines in a batch
PARQUET = b"PAR1"
ABSENT = object()  # the user of a line that names none

Refuse = Callable[[str, str], None]  # "line 3", why


@dataclass
class Batch:
    """Histories, their names in messages, and their users (`ABSENT` if none was given)."""

    names: list[str] = field(default_factory=list)
    histories: list[list[str]] = field(default_factory=list)
    users: list[Any] = field(default_factory=list)

    def add(self, name: str, history: list[str], user: Any) -> None:
        """Add one history."""
        self.names.append(name)
        self.histories.append(history)
        self.users.append(user)


def parse(raw: bytes) -> tuple[list[str], Any]:
    """History and user of one line. Raises only `LeaError`, which says what is wrong with it."""
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise LeaError(f"byte {error.start + 1} is not UTF-8: save the file as UTF-8") from None
    except RecursionError:
        raise LeaError("nested too deep: give a list of item ids") from None
    except json.JSONDecodeError as error:
        raise LeaError(f"no JSON ({error.msg} at character {error.pos + 1}): write one JSON value per line") from None
    except ValueError:  # Python refuses to parse numbers of some thousand digits
        raise LeaError("a number has too many digits: give ids as text") from None
    if isinstance(value, list):
        return ids(value), ABSENT
    if not isinstance(value, dict):
        raise LeaError(f"{_kind(value)}, not a history: write {_FORM}")
    unknown = sorted(value.keys() - {HISTORY, USER})
    if unknown or HISTORY not in value:
        problem = f"has an unknown key {_short(unknown[0])}" if unknown else f"has no key {HISTORY!r}"
        raise LeaError(f"{problem}: write {_FORM}")
    if not isinstance(value[HISTORY], list):
        raise LeaError(f"{HISTORY!r} is {_kind(value[HISTORY])}: give a list of item ids")
    return ids(value[HISTORY]), _user(value[USER]) if USER in value else ABSENT


_FORM = '["id", ...] or {"history": ["id", ...], "user": ...}'


def ids(values: list[Any]) -> list[str]:
    """The ids of a history as texts. Raises `LeaError` where one is neither text nor whole number."""
    found = [value if isinstance(value, str) else item_id(value, HISTORY) for value in values]
    try:
        "".join(found).encode()
    except UnicodeEncodeError:
        raise LeaError("an id holds half a character (a lone surrogate): mend what wrote it") from None
    return found


def _user(value: Any) -> Any:
    """The user, if it can be written again as JSON."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise LeaError("'user' is too deep, too large a number or half a character: give text or a number") from None
    return value


def _no_number(name: str) -> NoReturn:
    raise LeaError(f"{name} is no JSON: leave such values out")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _short(text: str) -> str:
    return ascii(text if len(text) <= 40 else text[:37] + "...")


def lines(stream: BinaryIO, size: int, refuse: Refuse) -> Iterator[Batch]:
    """Batches of at most `size` histories from JSON lines; blank lines are skipped, but counted."""
    batch, weight = Batch(), 0
    for number, raw in _raw_lines(stream):
        name = f"line {number}"
        try:
            if raw is None:
                raise LeaError(f"longer than {LONGEST // 2**20} MiB: shorten the history, of which the end counts most")
            batch.add(name, *parse(raw))
            weight += len(raw)
        except LeaError as error:
            show_causes(error)
            refuse(name, str(error))
        if len(batch.names) >= size or weight >= BATCH_BYTES:
            yield batch
            batch, weight = Batch(), 0
    if batch.names:
        yield batch


def _raw_lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Every line that is not blank with its number from 1; None for one that is too long."""
    number = 0
    while raw := stream.readline(LONGEST + 1):
        number += 1
        if len(raw) > LONGEST:
            while raw and not raw.endswith(b"\n"):
                raw = stream.readline(LONGEST)
            yield number, None
            continue
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if raw.strip():
            yield number, raw


def open_parquet(name: str, source: BinaryIO) -> pq.ParquetFile:
    """Open a Parquet file of histories. Raises `LeaError` where it is broken or its columns are others."""
    try:
        file = pq.ParquetFile(source)
    except (pa.ArrowInvalid, OSError) as error:
        raise LeaError(f"{name}: broken Parquet file ({str(error).splitlines()[0]}): write it again") from None
    schema = file.schema_arrow
    if HISTORY not in schema.names:
        raise LeaError(f"{name}: its columns are {', '.join(schema.names)}: give {HISTORY!r}, lists of item ids")
    if twice := [column for column in (HISTORY, USER) if schema.names.count(column) > 1]:
        raise LeaError(f"{name}: column {twice[0]!r} is there twice: drop one")
    try:
        id_lists(pa.array([], schema.field(HISTORY).type), HISTORY)
    except LeaError as error:
        raise LeaError(f"{name}: {error}") from None
    kind = user_type(file)
    if kind is not None and not any(is_kind(kind) for is_kind in (*TEXTS, pa.types.is_integer)):
        raise LeaError(f"{name}: column {USER!r} holds {kind}: give text or whole numbers")
    return file


def user_type(file: pq.ParquetFile) -> pa.DataType | None:
    """The type that the users of a file are written as, None if it has none; floats must be whole numbers."""
    if USER not in file.schema_arrow.names:
        return None
    kind = file.schema_arrow.field(USER).type
    return pa.int64() if pa.types.is_floating(kind) else kind


def rows(name: str, file: pq.ParquetFile, size: int, refuse: Refuse) -> Iterator[Batch]:
    """Batches of at most `size` histories from an open Parquet file; its rows count from 0."""
    columns = [column for column in (HISTORY, USER) if column in file.schema_arrow.names]
    number = 0
    try:
        for part in file.iter_batches(batch_size=size, columns=columns):
            batch = Batch()
            _read(part, number, user_type(file), batch, refuse)
            number += part.num_rows
            if batch.names:
                yield batch
    except (pa.ArrowInvalid, OSError) as error:
        raise LeaError(f"{name}: broken Parquet file ({str(error).splitlines()[0]}): write it again") from None


def _read(part: pa.RecordBatch, first: int, user: pa.DataType | None, batch: Batch, refuse: Refuse) -> None:
    """Add the histories of some rows, the first of which is row `first`, to `batch`; invalid ones are refused."""
    count = part.num_rows
    try:
        histories = id_lists(part[HISTORY], HISTORY, first)
        users = _users(part[USER], user) if user is not None else [ABSENT] * count
    except LeaError as error:
        if count == 1:
            show_causes(error)
            refuse(f"row {first}", str(error).removeprefix(f"row {first}: "))
            return
        for place in range(count):  # one by one, to find the invalid ones
            _read(part.slice(place, 1), first + place, user, batch, refuse)
        return
    for place, (history, whose) in enumerate(zip(histories, users, strict=True), first):
        batch.add(f"row {place}", history, whose)


def _users(column: pa.Array, kind: pa.DataType) -> list[Any]:
    try:
        return column.cast(kind).to_pylist()  # type: ignore[no-any-return]
    except (pa.ArrowInvalid, UnicodeDecodeError):
        raise LeaError(f"column {USER!r} is no whole number or no UTF-8: give text or whole numbers") from None
