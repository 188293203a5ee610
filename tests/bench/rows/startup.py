"""`import pyfaas`, and `Runtime()` to the first result, in fresh interpreters, beside `python -c pass`."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from ..report import Row, duration
from ..sample import Sample, Timer, alternate

if TYPE_CHECKING:
    from collections.abc import Callable

    from . import Bench

NAME = "startup"
FRESH = (sys.executable, "-P", "-c")  # -P: not the pyfaas of the folder that we are in

IMPORT = """
import time
begin = time.perf_counter_ns()
import pyfaas
{touch}
print(time.perf_counter_ns() - begin)
"""

FIRST_RESULT = """
import time
import pyfaas
pyfaas.Runtime

def echo(event, context):
    return event

begin = time.perf_counter_ns()
with pyfaas.Runtime() as rt:
    rt.register("echo", code=echo{parameters}).invoke({{"name": "Ada"}})
    print(time.perf_counter_ns() - begin)
"""


def _inside(code: str) -> Callable[[int], list[int]]:
    """What the code says that it took, in fresh interpreters."""

    def run(calls: int) -> list[int]:
        return [_run(code) for _ in range(calls)]

    return run


def _run(code: str) -> int:
    done = subprocess.run([*FRESH, code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.splitlines() or [f"exit status {done.returncode}"])[-1])
    return int(done.stdout)


def _nothing(calls: int) -> list[int]:
    """What a fresh interpreter takes that does nothing."""
    took = []
    for _ in range(calls):
        begin = time.perf_counter_ns()
        subprocess.run([*FRESH, "pass"], check=True)
        took.append(time.perf_counter_ns() - begin)
    return took


def measure(bench: Bench) -> list[Row]:
    timers: dict[str, Timer] = {
        "python -c pass": _nothing,
        "import pyfaas": _inside(IMPORT.format(touch="")),
        "import pyfaas, and touch Runtime": _inside(IMPORT.format(touch="pyfaas.Runtime")),
        "Runtime() to the first result": _inside(FIRST_RESULT.format(parameters="")),
        "the same with memory=256": _inside(FIRST_RESULT.format(parameters=", memory=256")),
        # What is no plain number has to be validated, which loads the library for it.
        "the same with env={…}": _inside(FIRST_RESULT.format(parameters=", env={'A': 'b'}")),
    }
    samples = alternate(timers, bench.calls(100), bench.blocks)
    bench.samples += samples.values()
    bare = samples.pop("python -c pass")
    return [_row(sample, bare, 30 if name.startswith("import") else 150) for name, sample in samples.items()]


def _row(sample: Sample, bare: Sample, limit_ms: int) -> Row:
    return Row(
        sample.name,
        duration(sample.p50),
        f"python -c pass: {duration(bare.p50)}",
        sample.p50 / bare.p50,
        f"≤ {limit_ms} ms",
        sample.p50 <= limit_ms * 1e6,
        {"p50_ns": sample.p50},
    )
