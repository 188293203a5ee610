"""The pytest plugin, in real pytest processes of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
PLUGIN = ("-p", "pyfaas.testing.plugin")


def run_pytest(
    folder: Path, code: str, *arguments: str, ini: str = "", plugins: tuple[str, ...] = PLUGIN
) -> tuple[int, str]:
    """Write a test file and run it; return pytest's exit status and what it printed."""
    (folder / "pytest.ini").write_text(f"[pytest]\naddopts = --strict-markers --strict-config\n{ini}")
    (folder / "test_it.py").write_text(f"import time\n\nimport pytest\n\n{code}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *plugins, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "150"},
    )
    return done.returncode, done.stdout + done.stderr


GREET = """
@pytest.fixture
def greet(faas):
    @faas.function
    def greet(event, context):
        print("greeting", event)
        return {"hello": event}
    return greet
"""


def test_a_test_that_passes_shows_nothing(tmp_path: Path) -> None:
    code = f"""{GREET}
def test_one(greet, faas):
    assert greet.invoke("Ada") == {{"hello": "Ada"}}
    assert faas.functions == ("greet",)

def test_another_has_a_runtime_of_its_own(faas):
    assert faas.functions == ()

def test_that_closes_it(greet, faas):
    greet.invoke("Bob")
    faas.close()
"""
    status, output = run_pytest(tmp_path, code, "-rA")
    assert status == 0, output
    assert "3 passed" in output
    assert "greeting" not in output


def test_a_test_that_fails_shows_what_the_functions_wrote(tmp_path: Path) -> None:
    code = f"""{GREET}
def test_values(greet):
    assert greet.invoke("Ada") == "Ada"

def test_other(greet):
    greet.invoke("somebody else")
"""
    status, output = run_pytest(tmp_path, code)
    assert status == 1
    section = output.partition("- pyfaas logs -")[2]
    assert "[greet]\ngreeting Ada\n" in section
    assert "somebody else" not in output


def test_logs_of_processes_that_have_ended(tmp_path: Path) -> None:
    code = """
import os, sys, pyfaas

def test_it(faas):
    @faas.function(timeout=0.2)
    def hang(event, context):
        print("now I hang", flush=True)
        time.sleep(60)

    @faas.function(reuse=1)
    def once(event, context):
        print("only once:", event)

    @faas.function
    def crash(event, context):
        print("written at last", file=sys.stderr)
        os.abort()

    broken = faas.register("broken", pyfaas.Source("print('in init'); 1 / 0"))
    later = faas.register("later", pyfaas.Source("print('init of later')\\ndef handler(event, context): pass"))
    for function in (hang, crash, broken):
        assert not function.call().ok
    for number in range(3):
        once.invoke(number)
    later.invoke()
    assert not "reached"
"""
    status, output = run_pytest(tmp_path, code)
    assert status == 1
    section = output.partition("- pyfaas logs -")[2]
    for text in (
        "[hang]\nnow I hang\n",
        "[crash]\nwritten at last\n",
        "[broken]\nin init\n",
        "[later]\ninit of later\n",
    ):
        assert text in section
    for number in range(3):
        assert f"[once, process {number + 1} of 3]\nonly once: {number}\n" in section


def test_logs_are_bounded_and_cannot_paint_the_terminal(tmp_path: Path) -> None:
    code = """
def test_it(faas):
    @faas.function
    def flood(event, context):
        print("first line")
        for number in range(50_000):
            print("line", number)
        print("\\x1b[2Jlast\\x9bline")

    @faas.function(reuse=1)
    def many(event, context):
        print("process", event)

    for number in range(60):
        many.invoke(number)
    flood.invoke()
    assert not "reached"
"""
    status, output = run_pytest(tmp_path, code)
    assert status == 1
    assert "first line\n" not in output.partition("- pyfaas logs -")[2]
    assert "line 49999\n\\x1b[2Jlast\\x9bline\n" in output
    assert "\x1b[2J" not in output
    assert "[10 processes that ended earlier are left out]" in output
    assert "process 59\n" in output
    assert len(output) < 30_000


def test_logs_of_a_test_that_fails_while_it_is_set_up_or_taken_down(tmp_path: Path) -> None:
    code = f"""{GREET}
@pytest.fixture
def early(greet):
    greet.invoke("early")
    raise LookupError

@pytest.fixture
def late(greet):
    yield
    greet.invoke("late")
    raise LookupError

def test_early(early): pass
def test_late(late): pass
"""
    status, output = run_pytest(tmp_path, code)
    assert status == 1
    assert "1 passed, 2 errors" in output
    assert output.count("- pyfaas logs -") == 2
    assert "greeting early\n" in output
    assert "greeting late\n" in output


SLOW = """
def slow(event, context):
    print("begun", flush=True)
    time.sleep(30)
"""


def test_a_function_left_running_is_an_error(tmp_path: Path) -> None:
    code = f"""{SLOW}
def test_it(faas):
    running = faas.register("slow", slow, timeout=60).submit()
    while not running.running():
        time.sleep(0.001)

def test_next(faas):
    faas.register("f", lambda event, context: event).invoke()
"""
    status, output = run_pytest(tmp_path, code)
    assert status == 1
    assert "2 passed, 1 error" in output
    assert "the test left functions running: 'slow' (1 running, 0 waiting); they were killed." in output


def test_a_function_left_running_by_a_test_that_failed_is_told_with_it(tmp_path: Path) -> None:
    code = f"""{SLOW}
def test_it(faas):
    function = faas.register("slow", slow, timeout=60)
    future = function.submit()
    faas.register("other", lambda event, context: event).invoke()
    assert not "reached"
"""
    status, output = run_pytest(tmp_path, code)
    assert status == 1
    assert "1 failed in" in output
    assert "still running when the test failed: 'slow' (1 running, 0 waiting)" in output


def test_what_is_over_in_a_moment_was_not_left_running(tmp_path: Path) -> None:
    code = """
def test_it(faas):
    futures = [faas.register("f", lambda event, context: event).submit(number) for number in range(20)]
    assert [future.result() for future in futures] == list(range(20))
    faas.register("slow", lambda event, context: time.sleep(30)).submit().cancel()
"""
    status, output = run_pytest(tmp_path, code)
    assert status == 0, output


LEAKS = {
    "process": "tree.close = lambda timeout=0: None",
    "thread": "faas._pool.reactor.close = lambda: None",
    "pidfd": "kept.append(os.dup(tree._pidfd))",
    "memfd": "kept.append(_native.memfd_sealed('pyfaas-lost', b'x'))",
    "socket": "kept.extend(_native.socketpair())",
}


@pytest.mark.parametrize("kind", LEAKS)
def test_what_is_left_of_the_runtime_is_an_error(kind: str, tmp_path: Path) -> None:
    code = f"""
import os
from pyfaas import _native
kept = []

def test_it(faas):
    faas.register("f", lambda event, context: event).invoke()
    tree = faas._pool._tree
    {LEAKS[kind]}
"""
    (tmp_path / "conftest.py").write_text("import pyfaas.testing.leftovers as it\nit.SETTLE_SECONDS = 0.2\n")
    status, output = run_pytest(tmp_path, code)
    assert status == 1
    assert "1 passed, 1 error" in output
    assert "is left, which is a bug of pyfaas" in output
    assert {"process": "process ", "thread": "thread 'pyfaas-reactor'"}.get(kind, "descriptor ") in output


def test_another_runtime_beside_it_is_not_taken_for_a_leak(tmp_path: Path) -> None:
    code = """
import pyfaas

@pytest.fixture(scope="module")
def own():
    with pyfaas.Runtime() as runtime:
        yield runtime.register("own", lambda event, context: event)

def test_it(own, faas):
    assert own.invoke(1) == faas.register("f", lambda event, context: event).invoke(1)

def test_it_with_more_processes(own, faas):
    assert list(own.map(range(20))) == list(range(20))
"""
    status, output = run_pytest(tmp_path, code)
    assert status == 0, output


def test_parameters_from_markers_and_ini(tmp_path: Path) -> None:
    code = """
def test_ini(faas):
    assert (faas.max_concurrency, faas._config.init_timeout) == (3, 7.5)

@pytest.mark.faas(max_concurrency=2)
class TestMarked:
    def test_class(self, faas):
        assert (faas.max_concurrency, faas._config.init_timeout) == (2, 7.5)

    @pytest.mark.faas(max_concurrency=1)
    def test_closest(self, faas):
        assert faas.max_concurrency == 1
"""
    status, output = run_pytest(tmp_path, code, ini="faas =\n    max_concurrency = 3\n    init_timeout=7.5\n")
    assert status == 0, output


@pytest.mark.parametrize(
    ("marker", "ini", "text"),
    [
        ("max_concurency=2", "", "unknown parameter 'max_concurency'; did you mean 'max_concurrency'?"),
        ("max_concurrency=0", "", "max_concurrency=0: "),
        ("2", "", "@pytest.mark.faas: 2 has no name; write @pytest.mark.faas(max_concurrency=2)"),
        ("", "max_concurency = 2", "unknown parameter 'max_concurency'"),
        ("", "max_concurrency", "ini option faas: 'max_concurrency' is not `name = value`"),
        ("", "max_concurrency = many", "ini option faas: 'max_concurrency = many' is not `name = value`"),
    ],
)
def test_wrong_parameters_are_named(marker: str, ini: str, text: str, tmp_path: Path) -> None:
    code = f"@pytest.mark.faas({marker})\ndef test_it(faas): pass\n"
    status, output = run_pytest(tmp_path, code, ini=f"faas = {ini}\n" if ini else "")
    assert status == 1
    assert text in output
    assert "Traceback" not in output
    assert "1 error" in output


def test_under_xdist(tmp_path: Path) -> None:
    code = f"""{GREET}
@pytest.mark.parametrize("number", range(8))
def test_it(greet, number):
    assert greet.invoke(number) == {{"hello": number}}
    assert number != 5
"""
    status, output = run_pytest(tmp_path, code, "-n", "2", plugins=(*PLUGIN, "-p", "xdist.plugin"))
    assert status == 1
    assert "1 failed, 7 passed" in output
    assert "[greet]\ngreeting 5\n" in output.partition("- pyfaas logs -")[2]
    assert "greeting 4" not in output


def test_in_classes_of_unittest(tmp_path: Path) -> None:
    code = """
import unittest

@pytest.mark.usefixtures("faas")
class TestIt(unittest.TestCase):
    def setUp(self):
        self.shout = self.faas.register("shout", lambda event, context: print("shouting", event))

    def test_passes(self):
        self.assertIsNone(self.shout.invoke("now"))

    def test_fails(self):
        self.assertEqual(self.shout.invoke("loudly"), 1)

class TestPlain:
    @pytest.fixture(autouse=True)
    def prepare(self, faas):
        self.faas = faas

    def test_passes(self):
        assert self.faas.functions == ()
"""
    status, output = run_pytest(tmp_path, code)
    assert status == 1
    assert "1 failed, 2 passed" in output
    assert "[shout]\nshouting loudly\n" in output


@pytest.mark.parametrize("library", ["pytest_asyncio", "anyio"])
def test_in_async_tests(library: str, tmp_path: Path) -> None:
    pytest.importorskip(library, reason=f"this machine: {library} is not installed")
    mark, plugin, ini = {
        "pytest_asyncio": (
            "asyncio",
            "pytest_asyncio.plugin",
            "asyncio_default_fixture_loop_scope = function\n",
        ),
        "anyio": ("anyio", "anyio.pytest_plugin", ""),
    }[library]
    code = f"""
import asyncio

{"anyio_backend = pytest.fixture(lambda: 'asyncio')" if mark == "anyio" else ""}

@pytest.mark.{mark}
async def test_it(faas):
    function = faas.register("f", lambda event, context: print("got", event))
    assert await asyncio.wrap_future(function.submit("that")) is None
    assert not "reached"
"""
    status, output = run_pytest(tmp_path, code, plugins=(*PLUGIN, "-p", plugin), ini=ini)
    assert status == 1
    assert "1 failed in" in output
    assert "[f]\ngot that\n" in output


def test_the_leak_fixture_of_this_repository_agrees(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    code = f"""{GREET}{SLOW}
def test_it(greet, faas):
    assert greet.invoke("Ada") == {{"hello": "Ada"}}

def test_that_fails(greet):
    greet.invoke("Bob")
    assert not "reached"

def test_that_leaves_it_running(faas):
    faas.register("slow", slow, timeout=60).submit()
"""
    ini = "filterwarnings = error\nmarkers =\n    keeps(*kinds): as there\n"
    status, output = run_pytest(tmp_path, code, ini=ini)
    assert status == 1
    assert "1 failed, 2 passed, 1 error" in output
    assert "left behind" not in output


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    page = (ROOT / "docs/testing.md").read_text()
    example, shown = re.findall(r"```(?:python|text)\n(.*?)```", page, re.DOTALL)[:2]
    assert run_pytest(tmp_path, example)[0] == 0
    (tmp_path / "conftest.py").write_text("import pytest\n" + example.partition("def test_")[0])
    status, output = run_pytest(
        tmp_path, "def test_shout(shout):\n    assert shout.invoke({'text': 'hi'}) == 'hi!'\n"
    )
    assert status == 1
    assert shown.strip() in output


# What it costs those who do not use it


def test_it_is_found_through_its_entry_point_and_imports_nothing(tmp_path: Path) -> None:
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    info = tmp_path / "path" / "pyfaas_here-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pyfaas-here\nVersion: 1\n")
    lines = "".join(f"{name} = {value}\n" for name, value in entry.items())
    (info / "entry_points.txt").write_text(f"[pytest11]\n{lines}")
    (tmp_path / "test_it.py").write_text(
        "import sys\n\n"
        "def test_it(request):\n"
        "    plugins = request.config.pluginmanager\n"
        "    assert plugins.has_plugin('pyfaas')\n"
        "    loaded = {name for name in sys.modules if name.partition('.')[0] == 'pyfaas'}\n"
        "    assert loaded == {'pyfaas', 'pyfaas.testing', 'pyfaas.testing.plugin'}\n"
        "    for name in ('pydantic', 'msgspec', 'psutil', 'cloudpickle', 'asyncio'):\n"
        "        assert name not in sys.modules\n"
        "    hooks = {caller.name for caller in plugins.get_hookcallers(plugins.get_plugin('pyfaas'))}\n"
        "    assert hooks == {'pytest_addoption', 'pytest_configure'}\n"
    )
    others = [
        f"-pno:{name}" for name in ("anyio", "asyncio", "hypothesispytest", "xdist", "xdist.looponfail")
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *others, "test_it.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path / "path"), str(ROOT)))},
    )
    assert done.returncode == 0, done.stdout


def test_a_fixture_and_a_marker_of_the_same_name_are_the_users_own(tmp_path: Path) -> None:
    code = """
@pytest.fixture
def faas():
    return "mine"

@pytest.mark.faas("anything")
def test_it(faas):
    assert faas == "mine"
"""
    status, output = run_pytest(tmp_path, code)
    assert status == 0, output
