"""A host made of nothing but `_native`: what a process tree looks like to whoever drives it, without a Runtime."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

import pyfaas
from pyfaas import _native
from pyfaas._ipc import control, frames
from pyfaas._ipc.control import Message
from pyfaas._sandbox.plan import Limits

WAIT_S = 20.0
PACKAGE = Path(pyfaas.__file__).resolve().parent
SETTINGS = {
    "name": "hello",
    "version": "$LATEST",
    "memory": 128,
    "timeout_ns": 3_000_000_000,
    "handler": "app.handler",
    "env": {},
    "trusted": False,
    "log_group": "/aws/lambda/hello",
    "log_stream": "stream",
    "arn": "arn:aws:lambda:us-east-1:000000000000:function:hello",
    "max_payload": 6_291_556,
    "paths": [],
}


def adopt_orphans() -> None:
    """Make this process a subreaper: what outlives its tree is then found among our children."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def readable(fd: int, seconds: float = WAIT_S) -> bool:
    """Wait for a message, or for the end of a pidfd's process."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def receive(fd: int) -> Message:
    """Wait for the next message."""
    assert readable(fd), "no message came"
    got = _native.recv(fd, creds=True)
    assert got is not None, "the peer is gone"
    return Message(*got)


def ended(fd: int) -> bool:
    """Wait for the end of a socket, past whatever is still in it."""
    while readable(fd):
        if _native.recv(fd, creds=True) is None:
            return True
    return False


class Watched:
    """A process that is known by pidfd, so that its death can be waited for without being its parent."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.fd = os.pidfd_open(pid)

    def dead_within(self, seconds: float) -> bool:
        """Wait for its death."""
        return readable(self.fd, seconds)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal."""
        signal.pidfd_send_signal(self.fd, number)


class Log:
    """A pipe that the warden pumps into a ring."""

    def __init__(self, warden: int, token: int) -> None:
        self.warden, self.token = warden, token
        self.ring = _native.LogRing()
        self.read_end, self.write_end = os.pipe2(os.O_CLOEXEC)
        _native.send(warden, control.ADOPT, token=token, fds=(self.read_end, self.ring.fileno()))
        os.close(self.read_end)

    def text(self) -> str:
        """Return what is in the ring now."""
        data, _, _ = self.ring.read(0)
        return bytes(data).decode()

    def synced(self) -> str:
        """Return what had been written before this call."""
        assert self.ring.sync(self.warden, self.token, WAIT_S)
        return self.text()


class Template:
    """A template that was asked for; `hello` once it has introduced itself."""

    def __init__(self, socket: int, log: Log) -> None:
        self.socket, self.log = socket, log
        self.pid = 0

    def hello(self) -> Message:
        """Wait for its introduction."""
        message = receive(self.socket)
        assert (message.type, message.a) == (control.HELLO, control.TEMPLATE_ROLE), message
        self.pid = message.pid
        return message

    def ready(self) -> Message:
        """Wait for the end of its init."""
        if not self.pid:
            self.hello()
        message = receive(self.socket)
        assert message.type == control.READY, message
        return message


class Instance:
    """An instance, and the channel to it."""

    def __init__(self, channel: Any, log: Log, warden: int) -> None:
        self.channel, self.log, self.warden = channel, log, warden

    def call(self, event: object, seconds: float = WAIT_S) -> Any:
        """Invoke the handler; return its result, or a tuple that says what came instead."""
        nanoseconds = int(seconds * 1e9)
        self.channel.expect(self.warden, 1 << 20, nanoseconds, int(WAIT_S * 1e9), 0, self.log.ring)
        payload = msgspec.msgpack.encode(event)
        got = self.channel.call(frames.EVENT, payload, 0)
        if got is None:
            self.log.synced()
            self.channel.log_was_read()
            got = self.channel.call(frames.EVENT, payload, 0)
        return got if isinstance(got, tuple) else msgspec.msgpack.decode(got)


class Host:
    """Supervisor and one warden, with everything that is needed to make templates and instances."""

    def __init__(self, executable: str = sys.executable) -> None:
        self._open = contextlib.ExitStack()
        self.control, theirs = self._pair()
        own = os.pidfd_open(os.getpid())
        main = str(PACKAGE / "_worker" / "__main__.py")
        paths = [path for path in sys.path if path.endswith("-packages")]
        places = ["3", "4", executable, str(PACKAGE.parent), *paths]
        high = [os.dup(os.dup2(fd, 60 + i)) for i, fd in enumerate((theirs, own))]
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", main, "supervisor", *places],
            {},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
                (os.POSIX_SPAWN_DUP2, high[0], 3),
                (os.POSIX_SPAWN_DUP2, high[1], 4),
            ],
        )
        for fd in (theirs, own, 60, 61, *high):
            os.close(fd)
        self.supervisor = self.watch(pid)
        self.base: Watched | None = None
        self.warden: Watched | None = None
        self.socket = -1
        self._next = 100

    def close(self) -> None:
        """Hang up, and wait for the end of the supervisor."""
        self._open.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.supervisor.pid, 0)

    def own(self, fd: int) -> int:
        """Have a descriptor closed with the host."""
        self._open.callback(_close, fd)
        return fd

    def watch(self, pid: int) -> Watched:
        """Watch a process until the host is closed."""
        process = Watched(pid)
        self.own(process.fd)
        return process

    def start(self) -> None:
        """Wait for supervisor and base, and have a warden made."""
        assert receive(self.control)[:2] == (control.HELLO, control.SUPERVISOR)
        self.wait_base()
        self.start_warden()

    def wait_base(self) -> None:
        """Wait for a base's introduction."""
        hello = receive(self.control)
        assert hello[:2] == (control.HELLO, control.BASE), hello
        self.base = self.watch(hello.token)

    def start_warden(self) -> None:
        """Have a warden forked."""
        self.socket, theirs = self._pair()
        _native.send(self.control, control.START, token=1, fds=(theirs,))
        os.close(theirs)
        hello = receive(self.socket)
        assert hello[:2] == (control.HELLO, control.WARDEN), hello
        self.warden = self.watch(hello.pid)

    def template(self, source: str, plan: bytes | None = None, solo: Any = None, **settings: Any) -> Template:
        """Have a template forked that imports `source`; with `solo`, a Channel, it serves that itself."""
        log = self._log()
        ours, theirs = self._pair()
        code = {"kind": "files", "files": {"app.py": source.encode()}, "handler": "app.handler"}
        files = [
            _native.memfd_sealed("code", msgspec.msgpack.encode(code)),
            _native.memfd_sealed("settings", msgspec.msgpack.encode(SETTINGS | settings)),
        ]
        fds = (theirs, *files, log.write_end, *(solo.peer_ends if solo else ()))
        _native.send(
            self.socket, control.TEMPLATE, token=1, b=log.token, body=plan or Limits().pack(), fds=fds
        )
        for fd in (theirs, *files, log.write_end):
            os.close(fd)
        return Template(ours, log)

    def channel(self) -> Any:
        """Make a channel that takes its peer's introduction only from a child of the warden."""
        channel = _native.Channel(6_291_556)
        self._open.callback(channel.close)
        return channel

    def instance(self, template: Template) -> Instance:
        """Have an instance forked, and confirm it."""
        log, channel = self._log(), self.channel()
        fds = (*channel.peer_ends, log.write_end)
        _native.send(template.socket, control.FORK, token=log.token, fds=fds)
        channel.release_peer()
        os.close(log.write_end)
        assert self.warden
        return Instance(channel, log, self.warden.pid)

    def adopt(self, instance: Instance) -> Watched:
        """Confirm an instance to the warden, once it has said hello with its first reply."""
        _native.send(self.socket, control.ADOPTED, token=instance.log.token, a=instance.channel.pid)
        return self.watch(instance.channel.pid)

    def exit_of(self, pid: int) -> Message:
        """Wait for the warden's report of this death."""
        while True:
            message = receive(self.socket)
            if message.type == control.EXIT and message.token == pid:
                return message

    def _pair(self) -> tuple[int, int]:
        ours, theirs = _native.socketpair()
        _native.pass_creds(ours)
        return self.own(ours), theirs

    def _log(self) -> Log:
        self._next += 1
        log = Log(self.socket, self._next)
        self._open.callback(log.ring.close)
        return log


@contextlib.contextmanager
def started() -> Iterator[Host]:
    """A host with supervisor, base and warden."""
    host = Host()
    try:
        host.start()
        yield host
    finally:
        host.close()


def _close(fd: int) -> None:
    with contextlib.suppress(OSError):
        os.close(fd)
