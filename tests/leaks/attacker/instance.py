"""What an attack has to work with: the region, found by its name in this process's own map, and the doorbell.

The layout is that of native/core/pf_layout.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import random
import signal
import socket
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

RESPONSE, HOST_ASLEEP, PEER_ASLEEP, TAKEN, LOG_CHECKED = 64, 128, 192, 256, 320
REPLY_ID = RESPONSE + 24
INLINE = 65536
REQUEST_BYTES, RESPONSE_BYTES = 4096, 4096 + INLINE
SIZE = 4096 + 2 * INLINE
BELL, HELLO, FAILED = 32, 1, 3
IN_ARENA = 1
MADV_REMOVE, PR_SET_NAME, PR_SET_PDEATHSIG = 9, 15, 1
LIMIT = 1 << 20  # max_payload of the function that this is
EDGES = (
    0,
    1,
    INLINE - 1,
    INLINE,
    INLINE + 1,
    100_000,
    1 << 18,
    LIMIT,
    LIMIT + 1,
    2**31,
    2**32,
    2**63,
    2**64 - 1,
)
LIBC = ctypes.CDLL(None, use_errno=True)
Attack = Callable[["Attacker"], object]
ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    """Put an attack into the catalogue."""
    ATTACKS[function.__name__] = function
    return function


class Attacker:
    """What an attack works with."""

    def __init__(self, seed: int, request_id: str) -> None:
        self.chance = random.Random(seed)
        self.memory: Any = (ctypes.c_ubyte * SIZE).from_address(_region())
        self.doorbell = next(fd for fd in range(3, 256) if _is_socket(fd))
        self.id = bytes.fromhex(request_id.replace("-", ""))

    @property
    def sequence(self) -> int:
        """The number of the request in hand."""
        return int(struct.unpack_from("<Q", self.memory, 0)[0])

    def put(self, place: int, data: bytes) -> None:
        ctypes.memmove(ctypes.addressof(self.memory) + place, data, len(data))

    def send(self, data: bytes, fds: list[int] | None = None, flags: int = 0) -> None:
        with socket.socket(fileno=os.dup(self.doorbell)) as bell:
            socket.send_fds(bell, [data], fds or [], flags | socket.MSG_NOSIGNAL)

    def ring(self) -> None:
        with contextlib.suppress(OSError):
            self.send(message(BELL), flags=socket.MSG_DONTWAIT)

    def line(self, length: int, kind: int = 0, flags: int = 0) -> None:
        """Everything of a reply but its number."""
        self.put(RESPONSE + 8, struct.pack("<QII", length & (2**64 - 1), kind, flags))
        self.put(REPLY_ID, self.id)

    def publish(self, offset: int = 0) -> None:
        self.put(RESPONSE, struct.pack("<Q", (2 * self.sequence + 1 + offset) & (2**64 - 1)))
        self.ring()

    def reply(self, payload: bytes, *, kind: int = 0) -> NoReturn:
        """Reply in the worker's place, rightly framed, and be there no more for anything else."""
        if len(payload) > INLINE:
            self.fetch_arena(len(payload))[: len(payload)] = payload
        else:
            self.put(RESPONSE_BYTES, payload)
        self.line(len(payload), kind, IN_ARENA if len(payload) > INLINE else 0)
        self.publish()
        hang()

    def fetch_arena(self, need: int) -> mmap.mmap:
        """Ask for a larger area, as the worker would."""
        self.line(need)
        self.publish(-1)
        with socket.socket(fileno=os.dup(self.doorbell)) as bell:
            while True:
                data, fds, _, _ = socket.recv_fds(bell, 4096, 4)
                if fds:
                    return mmap.mmap(fds[0], struct.unpack_from("=IiQqq", data)[3])

    def end(self) -> None:
        """End in one of the ways there are."""
        leave = partial(os._exit, self.chance.randrange(256))
        ways: tuple[Callable[[], object], ...] = (hang, leave, sys.exit, crash, int, stop)
        self.chance.choice(ways)()


def _region() -> int:
    with open("/proc/self/maps") as maps:
        return int(next(line for line in maps if "pyfaas-channel" in line).partition("-")[0], 16)


def _is_socket(fd: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False


def message(kind: int, a: int = 0, b: int = 0) -> bytes:
    return struct.pack("=IiQqq", kind, a, 0, b, 0)


def hang() -> NoReturn:
    while True:
        time.sleep(1)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def crash() -> None:
    ctypes.string_at(0)


def in_thread(call: Callable[[], object]) -> None:
    threading.Thread(target=call, daemon=True).start()
