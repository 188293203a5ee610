"""Invocations that run while their caller does something else: futures whose `cancel` kills, and streams of them."""

from __future__ import annotations

import queue
import threading
from collections import deque
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

from pyfaas import _native
from pyfaas._dispatch import Call, outcome_of_refusal
from pyfaas._pool.version import START_ATTEMPTS
from pyfaas.errors import InstanceCrashed, InternalError, PyFaasError, RuntimeClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pyfaas._pool.pool import Instance, Origin, Pool
    from pyfaas.model import Outcome


class Submission(Future[Any]):
    """A `concurrent.futures.Future` of one invocation. `cancel` works until it is done: a running one is killed."""

    def __init__(self, pool: Pool, call: Call, *, outcome: bool, owner: object) -> None:
        super().__init__()
        self._owner: object = owner  # a Runtime that nobody else holds lives until this is done
        self._pool = pool
        self._call = call
        self._wants_outcome = outcome
        self._instance: Instance | None = None  # while it may be killed for this call
        self._used: Instance | None = None  # while this call has to give it back
        self._attempts = START_ATTEMPTS
        self._holding = threading.Lock()
        self._decision = threading.Lock()  # taken once: by the cancellation or by the result
        pool.enqueue(call.version, self)

    def cancel(self) -> bool:
        """Take it out of the queue, or kill the instance that runs it. `False` only if it is done already."""
        if not self._decision.acquire(blocking=False):
            return self.cancelled()
        self._owner = None
        super().cancel()
        self.set_running_or_notify_cancel()
        self._pool.withdraw(self._call.version, self)
        with self._holding:  # so that the instance is not another's by then
            if self._instance is not None:
                self._instance.channel.kill()
        return True

    def running(self) -> bool:
        """Whether an instance runs it now."""
        return self._instance is not None and not self.done()

    # Waiter: see pyfaas._pool.ticket.Waiter

    def run(self, instance: Instance) -> None:
        """Post the request to a warm instance."""
        self._guard(self._go, instance)

    def start(self) -> None:
        """Start an instance as soon as there is something that it can come from."""
        self._call.version.when_ready(partial(self._guard, self._origin_ready))

    def refuse(self, error: PyFaasError) -> None:
        """End with an error."""
        self._call.count_failed_start(error)
        self._finish(outcome_of_refusal(error))

    def _guard(self, step: Callable[[Any], None], argument: Any) -> None:
        """Take a step in a thread that is not the caller's: what goes wrong belongs into the future."""
        try:
            step(argument)
        except Exception as error:  # noqa: BLE001  # or the future would never be done
            if self._used is not None:
                self._pool.lost(self._used, ended=True)
            text = f"'{self._call.version.name}': {type(error).__name__}: {error}"
            self._finish(outcome_of_refusal(InternalError(text)))

    def _origin_ready(self, origin: Origin | PyFaasError) -> None:
        version = self._call.version
        if self.cancelled() or isinstance(origin, PyFaasError):
            self._pool.refused(version)
            if isinstance(origin, PyFaasError) and not self._again(origin):
                self.refuse(origin)
            return
        try:
            instance = version.new_instance(origin)
        except OSError as error:
            self._pool.refused(version)
            version.doubt(origin)
            lost = InstanceCrashed(f"no instance could be started: {error}", reason="runtime")
            if not self._again(lost):
                self.refuse(lost)
            return
        self._go(instance)

    def _again(self, error: PyFaasError) -> bool:
        """Ask once more when there is a new version, or when the processes above died through nobody's fault."""
        if isinstance(error, RuntimeClosed) and not self.cancelled() and self._call.follow():
            self._pool.enqueue(self._call.version, self)
            return True
        self._attempts -= 1
        lost = isinstance(error, InstanceCrashed) and error.reason == "runtime"
        if not lost or self._attempts <= 0 or self.cancelled():
            return False
        self._pool.enqueue(self._call.version, self)
        return True

    def _go(self, instance: Instance) -> None:
        self._instance = self._used = instance
        reactor = self._pool.reactor
        try:
            if instance.on_decided is None:
                reactor.add_channel(instance.token, instance.channel, instance.decided)
            instance.on_decided = partial(self._guard, self._decided)
            self._call.begin(instance)
            self._call.post(instance)
            reactor.arm(instance.token)
        except OSError:
            self._decided(_native.WAIT_DEAD)
            return
        with self._holding:
            if self._instance is instance and self.cancelled():
                instance.channel.kill()  # cancelled while it was being posted: the first kill came too early

    def _decided(self, wait: int) -> None:
        """Conclude a call, in the reactor's thread."""
        instance = self._instance
        assert instance is not None
        reply = instance.channel.take(wait)
        if type(reply) is bytes or reply[0] == _native.WAIT_REPLY:
            self._conclude(instance, reply)
            return
        self._call.settle(instance)  # so that its exit is reported
        self._pool.when_exited(instance, partial(self._guard, partial(self._conclude, instance), reply))

    def _conclude(self, instance: Instance, reply: Any) -> None:
        with self._holding:
            self._instance = None
        if self.cancelled():
            self._used = None
            self._call.conclude_cancelled(instance)
            return
        self._attempts -= self._call.cold  # a warm instance that turns out dead costs no attempt
        if self._attempts > 0 and self._call.never_started(instance, reply):
            self._used = None
            self._call.start_over(instance)
            self._pool.enqueue(self._call.version, self)
            return
        outcome = self._call.conclude(instance, reply)
        self._used = None
        self._finish(outcome)

    def _finish(self, outcome: Outcome[Any]) -> None:
        if not self._decision.acquire(blocking=False):
            return
        self._owner = None
        self.set_running_or_notify_cancel()
        if self._wants_outcome:
            self.set_result(outcome)
        elif outcome.error is not None:
            self.set_exception(outcome.error)
        else:
            self.set_result(outcome.value)


def refused(error: PyFaasError) -> Future[Any]:
    """Return a future that holds the outcome of an invocation that never began."""
    future: Future[Any] = Future()
    future.set_result(outcome_of_refusal(error))
    return future


def in_order(submit: Callable[[Any], Future[Any]], events: Iterable[Any], window: int) -> Iterator[Any]:
    """Yield the results of many invocations in the order of their events, `window` of them in flight."""
    flying: deque[Future[Any]] = deque()

    def next_in_order() -> Any:
        result = flying[0].result()  # it is in flight until then: an interrupt cancels it with the others
        flying.popleft()
        return result

    try:
        for event in events:
            flying.append(submit(event))
            if len(flying) >= window:
                yield next_in_order()
        while flying:
            yield next_in_order()
    finally:
        for future in flying:
            future.cancel()


def as_they_come(submit: Callable[[Any], Future[Any]], events: Iterable[Any], window: int) -> Iterator[Any]:
    """Yield the results of many invocations as they are done, `window` of them in flight."""
    done: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
    flying: set[Future[Any]] = set()

    def next_done() -> Any:
        future = done.get()
        flying.discard(future)
        return future.result()

    try:
        for event in events:
            future = submit(event)
            flying.add(future)
            future.add_done_callback(done.put)
            if len(flying) >= window:
                yield next_done()
        while flying:
            yield next_done()
    finally:
        for future in flying:
            future.cancel()
