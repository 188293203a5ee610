"""However an interpreter ends: at once, without a word, and nothing stays behind."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from .driver import EXIT_S, Driver

pytestmark = [pytest.mark.integration, pytest.mark.unprivileged]

#: A Runtime that is never closed, with one warm instance.
OPEN = """
rt = pyfaas.Runtime()
function = rt.register("nap", nap, timeout=60)
function.invoke(0)
"""
WAYS = {
    "end of the program": "leave()",
    "sys.exit": "leave(); sys.exit()",
    "os._exit": "leave(); os._exit(0)",
    "sys.exit in a thread": "threading.Thread(target=sys.exit).start(); leave()",
    "a Runtime without functions": "rt = pyfaas.Runtime(); leave()",
    "a Runtime that was dropped": "del rt, function; leave()",
    "within with": "with pyfaas.Runtime() as other: other.register('nap', nap).invoke(0); leave(); sys.exit()",
    "calls in daemon threads": """
for _ in range(3):
    threading.Thread(target=function.invoke, args=(50,), daemon=True).start()
wait_busy(rt, 3)
leave()
""",
    "threads that go on and on": """
def forever(call):
    while True:
        call()

def register():
    rt.register("other", nap).invoke(0)

def submit():
    function.submit(0).result()

for call in (lambda: function.invoke(0), submit, lambda: list(function.map([0] * 9)), register):
    threading.Thread(target=forever, args=(call,), daemon=True).start()
while rt.statistics().functions["nap"].invocations < 100 or "other" not in rt.functions:
    time.sleep(0.002)
leave()
""",
    "calls in ordinary threads": """
# Python waits for these before it ends anything: what they wait for goes on, and ends.
for _ in range(3):
    threading.Thread(target=function.invoke, args=(0.5,)).start()
wait_busy(rt, 3)
leave()
""",
    "futures that nobody waits for": "futures = [function.submit(50) for _ in range(4)]; wait_busy(rt, 4); leave()",
    "futures that wait for their turn": """
small = pyfaas.Runtime(max_concurrency=1)
futures = [small.register("nap", nap, timeout=60).submit(50) for _ in range(100)]
leave()
""",
    "futures of instances that do not exist yet": """
futures = [rt.register(f"nap{i}", nap).submit(50) for i in range(3)]
leave()
""",
    "in the middle of map": """
naps = function.map([0.3, 50, 50, 50])
assert next(naps) == 0.3  # meanwhile the others have begun
wait_busy(rt, 3)
leave()
""",
    "in a map that is being read": """
def read():
    for _ in function.map([50] * 5):
        pass
threading.Thread(target=read, daemon=True).start()
wait_busy(rt, 5)
leave()
""",
    "with idle timeouts under way": """
rt.register("brief", nap, idle_timeout=100).invoke(0)
leave()
""",
    "in init": """
text = "import time; time.sleep(9)\\ndef handler(event, context): pass"
future = rt.register("slow", pyfaas.Source(text)).submit()
leave()
""",
}


@pytest.mark.parametrize("way", WAYS)
def test_an_exit_is_quick_quiet_and_clean(hosts: Driver, way: str) -> None:
    ended = hosts.run_quiet(OPEN + WAYS[way])
    assert ended.exit_s < EXIT_S
    assert ended.lines == []


def test_functions_can_still_be_called_at_exit_until_pyfaas_closes(hosts: Driver) -> None:
    program = """
import atexit
atexit.register(lambda: print("other", pyfaas.Runtime().register("nap", nap).invoke(0)))
import pyfaas.runtime
"""
    ended = hosts.run_quiet(
        program + OPEN + "atexit.register(lambda: print('open', function.invoke(0))); leave()"
    )
    assert ended.lines == ["open 0", "other 0"]
    assert ended.exit_s < EXIT_S


TYPED = """
import pyfaas
function = pyfaas.Runtime().register("double", lambda event, context: event * 2)
print(function.invoke(21))
"""


def test_python_c(hosts: Driver) -> None:
    ended = hosts.start_command([sys.executable, "-c", TYPED]).wait()
    hosts.assert_nothing_left()
    assert (ended.status, ended.out, ended.err) == (0, "42\n", "")


def test_a_program_from_standard_input(hosts: Driver) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, TYPED.encode())
    os.close(write_end)
    running = hosts.start_command([sys.executable, "-"], stdin=read_end)
    os.close(read_end)
    ended = running.wait()
    hosts.assert_nothing_left()
    assert (ended.status, ended.out, ended.err) == (0, "42\n", "")


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL, signal.SIGABRT]
)
def test_a_signal_that_ends_the_host_ends_everything(hosts: Driver, number: signal.Signals) -> None:
    running = hosts.start(
        OPEN + "future = function.submit(50); wait_busy(rt, 1); print('busy', flush=True); time.sleep(50)"
    )
    running.wait_line("busy")
    running.kill(number)
    ended = running.wait(EXIT_S)
    hosts.assert_nothing_left()
    assert (ended.status, ended.err) == (-number, "")


def test_an_exception_that_nobody_handles_is_all_that_is_said(hosts: Driver) -> None:
    ended = hosts.run(OPEN + "future = function.submit(50); leave(); 1 / 0")
    assert ended.status == 1
    assert ended.err.count("Traceback") == 1
    assert ended.err.endswith("ZeroDivisionError: division by zero\n")
    assert ended.exit_s < EXIT_S
