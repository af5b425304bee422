"""environment.py: scores against one prompt per history, ranks against those of the LE's own measurement."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lea_core.baselines.environment import le_ranker
from lea_core.environment.quality import quality
from lea_core.metrics.full_ranking import rank_events
from tests.support.tiny_le import circle, make, settings, shake


@pytest.mark.parametrize("batch_tokens", [8, 999])
def test_scores_are_those_of_one_prompt_for_each_history(tmp_path: Path, batch_tokens: int) -> None:
    le, fast = (shake(make(tmp_path / name, history=4)) for name in ("plain", "fast"))
    fast.optimize_for_inference()
    rows = np.array([[-1, -1, -1, -1, 3], [-1] * 5, [8, 0, 2, 2, 1], [-1, 7, 5, 0, 4]])
    read: list[int] = []
    found = le_ranker(fast, batch_tokens, read.append)(rows).numpy()
    assert sum(read) == 1 + 4 + 4
    assert not found[1].any()
    for row in (0, 2, 3):
        items = [item for item in rows[row, -4:].tolist() if item >= 0]
        with torch.no_grad():
            embedded = le.token[torch.tensor([items])]
            hidden = le.llm.decoder(inputs_embeds=embedded, use_cache=False).last_hidden_state[0, -1:]
            state = le.heads.state(*le.heads.inputs(torch.tensor([items[::-1]]), hidden))
            seen = torch.zeros(1, le.num_items, dtype=torch.bool)
            seen[0, items] = True
            expected = le.heads.ranking(le.heads.scores(state), seen)[0].numpy()
        np.testing.assert_allclose(found[row], expected, atol=2e-3)
        assert np.exp(found[row]).sum() == pytest.approx(1.0, abs=1e-5)


def test_ranks_are_those_that_the_le_is_measured_by(tmp_path: Path) -> None:
    le, log = shake(make(tmp_path)), circle(users=20, length=6)
    measured = quality(le, log, np.arange(20), settings())
    for split in ("valid", "test"):
        ranked = rank_events(le_ranker(le, 64), log, *log.targets(split), 6, mask_seen=False, batch=7)
        assert ranked.metrics((10,))["NDCG@10"] == pytest.approx(measured[split]["ndcg10"])
