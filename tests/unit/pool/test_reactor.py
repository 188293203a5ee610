"""The reactor's thread: what it is asked to do soon is done, whoever asks at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pyfaas._pool.reactor import Reactor


def test_a_call_that_comes_in_between_another_and_its_wake_up_is_made_too() -> None:
    reactor = Reactor()
    made = [threading.Event(), threading.Event()]

    class Interleaved(list[Callable[[], None]]):
        def append(self, call: Callable[[], None]) -> None:
            super().append(call)
            if call == made[0].set:  # another thread, at this very moment
                reactor.run_soon(made[1].set)

    reactor._soon = Interleaved()
    reactor.run_soon(made[0].set)
    assert all(one.wait(5) for one in made)
    reactor.close()


def test_many_threads_ask() -> None:
    reactor, done, count = Reactor(), threading.Semaphore(0), 200

    def ask() -> None:
        for _ in range(count):
            reactor.run_soon(done.release)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(4 * count):
        assert done.acquire(timeout=5)
    for thread in threads:
        thread.join()
    reactor.close()
