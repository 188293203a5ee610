"""Hosts with many threads, and with threads that come and go."""

from __future__ import annotations

import pytest

from .driver import EXIT_S, Driver

pytestmark = [pytest.mark.integration, pytest.mark.unprivileged]

MANY = """
import random

def work(number):
    chance = random.Random(number)
    mine = rt.register(f"f{number % 4}", nap)  # four threads each register the same name again and again
    barrier.wait()
    for i in range(6):
        value = chance.choice([0, 0.001, 0.003])
        assert shared.invoke(value) == value
        assert rt.invoke(f"f{number % 4}", value) == value
        assert [future.result(20) for future in [shared.submit(value), mine.submit(i / 1000)]] == [value, i / 1000]
        assert sorted(mine.map([0.002, 0, 0.001], ordered=False)) == [0, 0.001, 0.002]
        if i % 3 == 2:
            mine = rt.register(f"f{number % 4}", nap)
        assert isinstance(shared.call("text").error, pyfaas.FunctionError)
        rt.statistics()

def run(number):
    try:
        work(number)
    except BaseException as error:
        errors.append(error)
        raise

errors = []
barrier = threading.Barrier(32)
rt = pyfaas.Runtime(max_concurrency=8)
shared = rt.register("shared", nap)
threads = [threading.Thread(target=run, args=(number,)) for number in range(32)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not errors
numbers = rt.statistics()
assert (numbers.busy, numbers.queued) == (0, 0), numbers
assert rt.functions == ("f0", "f1", "f2", "f3", "shared")
assert numbers.functions["shared"].invocations == 32 * 6 * 3, numbers
assert numbers.functions["shared"].errors == 32 * 6, numbers
rt.close()
deadline = time.monotonic() + 5
while len(os.listdir("/proc/self/task")) > 1:  # the kernel's end of a thread comes after Python's
    assert time.monotonic() < deadline, threading.enumerate()
    time.sleep(0.002)
leave()
"""
CLOSED_UNDER_LOAD = """
def run():
    barrier.wait()
    try:
        while True:
            shared.invoke(0)
            shared.submit(0).result()
            rt.register("shared", nap)
    except pyfaas.RuntimeClosed as error:
        ends.append(error)

ends = []
barrier = threading.Barrier(33)
rt = pyfaas.Runtime(max_concurrency=4)
shared = rt.register("shared", nap)
threads = [threading.Thread(target=run) for _ in range(32)]
for thread in threads:
    thread.start()
barrier.wait()
time.sleep(0.3)
closers = [threading.Thread(target=rt.close, args=(timeout,)) for timeout in (None, 0, 1)]
for thread in closers:
    thread.start()
for thread in threads + closers:
    thread.join(20)
    assert not thread.is_alive()
assert len(ends) == 32, len(ends)
leave()
"""
#: A process that asked for its parent's death signal would get it when the thread that started it ends.
MAKER_EXITED = """
def make():
    global rt, function
    rt = pyfaas.Runtime()
    function = rt.register("nap", nap, timeout=60)
    if sys.argv[1:] == ["warm"]:
        function.invoke(0)

def in_thread(call):
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    while str(thread.native_id) in os.listdir("/proc/self/task"):  # the kernel's end of it
        time.sleep(0.001)

in_thread(make)
in_thread(lambda: function.invoke(0))
in_thread(lambda: rt.register("other", nap).invoke(0))
futures = []
in_thread(lambda: futures.append(function.submit(0.3)))
assert futures[0].result(20) == 0.3
time.sleep(0.2)
assert function.call(0).report.cold is False
assert rt.statistics().errors == 0
assert rt.statistics().functions["nap"].cold_starts == 1
in_thread(rt.close)
leave()
"""


def test_many_threads_share_one_runtime(hosts: Driver) -> None:
    ended = hosts.run_quiet(MANY, seconds=60)
    assert ended.exit_s < EXIT_S


def test_many_threads_and_a_close(hosts: Driver) -> None:
    ended = hosts.run_quiet(CLOSED_UNDER_LOAD)
    assert ended.exit_s < EXIT_S


@pytest.mark.parametrize("first_call", ["warm", "cold"])
def test_the_thread_that_made_the_runtime_exits(hosts: Driver, first_call: str) -> None:
    hosts.run_quiet(MAKER_EXITED, arguments=[first_call])
