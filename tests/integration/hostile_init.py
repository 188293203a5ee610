"""A function whose init never comes back to the worker: it speaks for the template, and for the instances, itself.

The name of what it does is put in front of this text as WAY.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import threading
import time
from typing import Any

from pyfaas import _native

FAILED, READY = 3, 11
WAY = "no forks"


def control() -> socket.socket:
    """The template's socket: the only one that this process has."""
    fd = next(fd for fd in range(3, 256) if _is_socket(fd))
    return socket.socket(fileno=os.dup(fd))


def _is_socket(fd: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False


def message(kind: int, a: int = 0) -> bytes:
    return struct.pack("=IiQqq", kind, a, 0, 0, 0)


def next_order(sock: socket.socket) -> tuple[int, int]:
    """Wait for an order to fork: the region and the doorbell that came with it."""
    _, fds, _, _ = socket.recv_fds(sock, 65536, 8)
    if not fds:
        os._exit(0)
    return fds[0], fds[1]


def serve(region: int, doorbell: int) -> None:
    peer = _native.Peer(region, doorbell, log=1)
    peer.hello()
    while (request := peer.receive()) is not None:
        peer.reply(0, request[1])


def misbehave(way: str) -> None:
    sock = control()
    if way == "nonsense instead of ready":
        sock.send(b"zzz")
    while way == "ready again and again":
        sock.send(message(READY))
    sock.send(message(READY))
    if way == "closed descriptors":
        os.closerange(3, 256)
    while way in ("nonsense instead of ready", "no forks", "closed descriptors"):
        time.sleep(1)
    while True:
        region, doorbell = next_order(sock)
        if way == "exit when asked to fork":
            os._exit(3)
        if way == "is all instances itself":
            threading.Thread(target=serve, args=(region, doorbell)).start()
        if way == "nonsense after the hello":
            _native.Peer(region, os.dup(doorbell), log=1).hello()
            os.write(doorbell, b"x" * 40)
        if way == "a failure that is none":
            os.write(doorbell, message(FAILED, 1) + b"seccomp\0nothing")


def handler(event: Any, context: Any) -> Any:
    return event


misbehave(WAY)
