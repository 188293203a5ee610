"""Long runs of everything that can happen to a call: afterwards the host holds what it held before."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import pyfaas

from .holdings import MB, Holdings, wait_until

pytestmark = pytest.mark.leaks

MEMORY = 5 * MB
SETTLE = 5.0


def handler(event: Any, context: Any) -> Any:
    match event:
        case {"raise": text}:
            raise ValueError(text)
        case {"sleep": seconds}:
            time.sleep(seconds)
        case {"crash": _}:
            ctypes.string_at(0)
        case {"exit": status}:
            os._exit(status)
        case {"print": size}:
            print("x" * size)
        case {"set": _}:
            return {1, 2}
        case {"daemon": _}:
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(600)
                os._exit(0)
            os.wait()
    return event


def settles(before: Holdings, memory: int = MEMORY) -> str:
    """What remains grown although we waited; empty if nothing."""
    wait_until(lambda: not Holdings.now().grown_since(before, memory), SETTLE)
    return Holdings.now().grown_since(before, memory)


def flat(action: Callable[[], object], count: int, *, fill: Callable[[], object] = int) -> None:
    """Repeat the action; after a tenth, which warms everything up, nothing may grow any more.

    `fill` comes before each count, where the number of instances would be left to chance.
    """
    for _ in range(max(3, count // 10)):
        action()
    fill()
    before = Holdings.now()
    for _ in range(count):
        action()
    fill()
    assert not settles(before)


CALLS = {
    "echo": ({"name": "Ada"}, 20_000, None),
    "large": ({"text": "x" * MB}, 300, None),
    "error": ({"raise": "no"}, 3_000, pyfaas.FunctionError),
    "output": ({"print": 100_000}, 300, None),
    "wrong result": ({"set": 1}, 1_000, pyfaas.InvalidResult),
    "crash": ({"crash": 1}, 200, pyfaas.InstanceCrashed),
    "exit": ({"exit": 3}, 200, pyfaas.InstanceCrashed),
    "timeout": ({"sleep": 60}, 40, pyfaas.FunctionTimeout),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls(name: str) -> None:
    event, count, error = CALLS[name]
    with pyfaas.Runtime() as rt:
        fn = rt.register("f", code=handler, timeout=0.1 if name == "timeout" else 10)

        def call() -> None:
            outcome = fn.call(event)
            assert (type(outcome.error) if outcome.error else None) is error, outcome

        flat(call, count)


def test_invalid_events() -> None:
    with pyfaas.Runtime() as rt:
        fn = rt.register("f", code=handler)
        fn.invoke({})

        def call() -> None:
            with pytest.raises(pyfaas.InvalidEvent):
                fn.invoke({"when": {1, 2}})

        flat(call, 2_000)


def test_cold_starts() -> None:
    with pyfaas.Runtime() as rt:
        fn = rt.register("f", code=handler, reuse=1)
        flat(lambda: fn.invoke({}), 500)


def test_daemons_end_with_their_instance() -> None:
    with pyfaas.Runtime() as rt:
        fn = rt.register("f", code=handler, reuse=1, timeout=10)
        flat(lambda: fn.invoke({"daemon": 1}), 50)


def test_init_errors() -> None:
    with pyfaas.Runtime() as rt:

        def register() -> None:
            fn = rt.register("f", code=pyfaas.Source("1 / 0\ndef handler(event, context): pass"))
            assert isinstance(fn.call({}).error, pyfaas.InitError)

        flat(register, 50)


def test_registering_again() -> None:
    with pyfaas.Runtime() as rt:

        def register() -> None:
            text = f"def handler(event, context): return {time.monotonic_ns()}"
            rt.register("f", code=pyfaas.Source(text)).invoke({})

        flat(register, 100)


def test_many_functions_end_with_the_runtime() -> None:
    before = Holdings.now()
    with pyfaas.Runtime() as rt:
        functions = [rt.register(f"f{number}", code=handler) for number in range(50)]
        assert [fn.invoke(number) for number, fn in enumerate(functions)] == list(range(50))
    assert not settles(before, 40 * MB)  # of memory only the large is a leak here: no warm-up came before


def test_submit_map_and_cancel() -> None:
    with pyfaas.Runtime(max_concurrency=4) as rt:
        fn = rt.register("f", code=handler, timeout=10)

        def all_busy() -> None:
            for future in [fn.submit({"sleep": 0.3}) for _ in range(4)]:
                future.result()

        def some_of_each() -> None:
            waiting = [fn.submit({"sleep": 0.001}) for _ in range(50)]
            for future in waiting[::2]:
                future.cancel()
            for future in waiting:
                assert future.cancelled() or future.result() is not None
            assert len(list(fn.map([{}, {"raise": "no"}, {"crash": 1}], ordered=False, outcomes=True))) == 3

        flat(some_of_each, 40, fill=all_busy)


def test_many_threads() -> None:
    with pyfaas.Runtime(max_concurrency=4) as rt, ThreadPoolExecutor(8) as threads:
        fn = rt.register("f", code=handler, timeout=30)
        flat(lambda: list(threads.map(fn.invoke, range(500))), 20)


def test_opening_and_closing() -> None:
    def once() -> None:
        with pyfaas.Runtime() as rt:
            assert rt.register("f", code=handler).invoke(1) == 1

    flat(once, 50)


def test_closing_with_calls_in_flight() -> None:
    def once() -> None:
        with pyfaas.Runtime() as rt:
            fn = rt.register("f", code=handler, timeout=30)
            waiting = [fn.submit({"sleep": 20}) for _ in range(3)]
            fn.invoke({})
            rt.close(timeout=0)
            for future in waiting:
                assert isinstance(future.exception(timeout=10), pyfaas.PyFaasError)

    flat(once, 10)
