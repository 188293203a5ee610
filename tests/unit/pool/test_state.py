"""The pool's decisions: asserted on reprs, and against a model by hypothesis."""

from __future__ import annotations

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
    state, line = make(), Line("greet")
    slot = start(state, line)
    assert not state.give_back(slot, 0)
    assert repr(line) == "<Line greet idle=1 busy=0 waiting=0>"
    assert state.ask(line, "second") == Run(slot, "second")


def test_the_instance_used_last_is_used_next() -> None:
    state, line = make(), Line("greet")
    first, second = start(state, line), start(state, line)
    state.give_back(first, 1)
    state.give_back(second, 2)
    assert state.take_idle(line) is second


def test_over_the_limit_waits_and_is_served_in_order() -> None:
    state, line = make(concurrency=1), Line("greet")
    slot = start(state, line)
    assert state.ask(line, "a") is None
    assert state.ask(line, "b") is None
    assert state.give_back(slot, 0) == [Run(slot, "a")]
    assert state.give_back(slot, 0) == [Run(slot, "b")]
    assert repr(state) == "<PoolState busy=1/1 waiting=0>"


def test_nobody_overtakes_those_who_wait() -> None:
    state, line = make(concurrency=1), Line("greet")
    slot = start(state, line)
    state.ask(line, "a")
    state.give_back(slot, 0)  # now "a" runs
    assert state.take_idle(line) is None


def test_a_flood_of_one_function_does_not_starve_another() -> None:
    state, flood, paced = make(concurrency=1), Line("flood"), Line("paced")
    slot = start(state, flood)
    for i in range(5):
        state.ask(flood, i)
    state.ask(paced, "p")
    assert state.give_back(slot, 0) == [Run(slot, 0)]
    assert state.give_back(slot, 0) == [Start(paced, "p")]


def test_a_full_queue_refuses_and_counts() -> None:
    state, line = make(concurrency=1, max_queue=1), Line("greet")
    start(state, line)
    state.ask(line, "a")
    with pytest.raises(QueueFull):
        state.ask(line, "b")
    assert line.counters.throttles == 1


def test_reuse_of_one_stops_the_instance_after_its_invocation() -> None:
    state, line = make(), Line("greet", reuse=1)
    slot = start(state, line)
    assert state.give_back(slot, 0) == [Stop(slot)]
    assert slot.state is SlotState.DEAD


def test_a_death_makes_room() -> None:
    state, line = make(concurrency=1), Line("greet")
    slot = start(state, line)
    state.ask(line, "a")
    assert state.lost(slot) == [Start(line, "a")]
    assert state.lost(slot) == []  # a second report of the same death


def test_a_retired_line_finishes_its_work_and_closes() -> None:
    state, line = make(concurrency=2), Line("greet")
    busy, idle = start(state, line), start(state, line)
    state.give_back(idle, 0)
    assert state.retire(line) == [Stop(idle)]
    assert state.give_back(busy, 0) == [Stop(busy), Close(line)]


def test_idle_instances_expire_oldest_first() -> None:
    state, line = make(), Line("greet", idle_timeout_ns=100)
    old, young = start(state, line), start(state, line)
    state.give_back(old, 0)
    state.give_back(young, 50)
    assert state.expire(line, 100) == ([Stop(old)], 150)
    assert state.expire(line, 150) == ([Stop(young)], None)


def test_a_dead_slot_stays_dead() -> None:
    slot = Slot(Line("greet"))
    slot.become(SlotState.DEAD)
    with pytest.raises(AssertionError, match="cannot become idle"):
        slot.become(SlotState.IDLE)


class PoolMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order: limits hold, nobody is forgotten, nobody is served twice."""

    def __init__(self) -> None:
        super().__init__()
        self.state = make(concurrency=3, max_queue=4)
        self.lines = [Line("a"), Line("b", reuse=2), Line("c")]
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
        self.lines[index] = Line(self.lines[index].name, reuse=self.lines[index].reuse)

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
