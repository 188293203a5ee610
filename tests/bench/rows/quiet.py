"""A warm invoke after 10 ms in which nothing happened, so that both sides sleep: the price of a wake-up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyfaas

from ..floor import Floor
from ..functions import EVENT, echo
from ..report import Row, duration
from ..sample import Timer, alternate, timed, timed_after_quiet

if TYPE_CHECKING:
    from . import Bench

NAME = "quiet"
QUIET = 0.010
OURS = "pyfaas after 10 ms of quiet"
FLOOR = "C socketpair after 10 ms of quiet"


def measure(bench: Bench) -> list[Row]:
    with Floor() as floor, pyfaas.Runtime() as rt:
        invoke = rt.register("echo", code=echo).invoke
        timed(lambda: invoke(EVENT), 300)
        timers: dict[str, Timer] = {
            OURS: lambda calls: timed_after_quiet(lambda: invoke(EVENT), calls, QUIET),
            FLOOR: lambda calls: floor.sockets(calls, QUIET),
        }
        samples = alternate(timers, bench.calls(), bench.blocks)
    bench.samples += samples.values()
    mine, reference = samples[OURS], samples[FLOOR]
    ratio = mine.p50 / reference.p50
    beside = f"C socketpair, same gaps: {duration(reference.p50)}"
    return [
        Row(
            "warm echo after 10 ms of quiet",
            duration(mine.p50),
            beside,
            ratio,
            "≤ 1.5 ×",
            ratio <= 1.5,
            {"ratio": ratio},
        )
    ]
