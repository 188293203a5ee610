"""What a closed Runtime left behind: processes, descriptors, threads. The kernel is asked, not the Runtime."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pyfaas import runtime as facade

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyfaas.runtime import Runtime

#: How long what ends may take to be gone.
SETTLE_SECONDS: Final = 3.0
_PAUSE_SECONDS: Final = 0.005
_MEMORY: Final = "/memfd:pyfaas"


class Tree:
    """What belongs to a Runtime that is about to be closed.

    Attributes:
        processes: Its processes: pid → when it began.
        pidfds: Descriptors of this process that stand for one of them: number → what it is.
        thread: The thread that waits for everything.
    """

    def __init__(self, runtime: Runtime) -> None:
        pool = runtime._pool
        supervisor = _pid_of(pool._tree._pidfd)
        self.processes = {pid: began for pid in _with_children(supervisor) if (began := _began(pid))}
        self.pidfds = {
            fd: f"{link} of process {pid}"
            for fd, link in _descriptors().items()
            if "pidfd" in link and (pid := _pid_of(fd)) in self.processes
        }
        self.thread = pool.reactor._thread


class Before:
    """What this process had open before the Runtime was made."""

    def __init__(self) -> None:
        self._others = len(facade._open_runtimes)
        self._descriptors = _descriptors()

    def wait_nothing_left(self, tree: Tree) -> str:
        """Wait until nothing is left of a closed Runtime; return what still is, as text."""
        deadline = time.monotonic() + SETTLE_SECONDS
        pause = threading.Event()
        while (left := self._left(tree)) and time.monotonic() < deadline:
            pause.wait(_PAUSE_SECONDS)
        return "; ".join(left)

    def _left(self, tree: Tree) -> list[str]:
        left = [f"process {_named(pid)}" for pid, began in tree.processes.items() if _began(pid) == began]
        if tree.thread.is_alive():
            left.append(f"thread {tree.thread.name!r}")
        now = _descriptors()
        left += [
            f"descriptor {fd} ({what})"
            for fd, what in tree.pidfds.items()
            if "pidfd" in now.get(fd, "") and _pid_of(fd) in {0, *tree.processes}
        ]
        if self._others or facade._open_runtimes:
            return left  # what else there is may be theirs
        left += [
            f"descriptor {fd} ({link})"
            for fd, link in now.items()
            if self._descriptors.get(fd) != link and (link.startswith(_MEMORY) or _is_control(fd, link))
        ]
        return left


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own descriptor is closed by now
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _is_control(fd: int, link: str) -> bool:
    """Whether it is a socket of the kind that the trusted processes talk through, which nearly nobody else uses."""
    if not link.startswith("socket:"):
        return False
    try:
        with socket.socket(fileno=os.dup(fd)) as found:
            return (
                found.family == socket.AF_UNIX
                and found.type == socket.SOCK_SEQPACKET
                and not found.getsockname()
            )
    except OSError:
        return False


def _pid_of(pidfd: int) -> int:
    """The process that a pidfd stands for; 0 if it has ended, or the descriptor is something else."""
    with contextlib.suppress(OSError):
        found = re.search(r"^Pid:\s*(\d+)$", Path(f"/proc/self/fdinfo/{pidfd}").read_text(), re.MULTILINE)
        if found:
            return int(found[1])
    return 0


def _with_children(pid: int) -> Iterator[int]:
    if not pid:
        return
    yield pid
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                yield from _with_children(int(child))


def _began(pid: int) -> str:
    """When a process began, in ticks of the kernel; empty if it is gone, or only its parent has yet to notice."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else fields[18]


def _named(pid: int) -> str:
    with contextlib.suppress(OSError):
        return f"{pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})"
    return str(pid)
