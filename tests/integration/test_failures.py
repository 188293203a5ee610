"""Each way a function can fail: its call gets the right class and text, in time; the next call works; nothing stays."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

import pyfaas

pytestmark = pytest.mark.integration

#: A timeout has to be reported this soon after its deadline. Measured: 2 ms; the target is 20.
LATE_MS = 20
TIMEOUT_S = 0.3


def good(event: Any, context: Any) -> str:
    return "good"


def raises(event: Any, context: Any) -> None:
    print("about to raise")
    raise KeyError("name")


def raises_with_a_cause(event: Any, context: Any) -> None:
    try:
        raises(event, context)
    except KeyError as error:
        raise RuntimeError("no greeting") from error


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("not even this")


def raises_unprintable(event: Any, context: Any) -> None:
    raise Unprintable


def raises_keyboard_interrupt(event: Any, context: Any) -> None:
    raise KeyboardInterrupt


def exits(event: Any, context: Any) -> None:
    print("leaving")
    sys.exit(3)


def exits_with_zero(event: Any, context: Any) -> None:
    os.write(2, b"leaving\n")
    os._exit(0)


def segfaults(event: Any, context: Any) -> None:
    print("leaving")
    ctypes.string_at(0)


def kills_itself(event: Any, context: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def aborts(event: Any, context: Any) -> None:
    os.abort()


def overflows_the_stack(event: Any, context: Any) -> None:
    sys.setrecursionlimit(10**9)

    def deeper() -> None:
        exec("deeper()", {"deeper": deeper})

    deeper()


def returns_a_set(event: Any, context: Any) -> Any:
    return {"items": [0, {"when": {1}}]}


def returns_too_deep(event: Any, context: Any) -> Any:
    value: list[Any] = []
    for _ in range(10_000):
        value = [value]
    return value


def returns_a_cycle(event: Any, context: Any) -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def returns_too_much(event: Any, context: Any) -> Any:
    return "x" * 6_300_000


def eats_memory(event: Any, context: Any) -> Any:
    return len(bytearray(2 << 30))


FAILURES: list[tuple[Callable[[Any, Any], Any], type[pyfaas.PyFaasError], str, str]] = [
    (raises, pyfaas.FunctionError, r"^KeyError: 'name'", "about to raise"),
    (raises_with_a_cause, pyfaas.FunctionError, r"^RuntimeError: no greeting", "about to raise"),
    (raises_unprintable, pyfaas.FunctionError, r"^Unprintable: ", ""),
    (raises_keyboard_interrupt, pyfaas.FunctionError, r"^KeyboardInterrupt", ""),
    (exits, pyfaas.InstanceCrashed, r"Runtime exited with error: exit status 3$", "leaving"),
    (exits_with_zero, pyfaas.InstanceCrashed, r"Runtime exited without providing a reason$", "leaving"),
    (segfaults, pyfaas.InstanceCrashed, r"signal: segmentation fault$", "leaving"),
    (kills_itself, pyfaas.InstanceCrashed, r"signal: killed$", ""),
    (aborts, pyfaas.InstanceCrashed, r"signal: aborted$", ""),
    (overflows_the_stack, pyfaas.InstanceCrashed, r"signal: segmentation fault$", ""),
    (returns_a_set, pyfaas.InvalidResult, r"^\$\.items\[1\]\.when: set is not supported", ""),
    (returns_too_deep, pyfaas.InvalidResult, r"256 levels", ""),
    (returns_a_cycle, pyfaas.InvalidResult, r"^\$", ""),
    (returns_too_much, pyfaas.InvalidResult, r"exceeded maximum allowed payload size \(6291556 bytes\)", ""),
    (eats_memory, pyfaas.OutOfMemory, r"memory limit", ""),
]


@pytest.mark.parametrize(
    ("code", "kind", "text", "log"), FAILURES, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_failure(
    rt: pyfaas.Runtime, code: Callable[[Any, Any], Any], kind: type[pyfaas.PyFaasError], text: str, log: str
) -> None:
    def handler(event: Any, context: Any) -> Any:
        return code(event, context) if event == "fail" else "good"

    function, bystander = rt.register("handler", handler), rt.register("good", good)
    bystander.invoke()
    assert function.invoke() == "good"
    for _ in range(2):
        outcome = function.call("fail")
        assert type(outcome.error) is kind
        with pytest.raises(kind, match=text) as info:
            outcome.unwrap()
        assert info.value.fault == "function"
        assert info.value.request_id == outcome.request_id
        assert log in info.value.logs  # type: ignore[attr-defined]
        assert log in outcome.logs
        assert function.invoke() == "good"
    with pytest.raises(kind):
        function.invoke("fail")
    with pytest.raises(kind):
        function.submit("fail").result(20)
    assert bystander.invoke() == "good"
    assert rt.statistics().functions["good"].cold_starts == 1


def wait_gone(pid: int) -> None:
    """Wait until a process is gone; it is reaped a moment after its death was reported."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
    pytest.fail(f"process {pid} lives")


def holds_the_gil(event: Any, context: Any) -> None:
    ctypes.PyDLL(None).sleep(60)


def blocks_all_signals(event: Any, context: Any) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    while True:
        pass


def hangs_in_del(event: Any, context: Any) -> None:
    class Sticky:
        def __del__(self) -> None:
            while True:
                pass

    Sticky()


def sleeps(event: Any, context: Any) -> None:
    print("going to sleep")
    time.sleep(60)


def swallows_everything(event: Any, context: Any) -> None:
    while True:
        try:
            while True:
                time.sleep(0.01)
        except BaseException:  # as hostile code would
            pass


def floods(event: Any, context: Any) -> None:
    line = b"x" * 4000 + b"\n"
    while True:
        os.write(1, line)


HANGS = [holds_the_gil, blocks_all_signals, hangs_in_del, sleeps, swallows_everything, floods]


@pytest.mark.parametrize("code", HANGS, ids=lambda code: code.__name__)
@pytest.mark.parametrize("way", ["call", "submit"])
def test_a_timeout_really_kills_and_in_time(
    rt: pyfaas.Runtime, code: Callable[[Any, Any], Any], way: str
) -> None:
    def handler(event: Any, context: Any) -> Any:
        return code(event, context) if event else os.getpid()

    function = rt.register("handler", handler, timeout=TIMEOUT_S)
    late = []
    for _ in range(5):  # the best of five: the machine is shared, the mechanism is not
        victim = function.invoke()
        start = time.monotonic()
        error = function.call(1).error if way == "call" else function.submit(1).exception(20)
        late.append((time.monotonic() - start - TIMEOUT_S) * 1000)
        assert isinstance(error, pyfaas.FunctionTimeout)
        assert str(error).endswith("Task timed out after 0.30 seconds")
        wait_gone(victim)
    assert min(late) < LATE_MS
    if code is sleeps:
        assert "going to sleep" in getattr(error, "logs", "")
    assert isinstance(error, TimeoutError)


def test_a_flood_of_output_keeps_its_end_and_counts_the_rest(rt: pyfaas.Runtime) -> None:
    @rt.function(timeout=30)
    def flood(event: Any, context: Any) -> str:
        for i in range(event):
            print("line", i)
        return "done"

    outcome = flood.call(200_000)
    assert outcome.value == "done"
    lines = outcome.logs.splitlines()
    assert lines[-3] == "line 199999"
    assert lines[1].endswith("bytes of earlier output were dropped]")
    assert len(outcome.logs) < 300_000
    assert "dropped" not in flood.call(10).logs


INITS = {
    "raises": ("1/0", r"ZeroDivisionError: division by zero"),
    "syntax": ("def handler(:", r"SyntaxError"),
    "imports": ("import no_such_module", r"ModuleNotFoundError|No module named"),
    "no handler": ("x = 1", r"handler"),
    "exits": ("import sys; sys.exit(4)", r"exit status 4"),
    "exits at once": ("import os; os._exit(5)", r"exit status 5"),
    "dies": ("import ctypes; ctypes.string_at(0)", r"signal 11"),
    "hangs": ("while True: pass", r"timed out after 0.50 seconds"),
}


@pytest.mark.parametrize("name", INITS)
def test_init_that_fails(nothing_leaks: None, name: str) -> None:
    text, expected = INITS[name]
    with pyfaas.Runtime(init_timeout=0.5 if name == "hangs" else 10) as rt:
        function = rt.register("broken", pyfaas.Source(f"print('in init', flush=True)\n{text}\n"))
        for _ in range(2):
            with pytest.raises(pyfaas.InitError, match=expected) as info:
                function.invoke()
            assert not info.value.retryable
            assert ("in init" in info.value.logs) == (name != "syntax")
        assert isinstance(function.call().error, pyfaas.InitError)
        assert isinstance(function.submit().exception(20), pyfaas.InitError)
        assert rt.register("broken", good).invoke() == "good"


def test_init_that_leaves_a_thread_runs_in_each_instance(rt: pyfaas.Runtime) -> None:
    text = (
        "import threading, time\n"
        "print('init')\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "def handler(event, context):\n"
        "    return threading.active_count()\n"
    )
    function = rt.register("threaded", pyfaas.Source(text))
    outcome = function.call()
    assert outcome.value == 2
    assert "a fork cannot copy what init leaves behind (threads" in outcome.logs
    assert function.invoke() == 2
    assert rt.statistics().functions["threaded"].cold_starts == 1


def test_an_instance_that_dies_while_idle_is_noticed(rt: pyfaas.Runtime) -> None:
    function = rt.register("pid", lambda event, context: os.getpid())
    victim = function.invoke()
    os.kill(victim, signal.SIGKILL)
    wait_gone(victim)
    assert function.invoke() != victim
    assert rt.statistics().functions["pid"].errors == 0


def test_a_child_of_an_instance_dies_with_it(rt: pyfaas.Runtime) -> None:
    @rt.function(timeout=0.5)
    def forks(event: Any, context: Any) -> None:
        child = os.fork()
        if child == 0:
            os.setsid()
            while True:
                time.sleep(1)
        print(child)
        sys.stdout.flush()
        while True:
            pass

    outcome = forks.call()
    assert isinstance(outcome.error, pyfaas.FunctionTimeout)
    wait_gone(int(outcome.logs.splitlines()[1]))


def test_an_interrupt_in_a_wait_ends_the_invocation(rt: pyfaas.Runtime) -> None:
    import threading

    function = rt.register("sleeps", lambda event, context: time.sleep(event), timeout=60)
    function.invoke(0)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        function.invoke(50)
    timer.join()
    assert rt.statistics().busy == 0
    function.invoke(0)
