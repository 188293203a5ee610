"""The facade: what host apps see. It composes the layers and holds no logic of its own.

>>> import pyfaas
>>> with pyfaas.Runtime() as rt:
...     @rt.function(timeout=2)
...     def greet(event, context):
...         return {"hello": event["name"]}
...     greet.invoke({"name": "Ada"})
{'hello': 'Ada'}
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, TypeVar, overload

from pyfaas._clock import SystemClock
from pyfaas._config import FunctionConfig, RuntimeConfig, function_name
from pyfaas._function import Function
from pyfaas._functions import events
from pyfaas._functions.code import code_image
from pyfaas._functions.deployment import deployment
from pyfaas._ipc import classes
from pyfaas._observe.statistics import snapshot
from pyfaas._pool.pool import Pool
from pyfaas.errors import FunctionNotFound, PyFaasError, RuntimeClosed, SandboxUnavailable

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Coroutine,
        Iterable,
        Mapping,
    )
    from pathlib import Path
    from types import TracebackType
    from typing import Protocol, Self, TypedDict, Unpack

    from pyfaas._clock import Clock
    from pyfaas._config import Isolation
    from pyfaas._functions.source import Source
    from pyfaas._worker.context import Context
    from pyfaas.model import Statistics

R = TypeVar("R")
LATEST = "$LATEST"

if TYPE_CHECKING:

    class Parameters(TypedDict, total=False):
        """What `register` takes beside the code, for editors and type checkers."""

        memory: int
        timeout: float
        env: Mapping[str, str] | None
        description: str
        tags: Mapping[str, str] | None
        max_payload: int
        reuse: int | None
        idle_timeout: float | None
        trusted: bool
        isolation: Isolation
        queue_timeout: float | None
        batch: bool
        ephemeral_storage: int

    class Decorator(Protocol):
        """What `@rt.function(…)` is."""

        @overload
        def __call__(self, code: Callable[[Any, Context], Coroutine[Any, Any, R]], /) -> Function[R]: ...
        @overload
        def __call__(self, code: Callable[[Any, Context], R], /) -> Function[R]: ...


class Runtime:
    """Runs functions in processes of their own. Close it, or use it in a `with` block.

    Args:
        max_concurrency: Invocations that run at one time, ≥ 1; by default 10 for each CPU.
        max_queue: Invocations that may wait, ≥ 0; beyond it they are `Throttled`.
        init_timeout: Seconds that a function's init may take; 10 as in Lambda.
        clock: Time; tests give a `pyfaas.testing.VirtualClock`.

    Raises:
        InvalidPackage: A parameter is out of its range.
    """

    def __init__(self, *, clock: Clock | None = None, **parameters: Any) -> None:
        self._config = RuntimeConfig.make(**parameters)
        self._pool = Pool(self._config, clock or SystemClock())
        self._functions: dict[str, Function[Any]] = {}
        self._lock = threading.Lock()
        _open_runtimes.add(self)
        weakref.finalize(self, self._pool.close_soon).atexit = False

    @property
    def max_concurrency(self) -> int:
        """Invocations that run at one time."""
        return self._config.concurrency

    @property
    def functions(self) -> tuple[str, ...]:
        """Names of the registered functions, sorted."""
        return tuple(sorted(self._functions))

    @overload
    def function(self, code: Callable[[Any, Context], Coroutine[Any, Any, R]], /) -> Function[R]: ...
    @overload
    def function(self, code: Callable[[Any, Context], R], /) -> Function[R]: ...
    @overload
    def function(self, *, name: str | None = ..., **parameters: Unpack[Parameters]) -> Decorator: ...

    def function(  # type: ignore[misc]  # mypy takes a keyword `code` for the positional one
        self, code: Any = None, /, *, name: str | None = None, **parameters: Any
    ) -> Any:
        """Register the decorated function under its own name; parameters as `register`."""
        if code is not None and not callable(code):
            raise TypeError(
                f"@rt.function takes a function, not {code!r}; another name: @rt.function(name=…)"
            )

        def decorate(code: Callable[..., Any]) -> Function[Any]:
            return self.register(name or code.__name__, code, **parameters)

        return decorate if code is None else decorate(code)

    @overload
    def register(
        self,
        name: str,
        code: Callable[..., Coroutine[Any, Any, R]],
        *,
        handler: str | None = ...,
        **parameters: Unpack[Parameters],
    ) -> Function[R]: ...
    @overload
    def register(
        self,
        name: str,
        code: Callable[..., R],
        *,
        handler: str | None = ...,
        **parameters: Unpack[Parameters],
    ) -> Function[R]: ...
    @overload
    def register(
        self,
        name: str,
        code: str | Path | Source,
        *,
        handler: str | None = ...,
        **parameters: Unpack[Parameters],
    ) -> Function[Any]: ...

    def register(
        self,
        name: str,
        code: Callable[..., Any] | str | Path | Source,
        *,
        handler: str | None = None,
        **parameters: Any,
    ) -> Function[Any]:
        """Make a function, or give an existing one new code: new invocations use it, running ones finish on the old.

        Args:
            name: 1 to 64 letters, digits, `-` and `_`.
            code: A callable, `"module:attr"`, `"file.py:attr"` or `pyfaas.Source`.
            handler: For a `Source`: the name to call.
            parameters: memory (MB, 128), timeout (s, 3), env, reuse, idle_timeout (s), queue_timeout (s), max_payload
                (bytes), trusted, isolation, batch, ephemeral_storage (MB), description, tags.

        Raises:
            InvalidPackage: Name, code or a parameter is wrong; the text says which and why.
            SandboxUnavailable: The isolation that was asked for is not available.
        """
        self._check_open()
        name = function_name(name)
        config = FunctionConfig.make(**parameters)
        if config.isolation == "strict":
            raise SandboxUnavailable(
                layer="namespaces",
                cause="isolation='strict' is not implemented in this version",
                fix="use isolation='standard' and trusted code only",
            )
        image = code_image(code, handler)
        version = self._pool.deploy(name, config, deployment(name, config, image, self._config.init_timeout))
        with self._lock:
            function = self._functions.get(name)
            if function is None:
                function = self._functions[name] = Function(self, name, code)
            replaced = function._version
            if replaced is not None:
                self._pool.replace(replaced, version)
            function._plain = code if callable(code) else None
            function._version = version
        return function

    def get(self, name: str) -> Function[Any]:
        """Return a registered function.

        Raises:
            FunctionNotFound: There is none of that name.
        """
        try:
            return self._functions[name]
        except (KeyError, TypeError):
            raise FunctionNotFound(_not_found(name, self._functions)) from None

    def invoke(self, name: str, event: Any = None, *, qualifier: str = LATEST) -> Any:
        """Run a function by name; see `Function.invoke`.

        Raises:
            FunctionNotFound: No function, version or alias of that name.
        """
        return self._qualified(name, qualifier).invoke(event)

    async def ainvoke(self, name: str, event: Any = None, *, qualifier: str = LATEST) -> Any:
        """Run a function by name, in asyncio; see `Function.ainvoke` and `invoke`."""
        return await self._qualified(name, qualifier).ainvoke(event)

    def statistics(self) -> Statistics:
        """Return an immutable snapshot: what runs, waits and has ended, by function."""
        functions = dict(self._functions)
        return snapshot({name: self._pool.statistics(one._version) for name, one in functions.items()})

    def close(self, timeout: float | None = None) -> None:
        """End all processes, after what was accepted is done, or after `timeout` s. Closing twice does nothing."""
        if self not in _open_runtimes:
            return
        _open_runtimes.discard(self)
        try:
            self._pool.close(timeout)
        except BaseException:  # an interrupt: nobody waits any more
            _open_runtimes.add(self)  # if that is interrupted too, the exit of the interpreter closes it
            self._pool.close(0)
            _open_runtimes.discard(self)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(timeout=None if kind is None else 0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import asyncio  # 50 ms, and whoever is here has it

        await asyncio.to_thread(self.close, timeout=None if kind is None else 0)

    def __repr__(self) -> str:
        state = self._pool.closed or f"{len(self._functions)} functions"
        return f"<Runtime {state}>"

    def _qualified(self, name: str, qualifier: str) -> Function[Any]:
        function = self.get(name)
        if qualifier != LATEST:
            raise FunctionNotFound(f"'{name}' has no version or alias {qualifier!r}; there is {LATEST}")
        return function

    def _check_open(self) -> None:
        if self._pool.closed is not None:
            raise RuntimeClosed(self._pool.closed)


_open_runtimes: weakref.WeakSet[Runtime] = weakref.WeakSet()
# The worker's side, which imports the codec too, never has what takes classes by value.
classes.dumps = events.dumps


def _not_found(name: object, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(str(name), list(known), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "; register it first"
    return f"no function {name!r}{hint}"


def _close_all() -> None:
    """At exit. Daemon threads end with the process, of which Python says nothing: no word about their calls."""
    show = threading.excepthook

    def show_others(args: threading.ExceptHookArgs) -> None:
        if not (issubclass(args.exc_type, PyFaasError) and args.thread is not None and args.thread.daemon):
            show(args)

    threading.excepthook = show_others
    for runtime in list(_open_runtimes):
        runtime.close(timeout=0)


def _forget_all() -> None:
    """In a forked child: the processes belong to the parent."""
    text = f"this Runtime belongs to another process; process {os.getpid()} was forked from it: make one here"
    for runtime in list(_open_runtimes):
        _open_runtimes.discard(runtime)
        runtime._pool.forget(text)


atexit.register(_close_all)
os.register_at_fork(after_in_child=_forget_all)
