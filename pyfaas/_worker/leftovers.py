"""What init left behind that a fork cannot copy, or should not: threads, descriptors, children."""

from __future__ import annotations

import os

from pyfaas._ipc import control

_STANDARD = {0, 1, 2}


def find(own: set[int]) -> tuple[int, str]:
    """Return `LEFT_…` flags and the same as text; `own` are descriptors that belong to us.

    >>> find(descriptors())
    (0, '')
    """
    flags, texts = 0, []
    if threads := sorted(set(os.listdir("/proc/self/task")) - {str(os.getpid())}):
        flags |= control.LEFT_THREADS
        texts.append("threads: " + ", ".join(_thread(tid) for tid in threads))
    if foreign := sorted(descriptors() - own - _STANDARD):
        flags |= control.LEFT_DESCRIPTORS
        texts.append("descriptors: " + ", ".join(f"{fd} → {_target(fd)}" for fd in foreign))
    if _has_children():
        flags |= control.LEFT_CHILDREN
        texts.append("child processes")
    return flags, "; ".join(texts)


def descriptors() -> set[int]:
    """Return the open descriptors, without the one that is open only while they are listed."""
    return {int(name) for name in os.listdir("/proc/self/fd") if _target(int(name))}


def _target(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


def _thread(tid: str) -> str:
    try:
        with open(f"/proc/self/task/{tid}/comm") as file:  # pathlib takes 6 ms to import
            return file.read().strip()
    except OSError:
        return tid


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
