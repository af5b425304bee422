"""plots.py: the panels that have data, the numbers on their bars, and no text over another."""

from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from lea_core.common.errors import LeaError
from lea_core.evaluation.environment.plots import draw, picture

mpl.use("Agg")
METHODS = (
    "le",
    "content_start",
    "text_raw",
    "text_whitened",
    "item_neighbours",
    "popularity",
    "small_transformer",
    "random_llm",
)
QUALITY: dict[str, Any] = {
    "state": {name: {"ndcg10": 0.08 - 0.01 * place, "hr10": 0.1} for place, name in enumerate(METHODS)},
    "reward": {
        "le": {"auc_uniform": 0.875, "auc_popularity": 0.75, "auc_text_hard": 0.5},
        "content_start": {"auc_uniform": 0.75, "auc_text_hard": 0.48},
    },
    "reliability": [{"predicted": 0.2, "observed": 0.3, "count": 9}, {"predicted": 0.8, "observed": 0.7, "count": 9}],
    "actions": {
        name: {"share1": 0.125, "share5": 0.0625} for name in ("le", "text_neighbours", "item_neighbours", "popularity")
    },
}


def test_all_panels_and_no_text_over_another(tmp_path: Path) -> None:
    figure = picture(QUALITY)
    figure.canvas.draw()
    texts = [text for text in figure.findobj(mpl.text.Text) if text.get_visible() and text.get_text()]
    shown = [text.get_text() for text in texts]
    assert len(figure.axes) == 4
    assert {"LE", "small transformer", "0.080", "0.88", "12", "6.2", "first 5", "chance"} <= set(shown)
    assert "first 10" not in shown  # no source has it
    boxes = [text.get_window_extent() for text in texts]
    over = [(a, b) for (a, x), (b, y) in combinations(zip(shown, boxes, strict=True), 2) if x.overlaps(y)]
    assert over == []
    draw(QUALITY, tmp_path / "le.png")
    assert (tmp_path / "le.png").read_bytes()[:4] == b"\x89PNG"


def test_a_missing_part_leaves_its_panel_out() -> None:
    figure = picture({"reward": QUALITY["reward"], "actions": {}, "state": {"le": {"ndcg10": 0.5}}})
    state, reward = figure.axes
    assert [bar.get_width() for bar in state.patches] == [0.5]
    assert [bar.get_height() for bar in reward.patches] == [0.875, 0.75, 0.5, 0.75, 0.48]
    middles = [round(bar.get_x() + bar.get_width() / 2, 6) for bar in reward.patches]
    assert middles == [-0.2, 0.8, 1.8, 0.2, 2.2]  # the second source has no bar at the second negatives
    with pytest.raises(LeaError, match="nothing to draw"):
        picture({"users": 9})
