"""The leak fixture itself: it has to see what it promises to see."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"

LEAKS = {
    "descriptors": "os.open('/dev/null', os.O_RDONLY)",
    "threads": "threading.Thread(target=threading.Event().wait, daemon=True).start()",
    "children": "subprocess.Popen(['sleep', '3'], start_new_session=True)",
    "children (zombie)": "os.spawnlp(os.P_NOWAIT, 'true', 'true')",
    "shared memory": "open('/dev/shm/pyfaas-leak-test', 'w').close()",
    "temporary files": "open(os.path.join(os.environ['TMPDIR'], 'pyfaas-leak-test'), 'w').close()",
}


@pytest.mark.parametrize("kind", LEAKS)
def test_leak_is_seen(kind: str, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text().replace("SETTLE_S = 3.0", "SETTLE_S = 0.1"))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = keeps\n")
    (tmp_path / "test_leaking.py").write_text(
        f"import os, subprocess, threading\n\ndef test_it():\n    global kept\n    kept = {LEAKS[kind]}\n"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
            capture_output=True,
            text=True,
            env=os.environ | {"TMPDIR": str(tmp_path), "PYTHONWARNINGS": "ignore"},
            cwd=tmp_path,
            timeout=60,
            start_new_session=True,
        )
    finally:
        Path("/dev/shm/pyfaas-leak-test").unlink(missing_ok=True)
    assert done.returncode == 1, done.stdout
    assert "left behind" in done.stdout
    assert kind.removesuffix(" (zombie)") in done.stdout


def test_short_lived_thread_is_no_leak() -> None:
    release = threading.Event()
    threading.Thread(target=release.wait).start()
    threading.Timer(0.02, release.set).start()
