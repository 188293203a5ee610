"""Hostile peers against a real host: one attack after another, a canary all the while, and what is left afterwards.

    python -m tests.leaks.hostile [--peers 10000] [--seed 7]

Exit status 0 if nothing was found. It starts itself again with `ENVIRONMENT`: allocators that keep what is free would
look like leaks, since some attacks make the host hold tens of megabytes for a moment.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import datetime
import decimal
import gc
import itertools
import logging
import os
import random
import re
import resource
import signal
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyfaas

from .holdings import MB, Holdings, subreaper, wait_until

HERE = Path(__file__).parent
ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "PYTHONMALLOC": "malloc"}
#: What may be resident in addition afterwards.
MEMORY = 5 * MB
#: Of the hostile functions, in seconds: many attacks end only by it.
TIMEOUT = 0.25
#: Longest a call may take to be resolved: its time, a start of an instance, and the load that all this is.
DEADLINE = 20.0
#: How many of the peers attack by their init, and after how many in a row the host is looked at.
INIT_SHARE, ROUND = 0.04, 1000
#: What a value may be made of, and how deep it may be.
DEPTH = 256
PLAIN = (type(None), bool, int, float, str, bytes, datetime.datetime, decimal.Decimal, uuid.UUID)
#: What the host may tell the caller of a hostile function. Anything else is a finding.
EXPECTED = (
    pyfaas.FunctionError,
    pyfaas.FunctionTimeout,
    pyfaas.InitError,
    pyfaas.InstanceCrashed,
    pyfaas.InvalidEvent,
    pyfaas.InvalidResult,
    pyfaas.OutOfMemory,
    pyfaas.SandboxUnavailable,  # a template may say that its confinement failed: it fools itself
)


def echo(event: Any, context: Any) -> Any:
    return event


@dataclass
class Findings:
    """What must not happen, and the numbers of what did."""

    texts: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    calls: int = 0
    canary_calls: int = 0
    canary_slowest: float = 0.0

    def note(self, text: str) -> None:
        if len(self.texts) < 50:
            self.texts.append(text)


@dataclass(frozen=True)
class Host:
    """What hostile peers may not change about their host, beside what it holds."""

    mapped: Counter[str]  # channels, arenas and log rings, by name
    files: frozenset[str]
    settings: tuple[object, ...]

    @classmethod
    def now(cls) -> Host:
        names = [*os.listdir("/dev/shm"), *os.listdir("/tmp")]
        umask = os.umask(0o77)
        os.umask(umask)
        limits = [resource.getrlimit(kind) for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)]
        signals = [signal.getsignal(number) for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGIO)]
        return cls(
            Counter(re.findall(r"memfd:(pyfaas-\w+)", Path("/proc/self/maps").read_text())),
            frozenset(name for name in names if name.startswith("pyfaas")),
            (os.getcwd(), umask, os.getpriority(os.PRIO_PROCESS, 0), *limits, *signals),
        )

    def changed_since(self, before: Host) -> str:
        """What is more, or other; empty if nothing is."""
        found = [f"{count} of {name} mapped" for name, count in (self.mapped - before.mapped).items()]
        found += sorted(self.files - before.files)
        return ", ".join(found if self.settings == before.settings else [*found, str(self.settings)])


class Canary:
    """Calls an honest function of the same Runtime all the time: each result is right, and in time."""

    def __init__(self, rt: pyfaas.Runtime, findings: Findings) -> None:
        self._function = rt.register("canary", code=echo, timeout=DEADLINE)
        self._findings = findings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sing, name="canary")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sing(self) -> None:
        for number in itertools.count():
            if self._stop.wait(0.005):
                return
            event = {"number": number, "bytes": os.urandom(100_000 if number % 50 == 0 else 100)}
            start = time.monotonic()
            try:
                got = self._function.invoke(event)
            except BaseException as error:
                got = error
            if got != event:
                self._findings.note(f"the canary got {got!r:.300}")
            self._findings.canary_slowest = max(self._findings.canary_slowest, time.monotonic() - start)
            self._findings.canary_calls += 1


@dataclass(frozen=True)
class Peer:
    """One that attacks: by which of the attacks, or else by init; all else follows from its number."""

    number: int
    name: str
    by_init: bool


class Arena:
    """A Runtime, hostile functions in it, and as many attackers at a time as there are lanes.

    Everything follows from the seed, except who comes first.
    """

    def __init__(self, rt: pyfaas.Runtime, seed: int, lanes: int = 12) -> None:
        self.findings = Findings()
        self._rt = rt
        self._seed = seed
        self._lanes = lanes
        self._lock = threading.Lock()
        with _importable(HERE):
            import attacker  # type: ignore[import-not-found]  # beside this file
            import attacker.template  # type: ignore[import-not-found]

            self._attacks = sorted(attacker.ATTACKS)
            self._ways = sorted(attacker.template.WAYS)

    def everybody(self) -> list[Peer]:
        """Each attack some times, so that whatever warms up has warmed up."""
        attacks = [Peer(-number, name, by_init=False) for number, name in enumerate(self._attacks * 4)]
        return attacks + [Peer(-number, name, by_init=True) for number, name in enumerate(self._ways)]

    def some(self, first: int, count: int) -> list[Peer]:
        """So many, as chance will have it."""
        peers = []
        for number in range(first, first + count):
            chance = random.Random(f"{self._seed}:{number}")
            by_init = chance.random() < INIT_SHARE
            peers.append(Peer(number, chance.choice(self._ways if by_init else self._attacks), by_init))
        return peers

    def peace(self) -> None:
        """Put honest code where the hostile was: everything of that ends."""
        names = ["once", "twice", *(f"init-{lane}" for lane in range(self._lanes))]
        for number, name in enumerate(names):
            fn = self._rt.register(name, code=echo, timeout=DEADLINE)
            if fn.invoke(number) != number:
                self.findings.note(f"'{name}' does not work any more")

    def fight(self, peers: list[Peer]) -> None:
        """Let them attack."""
        common: dict[str, Any] = {"timeout": TIMEOUT, "max_payload": 1 << 20, "queue_timeout": DEADLINE}
        with _importable(HERE):
            functions = [
                self._rt.register(name, code="attacker:handler", reuse=reuse, **common)
                for name, reuse in (("once", 1), ("twice", 2))
            ]
        waiting = peers[::-1]

        def work(lane: int) -> None:
            with contextlib.suppress(IndexError):
                while True:
                    peer = waiting.pop()
                    chance = random.Random(f"{self._seed}:{peer}")
                    if peer.by_init:
                        self._take_over(f"init-{lane}", peer, chance)
                    else:
                        event = {"attack": peer.name, "seed": peer.number}
                        self._resolve(chance.choice(functions), event, chance, peer)

        threads = [threading.Thread(target=self._guarded, args=(work, lane)) for lane in range(self._lanes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _guarded(self, work: Callable[[int], None], lane: int) -> None:
        try:
            work(lane)
        except BaseException as error:
            self.findings.note(f"the driver itself failed: {error!r}")

    def _take_over(self, name: str, peer: Peer, chance: random.Random) -> None:
        env = {"WAY": peer.name, "SEED": str(peer.number)}
        with self._lock, _importable(HERE):
            fn = self._rt.register(
                name, code="attacker.template:handler", timeout=TIMEOUT, queue_timeout=DEADLINE, env=env
            )
        for _ in range(2):
            self._resolve(fn, peer.number, chance, peer)

    def _resolve(self, fn: pyfaas.Function[Any], event: Any, chance: random.Random, peer: Peer) -> None:
        """Call in one of the ways there are; it ends once, in time, as something that the caller can use."""
        how = chance.choice((_invoke, _call, _submit, _cancel))
        start = time.monotonic()
        try:
            ended = _kind(how(fn, event, chance))
        except EXPECTED as error:
            ended = type(error).__name__
        except CancelledError:
            ended = "cancelled" if how is _cancel else "FINDING: cancelled by nobody"
        except BaseException as error:
            ended = f"FINDING: {error!r:.500}"
        took = time.monotonic() - start
        with self._lock:
            self.findings.calls += 1
            self.findings.slowest = max(self.findings.slowest, took)
            self.findings.outcomes[ended.partition(":")[0]] += 1
            if "FINDING" in ended or took > DEADLINE:
                self.findings.note(f"{peer} by {how.__name__}: {ended} after {took:.2f} s")


def _invoke(fn: pyfaas.Function[Any], event: Any, _chance: random.Random) -> Any:
    return fn.invoke(event)


def _call(fn: pyfaas.Function[Any], event: Any, _chance: random.Random) -> Any:
    outcome = fn.call(event)
    assert isinstance(outcome.logs, str)
    assert outcome.report is None or outcome.report.duration_ms >= 0
    repr(outcome.error)
    if outcome.error is not None:
        raise outcome.error
    return outcome.value


def _submit(fn: pyfaas.Function[Any], event: Any, _chance: random.Random) -> Any:
    future: Future[Any] = fn.submit(event)
    done: list[object] = []
    future.add_done_callback(done.append)
    try:
        return future.result(DEADLINE)
    finally:
        assert wait_until(lambda: len(done) == 1, 5), f"resolved {len(done)} times"


def _cancel(fn: pyfaas.Function[Any], event: Any, chance: random.Random) -> Any:
    future = fn.submit(event)
    with contextlib.suppress(TimeoutError, pyfaas.PyFaasError):
        future.result(chance.random() * TIMEOUT)
    future.cancel()
    return future.result(DEADLINE)


def _kind(value: Any) -> str:
    """'value' for plain data, to the last item; nothing else may come out of a hostile process."""
    left = [(value, 0)]
    while left:
        item, depth = left.pop()
        if depth > DEPTH:
            return "FINDING: deeper than a value may be"
        if type(item) is list:
            left += [(part, depth + 1) for part in item]
        elif type(item) is dict:
            left += [(part, depth + 1) for part in item.values()]
            if any(type(key) is not str for key in item):
                return "FINDING: a key that is no text"
        elif type(item) not in PLAIN:
            return f"FINDING: a {type(item)} as a value"
    return "value"


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


class _Complaints(logging.Handler):
    """What pyfaas logs of itself is a bug that it has found."""

    def __init__(self, findings: Findings) -> None:
        super().__init__(logging.WARNING)
        self._findings = findings

    def emit(self, record: logging.LogRecord) -> None:
        self._findings.note(f"logged: {self.format(record)[-2000:]}")


def attack_for(rt: pyfaas.Runtime, peers: int, seed: int, progress: Callable[[str], object]) -> Findings:
    """Have `peers` attack, after all attacks of the catalogue as a warm-up; afterwards nothing has grown."""
    arena = Arena(rt, seed)
    complaints = _Complaints(arena.findings)
    logging.getLogger("pyfaas").addHandler(complaints)
    host = Host.now()
    try:
        with Canary(rt, arena.findings):
            arena.fight(arena.everybody())
            arena.peace()
            before, host = _holdings(), replace(host, mapped=Host.now().mapped)
            for first in range(0, peers, ROUND):
                begin = time.monotonic()
                count = min(ROUND, peers - first)
                arena.fight(arena.some(first, count))
                speed = count / (time.monotonic() - begin)
                progress(f"{first + count} peers, {speed:.0f}/s, {arena.findings.calls} calls, {_holdings()}")
            arena.peace()
            wait_until(lambda: not _changed(before, host), 10)
    finally:
        logging.getLogger("pyfaas").removeHandler(complaints)
    if changed := _changed(before, host):
        arena.findings.note(f"the host holds more than before: {changed}")
    progress(f"before {before}\nafter  {_holdings()}")
    return arena.findings


def _holdings() -> Holdings:
    """What is held, without what only the allocators keep for later."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return Holdings.now()


def _changed(before: Holdings, host: Host) -> str:
    return ", ".join(filter(None, (_holdings().grown_since(before, MEMORY), Host.now().changed_since(host))))


def main(arguments: list[str], progress: Callable[[str], object] = print) -> int:
    """Let them attack, and say what happened."""
    parser = argparse.ArgumentParser(description="Let hostile peers attack a host.")
    parser.add_argument("--peers", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args(arguments)
    progress(f"--peers {options.peers} --seed {options.seed}")
    first = _holdings()
    with subreaper():
        with pyfaas.Runtime(max_concurrency=16, init_timeout=1) as rt:
            findings = attack_for(rt, options.peers, options.seed, progress)
        wait_until(lambda: not _holdings().grown_since(first, 50 * MB), 5)
        if left := _holdings().grown_since(first, 50 * MB):
            findings.note(f"after the Runtime was closed: {left}")
    progress(f"{findings.calls} calls, the slowest {findings.slowest:.2f} s: {dict(findings.outcomes)}")
    progress(f"{findings.canary_calls} calls of the canary, the slowest {findings.canary_slowest:.2f} s")
    if findings.canary_calls < 10:
        findings.note("the canary hardly sang")
    for text in findings.texts:
        progress(f"FINDING {text}")
    return 1 if findings.texts else 0


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.leaks.hostile", *sys.argv[1:]],
            os.environ | ENVIRONMENT,
        )
    sys.exit(main(sys.argv[1:]))
