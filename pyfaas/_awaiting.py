"""Invocations that are awaited: the loop of asyncio goes on, and cancelling a task kills its call.

What is over at once needs no future and no wake-up of the loop (see `pyfaas._submission.begin`); results of all else
come from the reactor's thread in batches, one wake-up for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections import deque
from collections.abc import AsyncIterable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

from pyfaas._submission import Submission, begin

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable

    from pyfaas._pool.pool import Pool, Version
    from pyfaas._stream import Width

#: After so many calls, others of the loop have their turn. To begin one takes at most 0.1 ms.
_AT_ONCE = 8


class Mailbox:
    """What the reactor's thread has for one loop."""

    def __init__(self) -> None:
        self._at_once = 0
        self._mail: deque[tuple[asyncio.Future[Any], Future[Any]]] = deque()
        self._woken = False  # the loop is still to come for what is there

    async def take_turns(self) -> None:
        """Let others run, now and then: for calls that are over, or have begun, before anybody else could."""
        self._at_once += 1
        if self._at_once >= _AT_ONCE:
            self._at_once = 0
            await asyncio.sleep(0)

    def expect(self, call: Future[Any]) -> asyncio.Future[Any]:
        """Return a future of the running loop that ends as the call does."""
        future = asyncio.get_running_loop().create_future()
        call.add_done_callback(partial(self._post, future))
        return future

    def _post(self, future: asyncio.Future[Any], call: Future[Any]) -> None:
        # Several threads may be here: reactors of several Runtimes, and the loop's own. So first tell, then look; one
        # wake-up too many does no harm.
        self._mail.append((future, call))
        if self._woken:
            return
        self._woken = True
        try:
            future.get_loop().call_soon_threadsafe(self._deliver)
        except RuntimeError:  # it was closed: nobody waits
            self._mail.clear()

    def _deliver(self) -> None:
        self._woken = False  # before the first look: what comes from now on wakes again
        while self._mail:
            future, call = self._mail.popleft()
            if future.done():
                continue  # cancelled meanwhile
            if call.cancelled():
                future.cancel()
            elif (error := call.exception()) is not None:
                future.set_exception(error)
                future.exception()  # whoever does not ask for it was cancelled: nothing that asyncio has to report
            else:
                future.set_result(call.result())


_mailboxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Mailbox] = weakref.WeakKeyDictionary()


def _mailbox() -> Mailbox:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        text = "ainvoke and amap need a running loop of asyncio; elsewhere (trio, a thread) use invoke, in a thread"
        raise RuntimeError(text) from None
    mailbox = _mailboxes.get(loop)
    if mailbox is None:
        for reference in _mailboxes.keyrefs():  # mail that nobody will fetch keeps its loop alive
            other = reference()
            if other is not None and other.is_closed():
                _mailboxes.pop(other, None)
        mailbox = _mailboxes[loop] = Mailbox()
    return mailbox


async def ainvoke(pool: Pool, version: Version, event: Any, owner: object) -> Any:
    """Run an invocation and return its value, or raise its error; errors as of `pyfaas._dispatch.invoke`."""
    mailbox = _mailbox()
    got = begin(pool, version, event, owner)
    if not isinstance(got, Submission):
        await mailbox.take_turns()
        return got
    if got.is_queued:
        return await _result_in_time(mailbox, got, version.config.max_wait)
    return await _result(mailbox, got)


async def _result(mailbox: Mailbox, call: Submission) -> Any:
    try:
        return await mailbox.expect(call)
    except (asyncio.CancelledError, GeneratorExit):  # the latter: its loop is gone
        call.cancel()
        raise


async def _result_in_time(mailbox: Mailbox, call: Submission, seconds: float) -> Any:
    """As `_result`, for a call that waits for an instance, which it may do for so long."""
    if seconds <= 0:
        call.lose_patience()
        return await _result(mailbox, call)
    timer = asyncio.get_running_loop().call_later(seconds, call.lose_patience)
    try:
        return await _result(mailbox, call)
    finally:
        timer.cancel()


class _Flight:
    """Invocations of a stream that have begun and whose results were not taken yet."""

    def __init__(self, mailbox: Mailbox, *, ordered: bool) -> None:
        self.landed = asyncio.Event()  # set whenever a call is done; whoever waits clears it
        self._mailbox = mailbox
        self._ordered = ordered
        self._calls: dict[asyncio.Future[Any], Future[Any]] = {}  # in the order in which they began
        self._done: deque[asyncio.Future[Any]] = deque()  # in the order in which they ended

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: Future[Any]) -> None:
        """Take one that has begun."""
        future = self._mailbox.expect(call)
        self._calls[future] = call
        future.add_done_callback(self._land)

    def _land(self, future: asyncio.Future[Any]) -> None:
        if not self._ordered:
            self._done.append(future)
        self.landed.set()

    def hold(self, value: Any) -> None:
        """Take the value of one that is over, and whose turn has not come."""
        future = asyncio.get_running_loop().create_future()
        future.set_result(value)
        self._calls[future] = _OVER

    def is_one_due(self) -> bool:
        """Whether there is one to `take`."""
        if not self._calls:
            return False
        return next(iter(self._calls)).done() if self._ordered else bool(self._done)

    async def wait_due(self, patience: float | None) -> bool:
        """Wait until there is one to take; `False` if there is none within `patience` seconds."""
        if self.is_one_due():
            return True
        try:
            async with asyncio.timeout(patience):
                while not self.is_one_due():
                    self.landed.clear()
                    await self.landed.wait()
        except TimeoutError:
            return self.is_one_due()
        return True

    def take(self) -> Any:
        """Return the value of one that is due, or raise its error."""
        future = next(iter(self._calls)) if self._ordered else self._done.popleft()
        del self._calls[future]
        return future.result()

    def cancel(self) -> None:
        """Kill what runs."""
        for call in self._calls.values():
            call.cancel()


#: Stands for a call that is over.
_OVER: Future[Any] = Future()
_OVER.set_result(None)
#: Stands for an event: there is none yet, but a result.
_NONE_YET = object()


async def amap(
    start: Callable[[Any], Any], events: Iterable[Any] | AsyncIterable[Any], width: Width, *, ordered: bool
) -> AsyncIterator[Any]:
    """Yield the results for many events; arguments as of `pyfaas._stream.in_order`, or also an async iterable."""
    mailbox = _mailbox()
    flight = _Flight(mailbox, ordered=ordered)
    try:
        async with contextlib.aclosing(_each(events, flight)) as each:
            async for event in each:
                got = _NONE_YET if event is _NONE_YET else start(event)
                if isinstance(got, Future):
                    flight.add(got)
                    width.begun(len(flight))
                elif got is not _NONE_YET and len(flight) and ordered:
                    flight.hold(got)
                elif got is not _NONE_YET:
                    if not len(flight):
                        width.alone()
                    yield got
                await mailbox.take_turns()
                while len(flight) and (flight.is_one_due() or width.is_reached(len(flight))):
                    if await flight.wait_due(width.patience()):
                        yield flight.take()
                    else:
                        width.widen()
        while len(flight):
            await flight.wait_due(None)
            yield flight.take()
    finally:
        flight.cancel()


async def _each(events: Iterable[Any] | AsyncIterable[Any], flight: _Flight) -> AsyncGenerator[Any, None]:
    """Yield the events; and `_NONE_YET` when a result is due before the next event has come."""
    if not isinstance(events, AsyncIterable):
        for event in events:
            yield event
        return
    # In a task of its own, so that results of events need not wait for the event after them.
    fetched: deque[Any] = deque()
    room = asyncio.Event()
    fetching = asyncio.create_task(_fetch(events, fetched, room, flight.landed))
    fetching.add_done_callback(lambda _: flight.landed.set())
    try:
        while fetched or not fetching.done():
            if fetched:
                event = fetched.popleft()
                room.set()
                yield event
            elif flight.is_one_due():
                yield _NONE_YET
            else:
                flight.landed.clear()
                await flight.landed.wait()
        fetching.result()  # what the events' own code raised
    finally:
        fetching.cancel()
        await asyncio.wait([fetching])
        if not fetching.cancelled():
            fetching.exception()  # nobody waits for more events: nothing that asyncio has to report


async def _fetch(
    events: AsyncIterable[Any], fetched: deque[Any], room: asyncio.Event, news: asyncio.Event
) -> None:
    """Take events one by one, each as soon as the one before it was begun."""
    async for event in events:
        room.clear()
        fetched.append(event)
        news.set()
        await room.wait()
