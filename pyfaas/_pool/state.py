"""What the pool decides: a pure state machine. It starts nothing, waits for nothing and reads no clock.

The pool calls it under its lock and does, after the lock, what the returned decisions say. All fairness and every
limit is here, so that all of it can be tested without a process.

Only the way of nearly every invocation takes no lock: `Line.take` and `Line.give` (native/bindings/line.c) are one step
each under the GIL. So whatever is decided here tolerates that an idle slot is taken meanwhile, and whoever begins to
wait looks once more afterwards: `give` takes the long way as soon as somebody waits.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

from pyfaas import _native
from pyfaas._observe.statistics import Counters

if TYPE_CHECKING:
    from collections.abc import Sequence


class SlotState(Enum):
    """Life cycle of an instance, as the pool sees it."""

    BUSY = "busy"
    IDLE = "idle"
    DEAD = "dead"


class Slot:
    """The place of one instance in its line. `Instance` is a slot with a process."""

    __slots__ = ("__weakref__", "dead", "idle_since_ns", "line", "uses")

    def __init__(self, line: Line) -> None:
        self.line = line
        self.dead = False
        self.uses = 0  # counted only where they are limited
        self.idle_since_ns = 0

    @property
    def state(self) -> SlotState:
        """Where it is in its life."""
        if self.dead:
            return SlotState.DEAD
        return SlotState.IDLE if self in self.line.idle else SlotState.BUSY

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state.value}>"


class Line(_native.WarmLine):
    """Everything that waits for, or runs, one version of one function. What is idle: the one used last is next."""

    __slots__ = ("counters", "idle_timeout_ns", "name", "retired", "reuse", "starting", "waiting")

    def __init__(
        self,
        name: str,
        turnstile: _native.Turnstile,
        *,
        reuse: int | None = None,
        idle_timeout_ns: int | None = None,
    ) -> None:
        super().__init__(turnstile)
        self.name = name
        self.reuse = reuse
        self.idle_timeout_ns = idle_timeout_ns
        self.direct = reuse is None and idle_timeout_ns is None
        self.starting = 0  # those of the busy ones that have no process yet
        self.waiting: deque[Any] = deque()
        self.retired = False
        self.counters = Counters()

    def count_served(self) -> Counters:
        """Return the counters, with what the short way has counted."""
        self.counters.invocations += self.take_served()
        return self.counters

    def __repr__(self) -> str:
        state = " retired" if self.retired else ""
        return f"<Line {self.name} idle={len(self.idle)} busy={self.busy} waiting={len(self.waiting)}{state}>"


@dataclass(frozen=True, slots=True)
class Run:
    """Give this warm instance to that waiter."""

    slot: Slot
    waiter: Any


@dataclass(frozen=True, slots=True)
class Start:
    """Start an instance in this line for that waiter."""

    line: Line
    waiter: Any


@dataclass(frozen=True, slots=True)
class Stop:
    """End this instance."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class Close:
    """Nothing runs or waits in this retired line any more: end its processes."""

    line: Line


Decision: TypeAlias = Run | Start | Stop | Close


class QueueFull(Exception):
    """More would wait than may."""


class PoolState:
    """Who runs what. `concurrency` is how many instances may be busy, `max_queue` how many invocations may wait.

    >>> state = PoolState(concurrency=1, max_queue=10)
    >>> line = Line("greet", state.turnstile)
    >>> state.ask(line, "first")
    Start(line=<Line greet idle=0 busy=1 waiting=0>, waiter='first')
    >>> state.ask(line, "second") is None  # it waits
    True
    >>> state
    <PoolState busy=1/1 waiting=1>
    """

    def __init__(self, *, concurrency: int, max_queue: int) -> None:
        self.turnstile = _native.Turnstile(concurrency)
        self.max_queue = max_queue
        self._hungry: deque[Line] = deque()  # lines in which somebody waits, each once, served in turn

    @property
    def busy(self) -> int:
        """How many instances are busy, or about to be."""
        return self.turnstile.inside

    @property
    def waiting(self) -> int:
        """How many invocations wait."""
        return self.turnstile.waiting

    def ask(self, line: Line, waiter: Any) -> Run | Start | None:
        """Serve a waiter at once, or (`None`) put it at the end of the line.

        Raises:
            QueueFull: Everybody is busy and `max_queue` invocations wait already.
        """
        slot = line.take()
        if slot is not None:
            return Run(slot, waiter)
        if not line.waiting and line.enter():
            line.starting += 1
            return Start(line, waiter)
        if self.waiting >= self.max_queue:
            line.counters.throttled()
            raise QueueFull
        if not line.waiting:
            self._hungry.append(line)
        line.waiting.append(waiter)
        self.turnstile.waiting += 1
        if self.waiting > 1:
            return None
        decisions = self._serve()  # one may have left just before it could know that somebody waits
        return decisions[0] if decisions else None

    def withdraw(self, line: Line, waiter: Any) -> bool:
        """Take a waiter out of its line; `False` if it is not there (any more)."""
        try:
            line.waiting.remove(waiter)
        except ValueError:
            return False
        self._left(line)
        return True

    def has_started(self, line: Line) -> None:
        """Note that a started instance has a process."""
        line.starting -= 1

    def give_back(
        self, slot: Slot, now_ns: int, *, error: bool = False, cold: bool = False
    ) -> Sequence[Decision]:
        """Note that an instance has ended an invocation with a reply; return what follows."""
        if slot.dead:
            raise AssertionError(f"{slot!r} cannot become idle")
        line = slot.line
        line.counters.ended(error=error, cold=cold)
        slot.uses += 1
        line.leave()
        if line.retired or (line.reuse is not None and slot.uses >= line.reuse):
            slot.dead = True
            return [Stop(slot), *self._serve(), *self._closing(line)]
        slot.idle_since_ns = now_ns
        line.put(slot)
        return self._serve()

    def lost(self, slot: Slot) -> list[Decision]:
        """Note that an instance is gone, or never came; return what follows."""
        if slot.dead:
            return []
        line = slot.line
        if not line.remove(slot):
            line.leave()
        slot.dead = True
        return [*self._serve(), *self._closing(line)]

    def lost_in_idleness(self, slot: Slot) -> list[Decision] | None:
        """Note that an idle instance is gone; `None` if it is not idle: whoever uses it finds out by himself."""
        if not slot.line.remove(slot):
            return None
        slot.dead = True
        return self._closing(slot.line)

    def refused(self, line: Line) -> list[Decision]:
        """Note that an instance could not be started at all; return what follows."""
        line.starting -= 1
        line.leave()
        return [*self._serve(), *self._closing(line)]

    def retire(self, line: Line) -> list[Decision]:
        """Let a line end: its idle instances at once, the others after their work, what waits is still served."""
        line.retired = True
        line.direct = False
        return self._closing(line)

    def expire(self, line: Line, now_ns: int) -> tuple[list[Decision], int | None]:
        """Stop what has been idle for too long; return that, and when to look again."""
        if line.idle_timeout_ns is None:
            return [], None
        old = [slot for slot in line.idle if now_ns - slot.idle_since_ns >= line.idle_timeout_ns]
        stops = self._stop(line, old)
        left = line.idle
        return stops, left[0].idle_since_ns + line.idle_timeout_ns if left else None

    def abandon(self) -> list[Any]:
        """Empty all lines; return those who waited."""
        waiters = [waiter for line in self._hungry for waiter in line.waiting]
        for line in self._hungry:
            line.waiting.clear()
        self._hungry.clear()
        self.turnstile.waiting = 0
        return waiters

    def _stop(self, line: Line, slots: Sequence[Slot]) -> list[Decision]:
        stops: list[Decision] = []
        for slot in slots:
            if line.remove(slot):  # or it has been taken meanwhile
                slot.dead = True
                stops.append(Stop(slot))
        return stops

    def _left(self, line: Line) -> None:
        self.turnstile.waiting -= 1
        if not line.waiting:
            self._hungry.remove(line)

    def _serve(self) -> list[Run | Start]:
        """Serve those who wait, line after line in turn, so that a flood of one function starves no other."""
        decisions: list[Run | Start] = []
        while self._hungry:
            line = self._hungry[0]
            slot = line.take()
            if slot is None and not line.enter():
                break
            self._hungry.rotate(-1)
            waiter = line.waiting.popleft()
            self._left(line)
            if slot is not None:
                decisions.append(Run(slot, waiter))
            else:
                line.starting += 1
                decisions.append(Start(line, waiter))
        return decisions

    def _closing(self, line: Line) -> list[Decision]:
        if not line.retired or line.waiting:
            return []
        stops = self._stop(line, line.idle)
        return stops if line.busy else [*stops, Close(line)]

    def __repr__(self) -> str:
        return f"<PoolState busy={self.busy}/{self.turnstile.limit} waiting={self.waiting}>"
