"""A function that attacks its own channel. Its text is registered as it is: the event names the attack.

The layout is that of native/core/pf_layout.h, found by the name of the memory file in this process's own map.
"""

from __future__ import annotations

import ctypes
import os
import random
import socket
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

RESPONSE, HOST_ASLEEP = 64, 128
REQUEST_ID, RESPONSE_ID = 40, RESPONSE + 24
SIZE = 4096 + 2 * 65536
BELL, HELLO = 32, 1
MADV_REMOVE = 9


def region() -> Any:
    """The region's bytes."""
    with open("/proc/self/maps") as maps:
        line = next(line for line in maps if "pyfaas-channel" in line)
    start = int(line.partition("-")[0], 16)
    return (ctypes.c_ubyte * SIZE).from_address(start)


def doorbell() -> socket.socket:
    """The doorbell: the only socket that this process has."""
    for fd in range(3, 256):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                return socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
    raise LookupError("no doorbell")


def sequence(memory: Any) -> int:
    """The number of the request in hand."""
    (number,) = struct.unpack_from("<Q", memory, 0)
    return int(number)


def message(kind: int, a: int = 0) -> bytes:
    """A message for the doorbell."""
    return struct.pack("=IiQqq", kind, a, 0, 0, 0)


def forge(
    memory: Any,
    payload: bytes = b"\xc0",
    *,
    offset: int = 0,
    length: int | None = None,
    kind: int = 0,
    flags: int = 0,
) -> None:
    """Write a whole reply, as the worker would but for what is asked, and ring."""
    memory[4096 + 65536 : 4096 + 65536 + len(payload)] = payload
    struct.pack_into("<QII", memory, RESPONSE + 8, len(payload) if length is None else length, kind, flags)
    memory[RESPONSE_ID : RESPONSE_ID + 16] = memory[REQUEST_ID : REQUEST_ID + 16]
    struct.pack_into("<Q", memory, RESPONSE, 2 * sequence(memory) + 1 + offset)
    doorbell().send(message(BELL))


def hang() -> None:
    while True:
        time.sleep(1)


def no_attack(memory: Any) -> None:
    pass


def random_bytes(memory: Any) -> None:
    for _ in range(2000):
        place = random.randrange(512 if random.random() < 0.5 else SIZE)
        memory[place] = random.randrange(256)


def forged_id(memory: Any) -> None:
    memory[REQUEST_ID + 3] ^= 1


def doubled_reply(memory: Any) -> None:
    forge(memory)
    time.sleep(0.05)  # the host has taken it; the worker's own reply is the second
    struct.pack_into("<Q", memory, RESPONSE, 2 * sequence(memory) + 3)
    hang()


def early_reply(memory: Any) -> None:
    def answer_the_next() -> None:
        number = sequence(memory)
        while struct.unpack_from("<Q", memory, RESPONSE)[0] != 2 * number + 1:
            time.sleep(0.001)
        time.sleep(0.05)
        struct.pack_into("<Q", memory, RESPONSE, 2 * number + 3)

    threading.Thread(target=answer_the_next, daemon=True).start()


def late_reply(memory: Any) -> None:
    if os.fork() == 0:  # outlives the kill of its parent, if it can
        time.sleep(1.2)
        forge(memory)
        os._exit(0)
    hang()


def partial_reply(memory: Any) -> None:
    forge(memory, offset=-1, length=100_000)
    hang()


def impossible_need(memory: Any) -> None:
    forge(memory, offset=-1, length=2**63)
    hang()


def gigantic_reply(memory: Any) -> None:
    forge(memory, length=2**64 - 1)
    hang()


def arena_that_is_none(memory: Any) -> None:
    forge(memory, length=100, flags=1)
    hang()


def unknown_kind(memory: Any) -> None:
    forge(memory, kind=99)
    hang()


def pickled_reply(memory: Any) -> None:
    forge(memory, b"cos\nsystem\n(S'touch /tmp/pyfaas-unpickled'\ntR.", kind=1)
    hang()


def with_buffers(memory: Any, text: bytes, *lengths: int, count: int | None = None) -> None:
    """Forge a result with buffers of these lengths, each of the form `memory`; all of them are zeros."""
    head = struct.pack("=QII", len(text), len(lengths) if count is None else count, 0)
    payload = head + b"".join(struct.pack("=QII", length, 1, 0) for length in lengths) + text
    for length in lengths:
        payload += bytes(-len(payload) % 64) + bytes(min(length, 4096))
    forge(memory, payload, kind=5)
    hang()


def array_of(kind: bytes, count: int, flags: int = 0, data: bytes = b"") -> bytes:
    """A value that is an array whose data are in a buffer, or inline (flag 1)."""
    content = struct.pack("=4B", 1, flags, 1, len(kind)) + kind + struct.pack("=Q", count) + data
    return bytes([0xC7, len(content), 5]) + content


def buffer_beyond_the_end(memory: Any) -> None:
    with_buffers(memory, array_of(b"<i8", 2**60), 2**63)


def buffers_without_number(memory: Any) -> None:
    with_buffers(memory, b"\xc0", count=2**32 - 1)


def text_beyond_the_end(memory: Any) -> None:
    forge(memory, struct.pack("=QII", 2**64 - 16, 0, 0), kind=5)
    hang()


def buffer_of_nothing(memory: Any) -> None:
    with_buffers(memory, b"\xc0", 64)


def array_without_buffer(memory: Any) -> None:
    forge(memory, array_of(b"<i8", 8))
    hang()


def array_of_another_size(memory: Any) -> None:
    with_buffers(memory, array_of(b"<i8", 9), 64)


def array_of_objects(memory: Any) -> None:
    with_buffers(memory, array_of(b"|O8", 8), 64)


def booleans_of_two(memory: Any) -> None:
    forge(memory, array_of(b"|b1", 2, 1, b"\x01\x02"))
    hang()


def arrow_stream(memory: Any) -> None:
    with_buffers(memory, bytes([0xC7, 4, 5]) + struct.pack("=4B", 3, 0, 0, 0), 4096)


def no_value(memory: Any) -> None:
    forge(memory, b"\xc1\xff\xff")
    hang()


def no_error(memory: Any) -> None:
    forge(memory, b"\x93\x01\x02\x03", kind=2)
    hang()


def closed_doorbell(memory: Any) -> None:
    os.closerange(3, 256)
    hang()


def doorbell_shut_down(memory: Any) -> None:
    doorbell().shutdown(socket.SHUT_RDWR)
    hang()


def storm_of_bells(memory: Any) -> None:
    bell, data = doorbell(), message(BELL)
    while True:
        bell.send(data)


def descriptors(memory: Any) -> None:
    bell = doorbell()
    socket.send_fds(bell, [message(BELL)], [0] * 250)
    hang()


def second_hello(memory: Any) -> None:
    doorbell().send(message(HELLO, 5))
    hang()


def garbage_on_the_doorbell(memory: Any) -> None:
    doorbell().send(b"?")
    hang()


def punched_memory(memory: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise(ctypes.c_void_p(ctypes.addressof(memory)), ctypes.c_size_t(SIZE), MADV_REMOVE)


def resized_memory(memory: Any) -> None:
    """Not even who can open its own mapping as a file can resize it."""
    start = ctypes.addressof(memory)
    try:
        fd = os.open(f"/proc/self/map_files/{start:x}-{start + SIZE:x}", os.O_RDWR)
    except OSError:
        return
    for size in (0, 4096, 1 << 24):
        try:
            os.ftruncate(fd, size)
        except PermissionError:
            continue
        sys.exit("the region could be resized")
    os.close(fd)


ATTACKS: dict[str, Callable[[Any], None]] = {
    name: found for name, found in list(globals().items()) if callable(found) and not isinstance(found, type)
}


def handler(event: str, context: Any) -> str:
    """Attack, and if that comes back: answer."""
    ATTACKS[event](region())
    return event
