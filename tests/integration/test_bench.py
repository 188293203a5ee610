"""The benchmark starts, says what it cannot measure, and writes what it measured."""

from __future__ import annotations

import json
import math
import pathlib
import subprocess
import sys
from xml.etree import ElementTree

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


def test_the_plot_shows_each_row_with_a_ratio(tmp_path: pathlib.Path) -> None:
    rows = [
        {
            "name": "slower <peer>",
            "ours": "1 µs",
            "reference": "pool: 20 µs",
            "ratio": 20.0,
            "target": "≥ 15 ×",  # noqa: RUF001
        },
        {"name": "floor", "ours": "3 µs", "reference": "C: 2 µs", "ratio": 1.5, "target": "≤ 1.5 ×"},  # noqa: RUF001
        {"name": "alone", "ours": "1 s", "reference": "", "ratio": None, "target": "≤ 2 s"},
    ]
    report, picture = tmp_path / "report.json", tmp_path / "plot.svg"
    report.write_text(json.dumps({"machine": {"cpu": "a & b"}, "quick": False, "rows": rows}))
    command = [sys.executable, str(RUN.with_name("plot.py")), str(report), str(picture)]
    subprocess.run(command, check=True, timeout=60)
    root = ElementTree.parse(picture).getroot()
    bars = [bar for bar in root.iter("{http://www.w3.org/2000/svg}rect") if bar.get("height") == "18"]
    assert len(bars) == 2
    line = 300 + 400 / 3  # of -1 … 2 in powers of ten
    assert float(bars[0].get("x", 0)) == pytest.approx(line, abs=0.1)
    assert float(bars[0].get("width", 0)) == pytest.approx(400 / 3 * math.log10(20), abs=0.1)
    assert float(bars[1].get("x", 0)) + float(bars[1].get("width", 0)) == pytest.approx(line, abs=0.2)
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "slower <peer>" in texts
    assert "3 µs | C: 2 µs" in texts
    assert "alone" not in texts


def test_wrong_option() -> None:
    done = bench("--only", "everything")
    assert done.returncode == 2
    assert "choose from" in done.stderr
