"""Ctrl-C while a call is waited for: at once, the call is killed, and the next one works."""

from __future__ import annotations

import signal

import pytest

from .driver import Driver

pytestmark = [pytest.mark.integration, pytest.mark.unprivileged]

PROGRAM = """
SLOW_INIT = pyfaas.Source("import time; time.sleep(50)\\ndef handler(event, context): pass")
rt = pyfaas.Runtime(max_concurrency=2, init_timeout=60)
function = rt.register("nap", nap, timeout=60, queue_timeout=60)
function.invoke(0)

class Slow:
    "It takes long to pickle."
    def __reduce__(self):
        print("waiting", flush=True)
        time.sleep(50)

def in_register():
    slow = Slow()
    rt.register("other", lambda event, context: slow)

def in_queue():
    others = [function.submit(50) for _ in range(2)]
    wait_busy(rt, 2)
    print("waiting", flush=True)
    try:
        function.invoke(50)
    finally:
        for other in others:
            other.cancel()

def announced(wait, *args):
    print("waiting", flush=True)
    return wait(*args)

def mapped(**how):
    def announce():
        wait_busy(rt, 2)
        print("waiting", flush=True)
    threading.Thread(target=announce).start()
    list(function.map([50] * 9, window=2, **how))

def result():
    future = function.submit(50)
    wait_busy(rt, 1)
    try:
        announced(future.result)
    finally:
        assert future.cancel()

def wait_idle():
    deadline = time.monotonic() + 2  # far less than the calls would take
    while rt.statistics().busy or rt.statistics().queued:
        assert time.monotonic() < deadline, rt.statistics()
        time.sleep(0.002)
"""
THEN = """
try:
    %s
    print("it ended without the interrupt")
except KeyboardInterrupt:
    print("interrupted")
wait_idle()
print(function.invoke(0), function.submit(0).result(), list(function.map([0] * 4)))
rt.close()
leave()
"""
WAITS = {
    "invoke": "announced(function.invoke, 50)",
    "call": "announced(function.call, 50)",
    "invoke, queued": "in_queue()",
    "result of submit": "result()",
    "map": "mapped()",
    "map, unordered": "mapped(ordered=False)",
    "map, with outcomes": "mapped(outcomes=True)",
    "init": "announced(rt.register('slow', SLOW_INIT, timeout=60).invoke)",
    "register": "in_register()",
}
IN_CLOSE = """
future = function.submit(50)
wait_busy(rt, 1)
try:
    announced(rt.close)
except KeyboardInterrupt:
    print("interrupted")
print(type(future.exception(5)).__name__)
try:
    function.invoke(0)
except pyfaas.RuntimeClosed as error:
    print(error)
rt.close()
with pyfaas.Runtime() as another:
    print(another.register("nap", nap).invoke(0))
leave()
"""


def interrupted(hosts: Driver, program: str) -> list[str]:
    """Run a program, interrupt it once it waits, and return what it says from then on."""
    running = hosts.start(PROGRAM + program)
    running.wait_line("waiting")
    running.kill(signal.SIGINT)
    ended = running.wait(10)
    hosts.assert_nothing_left()
    assert (ended.status, ended.err) == (0, ""), ended
    return ended.lines[ended.lines.index("waiting") + 1 :]


@pytest.mark.parametrize(
    "wait",
    [
        pytest.param(
            wait,
        )
        for wait in WAITS
    ],
)
def test_an_interrupt_ends_the_wait_and_the_call(hosts: Driver, wait: str) -> None:
    assert interrupted(hosts, THEN % WAITS[wait]) == ["interrupted", "0 0 [0, 0, 0, 0]"]


def test_an_interrupt_in_close_ends_everything_at_once(hosts: Driver) -> None:
    lines = interrupted(hosts, IN_CLOSE)
    assert lines == ["interrupted", "RuntimeClosed", "the Runtime is closed", "0"]


@pytest.mark.parametrize(
    "call", ["function.invoke(50)", "function.submit(50).result()", "list(function.map([50]))"]
)
def test_an_interrupt_that_nobody_handles_ends_the_program(hosts: Driver, call: str) -> None:
    program = f"with rt:\n    print('waiting', flush=True)\n    {call}"
    running = hosts.start(PROGRAM + program)
    running.wait_line("waiting")
    running.kill(signal.SIGINT)
    ended = running.wait(10)
    hosts.assert_nothing_left()
    assert ended.status == -signal.SIGINT  # as a shell wants to see it
    assert ended.err.count("Traceback") == 1
    assert ended.err.endswith("KeyboardInterrupt\n")
