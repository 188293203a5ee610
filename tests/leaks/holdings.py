"""What a process holds, and how to see every process below it, wherever it is reparented to."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil

PR_SET_CHILD_SUBREAPER = 36
MB = 1 << 20


@dataclass(frozen=True)
class Holdings:
    """What this process holds; `memory` in bytes, resident."""

    descriptors: int
    threads: int
    processes: int
    zombies: int
    memory: int

    @classmethod
    def now(cls) -> Holdings:
        """Count them."""
        below = descendants()
        return cls(
            descriptors=len(os.listdir("/proc/self/fd")),
            threads=len(os.listdir("/proc/self/task")),
            processes=len(below),
            zombies=sum(is_zombie(pid) for pid in below),
            memory=int(psutil.Process().memory_info().rss),
        )

    def grown_since(self, before: Holdings, memory: int) -> str:
        """What is more than `before`, with `memory` bytes allowed; empty if nothing is."""
        found = [
            f"{kind}: {getattr(before, kind)} → {getattr(self, kind)}"
            for kind in ("descriptors", "threads", "processes", "zombies")
            if getattr(self, kind) > getattr(before, kind)
        ]
        if self.memory > before.memory + memory:
            found.append(f"memory: {(self.memory - before.memory) / MB:+.1f} MB")
        return ", ".join(found)


def descendants() -> set[int]:
    """Pids of all processes below this one, zombies included."""
    return {child.pid for child in psutil.Process().children(recursive=True)}


def is_zombie(pid: int) -> bool:
    """Whether the process has ended and nobody has waited for it."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until the condition holds, at most so long; whether it does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@contextlib.contextmanager
def subreaper() -> Iterator[None]:
    """Adopt every orphan below this process, so that none can hide by being reparented to pid 1."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def reap(pids: set[int]) -> None:
    """Wait for those of the processes that ended and are our children by now."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
