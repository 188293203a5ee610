"""A Jupyter kernel: functions of cells, redefined, interrupted, restarted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .driver import Driver, environment, needs, ours, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.unprivileged]

NOTEBOOK = Path(__file__).parent / "programs" / "notebook.py"

#: Says so once a call is under way: an interrupt before that would be one in the kernel's own code.
ANNOUNCE = """
def announce():
    while not rt.statistics().busy:
        time.sleep(0.002)
    print("waiting", flush=True)
threading.Thread(target=announce).start()
"""


class Notebook:
    """A kernel, and the client that runs cells in it."""

    def __init__(self, hosts: Driver, folder: Path) -> None:
        needs("ipykernel", "jupyter_client")
        self.hosts = hosts
        folders = {
            name: str(folder / name) for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR")
        }
        env = environment(**folders, PYTHONWARNINGS="ignore", PYDEVD_DISABLE_FILE_VALIDATION="1")
        self.running = hosts.start_command([sys.executable, str(NOTEBOOK)], env=env, stdin=subprocess.PIPE)
        self._answers = 0

    def order(self, *order: object) -> Any:
        assert self.running.process.stdin
        self.running.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.running.process.stdin.flush()
        self._answers += 1

        def answers() -> list[str]:
            return [
                line for line in self.running.out.read_text().splitlines(keepends=True) if line.endswith("\n")
            ]

        def answered() -> bool:
            return len(answers()) == self._answers or self.running.process.poll() is not None

        wait_until(answered, "the kernel answers", now=self.running.text)
        assert len(answers()) == self._answers, self.running.text()
        return json.loads(answers()[-1])

    def cell(self, code: str) -> str | None:
        """Run a cell without an error; return its value as text."""
        said = self.order("run", code)
        assert (said["error"], said["err"]) == (None, ""), said
        value: str | None = said["value"]
        return value


@pytest.fixture
def notebook(hosts: Driver, tmp_path: Path) -> Iterator[Notebook]:
    notebook = Notebook(hosts, tmp_path)
    yield notebook
    notebook.order("stop")
    assert notebook.running.wait().status == 0
    hosts.assert_nothing_left()


def test_cells(notebook: Notebook) -> None:
    cell = notebook.cell
    cell("import pyfaas, time, threading\nrt = pyfaas.Runtime()\nFACTOR = 2")
    cell("def scale(x):\n    return FACTOR * x")
    cell("@rt.function(timeout=60)\ndef work(event, context):\n    return scale(event)")
    assert cell("work.invoke(21)") == "42"
    # Cells that are run again: what is registered stays as it was until it is registered again.
    cell("FACTOR = 3")
    assert cell("work.invoke(21)") == "42"
    cell(
        "@rt.function(timeout=60)\ndef work(event, context):\n    print('in the function')\n    return scale(event)"
    )
    assert cell("work.invoke(21)") == "63"
    assert cell("'in the function' in work.call(1).logs") == "True"
    assert cell("list(work.map(range(4)))") == "[0, 3, 6, 9]"
    assert cell("import asyncio\nawait asyncio.wrap_future(work.submit(5))") == "15"
    failed = notebook.order("run", "rt.register('bad', lambda event, context: event['x']).invoke({})")
    assert failed["error"] == "FunctionError: KeyError: 'x'"

    cell(
        "nap = rt.register('nap', lambda event, context: time.sleep(event) or 'woke', timeout=60)\nnap.invoke(0)"
    )
    for wait in ("nap.invoke(50)", "nap.submit(50).result()", "list(nap.map([50, 50], ordered=False))"):
        said = notebook.order("interrupt", f"{ANNOUNCE}{wait}", "waiting")
        assert said["error"].startswith("KeyboardInterrupt"), said
        assert said["seconds"] < 5, said
        assert cell("nap.invoke(0)") == "'woke'"


@pytest.mark.parametrize("now", [[], ["now"]], ids=["politely", "by a kill"])
def test_a_restart_leaves_nothing(notebook: Notebook, hosts: Driver, now: list[str]) -> None:
    start = (
        "import pyfaas, time\n"
        "rt = pyfaas.Runtime()\n"
        "f = rt.register('f', lambda event, context: time.sleep(event), timeout=60)"
    )
    notebook.cell(f"{start}\nfuture = f.submit(50)\nf.invoke(0)")
    tree = notebook.running.ours()
    assert len(tree) == 6, tree
    notebook.order("restart", *now)
    hosts.assert_gone(tree)
    assert notebook.order("run", "f")["error"].startswith("NameError")
    notebook.cell(f"{start}\nf.invoke(0)")
    assert ours(notebook.running.ours())
