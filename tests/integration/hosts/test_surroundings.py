"""What surrounds a host: its folder, standard streams, interpreter, environment and limits."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .driver import PATHS, Driver, environment

pytestmark = [pytest.mark.integration, pytest.mark.unprivileged]

#: Cold and warm calls, output, an error, a large value, a death and a new version.
WORK = """
def all_of_it(event, context):
    print("out")
    print("err", file=sys.stderr, flush=True)
    if event == "fail":
        raise ZeroDivisionError
    if event == "die":
        os._exit(3)
    return [event, os.getcwd()]

def work():
    with pyfaas.Runtime() as rt:
        function = rt.register("all", all_of_it)
        assert function.invoke("x" * 1_000_000) == ["x" * 1_000_000, "/"]
        assert list(function.map([1, 2, 3])) == [[1, "/"], [2, "/"], [3, "/"]]
        failed, died = function.call("fail"), function.call("die")
        assert failed.error.error_type == "ZeroDivisionError", failed.error
        assert "out\\n" in failed.logs and "err\\n" in failed.logs, failed.logs
        assert died.error.exit_code == 3, died.error
        rt.register("all", nap)
        assert function.invoke(0) == 0
"""
RUN = WORK + "work()\nleave()\n"


# Folders


def test_a_changed_folder(hosts: Driver) -> None:
    hosts.run_quiet(
        WORK
        + """
rt = pyfaas.Runtime()
function = rt.register("nap", nap)
function.invoke(0)
os.chdir("/")
assert function.invoke(0) == 0
assert rt.register("other", nap).invoke(0) == 0
work()
leave()
"""
    )


def test_a_deleted_folder(hosts: Driver, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    hosts.run_quiet(
        WORK
        + """
rt = pyfaas.Runtime()
function = rt.register("nap", nap)
os.rmdir(os.getcwd())
assert function.invoke(0) == 0
assert rt.register("other", nap).invoke(0) == 0
work()
leave()
""",
        cwd=gone,
    )


def test_a_folder_that_was_gone_before_the_start(hosts: Driver, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    hosts.run_quiet(RUN, before=["sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh"], cwd=gone)


def test_functions_of_a_file_in_the_current_folder(hosts: Driver, tmp_path: Path) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "handlers.py").write_text("def double(event, context):\n    return 2 * event\n")
    hosts.run_quiet(
        """
with pyfaas.Runtime() as rt:
    assert rt.register("file", "handlers.py:double").invoke(2) == 4
    sys.path.insert(0, "")
    function = rt.register("module", "handlers:double")
    os.chdir("/")
    assert function.invoke(3) == 6
leave()
""",
        cwd=folder,
    )


def test_a_home_that_cannot_be_written(hosts: Driver, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    env = environment(HOME=str(home), XDG_CACHE_HOME=str(home), TMPDIR=str(home))
    hosts.run_quiet(RUN, env=env)


# Standard streams


@pytest.mark.parametrize("closed", ["0", "2", "0 1 2"])
def test_closed_standard_streams(hosts: Driver, closed: str, tmp_path: Path) -> None:
    """What takes the free numbers in the host or below it must not be taken for a stream."""
    mark = tmp_path / "mark"
    shell = "; ".join(f"exec {fd}>&-" for fd in closed.split())
    program = WORK + f"work()\nopen({str(mark)!r}, 'w').close()\n"
    ended = hosts.run(program, before=["sh", "-c", f'{shell}; exec "$@"', "sh"])
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    assert mark.exists()


def test_streams_that_are_closed_later(hosts: Driver, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    ended = hosts.run(f"os.closerange(0, 3)\n{WORK}work()\nopen({str(mark)!r}, 'w').close()\nos._exit(0)")
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    assert mark.exists()


def test_standard_error_that_nobody_reads(hosts: Driver) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    ended = hosts.run(RUN, stderr=write_end)
    os.close(write_end)
    assert ended.status == 0


# The interpreter


@pytest.mark.parametrize(
    "flags", [["-I"], ["-S"], ["-I", "-S", "-B"], ["-OO"], ["-X", "dev", "-W", "error"]], ids=" ".join
)
def test_flags_of_the_interpreter(hosts: Driver, flags: list[str]) -> None:
    hosts.run_quiet(RUN, flags=flags, paths=True)


@pytest.mark.parametrize("links", [True, False], ids=["links", "copies"])
def test_a_virtual_environment(hosts: Driver, tmp_path: Path, links: bool) -> None:
    """Its interpreter knows by its own place alone where its libraries are."""
    folder = tmp_path / "env"
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", "--symlinks" if links else "--copies", folder],
        check=True,
    )
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / "ours.pth").write_text("\n".join(PATHS))
    (packages / "only_here.py").write_text("VALUE = 7\n")
    env = environment()
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        env.pop(name, None)
    hosts.run_quiet(
        WORK
        + """
assert sys.prefix != sys.base_prefix
work()

def uses_library(event, context):
    import only_here
    return only_here.VALUE

with pyfaas.Runtime() as rt:
    assert rt.register("library", uses_library).invoke() == 7
leave()
""",
        python=str(folder / "bin/python"),
        env=env,
    )


def test_strange_entries_of_sys_path(hosts: Driver, tmp_path: Path) -> None:
    archive = tmp_path / "app.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped.py", "def handler(event, context):\n    return ['zipped', event]\n")
    (tmp_path / "with space é").mkdir()
    hosts.run_quiet(
        WORK
        + f"""
from pathlib import Path
sys.path[:0] = ["", ".", {str(archive)!r}, "/nonexistent/site-packages", "/etc/hostname"]
sys.path[:0] = [{str(tmp_path / "with space é")!r}]
sys.path.append(Path("/nonexistent/dist-packages"))
work()
import zipped
with pyfaas.Runtime() as rt:
    assert rt.register("zipped", zipped.handler).invoke(1) == ["zipped", 1]
leave()
"""
    )


def test_an_entry_of_sys_path_that_is_no_text(hosts: Driver) -> None:
    """Python passes over what is no text there."""
    hosts.run_quiet(WORK + "sys.path += [b'/bytes/site-packages', None]\nwork()\nleave()\n")


def test_an_interpreter_that_is_not_there(hosts: Driver) -> None:
    """Where Python is embedded, `sys.executable` may be anything."""
    ended = hosts.run_quiet("""
sys.executable = "/nonexistent/python"
try:
    pyfaas.Runtime().register("nap", nap).invoke(0)
except pyfaas.PyFaasError as error:
    print(error)
leave()
""")
    assert "/nonexistent/python" in ended.lines[0]


# The environment


@pytest.mark.parametrize(
    "variables",
    [
        {"LANG": "C", "LC_ALL": "C"},
        {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONMALLOC": "debug", "PYTHONHASHSEED": "0", "PATH": ""},
    ],
    ids=" ".join,
)
def test_environment_variables(hosts: Driver, variables: dict[str, str]) -> None:
    program = """
with pyfaas.Runtime() as rt:
    out = rt.register("echo", lambda event, context: print(event) or event).call("äöü€😀")
    assert out.value == "äöü€😀", ascii(out)
    assert "äöü€😀" in out.logs, ascii(out)
"""
    hosts.run_quiet(WORK + "work()" + program + "leave()", env=environment(**variables))


def test_no_environment_at_all(hosts: Driver) -> None:
    hosts.run_quiet(RUN, paths=True, env={})


@pytest.mark.parametrize("mask", ["077", "777"])
def test_a_umask(hosts: Driver, mask: str) -> None:
    hosts.run_quiet(f"os.umask(0o{mask})\n" + RUN)


# Limits

LIMITED = """
import resource
from pyfaas import runtime  # with all that it needs

def tried():
    "Whether a Runtime works, or what it says instead."
    begin = time.monotonic()
    try:
        with pyfaas.Runtime() as rt:
            function = rt.register("nap", nap)
            outcomes = [function.call(0), *function.map([0.05] * 3, outcomes=True)]
        errors = [outcome.error for outcome in outcomes if not outcome.ok]
    except BaseException as error:
        errors = [error]
    assert time.monotonic() - begin < 10, errors
    return errors

def with_limit(kind, number):
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (number, before[1]))
    try:
        return tried()
    finally:
        resource.setrlimit(kind, before)
"""
ADDRESS_SPACE = """
with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
assert with_limit(resource.RLIMIT_AS, size + (1 << 30)) == []
assert with_limit(resource.RLIMIT_DATA, 1 << 30) == []
assert with_limit(resource.RLIMIT_STACK, 1 << 20) == []
leave()
"""
#: The limit counts every process and thread of this user. One by one, each part of the tree is the one too many.
PROCESSES = """
import psutil

def mine():
    count = 0
    for process in psutil.process_iter():
        try:
            if process.uids().real == os.getuid():
                count += process.num_threads()
        except psutil.NoSuchProcess:
            pass
    return count

worked = []
for more in range({begin}, {end}):
    errors = with_limit(resource.RLIMIT_NPROC, mine() + more)
    for error in errors:
        assert isinstance(error, pyfaas.PyFaasError), (more, repr(error))
        if {strict}:
            assert "bug" not in str(error), (more, error)
        print(more, error)
    worked.append(not errors)
assert tried() == []
leave()
"""
#: Root may have as many processes as it likes. This is somebody else, who can read the same files.
_READS = "+dac_read_search,+dac_override"
SOMEBODY = [] if os.geteuid() else [
    "setpriv", "--reuid=54321", "--regid=54321", "--clear-groups",
    f"--inh-caps={_READS}", f"--ambient-caps={_READS}", f"--bounding-set=-all,{_READS}",
]  # fmt: skip


def test_limits_that_leave_enough(hosts: Driver) -> None:
    hosts.run_quiet(LIMITED + ADDRESS_SPACE)


def test_a_limit_of_processes(hosts: Driver) -> None:
    program = LIMITED + PROCESSES.format(begin=4, end=14, strict=False)
    ended = hosts.run(
        program, before=SOMEBODY, seconds=60
    )  # a base that cannot start says so on standard error
    assert ended.status == 0, ended
    assert ended.lines


def test_a_limit_of_processes_that_leaves_none(hosts: Driver) -> None:
    ended = hosts.run(LIMITED + PROCESSES.format(begin=0, end=4, strict=True), before=SOMEBODY)
    assert ended.status == 0, ended
    assert ended.lines
