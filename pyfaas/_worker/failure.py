"""Exceptions as data: Lambda's error object, bounded, whatever the exception's own methods do."""

from __future__ import annotations

import linecache
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec.msgpack

if TYPE_CHECKING:
    from types import CodeType, TracebackType

MESSAGE_BYTES: Final = 256 * 1024
FRAMES: Final = 100
FRAME_BYTES: Final = 4000  # with all frames and the message: below 1 MB
_CAUSES: Final = 10

_encode = msgspec.msgpack.Encoder().encode
_name_of = type.__dict__["__name__"].__get__
_PYFAAS: Final = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
_ASYNCIO: Final = os.path.join(os.path.dirname(os.__file__), "asyncio", "")
_IMPORT: Final = "<frozen importlib"

# Made in advance: when memory is gone there may be none to describe that.
OUT_OF_MEMORY: Final = _encode({"errorType": "MemoryError", "errorMessage": "", "stackTrace": []})
_INDESCRIBABLE: Final = {
    "errorType": "Exception",
    "errorMessage": "<it cannot be described>",
    "stackTrace": [],
}


def describe(error: BaseException) -> dict[str, Any]:
    """Describe an exception as `errorType`, `errorMessage` and `stackTrace`; together below 1 MB.

    Raises:
        MemoryError: There is no memory to do it with.
    """
    try:
        return {
            "errorType": error_type(error),
            "errorMessage": message(error),
            "stackTrace": _stack(error),
        }
    except MemoryError:
        raise
    except BaseException:  # noqa: BLE001  # user code runs in here: __str__, loaders, properties of the exception
        with suppress(Exception):
            return {"errorType": error_type(error), "errorMessage": message(error), "stackTrace": []}
        return dict(_INDESCRIBABLE)


def encode(error: BaseException) -> bytes:
    """Describe an exception and log it as Lambda does; return the description as a reply's payload."""
    description = describe(error)
    log(description)
    return _encode(description)


def log(description: dict[str, Any]) -> None:
    """Write `[ERROR] ValueError: …` and the stack to the log."""
    text = f"[ERROR] {description['errorType']}: {description['errorMessage']}\n"
    if description["stackTrace"]:
        text += "Traceback (most recent call last):\n" + "".join(description["stackTrace"])
    # To one stream, after what the function printed; it may have put anything there.
    with suppress(Exception):
        sys.stdout.write(text)
        sys.stdout.flush()


def error_type(error: BaseException) -> str:
    """Return the class's name, as Lambda prints it, whatever its metaclass says."""
    return _clip(_name_of(type(error)), 1000)


def message(error: BaseException) -> str:
    """Return `str(error)`, clipped, or why that failed."""
    try:
        return _clip(str(error), MESSAGE_BYTES)
    except MemoryError:
        raise
    except BaseException as failed:  # noqa: BLE001  # __str__ is user code: SystemExit counts too
        return f"<its __str__ failed with {_clip(_name_of(type(failed)), 200)}>"


def _stack(error: BaseException) -> list[str]:
    """The frames of an exception, then those of its causes, outermost first, 100 at most."""
    entries: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and len(seen) < _CAUSES and len(entries) < FRAMES:
        if seen:
            entries.append(f"Caused by: {error_type(current)}: {_clip(message(current), FRAME_BYTES // 2)}\n")
        seen.add(id(current))
        entries += _frames(current.__traceback__, max(2, FRAMES - len(entries) - 2))
        entries += _details(current)
        cause = current.__cause__
        if cause is None and not current.__suppress_context__:
            cause = current.__context__
        current = cause if id(cause) not in seen else None
    return entries[:FRAMES]


def _details(error: BaseException) -> list[str]:
    """The notes of an exception and the members of a group."""
    texts = []
    notes = getattr(error, "__notes__", None)
    if type(notes) is list:
        texts += [f"Note: {_clip(note, FRAME_BYTES // 2)}\n" for note in notes[:5] if type(note) is str]
    if isinstance(error, BaseExceptionGroup):
        texts += [
            f"Contains: {error_type(member)}: {_clip(message(member), FRAME_BYTES // 2)}\n"
            for member in error.exceptions[:20]
        ]
    return texts


def _frames(traceback: TracebackType | None, limit: int) -> list[str]:
    points: list[TracebackType] = []
    while traceback is not None:
        filename = traceback.tb_frame.f_code.co_filename
        ours = filename.startswith((_PYFAAS, _IMPORT))
        # The loop's frames between us and a coroutine are ours too; later ones are the user's calls.
        if not ours and (points or not filename.startswith(_ASYNCIO)):
            points.append(traceback)
        traceback = traceback.tb_next
    left_out = len(points) - limit
    if left_out > 0:
        head = limit // 2
        tail = limit - head - 1
        middle = [f"  … {left_out + 1} frames …\n"]
        return [*map(_frame, points[:head]), *middle, *map(_frame, points[len(points) - tail :])]
    return [_frame(point) for point in points]


def _frame(point: TracebackType) -> str:
    frame = point.tb_frame
    code: CodeType = frame.f_code
    text = f'  File "{code.co_filename}", line {point.tb_lineno}, in {code.co_name}\n'
    with suppress(Exception):  # a loader of the user's may be asked for the source
        line = linecache.getline(code.co_filename, point.tb_lineno, frame.f_globals).strip()
        if line:
            text += f"    {line}\n"
    return _clip(text, FRAME_BYTES)


def _clip(text: str, limit: int) -> str:
    """Cut to so many bytes of UTF-8; lone surrogates become escapes."""
    if len(text) * 4 <= limit and text.isascii():
        return str.__str__(text)
    data = str.__str__(text)[:limit].encode("utf-8", "backslashreplace")
    if len(data) <= limit:
        return data.decode()
    return data[: limit - 3].decode("utf-8", "ignore") + "…"
