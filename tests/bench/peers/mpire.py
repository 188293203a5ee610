"""mpire: a faster multiprocessing.Pool with worker state and progress bars."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from . import echo

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "mpire"


class Pool:
    """`apply` of mpire's WorkerPool, workers kept alive between calls."""

    def __init__(self, workers: int) -> None:
        import mpire

        # Two, since imap mistakes its arguments after apply. Workers start at the first use.
        self._applying = mpire.WorkerPool(n_jobs=workers, keep_alive=True)
        self._mapping = mpire.WorkerPool(n_jobs=workers, keep_alive=True)

    def call(self, event: object) -> object:
        return self._applying.apply(echo, (event,))

    def submit_all(self, events: Sequence[object]) -> None:
        for waiting in [self._applying.apply_async(echo, (event,)) for event in events]:
            waiting.get()

    def map(self, events: Sequence[object]) -> None:
        # One-tuples, since mpire spreads a dict over keyword arguments.
        collections.deque(self._mapping.imap(echo, [(event,) for event in events], chunk_size=1), maxlen=0)

    def close(self) -> None:
        for pool in (self._applying, self._mapping):
            pool.stop_and_join()
            pool.terminate()
