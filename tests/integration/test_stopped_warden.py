"""A function that stops its warden, which a later layer will keep it from, hurts itself only, and nothing stays."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

import pyfaas

pytestmark = pytest.mark.integration

STOPS_ITS_WARDEN = """
import os, signal

def handler(event, context):
    if event == "stop":
        os.kill(os.getppid(), signal.SIGSTOP)
    return event
"""
HONEST = "def handler(event, context): return event"


def stopped() -> list[int]:
    """Wardens below this process that are stopped."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        found += [process.pid] * (state == "T")
    return found


def wait_stopped(count: int, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while len(stopped()) != count:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def answers_rightly(function: pyfaas.Function[object], number: int) -> bool:
    try:
        return function.invoke(number) == number
    except pyfaas.InstanceCrashed:
        return False


def test_it_ends_with_its_version(rt: pyfaas.Runtime) -> None:
    function = rt.register("f", pyfaas.Source(STOPS_ITS_WARDEN), timeout=1)
    assert function.invoke("stop") == "stop"
    assert wait_stopped(1)
    assert rt.register("f", pyfaas.Source(HONEST)).invoke(1) == 1
    assert wait_stopped(0)


def test_it_is_replaced_once_it_takes_no_messages(rt: pyfaas.Runtime) -> None:
    function = rt.register("f", pyfaas.Source(STOPS_ITS_WARDEN), timeout=1, reuse=1)
    assert function.invoke("stop") == "stop"
    assert wait_stopped(1)
    answers = [answers_rightly(function, number) for number in range(400)]
    assert answers.count(False) < 20
    assert all(answers[-100:])
    assert wait_stopped(0)
