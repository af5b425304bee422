"""text_cache.py, and `tokenize_items` with it: a text that comes again keeps its numbers, whatever else changes."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lea_core.common import tables
from lea_core.common.errors import LeaError
from lea_core.common.sources import file_sha256
from lea_core.llm import pooled_tokens, tokenize
from lea_core.llm.text_cache import TextCache
from stages import tokenize_items
from tests.llm.test_tokenize import settings
from tests.support import tiny_llm
from tests.support.edited import edit
from tests.support.lane import PARAMS, change_params

TEXTS = ["alien robot", "love war jazz sea", "", "ghost", "king cat dog", "sea ghost love", "ghost", "cat jazz", "dog"]
CHANGED = 4
COLUMNS = ("token", "pooled", "content")


class Lane:
    """The stage in a folder of its own; `passed`, `trained`: the texts of every pass of the LLM and every training."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.passed: list[int] = []
        self.trained: list[int] = []

    def run(self, texts: list[str], method: str = "pooled", statistics: dict[str, str] | None = None) -> Path:
        """The folder that the stage publishes."""
        numbers = pa.array(range(len(texts)), pa.int32())
        items = {"item": numbers, "item_id": [str(n) for n in numbers], "text": texts, "train_count": numbers}
        tables.write_table(Path("data/interactions/items.parquet"), pa.table(items), tables.ITEMS)
        wanted = {**settings(method).model_dump(), "statistics": statistics}
        change_params(self.folder, {f"tokenize_items.{key}": value for key, value in wanted.items()})
        self.passed.clear()
        self.trained.clear()
        tokenize_items.main([])
        return Path("data/item_tokens")

    def keep_statistics(self) -> dict[str, str]:
        """Copy what the last run wrote out of data/, where DVC removes it; the parameter that names it."""
        kept = self.folder / "kept.safetensors"
        shutil.copy("data/item_tokens/statistics.safetensors", kept)
        return {"source": str(kept), "sha256": file_sha256(kept)}

    def vectors(self) -> dict[str, np.ndarray]:
        table = tables.read_table(Path("data/item_tokens/items.parquet"), tables.ITEM_TOKENS)
        return {name: tables.to_numpy(table, name) for name in COLUMNS}


@pytest.fixture
def lane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lane:
    made = Lane(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEA_CACHE", str(tmp_path / "kept"))
    pool, learner = pooled_tokens._pool, tokenize.Learner

    def counted_pool(llm: object, rows: list[list[int]]) -> dict[str, np.ndarray]:
        made.passed.append(len(rows))
        return pool(llm, rows)  # type: ignore[arg-type]

    class CountedLearner(learner):  # type: ignore[misc, valid-type]
        def __init__(self, llm: object, rows: list[list[int]], *others: object) -> None:
            made.trained.append(len(rows))
            super().__init__(llm, rows, *others)

    monkeypatch.setattr(pooled_tokens, "_pool", counted_pool)
    monkeypatch.setattr(tokenize, "Learner", CountedLearner)
    tiny_llm.load(tmp_path / "data")
    shutil.copy(PARAMS, tmp_path / "params.yaml")
    return made


@pytest.mark.parametrize("method", ["pooled", "learned", "mixed"])
def test_a_changed_text_changes_its_own_row_alone(lane: Lane, method: str) -> None:
    trains = method != "pooled"
    lane.run(TEXTS, method)
    assert lane.passed == [7]  # of nine items one has no text and two have the same
    assert lane.trained == [7] * trains
    own = lane.keep_statistics()
    before = lane.vectors()
    lane.run([*TEXTS[:CHANGED], "war jazz king alien", *TEXTS[CHANGED + 1 :]], method, own)
    assert lane.passed == [1]
    assert lane.trained == [1] * trains
    others = np.arange(len(TEXTS)) != CHANGED
    for name, after in lane.vectors().items():
        assert after[others].tobytes() == before[name][others].tobytes(), name
        assert (after[CHANGED] != before[name][CHANGED]).any(), name
    # A new item changes no other one either, nor does one that loses its text; this time nothing is new.
    lane.run([*TEXTS[:CHANGED], "", *TEXTS[CHANGED + 1 :], "king cat dog"], method, own)
    assert lane.passed == lane.trained == []
    for name, after in lane.vectors().items():
        assert after[:-1][others].tobytes() == before[name][others].tobytes(), name
        assert after[-1].tobytes() == before[name][CHANGED].tobytes(), name
        assert after[CHANGED].tobytes() == before[name][2].tobytes(), name


@pytest.mark.parametrize("method", ["pooled", "learned", "amortised"])
def test_with_its_own_statistics_and_a_warm_cache_a_run_gives_the_same_bytes(lane: Lane, method: str) -> None:
    fitted = lane.run(TEXTS, method) / "items.parquet"
    first = fitted.read_bytes()
    assert lane.run(TEXTS, method).joinpath("items.parquet").read_bytes() == first
    assert lane.passed == lane.trained == []
    given = lane.run(TEXTS, method, lane.keep_statistics())
    assert (given / "items.parquet").read_bytes() == first
    assert (given / "statistics.safetensors").read_bytes() == (lane.folder / "kept.safetensors").read_bytes()
    # The same texts from nothing: the same batch, so the same bytes.
    shutil.rmtree(lane.folder / "kept")
    assert lane.run(TEXTS, method).joinpath("items.parquet").read_bytes() == first


@pytest.mark.parametrize("harm", ["cut", "other"])
def test_a_broken_cache_costs_a_warning(lane: Lane, harm: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = (lane.run(TEXTS) / "items.parquet").read_bytes()
    (file,) = lane.folder.glob("kept/texts/pooled-*/checkpoint.safetensors")
    capsys.readouterr()
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    else:
        cache = TextCache("pooled", "lea_core.llm.pooled_tokens", {}, {"embedded": (3,)})
        cache.complete([[1]], lambda new: {"embedded": np.ones((len(new), 3), dtype=np.float32)})
        (other,) = (path for path in lane.folder.glob("kept/texts/pooled-*/*") if path != file)
        other.replace(file)
    assert (lane.run(TEXTS) / "items.parquet").read_bytes() == first
    warned = capsys.readouterr().err
    assert "broken checkpoint" in warned if harm == "cut" else "cached texts of another form" in warned
    assert lane.passed == [7]
    lane.run(TEXTS)
    assert lane.passed == []


def test_a_cache_that_cannot_be_written_ends_no_run(lane: Lane, capsys: pytest.CaptureFixture[str]) -> None:
    (lane.folder / "kept").mkdir()
    (lane.folder / "kept" / "texts").write_text("a file where the folder should be")
    lane.run(TEXTS)
    assert "no checkpoint saved" in capsys.readouterr().err
    assert lane.passed == [7]


def test_another_limit_or_layer_shares_nothing(lane: Lane) -> None:
    lane.run(TEXTS)
    for key, value in (("text_tokens", 3), ("layer", 1)):
        change_params(lane.folder, {f"tokenize_items.{key}": value})
        tokenize_items.main([])
    assert lane.passed == [7, 7, 7]


def test_other_code_shares_nothing(lane: Lane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pooling by the last token in the place of the mean: its vectors, not the kept ones."""
    lane.run(TEXTS)
    before = lane.vectors()
    pool = pooled_tokens._pool
    monkeypatch.setattr(pooled_tokens, "_pool", lambda llm, rows: pool(llm, [row[-1:] for row in rows]))
    edit(monkeypatch, tmp_path / "code", "lea_core/llm/pooled_tokens.py")
    lane.run(TEXTS)
    assert lane.passed == [7]
    assert not np.allclose(lane.vectors()["token"][0], before["token"][0])


def test_statistics_that_do_not_fit_are_one_line(lane: Lane) -> None:
    lane.run(TEXTS)
    own = lane.keep_statistics()
    lane.run(TEXTS, "pooled", own)
    change_params(lane.folder, {"tokenize_items.content_width": 2})
    with pytest.raises(LeaError, match=r"kept\.safetensors: statistics of an LLM of width 16 and a content_width of 3"):
        tokenize_items.main([])
    change_params(lane.folder, {"tokenize_items.statistics.source": "data/gone.safetensors"})
    with pytest.raises(LeaError, match=r"tokenize_items\.statistics\.source: data/gone\.safetensors not found"):
        tokenize_items.main([])


def test_equal_rows_are_one_text_and_come_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEA_CACHE", str(tmp_path))
    asked = []

    def lengths(rows: list[list[int]]) -> list[float]:
        def compute(new: np.ndarray) -> dict[str, np.ndarray]:
            asked.append([rows[n] for n in new])
            return {"length": np.array([len(rows[n]) for n in new], dtype=np.float32)}

        return (
            TextCache("lengths", "lea_core.llm.text_cache", {"of": 1}, {"length": ()})
            .complete(rows, compute)["length"]
            .tolist()
        )  # type: ignore[no-any-return]

    assert lengths([[1, 2], [3], [1, 2]]) == [2.0, 1.0, 2.0]
    assert lengths([[4, 5, 6], [3], [1, 2], [4, 5, 6], [12]]) == [3.0, 1.0, 2.0, 3.0, 1.0]
    assert lengths([[12], [3]]) == [1.0, 1.0]
    assert asked == [[[1, 2], [3]], [[4, 5, 6], [12]]]
