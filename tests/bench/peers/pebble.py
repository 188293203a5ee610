"""pebble: process pools whose tasks can time out and be cancelled."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from . import echo

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "pebble"


class Pool:
    """`schedule().result()` of pebble's ProcessPool."""

    def __init__(self, workers: int) -> None:
        import pebble

        self._pool = pebble.ProcessPool(max_workers=workers)

    def call(self, event: object) -> object:
        return self._pool.schedule(echo, args=(event,)).result()

    def submit_all(self, events: Sequence[object]) -> None:
        for waiting in [self._pool.schedule(echo, args=(event,)) for event in events]:
            waiting.result()

    def map(self, events: Sequence[object]) -> None:
        collections.deque(self._pool.map(echo, events, chunksize=1).result(), maxlen=0)

    def close(self) -> None:
        self._pool.close()
        self._pool.join()
