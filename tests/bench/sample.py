"""Timings of many calls, taken in blocks that alternate, so that drift of the machine hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

Timer = Callable[[int], list[int]]
"""Takes a number of calls, makes them, returns what each took in nanoseconds."""


@dataclass
class Sample:
    """What one contender took, call by call, in nanoseconds."""

    name: str
    values: list[int] = field(default_factory=list)

    def add(self, values: Iterable[int]) -> None:
        """Append one block of timings."""
        self.values.extend(values)

    def __len__(self) -> int:
        return len(self.values)

    def quantile(self, share: float) -> float:
        """Nanoseconds that `share` (0 to 1) of the calls did not exceed; the nearest rank."""
        ordered = sorted(self.values)
        return float(ordered[min(len(ordered) - 1, int(len(ordered) * share))])

    @property
    def p50(self) -> float:
        """Median, ns."""
        return float(statistics.median(self.values))

    @property
    def p99(self) -> float:
        """99th percentile, ns."""
        return self.quantile(0.99)

    @property
    def mean(self) -> float:
        """Mean, ns."""
        return statistics.fmean(self.values)

    def as_json(self) -> dict[str, object]:
        """Plain data for the report file."""
        return {
            "name": self.name,
            "calls": len(self),
            "p50_ns": self.p50,
            "p99_ns": self.p99,
            "mean_ns": self.mean,
        }


def timed(call: Callable[[], object], count: int) -> list[int]:
    """Make `count` calls, one after the other; what each took, ns."""
    clock = time.perf_counter_ns
    took = []
    for _ in range(count):
        begin = clock()
        call()
        took.append(clock() - begin)
    return took


def timed_after_quiet(call: Callable[[], object], count: int, quiet: float) -> list[int]:
    """As `timed`, each call after `quiet` seconds in which nothing happens."""
    clock = time.perf_counter_ns
    took = []
    for _ in range(count):
        time.sleep(quiet)
        begin = clock()
        call()
        took.append(clock() - begin)
    return took


def alternate(timers: dict[str, Timer], calls: int, blocks: int) -> dict[str, Sample]:
    """Give every timer at least `calls` calls in `blocks` blocks; the order is reversed every other time."""
    samples = {name: Sample(name) for name in timers}
    size = -(-calls // blocks)
    for block in range(blocks):
        order = list(timers) if block % 2 == 0 else list(reversed(timers))
        for name in order:
            samples[name].add(timers[name](size))
    return samples
