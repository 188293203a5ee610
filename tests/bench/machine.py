"""The machine that the figures are from, and whether it was idle enough for them to mean something."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import asdict, dataclass


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def _cpu_ticks() -> tuple[int, int]:
    """(ticks in which some CPU of the machine worked or was stolen, all ticks)."""
    with open("/proc/stat") as lines:
        ticks = [int(text) for text in lines.readline().split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def foreign_load(seconds: float = 1.0) -> float:
    """CPUs that others use while we sleep for `seconds`: 0.0 on an idle machine."""
    busy, total = _cpu_ticks()
    time.sleep(seconds)
    busy_then, total_then = _cpu_ticks()
    return (busy_then - busy) / max(1, total_then - total) * (os.cpu_count() or 1)


class Watch:
    """Watches from its making what others use of this machine while we work ourselves."""

    def __init__(self) -> None:
        self._begin = (time.monotonic(), _cpu_ticks()[0], _own_seconds())

    def foreign_load(self) -> float:
        """CPUs that others used on average since then; ours and those of our ended children are taken off."""
        begin, ticks, own = self._begin
        busy = (_cpu_ticks()[0] - ticks) / os.sysconf("SC_CLK_TCK")
        return max(0.0, busy - (_own_seconds() - own)) / (time.monotonic() - begin)


def _own_seconds() -> float:
    return sum(os.times()[:4])  # user and system, ours and of children that we waited for


@dataclass(frozen=True)
class Machine:
    """One line that belongs to every table of figures."""

    cpu: str
    cpus: int
    kernel: str
    python: str
    foreign_load: float
    foreign_load_meanwhile: float = 0.0

    @classmethod
    def here(cls) -> Machine:
        """Describe this machine now; takes a second, in which the caller must do nothing else."""
        return cls(
            cpu=_cpu_model(),
            cpus=len(os.sched_getaffinity(0)),
            kernel=platform.release(),
            python=f"{platform.python_implementation()} {platform.python_version()}",
            foreign_load=round(foreign_load(), 2),
        )

    @property
    def quiet(self) -> bool:
        """Whether others used less than a tenth of one CPU before the run, and less than a fifth during it."""
        return self.foreign_load < 0.1 and self.foreign_load_meanwhile < 0.2

    def __str__(self) -> str:
        what = f"{self.cpu}, {self.cpus} CPUs · Linux {self.kernel} · {self.python}"
        return f"{what} · others used {self.foreign_load:.2f} CPU before, {self.foreign_load_meanwhile:.2f} meanwhile"

    def as_json(self) -> dict[str, object]:
        """Plain data for the report file."""
        return asdict(self)
