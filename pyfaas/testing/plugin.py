"""The pytest plugin: the fixture `faas`.

pytest loads it through its entry point wherever pyfaas is installed, also for tests that have nothing to do with it.
So it imports nothing, and hooks into nothing that happens to tests, before a test asks for the fixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyfaas.runtime import Runtime


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the ini option."""
    parser.addini(
        "faas", "parameters of the Runtime of the fixture faas, one `name = value` on each line", "linelist"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers",
        "faas(**parameters): parameters of the Runtime of the fixture faas, for example init_timeout=30",
    )


@pytest.fixture
def faas(request: pytest.FixtureRequest) -> Iterator[Runtime]:
    """A pyfaas.Runtime for this test alone, closed after it; what its functions wrote is shown if the test fails.

    Parameters of the Runtime: `@pytest.mark.faas(max_concurrency=2)`, or the ini option `faas` for all tests.
    A test that leaves a function running, or after which something of the Runtime is left, is an error.
    """
    from pyfaas.testing.fixture import runtime_for

    yield from runtime_for(request)
