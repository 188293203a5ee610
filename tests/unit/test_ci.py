"""CI's verdict: what makes it red."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

SUMMARY = Path(__file__).parents[2] / ".ci/summary.py"
PASSED = '<testcase classname="c" name="a"/>'
FAILED = '<testcase classname="c" name="b"><failure message="x"/></testcase>'
BROKEN = '<testcase classname="c" name="b"><error message="x"/></testcase>'


@pytest.fixture
def summary() -> ModuleType:
    spec = importlib.util.spec_from_file_location("summary", SUMMARY)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def skipped(reason: str, kind: str = "pytest.skip") -> str:
    return f'<testcase classname="c" name="s"><skipped type="{kind}" message="{reason}"/></testcase>'


@pytest.mark.parametrize(
    ("cases", "line", "status"),
    [
        ([PASSED, PASSED], "2 passed, 0 failed", 0),
        ([PASSED, FAILED], "1 passed, 1 failed", 1),
        ([PASSED, BROKEN], "1 passed, 1 failed", 1),
        ([PASSED, skipped("this machine: no landlock")], "1 passed, 0 failed", 0),
        ([PASSED, skipped("Skipped: needs root")], "1 passed, 0 failed", 0),
        ([PASSED, skipped("did not feel like it")], "1 passed, 1 failed", 1),
        ([PASSED, skipped("known", "pytest.xfail")], "1 passed, 0 failed", 0),
    ],
)
def test_verdict(
    summary: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    cases: list[str],
    line: str,
    status: int,
) -> None:
    write(tmp_path, cases)
    assert summary.main(tmp_path, []) == status
    assert capsys.readouterr().out.splitlines()[-1] == line


def write(folder: Path, cases: list[str]) -> None:
    (folder / "tests.xml").write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")


def test_no_results_are_no_success(summary: ModuleType, tmp_path: Path) -> None:
    assert summary.main(tmp_path, []) == 1


def test_failed_step_is_a_failure(summary: ModuleType, tmp_path: Path) -> None:
    write(tmp_path, [PASSED])
    assert summary.main(tmp_path, ["as_documented"]) == 1


def test_sessions_without_single_results_count(
    summary: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, [PASSED])
    sessions = [
        {"name": "tests", "result": "success", "result_code": 1},
        {"name": "types", "result": "success", "result_code": 1},
        {"name": "lint", "result": "failed", "result_code": 0},
    ]
    (tmp_path / "nox.json").write_text(json.dumps({"sessions": sessions}))
    assert summary.main(tmp_path, []) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "2 passed, 1 failed"
