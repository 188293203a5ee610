"""loky: reusable, robust executors (used by joblib)."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from . import echo

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "loky"


class Pool:
    """`submit().result()` of loky's ProcessPoolExecutor."""

    def __init__(self, workers: int) -> None:
        import loky

        self._pool = loky.ProcessPoolExecutor(workers)

    def call(self, event: object) -> object:
        return self._pool.submit(echo, event).result()

    def submit_all(self, events: Sequence[object]) -> None:
        for waiting in [self._pool.submit(echo, event) for event in events]:
            waiting.result()

    def map(self, events: Sequence[object]) -> None:
        collections.deque(self._pool.map(echo, events, chunksize=1), maxlen=0)

    def close(self) -> None:
        self._pool.shutdown(wait=True)
