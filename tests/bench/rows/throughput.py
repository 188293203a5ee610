"""`submit` of 10,000 calls, then all results; and `map` of as many: one item per message everywhere."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pyfaas

from .. import peers
from ..functions import EVENT, echo
from ..report import Row
from ..sample import Sample

if TYPE_CHECKING:
    from . import Bench

NAME = "throughput"
Run = Callable[[Sequence[object]], object]
OURS = "pyfaas"


def _ours(events: Sequence[object], samples: dict[str, Sample]) -> None:
    with pyfaas.Runtime() as rt:
        fn = rt.register("echo", code=echo)

        def submit_all(events: Sequence[object]) -> None:
            for waiting in [fn.submit(event) for event in events]:
                waiting.result()

        _both(OURS, submit_all, lambda events: deque(fn.map(events), maxlen=0), events, samples)


def _theirs(module: str, variant: str, events: Sequence[object], samples: dict[str, Sample]) -> None:
    name = f"{peers.load(module).NAME}, {variant}"
    with peers.opened(module, variant) as pool:
        _both(name, pool.submit_all, pool.map, events, samples)


def _both(
    name: str, submit_all: Run, map_all: Run, events: Sequence[object], samples: dict[str, Sample]
) -> None:
    """One warm-up, then one timing of each, per item."""
    for title, run in (("submit", submit_all), ("map", map_all)):
        run(events[: max(50, len(events) // 10)])
        begin = time.perf_counter_ns()
        run(events)
        took = (time.perf_counter_ns() - begin) // len(events)
        samples.setdefault(f"{title}: {name}", Sample(f"{title}: {name}")).add([took])


def measure(bench: Bench) -> list[Row]:
    events = [EVENT] * bench.calls(10_000)
    samples: dict[str, Sample] = {}
    for _ in range(1 if bench.quick else 3):
        _ours(events, samples)
        for module in peers.MODULES:
            for variant in peers.VARIANTS:
                with contextlib.suppress(ImportError):  # the row `warm` names the missing ones
                    _theirs(module, variant, events, samples)
    bench.samples += samples.values()
    for name, sample in samples.items():
        title, _, peer = name.partition(": ")
        bench.note(peer, **{title: _rate(sample)})
    executors = [sample for name, sample in samples.items() if name.startswith("submit: ProcessPoolExecutor")]
    mappers = [sample for name, sample in samples.items() if name.startswith("map: ") and OURS not in name]
    return [
        _row("submit of 10,000, then all results", samples[f"submit: {OURS}"], executors, 5),
        _row("map of small events", samples[f"map: {OURS}"], mappers, 3),
    ]


def _rate(sample: Sample) -> str:
    return f"{1e6 / sample.p50:.1f} k/s"


def _row(name: str, mine: Sample, others: list[Sample], times: int) -> Row:
    best = min(others, key=lambda sample: sample.p50)
    ratio = best.p50 / mine.p50
    beside = f"{best.name.partition(': ')[2]}: {_rate(best)}"
    return Row(name, _rate(mine), beside, ratio, f"≥ {times} ×", ratio >= times, {"ns_per_item": mine.p50})
