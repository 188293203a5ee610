"""Build every test_*.c of this folder with the core under its sanitizers, and run it.

    python tests/native/build.py [name part]...

The first line of a test names its builds: `/* sanitizers: address,undefined thread */`. Without one it is built
with address,undefined. Exit status 0 if everything passed.
"""

from __future__ import annotations

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CORE = ROOT / "native" / "core"
DEFAULT = "address,undefined"
TIMEOUT_S = 120
FLAGS = (
    *("-std=c11", "-g", "-O1", "-fno-omit-frame-pointer", "-pthread"),
    *("-Wall", "-Wextra", "-Wshadow", "-Wno-missing-field-initializers", "-Werror"),
    "-Wno-tsan",  # TSan does not follow fences; what they order is atomic on its own
)
ENVIRONMENT = {
    "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=1:allocator_may_return_null=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "halt_on_error=1:die_after_fork=0",
}


def sanitizers(test: Path) -> list[str]:
    """Return the builds that the test's first line asks for."""
    first = test.read_text().partition("\n")[0]
    named = re.search(r"sanitizers:\s*([a-z, -]+?)\s*\*/", first)
    return named[1].split() if named else [DEFAULT]


def run(command: list[str], seconds: float = TIMEOUT_S) -> tuple[int, str]:
    """Return exit status and output; a hanging program is killed with all that it started."""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=ENVIRONMENT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            output, _ = process.communicate()
            return -9, f"{output}\ndid not end within {seconds:.0f} s"
    return process.returncode, output


def test_one(test: Path, sanitizer: str, folder: Path) -> tuple[str, int, str, float]:
    """Build and run one test under one sanitizer: label, exit status, output, seconds."""
    label = f"{test.stem} [{sanitizer}]"
    program = folder / f"{test.stem}-{sanitizer.replace(',', '-')}"
    sources = [str(path) for path in sorted(CORE.glob("*.c"))]
    compiler = os.environ.get("CC") or shutil.which("gcc") or "cc"
    instrument = [] if sanitizer == "none" else [f"-fsanitize={sanitizer}"]
    start = time.monotonic()
    status, output = run(
        [compiler, *FLAGS, *instrument, f"-I{CORE}", f"-I{HERE}", str(test), *sources, "-o", str(program)]
    )
    if status == 0:
        status, output = run([str(program)])
    return label, status, output, time.monotonic() - start


def main(parts: list[str]) -> int:
    """Run what matches, two at a time; print each result and the output of what failed."""
    tests = [
        test for test in sorted(HERE.glob("test_*.c")) if not parts or any(p in test.name for p in parts)
    ]
    if not tests:
        print(f"no test in {HERE} matches {' '.join(parts)}", file=sys.stderr)
        return 2
    failed = 0
    with (
        tempfile.TemporaryDirectory(prefix="native-pyfaas-") as name,
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        jobs = [pool.submit(test_one, test, kind, Path(name)) for test in tests for kind in sanitizers(test)]
        for job in concurrent.futures.as_completed(jobs):
            label, status, output, seconds = job.result()
            print(f"{'ok  ' if status == 0 else 'FAIL'} {label} {seconds:.1f} s", flush=True)
            if status != 0:
                failed += 1
                print(f"--- exit status {status}\n{output.rstrip()}\n---", flush=True)
    print(f"{len(jobs) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
