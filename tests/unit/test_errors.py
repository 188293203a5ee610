import copy
import pickle

import pytest

import pyfaas
from pyfaas import errors

# The exception table of the documentation: class, fault, retryable, also a.
TABLE: list[tuple[str, str, bool | str, type[Exception]]] = [
    ("FunctionNotFound", "caller", False, LookupError),
    ("InvalidEvent", "caller", False, ValueError),
    ("AccessDenied", "caller", False, PermissionError),
    ("Throttled", "caller", True, Exception),
    ("RuntimeClosed", "caller", False, RuntimeError),
    ("FunctionError", "function", "policy", Exception),
    ("FunctionTimeout", "function", "policy", TimeoutError),
    ("OutOfMemory", "function", "policy", MemoryError),
    ("InstanceCrashed", "function", "policy", Exception),
    ("InitError", "function", False, Exception),
    ("InvalidResult", "function", False, ValueError),
    ("InvalidPackage", "caller", False, ValueError),
    ("SandboxUnavailable", "runtime", False, Exception),
    ("InternalError", "runtime", False, Exception),
]
NEEDED: dict[str, dict[str, object]] = {
    "InstanceCrashed": {"reason": "signal", "signal": 11},
    "SandboxUnavailable": {"layer": "seccomp"},
}


def make(name: str, message: str = "what happened", **parameters: object) -> errors.PyFaasError:
    cls = getattr(errors, name)
    made = cls(message, **{**NEEDED.get(name, {}), **parameters})
    assert isinstance(made, errors.PyFaasError)
    return made


def attributes(error: errors.PyFaasError) -> dict[str, object]:
    names = ("fault", "retryable", "request_id", "logs", "signal", "reason", "layer", "retry_after", "args")
    return {name: getattr(error, name, None) for name in names} | vars(error)


@pytest.mark.parametrize(("name", "fault", "retryable", "also"), TABLE)
def test_table(name: str, fault: str, retryable: bool | str, also: type[Exception]) -> None:
    error = make(name)
    assert (error.fault, error.retryable, error.request_id) == (fault, retryable, None)
    assert isinstance(error, also)
    assert "what happened" in str(error)


def test_table_is_complete() -> None:
    classes = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    assert classes == {row[0] for row in TABLE} | {"PyFaasError"}
    assert classes <= set(pyfaas.__all__)


@pytest.mark.parametrize("name", [row[0] for row in TABLE])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_survives_pickling(name: str, protocol: int) -> None:
    error = make(name, request_id="7d0c", fault="runtime", retryable=True)
    error.add_note("seen in a test")
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert attributes(again) == attributes(error)
    assert again.__notes__ == ["seen in a test"]
    assert attributes(copy.copy(error)) == attributes(error)


def test_all_attributes_survive_pickling() -> None:
    error = errors.FunctionError(
        error_type="KeyError",
        error_message="'x'",
        stack_trace=("one", "two"),
        logs="START\n",
        request_id="7d0c",
    )
    again = pickle.loads(pickle.dumps(error))
    assert (again.error_type, again.error_message, again.stack_trace) == ("KeyError", "'x'", ("one", "two"))
    assert (again.logs, again.request_id, str(again)) == ("START\n", "7d0c", "KeyError: 'x'")


def test_subclass_with_its_own_constructor_survives_pickling() -> None:
    again = pickle.loads(pickle.dumps(_Special(7)))
    assert (again.number, str(again)) == (7, "number 7")


class _Special(errors.FunctionTimeout):
    def __init__(self, number: int) -> None:
        super().__init__(f"number {number}", logs="x")
        self.number = number


def test_only_the_message_is_positional() -> None:
    with pytest.raises(TypeError, match="positional"):
        errors.PyFaasError("message", "7d0c")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected"):
        errors.Throttled("message", nonsense=1)


def test_instance_overrides_class() -> None:
    error = errors.FunctionTimeout("x", fault="runtime", retryable=True)
    assert (error.fault, error.retryable) == ("runtime", True)
    assert (errors.FunctionTimeout.fault, errors.FunctionTimeout.retryable) == ("function", "policy")


@pytest.mark.parametrize("reason", ["signal", "exit", "seccomp", "protocol"])
def test_crash_is_the_functions_fault(reason: errors.CrashReason) -> None:
    error = errors.InstanceCrashed("x", reason=reason)
    assert (error.reason, error.fault, error.retryable) == (reason, "function", "policy")


def test_crash_by_the_runtime_is_not_the_functions_fault() -> None:
    error = errors.InstanceCrashed("x", reason="runtime", request_id="7d0c")
    assert (error.fault, error.retryable, error.request_id) == ("runtime", True, "7d0c")


def test_sandbox_unavailable_says_what_to_do() -> None:
    error = errors.SandboxUnavailable(
        layer="landlock", errno=95, cause="not in this kernel", fix="boot with it"
    )
    assert str(error) == "landlock is unavailable: not in this kernel; boot with it"
    assert (error.layer, error.errno, error.cause, error.fix) == (
        "landlock",
        95,
        "not in this kernel",
        "boot with it",
    )
