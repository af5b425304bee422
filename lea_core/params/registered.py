"""Sections that a registry fills: one for the settings of each backbone, method, data set or baseline.

In: a registry (lea_core/common/registry.py). Out: classes of sections, and annotations that allow its names alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import create_model

from lea_core.common.registry import Registry
from lea_core.params.base import Section


@dataclass(frozen=True)
class OneOf:
    """One of these names, as `Literal` would say it."""

    names: tuple[str, ...]

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Callable[[Any], Any]) -> dict[str, Any]:
        """What pydantic makes of it."""
        return {"type": "literal", "expected": list(self.names)}


def sections(title: str, registry: Registry, base: type[Section] = Section) -> type[Section]:
    """A section with the fields of `base` and one below it for each entry that has settings, by its name."""
    found = {name: settings for name in registry.names if (settings := registry.settings(name)) is not None}
    fields: dict[str, Any] = {name: (section(settings), ...) for name, settings in found.items()}
    return create_model(title, __base__=base, __doc__=f"Settings of each {registry.kind}.", **fields)


def section(settings: type[Any]) -> type[Section]:
    """A file's class `Settings` as a section; a dataclass keeps its annotations, and its `problems` are checked."""
    if issubclass(settings, Section):
        return settings
    check: Callable[[Any], Iterable[str]] = getattr(settings, "problems", lambda _: ())

    class Checked(Section):
        def _problems(self) -> Iterable[str]:
            return check(self)

    hints = get_type_hints(settings, include_extras=True)
    fields: dict[str, Any] = {name: (annotation, ...) for name, annotation in hints.items()}
    return create_model(settings.__name__, __base__=Checked, __doc__=settings.__doc__, **fields)
