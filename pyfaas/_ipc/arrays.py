"""Arrays and arrow tables as extension types: numpy's, arrow's and the standard library's.

None of these libraries is imported to write: a value of a class that nobody imported does not exist. To read, the
worker imports what the event needs; the host imports nothing because a function says so (`NotImportedHere`).

An extension is `what, flags, dimensions, length of the type` (a byte each), the type as numpy or `array` write it, the
shape (8 bytes each), and the data unless they are in a buffer. As in the whole protocol, both ends are one machine.
"""

from __future__ import annotations

import importlib
import math
import re
import struct
import sys
from array import array
from typing import TYPE_CHECKING, Any, Final

from msgspec.msgpack import Ext

from pyfaas._ipc.buffers import BYTES, MEMORY, Inbox, Outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

BUFFER: Final = 5  # the extension type
_LENGTH: Final = 2**32  # of MessagePack's lengths
_DIMENSIONS: Final = 32

_BYTES, _NDARRAY, _ARRAY, _TABLE, _BATCH = range(5)
_INLINE, _FORTRAN = 1, 2  # flags
_HEAD = struct.Struct("=4B")

#: Types of numpy that are plain data of a known size, whatever their bytes are (but for `_check_content`).
_PLAIN = re.compile(
    r"\|b1|\|[iu]1|[<>][iu][248]|[<>]f[248]|[<>]c(8|16)|[<>][mM]8(\[(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?"
    r"|\|S[1-9][0-9]{0,8}|[<>]U[1-9][0-9]{0,7}"
)
_TYPECODES: Final = frozenset("bBhHiIlLqQfd")

_typecode = array.__dict__["typecode"].__get__


class NotImportedHere(ValueError):
    """A result that only a library can hold which this process has not imported."""


class Unsendable(Exception):
    """An array that cannot cross; its text says why and what to do."""


def writer_of(cls: type) -> Callable[[Any, Outbox], Ext] | None:
    """The function that writes objects of exactly this class, if they are arrays."""
    if cls is array:
        return _write_array
    if cls is getattr(sys.modules.get("numpy"), "ndarray", None):
        return _write_ndarray
    arrow = sys.modules.get("pyarrow")
    if cls is getattr(arrow, "Table", None) or cls is getattr(arrow, "RecordBatch", None):
        return _write_arrow
    return None


def write_bytes(value: bytes | bytearray | memoryview, outbox: Outbox) -> Ext | None:
    """Put a large `bytes` or the like into the outbox; `None` if it is to stay where it is."""
    size = memoryview(value).nbytes
    if not outbox.takes(size):
        return None
    if isinstance(value, memoryview) and not value.c_contiguous:
        value = value.tobytes()
    outbox.add(BYTES, size, [value])
    return Ext(BUFFER, _HEAD.pack(_BYTES, 0, 0, 0))


def _write_ndarray(value: Any, outbox: Outbox) -> Ext:
    numpy: Any = sys.modules["numpy"]
    if isinstance(value, numpy.ma.MaskedArray):
        raise Unsendable("a masked array is not supported; send x.data and x.mask, or x.filled(…)")
    plain = numpy.asarray(value)
    kind: str = plain.dtype.str
    if not _PLAIN.fullmatch(kind):
        raise Unsendable(f"an ndarray of dtype {str(plain.dtype)[:80]} is not supported; use x.tolist()")
    if plain.ndim > _DIMENSIONS:
        raise Unsendable(f"an ndarray of more than {_DIMENSIONS} dimensions is not supported; use x.ravel()")
    shape, order = plain.shape, 0
    if plain.flags.f_contiguous and not plain.flags.c_contiguous:
        plain, order = plain.T, _FORTRAN
    if not plain.flags.c_contiguous:
        plain = numpy.ascontiguousarray(plain)  # a copy: it is not in one piece
    flat = plain.reshape(-1).view(numpy.uint8)
    return _extension(_NDARRAY, order, kind, shape, flat.nbytes, [flat], outbox)


def _write_array(value: Any, outbox: Outbox) -> Ext:
    kind: str = _typecode(value)
    if kind not in _TYPECODES:
        raise Unsendable(f"an array of type code {kind!r} is not supported; use x.tounicode()")
    with memoryview(value) as view:
        size, count = view.nbytes, len(view)
    return _extension(_ARRAY, 0, kind, (count,), size, [value], outbox)


class _Pieces:
    """What arrow's writer takes for a file: keeps the buffers that it is given, and copies none."""

    closed = False

    def __init__(self) -> None:
        self.pieces: list[Buffer] = []
        self.size = 0

    def write(self, piece: Any) -> int:
        size = memoryview(piece).nbytes
        self.pieces.append(piece)
        self.size += size
        return size

    def flush(self) -> None:
        pass


def _write_arrow(value: Any, outbox: Outbox) -> Ext:
    pyarrow: Any = sys.modules["pyarrow"]
    is_table = isinstance(value, pyarrow.Table)
    if not outbox.arrow:
        name = "Table" if is_table else "RecordBatch"
        raise Unsendable(
            f"a pyarrow {name} as a result needs trusted=True; use x.to_pydict(), or a dict of numpy arrays"
        )
    ipc: Any = importlib.import_module("pyarrow.ipc")  # a part of what is there
    sink = _Pieces()
    with ipc.new_stream(pyarrow.PythonFile(sink, mode="w"), value.schema) as writer:
        writer.write(value)
    return _extension(_TABLE if is_table else _BATCH, 0, "", (), sink.size, sink.pieces, outbox)


def _extension(
    what: int,
    order: int,
    kind: str,
    shape: Sequence[int],
    size: int,
    parts: Sequence[Buffer],
    outbox: Outbox,
) -> Ext:
    inline = not outbox.takes(size)
    flags = order | (_INLINE if inline else 0)
    head = _HEAD.pack(what, flags, len(shape), len(kind)) + kind.encode("ascii")
    head += struct.pack(f"={len(shape)}Q", *shape)
    if not inline:
        outbox.add(MEMORY, size, parts)
        return Ext(BUFFER, head)
    if size >= _LENGTH - len(head):
        raise Unsendable(f"longer than {_LENGTH - 1:,} bytes")
    return Ext(BUFFER, b"".join([head, *parts]))


def read(data: memoryview, inbox: Inbox) -> object:
    """Read an extension.

    Raises:
        NotImportedHere: It is an array, in a host that has not imported numpy.
        ValueError: It is not what this module writes.
    """
    if len(data) < _HEAD.size:
        raise ValueError("an extension that is too short")
    what, flags, dimensions, length = _HEAD.unpack_from(data)
    start = _HEAD.size + length
    end = start + 8 * dimensions
    if len(data) < end or dimensions > _DIMENSIONS or flags & ~(_INLINE | _FORTRAN):
        raise ValueError("an extension that is damaged")
    kind = str(data[_HEAD.size : start], "ascii")
    shape = struct.unpack_from(f"={dimensions}Q", data, start)
    inline = bool(flags & _INLINE)
    if not inline and len(data) > end:
        raise ValueError("an extension that is too long")
    content = data[end:] if inline else inbox.next()
    if what == _BYTES:
        return _read_bytes(content)
    if what == _NDARRAY:
        return _read_ndarray(
            kind, shape, "F" if flags & _FORTRAN else "C", memoryview(content), inline, inbox
        )
    if what == _ARRAY:
        return _read_array(kind, shape, memoryview(content))
    if what in {_TABLE, _BATCH}:
        return _read_arrow(what, content, inline, inbox)
    raise ValueError(f"an extension for nothing known: {what}")


def _read_bytes(content: Buffer) -> bytes:
    if type(content) is not bytes:
        raise ValueError("bytes whose buffer has another form")
    return content


def _read_ndarray(
    kind: str, shape: tuple[int, ...], order: Any, content: memoryview, inline: bool, inbox: Inbox
) -> object:
    if not _PLAIN.fullmatch(kind):
        raise ValueError("an array of a type that is not plain")
    numpy: Any = sys.modules.get("numpy")
    if numpy is None and inbox.careful:
        raise NotImportedHere(
            "the result holds a numpy array and this process has not imported numpy; import numpy before the call"
        )
    if numpy is None:
        import numpy
    dtype = numpy.dtype(kind)
    if math.prod(shape) * dtype.itemsize != content.nbytes:
        raise ValueError("an array whose shape is not its size")
    if content.nbytes == 0:
        return numpy.empty(shape, dtype, order)
    flat = numpy.frombuffer(content, dtype)
    if inbox.careful:
        _check_content(flat, numpy)
    if inline:
        flat = flat.copy()  # what it is a part of would stay with it, and cannot be written to
    return flat.reshape(shape, order=order)


def _check_content(flat: Any, numpy: Any) -> None:
    """Refuse the few bytes that numpy's own code takes on trust."""
    kind = flat.dtype.kind
    if (
        kind == "b" and flat.view(numpy.uint8).max() > 1
    ):  # it counts by adding them up, and writes by looking at each
        raise ValueError("an array of booleans that are neither true nor false")
    if kind == "U" and flat.view(flat.dtype.str[0] + "u4").max() > sys.maxunicode:
        raise ValueError("an array of texts with what is no character")


def _read_array(kind: str, shape: tuple[int, ...], content: memoryview) -> array[Any]:
    if kind not in _TYPECODES or len(kind) != 1 or len(shape) != 1:
        raise ValueError("an array of an unknown type")
    items: array[Any] = array(kind)
    if shape[0] * items.itemsize != content.nbytes:
        raise ValueError("an array whose shape is not its size")
    items.frombytes(content)
    return items


def _read_arrow(what: int, content: Buffer, inline: bool, inbox: Inbox) -> object:
    if inbox.careful:
        raise ValueError("arrow data from a function that is not trusted")
    import pyarrow.ipc

    stream = pyarrow.ipc.open_stream(pyarrow.py_buffer(bytes(content) if inline else content))
    return stream.read_all() if what == _TABLE else stream.read_next_batch()
