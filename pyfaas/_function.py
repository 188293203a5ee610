"""A registered function: the ways to invoke it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from pyfaas import _stream, _submission
from pyfaas._dispatch import Call, invoke, outcome_of_refusal
from pyfaas.errors import PyFaasError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
    from concurrent.futures import Future
    from typing import Literal

    from pyfaas._pool.pool import Version
    from pyfaas.model import Outcome
    from pyfaas.runtime import Runtime

R = TypeVar("R")


class Function(Generic[R]):
    """A registered function: the way to invoke it. `Runtime.register` and `@rt.function` return it.

    It can be called like the plain function that it was made of, which runs in the host, unconfined: for unit tests.
    """

    def __init__(self, runtime: Runtime, name: str, code: object) -> None:
        self.name = name
        self._runtime = runtime
        self._pool = runtime._pool
        self._plain: Callable[..., R] | None = code if callable(code) else None
        self._version: Version = None  # type: ignore[assignment]  # set by register before anybody sees this

    def invoke(self, event: Any = None) -> R:
        """Run it and return its value.

        Args:
            event: JSON's types, bytes, datetime, Decimal, UUID; tuples arrive as lists, models, Structs and
                dataclasses as what the handler's annotation says, or as plain data. At most 6 MB encoded.

        Raises:
            InvalidEvent: The event cannot be encoded, or is not what the handler's annotation asks for.
            Throttled: No instance came free in time.
            FunctionError, FunctionTimeout, OutOfMemory, InstanceCrashed, InitError, InvalidResult: The function failed.
        """
        result: R = invoke(self._pool, self._version, event)
        return result

    def call(self, event: Any = None) -> Outcome[R]:
        """Run it and return an `Outcome`, which has logs and report too. The function's own failures do not raise.

        Raises:
            InvalidEvent, Throttled, RuntimeClosed: It never ran.
        """
        call = Call(self._pool, self._version, event, report=True)
        try:
            return call.run()
        except PyFaasError as error:
            if error.fault != "function":
                raise
            return outcome_of_refusal(error)

    def submit(self, event: Any = None) -> Future[R]:
        """Start it and return a future at once. The future's `cancel()` kills a running invocation.

        Raises:
            InvalidEvent: The event cannot be encoded. Everything else is in the future.
        """
        return _submission.submit(self._pool, self._version, event, self._runtime)

    @overload
    def map(
        self,
        events: Iterable[Any],
        *,
        ordered: bool = ...,
        outcomes: Literal[False] = ...,
        window: int | None = ...,
    ) -> Iterator[R]: ...
    @overload
    def map(
        self, events: Iterable[Any], *, ordered: bool = ..., outcomes: Literal[True], window: int | None = ...
    ) -> Iterator[Outcome[R]]: ...

    def map(
        self,
        events: Iterable[Any],
        *,
        ordered: bool = True,
        outcomes: bool = False,
        window: int | None = None,
    ) -> Iterator[Any]:
        """Run it for each event, many at a time, and yield the values.

        Args:
            events: May be endless: at most `window` of them are in flight.
            ordered: Yield in the order of the events, or (`False`) as they are done.
            outcomes: Yield `Outcome`s, also for failures; otherwise the first failure raises and cancels the rest.
            window: By default twice the Runtime's `max_concurrency`.
        """
        run = _stream.in_order if ordered else _stream.as_they_come
        return run(self._starter(outcomes=outcomes), events, self._width(window))

    async def ainvoke(self, event: Any = None) -> R:
        """Run it and return its value, in asyncio: the loop goes on meanwhile. Cancelling the task kills the call.

        >>> import asyncio, pyfaas
        >>> async def main():
        ...     async with pyfaas.Runtime() as rt:
        ...         double = rt.register("double", lambda event, context: 2 * event)
        ...         return await asyncio.gather(double.ainvoke(1), double.ainvoke(2))
        >>> asyncio.run(main())
        [2, 4]

        Raises:
            InvalidEvent, Throttled, FunctionError, …: As `invoke`.
        """
        from pyfaas import _awaiting  # it loads asyncio, which whoever is here has

        result: R = await _awaiting.ainvoke(self._pool, self._version, event, self._runtime)
        return result

    @overload
    def amap(
        self,
        events: Iterable[Any] | AsyncIterable[Any],
        *,
        ordered: bool = ...,
        outcomes: Literal[False] = ...,
        window: int | None = ...,
    ) -> AsyncIterator[R]: ...
    @overload
    def amap(
        self,
        events: Iterable[Any] | AsyncIterable[Any],
        *,
        ordered: bool = ...,
        outcomes: Literal[True],
        window: int | None = ...,
    ) -> AsyncIterator[Outcome[R]]: ...

    def amap(
        self,
        events: Iterable[Any] | AsyncIterable[Any],
        *,
        ordered: bool = True,
        outcomes: bool = False,
        window: int | None = None,
    ) -> AsyncIterator[Any]:
        """Run it for each event, many at a time, in asyncio: `async for value in fn.amap(events)`; see `map`."""
        from pyfaas import _awaiting

        return _awaiting.amap(self._starter(outcomes=outcomes), events, self._width(window), ordered=ordered)

    def _starter(self, *, outcomes: bool) -> Callable[[Any], Any]:
        begin = _submission.submit_for_outcome if outcomes else _submission.begin
        return lambda event: begin(self._pool, self._version, event, self._runtime)

    def _width(self, window: int | None) -> _stream.Width:
        size = 2 * self._runtime.max_concurrency if window is None else window
        if type(size) is not int or size < 1:
            raise ValueError(f"window={window!r}: must be a whole number of invocations, at least 1")
        return _stream.Width(self._version.line, size)

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        """Call the plain function, here, without confinement, limits or deadline."""
        if self._plain is None:
            raise TypeError(f"'{self.name}' was not registered from a callable; use .invoke(event)")
        result: R = self._plain(*args, **kwargs)
        return result

    def __pyfaas_reduce__(self) -> object:
        """Stand in for this object where the function's code is shipped to a worker."""
        return self._plain

    def __repr__(self) -> str:
        return f"<Function {self.name}>"
