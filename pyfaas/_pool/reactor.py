"""The one thread that waits for everything nobody else waits for. It holds the GIL only while it hands events out."""

from __future__ import annotations

import errno
import itertools
import logging
import threading
from typing import TYPE_CHECKING

from pyfaas import _native
from pyfaas.errors import SandboxUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger("pyfaas")


def no_processes(cause: str) -> SandboxUnavailable:
    """Return the error for a thread or process that the machine did not give."""
    fix = "raise the limit of processes and threads of this user (ulimit -u, pids.max), or end some"
    return SandboxUnavailable(layer="processes", errno=errno.EAGAIN, cause=cause, fix=fix)


class Reactor:
    """Hands events to the handlers of descriptors and channels. Handlers run in its thread and must not block."""

    def __init__(self) -> None:
        self._native = _native.Reactor()
        self._tokens = itertools.count(1)
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._soon: list[Callable[[], None]] = []
        self._woken = False
        self._running = True
        self._thread = threading.Thread(target=self._run, name="pyfaas-reactor", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._native.close()
            raise no_processes(str(error)) from error

    def new_token(self) -> int:
        """Return a number that names one thing for the life of this reactor."""
        return next(self._tokens)

    def add(self, fd: int, handler: Callable[[int], None]) -> int:
        """Call `handler(0)` whenever `fd` is readable; return the token for `remove`."""
        token = self.new_token()
        self._handlers[token] = handler
        self._native.add(token, fd)
        return token

    def add_channel(self, token: int, channel: _native.Channel, handler: Callable[[int], None]) -> None:
        """Call `handler(wait)` when a call that was armed is decided."""
        self._handlers[token] = handler
        self._native.add_channel(token, channel)

    def remove(self, token: int) -> None:
        """Forget a descriptor or channel; before it is closed."""
        if self._handlers.pop(token, None) is not None:
            self._native.remove(token)

    def arm(self, token: int) -> None:
        """Watch the call that was posted on this channel."""
        self._native.arm(token)

    def run_soon(self, call: Callable[[], None]) -> None:
        """Make a call in the reactor's thread."""
        self._soon.append(call)
        if not self._woken:  # otherwise a wake-up is still to be answered
            self._woken = True
            self._native.wake()

    @property
    def is_current(self) -> bool:
        """Whether this is the reactor's own thread."""
        return threading.current_thread() is self._thread

    def close(self) -> None:
        """Stop the thread."""
        self._running = False
        self._native.wake()
        if not self.is_current:
            self._thread.join(5)

    def forget(self) -> None:
        """Close the descriptors and do nothing else, in a forked child of the host, which has no such thread."""
        self._native.forget()

    def _run(self) -> None:
        wait, handlers = self._native.wait, self._handlers
        while self._running:
            for token, outcome in wait(-1):
                handler = handlers.get(token)
                if handler is not None:
                    self._guard(handler, outcome)
            self._run_what_is_due()
        self._run_what_is_due()
        self._native.close()

    def _run_what_is_due(self) -> None:
        self._woken = False  # before the first look: what comes from now on wakes again
        while self._soon:
            self._guard(self._soon.pop(0))

    def _guard(self, handler: Callable[..., None], *args: int) -> None:
        try:
            handler(*args)
        except Exception:  # noqa: BLE001  # see below
            # Events of the other instances must go on; this is a bug of ours, and said so.
            _log.exception("a bug in pyfaas: please report it with this text")
