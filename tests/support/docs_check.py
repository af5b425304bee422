"""The docs against the code: each command that they show is run where it is quick, each number of a table looked up.

In: README.md, docs/ (but the lab notebook, which tells of former commits) and examples/serve/README.md;
docs_check.yaml, which says how each command, sentence and table of them is checked; benchmarks/results; a run of the
pipeline, here or in the folder that is given. Out: a line for everything that does not hold, and exit status 1.

A command that docs_check.yaml does not name fails the check, and so does an entry that the docs no longer have.
Commands run in a copy of the run's parameters and data/ (hard links), so what is there stays as it is. The numbers that
they print are compared where the run is one of settings/default.yaml; of any other run the form of the lines is.
Seconds, bytes and rates are never compared.

    make docs-check
    python -m tests.support.docs_check FOLDER
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, reduce
from pathlib import Path
from typing import Any

from lea_core.params import read_yaml
from tests.support.docs_numbers import NUMBER, check_intervals, check_tables, near

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_suffix(".yaml")
NOTEBOOK = "docs/lab-notebook"
PROGRAM = re.compile(r"(?:[A-Z_]+=\S+ )?(?:lea|make|dvc|python|pip|torchrun|git|rm|printf|uvicorn|curl)(?= |$)")
UNIT = re.compile(r" ?(?:s|ms|min|h|kB|MB|GB|MiB|GiB|tokens/s|workers?)\b")  # how fast or large a machine is
Run = Callable[..., tuple[int, str]]
Shown = tuple[str, str, list[str]]  # page, command, lines below it
FRAME = str.maketrans(dict.fromkeys("│┃┏┓┗┛┡┩├┤└┘━─┳┻╇┼┴┬", " "))


def main(argv: list[str]) -> int:
    """Check everything; 1 where something does not hold."""
    folder = Path(argv[0] if argv else ROOT).resolve()
    if not (folder / "data" / "report").exists():
        print(f"{folder / 'data'}: has no run of the pipeline: run `make run`, or give a folder with one")
        return 1
    table, docs = read_yaml(TABLE), read_docs()
    shown: list[Shown] = [(name, *found) for name, text in docs.items() for found in commands(text)]
    wrong = [
        *unknown(table, docs, shown),
        *check_tables(table["tables"], docs),
        *check_intervals(table["intervals"], docs),
    ]
    full = is_default_run(folder)
    with trial(folder) as run:
        wrong += [*check_commands(table, docs, shown, full, run), *check_texts(table["texts"], docs, full, run)]
    for line in wrong:
        print(line)
    if not full:
        print(f"numbers that commands print not compared: {folder / 'data'} is not a run of settings/default.yaml")
    ran = sum(isinstance(how, dict) for how in table["commands"].values())
    print(f"{ran} of {len(table['commands'])} commands run, {len(table['tables'])} tables: {len(wrong)} wrong")
    return 1 if wrong else 0


def read_docs() -> dict[str, str]:
    """Text of each page by its name."""
    files = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    names = sorted(str(file.relative_to(ROOT)) for file in files)
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in names if not name.startswith(NOTEBOOK)}


def blocks(text: str) -> list[list[str]]:
    """Indented and fenced blocks of a page, as lines without the indent."""
    found = re.findall(r"^```.*\n((?:.*\n)*?)```|((?:^    .*(?:\n|\Z))+)", text, re.MULTILINE)
    return [[line.removeprefix("    ") for line in (fenced or indented).splitlines()] for fenced, indented in found]


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a page, each with the lines that it is shown to print: none for one inside a sentence."""
    for lines in blocks(text):
        for place, line in enumerate(lines):
            prompt, bare = line.startswith("$ "), line.removeprefix("$ ")
            if PROGRAM.match(bare):
                below = lines[place + 1 :] if prompt else []
                ends = [i for i, other in enumerate(below) if other.startswith("$ ")]
                yield re.sub(r"\s{2,}#.*", "", bare), below[: ends[0] if ends else None]
    prose = re.sub(r"^```.*\n(?:.*\n)*?```|^    .*$", "", text, flags=re.MULTILINE)
    for quoted in re.findall(r"`([^`]+)`", prose):
        command = " ".join(quoted.split())
        if PROGRAM.match(command):
            yield command, []


def unknown(table: dict[str, Any], docs: dict[str, str], shown: Sequence[Shown]) -> Iterator[str]:
    """Commands without an entry, and entries of which the docs show nothing."""
    seen = {command for _, command, _ in shown}
    for name, command, _ in shown:
        if command not in table["commands"]:
            yield f"{name}: `{command}` has no entry in {TABLE.name}: say how it is checked, or why it is not"
    for command in table["commands"]:
        if command not in seen:
            yield f"{TABLE.name}: the docs no longer show `{command}`: remove its entry"
    firsts = {lines[0] for text in docs.values() for lines in blocks(text)}
    for first in table["printed"]:
        if first not in firsts:
            yield f"{TABLE.name}: no block of the docs begins with `{first}`: remove its entry"


def is_default_run(folder: Path) -> bool:
    """Whether dvc.lock in `folder` says that data/ was made with settings/default.yaml, every parameter of it."""
    if not (folder / "dvc.lock").exists():
        return False
    default = read_yaml(ROOT / "settings" / "default.yaml")
    stages = read_yaml(folder / "dvc.lock")["stages"].values()
    used = {key: value for stage in stages for key, value in stage.get("params", {}).get("params.yaml", {}).items()}
    try:
        return all(reduce(lambda below, part: below[part], key.split("."), default) == used[key] for key in used)
    except KeyError:
        return False


@contextmanager
def trial(folder: Path) -> Iterator[Run]:
    """What runs a command in a copy of `folder`, or there itself, each once: its exit status and all that it prints."""
    work = folder / ".dvc" / "tmp" / "docs-check"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for file in (folder / "dvc.yaml", ROOT / "Makefile"):
        shutil.copy(file, work)
    shutil.copytree(ROOT / "settings", work / "settings")
    shutil.copytree(folder / "data", work / "data", copy_function=os.link, symlinks=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"PATH": path, "PYTHONPATH": str(ROOT), "LEA_CACHE": str(work / "cache"), "COLUMNS": "200"}

    @cache
    def run(command: str, here: bool = False) -> tuple[int, str]:
        shutil.copy(folder / "params.yaml", work)  # `lea use` changes it
        where = folder if here else work
        done = subprocess.run(
            ["bash", "-c", f"({command}) 2>&1"], cwd=where, env={**os.environ, **own}, text=True, stdout=subprocess.PIPE
        )
        return done.returncode, done.stdout.translate(FRAME)

    try:
        yield run
    finally:
        shutil.rmtree(work, ignore_errors=True)


def check_commands(
    table: dict[str, Any], docs: dict[str, str], shown: Sequence[Shown], full: bool, run: Run
) -> Iterator[str]:
    """Each command ends as it should and prints what the docs show."""
    entries = {command: how for command, how in table["commands"].items() if isinstance(how, dict)}
    asked = {command: how.get("run", command) for command, how in entries.items()}
    if not full:
        asked |= {command: how["small"] for command, how in entries.items() if "small" in how}
    for command, how in entries.items():
        status, output = run(asked[command], how.get("here", False))
        if status != how.get("exit", 0):
            yield f"`{command}` ended with {status}:\n{output}"
    found = [(name, lines) for name, text in docs.items() for lines in blocks(text)]
    below = [(name, table["printed"][lines[0]], lines) for name, lines in found if lines[0] in table["printed"]]
    for name, command, lines in [*shown, *below]:
        for line in lines if command in entries else []:
            fault = compare(line, run(asked[command])[1], full, entries[command].get("within", 0.0))
            if line.strip() not in ("", "...") and fault:
                yield f"{name}: of `{command}` the line\n    {line}\n  {fault}"


def check_texts(texts: Iterable[dict[str, Any]], docs: dict[str, str], full: bool, run: Run) -> Iterator[str]:
    """Sentences with numbers that a command prints."""
    for text in texts:
        said = re.search(text["says"], " ".join(docs[text["in"]].split()))
        if not said:
            yield f"{text['in']}: says no longer: {text['says']}"
        elif full:
            output = run(text["run"])[1]
            found = re.search(text["prints"], output)
            allowed = text.get("within", [0.0] * len(said.groups()))
            if not found or not all(map(near, said.groups(), found.groups(), allowed)):
                yield f"{text['in']}: says `{said[0]}`, but `{text['run']}` prints\n{found[0] if found else output}"


def compare(line: str, output: str, full: bool, within: float) -> str:
    """What is wrong with a shown line, as against the output; empty where nothing is."""
    pattern, numbers = pattern_of(line)
    found = [match for other in output.splitlines() if (match := re.search(pattern, other))]
    if not full:
        alike = kinds(line) and kinds(line) in map(kinds, output.splitlines())
        return "" if found or alike else f"does not come:\n{output}"
    for match in found:
        if all(near(own, now, within * unit) for (own, unit), now in zip(numbers, match.groups(), strict=True)):
            return ""
    return f"is now\n    {found[0][0]}" if found else f"does not come:\n{output}"


def pattern_of(line: str) -> tuple[str, list[tuple[str, float]]]:
    """A regular expression for a line with its words and any numbers; its numbers, but for sizes and times.

    Each number stands beside its unit: 100 for a percentage, 1 for any other.
    """
    line = line.translate(FRAME).strip()
    parts, numbers, end = [], [], 0
    for match in re.finditer(NUMBER, line):
        parts.append(_words(line[end : match.start()]))
        timed = UNIT.match(line, match.end())
        parts.append(NUMBER if timed else f"({NUMBER})")
        end = match.end()
        if timed:
            parts.append(r"\s*\S+")  # 980 ms may be 1 s
            end = timed.end()
        else:
            numbers.append((match[0], 100.0 if re.match(" ?%", line[end:]) else 1.0))
    return "".join([*parts, _words(line[end:])]), numbers


def _words(text: str) -> str:
    pieces = re.split(r"(\s+|…|\.\.\.)", text)
    return "".join(
        r"\s*" if piece.isspace() else ".*?" if piece in ("…", "...") else re.escape(piece) for piece in pieces
    )


def kinds(line: str) -> tuple[str, ...] | None:
    """Of a table's line, three columns or more, which are numbers: True for them. None for other lines."""
    cells = [cell for cell in re.split(r"\s{2,}", line.strip()) if cell]
    return tuple("number" if re.match(r"[-+.\d]", cell) else "word" for cell in cells) if len(cells) > 2 else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
