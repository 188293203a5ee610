"""The process pools that pyfaas is measured beside.

Each module here has the same shape, so that adding a peer is adding a file and its name below:

    NAME: str                         as printed
    Pool(workers)                     opens it; ImportError when it is not installed
    Pool.call(event) -> result        one call, waits for it
    Pool.submit_all(events)           submits each on its own, then waits for all
    Pool.map(events)                  one item per message, waits for all
    Pool.close()
"""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MODULES = ("multiprocessing_pool", "process_pool_executor", "loky", "pebble", "mpire")


class Pool(Protocol):
    """An open pool."""

    def __init__(self, workers: int) -> None: ...

    def call(self, event: object) -> object: ...
    def submit_all(self, events: Sequence[object]) -> None: ...
    def map(self, events: Sequence[object]) -> None: ...
    def close(self) -> None: ...


class PeerModule(Protocol):
    """What a module of this package offers."""

    NAME: str
    Pool: type[Pool]


def echo(event: object) -> object:
    """What every pool runs: it must be importable by the pool's workers, so it stands here."""
    return event


VARIANTS = {"1 worker": (1, False), "2 workers": (2, False), "1 worker on our CPU": (1, True)}
"""How each peer is opened: (workers, whether all of it shares one CPU). The best counts.

On one CPU a wake-up needs no interrupt to another, which makes a pool that hands over and waits several times faster.
"""


@contextlib.contextmanager
def opened(module: str, variant: str) -> Iterator[Pool]:
    """The peer, open in one of its variants; ImportError when it is not installed."""
    workers, one_cpu = VARIANTS[variant]
    allowed = os.sched_getaffinity(0)
    try:
        if one_cpu:
            _pin({min(allowed)})
        pool = load(module).Pool(workers)
        try:
            yield pool
        finally:
            pool.close()
    finally:
        _pin(allowed)


def _pin(cpus: set[int]) -> None:
    """Let all threads of this process run on these CPUs only; what it starts from now on inherits that."""
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(int(thread), cpus)


def load(module: str) -> PeerModule:
    """The peer's module; it imports the peer itself only when opened."""
    return cast("PeerModule", importlib.import_module(f".{module}", __package__))
