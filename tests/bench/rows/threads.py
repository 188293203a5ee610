"""`fn.invoke` from eight threads at once, beside the same from one: does a crowd cost throughput?"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pyfaas

from ..functions import EVENT, echo
from ..report import Row
from ..sample import alternate

if TYPE_CHECKING:
    from . import Bench

NAME = "threads"
THREADS = 8
ONE, MANY = "one thread", f"{THREADS} threads"


def _block(fn: pyfaas.Function[Any], threads: int, calls: int) -> list[int]:
    """Make so many calls in all; what each took of the time of all, ns: one figure."""
    share = -(-calls // threads)
    ready, go = threading.Barrier(threads + 1), threading.Event()

    def work() -> None:
        ready.wait()
        go.wait()
        for _ in range(share):
            fn.invoke(EVENT)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    ready.wait()
    begin = time.perf_counter_ns()
    go.set()
    for worker in workers:
        worker.join()
    return [(time.perf_counter_ns() - begin) // (share * threads)]


def measure(bench: Bench) -> list[Row]:
    calls = bench.calls(20_000)
    with pyfaas.Runtime() as rt:
        fn = rt.register("echo", code=echo)
        _block(fn, THREADS, 400)  # all instances are there
        timers = {
            ONE: lambda blocks: [took for _ in range(blocks) for took in _block(fn, 1, calls)],
            MANY: lambda blocks: [took for _ in range(blocks) for took in _block(fn, THREADS, calls)],
        }
        samples = alternate(timers, bench.blocks, bench.blocks)
    bench.samples += samples.values()
    one, many = samples[ONE], samples[MANY]
    ratio = one.p50 / many.p50
    return [
        Row(
            f"invoke from {THREADS} threads, total",
            f"{1e6 / many.p50:.1f} k/s",
            f"from one thread: {1e6 / one.p50:.1f} k/s",
            ratio,
            "≥ 1 ×",
            ratio >= 1,
            {"ns_per_call": many.p50},
        )
    ]
