"""Decode → handler(event, context) → encode result or error, in this process."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import io
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import cloudpickle
import msgspec
import pytest

from pyfaas._ipc import frames
from pyfaas._ipc.values import decode, encode, pack_trusted
from pyfaas._worker import failure, loop
from pyfaas._worker.context import Context
from pyfaas._worker.handler import Handler, build

SETTINGS: dict[str, Any] = {
    "name": "greet",
    "version": "$LATEST",
    "memory": 128,
    "timeout_ns": 3_000_000_000,
    "handler": "app.handler",
    "env": {},
    "trusted": False,
    "log_group": "/aws/lambda/greet",
    "log_stream": "stream",
    "arn": "arn:aws:lambda:us-east-1:000000000000:function:greet",
    "max_payload": 6_291_556,
    "paths": [],
}
ID = bytes(range(16))

Call = Callable[..., tuple[int, Any]]


@pytest.fixture
def call() -> Iterator[Call]:
    handlers: dict[int, Handler] = {}

    def call_function(function: Any, event: object = None, **settings: Any) -> tuple[int, Any]:
        handler = handlers.get(id(function)) or Handler(function, SETTINGS | settings)
        handlers[id(function)] = handler
        kind, payload = handler(0, encode(event), ID, time.monotonic_ns() + 3_000_000_000)
        if kind in {frames.INVALID_RESULT, frames.INVALID_EVENT}:
            return kind, payload.decode()
        return kind, msgspec.msgpack.decode(payload) if kind == frames.ERROR else decode(payload)

    yield call_function
    for handler in handlers.values():
        handler.close()


def failed(call: Call, function: Any, event: object = None) -> dict[str, Any]:
    kind, description = call(function, event)
    assert kind == frames.ERROR
    assert set(description) == {"errorType", "errorMessage", "stackTrace"}
    return dict(description)


def raiser(error: BaseException) -> Callable[[Any, Any], NoReturn]:
    def handler(event: Any, context: Any) -> NoReturn:
        raise error

    return handler


# ---- handlers of all kinds ----------------------------------------------------------------------------------------


async def async_handler(event: Any, context: Any) -> Any:
    await asyncio.sleep(0)
    return {"got": event}


class Callable_:
    def __call__(self, event: Any, context: Any) -> Any:
        return {"got": event}


class AsyncCallable:
    async def __call__(self, event: Any, context: Any) -> Any:
        return {"got": event}

    async def method(self, event: Any, context: Any) -> Any:
        return {"got": event}


def three(prefix: str, event: Any, context: Any) -> Any:
    return {prefix: event}


@pytest.mark.parametrize(
    "function",
    [
        lambda event, context: {"got": event},
        async_handler,
        Callable_(),
        AsyncCallable(),
        AsyncCallable().method,
        functools.partial(three, "got"),
        functools.partial(async_handler),
    ],
)
def test_what_can_be_a_handler(call: Call, function: Any) -> None:
    for _ in range(2):
        assert call(function, {"name": "Ada"}) == (frames.RESULT, {"got": {"name": "Ada"}})


def test_async_invocations_share_one_loop(call: Call) -> None:
    loops = set()

    async def handler(event: Any, context: Any) -> None:
        loops.add(asyncio.get_running_loop())

    for _ in range(3):
        call(handler)
    assert len(loops) == 1


def test_the_loop_is_made_again_if_the_function_closed_it(call: Call) -> None:
    kept: list[Any] = []

    async def handler(event: Any, context: Any) -> int:
        kept.append(asyncio.get_running_loop())
        return len(kept)

    assert call(handler) == (0, 1)
    kept[0].close()
    assert call(handler) == (0, 2)


def test_context_knows_the_invocation(call: Call) -> None:
    seen: list[Context] = []
    call(lambda event, context: seen.append(context))
    assert seen[0].aws_request_id == "00010203-0405-4607-8809-0a0b0c0d0e0f"
    assert 2000 < seen[0].get_remaining_time_in_millis() <= 3000
    assert seen[0].function_name == "greet"


def test_all_values_cross(call: Call) -> None:
    when = dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    value = {"when": when, "big": 2**80, "raw": b"\0", "pair": (1, 2)}
    kind, result = call(lambda event, context: (event, value), value)
    expected = value | {"pair": [1, 2]}
    assert (kind, result) == (0, [expected, expected])
    assert result[0]["when"].utcoffset() == dt.timedelta(hours=2)


# ---- results and events that do not cross -------------------------------------------------------------------------


def test_results_that_cannot_be_encoded(call: Call) -> None:
    assert call(lambda event, context: {"items": [{"when": {1}}]}) == (
        frames.INVALID_RESULT,
        "$.items[0].when: set is not supported; use a list",
    )
    kind, text = call(lambda event, context: "\ud800")
    assert (kind, text) == (frames.INVALID_RESULT, "$: str with a lone surrogate cannot be encoded")


def test_results_that_are_too_large(call: Call) -> None:
    kind, text = call(lambda event, context: "x" * 7_000_000)
    assert kind == frames.INVALID_RESULT
    assert text == "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
    assert call(lambda event, context: "x" * 6_000_000)[0] == frames.RESULT


def test_results_that_the_host_would_take_for_a_bomb(call: Call) -> None:
    kind, text = call(lambda event, context: [[]] * 500_000)
    assert kind == frames.INVALID_RESULT
    assert "too many empty or tiny lists" in text


def test_events_that_cannot_be_decoded() -> None:
    handler = Handler(lambda event, context: event, SETTINGS)
    for kind, payload in ((0, b"\xc1"), (0, b""), (0, b"\xd4\x01\x00"), (1, b"pickle"), (9, b"")):
        assert handler(kind, payload, ID, 1)[0] == frames.INVALID_EVENT


def test_trusted_functions_may_pickle() -> None:
    handler = Handler(lambda event, context: {"set": event["set"]}, SETTINGS | {"trusted": True})
    kind, payload = handler(*pack_trusted({"set": {1, 2}}), ID, 1)
    assert kind == frames.PICKLE
    assert isinstance(payload, bytes)
    kind, payload = Handler(lambda event, context: event, SETTINGS | {"trusted": True})(0, encode([1]), ID, 1)
    assert (kind, decode(payload)) == (frames.RESULT, [1])
    broken = Handler(lambda event, context: (_ for _ in ()), SETTINGS | {"trusted": True})
    assert broken(0, encode(1), ID, 1)[0] == frames.INVALID_RESULT


# ---- errors -------------------------------------------------------------------------------------------------------


def test_an_error_as_lambda_has_it(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    def handler(event: Any, context: Any) -> None:
        raise ValueError("bad name")

    error = failed(call, handler)
    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "bad name")
    assert len(error["stackTrace"]) == 1
    assert error["stackTrace"][0].startswith(f'  File "{__file__}", line ')
    assert error["stackTrace"][0].endswith('in handler\n    raise ValueError("bad name")\n')
    output = capsys.readouterr().out
    assert output.startswith("[ERROR] ValueError: bad name\nTraceback (most recent call last):\n  File ")


def test_wrong_number_of_arguments(call: Call) -> None:
    error = failed(call, lambda event: event)
    assert error["errorType"] == "TypeError"
    assert "takes 1 positional argument but 2 were given" in error["errorMessage"]
    assert error["stackTrace"] == []


def test_frames_of_the_event_loop_are_left_out(call: Call) -> None:
    async def handler(event: Any, context: Any) -> None:
        await asyncio.wait_for(asyncio.sleep(0), 1)
        raise KeyError("x")

    assert len(failed(call, handler)["stackTrace"]) == 1


def test_system_exit_ends_the_process(call: Call) -> None:
    async def exit_later(event: Any, context: Any) -> None:
        sys.exit(4)

    for function in (raiser(SystemExit(3)), exit_later):
        with pytest.raises(SystemExit):
            call(function)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()])
def test_other_base_exceptions_are_errors(call: Call, error: BaseException) -> None:
    assert failed(call, raiser(error))["errorType"] == type(error).__name__


def test_recursion(call: Call) -> None:
    def handler(event: Any, context: Any) -> Any:
        return handler(event, context)

    error = failed(call, handler)
    assert error["errorType"] == "RecursionError"
    assert len(error["stackTrace"]) <= 100
    assert any("frames …" in entry for entry in error["stackTrace"])
    assert call(lambda event, context: 1) == (0, 1)


def test_memory_error(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    assert failed(call, raiser(MemoryError("full")))["errorMessage"] == "full"

    def exhausted(_: object) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(failure, "describe", exhausted)
    assert failed(call, raiser(MemoryError())) == {
        "errorType": "MemoryError",
        "errorMessage": "",
        "stackTrace": [],
    }


def test_real_exhaustion_still_replies() -> None:
    code = """
import resource, msgspec
from pyfaas._worker.handler import Handler
resource.setrlimit(resource.RLIMIT_DATA, (150 << 20, 150 << 20))
def handler(event, context):
    kept = []
    while True:
        kept.append(bytearray(1000))
served = Handler(handler, %r)
for _ in range(2):
    kind, payload = served(0, b"\\xc0", bytes(16), 1)
    print(kind, msgspec.msgpack.decode(payload)["errorType"])
"""
    run = subprocess.run(
        [sys.executable, "-c", code % SETTINGS], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.count("2 MemoryError") == 2


class Hostile(Exception):
    def __init__(self, raised: object) -> None:
        super().__init__()
        self.raised = raised

    def __str__(self) -> str:
        if isinstance(self.raised, BaseException):
            raise self.raised
        return self.raised  # type: ignore[return-value]


@pytest.mark.parametrize(
    "raised", [RuntimeError(), SystemExit(), KeyboardInterrupt(), RecursionError(), 3, None]
)
def test_a_broken_str_does_not_break_the_reply(call: Call, raised: object) -> None:
    error = failed(call, raiser(Hostile(raised)))
    assert error["errorType"] == "Hostile"
    assert error["errorMessage"].startswith("<its __str__ failed with ")


class LyingText(str):
    __slots__ = ()

    def encode(self, *_: object) -> NoReturn:
        raise RuntimeError

    def isascii(self) -> bool:
        raise RuntimeError


def test_odd_texts(call: Call) -> None:
    assert failed(call, raiser(Hostile("\ud800")))["errorMessage"] == "\\ud800"
    assert failed(call, raiser(Hostile(LyingText("abc"))))["errorType"] == "Hostile"
    huge = failed(call, raiser(ValueError("ü" * 10_000_000)))
    assert 262_000 < len(huge["errorMessage"].encode()) <= 262_144


def test_an_error_stays_below_a_megabyte(call: Call) -> None:
    lines = "\n".join(f"def f{n}(): f{n + 1}() # {'ü' * 20_000}" for n in range(300))
    space: dict[str, Any] = {"__loader__": None}
    exec(compile(f"{lines}\ndef f300(): raise ValueError('x' * 10**7)", "x" * 5000, "exec"), space)
    handler = Handler(lambda event, context: space["f0"](), SETTINGS)
    kind, payload = handler(0, encode(None), ID, 1)
    assert kind == frames.ERROR
    assert len(payload) < 1_000_000


def test_causes_notes_and_groups(call: Call) -> None:
    def handler(event: Any, context: Any) -> None:
        try:
            raise KeyError("inner")
        except KeyError as cause:
            error = ExceptionGroup("several", [ValueError("one"), TypeError("two")])
            error.add_note("look here")
            raise error from cause

    text = "".join(failed(call, handler)["stackTrace"])
    assert "Note: look here\n" in text
    assert "Contains: ValueError: one\n" in text
    assert "Caused by: KeyError: 'inner'\n" in text


def test_a_chain_of_causes_that_is_a_circle(call: Call) -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert failed(call, raiser(one))["errorMessage"] == "one"


def test_a_closed_stdout_does_not_break_the_reply(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    assert failed(call, raiser(ValueError("x")))["errorMessage"] == "x"
    monkeypatch.setattr(sys, "stdout", None)
    assert failed(call, raiser(ValueError("x")))["errorMessage"] == "x"


# ---- init and the loop --------------------------------------------------------------------------------------------


def test_build_from_a_pickle() -> None:
    prefix = "hello "
    code = {"kind": "pickle", "pickle": cloudpickle.dumps(lambda event, context: prefix + event)}
    kind, payload = build(SETTINGS, code)(0, encode("Ada"), ID, 1)
    assert (kind, decode(payload)) == (0, "hello Ada")


class FakePeer:
    def __init__(self, *events: object) -> None:
        self.requests = [(0, encode(event), ID, 10**9) for event in events]
        self.replies: list[tuple[int, Any]] = []

    def receive(self) -> tuple[int, bytes, bytes, int] | None:
        return self.requests.pop(0) if self.requests else None

    def reply(self, kind: int, payload: bytes, /) -> None:
        self.replies.append((kind, decode(payload)))


class Counting(io.StringIO):
    flushes = 0

    def flush(self) -> None:
        self.flushes += 1
        super().flush()


def test_serve_replies_until_the_host_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Counting()
    monkeypatch.setattr(sys, "stdout", out)
    peer = FakePeer(1, 2, 3)
    loop.serve(peer, Handler(lambda event, context: event * 2, SETTINGS))
    assert peer.replies == [(0, 2), (0, 4), (0, 6)]
    assert out.flushes == 3  # a stream of the user's: nothing is known about it


SCRIPT = """
import sys
assert "logging" not in sys.modules or {loaded}
from pyfaas._worker import handler, loop
from pyfaas._ipc.values import encode
served = handler.load({settings!r}, {{"kind": "files", "handler": "app.handler", "files": {{"app.py": {source!r}}}}})
class Peer:
    requests = [(0, encode(1), bytes(range(16)), 10**9)]
    def receive(self): return self.requests.pop() if self.requests else None
    def reply(self, kind, payload):
        import os
        os.write(1, b"REPLY\\n")
loop.serve(Peer(), served)
"""


def run_script(source: str, *, loaded: bool = True) -> str:
    script = SCRIPT.format(settings=SETTINGS, source=source, loaded=loaded)
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=60)
    return run.stdout.decode()


def test_output_is_written_before_the_reply() -> None:
    source = (
        "import sys\ndef handler(e, c):\n    print('line')\n"
        "    sys.stdout.write('part')\n    sys.stdout.buffer.write(b'raw')"
    )
    assert run_script(source) == "line\nrawpartREPLY\n"


def test_logging_has_lambdas_format() -> None:
    source = (
        "import logging\nlogging.basicConfig()\nlog = logging.getLogger()\nlog.setLevel('INFO')\nlog.info('init')\n"
        "def handler(e, c):\n    logging.getLogger('x').info('größe %d', e)\n    logging.getLogger('x').debug('no')"
    )
    first, second, reply, _ = run_script(source, loaded=False).split("\n")
    level, date, request_id, text = first.split("\t")
    assert (level, request_id, text) == ("[INFO]", "", "init")
    level, date, request_id, text = second.split("\t")
    assert (level, request_id, text) == ("[INFO]", "00010203-0405-4607-8809-0a0b0c0d0e0f", "größe 1")
    assert dt.datetime.strptime(date, "%Y-%m-%dT%H:%M:%S.%fZ").year >= 2024  # noqa: DTZ007
    assert len(date) == len("2026-01-01T00:00:00.000Z")
    assert reply == "REPLY"
    assert logging.getLogger().level == logging.WARNING
