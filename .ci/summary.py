"""Add up the results in a folder; fail on failures, on steps that failed, and on skips that need not be.

A test may be skipped only for a reason that begins with one of `EXCUSES`: what this machine cannot do.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

EXCUSES = ("this machine:", "needs root")
PYTEST_SESSIONS = {"tests", "integration", "leaks"}


def main(folder: Path, steps: list[str]) -> int:
    """Print what happened, the totals last, and return the exit status."""
    total: Counter[str] = Counter()
    inexcusable = []
    for report in sorted(folder.glob("*.xml")):
        counts, skips = read(report)
        print(f"{report.stem}: {', '.join(f'{number} {what}' for what, number in counts.items())}")
        total += counts
        inexcusable += [f"{report.stem}: {skip}" for skip in skips]
    # Sessions without a report of single tests (types, lint, native) count as one each.
    for session in nox_sessions(folder / "nox.json"):
        if session["name"] not in PYTEST_SESSIONS:
            total["passed" if session["result_code"] == 1 else "failed"] += 1
            print(f"{session['name']}: {session['result']}")
    for skip in inexcusable:
        print(f"Skipped, though this machine could run it: {skip}")
    if not (folder / "tests.xml").exists():
        inexcusable.append("no results of the unit tests")
    failed = total["failed"] + len(inexcusable)
    if steps and not failed:
        failed = len(steps)
    print(f"{total['passed']} passed, {failed} failed")
    return 1 if failed else 0


def read(report: Path) -> tuple[Counter[str], list[str]]:
    """Count one report's tests, and find the skips without an excuse."""
    counts: Counter[str] = Counter(passed=0, failed=0)
    skips = []
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - written by our own pytest
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            counts["failed"] += 1
        elif skipped is None:
            counts["passed"] += 1
        elif skipped.get("type") == "pytest.xfail":
            counts["expected to fail"] += 1
        else:
            counts["skipped"] += 1
            reason = (skipped.get("message") or "").removeprefix("Skipped: ")
            if not reason.startswith(EXCUSES):
                skips.append(f"{case.get('classname')}::{case.get('name')}: {reason}")
    return counts, skips


def nox_sessions(report: Path) -> list[dict[str, object]]:
    """What nox reported of its sessions."""
    if not report.exists():
        return []
    sessions: list[dict[str, object]] = json.loads(report.read_text())["sessions"]
    return sessions


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
