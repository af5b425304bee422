"""code_hash.py: other code is another hash, wherever in the imports it is; other words are the same."""

import ast
import functools
from pathlib import Path

import pytest

from benchmarks.environment import seeds as le_seeds
from benchmarks.paper.inputs import BASELINE, CODE, CONFIGURATION, LE_STAGE
from benchmarks.peers import systems
from lea_core.common import code_hash
from lea_core.common.checkpoints import Checkpoint
from lea_core.common.code_hash import Source, _parse, closure, computed_by, is_plumbing, module_file

# Whose arguments name modules, and which arguments these are.
KEYS = {"computed_by": slice(None), "Checkpoint": slice(1, 2), "TextCache": slice(1, 2)}
STAGES = ("stages.fetch_data", "stages.fetch_llm", "stages.preprocess", "stages.tokenize_items")
# Arguments that are no module's name as they stand, by file: the modules that they are.
NAMED = {
    ("lea_core/annotation/run.py", "type(task).__module__"): (
        "lea_core.annotation.annotate",
        "lea_core.annotation.augment",
    ),
    ("lea_core/common/checkpoints.py", "module"): (),  # handed on
    ("lea_core/llm/text_cache.py", "module"): (),
    ("benchmarks/support/prepared.py", "*(f'stages.{stage}' for stage in stages)"): STAGES,
    ("benchmarks/peers/systems.py", "*PEERS"): systems.PEERS,
    ("benchmarks/environment/seeds.py", "*CODE"): le_seeds.CODE,
    ("benchmarks/paper/inputs.py", "*code"): (
        *CONFIGURATION,
        *BASELINE,
        *(code for codes in CODE.values() for code in codes),
    ),
    ("benchmarks/paper/run.py", "LE_STAGE"): (LE_STAGE,),
    ("benchmarks/paper/stage.py", "LE_STAGE"): (LE_STAGE,),
}
# What the closures of some hold among others.
KNOWN = {
    "lea_core.annotation.worker": {
        "annotation/forward_pass",
        "environment/model",
        "environment/heads",
        "llm/packing",
        "llm/prefix_attention",
        "llm/pooled_tokens",
    },
    "lea_core.annotation.annotate": {"annotation/shards", "data/sequences", "data/leaks"},
    "lea_core.annotation.augment": {"annotation/shards", "data/sequences", "data/leaks", "environment/top_items"},
    "lea_core.experiments.tuning": {
        "models/policy_network",
        "models/ragged",
        "data/rewards",
        "data/sequences",
        "metrics/top_k",
        "data/leaks",
        "learners/methods/sa2c",
    },
    "lea_core.llm.pooled_tokens": {"llm/language_model"},
    "lea_core.llm.tokenize": {"llm/pooled_tokens", "llm/learned_tokens", "llm/amortised_tokens"},
    "stages.finetune_le": {
        "environment/finetune",
        "environment/user_split",
        "environment/checkpoint_selection",
        "environment/losses",
        "environment/batches",
        "environment/negatives",
        "environment/model",
    },
    "stages.preprocess": {"data/preprocess", "data/splits", "data/datasets/tables"},
    "stages.train": {"learners/loop", "learners/supervision", "models/policy_network"},
    "stages.evaluate": {"metrics/full_ranking", "metrics/top_k", "metrics/ranking"},
    "benchmarks.environment.quality": {
        "environment/finetune",
        "evaluation/environment/yardsticks",
        "environment/quality",
    },
    "benchmarks.peers.systems": {"metrics/full_ranking", "learners/loop"},
}


@functools.cache
def caches() -> frozenset[str]:
    """The modules by which any cache in the code is told apart: what a kept number is computed by."""
    paths = [path for package in code_hash.PACKAGES for path in (code_hash.ROOT / package).rglob("*.py")]
    texts = {
        path.relative_to(code_hash.ROOT).as_posix(): path.read_text() for path in paths if ".work" not in path.parts
    }
    found: set[str] = set()
    for file, text in texts.items():
        for call in ast.walk(ast.parse(text)) if any(name in text for name in KEYS) else ():
            name = getattr(call.func, "attr", getattr(call.func, "id", "")) if isinstance(call, ast.Call) else ""
            if name in KEYS:
                assert call.args[KEYS[name]], f"{file}:{call.lineno}: give the module by position"
                found.update(*(modules_of(file, argument) for argument in call.args[KEYS[name]]))
    return frozenset(found)


def modules_of(file: str, argument: ast.expr) -> tuple[str, ...]:
    """The names of modules that an argument is."""
    if isinstance(argument, ast.Constant):
        return (argument.value,)
    written = ast.unparse(argument)
    if written == "__name__":
        return (file.removesuffix(".py").replace("/", "."),)
    return NAMED[file, written]  # a `KeyError` of a new cache: add which modules its argument stands for


def test_a_line_in_any_module_of_a_closure_is_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every cache that reads the module, and of no other one."""
    edited: dict[str, Source] = {}
    read = functools.cache(code_hash.read_source)
    monkeypatch.setattr(code_hash, "read_source", lambda file: edited[file] if file in edited else read(file))
    closures = {module: set(closure(module_file(module))) for module in sorted(caches())}
    for module, known in KNOWN.items():
        assert {f"lea_core/{name}.py" for name in known} | {module_file(module)} <= closures[module]
    before = {module: computed_by(module) for module in closures}
    unread = (
        "serving/folder",
        "evaluation/environment/plots",
        "evaluation/results",
        "common/errors",
        "common/progress",
    )
    others = [f"lea_core/{name}.py" for name in unread]
    for file in sorted({*others, *(file for files in closures.values() for file in files)}):
        edited[file] = _parse(file, f"{(code_hash.ROOT / file).read_text()}CHANGED = True\n")
        missed = {module for module, former in before.items() if computed_by(module) != former}
        assert missed == {module for module, files in closures.items() if file in files}, file
        del edited[file]


def test_no_cache_reads_code_that_no_hash_is_of() -> None:
    """What lies in other folders of this project is in no closure."""
    for module in sorted(caches()):
        imported = {
            name.partition(".")[0] for source in closure(module_file(module)).values() for name in source.imports
        }
        assert {name for name in imported if (code_hash.ROOT / name).is_dir()} <= set(code_hash.PACKAGES), module


def test_a_hash_is_the_same_in_every_python() -> None:
    """It shows no field without content: newer Pythons have more of them."""
    shown = code_hash.dump(ast.parse("def f(a, *, b=None):\n    return {**a, 'é': True}, -1.0\n"))
    arguments = "arguments(args=[arg(arg='a')],kw_defaults=[Constant()],kwonlyargs=[arg(arg='b')])"
    values = "[Name(ctx=Load(),id='a'),Constant(value=True)]"
    pair = f"[Dict(keys=[None,Constant(value='\\xe9')],values={values}),UnaryOp(op=USub(),operand=Constant(value=1.0))]"
    body = f"[Return(value=Tuple(ctx=Load(),elts={pair}))]"
    assert shown == f"Module(body=[FunctionDef(args={arguments},body={body},name='f')])"
    older, newer = ast.parse("x = 1"), ast.parse("\n\nx = (1)")
    newer.body[0]._fields = (*newer.body[0]._fields, "more", "another")  # type: ignore[misc]
    vars(newer.body[0]).update(more=[], another=None)
    assert code_hash.dump(newer) == code_hash.dump(older) != code_hash.dump(ast.parse("x = True"))


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
    with pytest.raises(ValueError, match=r"lea_core\.serving: no module in "):
        computed_by("lea_core.serving")


def test_the_plumbing_is_there() -> None:
    for name in code_hash.PLUMBING:
        assert is_plumbing(module_file(f"lea_core.{name}"))
