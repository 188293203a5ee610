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

import importlib
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def load(module: str) -> PeerModule:
    """The peer's module; it imports the peer itself only when opened."""
    return cast("PeerModule", importlib.import_module(f".{module}", __package__))
