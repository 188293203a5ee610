"""Build every fuzz_*.c of this folder with the core under ASan and UBSan, and run each for some seconds.

    python tests/native/fuzz.py [seconds]

Starts from corpus/<name>. Exit status 0 if nothing was found; an input that was stays in fuzz-last-input.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from build import CORE, ENVIRONMENT, FLAGS, HERE  # type: ignore[import-not-found]  # beside this file

SANITIZE = "-fsanitize=address,undefined"
DRIVER = HERE / "fuzz_main.c"


def build(target: Path, folder: Path) -> Path:
    """Compile the core with coverage, the target and the driver without; return the program."""
    compiler = [os.environ.get("CC", "gcc"), *FLAGS, SANITIZE, f"-I{CORE}", f"-I{HERE}"]
    objects = []
    for source in sorted(CORE.glob("*.c")):
        objects.append(str(folder / f"{source.stem}.o"))
        coverage = ["-fsanitize-coverage=trace-pc", "-c", str(source), "-o", objects[-1]]
        subprocess.run([*compiler, *coverage], check=True)
    program = folder / target.stem
    subprocess.run([*compiler, str(target), str(DRIVER), *objects, "-o", str(program)], check=True)
    return program


def main(seconds: int) -> int:
    """Run all targets one after another."""
    failed = 0
    for target in sorted(HERE.glob("fuzz_*.c")):
        if target == DRIVER:
            continue
        corpus = sorted((HERE / "corpus" / target.stem.removeprefix("fuzz_")).iterdir())
        print(f"{target.stem}: {len(corpus)} inputs, {seconds} s", flush=True)
        with tempfile.TemporaryDirectory(prefix="fuzz-pyfaas-") as name:
            command = [str(build(target, Path(name))), str(seconds), *map(str, corpus)]
            failed += subprocess.run(command, env=ENVIRONMENT, check=False).returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 60))
