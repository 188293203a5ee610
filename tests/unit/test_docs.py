"""What the documentation and the build table name exists."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
FOLDERS = ("pyfaas/", "native/", "tests/", "docs/", "examples/", ".ci/")
EXTENSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"][0]


def named_paths(text: str) -> set[str]:
    """Paths in backquotes: they begin with one of our folders and have no placeholder in them."""
    quoted = re.findall(r"`([^`\s]+)`", text)
    return {path for path in quoted if path.startswith(FOLDERS) and not re.search(r"[<>…{]", path)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_paths_exist(page: Path) -> None:
    missing = [path for path in named_paths(page.read_text()) if not list(ROOT.glob(path))]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_code_map_names_every_module_and_source() -> None:
    text = (ROOT / "docs/code-map.md").read_text()
    paths = named_paths(text)
    covered = {file for path in paths for file in ROOT.glob(path) if file.is_file()}
    ours = {*(ROOT / "pyfaas").rglob("*.py"), *(ROOT / "native").rglob("*.[ch]")}
    wanted = {file for file in ours if file.name != "__init__.py" or file.parent.name == "pyfaas"}
    assert not {str(file.relative_to(ROOT)) for file in wanted - covered}


def test_build_table_names_every_source_and_header() -> None:
    for key, pattern in (("sources", "*.c"), ("depends", "*.h")):
        there = sorted(str(file.relative_to(ROOT)) for file in (ROOT / "native").rglob(pattern))
        assert sorted(EXTENSION[key]) == there


def test_records_are_numbered() -> None:
    numbers = [int(page.name[:4]) for page in sorted((ROOT / "docs/design").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))
