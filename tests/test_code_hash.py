"""code_hash.py: other code is another hash, wherever in the imports it is; other words are the same."""

from pathlib import Path

import pytest

from lea_core import code_hash
from lea_core.checkpoints import Checkpoint
from lea_core.code_hash import closure, computed_by, is_plumbing, module_file
from tests.edited import copy_sources

# The modules by which caches are told apart, and what each must read among others.
CACHES = {
    "lea_core.shard_worker": {"llm_pass", "environment", "heads", "packing", "prefix_attention", "item_tokens"},
    "lea_core.annotate": {"shards", "sequences", "leaks"},
    "lea_core.augment": {"shards", "sequences", "leaks", "proposals"},
    "lea_core.tune": {"policy_network", "places", "rewards", "sequences", "lists", "leaks", "parts", "learners/sa2c"},
    "lea_core.item_tokens": {"llm"},
    "lea_core.token_methods": {"item_tokens", "learned_tokens", "token_encoder"},
    "stages.finetune_le": {"finetune", "le_users", "le_jury", "le_losses", "le_steps", "negatives", "environment"},
    "stages.train": {"learners/loop", "le_parts", "policy_network"},
    "stages.evaluate": {"evaluation", "lists", "metrics"},
}


def files_of(module: str) -> set[str]:
    return set(closure(module_file(module)))


def test_a_line_in_any_module_of_a_closure_is_a_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every cache that reads the module, and of no other one."""
    folder = copy_sources(monkeypatch, tmp_path)
    before = {module: computed_by(module) for module in CACHES}
    closures = {module: files_of(module) for module in CACHES}
    for module, known in CACHES.items():
        assert {f"lea_core/{name}.py" for name in known} | {module_file(module)} <= closures[module]
    others = [f"lea_core/{name}.py" for name in ("report", "page/page", "le_plots", "results", "errors", "progress")]
    for file in sorted({*others, *(file for files in closures.values() for file in files)}):
        text = (folder / file).read_text()
        (folder / file).write_text(f"{text}CHANGED = True\n")
        missed = {module for module, former in before.items() if computed_by(module) != former}
        assert missed == {module for module, files in closures.items() if file in files}, file
        (folder / file).write_text(text)
    assert {module: computed_by(module) for module in CACHES} == before


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of modules that import one another in several ways."""
    texts = {
        "__init__": '"""Nothing else."""\n',
        "top": (
            '"""A doc."""\nimport numpy as np\nfrom typing import TYPE_CHECKING\nfrom lea_core.middle import f\n'
            "if TYPE_CHECKING:\n    from lea_core import types\n\n\n"
            'class A:\n    """Says so."""\n\n    def g(self):\n        """Too."""\n'
            "        from lea_core import late\n        return late, f  # a comment\n"
        ),
        "middle": "import lea_core.low\nimport torch\nimport json\nf = 1\n",
        "low": "x = 'a string'\n",
        "late": "y = 2\n",
        "types": "z = 3\n",
        "beside": "from lea_core import top\n",
        "relative": "from . import top\n",
    }
    (tmp_path / "lea_core").mkdir()
    for name, text in texts.items():
        (tmp_path / "lea_core" / f"{name}.py").write_text(text)
    monkeypatch.setattr(code_hash, "ROOT", tmp_path)
    return tmp_path / "lea_core"


@pytest.mark.parametrize(
    ("file", "old", "new", "same"),
    [
        ("top", "# a comment", "# another one", True),
        ("top", "A doc.", "Another one.\n\n    Longer.", True),
        ("top", "Says so.", "Says more.", True),
        ("top", '        """Too."""\n', "", True),
        ("top", "return late, f", "return (\n            late,\n            f,\n        )", True),
        ("top", "return late, f", "return f, late", False),
        ("low", "a string", "another one", False),
        ("late", "2", "3", False),
        ("__init__", "Nothing else.", "Nothing else at all.", True),
        ("__init__", '"""Nothing else."""', "w = 4", False),
        ("types", "3", "4", True),
        ("beside", "top", "low", True),
    ],
)
def test_what_a_hash_is_of(project: Path, file: str, old: str, new: str, same: bool) -> None:
    before = computed_by("lea_core.top")
    path = project / f"{file}.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert (computed_by("lea_core.top") == before) is same


def test_libraries_are_those_that_the_closure_imports(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_hash, "_version", lambda name: f"{name} 1")
    assert computed_by("lea_core.top")["libraries"] == {"numpy": "numpy 1", "torch": "torch 1"}
    assert computed_by("lea_core.late", "lea_core.low")["libraries"] == {}
    kept = Checkpoint("stage", "lea_core.top", {})._file
    assert Checkpoint("stage", "lea_core.top", {})._file == kept
    monkeypatch.setattr(code_hash, "_version", lambda name: f"{name} 2")
    assert Checkpoint("stage", "lea_core.top", {})._file != kept
    with pytest.raises(ValueError, match=r"lea_core/relative\.py:1: write the import in full"):
        computed_by("lea_core.relative")
    with pytest.raises(ValueError, match=r"lea_core\.policy: no module in "):
        computed_by("lea_core.policy")


def test_the_plumbing_is_there() -> None:
    for name in code_hash.PLUMBING:
        assert is_plumbing(module_file(f"lea_core.{name}"))
