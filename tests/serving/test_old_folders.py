"""Folders of other versions, and the old name of the package.

policy_11145c2/ is what the export stage of commit 11145c2 wrote: a GRU4Rec of nine items with random weights.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lea_core.common.errors import LeaError
from lea_core.serving import Policy
from lea_core.serving.folder import seal

OLD = Path(__file__).parent / "policy_11145c2"


def test_a_folder_of_an_old_version_loads() -> None:
    """With the answers that its own version gave: after the items i0 and i3, and after no known item."""
    policy = Policy.load(OLD)
    assert policy.exclude_seen
    found = policy.recommend([["i0", "i3"], ["a"]], k=3)
    assert found.items == [["i1", "i6", "i4"], ["i7", "i4", "i5"]]
    own, popular = [0.51629019, 0.32402903, 0.18139109], [-1.81528997, -1.96944070, -1.96944070]
    np.testing.assert_allclose(found.scores, [own, popular], rtol=1e-5)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("manifest.json", {"format": 2}, "manifest.json: format 2, but this version of LEA reads 1: "),
        ("policy.json", {"heads": 2}, "policy.json: not a policy's description, but backbone, heads, history, "),
        ("policy.json", {"backbone": "mamba"}, "policy.json: backbone 'mamba' is unknown: "),
    ],
)
@pytest.mark.parametrize("name", ["lea", "lea-recommender", None])
def test_a_folder_of_another_format_says_who_wrote_it(
    file: str, change: dict[str, object], message: str, name: str | None, tmp_path: Path
) -> None:
    folder = tmp_path / "policy"
    shutil.copytree(OLD, folder)
    made_of = json.loads((folder / "provenance.json").read_text())
    made_of["versions"] = {name: "9.8.7"} if name else "none"
    (folder / "provenance.json").write_text(json.dumps(made_of))
    for step in (0, 1):  # the manifest goes last, for it has the others' hashes
        if (file == "manifest.json") == bool(step):
            (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | change))
        if not step:
            seal(folder)
    writer = "LEA '9.8.7', commit '11145c248d0b5c725518b752a7076de964b57f24'" if name else "another LEA"
    with pytest.raises(LeaError) as caught:
        Policy.load(folder)
    assert message in str(caught.value)
    assert str(caught.value).endswith(
        f": {writer} wrote it: install that one, or make the folder again with `dvc repro`"
    )


def test_the_old_name_of_the_package() -> None:
    """It warns, imports torch when `Policy` is asked for and no earlier, and gives the same class and modules."""
    code = """
import sys, warnings
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    import lea_core.policy
print([str(one.message) for one in told], "torch" in sys.modules)
from lea_core.policy.folder import seal
from lea_core.serving import Policy, folder
print(lea_core.policy.Policy is Policy, seal.__code__.co_filename == folder.seal.__code__.co_filename)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = "lea_core.policy is lea_core.serving now: change the import, for the old name goes with the next release"
    assert done.stdout.splitlines() == [f"[{said!r}] False", "True True"]
