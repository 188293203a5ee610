"""Starts the benchmark: `python tests/bench/run.py --help`.

The benchmark is a package whose `__main__.py` does the work. It is started with `tests/` alone on the import path,
since the repository's root would hide the pyfaas that is installed, which is the one to measure.
"""

from __future__ import annotations

import pathlib
import runpy
import sys

if __name__ == "__main__":
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    runpy.run_module("bench", run_name="__main__", alter_sys=True)
