"""Attacks on the channel: region, replies, values, doorbell."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import socket
import struct
import time
from typing import Any

from .instance import (
    BELL,
    EDGES,
    FAILED,
    HELLO,
    HOST_ASLEEP,
    IN_ARENA,
    INLINE,
    LIBC,
    LIMIT,
    LOG_CHECKED,
    MADV_REMOVE,
    PEER_ASLEEP,
    PR_SET_NAME,
    REPLY_ID,
    REQUEST_BYTES,
    RESPONSE,
    RESPONSE_BYTES,
    SIZE,
    TAKEN,
    Attacker,
    attack,
    hang,
    in_thread,
    message,
)

# ---- the region


@attack
def random_bytes(me: Attacker) -> None:
    end = me.chance.choice((512, 4096, SIZE))
    for _ in range(me.chance.choice((1, 10, 3000))):
        me.memory[me.chance.randrange(end)] = me.chance.randrange(256)
    me.ring()


@attack
def all_of_it(me: Attacker) -> None:
    ctypes.memset(me.memory, me.chance.choice((0, 1, 0x7F, 0xFF)), me.chance.choice((64, 512, SIZE)))
    me.ring()
    me.end()


@attack
def flags_that_flip(me: Attacker) -> None:
    places = me.chance.sample((HOST_ASLEEP, PEER_ASLEEP, TAKEN, LOG_CHECKED, 0), 2)

    def flip() -> None:
        while True:
            for place in places:
                me.memory[place] ^= 1

    in_thread(flip)
    time.sleep(me.chance.random() / 20)


@attack
def fields_that_flip(me: Attacker) -> None:
    """The length, the kind, the flags or the id change while the host looks at them."""
    place = me.chance.choice((8, 12, 16, 20, 24, 30))
    change = me.chance.choice((1, 0x80, 0xFF))

    def flip() -> None:
        while True:
            me.memory[RESPONSE + place] ^= change

    for _ in range(3):
        in_thread(flip)
    me.line(4)
    me.publish()
    time.sleep(0.01)
    me.end()


@attack
def holes(me: Attacker) -> None:
    """Where the pages were are zeros, in the host's mapping too."""
    start = me.chance.choice((0, REQUEST_BYTES, RESPONSE_BYTES))
    LIBC.madvise(ctypes.c_void_p(ctypes.addressof(me.memory) + start), ctypes.c_size_t(INLINE), MADV_REMOVE)


@attack
def no_region(me: Attacker) -> None:
    LIBC.munmap(ctypes.c_void_p(ctypes.addressof(me.memory)), ctypes.c_size_t(SIZE))


# ---- replies


@attack
def forged(me: Attacker) -> None:
    pick = me.chance.choice
    me.line(pick(EDGES), pick((0, 0, 1, 2, 3, 4, 5, 99, 2**32 - 1)), pick((0, 0, 1, 2, 3, 4, 2**31)))
    if me.chance.random() < 0.2:
        me.memory[REPLY_ID + me.chance.randrange(16)] ^= 1 << me.chance.randrange(8)
    me.publish(pick((0, 0, 0, -1, -1, 1, 2, -2, -3, 3, 2**62, -(2**62))))
    me.end()


@attack
def needs(me: Attacker) -> None:
    for _ in range(me.chance.choice((1, 1, 2, 3))):
        me.line(me.chance.choice(EDGES))
        me.publish(-1)
        time.sleep(0.005)
    me.end()


@attack
def lies_about_the_arena(me: Attacker) -> None:
    area = me.fetch_arena(me.chance.choice((70_000, 300_000, LIMIT)))
    area[:9] = b"\xc6" + me.chance.choice(EDGES[:9]).to_bytes(8, "big")

    def punch() -> None:
        for _ in range(10_000):
            area.madvise(MADV_REMOVE)

    if me.chance.random() < 0.5:
        in_thread(punch)
    me.line(me.chance.choice((0, 1, 70_000, len(area), len(area) + 1, LIMIT + 1, 2**63)), 0, IN_ARENA)
    me.publish()
    me.end()


@attack
def too_many_replies(me: Attacker) -> None:
    """Before or after the worker's own."""
    number = me.sequence

    def answer_the_next() -> None:
        time.sleep(me.chance.random() / 50)
        for offset in (3, 5, 4, 2):
            me.put(RESPONSE, struct.pack("<Q", 2 * number + offset))
            me.ring()

    in_thread(answer_the_next)
    time.sleep(me.chance.choice((0, 0.01)))


@attack
def late(me: Attacker) -> None:
    if os.fork() == 0:
        time.sleep(0.5 + me.chance.random() / 2)
        me.reply(b"\xc0")
    hang()


@attack
def half_a_reply(me: Attacker) -> None:
    me.put(RESPONSE_BYTES, b"\x93\x01")
    me.line(me.chance.choice((2, 3, 60_000)))
    if me.chance.random() < 0.5:
        me.put(RESPONSE, struct.pack("<Q", 2 * me.sequence + 1)[: me.chance.randrange(8)])
    os._exit(0)


@attack
def reply_of_a_child(me: Attacker) -> None:
    if os.fork() == 0:
        os.setsid()
        me.reply(b"\xa5child")
    if me.chance.random() < 0.5:
        os._exit(0)
    hang()


# ---- values, in a frame that is right


def bad_values(chance: random.Random) -> bytes:
    """MessagePack that is none, or that says more than it has, or that is too much."""
    extension = chance.randbytes(chance.choice((0, 1, 4, 8, 12, 16, 200)))
    return chance.choice(
        (
            chance.randbytes(chance.randrange(2000)),
            b"\x91" * chance.choice((255, 256, 257, 60_000)) + b"\xc0",
            b"\x81\xa1k" * chance.choice((256, 20_000)) + b"\xc0",
            bytes([chance.choice((0xDC, 0xDD, 0xDE, 0xDF, 0xDB, 0xC6, 0xC9))]) + chance.randbytes(8),
            b"\xdd\xff\xff\xff\xff" + b"\x80" * 1000,
            b"\xdd" + (60_000).to_bytes(4, "big") + b"\x80" * 60_000,
            b"\xdd" + (900_000).to_bytes(4, "big") + b"\x90" * 900_000,
            b"\xa4\xff\xfe\xed\xa0" + chance.randbytes(3),
            b"\x92\xa1a\xa3\xed\xa0\x80",
            bytes([0xC7, len(extension), chance.choice((0, 1, 2, 3, 4, 5, 0xFF))]) + extension,
            b"\xc8" + (60_000).to_bytes(2, "big") + bytes([chance.choice((1, 2, 3, 4))]) + b"9" * 60_000,
            *(bytes([0xC7, len(text), kind]) + text for kind in (1, 2, 3, 4) for text in TEXTS),
            b"\x82\xa1a\x01\xa1a\x02",
            b"\x81\x01\x02",
            b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
            b"",
        )
    )


NAMES = ("MemoryError", "\x1b[2J\n", "{0}%s", "é" * 2000)
TEXTS = (
    b"1e999999999",
    b"sNaN",
    b"-Infinity",
    b"9" * 250,
    b"9999-12-31T23:59:60",
    b"\x00" * 16,
    b"__import__",
)


@attack
def bad_value(me: Attacker) -> None:
    me.reply(bad_values(me.chance), kind=me.chance.choice((0, 0, 0, 0, 1)))


@attack
def bad_error(me: Attacker) -> None:
    """Error replies, and texts of the two other kinds."""
    from msgspec.msgpack import encode

    wild: list[Any] = [
        "",
        "x" * 50_000,
        None,
        -1,
        2**63,
        b"\xff",
        [],
        {},
        ["a"] * 9000,
        [1],
        {"a": [{}]},
        1.5,
    ]
    names = ("errorType", "errorMessage", "stackTrace", "requestId", "__class__", "")
    error = {name: me.chance.choice(wild) for name in me.chance.sample(names, me.chance.randrange(6))}
    if me.chance.random() < 0.5:
        error |= {"errorType": me.chance.choice(NAMES), "errorMessage": "\0"}
    deep = b"\x83\xa1x" + b"\x91" * 40_000 + b"\xc0"
    payload = me.chance.choice((encode(error), encode(error), encode(error), deep, bad_values(me.chance)))
    me.reply(payload, kind=me.chance.choice((2, 2, 2, 3, 4)))


@attack
def pickled(me: Attacker) -> None:
    me.reply(b"cos\nsystem\n(S'touch /tmp/pyfaas-unpickled'\ntR.", kind=me.chance.choice((0, 1, 1, 2)))


# ---- the doorbell


@attack
def storm(me: Attacker) -> None:
    flags = me.chance.choice((0, socket.MSG_DONTWAIT))
    with contextlib.suppress(OSError):
        for _ in range(me.chance.choice((63, 64, 65, 300, 100_000))):
            me.send(message(BELL), flags=flags)


@attack
def random_messages(me: Attacker) -> None:
    for _ in range(me.chance.choice((1, 5))):
        kind = me.chance.choice((BELL, HELLO, FAILED, 9, 11, 12, 33, 34, 0, 2**32 - 1))
        body = me.chance.randbytes(me.chance.choice((0, 1, 200, 300, 60_000)))
        data = message(kind, me.chance.choice((0, 5, -1, -(2**31))), me.chance.choice((0, 2**62)))
        with contextlib.suppress(OSError):
            me.send((data + body)[: me.chance.choice((0, 1, 31, 32, 100_000))])
    me.end()


@attack
def descriptors(me: Attacker) -> None:
    """As many as a message takes, the doorbell itself among them."""
    fds = [me.chance.choice((0, 1, me.doorbell)) for _ in range(me.chance.choice((1, 5, 253)))]
    with contextlib.suppress(OSError):
        for _ in range(me.chance.choice((1, 200))):
            me.send(message(me.chance.choice((BELL, HELLO))), fds)
    me.end()


@attack
def no_doorbell(me: Attacker) -> None:
    with socket.socket(fileno=os.dup(me.doorbell)) as bell:
        me.chance.choice(
            (
                lambda: bell.shutdown(socket.SHUT_RDWR),
                lambda: bell.shutdown(socket.SHUT_WR),
                lambda: bell.shutdown(socket.SHUT_RD),
                lambda: os.close(me.doorbell),
                lambda: os.closerange(3, 256),
            )
        )()
    me.end()


@attack
def renamed_without_doorbell(me: Attacker) -> None:
    name = me.chance.choice((b") Z 1 1 1 1 1 4", b"a\nb) S 2", b"))))))", b"\xff\xfe", b""))
    LIBC.prctl(PR_SET_NAME, name, 0, 0, 0)
    os.close(me.doorbell)
    hang()
