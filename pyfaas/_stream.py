"""Invocations for each of many events: how many at a time, and in which order their results come."""

from __future__ import annotations

import queue
from collections import deque
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any

from pyfaas._submission import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pyfaas._pool.state import Line

#: What a cold start takes, with a margin, in seconds.
_PATIENCE_COLD = 0.002
#: After how many calls beside each other it is tried whether one after the other is faster: at first, and at most.
_PROBE, _PROBE_MOST = 64, 4096


class Width:
    """How many invocations of a stream run at a time.

    Short calls are over before another instance could have begun: they run one after the other, each looked at for a
    moment. As soon as one takes longer, more and more run beside each other; and after `_PROBE` of them, then after
    twice as many, and so on, it is tried again whether that still pays.

    Args:
        line: Of the function that runs.
        window: How many are begun, at most, before the first of them has to end.
    """

    def __init__(self, line: Line, window: int) -> None:
        self._line = line
        self._window = window
        self._width = 1
        self._interval = self._left = _PROBE

    def alone(self) -> None:
        """Note that a call beside which nothing ran was over at once."""
        if self._width > 1:
            self._width = 1
            self._interval = self._left = _PROBE

    def begun(self, flying: int) -> None:
        """Note that a call was not over at once, and is one of so many."""
        self._left -= 1
        if flying == 1 and self._left < 0:  # all others were waited for, and it did not pay
            self._interval = self._left = min(2 * self._interval, _PROBE_MOST)

    def is_reached(self, flying: int) -> bool:
        """Whether to wait for one before the next begins."""
        return flying >= self._width or self._left <= 0

    def patience(self) -> float | None:
        """Seconds to wait for one until another one pays; `None`: no other one may begin."""
        if self._left <= 0 or self._width >= self._window:
            return None
        return PATIENCE if self._line.idle else _PATIENCE_COLD

    def widen(self) -> None:
        """Note that it took longer than that."""
        self._width = min(2 * self._width, self._window)


class Held:
    """A value whose turn has not come; like a future that is done."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def done(self) -> bool:
        """Yes."""
        return True

    def result(self) -> Any:
        """Return it."""
        return self._value

    def cancel(self) -> bool:
        """Do nothing."""
        return False


def in_order(start: Callable[[Any], Any], events: Iterable[Any], width: Width) -> Iterator[Any]:
    """Yield the results in the order of their events, which may be endless.

    Args:
        start: Begins one: a future, or its value if that is there already.
        events: What to begin it with.
        width: How many at a time.
    """
    flying: deque[Future[Any] | Held] = deque()
    try:
        for event in events:
            got = start(event)
            if isinstance(got, Future):
                flying.append(got)
                width.begun(len(flying))
            elif flying:
                flying.append(Held(got))
            else:
                width.alone()
                yield got
                continue
            while flying and (flying[0].done() or width.is_reached(len(flying))):
                if _is_due(flying[0], width):
                    yield _taken(flying)
        while flying:
            yield _taken(flying)
    finally:
        for future in flying:
            future.cancel()


def _taken(flying: deque[Future[Any] | Held]) -> Any:
    """Wait for the first; it counts as in flight until then, so that an interrupt cancels it with the others."""
    result = flying[0].result()
    flying.popleft()
    return result


def _is_due(first: Future[Any] | Held, width: Width) -> bool:
    """Wait a moment for a call; `False` if another one is to run beside it."""
    patience = width.patience()
    if patience is None or not isinstance(first, Future):
        return True  # its result is waited for
    if wait([first], patience).done:
        return True
    width.widen()
    return False


def as_they_come(start: Callable[[Any], Any], events: Iterable[Any], width: Width) -> Iterator[Any]:
    """Yield the results as they are done; arguments as of `in_order`."""
    done: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
    flying: set[Future[Any]] = set()
    try:
        for event in events:
            got = start(event)
            if not isinstance(got, Future):
                if not flying:
                    width.alone()
                yield got
                continue
            flying.add(got)
            width.begun(len(flying))
            got.add_done_callback(done.put)
            while flying and (not done.empty() or width.is_reached(len(flying))):
                try:
                    future = done.get(timeout=width.patience())
                except queue.Empty:
                    width.widen()
                    continue
                flying.discard(future)
                yield future.result()
        while flying:
            future = done.get()
            flying.discard(future)
            yield future.result()
    finally:
        for future in flying:
            future.cancel()
