"""The check of the docs: what it takes for a command, what it lets pass and what it does not, by hand."""

from pathlib import Path

import pytest

from lea_core.params import read_yaml
from tests.support import docs_check
from tests.support.docs_check import commands, compare, is_default_run, read_docs, unknown
from tests.support.docs_numbers import check_intervals, check_tables

PAGE = """Call `lea use` or `make
run`, not `lea_core`.

    $ lea info | head      # in short
    items   1,008
    ...
    $ lea report
    lea check     # no prompt, no output

```
python -m stages.train snqn
```
"""
PRINTED = """
│ snqn │ all │ 0.1047 ± 0.0019 │ -6.8 % │ 112 s │
wrote 3 files of 12 users
"""


def test_commands_and_what_they_print() -> None:
    assert list(commands(PAGE)) == [
        ("lea info | head", ["items   1,008", "..."]),
        ("lea report", ["lea check     # no prompt, no output"]),
        ("lea check", []),
        ("python -m stages.train snqn", []),
        ("lea use", []),
        ("make run", []),
    ]


def test_every_command_of_the_docs_has_an_entry() -> None:
    table, docs = read_yaml(docs_check.TABLE), read_docs()
    shown = [(name, *found) for name, text in docs.items() for found in commands(text)]
    assert list(unknown(table, docs, shown)) == []
    (missing,) = unknown(table, docs, [*shown, ("README.md", "lea dance", [])])
    assert "README.md: `lea dance` has no entry" in missing
    (left,) = unknown({**table, "commands": {**table["commands"], "lea sing": "no"}}, docs, shown)
    assert "no longer show `lea sing`" in left


@pytest.mark.parametrize(
    ("line", "same"),
    [
        ("snqn   all  0.1047 ± 0.0019  -6.8 %   112 s", True),
        ("snqn   all  0.1050 ± 0.0019  -6.4 %   980 ms", True),  # .0003 and .4 points off; times are free
        ("snqn   all  0.1147 ± 0.0019  -6.8 %   112 s", False),
        ("snqn   all  0.1047 ± 0.0019  -5.8 %   112 s", False),
        ("snqn   none  0.1047 ± 0.0019  -6.8 %  112 s", False),
        ("wrote 3 files o…", True),
        ("wrote 4 files of ...", False),
    ],
)
def test_numbers_are_compared_within_a_tolerance(line: str, same: bool) -> None:
    printed = PRINTED.translate(docs_check.FRAME)
    assert (compare(line, printed, full=True, within=0.005) == "") == same


def test_of_another_run_the_form_is_compared() -> None:
    printed = PRINTED.translate(docs_check.FRAME)
    for line in ("sa2c  ranking + items  0.2 ± 0.1  +9 %  1 s", "wrote 7 files of 99 users"):
        assert compare(line, printed, full=False, within=0.0) == ""
    for line in ("sa2c  0.3  0.2 ± 0.1  +9 %  1 s", "wrote 7 folders of 99 users", "snqn  all  0.1  2 %"):
        assert "does not come" in compare(line, printed, full=False, within=0.0)


def test_a_run_of_the_defaults_is_one_of_all_of_them(tmp_path: Path) -> None:
    lock = "stages: {preprocess: {params: {params.yaml: {preprocess.max_users: MOST, train.epochs: 40}}}}"
    assert not is_default_run(tmp_path)
    for most, default in (("null", True), ("60", False)):
        (tmp_path / "dvc.lock").write_text(lock.replace("MOST", most))
        assert is_default_run(tmp_path) is default


def test_tables_and_intervals_are_looked_up() -> None:
    """Supervised on Scientific: HR@10 0.0978 ± 0.0023, NDCG@10 0.0675 ± 0.0013; SNQN +0.0010 (-0.0013 to +0.0033)."""
    page = (
        "\n| | HR@10 | NDCG@10 |\n|---|--:|--:|\n"
        "| twin | .0978 ± .0023 | .068 |\n| **SNQN** | .0993 ± .0022 | .0685 |\n\n"
        "SNQN gains +.0010 (-.0013 to +.0033), or +.0011 over it, -.0013 to +.0033, or .0675 ± .0023.\n"
    )
    rows = {"twin": "scientific: sasrec-supervised", "SNQN": "scientific: sasrec-snqn"}
    how = {"in": "page", "head": "| | HR@10 | NDCG@10 |", "from": "benchmark.md", "rows": rows}
    assert list(check_tables([how], {"page": page})) == ["page: .0993 in the row SNQN is not in benchmark.md"]
    intervals = {"in": ["page"], "from": ["benchmark.md"], "pairs": [], "elsewhere": [".5 (.4 to .6)"]}
    assert list(check_intervals(intervals, {"page": page})) == [
        "page: .0011 (.0013 to .0033) is in none of benchmark.md",
        "page: .0675 ± .0023 is in none of benchmark.md",
        "page: .0993 ± .0022 is in none of benchmark.md",
        "the docs no longer have .5 (.4 to .6): remove it from `elsewhere`",
    ]
