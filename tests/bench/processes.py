"""What the processes of a tree use, as the kernel tells it."""

from __future__ import annotations

import os
import pathlib
import time

import psutil

UNIQUE = ("Private_Clean:", "Private_Dirty:")


def tree() -> list[int]:
    """Pids of all descendants of this process."""
    return [child.pid for child in psutil.Process().children(recursive=True)]


def cpu_ns(pids: list[int]) -> int:
    """CPU time of these processes, user and system, in ns; one that is gone counts as 0.

    Read from the process's CPU clock (clock_getcpuclockid(3): the pid's complement, shifted, kind 2), since
    /proc counts in ticks of 10 ms, more than what is looked for here.
    """
    total = 0
    for pid in pids:
        try:
            total += time.clock_gettime_ns(((~pid) << 3) | 2)
        except OSError:
            continue
    return total


def unique_bytes(pid: int) -> int:
    """Memory that would be freed if this process alone ended (its USS), plus its channel.

    The channel is shared with the host, so it is in no process's unique memory, yet each instance costs one.
    """
    total = 0
    in_memfd = False
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        key, *rest = line.split()
        if not key.endswith(":"):
            in_memfd = "/memfd:" in line
        elif key in UNIQUE or (in_memfd and key == "Shared_Dirty:"):
            total += int(rest[0]) * 1024
    return total


def host_pid(pid: int, among: list[int]) -> int | None:
    """Our number for the process that calls itself `pid` in its own namespace; None when there is none."""
    for candidate in among:
        try:
            status = pathlib.Path(f"/proc/{candidate}/status").read_text()
        except OSError:
            continue
        line = next((text for text in status.splitlines() if text.startswith("NSpid:")), "")
        if line.split()[-1:] == [str(pid)]:
            return candidate
    return None


def resident_bytes() -> int:
    """Resident memory of this process."""
    return int(psutil.Process().memory_info().rss)


def descriptors() -> int:
    """Open descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def threads() -> int:
    """Threads of this process, native ones included."""
    return len(os.listdir("/proc/self/task"))


def parent(pid: int) -> int:
    """The parent's pid; 0 when the process is gone."""
    try:
        return int(psutil.Process(pid).ppid())
    except psutil.NoSuchProcess:
        return 0
