"""The catalogue benchmark, and the memory of training and ranking with many items."""

from benchmarks.scale import catalogue, plot
from benchmarks.scale.catalogue_worker import Job, world
from benchmarks.support.jobs import RESULTS, measure
from lea_core.common.artifacts import read_json

ITEMS = 200_000
EVENTS = 4000
# What a process takes beside the weights and what belongs to each of them: Python, PyTorch and the activations.
# Measured: 423 of a step and 451 of a ranking, 128 of which are scores.
REST_MIB = 550


def test_a_step_and_a_ranking_hold_the_tables_and_little_else() -> None:
    for part, setting in (("step", "sparse"), ("rank", "sampled")):
        found = measure(catalogue.WORKER, Job(part, setting, ITEMS, 13_000))
        rest = found["peak_mib"] - found["held_mib"]
        assert 100 < rest < REST_MIB
        if part == "step":  # with all items a step would hold the scores of every transition at least three times
            assert 3 * found["transitions"] * ITEMS * 4 / 2**20 > 3 * REST_MIB


def test_the_world() -> None:
    log = world(Job("step", "full", 1000, EVENTS))
    assert log.num_users == EVENTS / 20
    assert 0 <= log.items.min() <= log.items.max() < 1000


def test_the_tables_and_the_picture_of_the_result() -> None:
    result = read_json(RESULTS / "catalogue.json")
    lines = catalogue.tables(result)
    assert lines == (RESULTS / "catalogue.md").read_text().splitlines()
    assert sum("not run" in line for line in lines) == 1
    seconds, peaks, epochs = plot.catalogue_picture(result).axes
    assert [len(line.get_xdata()) for line in seconds.lines] == [3, 4, 4]  # type: ignore[arg-type]
    assert len(peaks.lines) == 4
    assert len(epochs.lines) == 1
