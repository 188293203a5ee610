"""What happens to an invocation: authorise → resolve → admit → acquire → call → classify.

`invoke` is the short way for the case that nothing special happens; everything else goes through `_Call`, which knows
all that can.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pyfaas import _native
from pyfaas._ipc import channel as replies
from pyfaas._ipc import frames
from pyfaas._ipc.buffers import size_of, snapshot
from pyfaas._ipc.ids import request_text
from pyfaas._ipc.values import (
    MalformedValue,
    NotImportedHere,
    UnsupportedValue,
    check_value,
    decode_plain,
    encode_plain,
    pack,
    pack_trusted,
)
from pyfaas._native import check_encoded
from pyfaas._observe import lines
from pyfaas._pool.version import START_ATTEMPTS
from pyfaas.errors import InvalidEvent, InvalidResult, PyFaasError, RuntimeClosed
from pyfaas.model import Outcome, Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from pyfaas._pool.pool import Instance, Pool, Version

_MS = 1_000_000
#: What the plain encoder raises for an integer beyond 64 bits and the like, which `encode` can do or can explain.
ENCODED_SLOWLY = (ValueError, OverflowError, RecursionError, TypeError)
#: What the plain decoder raises for bytes whose frame is right and whose texts or extensions are not.
UNDECODABLE = (ValueError, ArithmeticError, RecursionError, TypeError)


def invoke(pool: Pool, version: Version, event: Any) -> Any:
    """Run an invocation and return its value, or raise its error.

    Every line here is paid for by each invocation: what `encode` and `decode` do in the ordinary case is spelled out.
    """
    payload = None
    if check_value(event) == 0 and not version.trusted:
        try:
            payload = encode_plain(event)
        except ENCODED_SLOWLY:
            payload = None
    if payload is None or len(payload) > version.max_payload:
        return Call(pool, version, event).value()
    line = version.line
    instance: Instance | None = line.take()
    if instance is None:
        return Call(pool, version, event, payload=payload).value()
    try:
        reply = instance.channel.call(0, payload, pool.spin_ns())
        if reply is None:
            instance.sync_output()
            reply = instance.channel.call(0, payload, pool.spin_ns())
        if type(reply) is bytes and check_encoded(reply) == 0:
            try:
                value = decode_plain(reply)
            except UNDECODABLE:
                pass  # the long way says what is wrong with it, and ends the instance
            else:
                if not line.give(instance):
                    pool.give_back(instance)
                return value
    except BaseException:  # an interrupt in the wait: nobody waits any more
        pool.lost(instance, ended=True)
        raise
    return Call(pool, version, event, payload=payload).take_over(instance, reply).unwrap()


class Call:
    """One invocation and everything that may become of it.

    `report=True` collects what an `Outcome` shows beside value and error; it costs about 50 µs.
    """

    __slots__ = ("_cpu_ns", "_kind", "_payload", "_pool", "_report", "_version", "cold")

    def __init__(
        self, pool: Pool, version: Version, event: Any, *, payload: bytes | None = None, report: bool = False
    ) -> None:
        self._pool = pool
        self._version = version
        self._report = report
        self.cold = False
        self._cpu_ns = 0
        self._payload: bytes | list[Buffer]
        if payload is None:
            self._kind, self._payload = _encode(version, event)
        else:
            self._kind, self._payload = frames.EVENT, payload
        _admit(version, self._payload)

    @property
    def version(self) -> Version:
        """What runs."""
        return self._version

    def detach(self) -> None:
        """Copy what the caller may change before the request is posted."""
        if isinstance(self._payload, list):
            self._payload = snapshot(self._payload)

    # In the caller's own thread

    def run(self) -> Outcome[Any]:
        """Run to the end.

        Raises:
            Throttled, RuntimeClosed, InitError: There was no instance to run it.
            InstanceCrashed: As the reason for that, with reason `runtime`, after a few attempts.
        """
        outcome: Outcome[Any] = self._run(self.conclude)
        return outcome

    def value(self) -> Any:
        """Run to the end and return the value, or raise; errors as of `run`, and the function's."""
        value, outcome = self._run(self._conclude_value)
        return value if outcome is None else outcome.unwrap()

    def _run(self, conclude: Callable[[Instance, Any], Any]) -> Any:
        left = START_ATTEMPTS
        while True:
            instance: Instance | None = self._version.line.take()
            if instance is None:
                left -= 1  # a warm instance that turns out dead costs no attempt: there are only so many
                try:
                    instance = self._pool.lease(self._version)
                except PyFaasError as error:
                    if isinstance(error, RuntimeClosed) and self.follow():
                        continue
                    self.count_failed_start(error)
                    raise
            try:
                reply = self._exchange(instance)
                if left > 0 and self.never_started(instance, reply):
                    self.start_over(instance)
                    continue
                return conclude(instance, reply)
            except BaseException:
                # An interrupt in a wait, or no memory for an arena: nobody waits any more.
                self._end(instance)
                raise

    def take_over(self, instance: Instance, reply: Any) -> Outcome[Any]:
        """Run to the end what was begun without this object; errors as of `run`."""
        try:
            if not self.never_started(instance, reply):
                return self.conclude(instance, reply)
            self.start_over(instance)
        except BaseException:  # an interrupt in a wait: nobody waits any more
            self._end(instance)
            raise
        return self.run()

    def _exchange(self, instance: Instance) -> Any:
        try:
            self.begin(instance)
        except OSError:  # the template went away meanwhile, or takes no more orders
            return (_native.WAIT_DEAD, -1, b"")
        return instance.channel.call(self._kind, self._payload, self._pool.spin_ns())

    def follow(self) -> bool:
        """Go on to the version that replaced this one meanwhile; `False` if none did."""
        if self._version.successor is None or self._pool.closed is not None:
            return False
        self._version = self._version.successor
        return True

    def count_failed_start(self, error: PyFaasError) -> None:
        """Count an invocation that ended before it had an instance, unless that was its caller's doing."""
        if error.fault != "caller":
            self._pool.failed(self._version)

    # In steps, for whoever does not want to wait

    def begin(self, instance: Instance) -> None:
        """Get an instance ready for `channel.call` or `post`."""
        self.cold = instance.fresh
        if instance.fresh:
            self._pool.fork(instance)
            return
        if instance.channel.log_left:
            instance.sync_output()
        if self._report:
            self._cpu_ns = instance.cpu_ns()

    def post(self, instance: Instance) -> None:
        """Publish the request; a reactor waits for the reply."""
        instance.channel.post(self._kind, self._payload, self._pool.spin_ns())

    def never_started(self, instance: Instance, reply: Any) -> bool:
        """Whether the instance ended before it took the request, through nobody's fault: another can have it."""
        if type(reply) is bytes or reply[0] not in (_native.WAIT_DEAD, _native.WAIT_PROTOCOL):
            return False
        unborn = not instance.channel.pid
        self.settle(instance)
        if self._pool.closed is not None:
            return False
        if unborn and instance.template.warden.has_ended():
            return True  # its hello came from an orphan, or not at all
        failed = reply[0] == _native.WAIT_PROTOCOL or instance.channel.error[0]
        if failed or instance.channel.was_taken:
            return False
        return not (unborn and instance.init_error() is not None)

    def start_over(self, instance: Instance) -> None:
        """Let go of an instance that never started the call."""
        unborn = not instance.channel.pid
        self._pool.lost(instance)
        self._version.doubt(instance.template, unborn=unborn)

    def _conclude_value(self, instance: Instance, reply: Any) -> tuple[Any, Outcome[Any] | None]:
        """Return the value; or conclude, and return the outcome. It makes a difference to a cold start."""
        if type(reply) is bytes and check_encoded(reply) == 0:
            try:
                value = decode_plain(reply)
            except UNDECODABLE:
                pass  # `conclude` says what is wrong with it
            else:
                self._answered(instance, error=False)
                return value, None
        return None, self.conclude(instance, reply)

    def _answered(self, instance: Instance, *, error: bool) -> None:
        self.settle(instance, later=True)
        if self.cold:
            self._version.learn_first(instance.channel.duration_ns)
        self._pool.give_back(instance, error=error, cold=self.cold)

    def conclude(self, instance: Instance, reply: Any) -> Outcome[Any]:
        """Turn what the channel returned into an outcome, and give the instance back or up."""
        self.settle(instance, later=type(reply) is bytes)
        wait, kind, payload = (_native.WAIT_REPLY, frames.RESULT, reply) if type(reply) is bytes else reply
        if wait == _native.WAIT_REPLY:
            try:
                return self._replied(instance, kind, payload)
            except MalformedValue as error:
                instance.channel.kill()
                return self._broke(instance, str(error))
        return self._died(instance, wait)

    def conclude_cancelled(self, instance: Instance) -> None:
        """End an invocation that nobody waits for any more; its instance was killed."""
        self.settle(instance)
        self._end(instance)

    def settle(self, instance: Instance, *, later: bool = False) -> None:
        """Have the pool know whether a fresh instance came to life. Calling it again does nothing."""
        if instance.fresh and instance.channel.pid:
            self._pool.started(instance, later=later)
        elif instance.fresh:
            self._pool.not_started(instance)

    def _replied(self, instance: Instance, kind: int, payload: Any) -> Outcome[Any]:
        request_id = request_text(instance.channel.request_id)
        value: Any = None
        error: PyFaasError | None = None
        if kind in (frames.RESULT, frames.RESULT_WITH_BUFFERS, frames.PICKLE):
            try:
                value = replies.value_of(kind, payload, trusted=self._version.trusted)
            except NotImportedHere as missing:
                error = InvalidResult(str(missing), request_id=request_id)
            logs = self._logs(instance) if self._report else ""
        else:
            logs = self._logs(instance)
            error = replies.error_of(kind, payload, request_id, logs)
        outcome = self._outcome(instance, request_id, value, error, logs)
        self._answered(instance, error=error is not None)
        return outcome

    def _died(self, instance: Instance, wait: int) -> Outcome[Any]:
        request_id = request_text(instance.channel.request_id)
        if not instance.channel.pid:
            instance.template.give_up()  # it did not fork, or not in time: the next call gets another
        instance.wait_exited()
        logs = self._logs(instance)
        error: PyFaasError | None
        if self._pool.closed is not None and wait == _native.WAIT_DEAD:
            error = RuntimeClosed(f"{self._pool.closed}: the invocation was ended", request_id=request_id)
        else:
            error = instance.init_error() if not instance.channel.pid else None
            error = error or instance.error_of_death(wait, request_id, self._version.config.timeout, logs)
        outcome = self._outcome(instance, request_id, None, error, logs)
        self._end(instance)
        return outcome

    def _broke(self, instance: Instance, detail: str) -> Outcome[Any]:
        request_id = request_text(instance.channel.request_id)
        logs = self._logs(instance)
        outcome = self._outcome(instance, request_id, None, replies.broken(detail, request_id, logs), logs)
        self._end(instance)
        return outcome

    def _end(self, instance: Instance) -> None:
        self.settle(instance)
        self._pool.lost(instance, ended=True, cold=self.cold)

    def _logs(self, instance: Instance) -> str:
        if instance.exit is None and instance.channel.log_left:
            instance.sync_output()
        logs = instance.log.take()
        return instance.template.take_init_logs() + logs if self.cold else logs

    def _outcome(
        self, instance: Instance, request_id: str, value: Any, error: PyFaasError | None, logs: str
    ) -> Outcome[Any]:
        if not self._report:
            return Outcome(request_id=request_id, value=value, error=error)
        report = self._measure(instance)
        text = "".join(
            (
                lines.start_line(request_id),
                logs if not logs or logs.endswith("\n") else logs + "\n",
                lines.end_line(request_id),
                lines.report_line(request_id, report),
            )
        )
        return Outcome(request_id=request_id, value=value, error=error, logs=text, report=report)

    def _measure(self, instance: Instance) -> Report:
        duration_ms = instance.channel.duration_ns / _MS
        return Report(
            duration_ms=duration_ms,
            billed_ms=lines.billed_ms(duration_ms),
            memory_mb=self._version.config.memory,
            max_memory_mb=instance.max_memory_mb(self._pool.now_ns()),
            cpu_ms=max(0, instance.cpu_ns() - self._cpu_ns) / _MS,
            cold=self.cold,
            init_ms=instance.template.init_ns / _MS if self.cold else None,
        )


def _encode(version: Version, event: Any) -> tuple[int, bytes | list[Buffer]]:
    try:
        return pack_trusted(event) if version.trusted else pack(event)
    except UnsupportedValue as error:
        raise InvalidEvent(str(error)) from None


def _admit(version: Version, payload: bytes | list[Buffer]) -> None:
    size = size_of(payload)
    if size > version.max_payload:
        text = f"'{version.name}': the event is {size:,} bytes; the limit is {version.max_payload:,}"
        raise InvalidEvent(f"{text} (max_payload=… raises it)")


def outcome_of_refusal(error: PyFaasError) -> Outcome[Any]:
    """Return the outcome of an invocation that never ran."""
    return Outcome(request_id=error.request_id or request_text(os.urandom(16)), error=error)


__all__ = ["ENCODED_SLOWLY", "UNDECODABLE", "Call", "invoke", "outcome_of_refusal"]
