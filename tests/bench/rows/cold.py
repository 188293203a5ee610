"""A cold start, from the call to the first result, beside fork + exit + wait of the same process image."""

from __future__ import annotations

import importlib.util
import time
from typing import TYPE_CHECKING, Any

import pyfaas

from ..functions import image
from ..report import Row, duration, not_measured
from ..sample import Sample

if TYPE_CHECKING:
    from . import Bench

NAME = "cold"
LIMIT = 1.3
BLOCK = 10


def measure(bench: Bench) -> list[Row]:
    rows = _measure(bench, "bare", "")
    if importlib.util.find_spec("numpy") is None:
        return [*rows, not_measured("cold start, numpy imported", "numpy is not installed")]
    return rows + _measure(bench, "numpy imported", "import numpy")


def _measure(bench: Bench, title: str, imports: str) -> list[Row]:
    code = pyfaas.Source(image(imports))
    paced, forks = Sample(f"cold start, {title}"), Sample(f"fork + exit + wait, {title}")
    burst = Sample(f"cold start back to back, {title}")
    with pyfaas.Runtime() as rt:
        # The reference forks inside a worker of the same code: the same page tables and mappings.
        reference = rt.register("reference", code=code, handler="handler", memory=512, reuse=None)
        cold = rt.register("cold", code=code, handler="handler", memory=512, reuse=1)
        for _ in range(5):
            reference.invoke({"forks": BLOCK})
            cold.invoke({})
        for _ in range(-(-bench.calls() // BLOCK)):
            forks.add(reference.invoke({"forks": BLOCK}))
            paced.add(_cold_starts(rt, cold, BLOCK, pause=True))
            burst.add(_cold_starts(rt, cold, BLOCK, pause=False))
    bench.samples += [paced, forks, burst]
    ratio, rate = paced.p50 / forks.p50, burst.mean / forks.mean
    beside = f"os.fork + exit + wait: {duration(forks.p50)}"
    mean = f"os.fork + exit + wait, mean: {duration(forks.mean)}"
    return [
        Row(paced.name, duration(paced.p50), beside, ratio, f"≤ {LIMIT} ×", ratio <= LIMIT, {"ratio": ratio}),
        Row(burst.name, duration(burst.mean), mean, rate),
    ]


def _cold_starts(rt: pyfaas.Runtime, cold: pyfaas.Function[Any], count: int, *, pause: bool) -> list[int]:
    """Times of `count` calls that each make their instance; with `pause`, after the last one has gone."""
    took = []
    for _ in range(count):
        if pause:
            _wait_gone(rt, cold.name)
        before = rt.statistics().functions[cold.name].cold_starts
        begin = time.perf_counter_ns()
        cold.invoke({})
        took.append(time.perf_counter_ns() - begin)
        if rt.statistics().functions[cold.name].cold_starts == before:
            raise RuntimeError("a call with reuse=1 was no cold start: an instance was kept ready")
    return took


def _wait_gone(rt: pyfaas.Runtime, name: str) -> None:
    """Wait until the function has no instance, and a little more, so that it takes no CPU from the next."""
    deadline = time.monotonic() + 5
    while True:
        now = rt.statistics().functions[name]
        if now.starting + now.idle + now.busy == 0:
            break
        if time.monotonic() > deadline:
            raise RuntimeError(f"instances remain 5 s after the call: {now}")
        time.sleep(0.0005)
    time.sleep(0.002)
