"""A function whose init takes over the template: it never comes back to the worker, and speaks for it itself.

WAY in its environment names what it does, SEED what is left to chance.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from pyfaas import _native

HELLO, FAILED, FORK, READY, INIT_ERROR = 1, 3, 10, 11, 12
KINDS = (0, HELLO, 2, FAILED, 4, 5, 9, FORK, READY, INIT_ERROR, 13, 32, 2**32 - 1)
NUMBERS = (0, 1, 4, 5, 7, -1, 2**31 - 1, -(2**31))
LARGE = (0, 1, -1, 2**62, 2**63 - 1, -(2**63))
Way = Callable[["Impostor"], object]
WAYS: dict[str, Way] = {}


def way(function: Way) -> Way:
    """Put a way into the catalogue."""
    WAYS[function.__name__] = function
    return function


class Impostor:
    """The template's socket in the wrong hands."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        fd = next(fd for fd in range(3, 256) if _is_socket(fd))
        self.socket = socket.socket(fileno=os.dup(fd))
        self.number = fd

    def say(self, kind: int, a: int = 0, b: int = 0, body: bytes = b"", fds: list[int] | None = None) -> None:
        data = struct.pack("=IiQqq", kind, a, self.chance.choice((0, 1, 2**63)), b, 0) + body
        with contextlib.suppress(OSError):
            socket.send_fds(self.socket, [data], fds or [], socket.MSG_NOSIGNAL)

    def orders(self) -> tuple[int, int]:
        """Wait for an order to fork: region and doorbell."""
        while True:
            _, fds, _, _ = socket.recv_fds(self.socket, 65536, 8)
            if not fds:
                os._exit(0)
            if len(fds) >= 2:
                return fds[0], fds[1]

    def words(self) -> bytes:
        """A body of any kind."""
        words = (b"", b"\0", b"step\0detail", b"\xff" * 4096, b"\x93" * 60_000, b"\x83\xa9errorType", ERROR)
        return self.chance.choice((*words, self.chance.randbytes(500)))

    def end(self) -> None:
        self.chance.choice((hang, os.abort, lambda: os._exit(3), lambda: os.kill(os.getpid(), 19), int))()


ERROR = b"\x83\xa9errorType\xa1E\xacerrorMessage\xc4\x01\xff\xaastackTrace\x92\x01\xa1x"


def _is_socket(fd: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False


def hang() -> NoReturn:
    while True:
        time.sleep(1)


def serve(region: int, doorbell: int) -> None:
    with contextlib.suppress(OSError):
        peer = _native.Peer(region, doorbell, log=1)
        peer.hello()
        while (request := peer.receive()) is not None:
            peer.reply(0, request[1])


@way
def any_messages(me: Impostor) -> None:
    for _ in range(me.chance.choice((1, 3, 20))):
        me.say(me.chance.choice(KINDS), me.chance.choice(NUMBERS), me.chance.choice(LARGE), me.words())
    me.end()


@way
def any_bytes(me: Impostor) -> None:
    for _ in range(me.chance.choice((1, 5))):
        with contextlib.suppress(OSError):
            me.socket.send(me.chance.randbytes(me.chance.choice((0, 1, 31, 32, 33, 60_000, 100_000))))
    me.end()


@way
def ready_too_early(me: Impostor) -> None:
    """Then init goes on, and says it again."""
    me.say(READY, me.chance.choice(NUMBERS), me.chance.choice(LARGE), me.words())
    if me.chance.random() < 0.5:
        me.say(READY)


@way
def flood(me: Impostor) -> None:
    kind = me.chance.choice((READY, FAILED, INIT_ERROR, HELLO))
    if me.chance.random() < 0.5:
        me.say(READY)
    with contextlib.suppress(OSError):
        while True:
            me.socket.send(struct.pack("=IiQqq", kind, 1, 0, 0, 0) + b"x" * 100)


@way
def descriptors(me: Impostor) -> None:
    for _ in range(50):
        me.say(me.chance.choice((READY, FAILED)), fds=[me.number] * me.chance.choice((1, 6, 250)))
    me.end()


@way
def forged_failures(me: Impostor) -> None:
    me.say(READY)
    for _ in range(me.chance.choice((1, 10))):
        me.say(FAILED, me.chance.choice(NUMBERS), body=me.words())
    me.end()


@way
def hung_up(me: Impostor) -> None:
    if me.chance.random() < 0.5:
        me.say(READY)
    me.socket.shutdown(me.chance.choice((socket.SHUT_RDWR, socket.SHUT_WR, socket.SHUT_RD)))
    os.closerange(3, 256)
    me.end()


@way
def speaks_through_a_child(me: Impostor) -> None:
    if os.fork() == 0:
        me.say(me.chance.choice((READY, FAILED, INIT_ERROR)), body=me.words())
        hang()


@way
def never_ready(me: Impostor) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    hang()


@way
def stopped(me: Impostor) -> None:
    if me.chance.random() < 0.5:
        me.say(READY)
    os.kill(os.getpid(), signal.SIGSTOP)


@way
def stops_its_warden(me: Impostor) -> None:
    """Then does its work: nobody reaps what ends, nor pumps what is written."""
    os.kill(os.getppid(), signal.SIGSTOP)


@way
def refuses_to_fork(me: Impostor) -> None:
    me.say(READY)
    for _ in range(me.chance.choice((1, 3))):
        fd = me.chance.choice((None, *me.orders()))
        if fd is not None:
            os.close(fd)
    me.end()


@way
def is_all_instances(me: Impostor) -> None:
    me.say(READY)
    while True:
        threading.Thread(target=serve, args=me.orders(), daemon=True).start()


@way
def instances_of_its_own(me: Impostor) -> None:
    """By a plain fork, so that they are not the warden's children."""
    me.say(READY)
    while True:
        order = me.orders()
        if os.fork() == 0:
            serve(*order)
            os._exit(0)
        for fd in order:
            os.close(fd)


@way
def nonsense_on_the_doorbell(me: Impostor) -> None:
    me.say(READY)
    while True:
        _, doorbell = me.orders()
        bell = socket.socket(fileno=doorbell)
        for _ in range(me.chance.choice((1, 3, 70))):
            head = struct.pack("=IiQqq", me.chance.choice(KINDS), me.chance.choice(NUMBERS), 0, 0, 0)
            with contextlib.suppress(OSError):
                bell.send(head + me.chance.choice((b"", b"seccomp\0x", b"\xff" * 224, b"x" * 300)))


@way
def writes_without_end(me: Impostor) -> None:
    if me.chance.random() < 0.5:
        me.say(READY)
    while True:
        os.write(1, b"\xff\n" * 30_000)


@way
def ends(me: Impostor) -> None:
    me.end()
    raise me.chance.choice(
        (SystemExit, KeyboardInterrupt, RecursionError, type("X" * 5000, (Exception,), {}))
    )("y")


@way
def leaves_much_behind(me: Impostor) -> None:
    """Threads, descriptors and children: each instance runs init itself then."""
    threading.Thread(target=hang, daemon=True).start()
    for _ in range(200):
        os.dup(me.number)


def handler(event: Any, context: Any) -> Any:
    """Answer, if it comes to that."""
    return event


if "WAY" in os.environ:
    WAYS[os.environ["WAY"]](Impostor(int(os.environ["SEED"])))
