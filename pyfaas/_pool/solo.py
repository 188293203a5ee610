"""Instances that run init themselves, as in Lambda: for functions whose init leaves behind what a fork cannot copy."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pyfaas._pool.template import Template

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfaas._clock import Clock
    from pyfaas._functions.deployment import Deployment
    from pyfaas._pool.instance import Instance
    from pyfaas._pool.reactor import Reactor
    from pyfaas._pool.warden import Warden
    from pyfaas.errors import PyFaasError

#: How long the end of a process that failed in init may take to be reported.
_END_SECONDS = 1.0


class Solo:
    """Stands in for the template of one instance. `why` is what a trial of init left behind."""

    def __init__(
        self, warden: Warden, why: str, reactor: Reactor, clock: Clock, deployment: Deployment
    ) -> None:
        self.warden = warden
        self._why = why
        self._reactor = reactor
        self._clock = clock
        self._deployment = deployment
        self._process: Template | None = None

    @property
    def init_ns(self) -> int:
        """Wall time of init, once it is over."""
        return self._process.init_ns if self._process else 0

    def fork(self, instance: Instance) -> None:
        """Start the process that runs init and becomes the instance."""
        self._process = Template(self.warden, self._reactor, self._clock, self._deployment, solo=instance)

    def take_init_logs(self) -> str:
        """Return the line that says why there was no snapshot to start from; init's own lines follow it."""
        return f"INIT in this instance: a fork cannot copy what init leaves behind ({self._why})\n"

    def when_decided(self, call: Callable[[], None]) -> None:
        """Make a call once init has succeeded or failed: now, or in the reactor's thread."""
        if self._process is None:
            call()
        else:
            self._process.when_ready(call)

    def init_error(self) -> PyFaasError | None:
        """Say why the process never said hello, once it has ended."""
        if self._process is None or self._reactor.is_current:
            return self._process.error if self._process else None  # the reactor waited with `when_decided`
        settled = threading.Lock()
        settled.acquire()
        self._process.when_ready(settled.release)
        settled.acquire(timeout=_END_SECONDS)
        return self._process.error

    def give_up(self) -> None:
        """End the process, since it does not do its work."""
        if self._process is not None:
            self._process.give_up()
