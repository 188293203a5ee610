"""The base: an interpreter with the worker's side imported and no user code, from which everything is forked.

Everything that is imported here is shared by all functions and never imported again. It has to be worth its
time, though: the first result of a Runtime waits for it.
"""

from __future__ import annotations

import gc

# What most handlers import anyway.
import json  # noqa: F401
import os
import random  # noqa: F401
import signal
from typing import Any

from pyfaas import _native
from pyfaas._worker import handler, loop, template

#: After so many rounds CPython has specialised the code that every invocation runs.
_ROUNDS = 40


class _Rehearsal:
    """A peer that asks for the same thing a few times."""

    def __init__(self) -> None:
        self._left = _ROUNDS

    def receive(self) -> tuple[int, bytes, bytes, int] | None:
        self._left -= 1
        return (0, b"\x81\xa1n\x01", bytes(16), 10**9) if self._left >= 0 else None

    def reply(self, kind: int, payload: bytes, /) -> None:
        pass


def _echo(event: Any, _context: Any) -> Any:
    return {"n": event["n"]}


def rehearse() -> None:
    """Run the way of an invocation before anything is forked.

    Otherwise every instance would do it for the first time: count calls, specialise code, fill caches of types, and
    copy each page that it writes to.
    """
    settings = {
        "name": "",
        "version": "",
        "memory": 0,
        "log_group": "",
        "log_stream": "",
        "arn": "",
        "max_payload": 1 << 20,
        "trusted": False,
    }
    loop.serve(_Rehearsal(), handler.Handler(_echo, settings))


def run(control: int) -> None:
    """Fork wardens for the host until the supervisor is gone. Never returns, in none of the processes."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no process of a tree raises KeyboardInterrupt
    rehearse()
    gc.collect()
    gc.freeze()  # the collector never touches these objects again, so their pages stay shared
    gc.enable()
    warden = _native.base_loop(control)
    try:
        order = _native.warden_loop(*warden) if warden is not None else None
    except ProcessLookupError:
        os._exit(0)  # the base ended before its warden began: the host knows, and needs no traceback
    if order is not None:
        template.run(template.Order(*order))
    os._exit(0)
