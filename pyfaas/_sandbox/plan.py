"""Limits → packed plan: what the host prepares, and native/core/pf_confine.c applies in the child.

Layout, native byte order: the header `"=IHHII"` (magic `FPLN`, version, flags, number of limits, 0), then for
each limit `"=IIQ"` (RLIMIT_* number, 0, value for soft and hard alike). A process can only lower its limits, so
a hard limit of the host that is lower stays as it is.
"""

from __future__ import annotations

import resource
import struct
from dataclasses import dataclass
from typing import Final

MAGIC: Final = 0x4E4C5046
VERSION: Final = 1
CONFINED: Final = 1
"""Flag: all steps. Without it only those that a worker needs in order to work."""

_HEADER = struct.Struct("=IHHII")
_LIMIT = struct.Struct("=IIQ")
_MB = 1 << 20
ISOLATIONS: Final = ("none", "standard", "strict")

#: DATA counts private writable address space, not pages, and libraries reserve more than they touch (measured: a
#: worker reserves 12 MB; numpy 40 MB more, of which it touches 7). This much is on top of the function's memory.
DATA_MARGIN_MB: Final = 64
#: The main thread's stack; threads get the 1 MB that the supervisor set before exec.
STACK_MB: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one process of a function may use.

    Raises:
        ValueError: A value is out of its range; the text names it.

    >>> len(Limits(memory=256).pack())
    144
    >>> Limits(memory=64)
    Traceback (most recent call last):
    ValueError: memory=64 MB is outside 128 to 10240 MB; choose a value in that range
    """

    memory: int = 128
    """MB, 128 to 10,240. Emulated by RLIMIT_DATA where there is no memory cgroup."""
    scratch: int = 512
    """MB, 512 to 10,240: the largest file that can be written (RLIMIT_FSIZE)."""
    open_files: int = 1024
    """16 to 1,048,576."""
    isolation: str = "standard"
    """`"none"`: no limits at all."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        _in_range("memory", self.memory, 128, 10_240, " MB")
        _in_range("scratch", self.scratch, 512, 10_240, " MB")
        _in_range("open_files", self.open_files, 16, 1_048_576, "")
        if self.isolation not in ISOLATIONS:
            raise ValueError(
                f"isolation={self.isolation!r} is not known; choose one of {', '.join(ISOLATIONS)}"
            )

    def rlimits(self) -> dict[int, int]:
        """Return RLIMIT_* number → value, soft and hard."""
        return {
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_NOFILE: self.open_files,
            resource.RLIMIT_FSIZE: self.scratch * _MB,
            resource.RLIMIT_MEMLOCK: 64 << 10,
            resource.RLIMIT_MSGQUEUE: 0,
            resource.RLIMIT_SIGPENDING: 1024,
            resource.RLIMIT_STACK: STACK_MB * _MB,
            resource.RLIMIT_DATA: (self.memory + DATA_MARGIN_MB) * _MB,
        }

    def pack(self) -> bytes:
        """Return the plan for `TEMPLATE` messages."""
        confined = self.isolation != "none"
        limits = self.rlimits() if confined else {}
        header = _HEADER.pack(MAGIC, VERSION, CONFINED if confined else 0, len(limits), 0)
        return header + b"".join(_LIMIT.pack(number, 0, value) for number, value in limits.items())


def _in_range(name: str, value: int, low: int, high: int, unit: str) -> None:
    if not low <= value <= high:
        text = f"{name}={value}{unit} is outside {low} to {high}{unit}; choose a value in that range"
        raise ValueError(text)
