"""What the fixture `faas` does: a Runtime for one test, with its parameters, its logs and the search for leftovers."""

from __future__ import annotations

import ast
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from pyfaas.errors import InvalidPackage
from pyfaas.runtime import Runtime
from pyfaas.testing.leftovers import Before, Tree
from pyfaas.testing.output import Output

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

_SECTION: Final = "pyfaas logs"
#: How long what a finished test began may take to be over: the thread that was told of it may be quicker than ours.
_SETTLE_SECONDS: Final = 0.25
_PAUSE_SECONDS: Final = 0.005
_use: Final = pytest.StashKey["Use"]()


class Use:
    """One test's Runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.output = Output()
        self.output.listen(runtime)
        self.failed = False

    def running(self) -> str:
        """Say which functions run or wait now; empty if none does."""
        pool = self.runtime._pool
        if pool.closed is not None:
            return ""
        counts: dict[str, list[int]] = {}
        for line in list(pool._versions):  # with those that were replaced
            count = counts.setdefault(line.name, [0, 0])
            count[0] += line.busy
            count[1] += len(line.waiting)
        return ", ".join(
            f"'{name}' ({busy} running, {waiting} waiting)"
            for name, (busy, waiting) in sorted(counts.items())
            if busy or waiting
        )

    def wait_done(self) -> str:
        """Wait a moment until nothing runs; return what still does."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        pause = threading.Event()
        while (running := self.running()) and time.monotonic() < deadline:
            pause.wait(_PAUSE_SECONDS)
        return running


class Reports:
    """Adds to the report of a test that fails what its functions wrote. Registered when the fixture is first used."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add the section, whichever phase of the test failed."""
        report = yield
        use = item.stash.get(_use, None)
        if use is not None and report.failed:
            use.failed = True
            texts = [use.output.text()]
            if running := use.running():
                texts.append(f"still running when the test failed: {running}\n")
            if text := "".join(texts):
                report.sections.append((_SECTION, text))
        return report


def runtime_for(request: pytest.FixtureRequest) -> Iterator[Runtime]:
    """Yield a Runtime for a test; then close it and look for leftovers."""
    if not request.config.pluginmanager.has_plugin(Reports.__module__):
        request.config.pluginmanager.register(Reports(), Reports.__module__)
    parameters = _from_ini(request.config) | _from_markers(request.node)
    before = Before()
    try:
        runtime = Runtime(**parameters)
    except (TypeError, InvalidPackage) as error:
        pytest.fail(f"parameters of the fixture faas (marker or ini option faas): {error}", pytrace=False)
    use = request.node.stash[_use] = Use(runtime)
    _give_to_test_case(request.instance, runtime)
    yield runtime
    _end(use, before)


def _end(use: Use, before: Before) -> None:
    running = "" if use.failed else use.wait_done()  # if it failed, the report says what ran
    use.output.catch_up()
    tree = Tree(use.runtime)
    use.runtime.close(timeout=0)
    problems = []
    if running:
        problems.append(
            f"the test left functions running: {running}; they were killed. Wait for the Future's result(), "
            "or cancel() it; take all that map() yields, or close() its iterator"
        )
    if left := before.wait_nothing_left(tree):
        problems.append(
            f"something of the closed Runtime is left, which is a bug of pyfaas; please report it: {left}"
        )
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


def _give_to_test_case(instance: object, runtime: Runtime) -> None:
    """Set `self.faas` in a unittest.TestCase, whose methods cannot have fixtures as arguments."""
    unittest = sys.modules.get("unittest")
    if (
        unittest is not None
        and isinstance(instance, unittest.TestCase)
        and not hasattr(type(instance), "faas")
    ):
        instance.faas = runtime


def _from_ini(config: pytest.Config) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for text in config.getini("faas"):
        name, equals, value = text.partition("=")
        try:
            parameters[name.strip()] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            equals = ""
        if not equals:
            pytest.fail(
                f"ini option faas: {text!r} is not `name = value` with a Python literal, as `max_concurrency = 2`",
                pytrace=False,
            )
    return parameters


def _from_markers(node: pytest.Item) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for marker in reversed(list(node.iter_markers("faas"))):  # the closest last: it wins
        if marker.args:
            text = f"@pytest.mark.faas: {marker.args[0]!r} has no name; write @pytest.mark.faas(max_concurrency=2)"
            pytest.fail(text, pytrace=False)
        parameters |= marker.kwargs
    return parameters
