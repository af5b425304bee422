"""What a kept number was computed by: the code of a module with all that it imports, and the libraries' versions.

In: names of modules, such as `lea_core.annotation.annotate`. Out: a hash of the syntax trees of its import closure, and
versions. Every cache has both in its key, so that what other code computed is never taken for what this code would
compute.

The closure is the module and every file of this project that it imports, directly or through another, inside functions
too; whoever imports a registry (registry.py) may load each of its files. Comments, docstrings, line breaks and the
version of Python change no hash. Left out are modules that type checkers alone import, and the plumbing, which carries
data and messages and changes no number.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lea_core.common import registry

ROOT = Path(__file__).parents[2]  # of the sources: the checkout, or where the package is installed
PACKAGES = ("lea_core", "stages", "benchmarks")
# Rooms and modules of lea_core: what they do is not computing. tests/pipeline/test_agreement.py holds them to that.
PLUMBING = ("common", "params", "llm/text_cache")
# Those whose version may change a number, by the names that they are imported under; with what they compute by.
LIBRARIES: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in ("numpy", "optuna", "peft", "polars", "scipy", "torch")},
    "transformers": ("transformers", "tokenizers"),
}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Source:
    """What a file says. digest: of its syntax tree without docstrings.  imports: full names, of others' code too."""

    digest: str
    imports: frozenset[str]
    empty: bool  # holds nothing but a docstring, as an empty package's __init__ does


def computed_by(*modules: str) -> dict[str, Any]:
    """What the numbers that these modules compute depend on beside their input, as JSON values; no device is in it.

    `code`: a hash of their code and of all that they import of this project.  `libraries`: versions of those LIBRARIES
    that this code imports. Raises `ValueError` where a module is no file here.
    """
    sources = closure(*map(module_file, modules))
    lines = [f"{file} {source.digest}\n" for file, source in sorted(sources.items())]
    imported = {name.partition(".")[0] for source in sources.values() for name in source.imports}
    libraries = sorted(name for known, parts in LIBRARIES.items() if known in imported for name in parts)
    return {
        "code": hashlib.sha256("".join(lines).encode()).hexdigest(),
        "libraries": {name: _version(name) for name in libraries},
    }


def closure(*files: str) -> dict[str, Source]:
    """These files and every file of this project that they import, directly or through another, but for the plumbing.

    Paths are below ROOT.
    """
    found: dict[str, Source] = {}
    new = set(files)
    while new:
        found |= {file: read_source(file) for file in new}
        below = {file for old in new for file in (*_files(ROOT, found[old].imports), *_loaded(found[old].imports))}
        new = {file for file in below - found.keys() if not is_plumbing(file)}
    return {file: source for file, source in found.items() if not source.empty}


def imported_files(file: str) -> set[str]:
    """Files of this project that `file` imports itself, but for empty ones."""
    return {found for found in _files(ROOT, read_source(file).imports) if not read_source(found).empty}


def is_plumbing(file: str) -> bool:
    """Whether a file below ROOT belongs to PLUMBING."""
    return any(f"{file.removesuffix('.py')}/".startswith(f"lea_core/{name}/") for name in PLUMBING)


def module_file(name: str) -> str:
    """The file of module `a.b.c`, below ROOT. Raises `ValueError` where there is none."""
    stem = name.replace(".", "/")
    for file in (f"{stem}.py", f"{stem}/__init__.py"):
        if (ROOT / file).is_file():
            return file
    raise ValueError(f"{name}: no module in {ROOT}")


def read_source(file: str) -> Source:
    """What a file below ROOT says. Raises `ValueError` where it has a relative import."""
    return _parse(file, (ROOT / file).read_text(encoding="utf-8"))


@functools.cache
def _files(root: Path, imports: frozenset[str]) -> frozenset[str]:
    """The files of this project that these imports run: importing `a.b.c` runs those of `a` and `a.b` too."""
    stems = set()
    for name in imports:
        parts = name.split(".")
        if parts[0] in PACKAGES:
            stems |= {"/".join(parts[:length]) for length in range(1, len(parts) + 1)}
    files = {file for stem in stems for file in (f"{stem}.py", f"{stem}/__init__.py")}
    return frozenset(file for file in files if (root / file).is_file())


def _loaded(imports: frozenset[str]) -> set[str]:
    """The files of the registries among these imports, which are loaded by name."""
    prefix = f"{registry.__name__}."
    names = {name.removeprefix(prefix) for name in imports if name.startswith(prefix)}
    return {file for name in names & registry.REGISTRIES.keys() for file in registry.REGISTRIES[name].files}


@functools.cache
def _version(library: str) -> str:
    return importlib.metadata.version(library)


@functools.lru_cache(maxsize=1024)
def _parse(file: str, text: str) -> Source:
    tree = ast.parse(text)
    names: set[str] = set()
    for node in _imports(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif node.level:
            raise ValueError(f"{file}:{node.lineno}: write the import in full")
        else:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    for place in ast.walk(tree):
        if isinstance(place, DOCUMENTED) and ast.get_docstring(place, clean=False) is not None:
            del place.body[0]
    return Source(hashlib.sha256(dump(tree).encode()).hexdigest(), frozenset(names), empty=not tree.body)


def dump(node: object) -> str:
    """A syntax tree as text, the same from every Python: `ast.dump` shows fields that newer ones added, though empty.

    A node is its class and those of its fields that hold something, by name; positions and comments are left out.
    """
    if isinstance(node, list):
        return f"[{','.join(map(dump, node))}]"
    if not isinstance(node, ast.AST):
        return ascii(node)  # not repr, which escapes what this Python's Unicode has no name for
    fields = [f"{name}={dump(value)}" for name, value in sorted(ast.iter_fields(node)) if value not in (None, [])]
    return f"{type(node).__name__}({','.join(fields)})"


def _imports(node: ast.AST) -> list[ast.Import | ast.ImportFrom]:
    """Every import below `node`, in functions too; those under `if TYPE_CHECKING:` never run."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [node]
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return [found for child in node.orelse for found in _imports(child)]
    return [found for child in ast.iter_child_nodes(node) for found in _imports(child)]
