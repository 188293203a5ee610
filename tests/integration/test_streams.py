"""`submit` and `map`: how many run at a time, what early stops kill, and whose result or output is whose."""

from __future__ import annotations

import concurrent.futures
import itertools
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

import pyfaas
from pyfaas.errors import InstanceCrashed

pytestmark = pytest.mark.integration

SOON_S = 10.0


def echo(event: Any, context: Any) -> Any:
    return event


def nap(event: Any, context: Any) -> Any:
    time.sleep(event)
    return event


def mixed(event: Any, context: Any) -> Any:
    """Short, sometimes longer, now and then much longer."""
    time.sleep(0 if event % 5 else 0.002 if event % 25 else 0.02)
    return event


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        threading.Event().wait(0.001)


def busy(rt: pyfaas.Runtime) -> int:
    return sum(one.busy + one.starting for one in rt.statistics().functions.values())


def is_idle(rt: pyfaas.Runtime) -> bool:
    return busy(rt) == 0 and rt.statistics().queued == 0


def pids(function: pyfaas.Function[Any]) -> set[int]:
    return {one.channel.pid for one in list(function._version.instances)} - {0}


# ---------------------------------------------------------------------------------------------- streams


@pytest.mark.parametrize("window", [None, 1, 3, 100])
@pytest.mark.parametrize("code", [echo, mixed])
def test_each_event_once_and_in_order(rt: pyfaas.Runtime, code: Any, window: int | None) -> None:
    function = rt.register("f", code)
    assert list(function.map(range(150), window=window)) == list(range(150))
    assert sorted(function.map(range(150), window=window, ordered=False)) == list(range(150))
    assert [one.value for one in function.map(range(30), window=window, outcomes=True)] == list(range(30))
    assert is_idle(rt)
    assert rt.statistics().functions["f"].invocations == 330


@pytest.mark.parametrize("ordered", [True, False])
def test_the_window_bounds_what_is_taken_from_endless_events(rt: pyfaas.Runtime, ordered: bool) -> None:
    function = rt.register("nap", nap, timeout=60)
    taken = 0

    def events() -> Iterator[float]:
        nonlocal taken
        for seconds in itertools.chain([0.05] * 8, itertools.repeat(60)):
            taken += 1
            yield seconds

    stream = function.map(events(), window=4, ordered=ordered)
    for returned in range(1, 9):
        assert next(stream) == 0.05
        assert taken <= returned + 4
    assert busy(rt) >= 1
    stream.close()  # type: ignore[attr-defined]
    until(lambda: is_idle(rt))


@pytest.mark.parametrize("ordered", [True, False])
def test_what_goes_wrong_in_a_stream_kills_the_rest(rt: pyfaas.Runtime, ordered: bool) -> None:
    @rt.function(timeout=60)
    def odd(event: Any, context: Any) -> Any:
        time.sleep(60 if event > 4 else 0.02)
        if event == 4:
            raise ValueError(event)
        return event

    def breaks() -> Iterator[int]:
        yield from [0, 1, 5, 6]
        raise LookupError("no more")

    with pytest.raises(pyfaas.FunctionError, match="ValueError: 4"):
        list(odd.map(range(50), window=16, ordered=ordered))
    until(lambda: is_idle(rt))
    with pytest.raises(LookupError, match="no more"):
        list(odd.map(breaks(), window=16, ordered=False))
    until(lambda: is_idle(rt))
    with pytest.raises(pyfaas.InvalidEvent):
        list(odd.map([5, {1}], window=16, ordered=ordered))
    until(lambda: is_idle(rt))
    outcomes = list(odd.map([3, {1}, 4], outcomes=True, ordered=ordered))
    found = sorted(type(one.error).__name__ for one in outcomes)
    assert found == ["FunctionError", "InvalidEvent", "NoneType"]


def test_a_bad_window_is_named(rt: pyfaas.Runtime) -> None:
    function = rt.register("echo", echo)
    windows: list[Any] = [0, -1, 1.5, True]
    for window in windows:
        with pytest.raises(ValueError, match="window="):
            function.map([1], window=window)


def test_streams_in_several_threads(rt: pyfaas.Runtime) -> None:
    function = rt.register("mixed", mixed)
    found: list[Any] = []

    def work() -> None:
        found.append(list(function.map(range(100))) == list(range(100)))
        found.append(sorted(function.map(range(100), ordered=False)) == list(range(100)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [True] * 8
    assert is_idle(rt)


@pytest.mark.parametrize(("milliseconds", "count"), [(20, 40), (0.5, 400)])
def test_four_at_a_time(nothing_leaks: None, milliseconds: float, count: int) -> None:
    with pyfaas.Runtime(max_concurrency=4) as rt:
        function = rt.register("nap", nap)
        list(function.map([0.05] * 8))  # four instances
        assert len(pids(function)) == 4
        begin = time.monotonic()
        list(function.map([milliseconds / 1000] * count))
        took = time.monotonic() - begin
        assert len(pids(function)) == 4
        if milliseconds > 10:  # a sleep costs no CPU: even a noisy machine runs two beside each other
            assert took < 0.6 * count * milliseconds / 1000
        futures = [function.submit(0.1) for _ in range(8)]
        until(lambda: rt.statistics().busy == 4 or all(one.done() for one in futures))
        assert rt.statistics().queued <= 4
        assert [one.result(SOON_S) for one in futures] == [0.1] * 8


# ---------------------------------------------------------------------------------------------- futures


def test_submit_from_eight_threads(rt: pyfaas.Runtime) -> None:
    function = rt.register("mixed", mixed)
    results: dict[int, list[Any]] = {}

    def work(number: int) -> None:
        mine = range(1000 * number, 1000 * number + 60)
        results[number] = [one.result(60) for one in [function.submit(i) for i in mine]]

    threads = [threading.Thread(target=work, args=[i]) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == {i: list(range(1000 * i, 1000 * i + 60)) for i in range(8)}
    assert is_idle(rt)
    assert rt.statistics().functions["mixed"].invocations == 480


def test_the_waits_of_concurrent_futures(rt: pyfaas.Runtime) -> None:
    function = rt.register("nap", nap, timeout=60)
    slow, fast = function.submit(60), [function.submit(i / 100) for i in range(5)]
    done, left = concurrent.futures.wait([slow, *fast], timeout=20, return_when="FIRST_COMPLETED")
    assert done
    assert slow in left
    assert {one.result() for one in concurrent.futures.as_completed(fast, timeout=20)} == {
        i / 100 for i in range(5)
    }
    threading.Timer(0.05, slow.cancel).start()
    done, left = concurrent.futures.wait([slow], timeout=20)
    assert done == {slow}
    with pytest.raises(concurrent.futures.CancelledError):
        slow.result()
    until(lambda: is_idle(rt))


def test_cancel_in_each_state(nothing_leaks: None) -> None:
    slow = "import time; time.sleep(0.3)\ndef handler(event, context): return event"
    with pyfaas.Runtime(max_concurrency=1) as rt:
        function, starting = rt.register("nap", nap, timeout=60), rt.register("slow", pyfaas.Source(slow))
        unborn = starting.submit(1)
        assert unborn.cancel()
        assert unborn.cancel()
        until(lambda: is_idle(rt))
        running = function.submit(60)
        until(lambda: running.running() and pids(function))
        queued = function.submit(0)
        assert not queued.running()
        assert queued.cancel()
        assert rt.statistics().queued == 0
        (doomed,) = pids(function)
        assert running.cancel()
        assert running.cancelled()
        until(lambda: not os.path.exists(f"/proc/{doomed}"))
        done = function.submit(0)
        assert done.result(SOON_S) == 0
        assert not done.cancel()
        attempts = [function.submit(0) for _ in range(50)]
        for one in attempts:  # over or not: what `cancel` says is what happened
            assert one.cancel() != (one.done() and not one.cancelled())
        until(lambda: is_idle(rt))
        assert starting.submit(2).result(SOON_S) == 2


def test_cancelling_against_its_end(rt: pyfaas.Runtime) -> None:
    function = rt.register("nap", nap, timeout=60)
    for i in range(150):
        first, second = function.submit(0.001), function.submit(0.001)
        pause = threading.Event()
        pause.wait(0.0001 * (i % 30))
        cancelled = first.cancel()
        assert cancelled == first.cancelled()
        if not cancelled:
            assert first.result(0) == 0.001
        assert second.result(SOON_S) == 0.001  # nobody else's call is killed
    until(lambda: is_idle(rt))


def test_callbacks(rt: pyfaas.Runtime, caplog: pytest.LogCaptureFixture) -> None:
    function = rt.register("nap", nap)
    called: list[str] = []
    ended = threading.Event()

    def note(future: Future[Any]) -> None:
        called.append(threading.current_thread().name)

    def bad(future: Future[Any]) -> None:
        raise LookupError("in a callback")

    def last(future: Future[Any]) -> None:
        ended.set()

    future = function.submit(0.05)
    with caplog.at_level(logging.ERROR):
        for callback in (note, bad, last):
            future.add_done_callback(callback)
        assert ended.wait(SOON_S)
    assert called == ["pyfaas-reactor"]
    assert {record.name for record in caplog.records} == {"concurrent.futures"}
    assert "in a callback" in caplog.text
    future.add_done_callback(note)
    assert called[1] == threading.current_thread().name
    chained: Future[Any] = Future()
    function.submit(0.01).add_done_callback(
        lambda one: function.submit(one.result()).add_done_callback(
            lambda two: chained.set_result(two.result())
        )
    )
    assert chained.result(SOON_S) == 0.01


def test_what_waits_is_bounded_and_a_future_is_patient(nothing_leaks: None) -> None:
    with pyfaas.Runtime(max_concurrency=1, max_queue=2) as rt:
        function = rt.register("nap", nap, queue_timeout=0)
        running = function.submit(0.3)
        until(lambda: busy(rt))
        queued, refused = [function.submit(0) for _ in range(2)], function.submit(0)
        with pytest.raises(pyfaas.Throttled, match="max_queue=2"):
            refused.result(SOON_S)
        with pytest.raises(pyfaas.Throttled, match="max_queue=2"):
            function.invoke(0)
        assert queued[1].cancel()
        with pytest.raises(pyfaas.Throttled, match="queue_timeout"):
            function.invoke(0)
        assert queued[0].result(SOON_S) == 0
        assert running.result(SOON_S) == 0.3
        assert rt.statistics().functions["nap"].throttles == 3
        assert rt.statistics().functions["nap"].invocations == 2


# ---------------------------------------------------------------------------------------------- what dies


def test_a_death_resolves_its_own_future_only(rt: pyfaas.Runtime) -> None:
    @rt.function
    def leave(event: Any, context: Any) -> Any:
        if event % 10 == 3:
            print("leaving", event, flush=True)
            os._exit(event % 256)
        return event

    leave.invoke(0)
    futures = [leave.submit(i) for i in range(60)]
    for i, future in enumerate(futures):
        if i % 10 == 3:
            with pytest.raises(InstanceCrashed, match=f"exit status {i}") as info:
                future.result(SOON_S)
            assert f"leaving {i}\n" in info.value.logs
        else:
            assert future.result(SOON_S) == i
    found = [one.error is None for one in leave.map(range(20), outcomes=True)]
    assert found == [i % 10 != 3 for i in range(20)]
    assert is_idle(rt)


def test_a_warm_instance_that_died_in_idleness_costs_nobody(rt: pyfaas.Runtime) -> None:
    function = rt.register("echo", echo)
    for i in range(20):
        assert function.submit(i).result(SOON_S) == i
        for pid in pids(function):
            os.kill(pid, 9)
        assert function.submit(i).result(SOON_S) == i


def test_output_belongs_to_its_call(rt: pyfaas.Runtime) -> None:
    @rt.function
    def say(event: Any, context: Any) -> None:
        print("line", event)
        if event % 2:
            raise ValueError(event)

    say.submit(0).result(SOON_S)
    for i in range(1, 60):
        future = say.submit(i)
        if i % 2 == 0:
            future.result(SOON_S)
            continue
        error = future.exception(SOON_S)
        assert isinstance(error, pyfaas.FunctionError)
        assert error.logs.startswith(f"line {i}\n")
        assert f"line {i - 1}\n" not in error.logs


def test_many_that_wait_and_none_can_start(nothing_leaks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pyfaas.Runtime(max_concurrency=1) as rt:
        function = rt.register("nap", nap, timeout=60)
        function.invoke(0)
        running = function.submit(60)
        waiting = [function.submit(0) for _ in range(2 * sys.getrecursionlimit())]
        with monkeypatch.context() as patch:
            patch.setattr(
                function._version, "when_ready", lambda call: call(InstanceCrashed("no room", reason="exit"))
            )
            running.cancel()
            errors = {str(one.exception(SOON_S)) for one in waiting}
        assert errors == {"no room"}
        until(lambda: is_idle(rt))

        def broken(call: Any) -> None:
            raise RuntimeError("can't start new thread")

        for pid in pids(function):
            os.kill(pid, 9)
        until(lambda: not pids(function))
        with monkeypatch.context() as patch:
            patch.setattr(function._version, "when_ready", broken)
            with pytest.raises(pyfaas.InternalError, match="can't start new thread"):
                function.submit(0).result(SOON_S)
        assert function.submit(0).result(SOON_S) == 0
        assert is_idle(rt)


def test_an_idle_instance_keeps_no_result(rt: pyfaas.Runtime) -> None:
    import gc
    import weakref

    function = rt.register("nap", nap)
    future = function.submit(0.05)
    assert future.result(SOON_S) == 0.05
    until(lambda: is_idle(rt))
    gone = weakref.ref(future)
    del future

    def is_gone() -> bool:
        gc.collect()
        return gone() is None

    until(is_gone)
