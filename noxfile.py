"""Every developer verb. Plain `nox` runs what CI runs; `nox -l` lists the rest.

Sessions share one environment: the one that nox runs in, if this tree is installed there with `[dev]`, otherwise
`.nox/env`, which is made on demand. So the extension is compiled once, and again only when its sources change.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import nox

ROOT = Path(__file__).parent
REPORTS = ROOT / "reports"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["tests", "integration", "native", "fuzz", "leaks", "types", "lint"]
nox.options.default_venv_backend = "none"
nox.options.report = "reports/nox.json"
REPORTS.mkdir(exist_ok=True)


@nox.session
def tests(session: nox.Session) -> None:
    """Run unit tests and doctests: fast."""
    pytest(session, "tests", "tests/unit", "pyfaas", "--doctest-modules")


@nox.session
def integration(session: nox.Session) -> None:
    """Run the tests that start real processes."""
    oracle(session)
    pytest(session, "integration", "tests/integration")


@nox.session
def native(session: nox.Session) -> None:
    """Run the C core as plain programs under ASan with UBSan, and under TSan."""
    session.run(python(session), "tests/native/build.py", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz all C that reads what a hostile process writes, under sanitisers: a minute, or `-- --seconds 3600`."""
    session.run(python(session), "tests/native/fuzz.py", *session.posargs)


@nox.session
def leaks(session: nox.Session) -> None:
    """Watch what grows or stays behind over many invocations and after kill -9."""
    pytest(session, "leaks", "tests/leaks")


@nox.session
def hostile(session: nox.Session) -> None:
    """Let ten thousand hostile peers attack a host, some minutes long: `-- --peers 500 --seed 7` for others."""
    session.run(python(session), "-m", "tests.leaks.hostile", *session.posargs)


@nox.session
def types(session: nox.Session) -> None:
    """Check types (mypy, strict) and the extension against its stub."""
    session.run(python(session), "-m", "mypy")
    session.run(
        python(session), "-m", "mypy.stubtest", "--mypy-config-file", "pyproject.toml", "pyfaas._native"
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Check style (ruff, clang-format) and the layers (import-linter)."""
    sources = [str(path.relative_to(ROOT)) for path in c_files()]
    session.run(python(session), "-m", "ruff", "check")
    session.run(python(session), "-m", "ruff", "format", "--check")
    session.run(tool(session, "clang-format"), "--dry-run", "-Werror", *sources)
    session.run(tool(session, "lint-imports"))


@nox.session(name="format")
def reformat(session: nox.Session) -> None:
    """Change the files into the form that lint asks for."""
    session.run(python(session), "-m", "ruff", "check", "--fix", "--exit-zero")
    session.run(python(session), "-m", "ruff", "format")
    session.run(tool(session, "clang-format"), "-i", *map(str, c_files()))


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure which lines of the host's side the unit and integration tests run."""
    run = [python(session), "-m", "coverage"]
    session.run(*run, "run", "-m", "pytest", "-q", "tests/unit", "tests/integration", *session.posargs)
    session.run(*run, "report", "--skip-covered", "--show-missing")


@nox.session
def bench(session: nox.Session) -> None:
    """Print the table of targets, measured beside other process pools, and write it to reports/bench.json."""
    report = f"--json={REPORTS / 'bench.json'}"  # another --json after it wins
    session.run(environment(session, "bench", "bench"), "tests/bench/run.py", report, *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build an sdist and from it a wheel; install that into a fresh environment; run from an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        build = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
        session.run(python(session), "-c", build, folder)
        pip = [python(session), "-m", "pip", "-q", "--disable-pip-version-check"]
        session.run(*pip, "wheel", "--no-deps", "-w", folder, *map(str, Path(folder).glob("*.tar.gz")))
        fresh = Path(folder, "env")
        session.run(python(session), "-m", "venv", str(fresh))
        built = [str(path) for path in Path(folder).glob("*.whl")]
        session.run(str(fresh / "bin/python"), *pip[1:], "install", *built)
        empty = Path(folder, "empty")
        empty.mkdir()
        shutil.copy(ROOT / "examples/hello.py", empty)
        with session.chdir(empty):
            session.run(str(fresh / "bin/python"), "hello.py")


# ---------------------------------------------------------------------------------------------- the environment


def python(session: nox.Session) -> str:
    """The interpreter of the shared environment, with this tree installed and its extension up to date."""
    if not is_ready():
        return environment(session, "env", "dev")
    if is_stale():
        install(session, sys.executable, "dev")
    return sys.executable


def environment(session: nox.Session, name: str, extra: str) -> str:
    """Make or refresh an environment of its own, and return its interpreter."""
    folder = ROOT / ".nox" / name
    interpreter = folder / "bin/python"
    stamp = folder / "stamp.json"
    wanted = json.dumps([sys.version, PYPROJECT["project"]], sort_keys=True)
    if not interpreter.exists() or not stamp.exists() or stamp.read_text() != wanted:
        session.run(sys.executable, "-m", "venv", "--clear", str(folder))
        install(session, str(interpreter), extra)
        stamp.write_text(wanted)
    elif is_stale():
        install(session, str(interpreter), extra)
    return str(interpreter)


def install(session: nox.Session, interpreter: str, extra: str) -> None:
    """Install this tree, editable, with an extra; setuptools compiles the extension into the tree."""
    extension().unlink(missing_ok=True)  # it compiles only what is missing, or older than what it knows of
    session.run(interpreter, "-m", "pip", "-q", "--disable-pip-version-check", "install", "-e", f".[{extra}]")


def is_ready() -> bool:
    """Whether this tree and the tools of `[dev]` are installed where nox runs."""
    try:
        distribution = importlib.metadata.distribution("pyfaas")
        url = json.loads(distribution.read_text("direct_url.json") or "{}").get("url", "")
        if url != ROOT.resolve().as_uri():
            return False
        for tool_name in (
            "pytest",
            "pytest-xdist",
            "anyio",
            "hypothesis",
            "numpy",
            "pandas",
            "pyarrow",
            "attrs",
            "trio",
            "uvloop",
            "gunicorn",
            "uvicorn",
            "celery",
            "ipykernel",
            "jupyter-client",
            "mypy",
            "ruff",
            "clang-format",
            "import-linter",
            "coverage",
        ):
            importlib.metadata.distribution(tool_name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def is_stale() -> bool:
    """Whether a source of the extension is newer than the extension."""
    sources = [ROOT / "pyproject.toml", *(ROOT / "native").rglob("*.[ch]")]
    return not extension().exists() or max(map(modified, sources)) > modified(extension())


def extension() -> Path:
    """Where setuptools puts the extension."""
    return ROOT / "pyfaas/_native.abi3.so"


def modified(path: Path) -> float:
    """When a file was changed."""
    return path.stat().st_mtime


def tool(session: nox.Session, name: str) -> str:
    """A program that is installed beside the interpreter."""
    return str(Path(python(session)).parent / name)


def c_files() -> list[Path]:
    """Our C sources and headers."""
    return sorted(path for folder in ("native", "tests/native") for path in (ROOT / folder).rglob("*.[ch]"))


def pytest(session: nox.Session, name: str, *arguments: str) -> None:
    """Run pytest; its results also go to reports/<name>.xml, where CI adds them up."""
    report = f"--junitxml={REPORTS / name}.xml"
    session.run(python(session), "-m", "pytest", report, *arguments, *session.posargs)


def oracle(session: nox.Session) -> None:
    """Install python-prctl, which tests use to look at confinement from outside; say so if that cannot be done."""
    interpreter = python(session)
    if (
        subprocess.run([interpreter, "-c", "import prctl"], check=False, stderr=subprocess.DEVNULL).returncode
        == 0
    ):
        return
    if not Path("/usr/include/sys/capability.h").exists() and not apt(session, "libcap-dev"):
        session.log(
            "Left out: tests/integration/test_oracle.py. It needs python-prctl, which needs libcap-dev:"
        )
        session.log("    sudo apt-get install libcap-dev")
        return
    session.run(interpreter, "-m", "pip", "-q", "install", "python-prctl>=1.8", success_codes=[0, 1])


def apt(session: nox.Session, *packages: str) -> bool:
    """Install packages of Debian, if this may be done here."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    environ = {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "-qq", "update"],
        ["apt-get", "-qqy", "install", "--no-install-recommends", *packages],
    ):
        if subprocess.run(
            command, env=os.environ | environ, check=False, stdout=subprocess.DEVNULL
        ).returncode:
            session.log(f"{' '.join(command)} failed")
            return False
    return True
