"""The second argument of a handler."""

from __future__ import annotations

import sys
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from pyfaas._ipc.ids import request_text

if TYPE_CHECKING:
    from collections.abc import Mapping


class CognitoIdentity:
    """Who called, as AWS's mobile SDK would say; here nobody."""

    __slots__ = ()

    cognito_identity_id: str | None = None
    cognito_identity_pool_id: str | None = None

    def __repr__(self) -> str:
        return "CognitoIdentity(cognito_identity_id=None, cognito_identity_pool_id=None)"


class Context:
    """What a handler may know about its invocation: AWS Lambda's context object.

    Attributes:
        function_name: The name it was registered with.
        function_version: `"$LATEST"`, or the number that was published.
        invoked_function_arn: Name, version and account in AWS's form.
        memory_limit_in_mb: The limit, as text: that is how AWS gives it.
        log_group_name: `/aws/lambda/<name>`.
        log_stream_name: Names this instance.
        identity: Its two attributes are `None`.
        client_context: `None`.
    """

    # An invocation costs two stores; what is the same for all of them is in a class for each function.
    __slots__ = ("_deadline_ns", "_request_id")

    function_name: str = ""
    function_version: str = "$LATEST"
    invoked_function_arn: str = ""
    memory_limit_in_mb: str = "128"
    log_group_name: str = ""
    log_stream_name: str = ""
    identity: CognitoIdentity = CognitoIdentity()
    client_context: Any = None

    _deadline_ns: int
    _request_id: bytes

    def __init__(self, request_id: bytes = bytes(16), deadline_ns: int = 0) -> None:
        self._request_id = request_id
        self._deadline_ns = deadline_ns

    @property
    def aws_request_id(self) -> str:
        """The invocation's id, as in its log lines."""
        return request_text(self._request_id)

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until the invocation is killed; never below 0."""
        return max(0, (self._deadline_ns - self._monotonic_ns()) // 1_000_000)

    def log(self, message: object) -> None:
        """Write a line to the function's log."""
        text = str(message)
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")

    @staticmethod
    def _monotonic_ns() -> int:
        return monotonic_ns()

    def __repr__(self) -> str:
        return (
            f"{Context.__name__}(aws_request_id={self.aws_request_id!r}, function_name={self.function_name!r}, "
            f"function_version={self.function_version!r}, memory_limit_in_mb={self.memory_limit_in_mb!r})"
        )


def context_class(settings: Mapping[str, Any]) -> type[Context]:
    """Make the class of one function's contexts from the settings that the host wrote."""
    fixed = {
        "__slots__": (),
        "__doc__": Context.__doc__,
        "__module__": Context.__module__,
        "function_name": settings["name"],
        "function_version": settings["version"],
        "invoked_function_arn": settings["arn"],
        "memory_limit_in_mb": str(settings["memory"]),
        "log_group_name": settings["log_group"],
        "log_stream_name": settings["log_stream"],
    }
    return type("Context", (Context,), fixed)
