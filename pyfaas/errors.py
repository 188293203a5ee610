"""The exceptions: whose fault is it, and may I retry?

Every error of pyfaas is a `PyFaasError` with three answers as attributes:

`fault`
    `"caller"`, `"function"` or `"runtime"`.
`retryable`
    `True`: the same call may succeed later. `False`: it will fail again. `"policy"`: the function's own code
    failed, so only its author knows whether a second attempt is safe. Since `"policy"` is a non-empty string,
    test with `error.retryable is True`.
`request_id`
    Id of the invocation, or `None` when there was none yet.

They survive pickling and copying with all attributes, notes included.

>>> try:
...     raise FunctionTimeout("Task timed out after 3.00 seconds", request_id="7d0c…")
... except TimeoutError as error:
...     error.fault, error.retryable, error.request_id
('function', 'policy', '7d0c…')
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeAlias

Fault: TypeAlias = Literal["caller", "function", "runtime"]
Retryable: TypeAlias = Literal["policy"] | bool
CrashReason: TypeAlias = Literal["signal", "exit", "seccomp", "protocol", "runtime"]


class PyFaasError(Exception):
    """Root of all errors of pyfaas.

    Args:
        message: What happened: the thing, the value, the limit, what to do next.
        request_id: Id of the invocation.
        fault: Overrides the class's answer, for this instance.
        retryable: Overrides the class's answer, for this instance.
    """

    fault: Fault = "runtime"
    retryable: Retryable = False
    request_id: str | None = None

    def __init__(
        self,
        message: str = "",
        /,
        *,
        request_id: str | None = None,
        fault: Fault | None = None,
        retryable: Retryable | None = None,
    ) -> None:
        super().__init__(message)
        # Only what differs from the class is stored: creating an error is cheap and its state small.
        if request_id is not None:
            self.request_id = request_id
        if fault is not None:
            self.fault = fault
        if retryable is not None:
            self.retryable = retryable

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args), self.__dict__ or None


def _restore(cls: type[PyFaasError], args: tuple[object, ...]) -> PyFaasError:
    """Make an error without its constructor, whose keyword-only arguments are in the pickled state."""
    error = cls.__new__(cls)
    error.args = args
    return error


class FunctionNotFound(PyFaasError, LookupError):
    """No function, version or alias has that name. The caller's fault; a retry does not help.

    >>> str(FunctionNotFound("no function 'resise'; did you mean 'resize'?"))
    "no function 'resise'; did you mean 'resize'?"
    """

    fault = "caller"


class InvalidEvent(PyFaasError, ValueError):
    """The event cannot be encoded, is too large, or is not what the handler's annotation asks for.

    The caller's fault; a retry does not help.

    >>> raise InvalidEvent("$.items[3].when: set is not supported")
    Traceback (most recent call last):
    pyfaas.errors.InvalidEvent: $.items[3].when: set is not supported
    """

    fault = "caller"


class AccessDenied(PyFaasError, PermissionError):
    """A policy said no. The caller's fault; a retry does not help.

    >>> isinstance(AccessDenied("'ada' may not invoke 'pay'"), PermissionError)
    True
    """

    fault = "caller"


class Throttled(PyFaasError):
    """Concurrency or queue is full. The caller's fault; retry after `retry_after` seconds.

    >>> Throttled("12 of 12 instances are busy", retry_after=0.2).retry_after
    0.2
    """

    fault = "caller"
    retryable = True
    retry_after: float | None = None

    def __init__(self, message: str = "", /, *, retry_after: float | None = None, **common: Any) -> None:
        super().__init__(message, **common)
        if retry_after is not None:
            self.retry_after = retry_after


class RuntimeClosed(PyFaasError, RuntimeError):
    """The Runtime was closed, or is used in a forked child. The caller's fault; a retry does not help.

    >>> RuntimeClosed("this Runtime belongs to process 12; make one in this process").fault
    'caller'
    """

    fault = "caller"


class InvalidPackage(PyFaasError, ValueError):
    """Code, handler or configuration is wrong. The caller's fault; a retry does not help.

    >>> isinstance(InvalidPackage("memory: 64 is below the minimum of 128 MB"), ValueError)
    True
    """

    fault = "caller"


class _FunctionFault(PyFaasError):
    """What the errors of a function's own making share: its last log lines."""

    fault = "function"
    logs: str = ""

    def __init__(self, message: str = "", /, *, logs: str = "", **common: Any) -> None:
        super().__init__(message, **common)
        if logs:
            self.logs = logs


class _RaisedInFunction(_FunctionFault):
    """What the errors share that began as an exception in the function: that exception, as text."""

    error_type: str = ""
    error_message: str = ""
    stack_trace: tuple[str, ...] = ()

    def __init__(
        self,
        message: str = "",
        /,
        *,
        error_type: str = "",
        error_message: str = "",
        stack_trace: tuple[str, ...] = (),
        **common: Any,
    ) -> None:
        super().__init__(message or f"{error_type}: {error_message}".strip(": "), **common)
        self.error_type = error_type
        self.error_message = error_message
        self.stack_trace = tuple(stack_trace)


class FunctionError(_RaisedInFunction):
    """The handler raised. The function's fault; whether to retry is its policy.

    All attributes are text that came from the function: trust it as little as the function.

    Args:
        message: By default `"<error_type>: <error_message>"`.
        error_type: Name of the exception's class, as Lambda's `errorType`.
        error_message: Its text.
        stack_trace: Its lines, outermost first.
        logs: The invocation's last log lines.

    >>> error = FunctionError(error_type="KeyError", error_message="'name'")
    >>> str(error), error.error_type
    ("KeyError: 'name'", 'KeyError')
    """

    retryable = "policy"


class FunctionTimeout(_FunctionFault, TimeoutError):
    """The deadline passed and the instance was killed. The function's fault; whether to retry is its policy.

    >>> isinstance(FunctionTimeout("Task timed out after 3.00 seconds"), TimeoutError)
    True
    """

    retryable = "policy"


class OutOfMemory(_FunctionFault, MemoryError):
    """The memory limit was hit. The function's fault; whether to retry is its policy.

    >>> OutOfMemory("'report' used more than its 256 MB").retryable
    'policy'
    """

    # Found by name it would be MemoryError's, which refuses to make a class whose first base is another.
    __new__ = Exception.__new__  # type: ignore[assignment]
    retryable = "policy"


class InstanceCrashed(_FunctionFault):
    """The instance's process died, or was killed. The function's fault; whether to retry is its policy.

    With reason `"runtime"` it died because a process of pyfaas above it did: then `fault` is `"runtime"` and
    `retryable` is `True`, and no attempt of the event was used up.

    Args:
        message: What happened.
        reason: `"signal"` (see `signal`), `"exit"` (see `exit_code`), `"seccomp"` (a forbidden system call),
            `"protocol"` (it sent what no honest worker sends) or `"runtime"`.
        signal: Number of the signal that killed it.
        exit_code: Its exit status.

    >>> error = InstanceCrashed("killed by SIGSEGV", reason="signal", signal=11)
    >>> error.reason, error.signal, error.exit_code
    ('signal', 11, None)
    >>> InstanceCrashed("the supervisor died", reason="runtime").retryable
    True
    """

    retryable = "policy"
    reason: CrashReason = "exit"
    signal: int | None = None
    exit_code: int | None = None

    def __init__(
        self,
        message: str = "",
        /,
        *,
        reason: CrashReason,
        signal: int | None = None,
        exit_code: int | None = None,
        **common: Any,
    ) -> None:
        if reason == "runtime":
            common = {"fault": "runtime", "retryable": True} | common
        super().__init__(message, **common)
        self.reason = reason
        self.signal = signal
        self.exit_code = exit_code


class InitError(_RaisedInFunction):
    """Import or init of the function failed, or was too slow. The function's fault; a retry does not help.

    `error_type`, `error_message` and `stack_trace` are those of the exception, where there was one.

    >>> InitError("'app' has no attribute 'handler'", error_type="Runtime.HandlerNotFound").error_type
    'Runtime.HandlerNotFound'
    """


class InvalidResult(_FunctionFault, ValueError):
    """The result cannot be encoded, or is larger than the limit. The function's fault; a retry does not help.

    >>> str(InvalidResult("$.when: set is not supported"))
    '$.when: set is not supported'
    """


class SandboxUnavailable(PyFaasError):
    """A layer of confinement that was asked for is missing. The runtime's fault; a retry does not help.

    Args:
        message: By default put together from the parts below.
        layer: Name of the layer or step, such as `"user namespace"`.
        errno: What the kernel said, or `None`.
        cause: Why, as far as it is known.
        fix: What to do about it.

    >>> error = SandboxUnavailable(layer="landlock", cause="not in this kernel", fix="boot with lsm=landlock")
    >>> str(error)
    'landlock is unavailable: not in this kernel; boot with lsm=landlock'
    """

    layer: str = ""
    errno: int | None = None
    cause: str = ""
    fix: str = ""

    def __init__(
        self,
        message: str = "",
        /,
        *,
        layer: str,
        errno: int | None = None,
        cause: str = "",
        fix: str = "",
        **common: Any,
    ) -> None:
        composed = "; ".join(filter(None, (f"{layer} is unavailable{cause and ': '}{cause}", fix)))
        super().__init__(message or composed, **common)
        self.layer = layer
        self.errno = errno
        self.cause = cause
        self.fix = fix


class InternalError(PyFaasError):
    """A bug in pyfaas. The runtime's fault; please report it with this text.

    >>> str(InternalError("reply for a slot that is free"))
    'reply for a slot that is free (this is a bug in pyfaas: please report it with this text)'
    """

    _REQUEST: ClassVar[str] = "(this is a bug in pyfaas: please report it with this text)"

    def __str__(self) -> str:
        return f"{super().__str__()} {self._REQUEST}".strip()


__all__ = [
    "AccessDenied",
    "CrashReason",
    "Fault",
    "FunctionError",
    "FunctionNotFound",
    "FunctionTimeout",
    "InitError",
    "InstanceCrashed",
    "InternalError",
    "InvalidEvent",
    "InvalidPackage",
    "InvalidResult",
    "OutOfMemory",
    "PyFaasError",
    "Retryable",
    "RuntimeClosed",
    "SandboxUnavailable",
    "Throttled",
]
