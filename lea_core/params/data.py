"""The sections on data: where it comes from, which of it is kept, and what is held out."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from lea_core.params.base import Count, CountOrZero, OpenShare, Section, Sha256


class FileSource(Section):
    """One file and the hash that pins it."""

    source: str  # pypi:NAME==VERSION!MEMBER, https:, s3:, gs: or a local path
    sha256: Sha256 | None  # of the fetched file (of the wheel, for pypi:); null: not pinned, with a warning


class MovieLens(Section):
    """MovieLens-100K as the recbole wheel carries it."""

    name: Literal["ml-100k"]
    source: str  # the wheel: pypi:recbole==1.2.1
    sha256: Sha256 | None
    text: str  # item text: a template over title, year and genres


class Columns(Section):
    """How the user's own table calls its columns; null: there is no such column."""

    user: str
    item: str
    timestamp: str
    order: str | None  # breaks ties of equal timestamps; without it, the row order of the file does
    event: str | None
    rating: str | None
    split: str | None  # values train, valid, test; read where preprocess.split.method is `column`


class Tables(Section):
    """The user's own two files, CSV, TSV or Parquet by their ending."""

    name: Literal["tables"]
    interactions: FileSource
    items: FileSource  # must hold the item column under the same name as the interactions
    columns: Columns
    text: str  # item text: a template over the item columns, such as "{title}. {brand}"


class SplitParams(Section):
    """Which events are held out."""

    method: Literal["leave_one_out", "by_user", "global_time", "column"]
    valid_share: OpenShare  # of the users (by_user) or of the events (global_time)
    test_share: OpenShare
    seed: int  # by_user: which users

    @model_validator(mode="after")
    def _leaves_training_data(self) -> SplitParams:
        if self.valid_share + self.test_share >= 1.0:
            raise ValueError("valid_share + test_share must leave something to train on: make their sum less than 1")
        return self


class PreprocessParams(Section):
    """Raw data -> interactions, items, users."""

    min_rating: float | None  # drop events rated lower; null keeps all
    max_users: Count | None  # keep so many users, drawn at random; null keeps all
    seed: int  # of that draw
    k_core: CountOrZero  # drop users and items with fewer events, repeatedly, until none is left to drop
    duplicates: Literal["error", "drop", "keep"]  # rows equal in user, item, timestamp and event
    short_users: Literal["error", "train", "drop"]  # users with fewer events than the split needs
    repeats: bool  # can a user take the same item again? false: the LE proposes new items alone
    split: SplitParams
