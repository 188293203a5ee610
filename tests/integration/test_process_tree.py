"""Supervisor → base → warden → template → instance, driven by hand: who says what, who dies when, what is confined."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pyfaas import _native
from pyfaas._ipc import control
from pyfaas._sandbox.plan import DATA_MARGIN_MB, Limits

from .host import PACKAGE, Host, Instance, Watched, adopt_orphans, ended, readable, receive, started

pytestmark = [pytest.mark.integration, pytest.mark.unprivileged]

ECHO = """
import sys
print("init")
def handler(event, context):
    print("called with", event)
    print("and in order", file=sys.stderr)
    return event
"""
RUN = """
import os, sys, time, signal, threading, subprocess
def handler(event, context):
    return eval(event)
def data():
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith("VmData")).split()[1])
"""


@pytest.fixture
def host() -> Iterator[Host]:
    with started() as opened:
        yield opened


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def limits_of(pid: int) -> dict[str, tuple[str, ...]]:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {line[:26].strip(): tuple(line[26:].split()[:2]) for line in lines}


def descriptors_of(pid: int) -> dict[int, str]:
    folder = f"/proc/{pid}/fd"
    return {int(name): os.readlink(f"{folder}/{name}") for name in os.listdir(folder)}


def test_everyone_introduces_itself_and_is_who_it_says(host: Host) -> None:
    assert host.base
    assert host.warden
    template = host.template(ECHO)
    hello = template.hello()
    ready = template.ready()
    assert (ready.a, ready.body, ready.pid) == (0, b"", hello.pid)
    assert 0 < ready.b < 20e9
    instance = host.instance(template)
    assert instance.call({"n": [1, "two", None]}) == {"n": [1, "two", None]}
    names = {
        "pyfaas-super": (host.supervisor.pid, os.getpid()),
        "pyfaas-base": (host.base.pid, host.supervisor.pid),
        "pyfaas-warden": (host.warden.pid, host.base.pid),
        "pyfaas-tmpl": (template.pid, host.warden.pid),
        "pyfaas-inst": (instance.channel.pid, host.warden.pid),
    }
    for name, (pid, parent) in names.items():
        status = status_of(pid)
        assert status["Name"] == name
        assert int(status["PPid"]) == _native.parent_of(pid) == parent
        assert status["Threads"] == "1"


def test_logs_are_complete_and_in_order(host: Host) -> None:
    template = host.template(ECHO)
    template.ready()
    assert template.log.synced() == "init\n"
    instance = host.instance(template)
    assert instance.call(7) == 7
    assert instance.log.synced() == "called with 7\nand in order\n"


def test_an_exit_is_reported_after_the_last_words(host: Host) -> None:
    template = host.template(RUN)
    template.ready()
    for number, event in enumerate(("os._exit(3)", "os.kill(os.getpid(), 9)", "sys.exit(4)", "os.abort()")):
        instance = host.instance(template)
        assert instance.call("1") == 1
        host.adopt(instance)
        wait, _, _ = instance.call(f"[print({number}, 'x' * 60000, flush=True), {event}]")
        assert wait == _native.WAIT_DEAD
        report = host.exit_of(instance.channel.pid)
        code = os.waitstatus_to_exitcode(report.a)
        assert code == (3, -9, 4, -6)[number]
        assert instance.log.text() == f"{number} {'x' * 60000}\n"
        assert report.b > 0
        assert report.c > 1000


def test_an_instance_that_dies_at_once_is_reported(host: Host) -> None:
    template = host.template("import os\nos.register_at_fork(after_in_child=lambda: os._exit(9))\n" + RUN)
    template.ready()
    instance = host.instance(template)
    wait, _, _ = instance.call("1")
    assert wait == _native.WAIT_DEAD
    message = receive(host.socket)
    assert (message.type, os.waitstatus_to_exitcode(message.a)) == (control.EXIT, 9)


@pytest.mark.parametrize(
    ("source", "status"),
    [("import sys; sys.exit(5)", 5), ("raise SystemExit('why')", 1), ("import sys; sys.exit()", 0)],
)
def test_an_exit_in_init_is_the_templates_exit(host: Host, source: str, status: int) -> None:
    template = host.template("print('last words')\n" + source)
    template.hello()
    assert ended(template.socket)
    assert os.waitstatus_to_exitcode(host.exit_of(template.pid).a) == status
    assert template.log.text().startswith("last words\n")


def test_an_error_in_init_is_told_as_data(host: Host) -> None:
    template = host.template("def broken():\n    raise ValueError('no ' + 'x' * 100_000)\nbroken()")
    template.hello()
    message = receive(template.socket)
    error = msgspec.msgpack.decode(message.body)
    assert (message.type, error["errorType"], error["errorMessage"][:5]) == (
        control.INIT_ERROR,
        "ValueError",
        "no xx",
    )
    assert "in broken" in error["stackTrace"][-1]
    assert os.waitstatus_to_exitcode(host.exit_of(template.pid).a) == 1


@pytest.mark.parametrize(
    ("source", "flags", "text"),
    [
        (
            "import threading, time; threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
            1,
            b"threads: ",
        ),
        ("import os; kept = os.pipe()", 2, b"descriptors: "),
        ("import os, time\nif os.fork() == 0: time.sleep(99)", 4, b"child processes"),
        ("import os\nif os.fork() == 0: pass\nelse: os.wait()", 0, b""),
    ],
)
def test_what_init_leaves_behind_is_said(host: Host, source: str, flags: int, text: bytes) -> None:
    ready = host.template(source + "\ndef handler(event, context): pass").ready()
    assert ready.a == flags
    assert ready.body.startswith(text)


def test_a_solo_instance_keeps_its_threads(host: Host) -> None:
    source = (
        f"import threading, time\nthreading.Thread(target=time.sleep, args=(99,), daemon=True).start()\n{RUN}"
    )
    channel = host.channel()
    template = host.template(source, solo=channel)
    channel.release_peer()
    assert template.ready().a == control.LEFT_THREADS
    assert host.warden
    instance = Instance(channel, template.log, host.warden.pid)
    assert instance.call("threading.active_count()") == 2
    assert channel.pid == template.pid


def test_what_a_worker_can_see(host: Host) -> None:
    source = RUN + "\ninit = os.listdir('/proc/self/fd')\n"
    template = host.template(source, env={"MINE": "1", "TZ": "Europe/Vienna"})
    template.ready()
    see = host.instance(template).call
    assert [see(f"os.readlink('/proc/self/fd/{fd}')[:5]") for fd in range(3)] == ["/dev/", "pipe:", "pipe:"]
    assert len(see("os.listdir('/proc/self/fd')")) == 5  # 0, 1, 2, the doorbell, and the listing itself
    assert see("(os.getcwd(), os.getsid(0) == os.getpid(), sys.stdin.read())") == ["/", True, ""]
    environment = see("dict(os.environ)")
    assert environment["MINE"] == "1"
    assert environment["TZ"] == "Europe/Vienna"
    assert environment["AWS_LAMBDA_FUNCTION_NAME"] == "hello"
    assert environment["OMP_NUM_THREADS"] == "1"
    assert not {"HOME", "USER", "VIRTUAL_ENV", "LC_CTYPE"} & set(environment)
    assert see("time.tzname[0]") == "CET"
    assert see("__import__('pyfaas').__version__")
    assert see("'pydantic' in sys.modules or 'asyncio' in sys.modules or 'psutil' in sys.modules") is False
    assert see("subprocess.run(['cat'], capture_output=True).returncode") == 0
    assert see("signal.getsignal(signal.SIGINT) == signal.SIG_DFL") is True


def test_instances_do_not_draw_the_same_numbers(host: Host) -> None:
    template = host.template(
        "import random\nimport numpy\n" + RUN, paths=[p for p in sys.path if p.endswith("-packages")]
    )
    ready = template.ready()
    assert ready.a == 0, ready.body
    event = "[__import__('random').random(), float(__import__('numpy').random.random())]"
    first, second = (host.instance(template).call(event) for _ in range(2))
    assert first[0] != second[0]
    assert first[1] != second[1]


def test_confinement_as_the_kernel_sees_it(host: Host) -> None:
    template = host.template(RUN, plan=Limits(memory=200, scratch=600, open_files=300).pack())
    template.ready()
    instance = host.instance(template)
    assert instance.call("os.umask(0)") == 0o077
    for pid in (template.pid, instance.channel.pid):
        status, limits = status_of(pid), limits_of(pid)
        assert status["NoNewPrivs"] == "1"
        assert int(status["SigBlk"], 16) == 0
        assert int(status["SigIgn"], 16) == (1 << signal.SIGPIPE - 1) | (1 << signal.SIGXFSZ - 1)
        assert limits["Max core file size"] == ("0", "0")
        assert limits["Max open files"] == ("300", "300")
        assert limits["Max file size"] == (str(600 << 20),) * 2
        assert limits["Max data size"] == (str((200 + DATA_MARGIN_MB) << 20),) * 2
        assert limits["Max stack size"] == (str(8 << 20),) * 2
        assert limits["Max locked memory"] == ("65536", "65536")
        assert limits["Max msgqueue size"] == ("0", "0")
        assert limits["Max pending signals"] == ("1024", "1024")
    prctl = "__import__('ctypes').CDLL(None).prctl({}, 0, 0, 0, 0)"
    assert instance.call(prctl.format(3)) == 0  # PR_GET_DUMPABLE
    death = "(lambda n: [__import__('ctypes').CDLL(None).prctl(2, __import__('ctypes').byref(n)), n.value])"
    assert instance.call(f"{death}(__import__('ctypes').c_int())") == [0, signal.SIGKILL]
    grown = "[data(), threading.Thread(target=time.sleep, args=(99,), daemon=True).start(), data()]"
    before, _, after = instance.call(grown)
    assert 1024 <= after - before < 4096  # KB: the stack of a thread, and its arena


def test_without_isolation_it_only_works(host: Host) -> None:
    template = host.template(RUN, plan=Limits(isolation="none").pack())
    template.ready()
    instance = host.instance(template)
    assert instance.call("len(os.listdir('/proc/self/fd'))") == 5
    status = status_of(instance.channel.pid)
    assert status["NoNewPrivs"] == "0"
    assert limits_of(instance.channel.pid)["Max msgqueue size"] != ("0", "0")


def test_trusted_processes_hold_nothing_of_a_function(host: Host) -> None:
    assert host.base
    assert host.warden
    template = host.template(ECHO)
    template.ready()
    instance = host.instance(template)
    assert instance.call(1) == 1
    host.adopt(instance)
    template.log.synced()  # the warden has read everything before this
    if os.geteuid() != 0:  # not dumpable: even its descriptors are out of reach
        with pytest.raises(PermissionError):
            descriptors_of(host.warden.pid)
        return
    kinds = sorted(target.split(":")[0].strip("/[") for target in descriptors_of(host.warden.pid).values())
    assert kinds == ["anon_inode", "anon_inode"] + ["dev/null"] * 3 + ["pipe", "pipe", "socket"]
    assert sorted(descriptors_of(host.base.pid)) == [0, 1, 2, 3]


def test_orphans_are_killed(host: Host) -> None:
    template = host.template(RUN)
    template.ready()
    instance = host.instance(template)
    spawn = "subprocess.Popen(['sleep', '99'], start_new_session=True).pid"
    orphan = host.watch(instance.call(spawn))
    host.adopt(instance)
    assert not orphan.dead_within(0.05)
    instance.call("os._exit(0)")
    assert orphan.dead_within(1)


def test_a_template_that_ends_leaves_its_instances(host: Host) -> None:
    template = host.template(RUN)
    template.ready()
    instance = host.instance(template)
    assert instance.call("1") == 1
    host.adopt(instance)
    os.close(template.socket)
    assert os.waitstatus_to_exitcode(host.exit_of(template.pid).a) == 0
    assert instance.call("2") == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_trusted_shrug_off_signals(host: Host, number: int) -> None:
    assert host.warden
    host.warden.kill(number)
    host.supervisor.kill(number)
    assert not host.warden.dead_within(0.05)
    assert not host.supervisor.dead_within(0.0)


class Whole:
    """A tree with an instance that has a child of its own: everything that can survive a death above it."""

    def __init__(self, host: Host) -> None:
        assert host.base
        assert host.warden
        self.template = host.template(RUN)
        self.template.ready()
        self.instance = host.instance(self.template)
        spawn = "subprocess.Popen(['sleep', '99'], start_new_session=True).pid"
        child = host.watch(self.instance.call(spawn))
        instance = host.adopt(self.instance)
        self.below_warden = [host.watch(self.template.pid), instance, child]
        self.below_base = [host.warden, *self.below_warden]
        self.below_supervisor = [host.base, *self.below_base]


def assert_dead(processes: list[Watched], seconds: float = 1.0) -> None:
    deadline = time.monotonic() + seconds
    for process in processes:
        assert process.dead_within(max(0.0, deadline - time.monotonic())), Path(
            f"/proc/{process.pid}/status"
        ).read_text()


def test_the_death_of_the_warden_ends_its_function_only(host: Host) -> None:
    whole = Whole(host)
    assert host.warden
    assert host.base
    host.warden.kill()
    assert_dead(whole.below_base)
    assert ended(host.socket)
    host.start_warden()
    assert Whole(host).instance.call("3") == 3
    assert not host.base.dead_within(0)


def test_a_dead_base_is_replaced(host: Host) -> None:
    whole = Whole(host)
    assert host.base
    host.base.kill()
    assert_dead(whole.below_supervisor)
    died = receive(host.control)
    assert (died.type, died.a, died.token) == (control.BASE_DIED, signal.SIGKILL, host.base.pid)
    host.wait_base()
    host.start_warden()
    assert Whole(host).instance.call("3") == 3


def test_a_request_to_a_dead_base_is_not_lost(host: Host) -> None:
    assert host.base
    host.base.kill()
    assert host.base.dead_within(5)
    assert receive(host.control).type == control.BASE_DIED
    ours, theirs = _native.socketpair()
    host.own(ours)
    _native.send(host.control, control.START, token=1, fds=(theirs,))
    os.close(theirs)
    assert receive(ours)[:2] == (control.HELLO, control.WARDEN)


def test_a_base_that_never_lives_is_given_up() -> None:
    host = Host(executable="/bin/false")
    try:
        assert receive(host.control)[:2] == (control.HELLO, control.SUPERVISOR)
        for _ in range(5):
            assert receive(host.control).type == control.BASE_DIED
        failure = control.Failure.of(receive(host.control))
        assert failure.step == "keep base alive"
        assert ended(host.control)
    finally:
        host.close()


def test_the_death_of_the_supervisor_ends_everything(host: Host) -> None:
    adopt_orphans()
    whole = Whole(host)
    own_child = whole.below_warden.pop()  # no one is left to find it: it comes to us
    whole.below_supervisor.remove(own_child)
    host.supervisor.kill()
    assert_dead([host.supervisor, *whole.below_supervisor])
    assert ended(host.control)
    own_child.kill()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break


def test_the_end_of_the_hosts_socket_ends_everything(host: Host) -> None:
    whole = Whole(host)
    os.close(host.control)
    assert_dead([host.supervisor, *whole.below_supervisor])


HOST_THAT_IS_KILLED = """
import sys, os, time, ctypes
sys.path.insert(0, sys.argv[1])
from tests.integration.host import started
from tests.integration.test_process_tree import Whole
with started() as host:
    whole = Whole(host)
    keep = os.fork()  # a child of the host that holds all its sockets: their end is not enough
    if keep == 0:
        time.sleep(99)
    print(keep, host.supervisor.pid, *(process.pid for process in whole.below_supervisor), flush=True)
    time.sleep(99)
"""


def test_a_killed_host_takes_everything_along() -> None:
    adopt_orphans()
    command = [sys.executable, "-c", HOST_THAT_IS_KILLED, str(PACKAGE.parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        keep, *below = [Watched(int(pid)) for pid in process.stdout.readline().split()]
        process.kill()
        assert_dead(below)
        keep.kill()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    for watched in (keep, *below):
        os.close(watched.fd)


def test_an_idle_tree_sleeps(host: Host) -> None:
    assert host.base
    assert host.warden
    whole = Whole(host)
    processes = [host.supervisor, *whole.below_supervisor[:-1]]

    def switches() -> list[str]:
        return [status_of(process.pid)["voluntary_ctxt_switches"] for process in processes]

    readable(host.socket, 1.5)  # nothing comes; whatever was still under way has ended
    before = switches()
    readable(host.socket, 1.5)
    assert switches() == before
