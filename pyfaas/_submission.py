"""Invocations that run while their caller does something else: futures whose `cancel` kills.

Handing a call to the reactor and getting its result back costs ten times what a short function takes. So `begin` looks
for the reply for a moment first, and only what takes longer becomes a `Submission`. How long that moment pays is
learned by each channel from the calls before (native/core/pf_spin.h).
"""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import TYPE_CHECKING, Any

from pyfaas import _native
from pyfaas._dispatch import ENCODED_SLOWLY, UNDECODABLE, Call, outcome_of_refusal
from pyfaas._ipc.values import check_value, decode_plain, encode_plain
from pyfaas._native import check_encoded
from pyfaas._pool.version import START_ATTEMPTS
from pyfaas.errors import InstanceCrashed, InternalError, InvalidEvent, PyFaasError, RuntimeClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfaas._pool.pool import Instance, Origin, Pool, Version
    from pyfaas.model import Outcome

#: Largest event that is copied while its caller waits.
_ATTEMPT_LIMIT = 65_536
#: What a wake-up takes, with a margin.
PATIENCE = 0.000_1
#: What an answer takes from an instance that sleeps, by way of the reactor.
_PATIENCE_ALONE = 0.000_3
#: After how many calls that were not over at once `submit` stops to wait a moment for each.
_STREAK = 16
#: So many waiting calls fail inside each other when none of them can get an instance; the next begin anew.
_DEPTH = 16
_leaving = threading.local()


class Submission(Future[Any]):
    """A `concurrent.futures.Future` of one invocation. `cancel` works until it is done: a running one is killed."""

    def __init__(
        self,
        pool: Pool,
        call: Call,
        *,
        outcome: bool,
        owner: object,
        begun: tuple[Instance, Any] | None = None,
    ) -> None:
        """Ask for an instance; or go on with a call that was `begun`: on which one, and what `attempt` returned."""
        super().__init__()
        self._owner: object = owner  # a Runtime that nobody else holds lives until this is done
        self._pool = pool
        self._call = call
        self._wants_outcome = outcome
        self._instance: Instance | None = None  # while it may be killed for this call
        self._used: Instance | None = None  # while this call has to give it back
        self._starting: Version | None = None  # while this call has room there and no instance
        self._attempts = START_ATTEMPTS
        self.is_queued = True  # until an instance, or room for one, was given to it
        self._holding = threading.Lock()
        self._decision = threading.Lock()  # taken once: by the cancellation or by the result
        call.detach()
        if begun is None:
            pool.enqueue(call.version, self)
            return
        instance, reply = begun
        self.is_queued = False
        self._instance = self._used = instance
        self._guard(self._watch if reply is True else partial(self._ended, reply), instance)

    def cancel(self) -> bool:
        """Take it out of the queue, or kill the instance that runs it. `False` only if it is done already."""
        if not self._decision.acquire(blocking=False):
            return self.cancelled()
        self._owner = None
        try:
            super().cancel()
            self.set_running_or_notify_cancel()
        finally:  # also when a callback was interrupted
            self._pool.withdraw(self._call.version, self)
            with self._holding:  # so that the instance is not another's by then
                if self._instance is not None:
                    self._instance.channel.kill()
        return True

    def lose_patience(self) -> None:
        """End with `Throttled` if it still waits for an instance."""
        error = self._pool.out_of_patience(self._call.version, self)
        if error is not None:
            self.refuse(error)

    def running(self) -> bool:
        """Whether an instance runs it now."""
        return self._instance is not None and not self.done()

    # Waiter: see pyfaas._pool.ticket.Waiter

    def run(self, instance: Instance) -> None:
        """Post the request to a warm instance."""
        self.is_queued = False
        self._guard(self._go, instance)

    def start(self) -> None:
        """Start an instance as soon as there is something that it can come from."""
        self.is_queued = False
        self._starting = version = self._call.version
        self._guard(version.when_ready, partial(self._guard, self._origin_ready))

    def refuse(self, error: PyFaasError) -> None:
        """End with an error."""
        self._call.count_failed_start(error)
        self._finish(outcome_of_refusal(error))

    def _guard(self, step: Callable[[Any], None], argument: Any) -> None:
        """Take a step in a thread that is not the caller's: what goes wrong belongs into the future."""
        try:
            step(argument)
        except BaseException as error:  # or the future would never be done
            try:
                self._let_go()
            finally:
                text = f"'{self._call.version.name}': {type(error).__name__}: {error}"
                self._finish(outcome_of_refusal(InternalError(text)))
            if not isinstance(error, Exception):
                raise  # an interrupt, which is the caller's

    def _let_go(self) -> None:
        """Give up the instance, or the room for one, that this call has."""
        used, self._used = self._used, None
        if used is not None:
            self._call.conclude_cancelled(used)
        elif self._starting is not None:
            self._leave_room()

    def _leave_room(self) -> None:
        """Say that no instance is started. The next that waits may fail in the same way, and so on: not too deep."""
        version, self._starting = self._starting, None
        assert version is not None
        depth = getattr(_leaving, "depth", 0)
        if depth >= _DEPTH:
            self._pool.reactor.run_soon(partial(self._pool.refused, version))
            return
        _leaving.depth = depth + 1
        try:
            self._pool.refused(version)
        finally:
            _leaving.depth = depth

    def _origin_ready(self, origin: Origin | PyFaasError) -> None:
        version = self._call.version
        if self.cancelled() or isinstance(origin, PyFaasError):
            self._leave_room()
            if isinstance(origin, PyFaasError) and not self._again(origin):
                self.refuse(origin)
            return
        try:
            instance = version.new_instance(origin)
        except OSError as error:
            self._leave_room()
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
        self._starting = None
        try:
            self._call.begin(instance)
            self._call.post(instance)
        except OSError:
            self._decided(_native.WAIT_DEAD)
            return
        self._watch(instance)

    def _watch(self, instance: Instance) -> None:
        """Have the reactor wait for the reply to what was posted."""
        reactor = self._pool.reactor
        try:
            if instance.on_decided is None:
                reactor.add_channel(instance.token, instance.channel, instance.decided)
            instance.on_decided = partial(self._guard, self._decided)
            reactor.arm(instance.token)
        except OSError:
            instance.channel.kill()  # nobody would see its reply
            self._decided(_native.WAIT_DEAD)
            return
        with self._holding:
            if self._instance is instance and self.cancelled():
                instance.channel.kill()  # cancelled while it was being posted: the first kill came too early

    def _decided(self, wait: int) -> None:
        """Conclude a call, in the reactor's thread."""
        instance = self._instance
        assert instance is not None
        self._ended(instance.channel.take(wait), instance)

    def _ended(self, reply: Any, instance: Instance) -> None:
        if type(reply) is bytes or reply[0] == _native.WAIT_REPLY:
            self._conclude(instance, reply)
            return
        self._call.settle(instance)  # so that its exit is reported
        self._pool.when_exited(instance, partial(self._guard, partial(self._conclude, instance), reply))

    def _conclude(self, instance: Instance, reply: Any) -> None:
        with self._holding:
            self._instance = None
        if instance.on_decided is not None:
            instance.on_decided = _nobody  # an idle instance must not keep this call's event and result
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


def _nobody(wait: int) -> None:
    """Stand for a call in an instance that has none; the reactor knows its channel."""


def begin(pool: Pool, version: Version, event: Any, owner: object) -> Any:
    """Start an invocation; return its value if that comes at once, otherwise a `Submission`.

    Raises:
        InvalidEvent: The event cannot be encoded. Everything else is in the submission.
    """
    payload = None
    if check_value(event) == 0 and not version.trusted:
        try:
            payload = encode_plain(event)
        except ENCODED_SLOWLY:
            payload = None
    if payload is None or len(payload) > _ATTEMPT_LIMIT or len(payload) > version.max_payload:
        return Submission(pool, Call(pool, version, event), outcome=False, owner=owner)
    line = version.line
    instance: Instance | None = line.take()
    if instance is None:
        return Submission(pool, Call(pool, version, event, payload=payload), outcome=False, owner=owner)
    try:
        reply = instance.channel.attempt(0, payload, pool.attempt_ns())
        if reply is None:
            instance.sync_output()
            reply = instance.channel.attempt(0, payload, 0)
        if type(reply) is bytes and check_encoded(reply) == 0:
            try:
                value = decode_plain(reply)
            except UNDECODABLE:
                pass  # the submission says what is wrong with it, and ends the instance
            else:
                if not line.give(instance):
                    pool.give_back(instance)
                return value
        call = Call(pool, version, event, payload=payload)
        return Submission(pool, call, outcome=False, owner=owner, begun=(instance, reply))
    except BaseException:  # an interrupt: nobody waits any more
        pool.lost(instance, ended=True)
        raise


def submit(pool: Pool, version: Version, event: Any, owner: object) -> Future[Any]:
    """As `begin`, but always a future."""
    got = begin(pool, version, event, owner)
    if type(got) is not Submission:
        version.streak = _STREAK
        return _done(got)
    alone = version.line.busy == 1
    if version.streak > 0 or alone:
        # Among calls that are over at once, one that is not is likely to be soon, and so is one that had to wake its
        # instance. Whoever went on would take another instance, and have the reactor serve a crowd at a fifth of the
        # speed.
        version.streak -= version.streak > 0
        with contextlib.suppress(TimeoutError, CancelledError):
            got.exception(_PATIENCE_ALONE if alone else PATIENCE)
    return got


def submit_for_outcome(pool: Pool, version: Version, event: Any, owner: object) -> Future[Any]:
    """Start an invocation whose result is an `Outcome`, also if it never began."""
    try:
        call = Call(pool, version, event, report=True)
    except InvalidEvent as error:
        return _done(outcome_of_refusal(error))
    return Submission(pool, call, outcome=True, owner=owner)


def _done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future
