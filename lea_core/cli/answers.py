"""Recommendations as JSON lines or Parquet, a batch at a time.

In: `Recommendations` and their users. Out: a line `{"user": ..., "items": [...], "scores": [...], "unknown": n,
"fallback": true, "missing": n}` for each, or a Parquet file with the same columns; without `user` if none was given.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self

import pyarrow as pa
import pyarrow.parquet as pq

from lea_core.cli.history_lines import ABSENT
from lea_core.serving.recommendations import Recommendations


class Answers(Protocol):
    """An output for answers; to be closed like a file."""

    def write(self, found: Recommendations, users: Sequence[Any]) -> None:
        """Write one batch."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class JsonLines:
    """One JSON object per line, UTF-8."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, found: Recommendations, users: Sequence[Any]) -> None:
        """Write one batch and flush it."""
        answers = found.rows()
        # The shortest decimals that give the same float32.
        texts = found.scores.astype(str).tolist()
        for answer, user, scores in zip(answers, users, texts, strict=True):
            known = {} if user is ABSENT else {"user": user}
            answer["scores"] = [float(text) for text in scores[: len(answer["items"])]]
            line = json.dumps(known | answer, ensure_ascii=False, allow_nan=False)
            self._stream.write(line.encode() + b"\n")
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class ParquetRows:
    """A Parquet file. Users from JSON lines become texts: a text as it is, anything else as JSON."""

    def __init__(self, stream: BinaryIO, user: pa.DataType | None) -> None:
        """Write to `stream`; `user` is the type of the users' column, None where there is none."""
        self._user = user
        columns: dict[str, pa.DataType] = {} if user is None else {"user": user}
        columns |= {"items": pa.list_(pa.string()), "scores": pa.list_(pa.float32())}
        self._schema = pa.schema(columns | {"unknown": pa.int64(), "fallback": pa.bool_(), "missing": pa.int64()})
        self._writer = pq.ParquetWriter(pa.PythonFile(_Onward(stream), mode="w"), self._schema, compression="zstd")

    def write(self, found: Recommendations, users: Sequence[Any]) -> None:
        """Write one batch as a row group."""
        table = found.to_arrow()
        if self._user is not None:
            values = [None if user is ABSENT else user for user in users]
            if pa.types.is_string(self._user):
                values = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
            table = table.append_column("user", pa.array(values, self._user))
        self._writer.write_table(table.select(self._schema.names).cast(self._schema))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()


class _Onward:
    """A stream that cannot seek, such as a pipe, with the position that Parquet's footer needs."""

    closed = False

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._place = stream, 0

    def write(self, data: Any) -> int:
        self._stream.write(data)
        self._place += len(data)
        return len(data)

    def tell(self) -> int:
        return self._place

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.flush()
