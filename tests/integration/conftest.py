"""A Runtime for each test, closed after it; the leak check of tests/conftest.py looks once it is closed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import pyfaas


@pytest.fixture
def rt(nothing_leaks: None) -> Iterator[pyfaas.Runtime]:
    with pyfaas.Runtime() as runtime:
        yield runtime
        runtime.close(timeout=0)  # a test that failed may have left something running
