"""The pool's decisions: asserted on reprs, and against a model by hypothesis."""

from __future__ import annotations

import gc
import weakref
from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pyfaas._pool.state import Close, Line, PoolState, QueueFull, Run, Slot, SlotState, Start, Stop


def make(concurrency: int = 2, max_queue: int = 10) -> PoolState:
    return PoolState(concurrency=concurrency, max_queue=max_queue)


def start(state: PoolState, line: Line) -> Slot:
    assert isinstance(state.ask(line, "first"), Start)
    state.has_started(line)
    return Slot(line)


def test_the_first_invocation_starts_an_instance_and_the_next_reuses_it() -> None:
    state = make()
    line = Line("greet", state.turnstile)
    slot = start(state, line)
    assert not state.give_back(slot, 0)
    assert repr(line) == "<Line greet idle=1 busy=0 waiting=0>"
    assert state.ask(line, "second") == Run(slot, "second")


def test_the_instance_used_last_is_used_next() -> None:
    state = make()
    line = Line("greet", state.turnstile)
    first, second = start(state, line), start(state, line)
    state.give_back(first, 1)
    state.give_back(second, 2)
    assert line.take() is second


def test_over_the_limit_waits_and_is_served_in_order() -> None:
    state = make(concurrency=1)
    line = Line("greet", state.turnstile)
    slot = start(state, line)
    assert state.ask(line, "a") is None
    assert state.ask(line, "b") is None
    assert state.give_back(slot, 0) == [Run(slot, "a")]
    assert state.give_back(slot, 0) == [Run(slot, "b")]
    assert repr(state) == "<PoolState busy=1/1 waiting=0>"


def test_nobody_overtakes_those_who_wait() -> None:
    state = make(concurrency=1)
    line = Line("greet", state.turnstile)
    slot = start(state, line)
    state.ask(line, "a")
    state.give_back(slot, 0)  # now "a" runs
    assert line.take() is None


def test_a_flood_of_one_function_does_not_starve_another() -> None:
    state = make(concurrency=1)
    flood, paced = Line("flood", state.turnstile), Line("paced", state.turnstile)
    slot = start(state, flood)
    for i in range(5):
        state.ask(flood, i)
    state.ask(paced, "p")
    assert state.give_back(slot, 0) == [Run(slot, 0)]
    assert state.give_back(slot, 0) == [Start(paced, "p")]


def test_a_full_queue_refuses_and_counts() -> None:
    state = make(concurrency=1, max_queue=1)
    line = Line("greet", state.turnstile)
    start(state, line)
    state.ask(line, "a")
    with pytest.raises(QueueFull):
        state.ask(line, "b")
    assert line.counters.throttles == 1


def test_reuse_of_one_stops_the_instance_after_its_invocation() -> None:
    state = make()
    line = Line("greet", state.turnstile, reuse=1)
    slot = start(state, line)
    assert state.give_back(slot, 0) == [Stop(slot)]
    assert slot.state is SlotState.DEAD


def test_a_death_makes_room() -> None:
    state = make(concurrency=1)
    line = Line("greet", state.turnstile)
    slot = start(state, line)
    state.ask(line, "a")
    assert state.lost(slot) == [Start(line, "a")]
    assert state.lost(slot) == []  # a second report of the same death


def test_a_retired_line_finishes_its_work_and_closes() -> None:
    state = make(concurrency=2)
    line = Line("greet", state.turnstile)
    busy, idle = start(state, line), start(state, line)
    state.give_back(idle, 0)
    assert state.retire(line) == [Stop(idle)]
    assert state.give_back(busy, 0) == [Stop(busy), Close(line)]


def test_idle_instances_expire_oldest_first() -> None:
    state = make()
    line = Line("greet", state.turnstile, idle_timeout_ns=100)
    old, young = start(state, line), start(state, line)
    state.give_back(old, 0)
    state.give_back(young, 50)
    assert state.expire(line, 100) == ([Stop(old)], 150)
    assert state.expire(line, 150) == ([Stop(young)], None)


def test_a_dead_slot_stays_dead() -> None:
    state = make()
    line = Line("greet", state.turnstile)
    slot = start(state, line)
    state.lost(slot)
    assert repr(slot) == "<Slot dead>"
    with pytest.raises(AssertionError, match="<Slot dead> cannot become idle"):
        state.give_back(slot, 0)


def test_the_short_way_takes_and_gives_back_as_the_long_one_does() -> None:
    state = make(concurrency=1)
    line = Line("greet", state.turnstile)
    slot = start(state, line)
    assert slot.state is SlotState.BUSY
    assert line.give(slot)
    assert (slot.state, state.busy) == (SlotState.IDLE, 0)
    assert line.take() is slot
    assert (slot.state, state.busy) == (SlotState.BUSY, 1)
    assert line.count_served().invocations == 1
    assert line.count_served().invocations == 1  # counted once


@pytest.mark.parametrize("reason", ["somebody waits", "reuse", "idle_timeout", "retired", "attended"])
def test_the_short_way_back_is_closed_when_something_follows(reason: str) -> None:
    state = make(concurrency=1)
    line = Line(
        "greet",
        state.turnstile,
        reuse=5 if reason == "reuse" else None,
        idle_timeout_ns=5 if reason == "idle_timeout" else None,
    )
    slot = start(state, line)
    if reason == "somebody waits":
        assert state.ask(line, "a") is None
    if reason == "retired":
        state.retire(line)
    state.turnstile.attended = reason == "attended"
    assert not line.give(slot)
    assert slot.state is SlotState.BUSY


def test_the_short_way_in_is_closed_when_all_are_busy() -> None:
    state = make(concurrency=1)
    line, other = Line("greet", state.turnstile), Line("other", state.turnstile)
    state.give_back(start(state, line), 0)
    start(state, other)
    assert line.take() is None


def test_who_begins_to_wait_sees_a_slot_that_came_back_meanwhile() -> None:
    state = make(concurrency=1)
    line = Line("greet", state.turnstile)
    slot = start(state, line)

    class Meanwhile(deque[object]):
        def append(self, waiter: object) -> None:
            assert line.give(slot)  # another thread: nobody waits yet
            super().append(waiter)

    line.waiting = Meanwhile()
    assert state.ask(line, "a") == Run(slot, "a")
    assert state.waiting == 0


def test_an_idle_slot_that_is_taken_meanwhile_is_not_stopped() -> None:
    state = make()
    line = Line("greet", state.turnstile)
    slot = start(state, line)
    state.give_back(slot, 0)
    assert line.take() is slot
    assert state.lost_in_idleness(slot) is None
    assert state.retire(line) == []
    assert slot.state is SlotState.BUSY


def test_a_line_holds_what_is_idle_and_lets_it_go() -> None:
    state = make()
    line = Line("greet", state.turnstile)
    slots = [start(state, line) for _ in range(2)]
    for slot in slots:
        line.give(slot)
    alive = [weakref.ref(slot) for slot in slots]
    assert line.idle == tuple(slots)
    del slots, slot
    gc.collect()
    assert [one() is not None for one in alive] == [True, True]
    del line  # slot -> line -> slot: only the collector finds that
    gc.collect()
    assert [one() for one in alive] == [None, None]


def test_a_line_needs_a_turnstile() -> None:
    with pytest.raises(TypeError, match="with a Turnstile"):
        Line("greet", "no turnstile")  # type: ignore[arg-type]
    line = Line("greet", make().turnstile)
    with pytest.raises(RuntimeError, match="nobody of this line is inside"):
        line.leave()
    assert not line.give(Slot(line))


class PoolMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order: limits hold, nobody is forgotten, nobody is served twice."""

    def __init__(self) -> None:
        super().__init__()
        self.state = make(concurrency=3, max_queue=4)
        turnstile = self.state.turnstile
        self.lines = [Line("a", turnstile), Line("b", turnstile, reuse=2), Line("c", turnstile)]
        self.running: list[Slot] = []
        self.waiting: set[int] = set()
        self.served: set[int] = set()
        self.next_waiter = 0

    def perform(self, decisions: list[object]) -> None:
        for decision in decisions:
            if isinstance(decision, Run | Start):
                assert decision.waiter not in self.served, "served twice"
                self.served.add(decision.waiter)
                self.waiting.discard(decision.waiter)
            if isinstance(decision, Run):
                assert decision.slot not in self.running
                self.running.append(decision.slot)
            elif isinstance(decision, Start):
                self.state.has_started(decision.line)
                self.running.append(Slot(decision.line))
            elif isinstance(decision, Stop):
                assert decision.slot not in self.running

    @rule(index=st.integers(0, 2))
    def ask(self, index: int) -> None:
        waiter, self.next_waiter = self.next_waiter, self.next_waiter + 1
        try:
            decision = self.state.ask(self.lines[index], waiter)
        except QueueFull:
            assert len(self.waiting) == 4
            return
        if decision is None:
            self.waiting.add(waiter)
        else:
            self.perform([decision])

    @precondition(lambda self: self.running)
    @rule(data=st.data(), now=st.integers(0, 100))
    def give_back(self, data: st.DataObject, now: int) -> None:
        slot = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.perform(list(self.state.give_back(slot, now)))

    @rule(index=st.integers(0, 2))
    def take(self, index: int) -> None:
        slot = self.lines[index].take()
        if slot is not None:
            assert not self.waiting
            self.running.append(slot)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def give(self, data: st.DataObject) -> None:
        slot = self.running[data.draw(st.integers(0, len(self.running) - 1))]
        if slot.line.give(slot):
            assert not self.waiting
            self.running.remove(slot)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def lose_busy(self, data: st.DataObject) -> None:
        slot = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.perform(list(self.state.lost(slot)))

    @rule(index=st.integers(0, 2))
    def lose_idle(self, index: int) -> None:
        if self.lines[index].idle:
            self.perform(list(self.state.lost(self.lines[index].idle[0])))

    @rule(index=st.integers(0, 2))
    def update(self, index: int) -> None:
        self.perform(list(self.state.retire(self.lines[index])))
        old = self.lines[index]
        self.lines[index] = Line(old.name, self.state.turnstile, reuse=old.reuse)

    @precondition(lambda self: self.waiting)
    @rule()
    def withdraw(self) -> None:
        waiter = min(self.waiting)
        found = [line for line in self.lines if self.state.withdraw(line, waiter)]
        if found:
            self.waiting.discard(waiter)

    @invariant()
    def limits_hold(self) -> None:
        assert self.state.busy == len(self.running) <= 3
        assert self.state.waiting == len(self.waiting) <= 4

    @invariant()
    def nobody_waits_while_there_is_room(self) -> None:
        assert not (self.waiting and self.state.busy < 3)

    @invariant()
    def idle_slots_are_idle(self) -> None:
        for line in self.lines:
            assert all(slot.state is SlotState.IDLE for slot in line.idle)


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
