"""The table and the JSON: what we took, what the reference took in the same run, and the verdict."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pathlib

    from .machine import Machine
    from .sample import Sample

SCALE = {"ns": 1.0, "µs": 1e3, "ms": 1e6, "s": 1e9}


def duration(nanoseconds: float) -> str:
    """A duration with three digits and the unit that suits it: `341 ns`, `4.21 µs`."""
    for unit, scale in SCALE.items():
        if nanoseconds < 1000 * scale or unit == "s":
            break
    value = nanoseconds / scale
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"


@dataclass(frozen=True)
class Row:
    """One line of the table. `met` is None where there is no target or nothing could be measured."""

    name: str
    ours: str
    reference: str = ""
    ratio: float | None = None
    target: str = ""
    met: bool | None = None
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """`pass`, `MISS`, or nothing."""
        return "" if self.met is None else "pass" if self.met else "MISS"


def not_measured(name: str, why: str) -> Row:
    """The line of something that could not be measured here, with the reason."""
    return Row(name, f"not measured: {why}")


@dataclass
class Report:
    """Everything that one run found out."""

    machine: Machine
    quick: bool
    rows: list[Row] = field(default_factory=list)
    peers: dict[str, dict[str, str]] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)

    @property
    def missed(self) -> list[Row]:
        """The rows whose target was not met."""
        return [row for row in self.rows if row.met is False]

    def as_json(self) -> str:
        """The whole report, for a file that a later run is compared with."""
        return json.dumps(
            {
                "machine": self.machine.as_json(),
                "quick": self.quick,
                "rows": [{**vars(row), "verdict": row.verdict} for row in self.rows],
                "peers": self.peers,
                "samples": [sample.as_json() for sample in self.samples],
            },
            indent=1,
            ensure_ascii=False,
        )

    def __str__(self) -> str:
        lines = [str(self.machine), ""]
        header = ("what", "ours", "measured beside it in this run", "ratio", "target", "")
        cells = [header] + [
            (
                row.name,
                row.ours,
                row.reference,
                "" if row.ratio is None else f"{row.ratio:.2f} ×",
                row.target,
                row.verdict,
            )
            for row in self.rows
        ]
        # A long reason in the second column of a row without a reference must not widen the column for all.
        widths = [max(len(line[i]) for line in cells if i == 0 or line[2]) for i in range(len(header))]
        for line in cells:
            right = {1, 3}
            lines.append(
                "  ".join(
                    cell.rjust(width) if i in right and line[2] else cell.ljust(width)
                    for i, (cell, width) in enumerate(zip(line, widths, strict=True))
                ).rstrip()
            )
        lines.insert(3, "-" * (sum(widths) + 2 * (len(widths) - 1)))
        if self.quick:
            lines += ["", "--quick: too few calls for figures worth quoting; it shows that everything runs."]
        if not self.machine.quiet:
            lines += ["", "This machine was not idle: do not record these figures."]
        return "\n".join(lines)


def compare(report: Report, earlier: pathlib.Path, tolerance: float = 0.05) -> list[str]:
    """One line for each figure that got worse by more than `tolerance` since the report in `earlier`."""
    before = {row["name"]: row["figures"] for row in json.loads(earlier.read_text())["rows"]}
    worse = []
    for row in report.rows:
        for figure, value in row.figures.items():
            was = before.get(row.name, {}).get(figure)
            if was and value > was * (1 + tolerance):
                more = value / was - 1
                worse.append(f"{row.name}: {figure} was {was:.3g}, is {value:.3g} (+{more:.0%})")
    return worse
