"""What a host app sees when all goes well."""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import os
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

import pyfaas

pytestmark = pytest.mark.integration


def echo(event: Any, context: Any) -> Any:
    return event


def pid(event: Any, context: Any) -> int:
    return os.getpid()


def nap(event: Any, context: Any) -> Any:
    time.sleep(event)
    return event


def describe(event: Any, context: Any) -> dict[str, Any]:
    names = (
        "function_name function_version invoked_function_arn memory_limit_in_mb aws_request_id "
        "log_group_name log_stream_name client_context"
    )
    found = {name: getattr(context, name) for name in names.split()}
    return found | {
        "left": context.get_remaining_time_in_millis(),
        "env": dict(os.environ),
        "cwd": os.getcwd(),
    }


VALUES: list[Any] = [
    None,
    True,
    -1,
    2**80,
    1.5,
    "ü\0😀",
    b"\x00\xff",
    [],
    {},
    {"a": [1, {"b": None}]},
    dt.datetime(2026, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001  # naive on purpose
    dt.datetime(2026, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2))),
    decimal.Decimal("1.10"),
    uuid.UUID(int=7),
]


def test_values_come_back_as_they_went(rt: pyfaas.Runtime) -> None:
    function = rt.register("echo", echo)
    assert [function.invoke(value) for value in VALUES] == VALUES
    assert function.invoke((1, (2,))) == [1, [2]]


def test_an_event_that_cannot_travel_names_the_place(rt: pyfaas.Runtime) -> None:
    function = rt.register("echo", echo)
    with pytest.raises(pyfaas.InvalidEvent, match=r"^\$\.items\[3\]\.when: set is not supported"):
        function.invoke({"items": [1, 2, 3, {"when": {1}}]})
    with pytest.raises(pyfaas.InvalidEvent, match="the limit is 6,291,556"):
        function.invoke(bytes(7_000_000))


@pytest.mark.parametrize("size", [0, 65_000, 65_536, 70_000, 1_000_000, 6_000_000])
def test_payloads_of_all_sizes(rt: pyfaas.Runtime, size: int) -> None:
    function = rt.register("echo", echo)
    data = os.urandom(size)
    for _ in range(3):
        assert function.invoke(data) == data
    assert function.invoke(1) == 1


def test_max_payload_allows_more(rt: pyfaas.Runtime) -> None:
    function = rt.register("echo", echo, max_payload=32 << 20, memory=512)
    data = bytes(20 << 20)
    assert function.invoke(data) == data


def test_an_instance_is_reused_and_its_globals_stay(rt: pyfaas.Runtime) -> None:
    function = rt.register("pid", pid)
    assert len({function.invoke() for _ in range(10)}) == 1
    assert rt.statistics().functions["pid"].cold_starts == 1


def test_reuse_of_one_is_a_process_for_each_invocation(rt: pyfaas.Runtime) -> None:
    function = rt.register("pid", pid, reuse=1)
    assert len({function.invoke() for _ in range(5)}) == 5


def test_the_outcome_has_everything(rt: pyfaas.Runtime) -> None:
    @rt.function(memory=256)
    def chatty(event: Any, context: Any) -> str:
        print("hello from", event)
        os.write(1, b"raw\n")
        return str(context.aws_request_id)

    cold, warm = chatty.call("Ada"), chatty.call("Bob")
    assert cold.ok
    assert cold.value == cold.request_id
    assert cold.report is not None
    assert cold.report.cold
    assert cold.report.init_ms is not None
    assert warm.report is not None
    assert not warm.report.cold
    assert warm.report.init_ms is None
    assert warm.report.memory_mb == 256
    assert 1 <= warm.report.max_memory_mb <= 256
    lines = warm.logs.splitlines()
    assert lines[0] == f"START RequestId: {warm.request_id} Version: $LATEST"
    assert lines[1:3] == ["hello from Bob", "raw"]
    assert lines[3] == f"END RequestId: {warm.request_id}"
    assert lines[4].startswith(f"REPORT RequestId: {warm.request_id}\tDuration: ")
    assert "Init Duration" in cold.logs
    assert "Ada" not in warm.logs


def test_output_of_an_invocation_stays_with_it(rt: pyfaas.Runtime) -> None:
    @rt.function
    def say(event: Any, context: Any) -> None:
        print("line", event)
        if event % 3 == 0:
            raise ValueError(event)

    for i in range(1, 40):
        if i % 3:
            say.invoke(i)
            continue
        with pytest.raises(pyfaas.FunctionError) as info:
            say.invoke(i)
        assert f"line {i}\n" in info.value.logs
        assert f"line {i - 1}" not in info.value.logs


def test_the_context_and_the_environment_are_lambdas(
    rt: pyfaas.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOST_SECRET", "x")
    function = rt.register("describe", describe, timeout=7, memory=512, env={"COLOUR": "red"})
    found = function.invoke()
    assert found["function_name"] == found["env"]["AWS_LAMBDA_FUNCTION_NAME"] == "describe"
    assert found["function_version"] == found["env"]["AWS_LAMBDA_FUNCTION_VERSION"] == "$LATEST"
    assert int(found["memory_limit_in_mb"]) == 512
    assert found["env"]["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "512"
    assert found["invoked_function_arn"].endswith(":function:describe")
    assert found["log_group_name"] == "/aws/lambda/describe"
    assert 6000 < found["left"] <= 7000
    assert found["env"]["COLOUR"] == "red"
    assert found["env"]["TZ"] == ":UTC"
    assert "HOST_SECRET" not in found["env"]
    assert "PATH" not in found["env"] or found["env"]["PATH"] != os.environ["PATH"]


def test_async_handlers(rt: pyfaas.Runtime) -> None:
    @rt.function
    async def twice(event: Any, context: Any) -> Any:
        await asyncio.sleep(0)
        return event * 2

    assert [twice.invoke(i) for i in range(3)] == [0, 2, 4]


def test_code_from_a_file_a_module_and_text(rt: pyfaas.Runtime, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def handler(event, context):\n    return event + 1\n")
    assert rt.register("file", f"{tmp_path}/app.py:handler").invoke(1) == 2
    assert rt.register("library", "operator:eq").invoke(1) is False
    text = "import json\ndef handler(event, context):\n    return json.dumps(event)\n"
    assert rt.register("text", pyfaas.Source(text)).invoke([1]) == "[1]"
    assert rt.invoke("text", {}) == "{}"


def test_invoke_by_name(rt: pyfaas.Runtime) -> None:
    rt.register("resize", echo)
    assert rt.invoke("resize", 5) == 5
    with pytest.raises(pyfaas.FunctionNotFound, match="did you mean 'resize'"):
        rt.invoke("resise", 5)
    with pytest.raises(pyfaas.FunctionNotFound, match="no version or alias 'live'"):
        rt.invoke("resize", 5, qualifier="live")


def test_registering_again_updates_and_running_invocations_finish_on_the_old(rt: pyfaas.Runtime) -> None:
    old = rt.register("greet", nap)
    running = old.submit(0.3)
    while not rt.statistics().functions["greet"].busy:
        threading.Event().wait(0.001)
    new = rt.register("greet", lambda event, context: "new")
    assert new is old
    assert new.invoke(0) == "new"
    assert running.result(5) == 0.3


def test_not_one_call_fails_because_of_an_update(rt: pyfaas.Runtime) -> None:
    function = rt.register("greet", lambda event, context: 0)
    function.invoke()
    going, failed, seen = threading.Event(), [], set()

    def work() -> None:
        while not going.is_set():
            try:
                seen.add(function.invoke())
                seen.update(future.result(20) for future in [function.submit() for _ in range(3)])
            except Exception as error:  # whatever it is, it fails the test below
                failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(1, 15):
        rt.register("greet", eval(f"lambda event, context: {i}"))
        assert function.invoke() == i
    going.set()
    for thread in threads:
        thread.join(20)
    assert failed == []
    assert seen <= set(range(15))
    assert rt.statistics().functions["greet"].invocations > 15


def test_submit_and_map(rt: pyfaas.Runtime) -> None:
    function = rt.register("echo", echo)
    assert [future.result(10) for future in [function.submit(i) for i in range(200)]] == list(range(200))
    assert list(function.map(range(200))) == list(range(200))
    assert sorted(function.map(range(200), ordered=False)) == list(range(200))
    outcomes = list(function.map([1, {1}][:1], outcomes=True))
    assert [outcome.value for outcome in outcomes] == [1]


def test_map_takes_endless_events_and_stops_early(rt: pyfaas.Runtime) -> None:
    import itertools

    stream = rt.register("echo", echo).map(itertools.count(), window=8)
    assert [next(stream) for _ in range(20)] == list(range(20))
    stream.close()  # type: ignore[attr-defined]
    assert rt.statistics().queued == 0


def test_map_raises_the_first_failure_or_yields_outcomes(rt: pyfaas.Runtime) -> None:
    @rt.function
    def odd(event: Any, context: Any) -> Any:
        if event == 3:
            raise ValueError(event)
        return event

    stream = odd.map(range(6))
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(pyfaas.FunctionError, match="ValueError: 3"):
        next(stream)
    outcomes = list(odd.map(range(6), outcomes=True))
    assert [outcome.value for outcome in outcomes] == [0, 1, 2, None, 4, 5]
    assert isinstance(outcomes[3].error, pyfaas.FunctionError)


def test_cancelling_a_future_kills_its_invocation_only(rt: pyfaas.Runtime) -> None:
    function = rt.register("nap", nap, timeout=60)
    hanging, other = function.submit(60), function.submit(0.2)
    while not hanging.running():
        threading.Event().wait(0.001)
    assert hanging.cancel()
    assert hanging.cancelled()
    assert hanging.cancel()
    assert other.result(5) == 0.2
    assert not other.cancel()
    assert function.invoke(0) == 0


def test_waiting_for_an_instance(nothing_leaks: None) -> None:
    with pyfaas.Runtime(max_concurrency=1, max_queue=1) as rt:
        function = rt.register("nap", nap, queue_timeout=0.05)
        running = function.submit(0.5)
        while not rt.statistics().busy:
            threading.Event().wait(0.001)
        with pytest.raises(pyfaas.Throttled, match=r"queue_timeout.*max_concurrency=1") as info:
            function.invoke(0)
        assert info.value.retry_after
        queued, refused = function.submit(0), function.submit(0)
        with pytest.raises(pyfaas.Throttled, match="max_queue=1"):
            refused.result(5)
        assert (running.result(5), queued.result(5)) == (0.5, 0)
        assert rt.statistics().throttles == 2


def test_trusted_functions_may_pickle(rt: pyfaas.Runtime) -> None:
    trusted = rt.register("trusted", echo, trusted=True)
    assert trusted.invoke({1, 2}) == {1, 2}
    assert trusted.call(3).value == 3
    with pytest.raises(pyfaas.InvalidEvent):
        rt.register("plain", echo).invoke({1, 2})


def test_many_threads(rt: pyfaas.Runtime) -> None:
    function = rt.register("echo", echo)
    wrong: list[Any] = []

    def work(base: int) -> None:
        wrong.extend(i for i in range(base, base + 200) if function.invoke(i) != i)

    threads = [threading.Thread(target=work, args=(i * 1000,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert rt.statistics().functions["echo"].invocations == 1600


def test_idle_instances_go_after_their_time(rt: pyfaas.Runtime) -> None:
    function = rt.register("pid", pid, idle_timeout=0.1)
    first = function.invoke()
    deadline = time.monotonic() + 5
    while rt.statistics().functions["pid"].idle and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert rt.statistics().functions["pid"].instances == 0
    assert function.invoke() != first


def test_the_plain_function_can_be_called_in_the_host(rt: pyfaas.Runtime) -> None:
    assert rt.register("pid", pid)(None, None) == os.getpid()


def test_close_waits_for_what_was_accepted(nothing_leaks: None) -> None:
    with pyfaas.Runtime() as rt:
        future = rt.register("nap", nap).submit(0.3)
    assert future.result(0) == 0.3
    with pytest.raises(pyfaas.RuntimeClosed):
        rt.invoke("nap", 0)
    rt.close()


def test_close_without_patience_ends_what_runs(nothing_leaks: None) -> None:
    rt = pyfaas.Runtime(max_concurrency=1)
    function = rt.register("nap", nap, timeout=60)
    running, waiting = function.submit(50), function.submit(0)
    start = time.monotonic()
    rt.close(timeout=0)
    assert time.monotonic() - start < 3
    for future in (running, waiting):
        with pytest.raises(pyfaas.RuntimeClosed):
            future.result(5)


def test_async_with(nothing_leaks: None) -> None:
    async def main() -> Any:
        async with pyfaas.Runtime() as rt:
            return rt.register("echo", echo).invoke(1)

    assert asyncio.run(main()) == 1


def test_a_runtime_that_is_forgotten_ends_its_processes(nothing_leaks: None) -> None:
    assert pyfaas.Runtime().register("echo", echo).invoke(1) == 1


def test_a_forked_child_cannot_use_it_and_the_parent_can(rt: pyfaas.Runtime) -> None:
    function = rt.register("echo", echo)
    function.invoke(1)
    child = os.fork()
    if child == 0:
        try:
            function.invoke(2)
        except pyfaas.RuntimeClosed as error:
            os._exit(42 if "forked" in str(error) else 43)
        os._exit(44)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    assert function.invoke(3) == 3


def test_wrong_parameters_are_named(rt: pyfaas.Runtime) -> None:
    with pytest.raises(pyfaas.InvalidPackage, match="memory=64"):
        rt.register("echo", echo, memory=64)
    with pytest.raises(TypeError, match="did you mean 'memory'"):
        rt.register("echo", echo, memry=64)  # type: ignore[call-overload]
    with pytest.raises(pyfaas.InvalidPackage, match="function name"):
        rt.register("no spaces", echo)
    with pytest.raises(pyfaas.SandboxUnavailable, match="strict"):
        rt.register("echo", echo, isolation="strict")
    assert rt.functions == ()


def test_an_error_of_the_function_costs_no_instance(rt: pyfaas.Runtime) -> None:
    @rt.function
    def fails(event: Any, context: Any) -> Any:
        if event:
            raise ValueError(event)
        return os.getpid()

    with pytest.raises(pyfaas.FunctionError):
        fails.invoke("cold")
    with pytest.raises(pyfaas.FunctionError):
        fails.invoke("warm")
    first = fails.invoke()
    with pytest.raises(pyfaas.FunctionError):
        fails.invoke("again")
    with pytest.raises(pyfaas.FunctionError):
        fails.submit("again").result(10)
    assert fails.invoke() == first
    statistics = rt.statistics().functions["fails"]
    assert (statistics.cold_starts, statistics.errors, statistics.invocations) == (1, 4, 6)
