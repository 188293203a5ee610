"""The examples, run as a newcomer runs them."""

from __future__ import annotations

import os
import pathlib
import pty
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


def run(example: str, *arguments: str, cwd: pathlib.Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / example), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def section(output: str, title: str) -> str:
    """The part of quickstart's report below the heading that contains the title."""
    parts = re.split(r"^-- (.*?) -+$", output, flags=re.MULTILINE)
    found = {
        heading: body for heading, body in zip(parts[1::2], parts[2::2], strict=True) if title in heading
    }
    assert len(found) == 1, output
    return found.popitem()[1]


def test_hello(tmp_path: pathlib.Path) -> None:
    done = run("hello.py", cwd=tmp_path)
    first, second = done.stdout.splitlines()
    assert re.fullmatch(r"\{'hello': 'Ada', 'left_ms': (2\d\d\d|3000)\}", first)
    assert second == "FunctionError: KeyError: 'name'"
    assert (done.returncode, done.stderr) == (0, "")


def test_typed_events(tmp_path: pathlib.Path) -> None:
    done = run("typed_events.py", cwd=tmp_path)
    assert done.stdout.splitlines() == [
        "5.10",
        "0",
        "$.items[0].price: Input should be greater than 0",
        "$.items[1].name: Field required",
        "$.items[1].price: Input should be a valid decimal",
        "{'x': 2.0, 'y': 1.0}",
        "$[0].y: Expected `float`, got `str`",
    ]
    assert (done.returncode, done.stderr) == (0, "")


def test_quickstart(tmp_path: pathlib.Path) -> None:
    done = run("quickstart.py", "--limit", "60", "--workers", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("All as expected.\n")
    assert max(map(len, done.stdout.splitlines())) <= 100
    # No terminal: sparse lines of progress, none of them rewritten.
    assert done.stderr.endswith("analysing 62/62\n")
    assert len(done.stderr.splitlines()) == 10
    assert "\r" not in done.stderr


def test_quickstart_reports(tmp_path: pathlib.Path) -> None:
    output = run("quickstart.py", "--limit", "60").stdout
    assert len(section(output, "60 modules").splitlines()) >= 24  # two tables of ten, and their titles
    failures = section(output, "2 failures")
    assert re.search(r"FunctionTimeout: 1\n +\(hangs on purpose\): .*timed out after 5\.00 seconds", failures)
    assert re.search(r"InstanceCrashed: 1\n +\(crashes on purpose\): .", failures)
    time = section(output, "time")
    cold, warm = map(int, re.findall(r"(\d+) cold, (\d+) warm", time)[0])
    assert cold + warm == 62
    assert cold < warm
    p50, p99 = map(float, re.findall(r"p50 ([\d.]+) ms, p99 ([\d.]+) ms", time)[0])
    assert 0 < p50 <= p99
    assert len(re.findall(r"\d\.\d\d s,", time)) == 2


def on_terminal(*command: str) -> tuple[int, str]:
    """Run it with a terminal as its stderr; the exit status, and what it wrote there."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs)
        os.close(theirs)
        written = b""
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # EIO: the last holder has closed it
                break
            if not chunk:
                break
            written += chunk
        return process.wait(60), written.decode()
    finally:
        os.close(ours)


def test_quickstart_rewrites_its_line_on_a_terminal() -> None:
    blocked = "import sys; sys.modules['rich'] = None; import runpy; del sys.argv[0]; "
    code = blocked + "runpy.run_path(sys.argv[0], run_name='__main__')"
    status, written = on_terminal(sys.executable, "-c", code, str(EXAMPLES / "quickstart.py"), "--limit", "5")
    assert status == 0
    assert written.count("\r") >= 7
    assert written.count("\n") == 1
    assert written.rstrip().endswith("analysing 7/7")


def test_quickstart_uses_rich_on_a_terminal() -> None:
    pytest.importorskip("rich")
    status, written = on_terminal(sys.executable, str(EXAMPLES / "quickstart.py"), "--limit", "5")
    assert status == 0
    assert "analysing" in written
    assert "100%" in written


def test_untrusted(tmp_path: pathlib.Path) -> None:
    done = run("untrusted.py", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    blocks = {block.splitlines()[0]: block for block in done.stdout.strip().split("\n\n")}
    assert "value      {'total': 12}" in blocks["good"]
    assert "message    IndexError: list index out of range" in blocks["raises"]
    assert 'return event["prices"][99]' in blocks["raises"]  # the end of the stack trace
    assert "FunctionTimeout" in blocks["loops for ever"]
    assert "OutOfMemory" in blocks["eats memory"]
    assert "InstanceCrashed" in blocks["crashes"]
    assert "last line  reading address 0" in blocks["crashes"]
    assert "$.prices[2]" in blocks["returns a wrong value"]
    assert all("fault      function" in block for name, block in blocks.items() if "class" in block), (
        done.stdout
    )


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(option: str) -> None:
    done = run("quickstart.py", option)
    assert done.returncode == 0
    assert "--limit N" in done.stdout
    assert "--workers N" in done.stdout


@pytest.mark.parametrize(
    "options",
    [["--limit", "0"], ["--limit", "many"], ["--workers", "-1"], ["--workers"], ["--colour"], ["x"]],
)
def test_wrong_options(options: list[str]) -> None:
    done = run("quickstart.py", *options)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "usage: quickstart.py" in done.stderr
    assert "Traceback" not in done.stderr
