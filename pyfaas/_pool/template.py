"""The host's view of a template: the process that ran a function's init, and from which its instances are forked."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import threading
from enum import Enum
from typing import TYPE_CHECKING

from pyfaas import _native
from pyfaas._ipc import control
from pyfaas._ipc.channel import ErrorReply, decode_error
from pyfaas._pool.logs import LogPipe
from pyfaas._pool.warden import Exit
from pyfaas.errors import InitError, InstanceCrashed, PyFaasError, SandboxUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfaas._clock import Clock
    from pyfaas._functions.deployment import Deployment
    from pyfaas._pool.instance import Instance
    from pyfaas._pool.reactor import Reactor
    from pyfaas._pool.warden import Warden

#: How long a dead template's exit status may take to arrive; it follows the end of its socket at once.
_STATUS_WAIT_NS = 1_000_000_000
#: How long a template may leave all its orders unread: it takes about a millisecond for each.
_ORDER_WAIT_NS = 250_000_000
#: Messages that are read before the reactor turns to others.
_BATCH = 8


class TemplateState(Enum):
    """Life cycle of a template."""

    STARTING = "starting"
    READY = "ready"
    ENDED = "ended"


class Template:
    """One template process, from its start to its end. Whatever it says about itself is only believed of itself.

    Waits for it with `when_ready`; `error` says why it never became ready.
    """

    def __init__(
        self,
        warden: Warden,
        reactor: Reactor,
        clock: Clock,
        deployment: Deployment,
        *,
        solo: Instance | None = None,
    ) -> None:
        self.state = TemplateState.STARTING
        self.warden = warden
        self.init_ns = 0
        self.left = 0
        self.left_text = ""
        self.error: PyFaasError | None = None
        self.init_logs = ""
        self._reactor = reactor
        self._clock = clock
        self._deployment = deployment
        self._solo = solo  # the one instance that this process becomes itself, after init
        self._lock = threading.Lock()
        self._forks = 0  # asked for, without those that it said failed
        self._waiting: list[Callable[[], None]] = []
        self._pid = 0
        self._pidfd = -1
        self._token = reactor.new_token()
        # First what can fail, and leaves nothing behind then: the warden may be gone.
        self._log = solo.log if solo else _attached_log(warden, self._token)
        self._socket, theirs = _native.socketpair()
        _native.pass_creds(self._socket)
        self._timer = clock.call_at(clock.monotonic_ns() + deployment.init_timeout_ns, self._too_slow)
        try:
            self._deploy(theirs, solo.channel.peer_ends if solo else ())
        except BaseException:
            self.close()
            raise
        finally:
            os.close(theirs)
        self._token = reactor.add(self._socket, self._readable)

    def when_ready(self, call: Callable[[], None]) -> None:
        """Make a call once it is ready or has ended: now, or in the reactor's thread."""
        with self._lock:
            if self.state is TemplateState.STARTING:
                self._waiting.append(call)
                return
        call()

    def fork(self, instance: Instance) -> None:
        """Ask for the process of an instance."""
        fds = (*instance.channel.peer_ends, instance.log.write_end)
        with self._lock:  # so that nobody closes the socket meanwhile, and its number is another function's
            if self._socket < 0:
                raise BrokenPipeError("the template is gone")
            self._order(instance.token, fds)
            self._forks += 1

    def _order(self, token: int, fds: tuple[int, ...]) -> None:
        """Send an order, when there is room: the template takes them one by one, and forks for each."""
        deadline = self._clock.monotonic_ns() + _ORDER_WAIT_NS
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        while True:
            try:
                _native.send(self._socket, control.FORK, token=token, fds=fds)
            except OSError as error:
                # The second: too many descriptors are on the way, and no event says when they have arrived.
                if error.errno not in (errno.EAGAIN, errno.ETOOMANYREFS):
                    raise
                if self._clock.monotonic_ns() > deadline:
                    raise
                if error.errno == errno.ETOOMANYREFS:
                    poll.modify(self._socket, 0)
                poll.poll(1)
                poll.modify(self._socket, select.POLLOUT)
            else:
                return

    def when_decided(self, call: Callable[[], None]) -> None:
        """Make a call once it is known what became of an instance's start: at once, since init is over."""
        call()

    def init_error(self) -> PyFaasError | None:
        """Say nothing: an instance's own start has no part in init."""
        return None

    def take_init_logs(self) -> str:
        """Return what init wrote, once."""
        logs, self.init_logs = self.init_logs, ""
        return logs

    def close(self) -> None:
        """Let it end: it exits when its socket closes. Instances go on."""
        self._timer.cancel()
        with self._lock:
            is_open = self._socket >= 0
            if is_open:
                self._reactor.remove(self._token)
                _kill(self._pidfd)
                self.forget()
        if is_open and self._solo is None:
            self._log.close()
        if self.state is TemplateState.STARTING:
            text = f"'{self._deployment.name}' was closed while its init ran"
            self._settle(TemplateState.ENDED, InstanceCrashed(text, reason="runtime"))

    def give_up(self) -> None:
        """End it, since it does not do its work."""
        if not self._kill():
            self._reactor.run_soon(self.lose)

    def lose(self) -> None:
        """Its warden is gone, and it with it."""
        self._exited(Exit(above=True))

    def forget(self) -> None:
        """Close the descriptors and do nothing else, in a forked child of the host."""
        # Forgotten first: a fork while another thread closes them would close them again in the child.
        fds, self._socket, self._pidfd = (self._socket, self._pidfd), -1, -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)

    def _deploy(self, theirs: int, ends: tuple[int, ...]) -> None:
        code = _native.memfd_sealed("pyfaas-code", self._deployment.code)
        settings = _native.memfd_sealed("pyfaas-settings", self._deployment.settings)
        try:
            fds = (theirs, code, settings, self._log.write_end, *ends)
            self.warden.send(control.TEMPLATE, self._token, body=self._deployment.plan, fds=fds)
        finally:
            os.close(code)
            os.close(settings)
            if self._solo is None:
                self._log.release_write_end()

    def _readable(self, _wait: int) -> None:
        try:
            for _ in range(_BATCH):
                message = _native.recv(self._socket, creds=True)
                if message is None:
                    break
                self._handle(control.Message(*message))
            else:
                return  # the rest when the others have had their turn
        except BlockingIOError:
            return
        except Exception:  # noqa: BLE001  # whatever it is: it sent what no honest template sends
            self._kill()
        self._hung_up()

    def _handle(self, message: control.Message) -> None:
        starting = self.state is TemplateState.STARTING
        if message.type == control.HELLO and not self._pid:
            self._introduce(message.pid)
        elif self._pid and message.pid != self._pid:
            raise ValueError("a message from another process")
        elif message.type == control.READY and starting:
            self.left, self.init_ns = message.a, max(0, message.b)
            self.left_text = message.body[:4096].decode("utf-8", "replace")
            if self._solo is None:  # otherwise they come with the logs of its first invocation
                self.init_logs = self._log.take()
            self._settle(TemplateState.READY, None)
        elif message.type == control.INIT_ERROR and starting and self.error is None:
            self.error = _init_error(self._deployment.name, decode_error(message.body))
        elif message.type == control.FAILED and starting and self.error is None:
            self.error = _sandbox_error(control.Failure.of(message))
        elif message.type == control.FAILED and self._forks > 0:
            self._forks -= 1  # whoever waits for that instance sees its doorbell close
        else:
            raise ValueError("unknown message")

    def _introduce(self, pid: int) -> None:
        pidfd = -1
        with contextlib.suppress(ProcessLookupError):  # gone already: its parent knows how it ended
            pidfd = _native.pidfd_open(pid)
            if _native.parent_of(pid) != self.warden.pid:
                os.close(pidfd)
                raise ValueError("a template of another parent")
        with self._lock:
            if self._socket < 0:  # closed meanwhile
                if pidfd >= 0:
                    os.close(pidfd)
                return
            self._pid, self._pidfd = pid, pidfd
        self.warden.send(control.ADOPTED, self._log.token, a=pid)
        self.warden.watch(pid, self._exited)

    def _hung_up(self) -> None:
        """Its socket ended; how it ended itself follows, and is waited for, since the last log lines come before it."""
        self._reactor.remove(self._token)
        when = self._clock.monotonic_ns() + _STATUS_WAIT_NS
        self._timer.cancel()
        self._timer = self._clock.call_at(when, self._status_missing)
        if not self._pid and self.warden.failure is not None:
            self._exited(None)

    def _status_missing(self) -> None:
        self._kill()
        self._reactor.run_soon(lambda: self._exited(None))

    def _too_slow(self) -> None:
        if self.state is TemplateState.STARTING:
            seconds = self._deployment.init_timeout_ns / 1e9
            text = f"init of '{self._deployment.name}' timed out after {seconds:.2f} seconds"
            self.error = InitError(text, error_type="Sandbox.Timedout", error_message=text)
            if not self._kill():
                self._reactor.run_soon(lambda: self._exited(None))

    def _kill(self) -> bool:
        with self._lock:
            return _kill(self._pidfd)

    def _exited(self, exit_: Exit | None) -> None:
        if self.state is TemplateState.ENDED:
            return
        error = self.error
        if self.state is TemplateState.STARTING:
            logs = "" if self._solo else self._log.take()
            error = error or self._early_end(exit_)
            if isinstance(error, InitError | InstanceCrashed):
                error.logs = logs
        self._settle(TemplateState.ENDED, error)
        self.close()

    def _early_end(self, exit_: Exit | None) -> PyFaasError:
        name = self._deployment.name
        if self.warden.failure is not None:
            return _sandbox_error(self.warden.failure)
        if exit_ is None or exit_.above or exit_.status is None:
            text = f"a process above '{name}' ended while its init ran"
            return InstanceCrashed(text, reason="runtime")
        code = os.waitstatus_to_exitcode(exit_.status)
        how = f"exit status {code}" if code >= 0 else f"signal {-code}"
        text = f"init of '{name}' ended its process: {how}"
        return InitError(text, error_type="Runtime.ExitError", error_message=text)

    def _settle(self, state: TemplateState, error: PyFaasError | None) -> None:
        with self._lock:
            self.state = state
            self.error = error
            waiting, self._waiting = self._waiting, []
        if state is TemplateState.READY:
            self._timer.cancel()
        for call in waiting:
            call()

    def __repr__(self) -> str:
        return f"<Template {self._deployment.name} {self.state.value} pid={self._pid}>"


def _attached_log(warden: Warden, token: int) -> LogPipe:
    log = LogPipe()
    try:
        log.attach(warden, token)
    except BaseException:
        log.close()
        raise
    return log


def _kill(pidfd: int) -> bool:
    if pidfd < 0:
        return False
    with contextlib.suppress(ProcessLookupError):
        _native.pidfd_kill(pidfd, signal.SIGKILL)
    return True


def _init_error(name: str, reply: ErrorReply) -> InitError:
    return InitError(
        f"init of '{name}' failed: {reply.error_type}: {reply.error_message}",
        error_type=reply.error_type,
        error_message=reply.error_message,
        stack_trace=tuple(reply.stack_trace),
    )


def _sandbox_error(failure: control.Failure) -> SandboxUnavailable:
    return SandboxUnavailable(
        layer=failure.step,
        errno=failure.errno,
        cause=f"{os.strerror(failure.errno)} {failure.detail}".strip(),
        fix="the process was not started without it",
    )
