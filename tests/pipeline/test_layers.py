"""The rooms of lea_core and their order: a module imports from its own room and from lower ones alone.

The order is drawn in docs/method.md. An import inside a function counts; one for type checkers alone does not.
"""

import pytest

from lea_core.common.code_hash import imported_files
from tests.support.lane import ROOT

# From the lowest to the highest; rooms on one floor do not know each other.
FLOORS = [
    ("common",),
    ("params",),
    ("data",),
    ("llm", "models"),
    ("metrics",),
    ("environment",),
    ("annotation", "baselines"),
    ("learners",),
    ("experiments",),
    ("evaluation",),
    ("serving",),
    ("report",),
    ("cli",),
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def test_every_folder_is_a_room_and_no_module_lies_outside() -> None:
    folders = {path.name for path in (ROOT / "lea_core").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == FLOOR_OF.keys() | {"policy"}  # the old name of serving, for one release
    assert [path.name for path in (ROOT / "lea_core").glob("*.py")] == ["__init__.py"]


@pytest.mark.parametrize("room", FLOOR_OF)
def test_a_room_imports_lower_rooms_only(room: str) -> None:
    upward = [
        f"{path.relative_to(ROOT)} imports {file}"
        for path in sorted((ROOT / "lea_core" / room).rglob("*.py"))
        for file in sorted(imported_files(str(path.relative_to(ROOT))))
        if (other := file.split("/")[1]) != room and FLOOR_OF.get(other, -1) >= FLOOR_OF[room]
    ]
    assert upward == []


def test_stages_import_no_stage_and_the_library_imports_none() -> None:
    for folder in ("lea_core", "stages"):
        for path in (ROOT / folder).rglob("*.py"):
            imports = imported_files(str(path.relative_to(ROOT)))
            assert all(file.startswith("lea_core/") for file in imports), path
