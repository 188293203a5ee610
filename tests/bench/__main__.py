"""Measures pyfaas beside the machine's own floor and beside the process pools, in one run.

    python tests/bench/run.py [--quick] [--million] [--json FILE] [--compare FILE] [--only NAME ...] [--check]

See docs/benchmarks.md for how to read the table.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
from dataclasses import replace

from . import rows
from .machine import Machine, Watch
from .report import Report, Row, compare, not_measured


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a twentieth of the calls: shows that it runs")
    parser.add_argument(
        "--million", action="store_true", help="also make a million invocations and look for growth"
    )
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the report to FILE")
    parser.add_argument(
        "--compare", type=pathlib.Path, metavar="FILE", help="name what is over 5 %% worse than in FILE"
    )
    parser.add_argument(
        "--only", action="append", choices=rows.MODULES, metavar="NAME", help=", ".join(rows.MODULES)
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    return parser.parse_args()


def _measure(name: str, bench: rows.Bench) -> list[Row]:
    """The rows of one module; a module that fails costs its own rows, not the run."""
    begin = time.monotonic()
    try:
        return rows.load(name).measure(bench)
    except Exception as problem:  # any failure at all: the others are still worth having
        return [not_measured(name, f"{type(problem).__name__}: {problem}")]
    finally:
        print(f"  {name}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)


def _peers(report: Report) -> str:
    """The pools in full, ours among them, where they were measured."""
    if not report.peers:
        return ""
    titles = list(dict.fromkeys(title for figures in report.peers.values() for title in figures))
    lines = ["", f"{'pool':42}" + "".join(f"{title:>14}" for title in titles)]
    for name, figures in report.peers.items():
        lines.append(f"{name:42}" + "".join(f"{figures.get(title, ''):>14}" for title in titles))
    return "\n".join(lines)


def main() -> int:
    options = _arguments()
    bench = rows.Bench(quick=options.quick, million=options.million or options.only == ["million"])
    report = Report(Machine.here(), options.quick)
    watch = Watch()
    for name in options.only or rows.MODULES:
        report.rows += _measure(name, bench)
    report.machine = replace(report.machine, foreign_load_meanwhile=round(watch.foreign_load(), 2))
    report.peers, report.samples = bench.peers, bench.samples
    print(report)
    print(_peers(report))
    if options.compare:
        print(
            "\n".join(
                [
                    "",
                    "worse than before by more than 5 %:",
                    *(compare(report, options.compare) or ["nothing"]),
                ]
            )
        )
    if options.json:  # after the comparison, which may be with what this file says now
        options.json.write_text(report.as_json())
    return (
        1
        if options.check
        and (report.missed or any(row.ours.startswith("not measured") for row in report.rows))
        else 0
    )


if __name__ == "__main__":
    sys.exit(main())
