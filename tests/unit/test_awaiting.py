"""Mailbox: what threads put into it arrives, whatever they do at the same time, and in silence."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from pyfaas import _awaiting
from pyfaas._awaiting import Mailbox


class Interrupted(deque[Any]):
    """Has another thread put something in right after the first, before that one could look."""

    def __init__(self, other: Callable[[], None]) -> None:
        super().__init__()
        self.other: Callable[[], None] | None = other

    def append(self, item: Any) -> None:
        super().append(item)
        other, self.other = self.other, None
        if other is not None:
            other()


def test_two_that_post_at_the_same_time_wake_the_loop() -> None:
    async def main() -> list[Any]:
        mailbox = Mailbox()
        first: Future[int] = Future()
        second: Future[int] = Future()
        mailbox._mail = Interrupted(lambda: second.set_result(2))
        futures = [mailbox.expect(first), mailbox.expect(second)]
        first.set_result(1)
        async with asyncio.timeout(2):
            return await asyncio.gather(*futures)

    assert asyncio.run(main()) == [1, 2]


def test_what_is_posted_while_mail_is_delivered_arrives() -> None:
    async def main() -> None:
        mailbox = Mailbox()
        first: Future[int] = Future()
        later: Future[int] = Future()
        mailbox.expect(first).add_done_callback(lambda _: later.set_result(2))
        first.set_result(1)
        async with asyncio.timeout(2):
            assert await mailbox.expect(later) == 2

    asyncio.run(main())


def test_cancelled_and_failed_calls_end_their_futures_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        mailbox = Mailbox()
        cancelled: Future[int] = Future()
        failed: Future[int] = Future()
        futures = [mailbox.expect(cancelled), mailbox.expect(failed)]
        cancelled.cancel()
        failed.set_exception(ValueError("nobody asks"))
        await asyncio.wait(futures, timeout=2)
        assert futures[0].cancelled()
        assert futures[1].done()

    asyncio.run(main())
    gc.collect()
    assert caplog.text == ""


def leave_mail(posted: str) -> weakref.ref[asyncio.AbstractEventLoop]:
    call: Future[int] = Future()

    async def main() -> None:
        _awaiting._mailbox().expect(call)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    if posted == "before":
        call.set_result(1)
    loop.close()
    if posted == "after":
        call.set_result(1)
    return weakref.ref(loop)


@pytest.mark.parametrize("posted", ["before", "after"])
def test_mail_for_a_closed_loop_keeps_nothing_alive(posted: str) -> None:
    gone = leave_mail(posted)

    async def another() -> None:
        _awaiting._mailbox()

    asyncio.run(another())
    gc.collect()
    assert gone() is None
