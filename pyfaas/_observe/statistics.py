"""Counters of what ended, and the snapshot that puts them beside what is going on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyfaas.model import FunctionStatistics, Statistics

if TYPE_CHECKING:
    from collections.abc import Mapping


class Counters:
    """What ended, for one function. Not locked: its owner counts under the lock that it decides under.

    >>> counters = Counters()
    >>> counters.ended(error=False, cold=True)
    >>> counters.ended(error=True)
    >>> counters.throttled()
    >>> counters
    <Counters invocations=2 errors=1 throttles=1 cold_starts=1>
    >>> counters.snapshot(idle=1).invocations
    2
    """

    __slots__ = ("cold_starts", "errors", "invocations", "throttles")

    def __init__(self) -> None:
        self.invocations = 0
        self.errors = 0
        self.throttles = 0
        self.cold_starts = 0

    def ended(self, *, error: bool, cold: bool = False) -> None:
        """Count an invocation that ended, and whether by an error, and whether on a new instance."""
        self.invocations += 1
        self.errors += error
        self.cold_starts += cold

    def throttled(self) -> None:
        """Count an invocation that was refused."""
        self.throttles += 1

    def snapshot(
        self, *, starting: int = 0, idle: int = 0, busy: int = 0, queued: int = 0
    ) -> FunctionStatistics:
        """Return the counters beside the numbers of now, which the pool knows."""
        return FunctionStatistics(
            starting=starting,
            idle=idle,
            busy=busy,
            queued=queued,
            invocations=self.invocations,
            errors=self.errors,
            throttles=self.throttles,
            cold_starts=self.cold_starts,
        )

    def __repr__(self) -> str:
        return f"<Counters {' '.join(f'{name}={getattr(self, name)}' for name in _ORDER)}>"


_ORDER = ("invocations", "errors", "throttles", "cold_starts")


def snapshot(functions: Mapping[str, FunctionStatistics]) -> Statistics:
    """Return one immutable value of all functions, by name.

    >>> snapshot({"greet": FunctionStatistics(busy=1)}).busy
    1
    """
    return Statistics(dict(sorted(functions.items())))


__all__ = ["Counters", "snapshot"]
