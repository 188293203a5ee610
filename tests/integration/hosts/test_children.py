"""Hosts with ideas of their own about child processes."""

from __future__ import annotations

import pytest

from .driver import Driver

pytestmark = [pytest.mark.integration, pytest.mark.unprivileged]

#: Invocations of every kind, a death, a close, and another Runtime after it.
WORK = """
import psutil

def children():
    return [one.name() for one in psutil.Process().children(recursive=True)]

def work():
    with pyfaas.Runtime() as rt:
        function = rt.register("nap", nap)
        assert function.invoke(0) == 0
        assert list(function.map([0, 0.01] * 8)) == [0, 0.01] * 8
        exits = rt.register("exits", lambda event, context: os._exit(3))
        outcome = exits.call()
        assert (outcome.error.reason, outcome.error.exit_code) == ("exit", 3), outcome.error
        late = rt.register("late", nap, timeout=0.2).call(50)
        assert isinstance(late.error, pyfaas.FunctionTimeout), late.error
        rt.register("nap", nap)
        assert function.invoke(0) == 0

def lives(process):
    try:
        return process.is_running() and process.status() != "zombie"
    except psutil.NoSuchProcess:  # between the two
        return False

def kill_supervisor(function):
    assert function.invoke(0) == 0
    supervisor, = [one for one in psutil.Process().children() if one.name() == "pyfaas-super"]
    tree = [supervisor, *supervisor.children(recursive=True)]
    assert len(tree) == 5, tree
    supervisor.kill()
    deadline = time.monotonic() + 5
    while any(lives(one) for one in tree):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    assert function.invoke(0) == 0
"""
TWICE = """
for _ in range(2):
    work()
    assert children() == [], children()
with pyfaas.Runtime() as rt:
    kill_supervisor(rt.register("nap", nap))
assert children() == [], children()
rt = pyfaas.Runtime()
rt.register("nap", nap).invoke(0)
leave()
"""
STAY = pytest.mark.xfail(
    strict=True, reason="orphans of a killed supervisor stay zombies in a host that adopts them"
)
HOSTS = {
    "plain": "",
    "SIGCHLD is ignored": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "every child is reaped by a handler": """
def reap(number, frame):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
signal.signal(signal.SIGCHLD, reap)
""",
    "every child is reaped by a thread": """
def reap():
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.001)
threading.Thread(target=reap, daemon=True).start()
""",
    "all signals are blocked": "signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())",
    "SIGTERM, SIGINT, SIGPIPE and SIGHUP are ignored": """
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
""",
    "the host adopts orphans": """
import ctypes
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
""",
}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=STAY if kind == "the host adopts orphans" else ()) for kind in HOSTS]
)
def test_all_works_and_nothing_stays(hosts: Driver, kind: str) -> None:
    hosts.run_quiet(HOSTS[kind] + WORK + TWICE)


def test_a_host_that_was_started_with_sigchld_ignored(hosts: Driver) -> None:
    shell = ["sh", "-c", 'trap "" CHLD; exec "$@"', "sh"]
    hosts.run_quiet(WORK + TWICE, before=shell)


def test_children_of_the_host_are_left_to_it(hosts: Driver) -> None:
    hosts.run_quiet(
        WORK
        + """
import subprocess
mine = subprocess.Popen(["sleep", "50"])
ended = subprocess.Popen(["sh", "-c", "exit 7"])
work()
assert mine.poll() is None
assert ended.wait(5) == 7
mine.kill()
assert mine.wait(5) == -signal.SIGKILL
leave()
"""
    )
