"""The slow path of `values`: rewrites what MessagePack lacks, and words every reason why a value cannot cross.

Nothing in here relies on what a user's object says about itself: types are read from the interpreter, and the few
methods that have to be called (`items`, `utcoffset`, what reads the fields of a model) may raise whatever they like.
"""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from msgspec.msgpack import Ext

from pyfaas._ipc import arrays, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfaas._ipc.buffers import Outbox

DEPTH: Final = 256
_LENGTH: Final = 2**32  # MessagePack's lengths have 32 bits
_WALK: Final = 2**26  # as PF_WALK_LIMIT of the fast walk

DECIMAL, UUID, DATETIME, INTEGER = 1, 2, 3, 4  # extension types; the next is arrays.BUFFER

# `module.class` of a type or one of its bases, and what to do instead.
_HINTS: Final = {
    "builtins.set": "use a list",
    "builtins.frozenset": "use a list",
    "builtins.range": "use list(x)",
    "builtins.generator": "use list(x)",
    "builtins.map": "use list(x)",
    "builtins.filter": "use list(x)",
    "builtins.zip": "use list(x)",
    "builtins.dict_keys": "use list(x)",
    "builtins.dict_values": "use list(x)",
    "builtins.dict_items": "use dict(x)",
    "builtins.mappingproxy": "use dict(x)",
    "builtins.complex": "use [x.real, x.imag]",
    "builtins.coroutine": "it was not awaited",
    "builtins.async_generator": "collect it with [item async for item in x]",
    "builtins.function": "call it, or send its name",
    "builtins.BaseException": "use str(x)",
    "collections.deque": "use list(x)",
    "datetime.date": "use x.isoformat()",
    "datetime.time": "use x.isoformat()",
    "datetime.timedelta": "use x.total_seconds()",
    "enum.Enum": "use x.value",
    "fractions.Fraction": "use str(x)",
    "pathlib.PurePath": "use str(x)",
    "numpy.generic": "use x.item()",
    "pandas.DataFrame": 'use x.to_dict("records")',
    "pandas.Series": "use x.tolist()",
    "pandas.Index": "use x.tolist()",
    "polars.DataFrame": "use x.to_dicts()",
    "polars.Series": "use x.to_list()",
    "pydantic.SecretStr": "use x.get_secret_value()",
    "pydantic.SecretBytes": "use x.get_secret_value()",
    "torch.Tensor": "use x.tolist()",
}

_mro = type.__dict__["__mro__"].__get__
_name = type.__dict__["__name__"].__get__
_module = type.__dict__["__module__"].__get__
_namespace = type.__dict__["__dict__"].__get__


class UnsupportedValue(Exception):
    """A value that cannot cross. `path` leads to it (`$` is the whole), `reason` says why and what to do."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class _Refusal(Exception):
    """An `UnsupportedValue` on its way up, which collects the path."""

    def __init__(self, reason: str, cause: BaseException | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.cause = cause
        self.steps: list[str | int] = []


def convert(value: object, outbox: Outbox, *, typed: bool = True) -> object:
    """Rewrite a value with nothing but types that MessagePack has, and `Ext`; its large parts go into the outbox.

    Args:
        value: Anything.
        outbox: Takes what is large; it is not copied.
        typed: Whether models, Structs, dataclasses and their like may become plain data.

    Raises:
        UnsupportedValue: It cannot cross.
    """
    refusal: _Refusal
    try:
        return _Conversion(outbox, typed=typed).convert(value)
    except _Refusal as caught:
        refusal = caught
    except RecursionError as error:
        refusal = _Refusal("too deep for what is left of the caller's stack", error)
    raise UnsupportedValue(path_text(refusal.steps[::-1]), refusal.reason) from refusal.cause


class _Conversion:
    def __init__(self, outbox: Outbox, *, typed: bool) -> None:
        self.outbox = outbox
        self.left = _WALK
        self.open: dict[int, int] = {}  # the containers around the current value, and their level
        self.level = 0
        self.typed = typed
        self.inside = 0  # of so many objects with fields
        self.forms: dict[type, Callable[[Any], object] | None] = {}

    def convert(self, value: Any) -> object:
        # One frame for each level: a caller that is deep in its own stack still gets 256 of them.
        self.left -= 1
        if self.left < 0:
            raise _Refusal(f"more than {_WALK:,} values")
        cls = type(value)
        base = cls if cls in _EXACT else _base(cls)
        if base is None:
            return self.convert_typed(cls, value)
        leaf = _LEAVES.get(base)
        if leaf is not None:
            return leaf(value)
        if base not in _CONTAINERS:
            return self.block(base, value)
        self.enter(value)
        self.level += 1
        step: str | int | None = None
        try:
            if base is not dict:
                array = []
                for step, item in enumerate(base.__iter__(value)):  # noqa: B007  # for the refusal
                    array.append(self.convert(item))
                return array
            mapping: dict[str, object] = {}
            for key, item in _items(value, self.left):
                step = None
                step = _new_key(plain.key(key) if self.inside else key, mapping)
                mapping[step] = self.convert(item)
            return mapping
        except _Refusal as refusal:
            if step is not None:
                refusal.steps.append(step)
            raise
        finally:
            del self.open[id(value)]
            self.level -= 1

    def convert_typed(self, cls: type, value: Any) -> object:
        """Convert what is of none of the allowed types: an object with fields, or what is in one."""
        if cls not in self.forms:
            self.forms[cls] = plain.form_of(cls) if self.typed else None
        form = self.forms[cls] or (plain.leaf_of(cls) if self.inside else None)
        if form is None:
            raise _Refusal(_not_supported(cls))
        self.enter(value)
        self.inside += 1
        try:
            return self.convert(_made(form, value))
        finally:
            self.inside -= 1
            del self.open[id(value)]

    def block(self, base: type, value: Any) -> object:
        """Rewrite a value that is one block of memory."""
        write = arrays.writer_of(base)
        try:
            if write is not None:
                return write(value, self.outbox)
            return arrays.write_bytes(value, self.outbox) or _bytes(value)
        except (_Refusal, MemoryError):
            raise
        except arrays.Unsendable as refusal:
            raise _Refusal(str(refusal)) from None
        except Exception as error:
            # A memoryview that was released; a subclass that does not do what its base does.
            raise _Refusal(f"reading this {type_name(value)} failed: {text_of(error)}", error) from error

    def enter(self, value: object) -> None:
        if id(value) in self.open:
            levels = self.level - self.open[id(value)]
            raise _Refusal(f"a cycle: it is the {type_name(value)} {levels} level{'s' * (levels > 1)} above")
        if self.level >= DEPTH:
            raise _Refusal(f"deeper than {DEPTH} levels")
        self.open[id(value)] = self.level


def _base(cls: type) -> Any:
    """The allowed type that values of this class count as; `None` if there is none."""
    for base in _mro(cls):
        if base in _EXACT or arrays.writer_of(base) is not None:
            return base
    return None


def _made(form: Callable[[Any], object], value: object) -> object:
    try:
        return form(value)
    except Exception as error:
        # Its class may have any code for its fields.
        raise _Refusal(
            f"reading the fields of this {type_name(value)} failed: {text_of(error)}", error
        ) from error


def _items(value: dict[Any, Any], limit: int) -> list[tuple[Any, Any]]:
    """A snapshot of the items: those that json would take, so a subclass's own `items` counts."""
    try:
        if type(value) is dict:
            return list(value.items())
        return [(key, item) for key, item in islice(iter(value.items()), limit + 1)]
    except Exception as error:
        # Another thread changed it, or the subclass is broken.
        raise _Refusal(
            f"reading the items of this {type_name(value)} failed: {text_of(error)}", error
        ) from error


def _new_key(key: object, mapping: dict[str, object]) -> str:
    text = _key(key)
    if text in mapping:
        raise _Refusal(f"two of its keys are {quoted(text)} as text")
    return text


def _key(key: object) -> str:
    """A key as text, as json does it."""
    cls = type(key)
    bases = _mro(cls)
    if str in bases:
        return _text(key)
    if key is None:
        return "null"
    if key is True or key is False:
        return "true" if key else "false"
    try:
        if float in bases:
            return json.dumps(float.__float__(key))  # type: ignore[arg-type]
        if int in bases:
            return int.__repr__(key)
    except ValueError as error:
        raise _Refusal(f"an integer as key: {error}", error) from error
    hint = "; use x.decode()" if bytes in bases else "; use text"
    raise _Refusal(f"{type_name(key)} as a dict's key is not supported{hint}")


def _text(value: Any) -> str:
    text = str.__str__(value)  # of a subclass: its content
    if not text.isascii():
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise _Refusal("str with a lone surrogate cannot be encoded") from None
    else:
        size = len(text)
    if size >= _LENGTH:
        raise _Refusal(f"longer than {_LENGTH - 1:,} bytes")
    return text


def _integer(value: Any) -> int | Ext:
    number = int.__int__(value)
    if -(2**63) <= number < 2**64:
        return number
    return Ext(INTEGER, number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))


def _bytes(value: Any) -> bytes:
    # Of a subclass the buffer itself, whatever its methods say.
    data = value.tobytes() if type(value) is memoryview else b"".join((value,))
    if len(data) >= _LENGTH:
        raise _Refusal(f"longer than {_LENGTH - 1:,} bytes")
    return data


def _decimal(value: Any) -> Ext:
    return Ext(DECIMAL, decimal.Decimal.__str__(value).encode("ascii"))


def _uuid(value: uuid.UUID) -> Ext:
    try:
        return Ext(UUID, int.to_bytes(value.int, 16, "big"))
    except Exception as error:
        # A subclass without the attribute, or with another meaning.
        raise _Refusal(f"this {type_name(value)} is no UUID: {text_of(error)}", error) from error


def _datetime(value: Any) -> Ext:
    try:
        if value != value:  # noqa: PLR0124  # pandas.NaT calls itself a datetime
            raise _Refusal(f"{type_name(value)} is not supported; use None")
        return Ext(DATETIME, datetime.datetime.isoformat(value).encode("ascii"))
    except _Refusal:
        raise
    except Exception as error:
        # Its tzinfo is any class.
        raise _Refusal(f"reading this {type_name(value)} failed: {text_of(error)}", error) from error


def _same(value: object) -> object:
    return value


_LEAVES: Final[dict[type, Callable[[Any], object]]] = {
    type(None): _same,
    bool: _same,
    float: float.__float__,
    int: _integer,
    str: _text,
    datetime.datetime: _datetime,
    decimal.Decimal: _decimal,
    uuid.UUID: _uuid,
}

_CONTAINERS: Final[frozenset[Any]] = frozenset([dict, list, tuple])
_EXACT: Final[frozenset[Any]] = frozenset([*_LEAVES, *_CONTAINERS, bytes, bytearray, memoryview])


def restore(code: int, data: memoryview) -> object:
    """Read an extension type: the decoder's hook.

    Raises:
        ValueError, ArithmeticError: The content is not what `convert` writes.
    """
    if code == DECIMAL:
        return decimal.Decimal(str(data, "ascii"))
    if code == UUID:
        return uuid.UUID(bytes=bytes(data))
    if code == DATETIME:
        return datetime.datetime.fromisoformat(str(data, "ascii"))
    if code == INTEGER:
        return int.from_bytes(data, "big", signed=True)
    raise ValueError(f"extension type {code}")


def path_text(steps: list[str | int]) -> str:
    """Write a path: `$.items[3]["odd key"]`; the middle of a very long one is left out."""
    texts = [_step_text(step) for step in steps]
    if len(texts) > 40:
        texts[16:-16] = [f"…({len(texts) - 32} more)…"]
    return "$" + "".join(texts)


def _step_text(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if step.isidentifier() and len(step) <= 80 else f"[{quoted(step)}]"


def quoted(text: str) -> str:
    """Quote a key for an error's text, shortened to 80 characters."""
    return json.dumps(text if len(text) <= 80 else f"{text[:79]}…", ensure_ascii=not text.isprintable())


def type_name(value: object) -> str:
    """The name of a value's type, whatever its metaclass says."""
    return _full_name(type(value))[1][:80]


def text_of(error: BaseException) -> str:
    """`str(error)`, shortened to 200 characters, also if that fails."""
    try:
        return str.__str__(str(error))[:200] or type_name(error)
    except Exception:  # noqa: BLE001  # __str__ is any code
        return type_name(error)


def _full_name(cls: type) -> tuple[str, str]:
    module = _module(cls)
    return (module if type(module) is str else "builtins"), _name(cls)


def _not_supported(cls: type) -> str:
    name = _full_name(cls)[1][:80]
    for base in _mro(cls):
        module, base_name = _full_name(base)
        hint = _HINTS.get(f"{module.partition('.')[0]}.{base_name}")
        if hint:
            return f"{name} is not supported; {hint}"
    return f"{name} is not supported"
