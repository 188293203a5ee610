"""One driver for each test; see driver.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .driver import Driver, driven


@pytest.fixture
def hosts(nothing_leaks: None, tmp_path: Path) -> Iterator[Driver]:
    with driven(tmp_path) as driver:
        yield driver
