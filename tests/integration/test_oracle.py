"""What the confinement of an instance looks like from outside, and to a library that is not ours."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import pyfaas


@pytest.fixture
def rt() -> Iterator[pyfaas.Runtime]:
    with pyfaas.Runtime() as runtime:
        yield runtime


def own_pid(event: Any, context: Any) -> int:
    return os.getpid()


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_kernel_shows_what_was_set(rt: pyfaas.Runtime) -> None:
    pid = rt.register("pid", code=own_pid, ephemeral_storage=512).invoke({})
    instance = psutil.Process(pid)
    status = status_of(pid)
    assert status["NoNewPrivs"] == "1"
    assert int(status["SigBlk"], 16) == 0
    assert instance.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert instance.rlimit(psutil.RLIMIT_NOFILE) == (1024, 1024)
    assert instance.rlimit(psutil.RLIMIT_MSGQUEUE) == (0, 0)
    soft, hard = instance.rlimit(psutil.RLIMIT_FSIZE)
    assert soft == hard == 512 * 2**20
    soft, hard = instance.rlimit(psutil.RLIMIT_DATA)
    assert soft == hard != resource.RLIM_INFINITY
    assert os.getsid(pid) == pid


def test_instance_descends_from_the_supervisor_not_from_the_host(rt: pyfaas.Runtime) -> None:
    instance = psutil.Process(rt.register("pid", code=own_pid).invoke({}))
    host = psutil.Process()
    parents = instance.parents()
    assert host in parents
    assert instance.ppid() != host.pid
    # exec'd: nothing between it and the host shares the host's program arguments
    assert all(parent.cmdline() != host.cmdline() for parent in parents[: parents.index(host)])


def test_environment_and_descriptors_are_not_the_hosts(
    rt: pyfaas.Runtime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYFAAS_SECRET_OF_THE_HOST", "1")
    with (tmp_path / "open").open("w") as kept:
        os.set_inheritable(kept.fileno(), True)
        seen = rt.register("see", code=see).invoke({})
    assert "PYFAAS_SECRET_OF_THE_HOST" not in seen["env"]
    assert not [target for target in seen["fds"].values() if "open" in target]
    assert seen["fds"]["0"] == "/dev/null"
    assert len(seen["fds"]) <= 4, seen["fds"]


def see(event: Any, context: Any) -> dict[str, Any]:
    fds = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            fds[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return {"env": dict(os.environ), "fds": fds}


def test_python_prctl_agrees(rt: pyfaas.Runtime) -> None:
    pytest.importorskip("prctl", reason="this machine: no python-prctl; it needs libcap-dev to be installed")
    seen = rt.register("ask", code=ask_prctl).invoke({})
    assert seen == {"no_new_privs": 1, "dumpable": 0, "pdeathsig": 9}


def ask_prctl(event: Any, context: Any) -> dict[str, int]:
    import prctl

    return {
        "no_new_privs": prctl.get_no_new_privs(),
        "dumpable": int(prctl.get_dumpable()),
        "pdeathsig": prctl.get_pdeathsig(),
    }
