"""Functions that attack their own channel: the caller learns what happened, and nobody else notices."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np  # noqa: F401  # so that arrays are read as arrays
import pytest

import pyfaas

pytestmark = pytest.mark.integration

SOURCE = Path(__file__).with_name("hostile_peer.py").read_text()
MARKER = Path("/tmp/pyfaas-unpickled")
#: What each attack may end as. The value means that it changed nothing.
PROTOCOL, TIMEOUT, VALUE = "protocol", "timeout", "value"
ATTACKS: dict[str, set[str]] = {
    "no_attack": {VALUE},
    "random_bytes": {PROTOCOL, TIMEOUT},  # the flag that says whether the host has to be rung is in there too
    "forged_id": {PROTOCOL},
    "partial_reply": {TIMEOUT},
    "impossible_need": {PROTOCOL},
    "gigantic_reply": {PROTOCOL},
    "arena_that_is_none": {PROTOCOL},
    "unknown_kind": {PROTOCOL},
    "pickled_reply": {PROTOCOL},
    "buffer_beyond_the_end": {PROTOCOL},
    "buffers_without_number": {PROTOCOL},
    "text_beyond_the_end": {PROTOCOL},
    "buffer_of_nothing": {PROTOCOL},
    "array_without_buffer": {PROTOCOL},
    "array_of_another_size": {PROTOCOL},
    "array_of_objects": {PROTOCOL},
    "booleans_of_two": {PROTOCOL},
    "arrow_stream": {PROTOCOL},
    "no_value": {PROTOCOL},
    "no_error": {PROTOCOL},
    "closed_doorbell": {PROTOCOL},
    "doorbell_shut_down": {PROTOCOL},
    "storm_of_bells": {PROTOCOL},
    "descriptors": {PROTOCOL},
    "second_hello": {PROTOCOL},
    "garbage_on_the_doorbell": {PROTOCOL},
    "late_reply": {TIMEOUT},
    "punched_memory": {PROTOCOL, TIMEOUT},
    "resized_memory": {VALUE},
}


def echo(event: Any, context: Any) -> Any:
    return event


class Canary:
    """Calls another function all the time; each result has to be right."""

    def __init__(self, rt: pyfaas.Runtime) -> None:
        self._function = rt.register("canary", echo)
        self._stop = threading.Event()
        self.calls = 0
        self.errors: list[object] = []
        self._sing_once()
        self._thread = threading.Thread(target=self._sing)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sing(self) -> None:
        while not self._stop.wait(0.001):
            self._sing_once()

    def _sing_once(self) -> None:
        event = {"number": self.calls, "bytes": os.urandom(100)}
        try:
            got = self._function.invoke(event)
        except pyfaas.PyFaasError as error:
            got = error
        if got != event:
            self.errors.append(got)
        self.calls += 1


@pytest.fixture
def canary(rt: pyfaas.Runtime) -> Iterator[Canary]:
    with Canary(rt) as singing:
        yield singing
    assert singing.calls > 10
    assert not singing.errors


def verdict(function: pyfaas.Function[Any], way: str, attack: str) -> str:
    """Run an attack and return how it ended, from the caller's side."""
    try:
        value = function.invoke(attack) if way == "invoke" else function.submit(attack).result(20)
    except pyfaas.FunctionTimeout:
        return TIMEOUT
    except pyfaas.InstanceCrashed as error:
        return error.reason
    return VALUE if value == attack else f"another's value: {value!r}"


def held() -> tuple[int, list[str]]:
    """Descriptors and threads of the host."""
    return len(os.listdir("/proc/self/fd")), sorted(thread.name for thread in threading.enumerate())


def settled(wanted: tuple[int, list[str]] | None = None) -> tuple[int, list[str]]:
    """What is held once that is as wanted, or stays the same: the stock for cold starts is filled up in between."""
    deadline = time.monotonic() + 5
    now, since = held(), time.monotonic()
    while time.monotonic() < deadline and (now != wanted if wanted else time.monotonic() - since < 0.05):
        time.sleep(0.005)
        before, now = now, held()
        since = since if now == before else time.monotonic()
    return now


@pytest.mark.parametrize("way", ["invoke", "submit"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_attack(rt: pyfaas.Runtime, canary: Canary, attack: str, way: str) -> None:
    function = rt.register("hostile", pyfaas.Source(SOURCE), timeout=1)
    for _ in range(2):  # in a new instance, then in one that has served
        assert function.invoke("no_attack") == "no_attack"
        before = settled()
        assert verdict(function, way, attack) in ATTACKS[attack]
        assert function.invoke("no_attack") == "no_attack"
        assert settled(before) == before
    assert not MARKER.exists()


@pytest.mark.parametrize("way", ["invoke", "submit"])
@pytest.mark.parametrize("attack", ["doubled_reply", "early_reply"])
def test_a_reply_too_many_ends_the_next_call(
    rt: pyfaas.Runtime, canary: Canary, attack: str, way: str
) -> None:
    function = rt.register("hostile", pyfaas.Source(SOURCE), timeout=1)
    assert function.invoke("no_attack") == "no_attack"
    before = settled()
    assert function.invoke(attack) in (attack, None)
    threading.Event().wait(0.2)  # for the reply that nobody asked for
    assert verdict(function, way, "no_attack") == PROTOCOL
    assert function.invoke("no_attack") == "no_attack"
    assert settled(before) == before
