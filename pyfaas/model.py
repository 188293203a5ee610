"""The values that cross layers: what an invocation returned, what it cost, what the Runtime is doing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyfaas.errors import PyFaasError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one invocation took; the numbers of Lambda's REPORT line.

    >>> Report(duration_ms=2.9, billed_ms=3, memory_mb=128, max_memory_mb=36, cpu_ms=1.2).cold
    False
    """

    duration_ms: float
    """Wall time of the handler in ms, as the host measured it; ≥ 0."""
    billed_ms: int
    """`duration_ms` rounded up to whole ms; ≥ 1."""
    memory_mb: int
    """The function's memory limit in MB."""
    max_memory_mb: int
    """Most memory that the instance has had resident so far, in MB; 0 where it could not be read."""
    cpu_ms: float
    """CPU time in ms, user and system, that the instance used meanwhile; 0 where it could not be read."""
    cold: bool = False
    """Whether an instance was started for this invocation."""
    init_ms: float | None = None
    """Wall time of the function's init phase in ms, on a cold start; otherwise `None`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[T]):
    """How one invocation ended. `Function.call` returns it, and does not raise for the function's failure.

    >>> Outcome(value=42, request_id="7d0c…").unwrap()
    42
    >>> from pyfaas.errors import FunctionError
    >>> error = FunctionError(error_type="KeyError", error_message="'name'")
    >>> failed = Outcome(error=error, request_id="7d0c…")
    >>> failed.ok, failed.value
    (False, None)
    """

    request_id: str
    """Id of the invocation: a UUID in text form."""
    value: T | None = None
    """What the handler returned; `None` when `error` is set."""
    error: PyFaasError | None = None
    """Why there is no value, or `None`."""
    logs: str = ""
    """The last lines that the function wrote during the invocation, with START, END and REPORT."""
    report: Report | None = None
    """What it took; `None` when no instance ever ran it."""

    @property
    def ok(self) -> bool:
        """Whether the handler returned a value."""
        return self.error is None

    def unwrap(self) -> T:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return cast("T", self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionStatistics:
    """One function in a snapshot of `Runtime.statistics()`. All numbers are ≥ 0.

    >>> FunctionStatistics(idle=2, busy=1).instances
    3
    """

    starting: int = 0
    """Instances that are being started."""
    idle: int = 0
    """Instances that wait for an invocation."""
    busy: int = 0
    """Instances that run one: the function's concurrency."""
    queued: int = 0
    """Invocations that wait for an instance."""
    invocations: int = 0
    """Invocations that ended, however they did, throttled ones excepted."""
    errors: int = 0
    """Those of them that ended in an error."""
    throttles: int = 0
    """Invocations that were refused because concurrency or queue was full."""
    cold_starts: int = 0
    """Invocations for which an instance was started."""

    @property
    def instances(self) -> int:
        """Instances in whatever state."""
        return self.starting + self.idle + self.busy


@dataclass(frozen=True, slots=True)
class Statistics:
    """An immutable snapshot of a Runtime.

    Totals over all functions: `.starting .idle .busy .queued .invocations .errors .throttles .cold_starts`.

    >>> greet, resize = FunctionStatistics(idle=1, invocations=7), FunctionStatistics(busy=2)
    >>> now = Statistics({"greet": greet, "resize": resize})
    >>> now.functions["greet"].invocations, now.total.instances, now.busy
    (7, 3, 2)
    """

    functions: Mapping[str, FunctionStatistics]
    """By name of the function; read-only."""
    total: FunctionStatistics = field(init=False)
    """Sums over all functions."""

    def __post_init__(self) -> None:
        functions = _ReadOnly(self.functions)
        sums = {
            name: sum(getattr(one, name) for one in functions.values())
            for name in FunctionStatistics.__dataclass_fields__
        }
        object.__setattr__(self, "functions", functions)
        object.__setattr__(self, "total", FunctionStatistics(**sums))

    @property
    def starting(self) -> int:
        """Instances that are being started."""
        return self.total.starting

    @property
    def idle(self) -> int:
        """Instances that wait for an invocation."""
        return self.total.idle

    @property
    def busy(self) -> int:
        """Instances that run one."""
        return self.total.busy

    @property
    def queued(self) -> int:
        """Invocations that wait for an instance."""
        return self.total.queued

    @property
    def invocations(self) -> int:
        """Invocations that ended."""
        return self.total.invocations

    @property
    def errors(self) -> int:
        """Those of them that ended in an error."""
        return self.total.errors

    @property
    def throttles(self) -> int:
        """Invocations that were refused."""
        return self.total.throttles

    @property
    def cold_starts(self) -> int:
        """Invocations for which an instance was started."""
        return self.total.cold_starts


class _ReadOnly(dict[str, Any]):
    """A dict that refuses changes; unlike `MappingProxyType` it can be pickled and copied."""

    def _refuse(self, *_args: object, **_kwargs: object) -> Any:
        raise TypeError("a snapshot cannot be changed; make a dict of it first")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


__all__ = ["FunctionStatistics", "Outcome", "Report", "Statistics"]
