"""Who waits for an instance: anything with three ways to be answered; a ticket is held by a thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pyfaas._pool.instance import Instance
    from pyfaas.errors import PyFaasError


class Waiter(Protocol):
    """Who waits for an instance. Called outside the lock, from any thread, once."""

    def run(self, instance: Instance) -> None:
        """Use this warm instance."""

    def start(self) -> None:
        """Start an instance: there is room for one."""

    def refuse(self, error: PyFaasError) -> None:
        """Give up."""


class Ticket:
    """A waiter that is a thread."""

    __slots__ = ("_called", "error", "instance")

    def __init__(self) -> None:
        self.instance: Instance | None = None
        self.error: PyFaasError | None = None
        self._called = threading.Lock()
        self._called.acquire()

    def run(self, instance: Instance) -> None:
        """See `Waiter`."""
        self.instance = instance
        self._called.release()

    def start(self) -> None:
        """See `Waiter`."""
        self._called.release()

    def refuse(self, error: PyFaasError) -> None:
        """See `Waiter`."""
        self.error = error
        self._called.release()

    def wait_called(self, seconds: float) -> bool:
        """Wait; `False` if nobody called in time."""
        return self._called.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))
