"""One version of a function, with the processes that it has: its warden and its template."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from pyfaas._pool.instance import Instance
from pyfaas._pool.solo import Solo
from pyfaas._pool.state import Line
from pyfaas._pool.template import Template, TemplateState
from pyfaas._pool.warden import Warden
from pyfaas.errors import InstanceCrashed, PyFaasError, RuntimeClosed, Throttled

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfaas._clock import Clock
    from pyfaas._config import FunctionConfig
    from pyfaas._functions.deployment import Deployment
    from pyfaas._native import Turnstile
    from pyfaas._pool.logs import LogPipe
    from pyfaas._pool.reactor import Reactor
    from pyfaas._pool.stock import Stock
    from pyfaas._pool.tree import Tree

#: How often a call starts the processes anew when those above them die meanwhile.
START_ATTEMPTS = 3
_NS = 1_000_000_000
#: How long to spin at most, after a fork, for the first reply of an instance: about what its start takes too.
_FIRST_SPIN_NS = 2_000_000
#: What an instance comes from: a fork of a template, or a process that runs init itself.
Origin: TypeAlias = Template | Solo


class Version:
    """Code and configuration, frozen, with whatever processes run it now. They are made when they are first needed."""

    def __init__(
        self,
        name: str,
        config: FunctionConfig,
        deployment: Deployment,
        *,
        turnstile: Turnstile,
        reactor: Reactor,
        tree: Tree,
        stock: Stock,
        clock: Clock,
    ) -> None:
        self.name = name
        self.config = config
        self.trusted = config.trusted
        self.max_payload = config.max_payload
        self.timeout_ns = int(config.timeout * _NS)
        self.start_ns = deployment.init_timeout_ns
        self.first_spin_ns = _FIRST_SPIN_NS
        self.streak = 0  # how long to expect that a call is over at once: see pyfaas._submission.submit
        idle_ns = None if config.idle_timeout is None else int(config.idle_timeout * _NS)
        self.line = Line(name, turnstile, reuse=config.reuse, idle_timeout_ns=idle_ns)
        self.instances: set[Instance] = set()
        self.successor: Version | None = None  # what replaced it
        self.on_log: Callable[[str, LogPipe], None] | None = None
        self._deployment = deployment
        self._reactor = reactor
        self._tree = tree
        self._stock = stock
        self._clock = clock
        self._lock = threading.Lock()
        self._warden: Warden | None = None
        self._template: Template | None = None
        self._left_text = ""  # what init leaves behind that a fork cannot copy
        self._closed = False

    def ready_origin(self) -> Origin:
        """Wait for what instances come from.

        Raises:
            InitError: The function's init failed.
            InstanceCrashed: The processes above it died, again and again; reason `runtime`.
        """
        template = self._template
        if template is not None and template.state is TemplateState.READY and not template.left:
            return template  # if it has died, the fork will say so
        for attempt in range(START_ATTEMPTS):
            outcome = self._wait_origin()
            if not isinstance(outcome, PyFaasError):
                return outcome
            lost = isinstance(outcome, InstanceCrashed) and outcome.reason == "runtime"
            if not lost:
                raise outcome
            if attempt == START_ATTEMPTS - 1:
                why = f"; {self._tree.trouble}" if self._tree.trouble else ""
                raise InstanceCrashed(f"{outcome}{why}", reason="runtime")
        raise AssertionError("unreachable")

    def when_ready(self, call: Callable[[Origin | PyFaasError], None]) -> None:
        """Hand over what instances come from, or the error that keeps it from becoming ready."""
        try:
            origin = self._start_origin()
        except PyFaasError as error:
            call(error)
            return
        if isinstance(origin, Solo):
            call(origin)
        else:
            template = origin
            template.when_ready(lambda: call(self._settled(template)))

    def doubt(self, origin: Origin, *, unborn: bool = True) -> None:
        """Look whether the processes that an instance came from live; `unborn`: was to come from, and did not.

        What is dead is given up at once: the next attempt must not wait for the news, nor meet it again.
        """
        if origin.warden.has_ended():
            origin.warden.close()
        elif unborn and isinstance(origin, Template):
            origin.lose()

    def new_instance(self, origin: Origin) -> Instance:
        """Make an instance that has no process yet."""
        instance = Instance(self, origin, self._reactor.new_token(), self._stock.take())
        self.instances.add(instance)
        return instance

    def learn_first(self, took_ns: int) -> None:
        """Note how long a new instance took to its first reply: spinning for the next one's pays if it is short."""
        self.first_spin_ns = min(2 * took_ns, _FIRST_SPIN_NS) if took_ns < _FIRST_SPIN_NS else 0

    def throttled(self, limit: int) -> Throttled:
        """Return the error of a call that waited for its whole `queue_timeout` while `limit` others ran."""
        text = (
            f"'{self.name}': no instance came free within {self.config.max_wait:g} s (queue_timeout); "
            f"{limit} are busy (max_concurrency={limit})"
        )
        return Throttled(text, retry_after=self.config.timeout)

    def close(self) -> None:
        """End all its processes."""
        with self._lock:
            self._closed = True
            warden, template = self._warden, self._template
            self._warden = self._template = None
        if template is not None:
            template.close()
        if warden is not None:
            warden.close()

    def forget(self) -> None:
        """Close descriptors and do nothing else, in a forked child of the host."""
        for slot in self.line.idle:
            self.line.remove(slot)
        for part in (self._warden, self._template, *self.instances):
            if part is not None:
                part.forget()

    def _start_origin(self) -> Origin:
        """Return what instances come from, started if it is not there; it may not be ready yet."""
        with self._lock:
            if self._closed:
                raise RuntimeClosed(f"'{self.name}' was replaced or its Runtime closed")
            try:
                if self._warden is None or not self._warden.alive:
                    self._warden = Warden(self._reactor, self._tree, self._warden_lost)
                    self._warden.on_log = partial(self.on_log, self.name) if self.on_log else None
                if self._left_text:
                    return Solo(self._warden, self._left_text, self._reactor, self._clock, self._deployment)
                if self._template is None or self._template.state is TemplateState.ENDED:
                    self._template = Template(self._warden, self._reactor, self._clock, self._deployment)
                return self._template
            except OSError as error:
                text = f"cannot start the processes of '{self.name}': {error}"
                raise InstanceCrashed(text, reason="runtime") from error

    def _wait_origin(self) -> Origin | PyFaasError:
        origin = self._start_origin()
        if isinstance(origin, Solo):
            return origin
        if origin.state is TemplateState.STARTING:
            ready = threading.Lock()
            ready.acquire()
            origin.when_ready(ready.release)
            # The template's own timer ends this wait; the margin is for the case that even that does not come.
            ready.acquire(timeout=self.start_ns / _NS + 5)
        return self._settled(origin)

    def _settled(self, template: Template) -> Origin | PyFaasError:
        if template.left:
            # It was a trial: from now on each instance runs init itself.
            self._left_text = template.left_text or "something"
            template.close()
            return Solo(template.warden, self._left_text, self._reactor, self._clock, self._deployment)
        if template.state is TemplateState.READY:
            return template
        text = "the template of the function ended before it could be used"
        return template.error or InstanceCrashed(text, reason="runtime")

    def _warden_lost(self, warden: Warden) -> None:
        """The warden's children die with it; make sure, and let the next call start anew."""
        with self._lock:
            template = self._template
            if self._warden is warden:
                self._warden = None
                self._template = None
        for instance in list(self.instances):
            if instance.template.warden is warden:
                instance.channel.kill()
        if template is not None and template.warden is warden:
            template.lose()

    def __repr__(self) -> str:
        return f"<Version {self.name} {self._template!r} {self.line!r}>"
