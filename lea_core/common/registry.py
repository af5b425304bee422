"""Registries: a backbone, a method, a data set or a baseline is one file, and its name is that of the file.

In: a folder of modules, each with the attributes that its registry demands. Out: their names, read off the folder
without importing anything; the class `Settings` of each, without what else its file imports; a module, when someone
asks for it.

This is the one place of the project that imports by name, and the one way from a lower room to a higher one. What
params.yaml may hold follows from the files that there are, so params, a low room, must know the settings of backbones
and methods, which are higher ones. Written twice, the two would disagree one day, as they did. The files of a registry
import lower rooms alone, as all others do, so there is no circle. `code_hash.closure` counts a registry's files to
whoever imports the registry's name from here.

`Settings` runs by itself, with those imports of its file that are of the standard library, pydantic, common and params:
params.yaml is then checked without importing torch, which takes longer than all else (1.5 s; the check 0.4 s).
"""

from __future__ import annotations

import ast
import functools
import importlib
import re
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lea_core.common.errors import LeaError

ROOT = Path(__file__).parents[2]
LIGHT = (*sys.stdlib_module_names, "pydantic", "lea_core.common", "lea_core.params")
SETTINGS = "Settings"


class Registry:
    """The modules of one folder, by name. A name may be written with `-` or `_`, files have `_`."""

    def __init__(self, kind: str, folder: str, needs: Mapping[str, str], root: Path = ROOT) -> None:
        """kind: in messages. folder: below `root`. needs: attributes of every module, and what each is, in words."""
        self.kind, self.folder, self.needs, self.root = kind, folder, needs, root

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.replace("-", "_") in self.names

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the files, in order. Raises `LeaError` where two have the same name or one is no name."""
        found: dict[str, str] = {}
        for path in sorted((self.root / self.folder).iterdir(), key=lambda path: path.stem.lower()):
            if path.name.startswith(("_", ".")) or not (path.suffix == ".py" or path.is_dir()):
                continue
            name = path.stem.lower().replace("-", "_")
            if name in found:
                raise LeaError(
                    f"{self.folder}: {found[name]} and {path.name} are two files for the {self.kind} {name}: "
                    "rename or remove one"
                )
            found[name] = path.name
        for name, file in found.items():
            if not re.fullmatch(rf"{name}(\.py)?", file) or not name.isidentifier():
                raise LeaError(f"{self.folder}/{file}: name it by small letters, digits and _, a letter first")
        return tuple(found)

    @property
    def files(self) -> tuple[str, ...]:
        """The files of all, below `root`."""
        return tuple(map(self.file, self.names))

    def file(self, name: str) -> str:
        """The file of an entry, below `root`. Raises `LeaError` where there is none."""
        stem = name.replace("-", "_")
        if stem not in self.names:
            known = ", ".join(self.names)
            raise LeaError(f"no {self.kind} is called {name!r}: use one of {known}, or add {self.folder}/{stem}.py")
        path = f"{self.folder}/{stem}"
        return f"{path}/__init__.py" if (self.root / path).is_dir() else f"{path}.py"

    def load(self, name: str) -> Any:
        """The module of an entry. Raises `LeaError` where there is none, or it lacks an attribute."""
        file = self.file(name)
        module = importlib.import_module(self._module(name))
        for need, meaning in self.needs.items():
            if getattr(module, need, None) in (None, (), [], ""):
                raise LeaError(f"{file}: has no {need}: add {meaning}")
        return module

    @functools.cache  # noqa: B019 (registries live as long as the process)
    def settings(self, name: str) -> type[Any] | None:
        """The class `Settings` of an entry, run by itself; None where its file has none and needs none.

        Raises `LeaError` where the text of the file lacks an attribute, or `Settings` uses what is not there.
        """
        file = self.file(name)
        tree = ast.parse((self.root / file).read_text(encoding="utf-8"), file)
        for need in self.needs.keys() - {name for node in tree.body for name in _defined(node)}:
            raise LeaError(f"{file}: has no {need}: add {self.needs[need]}")
        tree.body = [node for node in tree.body if _is_light(node)]
        if not any(isinstance(node, ast.ClassDef) for node in tree.body):
            return None
        module = types.ModuleType(f"{self._module(name)} {SETTINGS}")
        sys.modules[module.__name__] = module  # where dataclasses and pydantic look up what annotations mean
        try:
            exec(compile(tree, str(self.root / file), "exec"), module.__dict__)  # noqa: S102
        except NameError as error:
            raise LeaError(
                f"{file}: {SETTINGS} uses {error.name}, which is not there before the rest of the file is: use the "
                "standard library, lea_core.common and lea_core.params alone"
            ) from None
        found: type[Any] = module.__dict__[SETTINGS]
        return found

    def _module(self, name: str) -> str:
        return f"{self.folder}/{name.replace('-', '_')}".replace("/", ".")


def _defined(node: ast.stmt) -> list[str]:
    """The names that a statement defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _is_light(node: ast.stmt) -> bool:
    if isinstance(node, ast.ImportFrom):
        return _within(node.module or "")
    if isinstance(node, ast.Import):
        return all(_within(alias.name) for alias in node.names)
    return isinstance(node, ast.ClassDef) and node.name == SETTINGS


def _within(module: str) -> bool:
    return any(f"{module}.".startswith(f"{name}.") for name in LIGHT)


_FIELDS = "a frozen dataclass, or a section of lea_core.params, of what params.yaml sets"
BACKBONES = Registry(
    "backbone",
    "lea_core/models/backbones",
    {
        "TITLE": "its name in model cards",
        "Settings": _FIELDS,
        "Network": "its module, a lea_core.models.backbone.Backbone",
        "CASES": "its test cases, small Settings that tests/models/test_backbones.py runs its contract with",
    },
)
METHODS = Registry(
    "method",
    "lea_core/learners/methods",
    {"Settings": _FIELDS, "Learner": "its training step, made of settings, TrainParams, and a Solo or Critics"},
)
DATASETS = Registry(
    "data set",
    "lea_core/data/presets",
    {"Settings": _FIELDS, "tables": "a function that gives the two files and the columns of these settings as Tables"},
)
BASELINES = Registry(
    "baseline",
    "lea_core/baselines/rankers",
    {"scorer": "a function that makes its Scorer of a Log and its settings, and says how much of a history it reads"},
)
REGISTRIES = {
    name: value for name, value in globals().items() if isinstance(value, Registry)
}  # by the names that they are imported under
