"""One frame out, one frame in: what the bytes of a reply mean. They come from a hostile process and are plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pyfaas._ipc import buffers, frames
from pyfaas._ipc.values import MalformedValue, decode, read_own, unpack, unpickle
from pyfaas.errors import (
    FunctionError,
    InstanceCrashed,
    InvalidEvent,
    InvalidResult,
    OutOfMemory,
    PyFaasError,
)

if TYPE_CHECKING:
    from pyfaas import _native

#: More than this of an error's text is not for people.
_TEXT_LIMIT = 262_144
_FRAMES_LIMIT = 1_000
#: What a traceback in the host shows of the function's own.
_NOTE_FRAMES = 12
_NOTE_LIMIT = 8_192


class ErrorReply(msgspec.Struct, frozen=True, rename="camel"):
    """An exception in the function, as plain data: Lambda's error object."""

    error_type: str
    error_message: str
    stack_trace: list[str] = []


_decoder = msgspec.msgpack.Decoder(ErrorReply)


def decode_error(payload: bytes) -> ErrorReply:
    """Decode an error reply, cut to what is for people.

    Raises:
        MalformedValue: It is not one.
    """
    try:
        reply = _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedValue(f"not an error reply: {error}") from error
    return ErrorReply(
        reply.error_type[:1024],
        reply.error_message[:_TEXT_LIMIT],
        [text[:_TEXT_LIMIT] for text in reply.stack_trace[:_FRAMES_LIMIT]],
    )


def value_of(kind: int, payload: Any, *, trusted: bool) -> Any:
    """Return the result in a reply of kind RESULT, RESULT_WITH_BUFFERS or PICKLE.

    Raises:
        MalformedValue: The bytes are no value, or pickled although the function is not trusted.
        NotImportedHere: It holds an array, and this process has not imported numpy. Never if it is trusted.
    """
    if kind == frames.RESULT:
        return read_own(payload) if trusted else decode(payload)
    if kind == frames.RESULT_WITH_BUFFERS:
        if type(payload) is int:
            raise MalformedValue(buffers.FAULTS[payload])
        return unpack(*payload, careful=not trusted)
    if kind == frames.PICKLE and trusted:
        return unpickle(payload)
    raise MalformedValue("a pickled result from a function that is not trusted")


def error_of(kind: int, payload: bytes, request_id: str, logs: str) -> PyFaasError:
    """Return the error in a reply of kind ERROR, INVALID_RESULT or INVALID_EVENT."""
    if kind == frames.INVALID_RESULT:
        return InvalidResult(_text(payload), request_id=request_id, logs=logs)
    if kind == frames.INVALID_EVENT:
        return InvalidEvent(_text(payload), request_id=request_id)
    reply = decode_error(payload)
    if reply.error_type == "MemoryError":
        text = f"the memory limit was hit: {reply.error_message or 'MemoryError'}"
        out_of_memory: PyFaasError = OutOfMemory(text, request_id=request_id, logs=logs)
        return out_of_memory
    error = FunctionError(
        error_type=reply.error_type,
        error_message=reply.error_message,
        stack_trace=tuple(reply.stack_trace),
        request_id=request_id,
        logs=logs,
    )
    error.add_note(_in_the_function(reply))
    return error


def _in_the_function(reply: ErrorReply) -> str:
    """Say where it happened: the host's own traceback ends at the channel."""
    frames_ = "".join(reply.stack_trace[-_NOTE_FRAMES:])[-_NOTE_LIMIT:]
    return f"In the function:\n{frames_.rstrip()}\n{reply.error_type}: {reply.error_message[:_NOTE_LIMIT]}"


def broken(detail: str, request_id: str, logs: str) -> InstanceCrashed:
    """Return the error for an instance that broke the protocol."""
    text = f"the instance broke the protocol and was killed: {detail}"
    return InstanceCrashed(text, reason="protocol", request_id=request_id, logs=logs)


def failure_of(channel: _native.Channel) -> tuple[int, str, str]:
    """Return (errno, step, detail) of what went wrong on a channel."""
    code, step, raw = channel.error
    detail = raw.decode("utf-8", "replace")
    if step == "confinement":
        step, _, detail = detail.partition("\0")
    return code, step, detail


def _text(payload: bytes) -> str:
    return payload[:_TEXT_LIMIT].decode("utf-8", "replace")
