"""A host that is process 1, as in a container without an init: nobody else reaps what is orphaned."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from .driver import Driver
from .test_children import STAY, WORK

pytestmark = [pytest.mark.integration, pytest.mark.unprivileged]

#: Whoever may not make a PID namespace may do it within a user namespace of his own.
UNSHARE = [
    "unshare",
    *(["--user", "--map-root-user"] if os.geteuid() else []),
    "--pid",
    "--fork",
    "--mount-proc",
]


@pytest.fixture
def unshare() -> list[str]:
    if not shutil.which("unshare"):
        pytest.skip("unshare is not installed: apt-get install util-linux")
    tried = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"this machine: no PID namespaces for this user ({tried.stderr.strip()})")
    return [*UNSHARE, "--kill-child"]


def test_nothing_stays_below_process_one(hosts: Driver, unshare: list[str]) -> None:
    program = """
assert os.getpid() == 1
for _ in range(3):
    work()
    assert children() == [], children()
rt = pyfaas.Runtime()
future = rt.register("nap", nap, timeout=60).submit(50)
wait_busy(rt, 1)
leave()
"""
    hosts.run_quiet(WORK + program, before=unshare)


@STAY
def test_zombies_of_a_tree_that_died_do_not_stay(hosts: Driver, unshare: list[str]) -> None:
    program = """
with pyfaas.Runtime() as rt:
    kill_supervisor(rt.register("nap", nap))
deadline = time.monotonic() + 2
while children():
    assert time.monotonic() < deadline, children()
    time.sleep(0.005)
"""
    hosts.run_quiet(WORK + program, before=unshare)
