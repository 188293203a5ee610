"""Analyses every module of Python's standard library in worker processes, and survives what goes wrong.

    python examples/quickstart.py [--limit N] [--workers N]

Real input that every machine has: some 700 files. Two more calls misbehave on purpose: one never returns, one
crashes its process. In a process pool the first would block a worker for ever and the second would break the
pool; here each costs exactly its own call. Exit status 0 means that all went as expected.
"""

from __future__ import annotations

import argparse
import ast
import collections
import ctypes
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import threading
import time
from typing import TYPE_CHECKING, Any

import pyfaas

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

WIDTH = 100
TIMEOUT = 5  # seconds; the largest module takes well under one
HANGS, CRASHES = "(hangs on purpose)", "(crashes on purpose)"
EXPECTED = {HANGS: "FunctionTimeout", CRASHES: "InstanceCrashed"}


# --- What runs in the workers ---------------------------------------------------------------------
# A plain function with AWS Lambda's signature. It ships by value, with the functions and the imports that it
# uses: no file of ours has to be readable in the worker.


def analyse(event: dict[str, str], context: Any) -> dict[str, Any]:
    """Cyclomatic complexity of each function in the module, and how many lines it has."""
    print("analysing", event["module"])  # the host gets this with the outcome, also if we crash
    if event["module"] == HANGS:
        threading.Event().wait()
    if event["module"] == CRASHES:
        ctypes.string_at(0)  # reads address 0: the process dies, there is no exception to catch
    functions = [
        {"name": node.name, "lines": (node.end_lineno or 0) - node.lineno + 1, "complexity": complexity(node)}
        for node in ast.walk(ast.parse(event["text"]))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return {"module": event["module"], "lines": event["text"].count("\n"), "functions": functions}


def complexity(function: ast.AST) -> int:
    """McCabe's number: one, and one more for each way that the control flow can branch."""
    branches = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.comprehension)
    total = 1
    for node in ast.walk(function):
        if isinstance(node, ast.BoolOp):
            total += len(node.values) - 1
        elif isinstance(node, branches):
            total += 1
    return total


# --- The host -------------------------------------------------------------------------------------


def modules(limit: int | None) -> list[dict[str, str]]:
    """An event for each module of the standard library, text included; not of tests and packages."""
    root = pathlib.Path(sysconfig.get_path("stdlib"))
    skip = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
    names = [path.relative_to(root) for path in sorted(root.rglob("*.py"))]
    names = [name for name in names if not skip & set(name.parts)][:limit]
    return [{"module": str(name), "text": (root / name).read_text("utf-8", "replace")} for name in names]


def in_workers(events: list[dict[str, str]], workers: int) -> tuple[list[pyfaas.Outcome[Any]], float]:
    """The outcomes in the order in which they arrived, and the seconds that all of it took."""
    begin = time.perf_counter()
    # One instance more than work at a time: the one that hangs waits, it does not work.
    with pyfaas.Runtime(max_concurrency=workers + 1) as rt:
        function = rt.register("analyse", code=analyse, memory=512, timeout=TIMEOUT)
        # ordered=False: the hanging call holds nothing up. outcomes=True: a failure does not raise.
        outcomes = list(progress(function.map(events, ordered=False, outcomes=True), len(events)))
    return outcomes, time.perf_counter() - begin


def alone(limit: int | None) -> float:
    """Seconds that one fresh Python process needs for the same analysis without pyfaas."""
    command = [sys.executable, __file__, "--alone", *(["--limit", str(limit)] if limit else [])]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def progress(items: Iterable[Any], total: int) -> Iterator[Any]:
    """Hand the items on and show how many came: a bar with rich, else one line, or few in a log."""
    terminal = sys.stderr.isatty()
    if terminal:
        try:
            from rich.console import Console
            from rich.progress import track
        except ImportError:
            pass  # the plain line below will do
        else:
            yield from track(items, "analysing", total=total, console=Console(stderr=True))
            return
    shown = range(1, total + 1) if terminal else {total * tenth // 10 for tenth in range(1, 11)}
    for count, item in enumerate(items, 1):
        if count in shown:
            line = f"analysing {count}/{total}"
            end = "\n" if count == total or not terminal else ""
            print(f"\r{line}" if terminal else line, end=end, file=sys.stderr, flush=True)
        yield item


# --- The report -----------------------------------------------------------------------------------


def main() -> int:
    """Run it all; 0 if every module was analysed and just the two bad calls failed, each in its way."""
    options = arguments()
    events = modules(options.limit)
    if options.alone:
        begin = time.perf_counter()
        for event in events:
            analyse(event, None)
        sys.stdout.write(f"{time.perf_counter() - begin}\n")
        return 0
    # The bad ones go first, so that the timeout of the one that hangs passes while the others are analysed.
    bad = [{"module": name, "text": ""} for name in EXPECTED]
    outcomes, seconds = in_workers([*bad, *events], options.workers)
    print_results([outcome.value for outcome in outcomes if outcome.value is not None])
    failures = print_failures([outcome for outcome in outcomes if not outcome.ok])
    print_timing(outcomes, seconds, alone(options.limit), options.workers)
    as_expected = failures == EXPECTED and len(outcomes) == len(events) + len(bad)
    print("\nAll as expected." if as_expected else f"\nNOT as expected: only {EXPECTED} should have failed.")
    return 0 if as_expected else 1


def print_results(results: list[dict[str, Any]]) -> None:
    functions = [(result["module"], function) for result in results for function in result["functions"]]
    lines = sum(result["lines"] for result in results)
    heading(f"{len(results)} modules, {lines:,} lines, {len(functions):,} functions")
    for key, title in (("complexity", "most complex functions"), ("lines", "longest functions")):
        print(f"\n  {title:<68}{'complexity':>15}{'lines':>15}")
        for module, function in sorted(functions, key=lambda pair: pair[1][key], reverse=True)[:10]:
            name = f"{module}: {function['name']}"
            print(f"  {name[:66]:<68}{function['complexity']:>15}{function['lines']:>15}")


def print_failures(failed: list[pyfaas.Outcome[Any]]) -> dict[str, str]:
    """Print the failures by class; return the class for each module, which its own log names."""
    by_class = collections.defaultdict(list)
    for outcome in failed:
        module = outcome.logs.partition("analysing ")[2].partition("\n")[0]
        by_class[type(outcome.error).__name__].append((module, outcome.error))
    heading(f"{len(failed)} failures")
    for name, members in by_class.items():
        print(f"  {name}: {len(members)}")
        for module, error in members:
            print(f"    {module}: {without_id(error)}"[:WIDTH])
    return {module: name for name, members in by_class.items() for module, _ in members}


def print_timing(outcomes: list[pyfaas.Outcome[Any]], seconds: float, single: float, workers: int) -> None:
    reports = [outcome.report for outcome in outcomes if outcome.report]
    durations = sorted(outcome.report.duration_ms for outcome in outcomes if outcome.report and outcome.ok)
    cold = sum(report.cold for report in reports)
    heading("time")
    for what, value in (
        ("calls", f"{cold} cold, {len(reports) - cold} warm"),
        (
            "duration of a call",
            f"p50 {quantile(durations, 0.5):.1f} ms, p99 {quantile(durations, 0.99):.1f} ms",
        ),
        (f"all, {workers} at a time", f"{seconds:.2f} s, with the {TIMEOUT} s of the call that hangs"),
        ("one process alone", f"{single:.2f} s, without the two bad calls, which would end it"),
    ):
        print(f"  {what:<22}{value}")


def without_id(error: pyfaas.PyFaasError | None) -> str:
    """The text without the id of the invocation, with which AWS Lambda's own texts begin."""
    return re.sub(r"^RequestId: \S+ Error: ", "", str(error))


def heading(text: str) -> None:
    print(f"\n-- {text} ".ljust(WIDTH + 1, "-"))


def quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    cpus = os.cpu_count() or 1
    parser.add_argument("--limit", type=positive, metavar="N", help="analyse only the first N modules")
    parser.add_argument("--workers", type=positive, metavar="N", default=cpus, help="how many at a time")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)  # see alone()
    return parser.parse_args()


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


if __name__ == "__main__":
    sys.exit(main())
