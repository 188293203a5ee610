"""One instance: a forked process that serves a function's invocations one after another, until it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyfaas import _native
from pyfaas._ipc import channel as replies
from pyfaas._ipc import control
from pyfaas._observe import lines
from pyfaas._pool.state import Slot
from pyfaas._pool.warden import Exit
from pyfaas.errors import FunctionTimeout, InstanceCrashed, PyFaasError, SandboxUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfaas._pool.solo import Solo
    from pyfaas._pool.stock import Kit
    from pyfaas._pool.template import Template
    from pyfaas._pool.version import Version

#: How long an exit status may take to arrive after the death was seen; the warden reaps at once.
STATUS_WAIT_SECONDS = 1.0
#: A peak of memory is read from /proc at most this often (a read takes about 20 µs).
_MEMORY_EVERY_NS = 10_000_000


class Instance(Slot):
    """A slot with a process. `channel` is the way to it, `log` what it writes.

    Born for one invocation: the request may be posted before the process exists, and `fork` brings the process.
    """

    __slots__ = (
        "_exit_calls",
        "_memory_mb",
        "_memory_read_ns",
        "channel",
        "exit",
        "fresh",
        "log",
        "on_decided",
        "on_lost",
        "siblings",
        "template",
        "token",
    )

    def __init__(self, version: Version, template: Template | Solo, token: int, kit: Kit) -> None:
        super().__init__(version.line)
        self.siblings = version.instances  # those that are not stopped yet
        self.token = token
        self.template = template
        self.fresh = True  # until it has introduced itself and its death is watched
        self.exit: Exit | None = None
        self.on_lost: Callable[[Instance], None] | None = None
        self.on_decided: Callable[[int], None] | None = None  # of the call that the reactor watches
        self._exit_calls: list[Callable[[], None]] = []
        self._memory_mb = 0
        self._memory_read_ns = 0
        self.channel, self.log = kit
        limits = (version.max_payload, version.timeout_ns, version.start_ns, version.first_spin_ns)
        self.channel.expect(template.warden.pid, *limits, self.log.ring)

    def fork(self) -> None:
        """Have the process made. It says hello on the channel's doorbell."""
        try:
            self.template.fork(self)
            # While it is forked, and before anybody may ask for what it wrote.
            self.log.attach(self.template.warden, self.token)
        finally:
            self.channel.release_peer()
            self.log.release_write_end()

    def settle(self) -> None:
        """Have its death watched; the kernel has said which process it is."""
        pid, warden = self.channel.pid, self.template.warden
        with contextlib.suppress(OSError):  # a warden that is gone has ended it: `watch` says so
            warden.send(control.ADOPTED, self.token, a=pid)
        warden.watch(pid, self._exited)

    def sync_output(self) -> None:
        """Wait until all that it wrote has been read."""
        self.log.sync()
        self.channel.log_was_read()

    def stop(self) -> None:
        """Kill it, if it lives, and let everything of it go; once, whoever comes first."""
        try:
            self.siblings.remove(self)
        except KeyError:
            return
        self.channel.close()
        self.log.close()

    def forget(self) -> None:
        """Close the descriptors and do nothing else, in a forked child of the host."""
        self.channel.forget()
        self.log.forget()

    def decided(self, wait: int) -> None:
        """Pass on that the call which the reactor watched is decided."""
        if self.on_decided is not None:
            self.on_decided(wait)

    # Death

    def when_exited(self, call: Callable[[], None]) -> None:
        """Make a call once its exit status is known: now, or in the reactor's thread."""
        self._exit_calls.append(call)
        if self.exit is not None:
            self._make_exit_calls()

    def status_missing(self) -> None:
        """Give up waiting for an exit status."""
        if self.exit is None:
            self._exited(Exit())

    def wait_exited(self) -> None:
        """Wait until its exit status is known, but not for long: what happened is known without it too."""
        if self.channel.pid == 0:
            return  # it never introduced itself: nobody watches it
        known = threading.Lock()
        known.acquire()
        self.when_exited(known.release)
        if not known.acquire(timeout=STATUS_WAIT_SECONDS):
            self.status_missing()

    def init_error(self) -> PyFaasError | None:
        """Say what init did wrong in an instance that ran it itself and never said hello."""
        return self.template.init_error()

    def error_of_death(self, wait: int, request_id: str, timeout_s: float, logs: str) -> PyFaasError:
        """Say why a call ended without a reply."""
        code, step, detail = replies.failure_of(self.channel)
        if wait == _native.WAIT_PROTOCOL or step == "channel":  # found by the wait, or by the post already
            return replies.broken(detail, request_id, logs)
        if wait == _native.WAIT_DEADLINE and self.channel.pid:
            text = lines.timeout_text(request_id, timeout_s)
            return FunctionTimeout(text, request_id=request_id, logs=logs)
        if code:
            cause = f"{os.strerror(code)} {detail}".strip()
            return SandboxUnavailable(layer=step, errno=code, cause=cause, request_id=request_id)
        return self._crash(request_id, logs)

    def _crash(self, request_id: str, logs: str) -> InstanceCrashed:
        common: dict[str, Any] = {"request_id": request_id, "logs": logs}
        if self.channel.pid == 0:
            text = "the instance did not start: its template ended, or did not answer"
            return InstanceCrashed(text, reason="runtime", **common)
        if self.exit is not None and self.exit.above:
            text = "the instance ended because a process of pyfaas above it did"
            return InstanceCrashed(text, reason="runtime", **common)
        if self.exit is None or self.exit.status is None:
            text = f"RequestId: {request_id} Error: the instance ended; how is not known"
            return InstanceCrashed(text, reason="signal", **common)
        status = os.waitstatus_to_exitcode(self.exit.status)
        if status >= 0:
            text = lines.exit_text(request_id, status)
            return InstanceCrashed(text, reason="exit", exit_code=status, **common)
        name = (signal.strsignal(-status) or str(-status)).lower()
        reason: Any = "seccomp" if -status == signal.SIGSYS else "signal"
        return InstanceCrashed(lines.signal_text(request_id, name), reason=reason, signal=-status, **common)

    def _exited(self, exit_: Exit) -> None:
        self.exit = exit_
        self._make_exit_calls()
        if self.on_lost is not None:
            self.on_lost(self)

    def _make_exit_calls(self) -> None:
        """Make each call once, whichever of two threads comes to it."""
        with contextlib.suppress(IndexError):
            while True:
                self._exit_calls.pop(0)()

    # What it used

    def cpu_ns(self) -> int:
        """CPU time that it has used so far, by the kernel's count; 0 if it is gone."""
        pid = self.channel.pid
        if not pid:
            return 0
        try:
            return time.clock_gettime_ns((~pid << 3) | 2)  # CPUCLOCK_SCHED of that process
        except OSError:
            return self.exit.cpu_us * 1000 if self.exit else 0

    def max_memory_mb(self, now_ns: int) -> int:
        """Most memory that it has had resident so far, in MB."""
        if self.exit is not None and self.exit.max_rss_kb:
            return -(-self.exit.max_rss_kb // 1024)
        if self.channel.pid and (not self._memory_mb or now_ns - self._memory_read_ns > _MEMORY_EVERY_NS):
            self._memory_read_ns = now_ns
            self._memory_mb = _peak_mb(self.channel.pid) or self._memory_mb
        return self._memory_mb


def _peak_mb(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
        return -(-int(status.partition("VmHWM:")[2].split(None, 1)[0]) // 1024)
    return 0
