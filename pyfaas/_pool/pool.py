"""Which instance runs an invocation: the pool asks its state machine under a lock and acts outside it."""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import TYPE_CHECKING

from pyfaas._pool.instance import STATUS_WAIT_SECONDS, Instance
from pyfaas._pool.reactor import Reactor
from pyfaas._pool.state import Close, Line, PoolState, QueueFull, Run, Start, Stop
from pyfaas._pool.stock import Stock
from pyfaas._pool.ticket import Ticket
from pyfaas._pool.tree import Tree
from pyfaas._pool.version import START_ATTEMPTS, Origin, Version
from pyfaas.errors import InstanceCrashed, PyFaasError, RuntimeClosed, Throttled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyfaas._clock import Clock, Timer
    from pyfaas._config import FunctionConfig, RuntimeConfig
    from pyfaas._functions.deployment import Deployment
    from pyfaas._pool.logs import LogPipe
    from pyfaas._pool.state import Decision
    from pyfaas._pool.ticket import Waiter
    from pyfaas.model import FunctionStatistics

#: How long a wait for a reply, or an instance's wait for a request, spins at most: two blocking wake-ups. With one,
#: two ends that sleep keep waking each other just too late to find the other spinning (measured: 75 µs, not 5).
SPIN_NS = 100_000
#: How long a grant that was decided may take to arrive.
_GRANT_SECONDS = 5.0


class Pool:
    """All instances of a Runtime."""

    def __init__(self, config: RuntimeConfig, clock: Clock) -> None:
        self.closed: str | None = None
        self.on_log: Callable[[str, LogPipe], None] | None = (
            None  # told of each log of a function, by its name
        )
        self.reactor = Reactor()
        self._tree = Tree(self.reactor)
        self._stock = Stock()
        self._clock = clock
        self._lock = threading.Lock()
        self._state = PoolState(concurrency=config.concurrency, max_queue=config.max_queue)
        self._turnstile = self._state.turnstile
        self._cpus = len(os.sched_getaffinity(0))
        self._versions: dict[Line, Version] = {}
        self._quiet = threading.Condition(self._lock)
        self._sweep_timer: Timer | None = None
        try:
            self._tree.start()
        except BaseException:
            self.reactor.close()
            raise

    def deploy(self, name: str, config: FunctionConfig, deployment: Deployment) -> Version:
        """Make a version. Its processes come with its first invocation."""
        version = Version(
            name,
            config,
            deployment,
            turnstile=self._turnstile,
            reactor=self.reactor,
            tree=self._tree,
            stock=self._stock,
            clock=self._clock,
        )
        version.on_log = self.on_log
        with self._lock:
            self._check_open()
            self._versions[version.line] = version
        return version

    def replace(self, old: Version, new: Version) -> None:
        """Let a version end when what it runs, and what waits for it, is done; who comes too late goes to the new."""
        with self._lock:
            old.successor = new
            decisions = self._state.retire(old.line)
            new.line.counters = old.line.count_served()  # they are the function's, whatever its code
        self.perform(decisions)

    # Getting an instance

    def spin_ns(self) -> int:
        """How long to spin: not at all when more would be runnable than there are CPUs."""
        return SPIN_NS if 2 * self._turnstile.inside <= self._cpus else 0

    def attempt_ns(self) -> int:
        """How long to look for a reply before the reactor waits for it: not at all when many are busy."""
        return SPIN_NS if self._turnstile.inside <= self._cpus else 0

    def lease(self, version: Version) -> Instance:
        """Return an instance: warm, or fresh with its process yet to be forked, after waiting if need be.

        Raises:
            Throttled: None came free within the function's `queue_timeout`, or too many wait.
            RuntimeClosed, InitError, …: as `Version.ready_origin`.
        """
        ticket = Ticket()
        decision = self._ask(version, ticket)
        if isinstance(decision, Run):
            return decision.slot  # type: ignore[return-value]
        if decision is None:
            self._queue(version, ticket)
            if ticket.error is not None:
                raise ticket.error
            if ticket.instance is not None:
                return ticket.instance
        try:
            return self.new_instance(version)
        except BaseException:
            self.refused(version)
            raise

    def new_instance(self, version: Version) -> Instance:
        """Make an instance that has no process yet; errors as of `lease`."""
        for attempt in range(START_ATTEMPTS):
            origin = version.ready_origin()
            try:
                return version.new_instance(origin)
            except OSError as error:
                version.doubt(origin)
                if attempt == START_ATTEMPTS - 1:
                    raise InstanceCrashed(
                        f"no instance could be started: {error}", reason="runtime"
                    ) from error
        raise AssertionError("unreachable")

    def enqueue(self, version: Version, waiter: Waiter) -> None:
        """Have a waiter served now or later; it never raises: the waiter is refused."""
        try:
            decision = self._ask(version, waiter)
        except PyFaasError as error:
            waiter.refuse(error)
            return
        if decision is not None:
            self.perform([decision])

    def withdraw(self, version: Version, waiter: Waiter) -> bool:
        """Take a waiter back; `False` if it has been served."""
        with self._lock:
            return self._state.withdraw(version.line, waiter)

    def out_of_patience(self, version: Version, waiter: Waiter) -> Throttled | None:
        """Take back a waiter whose time is over, and say so; `None` if it has been served."""
        with self._lock:
            if not self._state.withdraw(version.line, waiter):
                return None
            version.line.counters.throttled()
        return version.throttled(self._turnstile.limit)

    # Giving it back

    def give_back(self, instance: Instance, *, error: bool = False, cold: bool = False) -> None:
        """Count an invocation that ended with a reply, and let the instance serve the next.

        `Line.give` is the short way to the same, where nothing else follows.
        """
        expires = instance.line.idle_timeout_ns is not None
        now_ns = self._clock.monotonic_ns() if expires else 0
        with self._lock:
            decisions = self._state.give_back(instance, now_ns, error=error, cold=cold)
            if self.closed is not None:
                self._quiet.notify_all()
        if decisions:
            self.perform(decisions)
        if expires:
            self._sweep_later(instance.line)

    def lost(self, instance: Instance, *, ended: bool = False, cold: bool = False) -> None:
        """Note that an instance is gone; `ended`: and an invocation with it. Calling it again does nothing."""
        with self._lock:
            if ended:
                instance.line.counters.ended(error=True, cold=cold)
            decisions = self._state.lost(instance)
            if self.closed is not None:
                self._quiet.notify_all()
        self._dispose(instance)
        self.perform(decisions)

    def failed(self, version: Version) -> None:
        """Count an invocation that ended before it had an instance."""
        with self._lock:
            version.line.counters.ended(error=True)

    def fork(self, instance: Instance) -> None:
        """Have the process of a fresh instance made; meanwhile the stock is filled up for the next."""
        instance.fork()
        self.reactor.run_soon(self._stock.fill)

    def started(self, instance: Instance, *, later: bool) -> None:
        """Note that a fresh instance has a process, and watch over it: at once, or `later` if it does well."""
        with self._lock:
            self._state.has_started(instance.line)
        instance.fresh = False
        instance.on_lost = self._lost_in_idleness
        if later:
            self.reactor.run_soon(instance.settle)
        else:
            instance.settle()

    def not_started(self, instance: Instance) -> None:
        """Note that a fresh instance never came to life."""
        instance.fresh = False
        with self._lock:
            self._state.has_started(instance.line)

    def refused(self, version: Version) -> None:
        """Note that there is no instance for a waiter that was told to start one."""
        with self._lock:
            decisions = self._state.refused(version.line)
            if self.closed is not None:
                self._quiet.notify_all()
        self.perform(decisions)

    def when_exited(self, instance: Instance, call: Callable[[], None]) -> None:
        """Make a call once it is known how an instance ended, or after a second without that."""
        if instance.exit is not None:
            call()
            return
        if not instance.channel.pid:
            instance.template.when_decided(call)
            return

        def known() -> None:
            timer.cancel()
            call()

        timer = self._clock.call_at(self.now_ns() + int(STATUS_WAIT_SECONDS * 1e9), instance.status_missing)
        instance.when_exited(known)

    # The whole

    def now_ns(self) -> int:
        """The clock's time."""
        return self._clock.monotonic_ns()

    def statistics(self, version: Version) -> FunctionStatistics:
        """Return the numbers of one version, now."""
        line = version.line
        with self._lock:
            # An instance works as soon as it has said hello, which whoever waits for its reply may not know yet.
            said_hello = sum(
                1 for instance in list(version.instances) if instance.fresh and instance.channel.pid
            )
            starting = line.starting - said_hello
            return line.count_served().snapshot(
                starting=starting, idle=len(line.idle), busy=line.busy - starting, queued=len(line.waiting)
            )

    def perform(self, decisions: Iterable[Decision]) -> None:
        """Do what was decided. Never under the lock."""
        for decision in decisions:
            if isinstance(decision, Run):
                decision.waiter.run(decision.slot)
            elif isinstance(decision, Start):
                decision.waiter.start()
            elif isinstance(decision, Stop):
                # Nobody needs to wait for that.
                self.reactor.run_soon(partial(self._dispose, decision.slot))  # type: ignore[arg-type]
            elif isinstance(decision, Close):
                self._close_version(decision.line)

    def close(self, timeout: float | None) -> None:
        """Let what was accepted finish, then end all.

        Args:
            timeout: Seconds that it may take; `None`: as long as its own deadlines allow.
        """
        with self._lock:
            self.closed = self.closed or "the Runtime is closed"
            self._turnstile.attended = True
            deadline = None if timeout is None else self._clock.monotonic_ns() + int(timeout * 1e9)
            while self._state.busy or self._state.waiting:
                if not self._clock.wait(self._quiet, deadline):
                    break
            waiters = self._state.abandon()
            versions = list(self._versions.values())
            if self._sweep_timer is not None:
                self._sweep_timer.cancel()
        for waiter in waiters:
            waiter.refuse(RuntimeClosed(self.closed))
        for version in versions:
            for instance in list(version.instances):
                instance.channel.kill()
            version.close()
        self._tree.close()
        with self._lock:
            while self._state.busy and self._clock.wait(
                self._quiet, self._clock.monotonic_ns() + 1_000_000_000
            ):
                pass
        for version in versions:
            for instance in list(version.instances):
                self._dispose(instance)
        self._versions.clear()
        self._stock.close()
        self.reactor.close()

    def close_soon(self) -> None:
        """End all in the reactor's thread: for a garbage collector, which may run while any lock is held."""
        if self.closed is None:
            self.closed = "the Runtime was not closed, and is gone"
            # By way of the reactor, where no lock is held; but it has to go on while the close waits.
            end = threading.Thread(target=self.close, args=(0,), name="pyfaas-close", daemon=True)
            self.reactor.run_soon(end.start)

    def forget(self, reason: str) -> None:
        """In a forked child of the host: close what was inherited and touch nothing that belongs to the parent."""
        self.closed = reason
        self._lock = threading.Lock()
        for version in list(self._versions.values()):
            version.forget()
        self._stock.forget()
        self._tree.forget()
        self.reactor.forget()

    def _check_open(self) -> None:
        if self.closed is not None:
            raise RuntimeClosed(self.closed)

    def _ask(self, version: Version, waiter: Waiter) -> Run | Start | None:
        with self._lock:
            self._check_open()
            try:
                return self._state.ask(version.line, waiter)
            except QueueFull:
                limit = self._state.max_queue
        text = f"'{version.name}': {limit:,} invocations wait already (max_queue={limit}); try again later"
        raise Throttled(text, retry_after=version.config.timeout)

    def _queue(self, version: Version, ticket: Ticket) -> None:
        try:
            if ticket.wait_called(version.config.max_wait):
                return
        except BaseException:  # an interrupt
            self._unqueue(version, ticket)
            raise
        error = self.out_of_patience(version, ticket)
        if error is not None:
            raise error
        ticket.wait_called(_GRANT_SECONDS)  # served in the very last moment: the call is on its way

    def _unqueue(self, version: Version, ticket: Ticket) -> None:
        """Give back whatever a ticket has been given whose thread does not want it any more."""
        if self.withdraw(version, ticket):
            return
        ticket.wait_called(_GRANT_SECONDS)
        if ticket.instance is not None:
            self.lost(ticket.instance)
        elif ticket.error is None:
            self.refused(version)

    def _lost_in_idleness(self, instance: Instance) -> None:
        """The process of an instance ended. If it was busy, whoever waits for its reply finds out by himself."""
        with self._lock:
            decisions = self._state.lost_in_idleness(instance)
        if decisions is not None:
            self._dispose(instance)
            self.perform(decisions)

    def _dispose(self, instance: Instance) -> None:
        self.reactor.remove(instance.token)
        instance.stop()

    def _close_version(self, line: Line) -> None:
        with self._lock:
            version = self._versions.pop(line, None)
        if version is not None:
            version.close()

    def _sweep_later(self, line: Line) -> None:
        if line.idle_timeout_ns is not None:
            with self._lock:
                if self._sweep_timer is None and self.closed is None:
                    when = self._clock.monotonic_ns() + line.idle_timeout_ns
                    self._sweep_timer = self._clock.call_at(when, self._sweep)

    def _sweep(self) -> None:
        """Stop what has been idle for too long, and come again when the next may be."""
        now = self._clock.monotonic_ns()
        stops: list[Decision] = []
        again: list[int] = []
        with self._lock:
            for line in self._versions:
                decisions, when = self._state.expire(line, now)
                stops += decisions
                if when is not None:
                    again.append(when)
            going_on = again and self.closed is None
            self._sweep_timer = self._clock.call_at(min(again), self._sweep) if going_on else None
        self.perform(stops)


__all__ = ["Instance", "Origin", "Pool", "Version"]
