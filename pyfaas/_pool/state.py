"""What the pool decides: a pure state machine. It starts nothing, waits for nothing and reads no clock.

The pool calls it under its lock and does, after the lock, what the returned decisions say. All fairness and every
limit is here, so that all of it can be tested without a process.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

from pyfaas._observe.statistics import Counters

if TYPE_CHECKING:
    from collections.abc import Sequence


class SlotState(Enum):
    """Life cycle of an instance, as the pool sees it."""

    BUSY = "busy"
    IDLE = "idle"
    DEAD = "dead"


#: From each state to which: an instance is born busy, for the invocation that asked for it.
TRANSITIONS = {
    SlotState.BUSY: {SlotState.IDLE, SlotState.BUSY, SlotState.DEAD},
    SlotState.IDLE: {SlotState.BUSY, SlotState.DEAD},
    SlotState.DEAD: set[SlotState](),
}


#: An enum's members are looked up slowly, and these are needed twice for each invocation.
BUSY, IDLE = SlotState.BUSY, SlotState.IDLE


class Slot:
    """The place of one instance in its line. `Instance` is a slot with a process."""

    __slots__ = ("idle_since_ns", "line", "state", "uses")

    def __init__(self, line: Line) -> None:
        self.line = line
        self.state = SlotState.BUSY
        self.uses = 0
        self.idle_since_ns = 0

    def become(self, state: SlotState) -> None:
        """Change state, if the table allows it."""
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"{self!r} cannot become {state.value}")
        self.state = state

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state.value} uses={self.uses}>"


class Line:
    """Everything that waits for, or runs, one version of one function."""

    __slots__ = (
        "busy",
        "counters",
        "idle",
        "idle_timeout_ns",
        "name",
        "retired",
        "reuse",
        "starting",
        "waiting",
    )

    def __init__(self, name: str, *, reuse: int | None = None, idle_timeout_ns: int | None = None) -> None:
        self.name = name
        self.reuse = reuse
        self.idle_timeout_ns = idle_timeout_ns
        self.idle: list[Slot] = []  # the one used last is used next: it is warm, and the others may go
        self.busy = 0
        self.starting = 0  # those of the busy ones that have no process yet
        self.waiting: deque[Any] = deque()
        self.retired = False
        self.counters = Counters()

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
    >>> line = Line("greet")
    >>> state.ask(line, "first")
    Start(line=<Line greet idle=0 busy=1 waiting=0>, waiter='first')
    >>> state.ask(line, "second") is None  # it waits
    True
    >>> state
    <PoolState busy=1/1 waiting=1>
    """

    def __init__(self, *, concurrency: int, max_queue: int) -> None:
        self.concurrency = concurrency
        self.max_queue = max_queue
        self.busy = 0
        self.waiting = 0
        self._hungry: deque[Line] = deque()  # lines in which somebody waits, each once, served in turn

    def take_idle(self, line: Line) -> Slot | None:
        """Return a warm instance, now busy: the short cut of `ask`."""
        if not line.idle or self.busy >= self.concurrency:  # below that nobody waits
            return None
        slot = line.idle.pop()
        slot.state = BUSY  # in the table: idle -> busy
        line.busy += 1
        self.busy += 1
        return slot

    def ask(self, line: Line, waiter: Any) -> Run | Start | None:
        """Serve a waiter at once, or (`None`) put it at the end of the line.

        Raises:
            QueueFull: Everybody is busy and `max_queue` invocations wait already.
        """
        slot = self.take_idle(line)
        if slot is not None:
            return Run(slot, waiter)
        if self.busy < self.concurrency and not line.waiting:
            return self._start(line, waiter)
        if self.waiting >= self.max_queue:
            line.counters.throttled()
            raise QueueFull
        if not line.waiting:
            self._hungry.append(line)
        line.waiting.append(waiter)
        self.waiting += 1
        return None

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
        line = slot.line
        counters = line.counters
        counters.invocations += 1
        if error or cold:
            counters.errors += error
            counters.cold_starts += cold
        slot.uses += 1
        line.busy -= 1
        self.busy -= 1
        if line.retired or (line.reuse is not None and slot.uses >= line.reuse):
            slot.become(SlotState.DEAD)
            return [Stop(slot), *self._serve(), *self._closing(line)]
        slot.state = IDLE  # in the table: busy -> idle
        slot.idle_since_ns = now_ns
        line.idle.append(slot)
        return self._serve() if self.waiting else ()

    def lost(self, slot: Slot) -> list[Decision]:
        """Note that an instance is gone, or never came; return what follows."""
        line = slot.line
        if slot.state is SlotState.BUSY:
            line.busy -= 1
            self.busy -= 1
        elif slot.state is SlotState.IDLE:
            line.idle.remove(slot)
        else:
            return []
        slot.become(SlotState.DEAD)
        return [*self._serve(), *self._closing(line)]

    def refused(self, line: Line) -> list[Decision]:
        """Note that an instance could not be started at all; return what follows."""
        line.starting -= 1
        line.busy -= 1
        self.busy -= 1
        return [*self._serve(), *self._closing(line)]

    def retire(self, line: Line) -> list[Decision]:
        """Let a line end: its idle instances at once, the others after their work, what waits is still served."""
        line.retired = True
        return self._closing(line)

    def expire(self, line: Line, now_ns: int) -> tuple[list[Decision], int | None]:
        """Stop what has been idle for too long; return that, and when to look again."""
        if line.idle_timeout_ns is None:
            return [], None
        old = [slot for slot in line.idle if now_ns - slot.idle_since_ns >= line.idle_timeout_ns]
        stops: list[Decision] = [Stop(self._stop(slot)) for slot in old]
        again = line.idle[0].idle_since_ns + line.idle_timeout_ns if line.idle else None
        return stops, again

    def abandon(self) -> list[Any]:
        """Empty all lines; return those who waited."""
        waiters = [waiter for line in self._hungry for waiter in line.waiting]
        for line in self._hungry:
            line.waiting.clear()
        self._hungry.clear()
        self.waiting = 0
        return waiters

    def _start(self, line: Line, waiter: Any) -> Start:
        line.busy += 1
        line.starting += 1
        self.busy += 1
        return Start(line, waiter)

    def _stop(self, slot: Slot) -> Slot:
        slot.line.idle.remove(slot)
        slot.become(SlotState.DEAD)
        return slot

    def _left(self, line: Line) -> None:
        self.waiting -= 1
        if not line.waiting:
            self._hungry.remove(line)

    def _serve(self) -> list[Decision]:
        """Serve those who wait, line after line in turn, so that a flood of one function starves no other."""
        decisions: list[Decision] = []
        while self._hungry and self.busy < self.concurrency:
            line = self._hungry[0]
            self._hungry.rotate(-1)
            waiter = line.waiting.popleft()
            self._left(line)
            if line.idle:
                slot = line.idle.pop()
                slot.become(SlotState.BUSY)
                line.busy += 1
                self.busy += 1
                decisions.append(Run(slot, waiter))
            else:
                decisions.append(self._start(line, waiter))
        return decisions

    def _closing(self, line: Line) -> list[Decision]:
        if not line.retired or line.waiting:
            return []
        decisions: list[Decision] = [Stop(self._stop(slot)) for slot in list(line.idle)]
        return decisions if line.busy else [*decisions, Close(line)]

    def __repr__(self) -> str:
        return f"<PoolState busy={self.busy}/{self.concurrency} waiting={self.waiting}>"
