"""What README and docs name exists: links, files and tests; of the lab notebook, which is history, only the links."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
FOLDERS = "lea_core|stages|tests|benchmarks|docs|settings|examples|findings|\\.ci"
FILE = re.compile(rf"(?<![\w./-])(?:{FOLDERS})/[\w./-]*\w")


def anchors(page: Path) -> set[str]:
    """The fragments by which GitHub names the headings of a page."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def lost(page: Path, text: str) -> list[str]:
    """What `text`, lying at `page`, names and the repository does not hold."""
    wrong = []
    for target in LINK.findall(text):
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        if not re.match(r"https?:", target) and (not file.exists() or (anchor and anchor not in anchors(file))):
            wrong.append(target)
    if "lab-notebook" not in str(page):
        prose = re.sub(r"^    .*$|^```[\s\S]*?^```", "", text, flags=re.MULTILINE)
        wrong += [path for path in FILE.findall(LINK.sub("", prose)) if not (ROOT / path).exists()]
        tests = "".join(file.read_text(encoding="utf-8") for file in ROOT.glob("tests/**/test_*.py"))
        wrong += [name for name in re.findall(r"`(test_\w+)`", text) if f"def {name}(" not in tests]
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    assert lost(page, page.read_text(encoding="utf-8")) == []


def test_what_is_lost_is_found() -> None:
    text = """[here](protocol.md#2-ranking-and-metrics), [no page](gone.md), [no heading](protocol.md#gone),
tests/gone.py, `test_gone`, `test_what_is_lost_is_found`, (lea_core/common/errors.py) and settings/default.yaml.

    tests/in_a_block.py
"""
    assert lost(ROOT / "docs" / "results.md", text) == ["gone.md", "protocol.md#gone", "tests/gone.py", "test_gone"]
