"""What the machine can do at all: C, two processes, no Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..floor import Floor
from ..report import Row, duration
from ..sample import Sample, Timer, alternate

if TYPE_CHECKING:
    from . import Bench

NAME = "floor"


def measure(bench: Bench) -> list[Row]:
    with Floor() as floor:
        timers: dict[str, Timer] = {
            "C ping-pong, shared memory, spinning": floor.spin,
            "C ping-pong, socketpair, two CPUs": floor.sockets,
        }
        samples = alternate(timers, bench.calls(20_000), bench.blocks)
    bench.samples += samples.values()
    return [_row(sample) for sample in samples.values()]


def _row(sample: Sample) -> Row:
    return Row(
        sample.name, duration(sample.p50), f"p99 {duration(sample.p99)}", figures={"p50_ns": sample.p50}
    )
