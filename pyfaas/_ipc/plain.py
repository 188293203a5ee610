"""Objects with fields as plain data, by the rules of the library that they come from.

| object | becomes |
|---|---|
| a model or dataclass of pydantic | what `model_dump()` returns: fields by name, unless the model says by alias |
| a Struct of msgspec | what `msgspec.to_builtins` makes: renamed fields, tags; a list for `array_like` |
| a dataclass or class of attrs | a dict of its fields |

Inside of them, where a type says what it was, a few more types become plain: an enum its value; sets lists; dates,
times and durations ISO 8601; paths, addresses and URLs text. Each is what the same library reads back.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

_mro = type.__dict__["__mro__"].__get__
_name = type.__dict__["__name__"].__get__
_module = type.__dict__["__module__"].__get__
_namespace = type.__dict__["__dict__"].__get__


def form_of(cls: type) -> Callable[[Any], object] | None:
    """Return what makes a dict (or another plain value) of objects of a class, if they have fields."""
    bases = _mro(cls)
    if msgspec.Struct in bases:
        return _form_of_struct(cls)
    names = {name for base in bases for name in _namespace(base)}
    if "__pydantic_serializer__" in names and "model_dump" in names:
        return _dumped
    if "__dataclass_fields__" in names:
        if "__pydantic_serializer__" in names:
            return _serialised
        dataclasses = sys.modules["dataclasses"]
        return _form_of_fields([field.name for field in dataclasses.fields(cls)])
    if "__attrs_attrs__" in names:
        return _form_of_fields([field.name for field in cls.__attrs_attrs__])  # type: ignore[attr-defined]
    return None


def _dumped(value: Any) -> object:
    return value.model_dump()


def _serialised(value: Any) -> object:
    return type(value).__pydantic_serializer__.to_python(value)


def _form_of_fields(names: list[str]) -> Callable[[Any], object]:
    def form(value: Any) -> object:
        return {name: item for name in names if (item := getattr(value, name)) is not msgspec.UNSET}

    return form


def _form_of_struct(cls: Any) -> Callable[[Any], object]:
    config = cls.__struct_config__
    names: tuple[str, ...] = cls.__struct_fields__
    tag = config.tag
    if config.array_like:
        head = [] if tag is None else [tag]
        return lambda value: head + [getattr(value, name) for name in names]
    encoded = list(zip(names, cls.__struct_encode_fields__, strict=True))
    missing = len(names) - len(cls.__struct_defaults__)
    defaults = (
        dict(zip(names[missing:], cls.__struct_defaults__, strict=True)) if config.omit_defaults else {}
    )

    def form(value: Any) -> object:
        made = {} if tag is None else {config.tag_field: tag}
        for name, key in encoded:
            item = getattr(value, name)
            if item is not msgspec.UNSET and not (name in defaults and _is_default(item, defaults[name])):
                made[key] = item
        return made

    return form


def _is_default(item: object, default: Any) -> bool:
    """Whether msgspec leaves it out: the default itself, or an empty list, dict or set where that is made."""
    if item is default:
        return True
    made = getattr(default, "factory", None)
    return made in {list, dict, set} and type(item) is made and not item


def _text(value: object) -> str:
    return str(value)


def _value(value: Any) -> object:
    return value.value


def _list(value: Any) -> object:
    return list(value)


# By `module.class` of a type or one of its bases.
_LEAVES: Final[dict[str, Callable[[Any], object]]] = {
    "builtins.set": _list,
    "builtins.frozenset": _list,
    "collections.deque": _list,
    "datetime.date": msgspec.to_builtins,
    "datetime.time": msgspec.to_builtins,
    "datetime.timedelta": msgspec.to_builtins,
    "enum.Enum": _value,
    "ipaddress._IPAddressBase": _text,
    "pathlib.PurePath": _text,
    "pathlib._local.PurePath": _text,
    "pydantic.networks._BaseUrl": _text,
    "pydantic.networks._BaseMultiHostUrl": _text,
    "pydantic_core._pydantic_core.Url": _text,
    "pydantic_core._pydantic_core.MultiHostUrl": _text,
}


def leaf_of(cls: type) -> Callable[[Any], object] | None:
    """Return what makes a plain value of objects of a class that are found inside of an object with fields."""
    for base in _mro(cls):
        leaf = _LEAVES.get(f"{_module(base)}.{_name(base)}")
        if leaf is not None:
            return leaf
    return None


def key(value: Any) -> Any:
    """Return what a key of a dict inside of an object with fields counts as."""
    bases = _mro(type(value))
    if str in bases or int in bases or float in bases or value is None:
        return value
    try:
        return next(iter(msgspec.to_builtins({value: None}, str_keys=True)))
    except Exception:  # noqa: BLE001  # it is no such key, and is refused for what it is
        return value


__all__ = ["form_of", "key", "leaf_of"]
