"""Nothing leaks: after each test, what the process holds is what it held before.

A test whose wider fixture owns something says so: `@pytest.mark.keeps("descriptors", "children")`.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

# numpy starts no threads of its own where a test imports it: they would stay, and count as left behind.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")  # nor pyarrow, which pandas imports

SETTLE_S = 3.0
KINDS = ("descriptors", "threads", "children", "shared memory", "temporary files", "mounts")


def snapshot() -> dict[str, dict[str, str]]:
    """What this process holds, by kind: identity → description."""
    return {
        "descriptors": _descriptors(),
        "threads": _threads(),
        "children": _children(),
        "shared memory": _entries("/dev/shm"),
        "temporary files": _entries("/tmp") | _entries(os.environ.get("TMPDIR", "/tmp")),
        "mounts": _mounts(),
    }


def _descriptors() -> dict[str, str]:
    found = {}
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # the listing's own descriptor is closed by now
                found[name] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _threads() -> dict[str, str]:
    # From the kernel, so that threads of the extension count too.
    found = {}
    names = {str(thread.native_id): thread.name for thread in threading.enumerate()}
    for tid in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            found[tid] = names.get(tid) or Path(f"/proc/self/task/{tid}/comm").read_text().strip()
    return found


def _children() -> dict[str, str]:
    """Children of any of our threads, zombies included."""
    found = {}
    for tid in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            for pid in Path(f"/proc/self/task/{tid}/children").read_text().split():
                found[pid] = Path(f"/proc/{pid}/stat").read_text()[:80]
    return found


def _entries(folder: str) -> dict[str, str]:
    # By name, since others use these folders too. Scripts that may run beside the tests call theirs otherwise.
    try:
        return {f"{folder}/{name}": "" for name in os.listdir(folder) if name.startswith("pyfaas")}
    except OSError:
        return {}


def _mounts() -> dict[str, str]:
    return {line.split()[0]: line for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def leaked(before: dict[str, dict[str, str]], kept: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """What is there now and was not before, without the kinds that may be kept."""
    after = snapshot()
    new = {
        kind: {key: text for key, text in after[kind].items() if before[kind].get(key) != text}
        for kind in KINDS
        if kind not in kept
    }
    return {kind: found for kind, found in new.items() if found}


def wait_settled(before: dict[str, dict[str, str]], kept: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Wait until nothing is new, at most `SETTLE_S`; threads and children take a moment to be gone."""
    found = leaked(before, kept)
    if found:
        gc.collect()
    deadline = time.monotonic() + SETTLE_S
    pause = threading.Event()
    while found and time.monotonic() < deadline:
        pause.wait(0.005)
        found = leaked(before, kept)
    return found


@pytest.fixture(autouse=True)
def nothing_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    marker = request.node.get_closest_marker("keeps")
    kept: tuple[str, ...] = marker.args if marker else ()
    if unknown := set(kept) - set(KINDS):
        pytest.fail(f"keeps: {unknown} is none of {KINDS}")
    before = snapshot()
    yield
    found = wait_settled(before, kept)
    assert not found, f"the test left behind: {found}"
