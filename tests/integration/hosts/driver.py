"""Runs real interpreters and servers as hosts of pyfaas, and sees whatever they leave behind."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

import pyfaas

#: For what takes a moment on a machine that others use too.
WAIT_S = 30.0
#: How long a host may take to end once it wants to, and what it started once it has ended.
EXIT_S = 5.0
PACKAGE = Path(pyfaas.__file__).resolve().parent
#: Whatever an interpreter needs that does not look for packages itself.
PATHS = [str(PACKAGE.parent), *(path for path in sys.path if path.endswith("-packages"))]
#: Every program begins with this: so they show only what they are about.
PRELUDE = """
import os, signal, sys, threading, time
import pyfaas

def nap(event, context):
    time.sleep(event)
    return event

def leave():
    "Say when this process began to end: the test measures from here."
    print("leaving", time.monotonic(), flush=True)

def wait_busy(rt, count):
    deadline = time.monotonic() + 20
    while rt.statistics().busy < count:
        assert time.monotonic() < deadline, rt.statistics()
        time.sleep(0.002)
"""
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    status: int
    out: str
    err: str
    at: float

    @property
    def exit_s(self) -> float:
        """Seconds from `leave()` to the end of the process."""
        left = [line for line in self.out.splitlines() if line.startswith("leaving ")]
        assert left, self
        return self.at - float(left[-1].split()[1])

    @property
    def lines(self) -> list[str]:
        """What it printed, without the line of `leave()`."""
        return [line for line in self.out.splitlines() if not line.startswith("leaving ")]


class Running:
    """A host that runs. What it prints goes into files, so that it never waits for a reader."""

    def __init__(self, command: Sequence[str], folder: Path, **options: object) -> None:
        number = len(list(folder.glob("*.out")))
        self.out, self.err = folder / f"{number}.out", folder / f"{number}.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            given = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err, **options}
            self.process = subprocess.Popen(command, **given)  # type: ignore[call-overload]
        self.pid: int = self.process.pid

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, seconds: float = WAIT_S) -> Ended:
        """Wait for its end."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it still runs after {seconds} s; {self.text()}")
        return Ended(status, self.out.read_text(), self.err.read_text(), time.monotonic())

    def wait_line(self, text: str, seconds: float = WAIT_S) -> str:
        """Wait until it has printed a line that contains `text`; return that line."""

        def found() -> str:
            return next((one for one in self.text().splitlines(keepends=True) if text in one), "")

        def complete() -> bool:
            if self.process.poll() is not None and not found():
                pytest.fail(f"it ended with {self.process.returncode} and never said {text!r}: {self.text()}")
            return found().endswith("\n")

        wait_until(complete, f"{text!r} is printed", seconds, self.text)
        return found().rstrip("\n")

    def wait_answer(self, port: int, path: str) -> str:
        """Wait until it answers over HTTP; return what it says."""
        said: list[str] = []

        def answers() -> bool:
            said.append(get(port, path))
            if self.process.poll() is not None:
                pytest.fail(f"it ended with {self.process.returncode}: {self.text()}")
            return bool(said[-1])

        wait_until(answers, "it answers", now=self.text)
        return said[-1]

    def text(self) -> str:
        """Whatever it has printed so far."""
        return self.out.read_text() + self.err.read_text()

    def ours(self) -> list[psutil.Process]:
        """The processes of pyfaas below it."""
        return ours(below(self.pid))

    def close(self) -> None:
        """End it, if it still runs."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Driver:
    """Starts hosts; `assert_nothing_left` looks for processes that outlived them, wherever they went."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[Running] = []

    def start(
        self,
        program: str,
        *,
        flags: Sequence[str] = (),
        paths: bool = False,
        python: str = sys.executable,
        before: Sequence[str] = (),
        arguments: Sequence[str] = (),
        **options: object,
    ) -> Running:
        """Start an interpreter.

        Args:
            program: What it runs, after `PRELUDE`.
            flags: Of the interpreter.
            paths: Have the program set its own `sys.path`: the interpreter does not.
            python: Which interpreter.
            before: A command that starts the interpreter.
            arguments: Of the program.
            options: Of `subprocess.Popen`.
        """
        head = f"import sys; sys.path += {PATHS!r}\n" if paths else ""
        file = self.folder / f"program{len(self._running)}.py"
        file.write_text(head + PRELUDE + program)
        return self.start_command([*before, python, *flags, str(file), *arguments], **options)

    def start_command(self, command: Sequence[str], **options: object) -> Running:
        """Start any program."""
        running = Running(command, self.folder, **options)
        self._running.append(running)
        return running

    def run(self, program: str, *, seconds: float = WAIT_S, **options: object) -> Ended:
        """Run a program to its end, which leaves nothing behind."""
        ended = self.start(program, **options).wait(seconds)  # type: ignore[arg-type]
        self.assert_nothing_left()
        return ended

    def run_quiet(self, program: str, **options: object) -> Ended:
        """Run a program to its end: it succeeds, and says nothing on standard error."""
        ended = self.run(program, **options)  # type: ignore[arg-type]
        assert (ended.status, ended.err) == (0, ""), ended
        return ended

    def assert_gone(self, processes: Sequence[psutil.Process], seconds: float = EXIT_S) -> None:
        """Wait until these processes are gone."""

        def left() -> list[psutil.Process]:
            self._reap_adopted()
            return [one for one in processes if one.is_running()]

        wait_until(lambda: not left(), "they are gone", seconds, lambda: str(left()))

    def assert_nothing_left(self, seconds: float = EXIT_S, *, but: AbstractSet[int] = frozenset()) -> None:
        """Wait until nothing is left of the hosts that ended, `but` these processes."""
        running = {one.pid for one in self._running if one.process.poll() is None} | but

        def left() -> list[psutil.Process]:
            self._reap_adopted()
            known = [process for pid in running for process in below(pid)]
            return [one for one in below(os.getpid()) if one.pid not in running and one not in known]

        def said() -> str:
            return "\n".join(running.text() for running in self._running)

        wait_until(lambda: not left(), "all processes are gone", seconds, lambda: f"{left()} {said()}")

    def _reap_adopted(self) -> None:
        """Wait for those orphans that have ended; hosts are left to their `Popen`."""
        started = {running.pid for running in self._running}
        for process in psutil.Process().children():
            with contextlib.suppress(psutil.NoSuchProcess, ChildProcessError):
                if process.pid not in started and process.status() == psutil.STATUS_ZOMBIE:
                    os.waitpid(process.pid, os.WNOHANG)

    def close(self) -> None:
        """End what still runs."""
        for running in self._running:
            running.close()
        deadline = time.monotonic() + EXIT_S
        while below(os.getpid()) and time.monotonic() < deadline:
            for process in below(os.getpid()):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self._reap_adopted()
            pause()


@contextlib.contextmanager
def driven(folder: Path) -> Iterator[Driver]:
    """Give a driver; while it exists, this process adopts every orphan."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    driver = Driver(folder)
    try:
        yield driver
    finally:
        driver.close()
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def wait_until(
    condition: Callable[[], object], what: str, seconds: float = WAIT_S, now: Callable[[], str] = str
) -> None:
    """Wait until the condition holds; fail with what is the case instead."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what}; {now()}")
        pause()


def pause() -> None:
    """Let the others work."""
    threading.Event().wait(0.005)


def below(pid: int) -> list[psutil.Process]:
    """Every process below this one, zombies included."""
    try:
        found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return found


def ours(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Those of them that are pyfaas's."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name().startswith("pyfaas-"):
                found.append(process)
    return found


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def get(port: int, path: str = "/") -> str:
    """Ask an HTTP server; an empty text if it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=WAIT_S) as reply:
            text: bytes = reply.read()
            return text.decode()
    except urllib.error.HTTPError as error:
        error.close()
        return ""
    except OSError:
        return ""


def needs(*modules: str) -> None:
    """Skip the test if a package is not installed."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install 'pyfaas[test]'")


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment, with more."""
    return {**os.environ, **more}
