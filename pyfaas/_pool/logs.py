"""What a function writes: a pipe that its warden pumps into a ring, read by the host when an invocation has ended."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from pyfaas import _native
from pyfaas._ipc import control

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfaas._pool.warden import Warden

#: How long the host waits for the warden to empty a pipe.
_SYNC_SECONDS = 0.05


class LogPipe:
    """The output of one process. `attach` it, then `take()` after an invocation.

    The warden holds the reading end; the host reads the ring, so that it needs no descriptor for it. The channel
    marks in the ring where each invocation begins.
    """

    __slots__ = ("_read_end", "_start", "_warden", "on_close", "ring", "token", "write_end")

    def __init__(self) -> None:
        self.token = 0
        self.on_close: Callable[[LogPipe], None] | None = None
        self._warden: Warden | None = None
        self._start = 0
        self.ring = _native.LogRing()
        try:
            self._read_end, self.write_end = os.pipe2(os.O_CLOEXEC)
        except BaseException:
            self.ring.close()
            raise
        os.set_blocking(self._read_end, False)

    def attach(self, warden: Warden, token: int) -> None:
        """Have a warden pump it; announces the process that will write."""
        warden.send(control.ADOPT, token, fds=(self._read_end, self.ring.fileno()))
        self._warden, self.token = warden, token
        fd, self._read_end = self._read_end, -1
        os.close(fd)
        self.ring.release_fd()
        if warden.on_log is not None:
            warden.on_log(self)

    def release_write_end(self) -> None:
        """Close the end that was sent to the process."""
        if self.write_end >= 0:
            # Forgotten first: a fork while another thread closes it would close it again in the child.
            fd, self.write_end = self.write_end, -1
            os.close(fd)

    def sync(self) -> None:
        """Wait until the pipe is empty."""
        if self._warden is not None and self._warden.alive:
            self.ring.sync(self._warden.fileno, self.token, _SYNC_SECONDS)

    def take(self) -> str:
        """Return what the invocation has written and nobody has taken; of a flood the end, and how much is missing."""
        data, dropped, self._start = self.ring.read(max(self._start, self.ring.mark))
        text: str = data.decode("utf-8", "backslashreplace")
        return f"[{dropped:,} bytes of earlier output were dropped]\n{text}" if dropped else text

    def everything(self) -> str:
        """Return all that the ring holds, whatever was taken of it already."""
        self.sync()
        text: str = self.ring.read(0)[0].decode("utf-8", "backslashreplace")
        return text

    def close(self) -> None:
        """Stop pumping."""
        if self.on_close is not None:
            self.on_close(self)
        if self._warden is not None and self._warden.alive:
            with contextlib.suppress(OSError):  # the warden is gone, and its descriptors with it
                self._warden.send(control.DROP, self.token)
        self.forget()

    def forget(self) -> None:
        """Close descriptors and do nothing else, in a forked child of the host."""
        self.release_write_end()
        if self._read_end >= 0:
            fd, self._read_end = self._read_end, -1
            os.close(fd)
        self.ring.close()
