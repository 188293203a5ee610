"""A clock that moves when told, and what every clock promises."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_EPOCH_NS = 1_700_000_000 * 10**9
_PATIENCE_S = 5.0


class VirtualClock:
    """A clock that stands still until `advance`; then timers and waits that are due fire, in order of time.

    >>> clock = VirtualClock()
    >>> fired = []
    >>> timer = clock.call_at(clock.monotonic_ns() + 2_000_000_000, lambda: fired.append("two seconds"))
    >>> clock.advance(1.5)
    >>> fired
    []
    >>> clock.advance(0.5)
    >>> fired
    ['two seconds']
    """

    def __init__(self, start_ns: int = 10**9) -> None:
        self._lock = threading.RLock()
        self._arrived = threading.Condition(self._lock)
        self._now_ns = start_ns
        self._wall_offset_ns = _EPOCH_NS - start_ns
        self._timers: list[_VirtualTimer] = []
        self._waits: list[_Wait] = []

    def monotonic_ns(self) -> int:
        """Time in ns since some start; moves with `advance`."""
        return self._now_ns

    def wall_ns(self) -> int:
        """Time since 1970-01-01 UTC in ns; moves with `advance`."""
        return self._now_ns + self._wall_offset_ns

    def wait(self, condition: threading.Condition, deadline_ns: int | None) -> bool:
        """Wait on a condition whose lock is held, until notified or `advance` passed the deadline."""
        with self._lock:
            if deadline_ns is not None and deadline_ns <= self._now_ns:
                return False
            wait = _Wait(condition, deadline_ns)
            self._waits.append(wait)
            self._arrived.notify_all()
        try:
            condition.wait()
        finally:
            with self._lock:
                self._waits.remove(wait)
        return deadline_ns is None or self._now_ns < deadline_ns

    def call_at(self, when_ns: int, call: Callable[[], object]) -> _VirtualTimer:
        """Make a call when `advance` reaches a time, in the thread that advances; at once if passed."""
        timer = _VirtualTimer(when_ns, call, self._timers, self._lock)
        with self._lock:
            self._timers.append(timer)
            self._timers.sort(key=lambda one: one.when_ns)
        if when_ns <= self._now_ns:
            self.advance(0)
        return timer

    def advance(self, seconds: float) -> None:
        """Let time pass; whatever becomes due happens on the way, each thing at its own time."""
        with self._lock:
            target_ns = self._now_ns + round(seconds * 1e9)
        while (timer := self._pop_due(target_ns)) is not None:
            timer.call()
        with self._lock:
            self._now_ns = max(self._now_ns, target_ns)
            due = [
                one for one in self._waits if one.deadline_ns is not None and one.deadline_ns <= self._now_ns
            ]
        for wait in due:
            with wait.condition:
                wait.condition.notify_all()

    def _pop_due(self, target_ns: int) -> _VirtualTimer | None:
        with self._lock:
            if not self._timers or self._timers[0].when_ns > target_ns:
                return None
            timer = self._timers.pop(0)
            self._now_ns = max(self._now_ns, timer.when_ns)
            return timer

    def wait_for_waiters(self, count: int = 1) -> None:
        """Block, in real time, until so many threads wait on this clock: then `advance` meets them all."""
        with self._lock:
            if not self._arrived.wait_for(lambda: len(self._waits) >= count, _PATIENCE_S):
                raise TimeoutError(
                    f"{len(self._waits)} of {count} threads wait on the clock after {_PATIENCE_S} s"
                )


class _Wait:
    __slots__ = ("condition", "deadline_ns")

    def __init__(self, condition: threading.Condition, deadline_ns: int | None) -> None:
        self.condition = condition
        self.deadline_ns = deadline_ns


class _VirtualTimer:
    __slots__ = ("_lock", "_timers", "call", "when_ns")

    def __init__(
        self, when_ns: int, call: Callable[[], object], timers: list[_VirtualTimer], lock: threading.RLock
    ) -> None:
        self.when_ns = when_ns
        self.call = call
        self._timers = timers
        self._lock = lock

    def cancel(self) -> None:
        """Do not call, unless it has begun."""
        with self._lock:
            if self in self._timers:
                self._timers.remove(self)


class ClockContract:
    """What every clock promises. Subclass it in a test module and give it `clock` and `pass_time`."""

    def clock(self) -> Any:
        """Return a new clock."""
        raise NotImplementedError

    def pass_time(self, clock: Any, seconds: float) -> None:
        """Let so much time pass on the clock, or return at once if it passes by itself."""
        raise NotImplementedError

    def test_monotonic_never_goes_back(self) -> None:
        """Two readings are in order."""
        clock = self.clock()
        before = clock.monotonic_ns()
        self.pass_time(clock, 0.001)
        assert clock.monotonic_ns() >= before

    def test_wall_is_after_2020(self) -> None:
        """Wall time is the epoch's, in ns."""
        assert self.clock().wall_ns() > 1_577_836_800 * 10**9

    def test_timers_fire_in_order(self) -> None:
        """The earlier timer fires first, whichever was set first."""
        clock, fired, done = self.clock(), list[str](), threading.Event()
        now = clock.monotonic_ns()
        clock.call_at(now + 6_000_000, done.set)
        clock.call_at(now + 4_000_000, lambda: fired.append("late"))
        clock.call_at(now + 2_000_000, lambda: fired.append("early"))
        self.pass_time(clock, 0.008)
        assert done.wait(_PATIENCE_S)
        assert fired == ["early", "late"]

    def test_passed_timer_fires_at_once(self) -> None:
        """A time in the past is due now."""
        clock, done = self.clock(), threading.Event()
        clock.call_at(clock.monotonic_ns() - 1, done.set)
        assert done.wait(_PATIENCE_S)

    def test_cancelled_timer_does_not_fire(self) -> None:
        """Neither the cancelled one nor a second cancel does anything."""
        clock, fired, done = self.clock(), list[str](), threading.Event()
        now = clock.monotonic_ns()
        timer = clock.call_at(now + 100_000_000, lambda: fired.append("cancelled"))
        clock.call_at(now + 102_000_000, done.set)
        timer.cancel()  # with a margin: a machine may be slow
        timer.cancel()
        self.pass_time(clock, 0.103)
        assert done.wait(_PATIENCE_S)
        assert fired == []

    def test_wait_ends_at_the_deadline(self) -> None:
        """`wait` returns False when the deadline has passed, before or while waiting."""
        clock, condition, results = self.clock(), threading.Condition(), list[bool]()
        deadline_ns = clock.monotonic_ns() + 2_000_000

        def wait() -> None:
            with condition:
                results.append(clock.wait(condition, deadline_ns))

        thread = threading.Thread(target=wait)
        thread.start()
        getattr(clock, "wait_for_waiters", lambda: None)()
        self.pass_time(clock, 0.005)
        thread.join(_PATIENCE_S)
        wait()
        assert results == [False, False]

    def test_wait_ends_when_notified(self) -> None:
        """`wait` returns True when notified, with a deadline and without."""
        clock, condition = self.clock(), threading.Condition()
        for deadline_ns in (None, clock.monotonic_ns() + 10**12):
            go, results = list[bool](), list[bool]()

            def wait(deadline_ns: int | None = deadline_ns, go: Any = go, results: Any = results) -> None:
                with condition:
                    while not go:
                        results.append(clock.wait(condition, deadline_ns))

            thread = threading.Thread(target=wait)
            thread.start()
            with condition:
                go.append(True)
                condition.notify_all()
            thread.join(_PATIENCE_S)
            assert not thread.is_alive()
            assert results in ([], [True])


__all__ = ["ClockContract", "VirtualClock"]
