"""The one clock: what reads the time, waits, or wants to be called later is given one of these.

`pyfaas.testing` has the other implementation, `VirtualClock`, and `ClockContract`: what both promise.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import threading
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer(Protocol):
    """A call that is due; `cancel` takes it back."""

    def cancel(self) -> None:
        """Do not call, unless it has begun. Cancelling twice, or after the call, does nothing."""
        ...


class Clock(Protocol):
    """Time, in nanoseconds."""

    def monotonic_ns(self) -> int:
        """Time that never goes back, the same for all processes of this machine: the scale of deadlines."""
        ...

    def wall_ns(self) -> int:
        """Time since 1970-01-01 UTC: only to show to people."""
        ...

    def wait(self, condition: threading.Condition, deadline_ns: int | None) -> bool:
        """Wait on a condition whose lock is held, until notified or the deadline has passed.

        Returns `False` if the deadline has passed. `True` is a hint, as of any condition: check, wait again.
        """
        ...

    def call_at(self, when_ns: int, call: Callable[[], object]) -> Timer:
        """Make a call, which must not block or raise, at a time of `monotonic_ns`, in some other thread.

        Raises:
            BlockingIOError: There can be no other thread now.
        """
        ...


class SystemClock:
    """The machine's clock. Its timers share one thread, which exists only while one is due.

    >>> clock = SystemClock()
    >>> clock.monotonic_ns() <= clock.monotonic_ns()
    True
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[_SystemTimer] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None

    def monotonic_ns(self) -> int:
        """See `Clock`."""
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        """See `Clock`."""
        return time.time_ns()

    def wait(self, condition: threading.Condition, deadline_ns: int | None) -> bool:
        """See `Clock`."""
        if deadline_ns is None:
            return condition.wait()
        left = (deadline_ns - time.monotonic_ns()) / 1e9
        return condition.wait(min(left, threading.TIMEOUT_MAX)) if left > 0 else False

    def call_at(self, when_ns: int, call: Callable[[], object]) -> Timer:
        """See `Clock`."""
        with self._changed:
            timer = _SystemTimer(self, when_ns, next(self._order), call)
            heapq.heappush(self._due, timer)
            try:
                self._ensure_thread()
            except RuntimeError as error:  # whoever asked hears it, and the next one tries again
                self._drop(timer)
                text = "no thread for timers can be started; the limit of processes is reached (ulimit -u)"
                raise BlockingIOError(errno.EAGAIN, text) from error
            self._changed.notify()
        return timer

    def _ensure_thread(self) -> None:
        if self._thread is None and self._due:
            thread = threading.Thread(target=self._run, name="pyfaas-timers", daemon=True)
            thread.start()
            self._thread = thread

    def _cancel(self, timer: _SystemTimer) -> None:
        with self._changed:
            if timer in self._due:
                self._drop(timer)
                self._changed.notify()

    def _drop(self, timer: _SystemTimer) -> None:
        self._due.remove(timer)
        heapq.heapify(self._due)

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._due and self.wait(self._changed, self._due[0].when_ns):
                    pass
                if not self._due:
                    self._thread = None
                    return
                timer = heapq.heappop(self._due)
            try:
                timer.call()
            except BaseException:
                # A call that raises is a bug and ends this thread, loudly; the others go on in a new one.
                with self._changed:
                    self._thread = None
                    self._ensure_thread()
                raise


class _SystemTimer:
    __slots__ = ("_clock", "call", "order", "when_ns")

    def __init__(self, clock: SystemClock, when_ns: int, order: int, call: Callable[[], object]) -> None:
        self._clock = clock
        self.when_ns = when_ns
        self.order = order
        self.call = call

    def cancel(self) -> None:
        self._clock._cancel(self)

    def __lt__(self, other: _SystemTimer) -> bool:
        return (self.when_ns, self.order) < (other.when_ns, other.order)


__all__ = ["Clock", "SystemClock", "Timer"]
