"""A warm `fn.invoke` of an echo, back to back, beside the process pools."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pyfaas

from .. import peers
from ..functions import EVENT, echo
from ..report import Row, duration
from ..sample import Sample, Timer, alternate, timed

if TYPE_CHECKING:
    from . import Bench

NAME = "warm"
WARM_UP = 300
OURS = "pyfaas"


def ours(calls: int) -> list[int]:
    """A block of ours. It opens a Runtime, as a peer's opens a pool: nothing else is alive then."""
    with pyfaas.Runtime() as rt:
        invoke = rt.register("echo", code=echo).invoke
        timed(lambda: invoke(EVENT), WARM_UP)
        return timed(lambda: invoke(EVENT), calls)


def theirs(module: str, variant: str, calls: int) -> list[int]:
    """A block of a peer."""
    with peers.opened(module, variant) as pool:
        timed(lambda: pool.call(EVENT), WARM_UP)
        return timed(lambda: pool.call(EVENT), calls)


def contenders(bench: Bench) -> dict[str, Timer]:
    """Timers of the installed peers in all their variants; a missing one is noted."""
    found: dict[str, Timer] = {}
    for module in peers.MODULES:
        name = peers.load(module).NAME
        try:
            theirs(module, "1 worker", 1)
        except ImportError:
            bench.note(name, **{"call p50": "not installed"})
            continue
        for variant in peers.VARIANTS:
            found[f"{name}, {variant}"] = functools.partial(theirs, module, variant)
    return found


def measure(bench: Bench) -> list[Row]:
    samples = alternate({OURS: ours, **contenders(bench)}, bench.calls(4000), bench.blocks)
    bench.samples += samples.values()
    for sample in sorted(samples.values(), key=lambda sample: sample.p50):
        bench.note(sample.name, **{"call p50": duration(sample.p50), "call p99": duration(sample.p99)})
    mine = samples.pop(OURS)
    return _rows(mine, min(samples.values(), key=lambda sample: sample.p50))


def _rows(mine: Sample, fastest: Sample) -> list[Row]:
    ratio = fastest.p50 / mine.p50
    beside = f"{fastest.name}: {duration(fastest.p50)}"
    tail = f"{fastest.name}: {duration(fastest.p99)}"
    return [
        Row(
            "warm echo, p50",
            duration(mine.p50),
            "absolute",
            None,
            "≤ 5 µs",
            mine.p50 <= 5e3,
            {"p50_ns": mine.p50},
        ),
        Row("warm echo, times faster", duration(mine.p50), beside, ratio, "≥ 15 ×", ratio >= 15),
        Row(
            "warm echo, p99",
            duration(mine.p99),
            tail,
            None,
            "≤ 25 µs",
            mine.p99 <= 25e3,
            {"p99_ns": mine.p99},
        ),
    ]
