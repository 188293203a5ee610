"""`kill -9` at random moments: of the host, and of whatever is below it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

import pyfaas

from .holdings import MB, Holdings, descendants, is_zombie, reap, subreaper, wait_until

pytestmark = pytest.mark.leaks

HOST = """
import os, threading, time
import pyfaas

def handler(event, context):
    if event == "hang":
        import signal
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
        while True:
            pass
    if event == "daemon" and os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    if event == "crash":
        os.abort()
    return "x" * 100_000

rt = pyfaas.Runtime(max_concurrency=8)
warm = rt.register("warm", code=handler, timeout=0.2)
cold = rt.register("cold", code=handler, timeout=0.2, reuse=1)

def work(fn, event):
    while True:
        fn.call(event)

for fn in (warm, cold):
    for event in ("echo", "hang", "daemon", "crash"):
        threading.Thread(target=work, args=(fn, event), daemon=True).start()
print("at work", flush=True)
number = 0
while True:
    number += 1
    rt.register("new", code=pyfaas.Source(f"def handler(event, context): return {number}")).call({})
"""

ROUNDS = 20
# A template that is killed while it runs the function's init looks as if init had done it.
MAY_HAPPEN = (pyfaas.InstanceCrashed, pyfaas.InitError)
WHOLE = 5  # supervisor, base, warden, template, instance
LIMIT = 1.0  # seconds after the host's death


def survivors(before: set[int]) -> set[int]:
    """Processes below us that were not there before, without those that ended: we wait for these."""
    new = descendants() - before
    reap(new)
    return {pid for pid in new if not is_zombie(pid)}


def describe(pids: set[int]) -> str:
    lines = []
    for pid in pids:
        with contextlib.suppress(OSError):
            command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            state = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()[:7]
            lines.append(f"{command[:100]} {state}")
    return "\n".join(lines)


def die_at(delay: float, folder: pathlib.Path) -> None:
    """Start a host, kill it after `delay` seconds, and look at what it leaves behind."""
    before = descendants()
    host = subprocess.Popen(
        [sys.executable, "-P", "-c", HOST],
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.DEVNULL,
    )
    time.sleep(delay)
    assert host.poll() is None, f"the host ended by itself: {host.returncode}"
    host.kill()
    host.wait()
    gone = wait_until(lambda: not survivors(before), LIMIT)
    left = survivors(before)
    text = describe(left)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert gone, f"alive {LIMIT} s after the host was killed at {delay:.3f} s:\n{text}"
    assert not os.listdir(folder)


def test_killed_host_leaves_nothing(tmp_path: pathlib.Path) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    with subreaper():
        # The first moments, when the tree is being built, are as many as those at full load.
        for number in range(ROUNDS):
            die_at(chance.uniform(0, 0.5) if number % 2 else chance.uniform(0.5, 2.0), tmp_path)


def answers(fn: pyfaas.Function[object]) -> bool:
    """Whether a call gets its answer; it may also fail, but only as what may be tried again."""
    try:
        return fn.invoke(7) == 7
    except MAY_HAPPEN:
        return False


def test_calls_survive_deaths_below() -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    with pyfaas.Runtime(max_concurrency=4) as rt:
        fn = rt.register("f", code=echo, timeout=10)
        fn.invoke(0)
        done = threading.Event()
        wrong: list[str] = []

        def call() -> None:
            number = 0
            while not done.is_set():
                number += 1
                try:
                    value = fn.invoke(number)
                except MAY_HAPPEN:
                    continue
                except pyfaas.PyFaasError as error:
                    wrong.append(repr(error))
                else:
                    if value != number:
                        wrong.append(f"{value!r} instead of {number}")

        callers = [threading.Thread(target=call) for _ in range(3)]
        for caller in callers:
            caller.start()
        for _ in range(40):
            time.sleep(chance.uniform(0.01, 0.2))
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(chance.choice(sorted(descendants())), signal.SIGKILL)
        done.set()
        for caller in callers:
            caller.join(30)
            assert not caller.is_alive(), "a call never ended"
        assert not wrong, wrong[:5]
        assert wait_until(lambda: answers(fn), 5)


def test_deaths_below_leave_nothing() -> None:
    def kill_one_of(rt: pyfaas.Runtime, fn: pyfaas.Function[object], number: int) -> None:
        below = sorted(descendants())
        if below:  # else the last call was answered by an instance that died right afterwards
            with contextlib.suppress(ProcessLookupError):
                os.kill(below[number % len(below)], signal.SIGKILL)
        assert wait_until(lambda: answers(fn), 10), rt

    with pyfaas.Runtime() as rt:
        fn = rt.register("f", code=echo, timeout=10)
        fn.invoke(0)
        for number in range(8):
            kill_one_of(rt, fn, number)
        assert wait_until(lambda: answers(fn) and len(descendants()) == WHOLE, 5)
        before = Holdings.now()
        for number in range(40):
            kill_one_of(rt, fn, number)
        assert wait_until(lambda: answers(fn) and len(descendants()) == WHOLE, 5)
        wait_until(lambda: not Holdings.now().grown_since(before, 5 * MB), 5)
        assert not Holdings.now().grown_since(before, 5 * MB)


def echo(event: object, context: object) -> object:
    return event
