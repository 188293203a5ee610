"""Compiles and runs floor.c: the round trips that the machine itself can do."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import tempfile
from typing import Self

SOURCE = pathlib.Path(__file__).with_name("floor.c")
ONE_CPU = 77


class FloorMissing(Exception):
    """The C reference cannot run here: no compiler, or one CPU only."""


class Floor:
    """The compiled program, for as long as the `with` block lasts."""

    def __enter__(self) -> Self:
        compiler = shutil.which(os.environ.get("CC", "cc"))
        if compiler is None:
            raise FloorMissing("no C compiler (looked for $CC, then cc)")
        self._folder = tempfile.TemporaryDirectory(prefix="bench-floor-")
        self._program = os.path.join(self._folder.name, "floor")
        subprocess.run([compiler, "-O2", "-std=c11", "-o", self._program, str(SOURCE)], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def _run(self, *arguments: str) -> list[int]:
        done = subprocess.run([self._program, *arguments], capture_output=True, text=True, check=False)
        if done.returncode == ONE_CPU:
            raise FloorMissing("needs two CPUs")
        done.check_returncode()
        return [int(line) for line in done.stdout.split()]

    def spin(self, calls: int) -> list[int]:
        """Round trips through shared memory, both ends spinning, ns."""
        return self._run("spin", str(calls))

    def sockets(self, calls: int, quiet: float = 0.0) -> list[int]:
        """Round trips through a socketpair, each after `quiet` seconds of sleep, ns."""
        return self._run("sockets", str(calls), str(int(quiet * 1_000_000)))
