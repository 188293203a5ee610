"""The host's view of the supervisor: started by exec, never by fork, and started again when it is gone."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pyfaas
from pyfaas import _native
from pyfaas._ipc import control
from pyfaas._pool.reactor import no_processes
from pyfaas.errors import InternalError

if TYPE_CHECKING:
    from pyfaas._pool.reactor import Reactor

#: Where the supervisor finds its control socket, and the pidfd of this process.
_CONTROL, _HOST = 3, 4
#: What an interpreter may need to start at all. Nothing else of the host's environment crosses.
_ENVIRONMENT = ("LD_LIBRARY_PATH",)
_LIBRARY_FOLDERS = ("site-packages", "dist-packages")


class Tree:
    """One supervisor at a time. Everything below it ends with it, and it ends with this process or with `close`."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._lock = threading.Lock()
        self._socket = self._pidfd = -1
        self._token = 0
        self._closed = False
        self.trouble = ""  # what the supervisor said last about a base that does not stay

    def start(self) -> None:
        """Start the supervisor, if there is none. Takes under 2 ms; the rest happens in parallel."""
        with self._lock:
            if self._socket < 0 and not self._closed:
                self._spawn()

    def start_warden(self, key: int, socket: int) -> None:
        """Have a warden forked that talks through `socket` (borrowed)."""
        for last in (False, True):
            self.start()
            with self._lock:
                if self._socket < 0:
                    raise BrokenPipeError("the process tree is closed")
                try:
                    _native.send(self._socket, control.START, token=key, fds=(socket,))
                    return
                except ConnectionError:
                    self._lose()
                    if last:
                        raise

    def close(self, timeout: float = 2.0) -> None:
        """End the supervisor and all below it; after `timeout` s by SIGKILL."""
        with self._lock:
            self._closed = True
            self._reactor.remove(self._token)
            if self._socket >= 0:
                os.close(self._socket)  # EOF tells the supervisor to end everything
                self._socket = -1
                self._reap(timeout)

    def forget(self) -> None:
        """Close what a forked child inherited, so that it does not keep the tree alive."""
        self._closed = True
        fds, self._socket, self._pidfd = (self._socket, self._pidfd), -1, -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)

    def _spawn(self) -> None:
        ours, theirs = _native.socketpair()
        host = os.pidfd_open(os.getpid())
        # High numbers, so that placing one at 3 cannot overwrite the other.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (theirs, host)]
        try:
            pid = os.posix_spawn(
                sys.executable,
                _command(),
                {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
                    (os.POSIX_SPAWN_DUP2, 0, 1),
                    (os.POSIX_SPAWN_DUP2, high[0], _CONTROL),
                    (os.POSIX_SPAWN_DUP2, high[1], _HOST),
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE),
            )
        except OSError as error:
            os.close(ours)
            if error.errno == errno.EAGAIN:
                raise no_processes(f"cannot start {sys.executable}: {error.strerror}") from error
            raise InternalError(f"cannot start {sys.executable}: {error}") from error
        finally:
            for fd in (theirs, host, *high):
                os.close(fd)
        self._pidfd = os.pidfd_open(pid)
        self._socket = ours
        self._token = self._reactor.add(ours, self._readable)

    def _readable(self, _wait: int) -> None:
        """Read what the supervisor says; its end of file means that it is gone, with everything below it."""
        with self._lock:
            try:
                while self._socket >= 0 and (message := _native.recv(self._socket)) is not None:
                    self._note(control.Message(*message))
            except BlockingIOError:
                return
            except OSError:
                pass
            self._lose()

    def _note(self, message: control.Message) -> None:
        """Keep what explains failures; who was hurt hears it from the wardens' own sockets."""
        if message.type == control.BASE_DIED:
            self.trouble = _ended("base", os.waitstatus_to_exitcode(message.a))
        elif message.type == control.FAILED:
            failure = control.Failure.of(message)
            self.trouble = f"{failure.step}: {os.strerror(failure.errno)}; {failure.detail}"

    def _lose(self) -> None:
        if self._socket >= 0:
            self._reactor.remove(self._token)
            os.close(self._socket)
            self._socket = -1
            how = self._reap(0)
            self.trouble = self.trouble or _ended("supervisor", how)

    def _reap(self, timeout: float) -> int | None:
        """Take and return the exit code; kill if it does not come. A host that ignores SIGCHLD has none to take."""
        code = None
        _wait_readable(self._pidfd, timeout)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            info = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
            if info is not None:
                code = info.si_status if info.si_code == os.CLD_EXITED else -info.si_status
        os.close(self._pidfd)
        self._pidfd = -1
        return code


def _ended(name: str, code: int | None) -> str:
    how = "exit status unknown" if code is None else f"exit status {code}" if code >= 0 else f"signal {-code}"
    return f"the {name} process ended ({how}); what it wrote is on this process's standard error"


def _wait_readable(fd: int, timeout: float) -> bool:
    import select

    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def _command() -> list[str]:
    package = Path(pyfaas.__file__).resolve().parent
    main = str(package / "_worker" / "__main__.py")
    executable = sys.executable
    return [
        executable,
        "-I",
        "-S",
        main,
        "supervisor",
        str(_CONTROL),
        str(_HOST),
        executable,
        str(package.parent),
        *library_paths(),
    ]


def library_paths() -> list[str]:
    """Return the folders of installed libraries on this process's path: what functions may import from."""
    entries: list[object] = [*sys.path]
    return [path for path in entries if isinstance(path, str) and Path(path).name in _LIBRARY_FOLDERS]
