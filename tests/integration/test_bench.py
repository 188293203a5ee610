"""The benchmark starts, says what it cannot measure, and writes what it measured."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration

RUN = pathlib.Path(__file__).parents[1] / "bench" / "run.py"


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RUN), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_report(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "report.json"
    done = bench("--quick", "--only", "deadline", "--only", "floor", "--json", str(file))
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    row = report["rows"][0]
    assert row["name"] in done.stdout
    assert row["target"] == "≤ 20 ms"
    assert row["verdict"] == ("pass" if row["met"] else "MISS")
    assert {sample["name"] for sample in report["samples"]} >= {"after the deadline"}
    # A figure that was better before is named.
    for figure in row["figures"]:
        row["figures"][figure] /= 100
    file.write_text(json.dumps(report))
    compared = bench("--quick", "--only", "deadline", "--compare", str(file))
    assert "timeout: killed and reported after: p50_ns was" in compared.stdout


def test_what_cannot_be_measured_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    done = bench("--quick", "--only", "floor", "--check")
    assert "not measured: FloorMissing: no C compiler" in done.stdout
    assert done.returncode == 1


def test_wrong_option() -> None:
    done = bench("--only", "everything")
    assert done.returncode == 2
    assert "choose from" in done.stderr
