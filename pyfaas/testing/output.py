"""What the functions of a Runtime wrote, kept beyond the end of their processes, within bounds."""

from __future__ import annotations

import itertools
import re
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pyfaas._pool.logs import LogPipe
    from pyfaas.runtime import Runtime

#: Characters that are shown of one process, from its end.
PROCESS_MAX: Final = 16_384
#: Processes that are shown, the latest.
PROCESSES_MAX: Final = 50
# What a function wrote must not move the cursor of whoever reads the report.
_CONTROL: Final = re.compile(r"[^\S \n\t]|[\x00-\x08\x0e-\x1f\x7f-\x9f]")


class Output:
    """Collects what functions write, without being asked by whoever invokes them.

    A process that lives has its log in a ring in memory: it is read when the text is asked for. One that ended had its
    ring read when it was closed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._open: dict[LogPipe, tuple[int, str]] = {}
        self._texts: dict[int, tuple[str, str]] = {}  # by the order in which the processes began
        self._left_out = 0

    def listen(self, runtime: Runtime) -> None:
        """Begin; before anything is registered."""
        runtime._pool.on_log = self._opened

    def _opened(self, name: str, pipe: LogPipe) -> None:
        with self._lock:
            self._open[pipe] = next(self._numbers), name
        pipe.on_close = self._closed

    def _closed(self, pipe: LogPipe) -> None:
        self._read(pipe)
        with self._lock:
            self._open.pop(pipe, None)
            while len(self._texts) > PROCESSES_MAX:
                del self._texts[min(self._texts)]
                self._left_out += 1

    def _read(self, pipe: LogPipe) -> None:
        try:
            text = pipe.everything()
        except (OSError, ValueError):  # closed by another thread meanwhile, which has read it
            return
        with self._lock:
            if text and (found := self._open.get(pipe)):
                self._texts[found[0]] = found[1], text[-PROCESS_MAX:]

    def catch_up(self) -> None:
        """Read what the processes that live have written so far."""
        with self._lock:
            pipes = list(self._open)
        for pipe in pipes:
            self._read(pipe)

    def text(self) -> str:
        """Return all that there is, by process; empty if nothing was written."""
        self.catch_up()
        with self._lock:
            texts = [text for _, text in sorted(self._texts.items())]
            left_out = self._left_out
        totals: dict[str, int] = {}
        for name, _ in texts:
            totals[name] = totals.get(name, 0) + 1
        numbers = dict.fromkeys(totals, 0)
        parts = [f"[{left_out:,} processes that ended earlier are left out]\n"] if left_out else []
        for name, text in texts:
            numbers[name] += 1
            which = f", process {numbers[name]} of {totals[name]}" if totals[name] > 1 else ""
            shown = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
            parts.append(f"[{name}{which}]\n{shown}" + ("" if shown.endswith("\n") else "\n"))
        return "".join(parts)
