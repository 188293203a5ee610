"""Build every fuzz_*.c of this folder with the core under ASan and UBSan, and run them side by side.

    python tests/native/fuzz.py [--seconds 60] [--engine libfuzzer|driver] [name part]...
    python tests/native/fuzz.py --input FILE name          # what a finding says to run
    python tests/native/fuzz.py --grow [--seconds 600]     # keep in corpus/ what reached new places

Starts from corpus/<name>. The engine is libFuzzer where there is a clang with it, otherwise fuzz_main.c, which any gcc
builds. Exit status 0 if nothing was found; an input that was is in reports/fuzz/, with the command that repeats it.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from build import CORE, ENVIRONMENT, FLAGS, HERE, ROOT  # type: ignore[import-not-found]  # beside this file

SANITIZE = "-fsanitize=address,undefined"
DRIVER = HERE / "fuzz_main.c"
REPORTS = ROOT / "reports" / "fuzz"
LONGEST_RUN_S = 20
LONGEST_INPUT = 2048
BUILD_S = 120


@dataclass(frozen=True)
class Engine:
    """A compiler, and whether its own libFuzzer drives the targets."""

    compiler: str
    libfuzzer: bool

    @classmethod
    def found(cls, wanted: str | None) -> Engine:
        """Choose the one that is wanted, or the best there is; exit if the wanted one is missing."""
        if wanted != "driver":
            named = [os.environ.get("CC", ""), "clang", *(f"clang-{number}" for number in range(25, 12, -1))]
            for path in filter(None, map(shutil.which, filter(None, named))):
                if _has_libfuzzer(path):
                    return cls(path, libfuzzer=True)
        if wanted == "libfuzzer":
            sys.exit("no clang with libFuzzer here: apt-get install clang libclang-rt-dev, or CC=…")
        return cls(os.environ.get("CC", "gcc"), libfuzzer=False)

    def build(self, target: Target, folder: Path) -> Path:
        """Compile core and target; return the program."""
        flags = [flag for flag in FLAGS if flag != "-Wno-tsan" or not self.libfuzzer]  # clang knows it not
        compiler = [self.compiler, *flags, SANITIZE, f"-I{CORE}", f"-I{HERE}"]
        program = folder / target.source.stem
        sources = [str(path) for path in sorted(CORE.glob("*.c"))]
        if self.libfuzzer:
            inputs = ["-fsanitize=fuzzer", *target.link, str(target.source), *sources]
            _run([*compiler, *inputs, "-o", str(program)], folder)
            return program
        objects = []  # the core with coverage, target and driver without
        for source in sources:
            objects.append(str(folder / f"{target.name}-{Path(source).stem}.o"))
            _run([*compiler, "-fsanitize-coverage=trace-pc", "-c", source, "-o", objects[-1]], folder)
        _run([*compiler, *target.link, str(target.source), str(DRIVER), *objects, "-o", str(program)], folder)
        return program

    def command(self, target: Target, program: Path, seconds: int, folder: Path) -> list[str]:
        """How to fuzz for so long, from the corpus; `folder` is for what it finds."""
        if not self.libfuzzer:
            return [str(program), str(seconds), *map(str, target.corpus())]
        (folder / "new").mkdir(exist_ok=True)
        return [
            str(program),
            f"-max_total_time={seconds}",
            f"-timeout={LONGEST_RUN_S}",
            f"-max_len={LONGEST_INPUT}",
            f"-artifact_prefix={folder}/",
            "-print_final_stats=1",
            "-verbosity=0",
            "-rss_limit_mb=1024",
            str(folder / "new"),
            str(target.folder),
        ]


@dataclass(frozen=True)
class Target:
    """One fuzz_*.c with its corpus."""

    source: Path

    @property
    def name(self) -> str:
        return self.source.stem.removeprefix("fuzz_")

    @property
    def folder(self) -> Path:
        return Path(HERE, "corpus", self.name)

    @property
    def link(self) -> list[str]:
        """Flags for the linker that its first line asks for."""
        named = re.match(r"/\* link: (\S+)", self.source.read_text())
        return [named[1]] if named else []

    def corpus(self) -> list[Path]:
        return sorted(self.folder.iterdir())

    @classmethod
    def all(cls, parts: list[str]) -> list[Target]:
        sources = [path for path in sorted(HERE.glob("fuzz_*.c")) if path != DRIVER]
        return [cls(path) for path in sources if not parts or any(part in path.name for part in parts)]


def _has_libfuzzer(compiler: str) -> bool:
    with tempfile.TemporaryDirectory(prefix="fuzz-pyfaas-") as folder:
        source = Path(folder, "empty.c")
        source.write_text(
            "#include <stddef.h>\nint LLVMFuzzerTestOneInput(const char *data, size_t size)"
            "{ (void)data, (void)size; return 0; }\n"
        )
        command = [compiler, f"{SANITIZE},fuzzer", str(source), "-o", str(Path(folder, "empty"))]
        return subprocess.run(command, check=False, capture_output=True, timeout=BUILD_S).returncode == 0


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, check=True, timeout=BUILD_S, env=os.environ | {"TMPDIR": str(folder)})


def findings(folder: Path) -> list[bytes]:
    """What a run left behind: libFuzzer's files, or the driver's last input."""
    found = [path.read_bytes() for path in sorted(folder.glob("*-*")) if path.name != "fuzz-last-input"]
    last = folder / "fuzz-last-input"
    if last.exists():
        data = last.read_bytes()
        found.append(data[4 : 4 + int.from_bytes(data[:4], sys.byteorder)])
    return found


def fuzz(engine: Engine, target: Target, seconds: int, folder: Path, *, grow: bool) -> tuple[bool, str]:
    """Fuzz one target: whether nothing was found, and what to print."""
    own, found = folder / target.name, folder / target.name / "found"
    found.mkdir(parents=True)
    program = engine.build(target, own)
    command = engine.command(target, program, seconds, found)
    ended = subprocess.run(
        command,
        cwd=found,
        env=ENVIRONMENT,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=seconds + BUILD_S,
    )
    runs = re.search(r"(?:number_of_executed_units:\s*(\d+))|(\d+) runs", ended.stdout)
    summary = f"{target.name}: {len(target.corpus())} inputs, {seconds} s, {runs[1] or runs[2] if runs else '?'} runs"
    if ended.returncode == 0:
        if grow and engine.libfuzzer:
            _keep(program, target, found / "new")
        return True, f"ok   {summary}"
    lines = [f"FAIL {summary}", ended.stdout[-8000:], *(_save(target, data) for data in findings(found))]
    return False, "\n".join(lines)


def _save(target: Target, data: bytes) -> str:
    REPORTS.mkdir(parents=True, exist_ok=True)
    path = REPORTS / f"{target.name}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    place = path.relative_to(ROOT)
    return (
        f"The input is in {place}; to repeat it: python tests/native/fuzz.py --input {place} {target.name}\n"
        f"Once it is fixed: cp {place} tests/native/corpus/{target.name}/<what it does>"
    )


def _keep(program: Path, target: Target, new: Path) -> None:
    """Put into the corpus what reached places that nothing in it does, however often; the smallest of each."""
    command = [str(program), "-merge=1", "-use_counters=0", "-verbosity=0", str(target.folder), str(new)]
    subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True, timeout=BUILD_S)


def repeat(engine: Engine, target: Target, path: Path) -> int:
    """Run one input."""
    with tempfile.TemporaryDirectory(prefix="fuzz-pyfaas-") as name:
        program = engine.build(target, Path(name))
        arguments = [str(path.resolve())] if engine.libfuzzer else ["0", str(path.resolve())]
        return subprocess.run([str(program), *arguments], cwd=name, env=ENVIRONMENT, check=False).returncode


def main(arguments: list[str]) -> int:
    """Run all targets, as many at a time as there are CPUs, `--seconds` in all."""
    parser = argparse.ArgumentParser(description="Fuzz what reads the bytes of hostile processes.")
    parser.add_argument("--seconds", type=int, default=60, help="in all; builds come on top")
    parser.add_argument("--engine", choices=["libfuzzer", "driver"])
    parser.add_argument("--input", type=Path, help="run this input only")
    parser.add_argument("--grow", action="store_true", help="keep new inputs (libFuzzer only)")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args(arguments)
    targets = Target.all(options.names)
    if not targets:
        sys.exit(f"no target matches {' '.join(options.names)}")
    engine = Engine.found(options.engine)
    if options.input:
        return repeat(engine, targets[0], options.input)
    cpus = min(len(targets), len(os.sched_getaffinity(0)))
    seconds = max(1, options.seconds * cpus // len(targets))
    print(f"{'libFuzzer' if engine.libfuzzer else 'fuzz_main.c'} with {engine.compiler}", flush=True)
    failed = 0
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-pyfaas-") as name,
        concurrent.futures.ThreadPoolExecutor(cpus) as pool,
    ):
        jobs = [pool.submit(fuzz, engine, t, seconds, Path(name), grow=options.grow) for t in targets]
        for job in concurrent.futures.as_completed(jobs):
            fine, text = job.result()
            failed += not fine
            print(text, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
