"""Draws a report of the benchmark: python tests/bench/plot.py reports/bench.json docs/benchmarks.svg

A bar for each row that was measured beside something else in the same run: how many times slower (to the right, on a
scale of powers of ten) the other one was; to the left of the line it was faster. Ours is the line.
"""

from __future__ import annotations

import argparse
import html
import json
import math
import pathlib
from typing import Any

LEFT, RIGHT, WIDTH = 300, 480, 400  # names, figures, and the bars between them, in pixels
BAR, GAP, TOP, BOTTOM = 18, 10, 64, 54
OURS, THEIRS, SLOWER, INK, FAINT = "#1f6feb", "#8c959f", "#cf222e", "#24292f", "#d8dee4"


def times_slower(row: dict[str, Any]) -> float:
    """How many times longer the other took: `≤` means that `ratio` is ours to its, `≥` the reverse."""
    ratio = float(row["ratio"])
    return ratio if row["target"].startswith("≥") else 1 / ratio


def chart(report: dict[str, Any]) -> str:
    """The picture, as SVG."""
    rows = [row for row in report["rows"] if row["ratio"]]
    if not rows:
        raise SystemExit("this report has no row that was measured beside something else: run more of it")
    exponents = [math.log10(times_slower(row)) for row in rows]
    low, high = min(0, math.floor(min(exponents))), max(1, math.ceil(max(exponents)))
    height = TOP + len(rows) * (BAR + GAP) + BOTTOM
    lines = [_head(report, LEFT + WIDTH + RIGHT, height)]
    bottom = height - BOTTOM
    for power in range(low, high + 1):
        x = _at(power, low, high)
        lines += [
            f'<line x1="{x:.0f}" y1="{TOP - 8}" x2="{x:.0f}" y2="{bottom}" stroke="{FAINT}"/>',
            _text(x, bottom + 16, f"{10.0**power:g} ×", anchor="middle"),
        ]
    for number, (row, exponent) in enumerate(zip(rows, exponents, strict=True)):
        lines += _bar(row, exponent, TOP + number * (BAR + GAP), low, high)
    line = _at(0, low, high)
    lines += [
        f'<line x1="{line:.0f}" y1="{TOP - 8}" x2="{line:.0f}" y2="{bottom}" stroke="{OURS}" stroke-width="3"/>',
        _text(line, TOP - 14, "pyfaas", anchor="middle", colour=OURS),
        _text(LEFT, height - 14, "what the other took, in times of what pyfaas took in the same run"),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _head(report: dict[str, Any], width: int, height: int) -> str:
    machine = report["machine"]
    where = ", ".join(
        str(machine[key]).split("-")[0] for key in ("cpu", "kernel", "python") if machine.get(key)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n'
        + _text(12, 22, where + (" (--quick: not worth quoting)" if report["quick"] else ""))
    )


def _bar(row: dict[str, Any], exponent: float, y: int, low: int, high: int) -> list[str]:
    start, end = sorted((_at(0, low, high), _at(exponent, low, high)))
    colour = THEIRS if exponent >= 0 else SLOWER
    middle = y + BAR - 5
    return [
        f'<rect x="{start:.1f}" y="{y}" width="{max(1.0, end - start):.1f}" height="{BAR}" fill="{colour}"/>',
        _text(LEFT - 10, middle, row["name"], anchor="end"),
        _text(LEFT + WIDTH + 10, middle, f"{row['ours']} | {row['reference']}"),
    ]


def _at(exponent: float, low: int, high: int) -> float:
    return LEFT + WIDTH * (exponent - low) / (high - low)


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = INK) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{colour}">{html.escape(text)}</text>'


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("report", type=pathlib.Path, help="what `run.py --json` wrote")
    parser.add_argument("picture", type=pathlib.Path, help="the SVG to write")
    options = parser.parse_args()
    options.picture.write_text(chart(json.loads(options.report.read_text())))


if __name__ == "__main__":
    main()
