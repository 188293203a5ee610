"""What a function writes: a pipe that its warden pumps into a ring, read by the host when an invocation has ended."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from pyfaas import _native
from pyfaas._ipc import control

if TYPE_CHECKING:
    from pyfaas._pool.warden import Warden

#: How long the host waits for the warden to empty a pipe.
_SYNC_SECONDS = 0.05


class LogPipe:
    """The output of one process. `attach` it, then `mark()` before an invocation and `take()` after it.

    The warden holds the reading end; the host reads the ring, so that it needs no descriptor for it.
    """

    __slots__ = ("_read_end", "_ring", "_start", "_warden", "token", "write_end")

    def __init__(self) -> None:
        self.token = 0
        self._warden: Warden | None = None
        self._start = 0
        self._ring = _native.LogRing()
        try:
            self._read_end, self.write_end = os.pipe2(os.O_CLOEXEC)
        except BaseException:
            self._ring.close()
            raise
        os.set_blocking(self._read_end, False)

    def attach(self, warden: Warden, token: int) -> None:
        """Have a warden pump it; announces the process that will write."""
        warden.send(control.ADOPT, token, fds=(self._read_end, self._ring.fileno()))
        self._warden, self.token = warden, token
        fd, self._read_end = self._read_end, -1
        os.close(fd)
        self._ring.release_fd()

    def release_write_end(self) -> None:
        """Close the end that was sent to the process."""
        if self.write_end >= 0:
            # Forgotten first: a fork while another thread closes it would close it again in the child.
            fd, self.write_end = self.write_end, -1
            os.close(fd)

    def mark(self) -> None:
        """Start here: what was written before belongs to another invocation."""
        self._start = self._ring.head

    def sync(self) -> None:
        """Wait until the pipe is empty."""
        if self._warden is not None and self._warden.alive:
            self._ring.sync(self._warden.fileno, self.token, _SYNC_SECONDS)

    def take(self) -> str:
        """Return what was written since `mark`; of a flood the end, and how much is missing."""
        data, dropped, self._start = self._ring.read(self._start)
        text: str = data.decode("utf-8", "backslashreplace")
        return f"[{dropped:,} bytes of earlier output were dropped]\n{text}" if dropped else text

    def close(self) -> None:
        """Stop pumping."""
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
        self._ring.close()
