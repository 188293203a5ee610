"""Some hundred hostile peers in a row: host and canary do not notice. `nox -s hostile` lets ten thousand attack."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.leaks

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 240


def test_hostile_peers_change_nothing() -> None:
    command = [sys.executable, "-m", "tests.leaks.hostile", "--peers", "300"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    host = subprocess.run(
        command, cwd=ROOT, env=environment, timeout=SECONDS, capture_output=True, text=True, errors="replace"
    )
    print(host.stdout)
    assert host.returncode == 0, host.stdout + host.stderr
    assert not host.stderr
