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

from pyfaas import _native
from pyfaas._worker import template


def run(control: int) -> None:
    """Fork wardens for the host until the supervisor is gone. Never returns, in none of the processes."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no process of a tree raises KeyboardInterrupt
    gc.collect()
    gc.freeze()  # the collector never touches these objects again, so their pages stay shared
    gc.enable()
    warden = _native.base_loop(control)
    order = _native.warden_loop(*warden) if warden is not None else None
    if order is not None:
        template.run(template.Order(*order))
    os._exit(0)
