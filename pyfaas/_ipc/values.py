"""Events and results as bytes: MessagePack, with what it lacks as extension types.

Allowed are `None`, `bool`, `int`, `float`, `str`, `bytes`, `list`, `dict`, `datetime`, `Decimal`, `UUID`. As with
`json.dumps`, tuples arrive as lists, subclasses as their base, and keys that are numbers, booleans or `None` as text;
`bytearray` and `memoryview` arrive as `bytes`. Arrays of numpy and of `array`, and arrow's tables and record batches,
arrive as what they are. Objects with fields (models of pydantic, Structs, dataclasses) arrive as plain data (`plain`).
Anything else is an `UnsupportedValue` that names the path to it.

`pack` puts large arrays and `bytes` beside the MessagePack, where they are copied from and to as they are; `encode`
makes one `bytes` of everything.

Bytes from a confined process are checked as a whole before any object is made of them (`native/core/pf_msgpack.h`):
what `decode` returns is made of the types above, at most 256 levels deep, and takes at most about 25 bytes of memory
per byte, plus 64 bytes and the hash table (about 200 bytes) for each list or map; of these there are at most 262,144,
and one more for each 3 bytes.

>>> decode(encode({"n": 2**100, "pair": (1, 2), 3: None}))
{'n': 1267650600228229401496703205376, 'pair': [1, 2], '3': None}
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Final

import msgspec.msgpack

from pyfaas._ipc import arrays, classes, rewrite
from pyfaas._ipc.arrays import NotImportedHere
from pyfaas._ipc.buffers import Inbox, Outbox
from pyfaas._ipc.rewrite import DEPTH, UnsupportedValue
from pyfaas._native import check_encoded, check_value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

MSGPACK: Final = 0
PICKLE: Final = 1
BUFFERS: Final = 5

# By the number that check_encoded returns (enum pf_msgpack_fault).
FAULTS: Final = (
    "",
    "the data end in the middle of a value",
    "data follow the value",
    "the byte 0xc1 begins no value",
    f"deeper than {DEPTH} levels",
    "a key is not text",
    "an extension type is unknown",
    "too many lists and maps for so few bytes",
)
_BOMB: Final = 7
_LARGE: Final = 3  # of check_value: plain, but for bytes that are better beside it
# Up to this size no data hold more lists and maps than check_encoded allows at any size.
NEVER_A_BOMB: Final = 262_144


def _restorer(inbox: Inbox) -> Callable[[int, memoryview], object]:
    """A decoder's hook for extension types."""

    def restore(code: int, data: memoryview) -> object:
        return arrays.read(data, inbox) if code == arrays.BUFFER else rewrite.restore(code, data)

    return restore


# For the hot path, to call where `check_value` answered 0, and after `check_encoded` did.
encode_plain = _encode = msgspec.msgpack.Encoder().encode
decode_plain = _decode = msgspec.msgpack.Decoder(ext_hook=_restorer(Inbox(careful=True))).decode
# For the worker, with bytes that the host wrote: it imports what they need.
decode_event = msgspec.msgpack.Decoder(ext_hook=_restorer(Inbox(careful=False))).decode


class MalformedValue(Exception):
    """The bytes are not what `encode` writes."""


def encode(value: object, *, typed: bool = True) -> bytes:
    """Write an event or a result as one `bytes`.

    Args:
        value: Anything.
        typed: Whether models, Structs, dataclasses and their like may become plain data.

    Raises:
        UnsupportedValue: It holds what cannot cross, or is cyclic or too deep; `.path` says where.
    """
    return _write(value, Outbox(most=0), typed=typed)


def pack(value: object, *, arrow: bool = True, typed: bool = True) -> tuple[int, bytes | list[Buffer]]:
    """Write an event or a result, its large parts as buffers. These are not copied: nobody may change them yet.

    Args:
        value: What to write.
        arrow: Whether the other side reads arrow's format.
        typed: As of `encode`.

    Returns:
        `MSGPACK` and bytes, or `BUFFERS` and the pieces of the payload.

    Raises:
        UnsupportedValue: As of `encode`.
    """
    outbox = Outbox(arrow=arrow)
    text = _write(value, outbox, typed=typed)
    return (BUFFERS, outbox.payload(text)) if len(outbox) else (MSGPACK, text)


def _write(value: object, outbox: Outbox, *, typed: bool) -> bytes:
    answer = check_value(value)
    if answer == 0 or (answer == _LARGE and not outbox.most):
        try:
            data = _encode(value)
        except (ValueError, OverflowError, RecursionError, TypeError):
            # A lone surrogate, an integer beyond 64 bits, a caller at the end of its stack; or another thread put
            # something in since it was checked.
            data = _encode_converted(value, outbox, typed=typed)
    elif answer in {1, _LARGE}:
        data = _encode_converted(value, outbox, typed=typed)
    else:
        raise UnsupportedValue("$", "more than 67 million values, or lists that hold themselves many times")
    if len(data) > NEVER_A_BOMB:
        check_large(data)
    return data


def check_large(data: bytes) -> None:
    """Refuse here, with a better text, what `decode` would refuse; only needed above `NEVER_A_BOMB` bytes."""
    if check_encoded(data) == _BOMB:
        raise UnsupportedValue(
            "$", "too many empty or tiny lists and dicts for one value; send them as text or bytes"
        )


def _encode_converted(value: object, outbox: Outbox, *, typed: bool) -> bytes:
    converted = rewrite.convert(value, outbox, typed=typed)
    try:
        return _encode(converted)
    except (ValueError, OverflowError, RecursionError) as error:
        raise UnsupportedValue("$", f"it cannot be encoded: {error}") from error


def decode(data: bytes) -> object:
    """Read what `encode` wrote. The bytes may come from anybody.

    Raises:
        MalformedValue: `encode` did not write them.
        NotImportedHere: They hold an array, and this process has not imported numpy.
    """
    return _read(data, _decode)


def read_own(data: bytes) -> object:
    """Read what a process wrote that is trusted: what an array needs is imported. Errors as of `decode`."""
    return _read(data, decode_event)


def unpack(text: bytes, buffers: Sequence[Buffer], *, careful: bool) -> object:
    """Read what `pack` wrote with buffers.

    Args:
        text: The MessagePack part.
        buffers: Each is `bytes`, or memory that the value will be a view of.
        careful: They may come from anybody.

    Raises:
        MalformedValue, NotImportedHere: As of `decode`.
    """
    inbox = Inbox(buffers, careful=careful)
    value = _read(text, msgspec.msgpack.Decoder(ext_hook=_restorer(inbox)).decode)
    try:
        inbox.end()
    except ValueError as error:
        raise MalformedValue(str(error)) from None
    return value


def _read(data: bytes, reader: Callable[[bytes], object]) -> object:
    fault = check_encoded(data)
    if fault:
        raise MalformedValue(FAULTS[fault])
    try:
        return reader(data)
    except NotImportedHere:
        raise
    except (
        msgspec.DecodeError,
        ValueError,
        TypeError,
        ArithmeticError,
        RecursionError,
        MemoryError,
    ) as error:
        raise MalformedValue(f"{type(error).__name__}: {error}") from error


def pack_trusted(value: object) -> tuple[int, bytes | list[Buffer]]:
    """Write a value of a function that both sides trust: as `pack` does, or else by pickle, which keeps classes.

    Returns:
        The kind, `MSGPACK`, `BUFFERS` or `PICKLE`, and the payload.

    Raises:
        UnsupportedValue: Pickle cannot write it either.
    """
    try:
        return pack(value, typed=False)
    except UnsupportedValue as unsupported:
        try:
            return PICKLE, classes.dumps(value)
        except Exception as error:
            # Whatever a method of the value raised: it says why this value cannot cross.
            reason = f"{unsupported.reason}; nor by pickle: {rewrite.text_of(error)}"
            raise UnsupportedValue(unsupported.path, reason) from error


def unpickle(data: bytes) -> object:
    """Read what `pack_trusted` pickled. Never call it with bytes from a function that is not trusted.

    Raises:
        MalformedValue: It cannot be read, for instance because a class does not exist on this side.
    """
    try:
        return pickle.loads(data)  # noqa: S301  # only ever for functions registered as trusted
    except Exception as error:
        # Unpickling runs code of the value's classes: it may raise anything.
        raise MalformedValue(f"{type(error).__name__}: {rewrite.text_of(error)}") from error


__all__ = [
    "BUFFERS",
    "FAULTS",
    "MSGPACK",
    "NEVER_A_BOMB",
    "PICKLE",
    "MalformedValue",
    "NotImportedHere",
    "UnsupportedValue",
    "check_large",
    "check_value",
    "decode",
    "decode_event",
    "decode_plain",
    "encode",
    "encode_plain",
    "pack",
    "pack_trusted",
    "read_own",
    "unpack",
    "unpickle",
]
