"""gunicorn, with and without `--preload`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import psutil
import pytest

from .driver import WAIT_S, Driver, Running, environment, free_port, get, needs, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.unprivileged]

PROGRAMS = Path(__file__).parent / "programs"


class Server:
    """A gunicorn that answers."""

    def __init__(self, hosts: Driver, *options: str, shared: bool = False) -> None:
        needs("gunicorn")
        self.hosts, self.port = hosts, free_port()
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            "--workers=2",
            "--graceful-timeout=2",
            f"--bind=127.0.0.1:{self.port}",
        ]
        env = environment(SHARED="1" if shared else "")
        self.running: Running = hosts.start_command(
            [*command, f"--chdir={PROGRAMS}", *options, "web:wsgi"], env=env
        )
        self.running.wait_answer(self.port, "/own")

    def get(self, path: str) -> str:
        return get(self.port, path)

    def answers_of_all(self, path: str) -> dict[int, str]:
        """Ask until both workers have answered."""
        said: dict[int, str] = {}

        def asked() -> bool:
            pid, _, text = self.get(path).partition(" ")
            if pid:
                said[int(pid)] = text
            return len(said) == 2

        wait_until(asked, "both workers answer", now=lambda: f"{said} {self.running.text()}")
        return said

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it; nothing is left, and it did not take us for one of its workers."""
        self.running.kill(number)
        ended = self.running.wait(10)
        self.hosts.assert_nothing_left()
        assert "Traceback" not in ended.err, ended.err
        assert ended.status in {0, -number}, ended

    def tree(self) -> list[psutil.Process]:
        return self.running.ours()


def below_worker(pid: int) -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    assert found
    return found


def test_a_runtime_made_at_import_with_preload(hosts: Driver) -> None:
    server = Server(hosts, "--preload", shared=True)
    said = server.answers_of_all("/shared")
    for pid, text in said.items():
        assert text == (
            "RuntimeClosed: this Runtime belongs to another process; "
            f"process {pid} was forked from it: make one here"
        )
    assert set(server.answers_of_all("/own").values()) == {"one own"}
    server.stop()


def test_a_runtime_made_in_post_fork(hosts: Driver, tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    config.write_text("def post_fork(server, worker):\n    import web\n    web.own().invoke('greet', 1)\n")
    server = Server(hosts, "--preload", f"--config={config}", shared=True)
    assert set(server.answers_of_all("/own").values()) == {"one own"}
    server.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_that_end_leave_nothing(hosts: Driver, number: signal.Signals) -> None:
    server = Server(hosts, "--preload", shared=True)
    before = server.answers_of_all("/own")
    trees = [process for pid in before for process in below_worker(pid)]
    for pid in before:
        psutil.Process(pid).send_signal(number)
    hosts.assert_gone(trees, 10)
    wait_until(lambda: set(server.answers_of_all("/own")).isdisjoint(before), "there are new workers", WAIT_S)
    server.stop()


def test_a_reload_without_preload(hosts: Driver) -> None:
    server = Server(hosts, "--threads=4", shared=True)
    before = server.answers_of_all("/own")
    assert set(before.values()) == {"one own"}
    trees = [process for pid in before for process in below_worker(pid)]
    server.running.kill(signal.SIGHUP)
    hosts.assert_gone(trees, 10)
    wait_until(
        lambda: set(server.answers_of_all("/shared")).isdisjoint(before), "there are new workers", WAIT_S
    )
    assert set(server.answers_of_all("/shared").values()) == {"one shared"}
    server.stop()


def test_the_end_of_the_master_alone(hosts: Driver) -> None:
    """Its workers notice by themselves that it is gone."""
    server = Server(hosts, "--preload", "--timeout=2", shared=True)  # they look every second
    server.answers_of_all("/own")
    server.running.kill(signal.SIGKILL)
    server.running.wait()
    hosts.assert_nothing_left(10)
