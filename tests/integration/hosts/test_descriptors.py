"""Hosts with many descriptors, with few, and with some that are open where nobody expects them."""

from __future__ import annotations

import resource

import pytest

from .driver import Driver

pytestmark = [pytest.mark.integration, pytest.mark.unprivileged]

_HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
MANY = """
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(10_000)]
for fd in opened[:%d]:
    os.set_inheritable(fd, True)

with pyfaas.Runtime() as rt:
    function = rt.register("nap", nap, timeout=30)
    assert function.invoke(0) == 0
    assert min(int(fd) for fd in os.listdir("/proc/self/fd") if int(fd) > opened[-1]) > 10_000
    assert list(function.map([0, 0.01] * 20)) == [0, 0.01] * 20
    out = rt.register("speaks", lambda event, context: print("said") or len(os.listdir("/proc/self/fd"))).call()
    assert "said" in out.logs
    assert out.value < 10, out.value  # not one of the host's
    assert isinstance(rt.register("late", nap, timeout=0.2).call(50).error, pyfaas.FunctionTimeout)
    big = bytes(3_000_000)
    assert rt.register("big", lambda event, context: event).invoke(big) == big
    future = function.submit(20)
    wait_busy(rt, 1)
    assert future.cancel()
leave()
"""
LISTENING = """
import select
read_end, write_end = os.pipe()
os.set_inheritable(write_end, True)
with pyfaas.Runtime() as rt:
    rt.register("nap", nap).invoke(0)
    os.close(write_end)
    assert select.select([read_end], [], [], 5)[0], "a process of the tree holds it open"
leave()
"""
FEW = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
before = len(os.listdir("/proc/self/fd"))
with pyfaas.Runtime(max_concurrency=400) as rt:
    function = rt.register("nap", nap, timeout=100, queue_timeout=100)
    function.invoke(0)
    futures = []
    while len(futures) < 400:
        futures += [function.submit(50) for _ in range(%d)]
        deadline = time.monotonic() + 50
        while rt.statistics().total.starting or rt.statistics().busy < len(futures):
            assert time.monotonic() < deadline, rt.statistics()
            for future in futures:
                assert not future.done(), future.exception()
            time.sleep(0.005)
    for wait in range(100):  # what is made ahead, and what its reader lets go of later
        held = len(os.listdir("/proc/self/fd")) - before
        if held <= 2 * 400 + 30:
            break
        time.sleep(0.02)
    print(held)
    for future in futures:
        assert future.cancel()
    assert function.invoke(0) == 0
leave()
"""
USED_UP = """
import resource
rt = pyfaas.Runtime(max_concurrency=100)
function = rt.register("nap", nap, timeout=20)
function.invoke(0)
used = len(os.listdir("/proc/self/fd"))
resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
outcomes = list(function.map([0.5] * 40, outcomes=True, window=40))
bad = [outcome.error for outcome in outcomes if not outcome.ok]
assert bad and len(bad) < 40, len(bad)
for error in bad:
    assert isinstance(error, pyfaas.PyFaasError), error
print(sorted({f"{type(error).__name__}: {error}" for error in bad}))
resource.setrlimit(resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE)[1:] * 2)
assert [outcome.ok for outcome in function.map([0.01] * 40, outcomes=True)] == [True] * 40
rt.close()
leave()
"""


@pytest.mark.skipif(_HARD < 12_000, reason=f"this machine: at most {_HARD:,} descriptors (ulimit -Hn)")
@pytest.mark.parametrize("inheritable", [0, 10_000])
def test_ten_thousand_descriptors(hosts: Driver, inheritable: int) -> None:
    hosts.run_quiet(MANY % inheritable)


def test_what_the_host_left_inheritable_is_not_kept_open(hosts: Driver) -> None:
    hosts.run_quiet(LISTENING)


def test_400_instances_with_a_limit_of_1024(hosts: Driver) -> None:
    ended = hosts.run_quiet(FEW % 50, seconds=60)
    assert int(ended.lines[0]) <= 2 * 400 + 30


def test_400_instances_at_once_with_a_limit_of_1024(hosts: Driver) -> None:
    ended = hosts.run_quiet(FEW % 400, seconds=60)
    assert int(ended.lines[0]) <= 2 * 400 + 30


def test_no_descriptors_left(hosts: Driver) -> None:
    """What it says depends on who was refused one first; it is an error of ours, and the next calls work."""
    ended = hosts.run_quiet(USED_UP)
    assert ended.lines
