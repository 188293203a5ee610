"""The parameters of functions and of the Runtime: defaults here, validation in `_schema` when it is needed.

Importing pydantic takes 130 ms, which is most of the time to a first result. So the schema is imported only when a
parameter is neither its default nor a number or flag that is plainly right.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from pyfaas.errors import InvalidPackage

if TYPE_CHECKING:
    from collections.abc import Mapping

Isolation: TypeAlias = Literal["none", "standard", "strict"]

#: Largest event and result in bytes, unless `max_payload` says otherwise: Lambda's 6 MB as AWS counts it.
MAX_PAYLOAD = 6_291_556
#: Instances per CPU in the default of `max_concurrency`.
INSTANCES_PER_CPU = 10
MAX_TIMEOUT = 900.0
#: What is just a number, and where it is right without the schema, whose import takes longer than a first result may.
BOUNDS: dict[str, tuple[int, int] | tuple[float, float]] = {
    "memory": (128, 10_240),
    "timeout": (0.001, MAX_TIMEOUT),
    "max_payload": (1, 2**31 - 1),
    "reuse": (1, 2**63 - 1),
    "ephemeral_storage": (512, 10_240),
    "max_concurrency": (1, 2**31 - 1),
    "max_queue": (0, 2**63 - 1),
    "init_timeout": (0.001, MAX_TIMEOUT),
}
FLAGS = frozenset({"trusted", "batch"})
_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
_NAME_LIMIT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionConfig:
    """Validated parameters of `Runtime.register`; make it with `make`, which checks them.

    >>> FunctionConfig.make(memory=256, timeout=1.5).memory
    256
    >>> FunctionConfig.make(memory=64)
    Traceback (most recent call last):
    pyfaas.errors.InvalidPackage: memory=64: must be a whole number of MB from 128 to 10240
    """

    memory: int = 128
    """Memory limit in MB, 128 to 10,240 (Lambda)."""
    timeout: float = 3.0
    """Seconds until an invocation is killed: above 0, up to 900; up to 14,400 with `batch=True` (Lambda)."""
    env: Mapping[str, str] | None = None
    """Environment variables for the function, 4 KB in all (Lambda); `None` means none."""
    description: str = ""
    """Text for people, up to 256 characters."""
    tags: Mapping[str, str] | None = None
    """Up to 50 labels; `None` means none."""
    max_payload: int = MAX_PAYLOAD
    """Largest event and result in bytes, each."""
    reuse: int | None = None
    """Invocations per instance, ≥ 1: `1` is a fresh process for each; `None` is until it is recycled."""
    idle_timeout: float | None = None
    """Seconds after which an idle instance is stopped, above 0; `None` leaves it to the Runtime."""
    trusted: bool = False
    """Whether events and results may be pickled. Only for code that you trust like your own."""
    isolation: Isolation = "standard"
    """How much is put between the function and the machine."""
    queue_timeout: float | None = None
    """Seconds to wait for an instance; 0 refuses at once; `None` is as long as `timeout`."""
    batch: bool = False
    """Whether `timeout` may be up to four hours."""
    ephemeral_storage: int = 512
    """Quota of scratch space in MB, 512 to 10,240 (Lambda)."""

    @classmethod
    def make(cls, **parameters: Any) -> Self:
        """Check parameters and fill in the defaults.

        Raises:
            TypeError: A parameter has an unknown name.
            InvalidPackage: A value is wrong; the text names every wrong one.
        """
        return cls(**_checked(cls, parameters))

    @property
    def max_wait(self) -> float:
        """Seconds that an invocation may wait for an instance."""
        return self.timeout if self.queue_timeout is None else self.queue_timeout


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeConfig:
    """Validated parameters of `Runtime(…)`.

    >>> RuntimeConfig.make(max_concurrency=4).concurrency
    4
    >>> RuntimeConfig.make(max_concurency=4)
    Traceback (most recent call last):
    TypeError: unknown parameter 'max_concurency'; did you mean 'max_concurrency'?
    """

    max_concurrency: int | None = None
    """Instances busy at one time, over all functions; `None` is 10 for each CPU that this process may use."""
    max_queue: int = 100_000
    """Invocations that may wait in the host, ≥ 0; beyond it they are throttled."""
    init_timeout: float = 10.0
    """Seconds that a function's init phase may take: above 0, up to 900 (Lambda's default)."""

    @classmethod
    def make(cls, **parameters: Any) -> Self:
        """Check parameters and fill in the defaults; errors as in `FunctionConfig.make`."""
        return cls(**_checked(cls, parameters))

    @property
    def concurrency(self) -> int:
        """`max_concurrency` with its default worked out for this machine."""
        return self.max_concurrency or INSTANCES_PER_CPU * len(os.sched_getaffinity(0))


def function_name(name: object) -> str:
    """Return a function's name if it is one: 1 to 64 letters, digits, `-` and `_` of ASCII (Lambda).

    >>> function_name("resize-2")
    'resize-2'
    """
    if (
        not isinstance(name, str)
        or not 1 <= len(name) <= _NAME_LIMIT
        or not _NAME_CHARACTERS.issuperset(name)
    ):
        text = "must be 1 to 64 letters, digits, '-' and '_'; register it with name=…"
        raise InvalidPackage(f"function name {name!r}: {text}")
    return name


def _checked(cls: type[FunctionConfig | RuntimeConfig], parameters: dict[str, Any]) -> dict[str, Any]:
    defaults = {field.name: field.default for field in fields(cls)}
    for name in parameters:
        if name not in defaults:
            raise TypeError(f"unknown parameter {name!r}{_suggestion(name, defaults)}")
    changed = {name: value for name, value in parameters.items() if not _same(value, defaults[name])}
    plain = {name: _plain(name, value) for name, value in changed.items()}
    if None not in plain.values():
        return plain
    from pyfaas import _schema

    return _schema.validate(cls.__name__, changed)


def _plain(name: str, value: object) -> float | bool | None:
    """Return a value that is right without a look at the schema: a flag, or a number between its bounds."""
    if name in FLAGS:
        return value if type(value) is bool else None
    if name not in BOUNDS or (type(value) is not int and type(value) is not float):
        return None
    low, high = BOUNDS[name]
    if type(low) is int and type(value) is float:
        return None
    return type(low)(value) if low <= value <= high else None


def _same(value: object, default: object) -> bool:
    """Whether a value is the default; `3` is `3.0`, but `True` is not `1`."""
    if value is default:
        return True
    numbers = {int, float}
    same_kind = type(value) is type(default) or {type(value), type(default)} <= numbers
    return same_kind and value == default


def _suggestion(name: str, known: Mapping[str, object]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(sorted(known))}"


__all__ = ["MAX_PAYLOAD", "FunctionConfig", "Isolation", "RuntimeConfig", "function_name"]
