"""Payloads with buffers: a table, MessagePack, and the large parts of a value beside it (`native/core/pf_buffers.h`).

Where a large part was, the MessagePack has an extension type; the first of them stands for the first buffer.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

#: From this size on a part travels as a buffer. Below, a copy more costs less than a buffer.
OUT_OF_BAND: Final = 16_384
MOST: Final = 1024  # PF_BUFFERS_MOST; what is beyond stays inline
_ALIGN: Final = 64

BYTES, MEMORY = 0, 1  # what the receiver makes of a buffer: enum pf_buffers_form

# By the number of the fault (enum pf_buffers_fault).
FAULTS: Final = (
    "",
    "a table of buffers that goes beyond the payload",
    "too many buffers",
    "a buffer of an unknown form",
    "data follow the last buffer",
)

_HEAD = struct.Struct("=QII")
_ENTRY = struct.Struct("=QII")


class Outbox:
    """Buffers of a value that is being written. `most=0` keeps everything inline.

    `arrow` says whether the other side reads arrow's format.
    """

    def __init__(self, *, most: int = MOST, arrow: bool = True) -> None:
        self.arrow = arrow
        self.most = most
        self._table: list[tuple[int, int]] = []
        self._parts: list[Sequence[Buffer]] = []

    def __len__(self) -> int:
        return len(self._table)

    def takes(self, size: int) -> bool:
        """Whether a part of this size travels as a buffer."""
        return size >= OUT_OF_BAND and len(self._table) < self.most

    def add(self, form: int, size: int, parts: Sequence[Buffer]) -> None:
        """Append a buffer, which is these parts one after the other. They are not copied here."""
        self._table.append((size, form))
        self._parts.append(parts)

    def payload(self, text: bytes) -> list[Buffer]:
        """Everything in its order, to be copied into the channel piece by piece."""
        head = _HEAD.pack(len(text), len(self._table), 0)
        pieces: list[Buffer] = [
            head + b"".join(_ENTRY.pack(size, form, 0) for size, form in self._table),
            text,
        ]
        end = len(head) + _ENTRY.size * len(self._table) + len(text)
        for (size, _), parts in zip(self._table, self._parts, strict=True):
            gap = -end % _ALIGN
            if gap:
                pieces.append(bytes(gap))
            pieces += parts
            end += gap + size
        return pieces


class Inbox:
    """Buffers of a value that is being read, each used once.

    `careful`: they are from a process that is not trusted. Nothing is imported on its word, and what a library could
    stumble over is looked at first.
    """

    def __init__(self, buffers: Sequence[Buffer] = (), *, careful: bool) -> None:
        self.careful = careful
        self._left = list(reversed(buffers))

    def next(self) -> Buffer:
        """Take the next buffer.

        Raises:
            ValueError: There is none.
        """
        if not self._left:
            raise ValueError("a buffer that is not there")
        return self._left.pop()

    def end(self) -> None:
        """Say that the whole value was read.

        Raises:
            ValueError: A buffer was not used.
        """
        if self._left:
            raise ValueError("a buffer that nothing stands for")


def size_of(payload: Sequence[Buffer] | bytes) -> int:
    """Bytes of a payload, in one piece or in many."""
    if isinstance(payload, bytes):
        return len(payload)
    return sum(memoryview(piece).nbytes for piece in payload)


def snapshot(payload: Sequence[Buffer]) -> list[Buffer]:
    """The same payload, which nobody can change any more."""
    return [piece if type(piece) is bytes else bytes(piece) for piece in payload]
