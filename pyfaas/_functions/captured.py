"""What cannot travel to another process, and the variable that holds it."""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final

import cloudpickle

from pyfaas._functions.imports import globals_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OPEN: Final = "open it inside the handler or at module level of the function's own code"
_MAKE: Final = "make it inside the handler or at module level of the function's own code"
_LIST: Final = "use a list"
_NESTED: Final = "a function cannot invoke the Runtime that runs it; invoke the next function from the host"

# `module.class` of a type or one of its bases: what people call it, and what to do.
_STAYING: Final = {
    "pyfaas.runtime.Runtime": ("a pyfaas Runtime", _NESTED),
    "_thread.lock": ("a lock", _MAKE),
    "_thread.RLock": ("a lock", _MAKE),
    "threading.Condition": ("a threading.Condition", _MAKE),
    "threading.Event": ("a threading.Event", _MAKE),
    "threading.Semaphore": ("a threading.Semaphore", _MAKE),
    "threading.Barrier": ("a threading.Barrier", _MAKE),
    "threading.Thread": ("a thread", _MAKE),
    "_thread._local": ("a threading.local", _MAKE),
    "queue.Queue": ("a queue.Queue", _MAKE),
    "_queue.SimpleQueue": ("a queue.SimpleQueue", _MAKE),
    "_socket.socket": ("a socket", _OPEN),
    "ssl.SSLContext": ("an ssl.SSLContext", _MAKE),
    "_io._IOBase": ("an open file", _OPEN),
    "tempfile._TemporaryFileWrapper": ("an open file", _OPEN),
    "builtins.generator": ("a generator", _LIST),
    "builtins.async_generator": ("an asynchronous generator", _LIST),
    "builtins.coroutine": ("a coroutine", "await it first, or call its function inside the handler"),
    "asyncio.events.AbstractEventLoop": (
        "an event loop",
        "use asyncio.get_running_loop() inside the handler",
    ),
    "_asyncio.Future": ("an asyncio.Future", "await it first, and capture its result"),
    "asyncio.futures.Future": ("an asyncio.Future", "await it first, and capture its result"),
    "concurrent.futures._base.Future": ("a Future", "capture its result() instead"),
    "concurrent.futures._base.Executor": ("an executor", _MAKE),
    "multiprocessing.process.BaseProcess": ("a process", _MAKE),
    "multiprocessing.pool.Pool": ("a process pool", _MAKE),
    "multiprocessing.connection._ConnectionBase": ("a connection", _OPEN),
    "subprocess.Popen": ("a running process", "start it inside the handler"),
    "sqlite3.Connection": ("a sqlite3.Connection", _OPEN),
    "sqlite3.Cursor": ("a sqlite3.Cursor", _OPEN),
    "mmap.mmap": ("a memory map", _OPEN),
    "select.epoll": ("a select.epoll", _MAKE),
    "builtins.frame": ("a frame", "capture what you need of it"),
    "builtins.traceback": ("a traceback", "capture its text"),
    "_contextvars.ContextVar": ("a ContextVar", _MAKE),
    "_contextvars.Token": ("a Token of a ContextVar", "capture the variable's value"),
    "_contextvars.Context": ("a contextvars.Context", "capture the values of its variables"),
    "weakref.ReferenceType": ("a weak reference", "capture the object itself"),
    "builtins.memoryview": ("a memoryview", "capture bytes"),
}
_DEPTH: Final = 12


def stays(value: object) -> bool:
    """Whether it is of a type that is bound to its process."""
    return _known(value) is not None


def refuses(value: object) -> bool:
    """Whether an object that is neither code nor a module says by itself that it cannot be pickled."""
    cls = type(value)
    if issubclass(cls, _CODE) or cls in cloudpickle.Pickler.dispatch_table:
        return False
    try:
        value.__reduce_ex__(5)
    except Exception:  # noqa: BLE001  # methods of any class
        return True
    return False


_CODE: Final = (type, FunctionType, BuiltinFunctionType, MethodType, ModuleType)


def _known(value: object) -> tuple[str, str] | None:
    if value is sys.stdout or value is sys.stderr or issubclass(type(value), io.StringIO | io.BytesIO):
        return None
    for base in type(value).__mro__:
        known = _STAYING.get(f"{base.__module__}.{base.__qualname__}")
        if known is not None:
            return known
    return None


def describe(value: object) -> str:
    """Say what it is: `a lock`, `a sqlite3.Connection`, `an Engine`."""
    known = _known(value)
    if known is not None:
        return known[0]
    cls = type(value)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def explain(function: object, fails: Callable[[object], bool], error: Exception) -> str:
    """Say which captured variable cannot travel, and what to do.

    Args:
        function: What failed to be pickled.
        fails: Whether a value fails by itself.
        error: Why the whole failed.
    """
    steps: list[str] = []
    value = function
    seen = {id(value)}
    while not stays(value) and len(steps) < _DEPTH:
        for step, part in _parts(value):
            if id(part) not in seen and (stays(part) or fails(part)):
                steps.append(step)
                seen.add(id(part))
                value = part
                break
        else:
            break
    if not steps and not stays(value):
        return f"it cannot be pickled: {error}"
    known = _known(value)
    where = ", ".join(steps) or "the callable itself"
    why = "" if known else f" ({type(error).__name__}: {error})"
    return f"{where} is {describe(value)}, which cannot travel to another process{why}; {known[1] if known else _OPEN}"


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """The parts of a value, each with how to name it."""
    if isinstance(value, FunctionType):
        yield from _parts_of_function(value)
    elif isinstance(value, MethodType):
        yield "its object", value.__self__
        yield "its function", value.__func__
    elif isinstance(value, partial):
        yield "its function", value.func
        yield from ((f"argument {index}", part) for index, part in enumerate(value.args))
        yield from ((f"argument {name!r}", part) for name, part in value.keywords.items())
    elif isinstance(value, dict):
        yield from ((f"item {key!r:.80}", part) for key, part in list(value.items()))
        yield from (("a key", key) for key in list(value))
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"item {index}", part) for index, part in enumerate(list(value)))
    elif isinstance(value, type):
        yield from ((f"attribute {name!r}", part) for name, part in list(vars(value).items()))
        yield from ((f"base {base.__qualname__!r}", base) for base in value.__bases__)
    elif isinstance(value, classmethod | staticmethod):
        yield "its function", value.__func__
    elif isinstance(value, property):
        yield from (
            ("its function", part) for part in (value.fget, value.fset, value.fdel) if part is not None
        )
    elif not isinstance(value, ModuleType):
        yield from ((f"attribute {name!r}", part) for name, part in _attributes(value))
        yield f"class {type(value).__qualname__!r}", type(value)


def _parts_of_function(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f"captured variable {name!r}", cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for name in globals_of(function.__code__):
        if name in function.__globals__:
            yield f"captured variable {name!r}", function.__globals__[name]
    yield from (("a parameter's default", part) for part in function.__defaults__ or ())
    yield from ((f"the default of {name!r}", part) for name, part in (function.__kwdefaults__ or {}).items())
    yield from ((f"attribute {name!r}", part) for name, part in list(vars(function).items()))
    with suppress(Exception):  # annotations are evaluated when they are asked for
        yield from (
            (f"the annotation of {name!r}", part) for name, part in list(function.__annotations__.items())
        )


def _attributes(value: object) -> Iterator[tuple[str, Any]]:
    yield from list(getattr(value, "__dict__", {}).items())
    for base in type(value).__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                yield name, getattr(value, name)
