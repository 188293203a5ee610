"""A million invocations: what the host holds afterwards, beside what it held before (only with --million)."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import pyfaas

from .. import processes
from ..functions import EVENT, echo
from ..report import Row

if TYPE_CHECKING:
    from . import Bench

NAME = "million"
MB = 1 << 20


def measure(bench: Bench) -> list[Row]:
    if not bench.million:
        return []
    calls = bench.calls(1_000_000)
    with pyfaas.Runtime(max_concurrency=1) as rt:  # `map` starts another instance when one is late: no leak
        fn = rt.register("echo", code=echo)
        _run(fn, calls // 20)
        before = (
            processes.resident_bytes(),
            processes.descriptors(),
            processes.threads(),
            len(processes.tree()),
        )
        begin = time.monotonic()
        _run(fn, calls)
        seconds = time.monotonic() - begin
        after = (
            processes.resident_bytes(),
            processes.descriptors(),
            processes.threads(),
            len(processes.tree()),
        )
    grown = after[0] - before[0]
    flat = abs(grown) <= 5 * MB and after[1:] == before[1:]
    kinds = zip(("descriptors", "threads", "processes"), before[1:], after[1:], strict=True)
    beside = ", ".join(f"{kind} {was} → {now}" for kind, was, now in kinds)
    name = f"{calls:,} invocations in {seconds:.0f} s"
    return [
        Row(
            name,
            f"{grown / MB:+.2f} MB",
            beside,
            None,
            "± 5 MB, else the same",
            flat,
            {"bytes": float(grown)},
        )
    ]


def _run(fn: pyfaas.Function[Any], calls: int) -> None:
    """Half of the calls by `invoke`, half by `map`."""
    for _ in range(calls // 2):
        fn.invoke(EVENT)
    deque(fn.map(EVENT for _ in range(calls - calls // 2)), maxlen=0)
