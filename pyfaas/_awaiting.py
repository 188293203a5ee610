"""Invocations that are awaited: the loop of asyncio goes on, and cancelling a task kills its call.

What is over at once needs no future and no wake-up of the loop (see `pyfaas._submission.begin`); results of all else
come from the reactor's thread in batches, one wake-up for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections import deque
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

from pyfaas._submission import Submission, begin

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable

    from pyfaas._pool.pool import Pool, Version
    from pyfaas._stream import Width

#: After so many calls that were over at once, others of the loop have their turn. One takes at most 0.1 ms.
_AT_ONCE = 8


class Mailbox:
    """What the reactor's thread has for one loop."""

    def __init__(self) -> None:
        self._at_once = 0
        self._mail: deque[tuple[asyncio.Future[Any], Future[Any]]] = deque()

    async def take_turns(self) -> None:
        """Let others run, now and then: for a call that was over before anybody could."""
        self._at_once += 1
        if self._at_once >= _AT_ONCE:
            self._at_once = 0
            await asyncio.sleep(0)

    def expect(self, call: Future[Any]) -> asyncio.Future[Any]:
        """Return a future of the running loop that ends as the call does."""
        self._at_once = 0
        future = asyncio.get_running_loop().create_future()
        call.add_done_callback(partial(self._post, future))
        return future

    def _post(self, future: asyncio.Future[Any], call: Future[Any]) -> None:
        self._mail.append((future, call))
        if len(self._mail) == 1:  # otherwise the loop is still to come for what is there
            with contextlib.suppress(RuntimeError):  # it was closed: nobody waits
                future.get_loop().call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        while self._mail:
            future, call = self._mail.popleft()
            if future.done():
                continue  # cancelled meanwhile
            if call.cancelled():
                future.cancel()
            elif (error := call.exception()) is not None:
                future.set_exception(error)
            else:
                future.set_result(call.result())


_mailboxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Mailbox] = weakref.WeakKeyDictionary()


def _mailbox() -> Mailbox:
    loop = asyncio.get_running_loop()
    mailbox = _mailboxes.get(loop)
    if mailbox is None:
        mailbox = _mailboxes[loop] = Mailbox()
    return mailbox


async def ainvoke(pool: Pool, version: Version, event: Any, owner: object) -> Any:
    """Run an invocation and return its value, or raise its error; errors as of `pyfaas._dispatch.invoke`."""
    mailbox = _mailbox()
    got = begin(pool, version, event, owner)
    if isinstance(got, Submission):
        return await _result(mailbox.expect(got), got)
    await mailbox.take_turns()
    return got


async def _result(future: asyncio.Future[Any], call: Submission) -> Any:
    try:
        return await future
    except asyncio.CancelledError:
        call.cancel()
        raise


class _Flight:
    """Invocations of a stream that have begun and whose results were not taken yet."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._calls: dict[asyncio.Future[Any], Future[Any]] = {}  # in the order in which they began
        self._done: asyncio.Queue[asyncio.Future[Any]] = asyncio.Queue()

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: Future[Any]) -> None:
        """Take one that has begun."""
        future = self._mailbox.expect(call)
        self._calls[future] = call
        future.add_done_callback(self._done.put_nowait)

    def hold(self, value: Any) -> None:
        """Take the value of one that is over, and whose turn has not come."""
        future = asyncio.get_running_loop().create_future()
        future.set_result(value)
        self._calls[future] = _OVER

    async def take(self, *, ordered: bool, patience: float | None) -> asyncio.Future[Any] | None:
        """Return the first, or one that is done; `None` if there is none within `patience` seconds."""
        if ordered:
            future = next(iter(self._calls))
            if not future.done() and not (await asyncio.wait({future}, timeout=patience))[0]:
                return None
        else:
            try:
                async with asyncio.timeout(patience):
                    future = await self._done.get()
            except TimeoutError:
                return None
        del self._calls[future]
        return future

    def is_one_done(self, *, ordered: bool) -> bool:
        """Whether `take` would return at once."""
        return next(iter(self._calls)).done() if ordered else not self._done.empty()

    def cancel(self) -> None:
        """Kill what runs."""
        for future, call in self._calls.items():
            future.cancel()
            call.cancel()


#: Stands for a call that is over.
_OVER: Future[Any] = Future()
_OVER.set_result(None)


async def amap(
    start: Callable[[Any], Any], events: Iterable[Any] | AsyncIterable[Any], width: Width, *, ordered: bool
) -> AsyncIterator[Any]:
    """Yield the results for many events; arguments as of `pyfaas._stream.in_order`, or also an async iterable."""
    mailbox = _mailbox()
    flight = _Flight(mailbox)
    try:
        async for event in _each(events):
            got = start(event)
            if isinstance(got, Future):
                flight.add(got)
                width.begun(len(flight))
            elif len(flight) and ordered:
                flight.hold(got)
            else:
                if not len(flight):
                    width.alone()
                yield got
                await mailbox.take_turns()
                continue
            while len(flight) and (flight.is_one_done(ordered=ordered) or width.is_reached(len(flight))):
                done = await flight.take(ordered=ordered, patience=width.patience())
                if done is None:
                    width.widen()
                else:
                    yield done.result()
        while len(flight):
            done = await flight.take(ordered=ordered, patience=None)
            assert done is not None
            yield done.result()
    finally:
        flight.cancel()


async def _each(events: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if hasattr(events, "__aiter__"):
        async for event in events:
            yield event
    else:
        for event in events:
            yield event
