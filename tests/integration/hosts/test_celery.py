"""Celery's prefork workers, with a folder for a broker."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from .driver import Driver, Running, below, environment, needs, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.unprivileged]

PROGRAMS = Path(__file__).parent / "programs"
#: Sends tasks, and prints what came of each: a line of JSON for a line of JSON.
CLIENT = """
import json, sys
import tasks
for line in sys.stdin:
    results = [getattr(tasks, name).delay(*args) for name, args in json.loads(line)]
    said = [result.get(timeout=30, interval=0.01, propagate=False) for result in results]
    print(json.dumps(said, default=repr), flush=True)
"""


class Worker:
    """A Celery worker with two processes, and a client."""

    def __init__(self, hosts: Driver, folder: Path, *options: str, concurrency: int = 2) -> None:
        for name in ("queue", "control", "results"):
            (folder / name).mkdir(parents=True)
        self._hosts = hosts
        self._env = environment(BROKER=str(folder), PYTHONWARNINGS="ignore")
        quick = [
            "--without-heartbeat",
            "--without-gossip",
            "--without-mingle",
            "--loglevel=INFO",
            f"--concurrency={concurrency}",
        ]
        command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", *quick, *options]
        self.running: Running = hosts.start_command(command, cwd=PROGRAMS, env=self._env)
        self._client = hosts.start_command(
            [sys.executable, "-c", CLIENT], cwd=PROGRAMS, env=self._env, stdin=subprocess.PIPE
        )
        self._answers = 0

    def run(self, *tasks: tuple[str, list[Any]]) -> list[Any]:
        """Run tasks, and return what they return."""
        assert self._client.process.stdin
        self._client.process.stdin.write(json.dumps(tasks).encode() + b"\n")
        self._client.process.stdin.flush()
        self._answers += 1

        def lines() -> list[str]:
            return self._client.out.read_text().splitlines()

        wait_until(
            lambda: len(lines()) == self._answers or self._client.process.poll() is not None,
            "there are answers",
            now=lambda: self.running.text() + self._client.text(),
        )
        assert len(lines()) == self._answers, self._client.text()
        answer: list[Any] = json.loads(lines()[-1])
        return answer

    def stop(self, number: signal.Signals = signal.SIGQUIT) -> str:
        """End client and worker; nothing is left."""
        self._client.close()
        if number == signal.SIGKILL:  # its own processes may not notice that it is gone
            for process in psutil.Process(self.running.pid).children():
                process.kill()
        self.running.kill(number)
        ended = self.running.wait(15)
        self._hosts.assert_nothing_left()
        return ended.err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    needs("celery")
    return tmp_path / "broker"


def test_prefork_workers(hosts: Driver, folder: Path) -> None:
    worker = Worker(hosts, folder)
    said = worker.run(*[("run_shared", [])] * 4, *[("run_own", [0.1])] * 6)
    for pid, text in said[:4]:
        assert "belongs to another process" in text
        assert f"process {pid} was forked" in text
    assert [value for _, value in said[4:]] == [0.1] * 6
    assert worker.run(("run_too_long", [])) == ["interrupted, and then 0"]
    assert "Traceback" not in worker.stop()


def test_a_worker_process_that_dies(hosts: Driver, folder: Path) -> None:
    worker = Worker(hosts, folder, concurrency=1)
    ((pid, _),) = worker.run(("run_own", [0]))
    tree = below(pid)
    assert len(tree) == 5, tree
    (said,) = worker.run(("run_and_die", []))
    assert said.startswith("WorkerLostError"), said
    hosts.assert_gone(tree)
    ((again, value),) = worker.run(("run_own", [0]))
    assert (value, again != pid) == (0, True)
    worker.stop(signal.SIGKILL)


def test_a_fresh_process_for_each_task(hosts: Driver, folder: Path) -> None:
    worker = Worker(hosts, folder, "--max-tasks-per-child=1")
    said = worker.run(*[("run_own", [0])] * 4)
    assert len({pid for pid, _ in said}) == 4
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid, _ in said), "they are gone")
    # Its own process has no Runtime. Asked to end while it replaces children, it may never do so.
    worker.stop(signal.SIGKILL)


def test_a_worker_that_is_killed(hosts: Driver, folder: Path) -> None:
    worker = Worker(hosts, folder)
    worker.run(("run_own", [0]), ("run_own", [0]))
    worker.stop(signal.SIGKILL)
