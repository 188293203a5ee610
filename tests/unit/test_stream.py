"""How many invocations of a stream run at a time, and in which order results come: with futures of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfaas import _native
from pyfaas._pool.state import Line
from pyfaas._stream import Width, as_they_come, in_order

WAYS = pytest.mark.parametrize("way", [in_order, as_they_come])


class Starter:
    """Begins what it is told to; `plan` says of each event whether it is over at once, later, or never."""

    def __init__(self, plan: Callable[[int], str]) -> None:
        self.plan = plan
        self.begun: list[Future[Any]] = []
        self.most = 0

    def __call__(self, event: int) -> Any:
        kind = self.plan(event)
        if kind == "at once":
            return event
        future: Future[Any] = Future()
        self.begun.append(future)
        flying = [one for one in self.begun if not one.done()]
        self.most = max(self.most, len(flying))
        if kind == "done":
            future.set_result(event)
        elif kind == "fails":
            future.set_exception(ValueError(event))
        elif kind == "with the next" and len(flying) > 1:
            for number, one in enumerate(self.begun):
                if not one.done():
                    one.set_result(number)
        return future


def width(window: int = 8) -> Width:
    return Width(Line("f", _native.Turnstile(100)), window)


@WAYS
def test_what_is_over_at_once_needs_nobody(way: Any) -> None:
    start = Starter(lambda event: "at once")
    assert list(way(start, range(100), width())) == list(range(100))
    assert not start.begun


@given(st.lists(st.sampled_from(["at once", "done"]), max_size=50))
def test_results_come_in_the_order_of_the_events(kinds: list[str]) -> None:
    got = list(in_order(Starter(kinds.__getitem__), range(len(kinds)), width()))
    assert got == list(range(len(kinds)))


@given(st.lists(st.sampled_from(["at once", "done"]), max_size=50))
def test_each_result_comes_once(kinds: list[str]) -> None:
    got = list(as_they_come(Starter(kinds.__getitem__), range(len(kinds)), width()))
    assert sorted(got) == list(range(len(kinds)))


@WAYS
def test_a_call_that_takes_longer_gets_others_beside_it(way: Any) -> None:
    start = Starter(lambda event: "with the next")
    assert sorted(way(start, range(4), width())) == [0, 1, 2, 3]
    assert start.most == 2


@WAYS
def test_never_more_than_the_window(way: Any) -> None:
    start = Starter(lambda event: "never")

    def events() -> Iterator[int]:
        yield from range(3)
        for one in start.begun:
            one.set_result(7)
        yield 3
        start.begun[-1].set_result(8)

    assert list(way(start, events(), width(4))) == [7, 7, 7, 8]
    assert start.most <= 4


@WAYS
def test_endless_events_and_an_early_stop(way: Any) -> None:
    start = Starter(lambda event: "done" if event % 3 else "at once")

    def forever() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    stream = way(start, forever(), width())
    assert [next(stream) for _ in range(10)] == list(range(10))
    stream.close()
    assert all(one.done() for one in start.begun)


@WAYS
def test_a_failure_raises_and_cancels_the_rest(way: Any) -> None:
    def plan(event: int) -> str:
        return "never" if event == 0 else "fails"

    start = Starter(plan)
    kinds = way(start, range(2), width())
    if way is in_order:
        start.plan = lambda event: "fails" if event == 0 else "never"
    with pytest.raises(ValueError, match=r"[01]"):
        list(kinds)
    assert all(one.done() for one in start.begun)


def test_a_value_waits_for_its_turn() -> None:
    first: Future[Any] = Future()

    def start(event: int) -> Any:
        if event == 0:
            return first
        if event == 5:
            first.set_result("first")
        return event

    assert list(in_order(start, range(7), width())) == ["first", 1, 2, 3, 4, 5, 6]


def test_after_a_while_it_is_tried_one_by_one() -> None:
    short = width(4)
    for _ in range(64):
        assert short.patience() is not None
        short.begun(2)
    assert short.is_reached(1)  # whatever the width: first all others have to end
    assert short.patience() is None
    short.begun(1)  # the one that was tried took longer as well
    assert not short.is_reached(0)
    for _ in range(127):
        short.begun(2)
    assert short.patience() is not None  # twice as many as before
    short.begun(2)
    assert short.patience() is None


def test_wide_streams_become_narrow_when_calls_are_over_at_once() -> None:
    short = width(4)
    short.widen()
    short.widen()
    short.widen()
    assert short.patience() is None  # at the window, whose result is waited for
    assert not short.is_reached(3)
    short.alone()
    assert short.is_reached(1)
