"""The host's view of a warden: the trusted parent of one function version's processes."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyfaas import _native
from pyfaas._ipc import control

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfaas._pool.logs import LogPipe
    from pyfaas._pool.reactor import Reactor
    from pyfaas._pool.tree import Tree

#: Exits of processes that have not introduced themselves yet; more than this many at one time are a flood.
_EARLY_EXITS = 1024


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended, by the word of the trusted parent that reaped it."""

    status: int | None = None
    """As of `waitpid`; `None` when nobody could say."""
    cpu_us: int = 0
    max_rss_kb: int = 0
    above: bool = False
    """Whether it ended because a process above it did."""


class Warden:
    """Speaks with one warden. `on_lost` is called once, when it is gone and all its processes with it."""

    def __init__(self, reactor: Reactor, tree: Tree, on_lost: Callable[[Warden], None]) -> None:
        self.pid = 0
        self.on_log: Callable[[LogPipe], None] | None = None  # told of each pipe that this warden pumps
        self.failure: control.Failure | None = None
        self._reactor = reactor
        self._on_lost = on_lost
        self._lock = threading.Lock()
        self._watched: dict[int, list[Callable[[Exit], None]]] = {}
        self._early: dict[int, Exit] = {}
        self._pidfd = -1
        self._socket, theirs = _native.socketpair()
        _native.pass_creds(self._socket)
        try:
            self._token = reactor.add(self._socket, self._readable)
            tree.start_warden(self._token, theirs)
        except OSError:
            self.forget()
            raise
        finally:
            os.close(theirs)

    @property
    def alive(self) -> bool:
        """Whether messages can still be sent."""
        return self._socket >= 0

    @property
    def fileno(self) -> int:
        """The control socket, or -1."""
        return self._socket

    def send(
        self, kind: int, token: int, *, a: int = 0, body: bytes = b"", fds: tuple[int, ...] = ()
    ) -> None:
        """Send a message; descriptors are borrowed."""
        with self._lock:  # so that nobody closes the socket meanwhile, and its number is another function's
            if self._socket < 0:
                raise BrokenPipeError("the warden is gone")
            try:
                _native.send(self._socket, kind, a=a, token=token, body=body, fds=fds)
            except BlockingIOError:
                # It reads at once what it gets: somebody has stopped it, and it would stay so for ever.
                self._signal(signal.SIGKILL)
                raise BrokenPipeError("the warden does not read its messages and was killed") from None

    def has_ended(self) -> bool:
        """Ask the kernel whether it is gone, before its socket has told."""
        poll = select.poll()
        if self._pidfd >= 0:
            poll.register(self._pidfd, select.POLLIN)
        return self._socket < 0 or bool(poll.poll(0))

    def watch(self, pid: int, on_exit: Callable[[Exit], None]) -> None:
        """Have `on_exit` called when this child of the warden is reaped, also if that has happened already."""
        with self._lock:
            early = self._early.pop(pid, None)
            if early is None and self._socket >= 0:
                self._watched.setdefault(pid, []).append(on_exit)
                return
        on_exit(early or Exit(above=True))

    def close(self) -> None:
        """Hang up: the warden kills all its processes and ends, also if somebody has stopped it."""
        with self._lock:
            self._signal(signal.SIGCONT)
        self._lose()

    def forget(self) -> None:
        """Close the socket and do nothing else, in a forked child of the host."""
        # Forgotten first: a fork while another thread closes them would close them again in the child.
        fds, self._socket, self._pidfd = (self._socket, self._pidfd), -1, -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)

    def _signal(self, number: int) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(OSError):  # it is gone
                _native.pidfd_kill(self._pidfd, number)

    def _readable(self, _wait: int) -> None:
        try:
            while self._socket >= 0:
                message = _native.recv(self._socket, creds=True)
                if message is None:
                    break
                self._handle(control.Message(*message))
        except BlockingIOError:
            return
        except OSError:
            pass  # as good as gone
        self._lose()

    def _handle(self, message: control.Message) -> None:
        if message.type == control.HELLO:
            self.pid, self._pidfd = message.pid, _native.pidfd_open(message.pid)
        elif message.type == control.FAILED:
            self.failure = control.Failure.of(message)
        elif message.type == control.EXIT:
            self._exited(message.token, Exit(message.a, message.b, message.c))

    def _exited(self, pid: int, exit_: Exit) -> None:
        with self._lock:
            watching = self._watched.pop(pid, [])
            if not watching and len(self._early) < _EARLY_EXITS:
                self._early[pid] = exit_
        for on_exit in watching:
            on_exit(exit_)

    def _lose(self) -> None:
        with self._lock:
            if self._socket < 0:
                return
            self._reactor.remove(self._token)
            self.forget()
            watched, self._watched = self._watched, {}
        for watching in watched.values():
            for on_exit in watching:
                on_exit(Exit(above=True))
        self._on_lost(self)
