"""The command line as a whole: what the base install can do, help pages, tables on a narrow screen."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from rich.text import Text

from lea_core.cli import app, command
from lea_core.cli.printing import fitting, print_table
from lea_core.common.errors import DEBUG, LeaError
from tests.support.lane import PARAMS, change_params

ROOT = Path(__file__).parents[2]
BASE = {"numpy", "pyarrow", "rich", "safetensors", "torch", "typer"}


def names(demands: list[str]) -> set[str]:
    """Top packages that are imported, of a list of demands."""
    return {re.split(r"[<>=\[.]", demand)[0] for demand in demands}


def test_extras() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert names(project["dependencies"]) == BASE
    extras = project["optional-dependencies"]
    assert not names(extras["train"]) & BASE
    assert {"pydantic", "dvc", "transformers", "ruamel"} <= names(extras["train"])


BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
from lea_core.cli import command
from lea_core.common.errors import LeaError
for line in sys.argv[1:]:
    try:
        command(line.split())
        print(line, "->", 0)
    except LeaError as error:
        print(line, "->", error)
    except SystemExit as leaving:
        print(line, "->", leaving.code)
"""


def test_the_base_install(tmp_path: Path) -> None:
    """Without the packages of the extra: help, doctor, and one line from each command of the pipeline."""
    train = names(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["train"])
    train -= {"pydantic"}  # Typer brings it
    (tmp_path / "params.yaml").write_text("dataset: {}\n")
    (tmp_path / "dvc.lock").write_text("stages: {}\n")
    able = ["--help", "recommend --help", "doctor"]
    unable = ["check", "use params.yaml", "tune", "forecast", "inspect --user 1"]
    absent = ["info", "recommend", "report"]
    program = BLOCKED.format(packages=train)
    done = subprocess.run(
        [sys.executable, "-c", program, *able, *unable, *absent],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "LEA_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    status = dict(re.findall(r"^(.*) -> (.*)$", done.stdout, re.MULTILINE))
    assert {line: status[line] for line in able} == dict.fromkeys(able, "0")
    for line in unable:
        said = r"this needs the pipeline: pip install 'lea-recommender\[train\]' \(there is no \w+\)"
        assert re.fullmatch(said, status[line])
    for line in absent:  # they get as far as the folder, which is not there
        assert "manifest.json" in status[line] or "data/report/table.csv: not found" in status[line]
    assert len(re.findall(r"needs the pipeline.*\n? +-> pip install 'lea-recommender\[train\]'", done.stdout)) == 2


def test_help_is_quick_and_whole() -> None:
    """No torch for a help page; every command has examples; the extra's brackets are no markup."""
    code = "import sys, lea_core.cli; assert not {'torch', 'pyarrow', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    for known in app.registered_commands:
        assert f"lea {known.callback.__name__.replace('_', '-')}" in str(known.epilog)  # type: ignore[union-attr]
    assert any("lea-recommender\\[train]" in str(known.rich_help_panel) for known in app.registered_commands)


def test_version_and_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    command(["--version"])
    assert capsys.readouterr().out.startswith("lea")
    command([])
    screen = capsys.readouterr().out
    assert "Exit status: 0 done" in screen
    assert "pip install 'lea-recommender[train]'" in screen


@pytest.mark.parametrize("line", ["--debug info nowhere", "info --debug nowhere", "info nowhere --debug"])
def test_debug(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setenv(DEBUG, "0")
    with pytest.raises(LeaError, match="no policy folder"):
        command(line.split())
    assert os.environ[DEBUG] == "1"


@pytest.mark.parametrize(
    ("repeats", "mask_seen", "words"),
    [
        (True, True, "warning: params.yaml: Users may take an item again .* is a miss whatever .* new items .*"),
        (False, False, "warning: params.yaml: Users do not take an item again .* stay in the ranking .* protocol .*"),
        (True, False, ""),
        (False, True, ""),
    ],
)
def test_a_ranking_unlike_the_data_is_said_early(
    repeats: bool,
    mask_seen: bool,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(PARAMS, tmp_path / "params.yaml")
    change_params(tmp_path, {"preprocess.repeats": repeats, "evaluate.mask_seen": mask_seen})
    monkeypatch.chdir(tmp_path)
    command(["check"])
    said = capsys.readouterr().err
    assert re.fullmatch(words, said.rstrip("\n"))
    assert said.count("\n") == (repeats is mask_seen)


HEADER = ["variant", "LE", "NDCG@10"]
ROWS = [["supervised-items-frozen", "ranking + items", "0.1123"], ["recent_popularity", "all", "-"]]


def test_fitting() -> None:
    # 23, 15 and 7 letters, 10 of borders and blanks: 55 are enough, and 54 take one from the widest
    assert fitting(HEADER, ROWS, 2, 55) == {0: 23, 1: 15}
    assert fitting(HEADER, ROWS, 2, 54) == {0: 22, 1: 15}
    assert fitting(HEADER, ROWS, 2, 45) == {0: 14, 1: 14}
    assert fitting(HEADER, ROWS, 2, 10) == {0: 11, 1: 7}  # "supervised-", "ranking": no piece is cut
    assert fitting(HEADER, [[Text("long " * 9), "all", "-"]], 2, 10) == {1: 3}  # a text of the data, which may be cut


def test_no_name_is_cut(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_table("[bold]Title[/]", HEADER, ROWS, left=2)
    screen = capsys.readouterr().out
    assert "…" not in screen
    assert "[bold]Title[/]" in screen
    assert max(map(len, screen.splitlines())) <= 40
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in screen.splitlines() if line.startswith("│")]
    assert "".join(cell[0] for cell in cells) == "supervised-items-frozenrecent_popularity"
