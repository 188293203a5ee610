"""CPU of a Runtime with 100 warm instances to which nobody talks."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pyfaas

from .. import processes
from ..functions import image
from ..report import Row

if TYPE_CHECKING:
    from . import Bench

NAME = "idle"
INSTANCES = 100
SETTLE = 1.0


def warm_up(rt: pyfaas.Runtime, fn: pyfaas.Function[Any], count: int) -> None:
    """Have `count` instances at once, by that many calls that overlap; after this they are idle."""
    for seconds in (0.5, 2, 5):
        for waiting in [fn.submit({"seconds": seconds}) for _ in range(count)]:
            waiting.result(timeout=60)
        if rt.statistics().functions[fn.name].idle >= count:
            return
    raise RuntimeError(f"could not get {count} idle instances: {rt.statistics().functions[fn.name]}")


def measure(bench: Bench) -> list[Row]:
    seconds = 3 if bench.quick else 10
    with pyfaas.Runtime(max_concurrency=INSTANCES) as rt:
        fn = rt.register("idle", code=pyfaas.Source(image()), handler="handler", timeout=30)
        warm_up(rt, fn, INSTANCES)
        time.sleep(SETTLE)
        pids = processes.tree()
        # The host is read last and then first, so that reading the others is not counted.
        others, host = processes.cpu_ns(pids), processes.cpu_ns([os.getpid()])
        begin = time.perf_counter_ns()
        time.sleep(seconds)
        host = processes.cpu_ns([os.getpid()]) - host
        others = processes.cpu_ns(pids) - others
        share = (host + others) / (time.perf_counter_ns() - begin)
        idle = rt.statistics().functions["idle"].idle
    beside = (
        f"nothing: 0 (host {host / 1e6:.2f} ms, {len(pids)} processes {others / 1e6:.2f} ms in {seconds} s)"
    )
    ours = f"{share:.4%}"
    return [
        Row(
            f"idle, {idle} warm instances, of one CPU",
            ours,
            beside,
            None,
            "< 0.1 %",
            share < 0.001,
            {"share": share},
        )
    ]
