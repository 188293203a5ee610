"""The context object: Lambda's members, cheap to make."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from typing import Any

import pytest

from pyfaas._ipc.ids import request_text
from pyfaas._worker.context import Context, context_class

SETTINGS: dict[str, Any] = {
    "name": "greet",
    "version": "7",
    "memory": 256,
    "arn": "arn:aws:lambda:eu-west-1:000000000000:function:greet:7",
    "log_group": "/aws/lambda/greet",
    "log_stream": "2026/01/01/[7]abc",
}


def test_members_are_those_of_lambda(capsys: pytest.CaptureFixture[str]) -> None:
    context = context_class(SETTINGS)(bytes(range(16)), time.monotonic_ns() + 2_500_000_000)
    assert isinstance(context, Context)
    assert context.function_name == "greet"
    assert context.function_version == "7"
    assert context.invoked_function_arn.endswith(":greet:7")
    assert context.memory_limit_in_mb == "256"  # text, as in AWS
    assert context.log_group_name == "/aws/lambda/greet"
    assert context.log_stream_name == "2026/01/01/[7]abc"
    assert context.client_context is None
    assert context.identity.cognito_identity_id is None
    assert 2000 < context.get_remaining_time_in_millis() <= 2500
    context.log("hello")
    context.log("there\n")
    assert capsys.readouterr().out == "hello\nthere\n"
    assert "greet" in repr(context)


def test_remaining_time_never_falls_below_zero() -> None:
    assert Context(bytes(16), 1).get_remaining_time_in_millis() == 0


def test_functions_do_not_share_what_is_fixed() -> None:
    one, two = context_class(SETTINGS), context_class(SETTINGS | {"name": "other"})
    assert (one().function_name, two().function_name, Context().function_name) == ("greet", "other", "")


def test_request_id_is_a_uuid_of_version_4() -> None:
    for raw in (bytes(16), b"\xff" * 16, bytes(range(16)), uuid.uuid4().bytes):
        text = request_text(raw)
        assert text == str(uuid.UUID(bytes=raw, version=4))
        assert request_text(uuid.UUID(text).bytes) == text


def test_the_class_comes_without_anything_heavy() -> None:
    code = (
        "import sys, pyfaas; pyfaas.Context; "
        "print([name for name in ('msgspec', 'pydantic', 'asyncio', 'cloudpickle') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == "[]\n"
