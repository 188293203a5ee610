"""Decode → handler(event, context) → encode result or error."""

from __future__ import annotations

from contextlib import suppress
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from pyfaas._ipc import frames
from pyfaas._ipc.buffers import size_of
from pyfaas._ipc.values import (
    NEVER_A_BOMB,
    MalformedValue,
    UnsupportedValue,
    check_large,
    check_value,
    decode_event,
    encode_plain,
    pack,
    pack_trusted,
    unpack,
    unpickle,
)
from pyfaas._worker import failure, importer, logs, typed
from pyfaas._worker.context import context_class

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from typing_extensions import Buffer

current = logs.current
new_object = object.__new__

_COROUTINE: Final = 0x80  # inspect.CO_COROUTINE, without importing inspect
# Address space that is given back when memory is gone: never touched, so it costs none. An arena of CPython is 1 MB.
_RESERVE: Final = 2 << 20
_TOO_LARGE: Final = "Response payload size exceeded maximum allowed payload size ({limit} bytes)."


def load(settings: Mapping[str, Any], code: Mapping[str, Any]) -> Handler:
    """Run init: prepare the streams and make the handler. Once in a process, in the template.

    Args:
        settings: What the host wrote into the settings memfd.
        code: What the host wrote into the code memfd.

    Raises:
        InitFailure: The handler cannot be had.
        BaseException: Anything that the user's code raises.
    """
    logs.install()
    return build(settings, code)


def build(settings: Mapping[str, Any], code: Mapping[str, Any]) -> Handler:
    """Make the handler and leave the process's streams alone."""
    function = importer.resolve(code)
    if _is_async(function):
        # Before the fork: 50 ms that no instance has to spend.
        import asyncio  # noqa: F401
    return Handler(typed.checked(function), settings)


class Handler:
    """Calls the user's function with what a frame holds, and makes a frame of what comes of it.

    Args:
        function: Called with (event, context); what it returns is awaited if it is a coroutine.
        settings: What the host wrote into the settings memfd.
    """

    __slots__ = ("_context", "_function", "_limit", "_loop", "_reserve", "_trusted")

    def __init__(self, function: Callable[[Any, Any], Any], settings: Mapping[str, Any]) -> None:
        self._function = function
        self._context = context_class(settings)
        self._limit: int = settings["max_payload"]
        self._trusted: bool = settings["trusted"]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reserve: bytes | None = bytes(_RESERVE)

    def __call__(self, kind: int, payload: Any, request_id: bytes, deadline_ns: int) -> tuple[int, Any]:
        """Handle one request; return the reply's kind and payload. The deadline is on the monotonic clock.

        The payload is bytes, or (text, buffers) if the kind says so; that of the reply is bytes, or a list of pieces.
        Nothing of either is held on to here.

        Raises:
            SystemExit: The function wants its process to end.
        """
        current.request_id = request_id
        context = new_object(self._context)
        context._request_id = request_id
        context._deadline_ns = deadline_ns
        try:
            # The host is trusted: its bytes need no check.
            event = decode_event(payload) if kind == 0 else self._decoded(kind, payload)
        except MemoryError:
            return frames.ERROR, failure.OUT_OF_MEMORY
        except Exception as error:  # noqa: BLE001  # whatever it is, the event cannot be read
            return frames.INVALID_EVENT, _bytes(f"the event cannot be decoded: {failure.message(error)}")
        data: bytes | list[Buffer]
        try:
            result = self._function(event, context)
            if type(result) is CoroutineType:
                result = self._run(result)
            # Before the encoder sees it: a text that is far too large may not fit into memory twice, and the encoder
            # dies of that (msgspec 0.22).
            if (type(result) is str or type(result) is bytes) and len(result) > self._limit:
                return frames.INVALID_RESULT, _bytes(_TOO_LARGE.format(limit=self._limit))
            if check_value(result) == 0:
                try:
                    data = encode_plain(result)
                except (ValueError, OverflowError):  # `encode` knows what to do, or to say
                    kind, data = self._encoded(result)
                else:
                    kind = 0
                    if len(data) > NEVER_A_BOMB:
                        check_large(data)
            else:
                kind, data = self._encoded(result)
        except SystemExit:
            raise
        except typed.InvalidEvent as error:
            return frames.INVALID_EVENT, _bytes(str(error))
        except UnsupportedValue as error:
            return frames.INVALID_RESULT, _bytes(str(error))
        except BaseException as error:  # noqa: BLE001  # the worker's one broad except: the function raises anything
            return frames.ERROR, self._failed(error)
        if len(data) > self._limit:  # pieces were counted in `_encoded`
            return frames.INVALID_RESULT, _bytes(_TOO_LARGE.format(limit=self._limit))
        return kind, data

    def close(self) -> None:
        """Close the event loop, if there is one."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.close()

    def _encoded(self, result: object) -> tuple[int, bytes | list[Buffer]]:
        kind, data = pack_trusted(result) if self._trusted else pack(result, arrow=False)
        if kind == frames.RESULT_WITH_BUFFERS and size_of(data) > self._limit:
            return frames.INVALID_RESULT, _bytes(_TOO_LARGE.format(limit=self._limit))
        return kind, data

    def _decoded(self, kind: int, payload: Any) -> object:
        if kind == frames.EVENT_WITH_BUFFERS:
            text, buffers = payload
            event = unpack(text, buffers, careful=False)
            buffers.clear()  # the caller still has the list; what is a view of the arena belongs to the event alone
            return event
        if not self._trusted:
            raise MalformedValue(f"an event of kind {kind} for a function that is not trusted")
        return unpickle(payload)

    def _run(self, coroutine: CoroutineType[Any, Any, Any]) -> object:
        loop = self._loop
        if loop is None or loop.is_closed():
            import asyncio

            loop = self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
        return loop.run_until_complete(coroutine)

    def _failed(self, error: BaseException) -> bytes:
        if not isinstance(error, MemoryError | RecursionError):
            return failure.encode(error)
        # What filled memory hangs on the frames below: describe them with the reserve, then let them go.
        self._reserve = None
        try:
            return failure.encode(error)
        except MemoryError:
            return failure.OUT_OF_MEMORY
        finally:
            error.__traceback__ = None
            try:
                self._reserve = bytes(_RESERVE)
            except MemoryError:
                self._reserve = None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _is_async(function: Any) -> bool:
    """Whether calling it will surely make a coroutine."""
    with suppress(Exception):  # it may be an object of any class
        for _ in range(10):
            inner = getattr(function, "func", None) or getattr(function, "__func__", None)
            if inner is None:
                break
            function = inner
        if not hasattr(function, "__code__"):
            function = type(function).__call__
        return bool(function.__code__.co_flags & _COROUTINE)
    return False
