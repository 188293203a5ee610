"""Classes of msgspec by value. Their fields are made when the class is, so attributes alone do not bring them back."""

from __future__ import annotations

import types
from typing import Any, Final

import msgspec

_CONFIG: Final = (
    "frozen",
    "eq",
    "order",
    "array_like",
    "gc",
    "repr_omit_defaults",
    "omit_defaults",
    "forbid_unknown_fields",
    "weakref",
    "dict",
    "cache_hash",
    "tag_field",
    "tag",
)
_MADE: Final = {"__dict__", "__weakref__", "__slots__", "__annotations__", "__module__", "__match_args__"}

#: The metaclass of all Structs.
StructMeta: Final = type(msgspec.Struct)


def reduced(cls: Any) -> tuple[Any, ...]:
    """Reduce a class: first what makes it, then its methods, since these may mention the class."""
    own = {name: cls.__annotations__[name] for name in vars(cls).get("__annotations__", {})}
    fields = cls.__struct_fields__
    positional = [name for name in own if name in cls.__match_args__]
    options = {name: getattr(cls.__struct_config__, name) for name in _CONFIG}
    options["rename"] = {
        name: encoded
        for name, encoded in zip(fields, cls.__struct_encode_fields__, strict=True)
        if name in own
    }
    options["kw_only"] = not positional
    missing = len(fields) - len(cls.__struct_defaults__)
    defaults = {
        name: (isinstance(default, _FACTORY), getattr(default, "factory", default))
        for name, default in zip(fields[missing:], cls.__struct_defaults__, strict=True)
        if name in own and default is not msgspec.NODEFAULT
    }
    made = {*_MADE, *(name for name in own if name in fields)}
    attributes = {name: value for name, value in vars(cls).items() if name not in made}
    bases = vars(cls).get("__orig_bases__", cls.__bases__)
    identity = (cls.__name__, cls.__qualname__, cls.__module__)
    names = [name for name in own if name in fields]
    made_of = (identity, bases, names, defaults, options, "__post_init__" in attributes)
    return skeleton, made_of, (own, attributes), None, None, fill


def skeleton(
    identity: tuple[str, str, str],
    bases: tuple[Any, ...],
    names: list[str],
    defaults: dict[str, tuple[bool, Any]],
    options: dict[str, Any],
    checked: bool,
) -> type:
    """Make a class with its fields, without their types and without methods."""
    name, qualname, module = identity

    def begin(namespace: dict[str, Any]) -> None:
        namespace |= {"__module__": module, "__qualname__": qualname}
        namespace["__annotations__"] = dict.fromkeys(names, Any)
        for field, (made, default) in defaults.items():
            namespace[field] = msgspec.field(default_factory=default) if made else default
        if checked:
            namespace["__post_init__"] = _later()

    return types.new_class(name, bases, options, begin)


def fill(cls: Any, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Give a class the types of its fields, and its methods."""
    annotations, attributes = state
    cls.__annotations__ = annotations
    for name, value in attributes.items():
        if name == "__post_init__":
            vars(cls)[name].actual = value
        else:
            setattr(cls, name, value)


def _later() -> Any:
    """A `__post_init__` that gets its content afterwards: msgspec looks for one only when it makes the class."""

    def post_init(self: Any) -> None:
        vars(post_init)["actual"](self)

    return post_init


class _Probe(msgspec.Struct):
    value: list[Any] = msgspec.field(default_factory=list)


_FACTORY: Final = type(_Probe.__struct_defaults__[0])
