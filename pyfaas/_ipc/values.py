"""Events and results as bytes: MessagePack, with what it lacks as extension types.

Allowed are `None`, `bool`, `int`, `float`, `str`, `bytes`, `list`, `dict`, `datetime`, `Decimal`, `UUID`. As with
`json.dumps`, tuples arrive as lists, subclasses as their base, and keys that are numbers, booleans or `None` as text;
`bytearray` and `memoryview` arrive as `bytes`. Objects with fields (models of pydantic, Structs, dataclasses) arrive as
plain data (`plain`). Anything else is an `UnsupportedValue` that names the path to it.

Bytes from a confined process are checked as a whole before any object is made of them (`native/core/pf_msgpack.h`):
what `decode` returns is made of the types above, at most 256 levels deep, and takes at most about 25 bytes of memory
per byte, plus 64 bytes and the hash table (about 200 bytes) for each list or map; of these there are at most 262,144,
and one more for each 3 bytes.

>>> decode(encode({"n": 2**100, "pair": (1, 2), 3: None}))
{'n': 1267650600228229401496703205376, 'pair': [1, 2], '3': None}
"""

from __future__ import annotations

import pickle
from typing import Final

import msgspec.msgpack

from pyfaas._ipc import classes, rewrite
from pyfaas._ipc.rewrite import DEPTH, UnsupportedValue
from pyfaas._native import check_encoded, check_value

MSGPACK: Final = 0
PICKLE: Final = 1

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
# Up to this size no data hold more lists and maps than check_encoded allows at any size.
NEVER_A_BOMB: Final = 262_144

# For the hot path, to call where `check_value` answered 0, and with bytes that the host wrote.
encode_plain = _encode = msgspec.msgpack.Encoder().encode
decode_plain = _decode = msgspec.msgpack.Decoder(ext_hook=rewrite.restore).decode


class MalformedValue(Exception):
    """The bytes are not what `encode` writes."""


def encode(value: object, *, typed: bool = True) -> bytes:
    """Write an event or a result.

    Args:
        value: Anything.
        typed: Whether models, Structs, dataclasses and their like may become plain data.

    Raises:
        UnsupportedValue: It holds what cannot cross, or is cyclic or too deep; `.path` says where.
    """
    answer = check_value(value)
    if answer == 0:
        try:
            data = _encode(value)
        except (ValueError, OverflowError, RecursionError, TypeError):
            # A lone surrogate, an integer beyond 64 bits, a caller at the end of its stack; or another thread put
            # something in since it was checked.
            data = _encode_converted(value, typed=typed)
    elif answer == 1:
        data = _encode_converted(value, typed=typed)
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


def _encode_converted(value: object, *, typed: bool) -> bytes:
    converted = rewrite.convert(value, typed=typed)
    try:
        return _encode(converted)
    except (ValueError, OverflowError, RecursionError) as error:
        raise UnsupportedValue("$", f"it cannot be encoded: {error}") from error


def decode(data: bytes) -> object:
    """Read what `encode` wrote. The bytes may come from anybody.

    Raises:
        MalformedValue: `encode` did not write them.
    """
    fault = check_encoded(data)
    if fault:
        raise MalformedValue(FAULTS[fault])
    try:
        return _decode(data)
    except (msgspec.DecodeError, ValueError, ArithmeticError, RecursionError, MemoryError) as error:
        raise MalformedValue(f"{type(error).__name__}: {error}") from error


def encode_trusted(value: object) -> tuple[int, bytes]:
    """Write a value of a function that both sides trust: as `encode` does, or else by pickle, which keeps classes.

    Returns:
        The kind, `MSGPACK` or `PICKLE`, and the bytes.

    Raises:
        UnsupportedValue: Pickle cannot write it either.
    """
    try:
        return MSGPACK, encode(value, typed=False)
    except UnsupportedValue as unsupported:
        try:
            return PICKLE, classes.dumps(value)
        except Exception as error:
            # Whatever a method of the value raised: it says why this value cannot cross.
            reason = f"{unsupported.reason}; nor by pickle: {rewrite.text_of(error)}"
            raise UnsupportedValue(unsupported.path, reason) from error


def decode_trusted(kind: int, data: bytes) -> object:
    """Read what `encode_trusted` wrote. Never call it with bytes from a function that is not trusted.

    Raises:
        MalformedValue: It cannot be read, for instance because a class does not exist on this side.
    """
    if kind == MSGPACK:
        return decode(data)
    if kind != PICKLE:
        raise MalformedValue(f"kind {kind} is neither MessagePack (0) nor pickle (1)")
    try:
        return pickle.loads(data)  # noqa: S301  # only ever for functions registered as trusted
    except Exception as error:
        # Unpickling runs code of the value's classes: it may raise anything.
        raise MalformedValue(f"{type(error).__name__}: {rewrite.text_of(error)}") from error


__all__ = [
    "FAULTS",
    "MSGPACK",
    "NEVER_A_BOMB",
    "PICKLE",
    "MalformedValue",
    "UnsupportedValue",
    "check_large",
    "check_value",
    "decode",
    "decode_plain",
    "decode_trusted",
    "encode",
    "encode_plain",
    "encode_trusted",
]
