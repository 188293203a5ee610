"""From no instance to 200 that are all at work, beside as many bare forks of the same process that have all begun."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pyfaas

from ..report import Row, duration
from ..sample import Sample

if TYPE_CHECKING:
    from . import Bench

NAME = "busy"
LIMIT = 2.0
COUNT = 200
HOLD_S = 3

#: Says when its handler was entered, by the clock that all processes share.
NAP = """
import time

def handler(event, context):
    entered = time.monotonic_ns()
    time.sleep(event)
    return entered
"""

#: Forks children that say a byte when they run; the answer is how long it took until the last had.
FORKS = """
import os, signal, time

def handler(event, context):
    if not event:
        return
    ready, say = os.pipe()
    pids = []
    begin = time.perf_counter_ns()
    for _ in range(event["count"]):
        pid = os.fork()
        if pid == 0:
            os.write(say, b"x")
            signal.pause()
        pids.append(pid)
    there = 0
    while there < len(pids):
        there += len(os.read(ready, 4096))
    took = time.perf_counter_ns() - begin
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    os.close(ready)
    os.close(say)
    return took
"""


def measure(bench: Bench) -> list[Row]:
    ours, forks = Sample(f"0 to {COUNT} busy instances"), Sample(f"{COUNT} bare forks, ready")
    for _ in range(bench.calls(100) // 10):
        forks.add([_forked()])
        ours.add([_busy()])
    bench.samples += [ours, forks]
    ratio = ours.p50 / forks.p50
    beside = f"{forks.name}: {duration(forks.p50)}"
    return [
        Row(ours.name, duration(ours.p50), beside, ratio, f"≤ {LIMIT:g} ×", ratio <= LIMIT, {"ratio": ratio})
    ]


def _forked() -> int:
    with pyfaas.Runtime() as rt:
        fn = rt.register("forks", code=pyfaas.Source(FORKS), handler="handler", timeout=60)
        fn.invoke({})
        return int(fn.invoke({"count": COUNT}))


def _busy() -> int:
    with pyfaas.Runtime(max_concurrency=COUNT) as rt:
        fn = rt.register("busy", code=pyfaas.Source(NAP), handler="handler", timeout=60, reuse=1)
        fn.invoke(0)  # its init has run; its instance has gone
        begin = time.monotonic_ns()
        entered = [call.result() for call in [fn.submit(HOLD_S) for _ in range(COUNT)]]
        took: int = max(entered) - begin
        if max(entered) - min(entered) > HOLD_S * 1e9:
            raise RuntimeError("the first had ended before the last began")
    return took
