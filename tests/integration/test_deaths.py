"""Every process of the tree is killed, while calls are in flight and while none is: the next call works."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

import psutil
import pytest

import pyfaas

pytestmark = pytest.mark.integration

ROLES = ["pyfaas-inst", "pyfaas-tmpl", "pyfaas-warden", "pyfaas-base", "pyfaas-super"]


def nap(event: Any, context: Any) -> Any:
    time.sleep(event)
    return event


def kill(role: str, number: signal.Signals = signal.SIGKILL) -> int:
    victims = [one for one in psutil.Process().children(recursive=True) if one.name() == role]
    for victim in victims:
        victim.send_signal(number)
    return len(victims)


def kill_and_wait(role: str) -> int:
    """Kill, and wait until everything below is dead too; whether the host has heard of it is left open."""
    tree = psutil.Process().children(recursive=True)
    below = [child for one in tree if one.name() == role for child in one.children(recursive=True)]
    count = kill(role)
    assert not psutil.wait_procs(below, timeout=5)[1]
    return count


def wait_busy(rt: pyfaas.Runtime, count: int) -> None:
    deadline = time.monotonic() + 10
    while rt.statistics().busy < count:
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


@pytest.mark.parametrize("role", ROLES)
def test_death_with_calls_in_flight(rt: pyfaas.Runtime, role: str) -> None:
    function = rt.register("nap", nap, timeout=20)
    function.invoke(0)
    futures = [function.submit(0.5) for _ in range(3)]
    outcomes: list[pyfaas.Outcome[Any]] = []
    caller = threading.Thread(target=lambda: outcomes.append(function.call(0.5)))
    caller.start()
    wait_busy(rt, 4)
    assert kill(role)
    caller.join(10)
    errors = [future.exception(10) for future in futures] + [outcomes[0].error]
    for error in errors:
        if (
            error is None
        ):  # an instance does not need its template any more; a call that had not begun goes elsewhere
            continue
        assert isinstance(error, pyfaas.InstanceCrashed)
        if role == "pyfaas-inst":
            assert (error.reason, error.signal) == ("signal", signal.SIGKILL)
        else:
            assert (error.reason, error.retryable, error.fault) == ("runtime", True, "runtime")
    assert (errors == [None] * 4) == (role == "pyfaas-tmpl")
    assert function.invoke(0) == 0
    assert [future.result(10) for future in [function.submit(0) for _ in range(8)]] == [0] * 8


@pytest.mark.parametrize("role", ROLES)
def test_death_in_idleness_is_not_noticed_by_callers(rt: pyfaas.Runtime, role: str) -> None:
    for i in range(3):
        function = rt.register(f"nap-{i}", nap)
        assert function.invoke(0) == 0
        assert kill_and_wait(role)
        # At once, and when the host has heard of it.
        assert [future.result(10) for future in [function.submit(0) for _ in range(4)]] == [0] * 4
    assert rt.statistics().errors == 0


@pytest.mark.parametrize("role", ["pyfaas-base", "pyfaas-warden", "pyfaas-super"])
def test_death_while_a_function_is_started(rt: pyfaas.Runtime, role: str) -> None:
    text = "import time\ntime.sleep(0.5)\ndef handler(event, context):\n    return event\n"
    function = rt.register("slow", pyfaas.Source(text))
    future = function.submit(1)
    deadline = time.monotonic() + 10
    while not any(one.name() == "pyfaas-tmpl" for one in psutil.Process().children(recursive=True)):
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)
    assert kill(role)
    assert future.result(20) == 1


def test_a_supervisor_that_stands_still_does_not_stop_what_runs(rt: pyfaas.Runtime) -> None:
    function = rt.register("nap", nap)
    function.invoke(0)
    kill("pyfaas-super", signal.SIGSTOP)
    try:
        assert [function.invoke(0) for _ in range(5)] == [0] * 5
        assert [future.result(10) for future in [function.submit(0) for _ in range(8)]] == [0] * 8
    finally:
        kill("pyfaas-super", signal.SIGCONT)


def test_a_supervisor_that_stands_still_does_not_stop_the_close(nothing_leaks: None) -> None:
    rt = pyfaas.Runtime()
    rt.register("nap", nap).invoke(0)
    kill("pyfaas-super", signal.SIGSTOP)
    start = time.monotonic()
    rt.close()
    assert time.monotonic() - start < 5
