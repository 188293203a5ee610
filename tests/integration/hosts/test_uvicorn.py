"""uvicorn, with several workers and with `--reload`."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path

import pytest

from .driver import Driver, Running, environment, free_port, get, needs, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.unprivileged]

WEB = Path(__file__).parent / "programs" / "web.py"


def start(hosts: Driver, folder: Path, *options: str) -> tuple[Running, int]:
    """Start a uvicorn that answers, with the app in `folder`."""
    needs("uvicorn")
    shutil.copy(WEB, folder)
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        f"--port={port}",
        "--timeout-graceful-shutdown=2",
        *options,
        "web:asgi",
    ]
    running = hosts.start_command(command, cwd=folder, env=environment(SHARED="1"))
    running.wait_answer(port, "/own")
    return running, port


def stop(hosts: Driver, running: Running, number: signal.Signals) -> None:
    running.kill(number)
    ended = running.wait(10)
    hosts.assert_nothing_left()
    assert "Traceback" not in ended.err, ended.err


def folder_of(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    folder.mkdir()
    return folder


def test_two_workers(hosts: Driver, tmp_path: Path) -> None:
    running, port = start(hosts, folder_of(tmp_path), "--workers=2")
    said: dict[str, set[str]] = {}

    def asked() -> bool:
        for path in ("/own", "/shared"):
            pid, _, text = get(port, path).partition(" ")
            said.setdefault(pid, set()).add(text)
        return sum(texts == {"one own", "one shared"} for texts in said.values()) == 2

    wait_until(asked, "both workers answer", now=lambda: f"{said} {running.text()}")
    stop(hosts, running, signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_one_process(hosts: Driver, tmp_path: Path, number: signal.Signals) -> None:
    running, port = start(hosts, folder_of(tmp_path))
    assert get(port, "/shared") == f"{running.pid} one shared"
    stop(hosts, running, number)


def test_reload(hosts: Driver, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    running, port = start(hosts, folder, "--reload", "--reload-delay=0.1")
    old, _, text = get(port, "/shared").partition(" ")
    assert text == "one shared"
    trees = running.ours()
    assert len(trees) >= 10, trees  # two Runtimes
    web = folder / "web.py"
    web.write_text(web.read_text().replace('WORD = "one"', 'WORD = "two"'))
    wait_until(
        lambda: get(port, "/shared").endswith("two shared"), "it answers with new code", now=running.text
    )
    hosts.assert_gone(trees)
    assert not get(port, "/own").startswith(old)
    stop(hosts, running, signal.SIGINT)
