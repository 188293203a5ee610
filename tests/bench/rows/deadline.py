"""How long after the deadline a hanging call is killed and reported."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pyfaas

from ..report import Row, duration
from ..sample import Sample

if TYPE_CHECKING:
    from . import Bench

NAME = "deadline"
TIMEOUT = 0.1

HANG = """
import signal

def handler(event, context):
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    while True:
        pass
"""


def measure(bench: Bench) -> list[Row]:
    late = Sample("after the deadline")
    with pyfaas.Runtime() as rt:
        fn = rt.register("hang", code=pyfaas.Source(HANG), handler="handler", timeout=TIMEOUT)
        fn.call(
            {}
        )  # makes the template; from here on each call starts an instance, as its predecessor was killed
        for _ in range(bench.calls(200)):
            begin = time.perf_counter_ns()
            outcome = fn.call({})
            took = time.perf_counter_ns() - begin
            if not isinstance(outcome.error, pyfaas.FunctionTimeout):
                raise RuntimeError(f"expected FunctionTimeout, got {outcome!r}")
            late.add([took - int(TIMEOUT * 1e9)])
    bench.samples.append(late)
    # The worst, not the median: a deadline is a promise. A cold start is included.
    worst = max(late.values)
    beside = f"deadline of {TIMEOUT:g} s, worst of {len(late)}; p50 {duration(late.p50)}"
    return [
        Row(
            "timeout: killed and reported after",
            duration(worst),
            beside,
            None,
            "≤ 20 ms",
            worst <= 20e6,
            {"p50_ns": late.p50},
        )
    ]
