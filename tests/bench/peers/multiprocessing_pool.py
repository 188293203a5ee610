"""multiprocessing.Pool of the standard library."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from . import echo

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "multiprocessing.Pool"


class Pool:
    """`Pool.apply` with the platform's default start method."""

    def __init__(self, workers: int) -> None:
        import multiprocessing

        self._pool = multiprocessing.Pool(workers)

    def call(self, event: object) -> object:
        return self._pool.apply(echo, (event,))

    def submit_all(self, events: Sequence[object]) -> None:
        for waiting in [self._pool.apply_async(echo, (event,)) for event in events]:
            waiting.get()

    def map(self, events: Sequence[object]) -> None:
        collections.deque(self._pool.imap(echo, events, chunksize=1), maxlen=0)

    def close(self) -> None:
        self._pool.terminate()
        self._pool.join()
