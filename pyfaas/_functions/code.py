"""Anything that `register` takes for code, as the bytes that a worker gets.

| code | ships |
|---|---|
| a callable | the callable and all that it uses of the application's own modules, by value |
| a callable of a library | its name |
| `"module:name"` | the source files of the module's top-level package; of a library the name |
| `"file.py:name"` | that file. Files beside it are not shipped: use `"package.module:name"` for more than one file |
| `Source(text)` | the text |
"""

from __future__ import annotations

import hashlib
import os
import zlib
from dataclasses import dataclass
from typing import Any, Final

import msgspec.msgpack

from pyfaas._functions import files
from pyfaas._functions.source import Source
from pyfaas.errors import InvalidPackage

#: Lambda's limits, in bytes.
PACKED_MAX: Final = 52_428_800
UNPACKED_MAX: Final = 262_144_000

_encode = msgspec.msgpack.Encoder(order="deterministic").encode


@dataclass(frozen=True, slots=True)
class CodeImage:
    """A function's code.

    Attributes:
        payload: What the worker reads: a MessagePack map with `kind`.
        handler: The `_HANDLER` of the environment.
        sha256: Of the payload, in hexadecimal digits.
        description: For people: where it came from.
    """

    payload: bytes
    handler: str
    sha256: str
    description: str


def code_image(
    code: object,
    handler: str | None = None,
    *,
    packed_max: int = PACKED_MAX,
    unpacked_max: int = UNPACKED_MAX,
) -> CodeImage:
    """Make the image of a function's code. Nothing of the code runs, and no text is parsed, except `__reduce__` and
    its like of captured objects.

    Args:
        code: A callable, `"module:name"`, `"file.py:name"`, or a `Source`.
        handler: The name, where `code` does not say it.
        packed_max: Bytes that it may have after compression.
        unpacked_max: Bytes that it may have.

    Raises:
        InvalidPackage: It cannot be shipped; the text says what is in the way and what to do.

    >>> code_image(Source("def handler(event, context): return event")).handler
    'lambda_function.handler'
    """  # noqa: D205
    if handler is not None and not isinstance(handler, str):
        raise InvalidPackage(f"handler is a {type(handler).__name__}, not a str")
    if isinstance(code, Source):
        content, name, description = _of_source(code, handler)
    elif isinstance(code, str | os.PathLike):
        content, name, description = _of_text(os.fspath(code), handler)
    else:
        content, name, description = _of_callable(code, handler)
    payload = _encode(content)
    _check_size(len(payload), payload, description, packed_max, unpacked_max)
    return CodeImage(payload, name, hashlib.sha256(payload).hexdigest(), description)


_Image = tuple[dict[str, Any], str, str]


def _of_source(source: Source, handler: str | None) -> _Image:
    module = source.filename.removesuffix(".py")
    full = f"{module}.{_attribute(handler or source.handler, module)}"
    content = {"kind": "files", "files": {source.filename: source.text.encode()}, "handler": full}
    return content, full, f"source text {source.filename!r}"


def _of_text(code: object, handler: str | None) -> _Image:
    if not isinstance(code, str):
        raise InvalidPackage(f"code: {code!r} is a path as bytes; use str")
    if "\n" in code:
        raise InvalidPackage(
            "code: a str is 'module:name' or 'file.py:name'; wrap source text in pyfaas.Source(...)"
        )
    place, colon, name = code.rpartition(":")
    if not colon:
        place, name = code, handler or ""
        if not code.endswith(".py"):
            raise InvalidPackage(_no_name(code))
    elif handler is not None:
        raise InvalidPackage(f"code: {code!r} names the handler already; leave out handler={handler!r}")
    if place.endswith(".py"):
        return _of_file(place, name)
    return _of_module(place, name)


def _no_name(code: str) -> str:
    if os.path.isdir(code) or code.endswith(".zip"):
        return f"code: {code!r}: this version ships modules and single files; use 'package.module:name'"
    return f"code: {code!r} names no handler; write 'module:name' or 'file.py:name'"


def _of_file(place: str, name: str) -> _Image:
    filename = os.path.basename(place)
    module = filename.removesuffix(".py")
    if not module or "." in module:
        raise InvalidPackage(f"code: {filename!r}: a file's name may have no dot but that of .py")
    full = f"{module}.{_attribute(name, module)}"
    content = {"kind": "files", "files": {filename: files.read(place)}, "handler": full}
    return content, full, f"file {place!r}"


def _of_module(module: str, name: str) -> _Image:
    if not all(part.isidentifier() for part in module.split(".")):
        raise InvalidPackage(
            f"code: {module!r} is no module's name; write 'package.module:name' or 'file.py:name'"
        )
    if module == "__main__":
        raise InvalidPackage(
            "code: '__main__:…': the running script is not imported again; register the callable itself"
        )
    full = f"{module}.{_attribute(name, module)}"
    shipped = files.of_module(module)
    if shipped is None:
        return {"kind": "import", "handler": full}, full, f"library {full!r}"
    content = {"kind": "files", "files": shipped, "handler": full}
    return content, full, f"module {module!r} ({len(shipped)} files)"


def _of_callable(code: object, handler: str | None) -> _Image:
    # cloudpickle takes 20 ms to import, and not everybody needs it.
    from pyfaas._functions import callables

    if not callable(code):
        raise InvalidPackage(
            f"code: {type(code).__name__} cannot be called; give a callable, 'module:name', 'file.py:name' or Source"
        )
    if handler is not None:
        raise InvalidPackage(
            f"handler={handler!r} goes with files and modules; a callable is its own handler"
        )
    return callables.image(code)


def _attribute(name: str, module: str) -> str:
    """Check the handler's name in its module; `module.name` is accepted too, as Lambda writes it."""
    short = name.removeprefix(f"{module}.")
    if not short:
        raise InvalidPackage(
            f"the handler's name is empty; write '{module}:handler', or give handler='handler'"
        )
    if not short.isidentifier():
        raise InvalidPackage(
            f"handler {name!r} is no name of a function in {module!r}: it has to be an identifier"
        )
    return short


def _check_size(size: int, payload: bytes, description: str, packed_max: int, unpacked_max: int) -> None:
    if size > unpacked_max:
        raise InvalidPackage(f"{description}: {size:,} bytes; the limit is {unpacked_max:,}")
    # Whether it fits as a zip can only be known by packing it, which most code is too small to need.
    if size > packed_max and (packed := len(zlib.compress(payload, 1))) > packed_max:
        raise InvalidPackage(f"{description}: {packed:,} bytes when compressed; the limit is {packed_max:,}")
