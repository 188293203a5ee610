"""Hosts that fork: what a child inherits is closed and says so, the parent goes on, and a child can have a Runtime."""

from __future__ import annotations

import pytest

from .driver import Driver, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.unprivileged]

#: Run in a child of whatever kind. It returns what the parent then compares.
CHILD = """
def descriptors():
    # Without the listing's own. What Python itself opens in a child is no socket and no memfd.
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[int(fd)] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            pass
    return found

def in_child(inherited=True):
    said = []
    if inherited:
        submit, register = lambda: function.submit(0).result(5), lambda: rt.register("x", nap)
        for attempt in (function.invoke, submit, register):
            try:
                attempt()
            except pyfaas.RuntimeClosed as error:
                said.append(str(error))
        assert len(said) == 3 and len(set(said)) == 1, said
        theirs = "this Runtime belongs to another process"
        assert said[0] == f"{theirs}; process {os.getpid()} was forked from it: make one here"
        rt.close()
        with rt:
            pass
    with pyfaas.Runtime() as own:
        assert own.register("nap", nap).invoke(0.001) == 0.001
        assert list(own.get("nap").map([0] * 5)) == [0] * 5
    return "fine"
"""
PARENT = """
def started():
    global rt, function
    rt = pyfaas.Runtime()
    function = rt.register("nap", nap, timeout=30)
    function.invoke(0)

def still_works():
    assert function.invoke(0) == 0
    assert list(function.map([0] * 5)) == [0] * 5
    assert rt.statistics().errors == 0
"""
FORK = (
    CHILD
    + PARENT
    + """
started()
busy = function.submit(20)
waiting = threading.Thread(target=function.call, args=(20,), daemon=True)
waiting.start()
wait_busy(rt, 2)
for _ in range(3):
    child = os.fork()
    if child == 0:
        try:
            print(in_child(), flush=True)
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    still_works()
assert busy.cancel()
rt.close(timeout=0)
leave()
"""
)
INHERITED = (
    CHILD
    + PARENT
    + """
before = descriptors()
started()
busy = function.submit(20)
wait_busy(rt, 1)
child = os.fork()
if child == 0:
    print({fd: what for fd, what in descriptors().items() if before.get(fd) != what and not what.startswith("/proc")})
    sys.stdout.flush()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
leave()
"""
)
EXITS = (
    CHILD
    + PARENT
    + """
started()
child = os.fork()  # it ends as Python programs do: with what is registered for the exit
if child == 0:
    sys.exit(in_child() != "fine")
assert os.waitpid(child, 0)[1] == 0
still_works()
rt.close()
leave()
"""
)
THREADS_FORK = (
    CHILD
    + PARENT
    + """
started()
ends = threading.Event()

def busy():
    while not ends.is_set():
        function.invoke(0)
        function.submit(0).result()

def register():
    while not ends.is_set():
        rt.register("other", nap).invoke(0)

threads = [threading.Thread(target=busy) for _ in range(4)] + [threading.Thread(target=register)]
for thread in threads:
    thread.start()
statuses = []
for i in range(%d):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            function.invoke(0)
        except pyfaas.RuntimeClosed:
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(2)
        os._exit(1)
    statuses.append(os.waitpid(child, 0)[1])
ends.set()
for thread in threads:
    thread.join(20)
assert not any(statuses), statuses
still_works()
rt.close()
leave()
"""
)
MULTIPROCESSING = (
    CHILD
    + PARENT
    + """
import multiprocessing

def job(inherited):
    return in_child(inherited)

if __name__ == "__main__":
    started()
    method = sys.argv[1]
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        assert pool.map(job, [method == "fork"] * 2) == ["fine"] * 2
        still_works()
    process = context.Process(target=job, args=(method == "fork",))
    process.start()
    process.join(20)
    assert process.exitcode == 0, process.exitcode
    still_works()
    leave()
"""
)
LEFT_OPEN_IN_CHILD = """
import multiprocessing

def job():
    # Nobody closes this one: a multiprocessing child ends without running what is registered for the exit.
    rt = pyfaas.Runtime()
    rt.register("nap", nap, timeout=30).invoke(0)
    rt.get("nap").submit(20)
    wait_busy(rt, 1)

if __name__ == "__main__":
    process = multiprocessing.get_context(sys.argv[1]).Process(target=job)
    process.start()
    process.join(20)
    assert process.exitcode == 0, process.exitcode
    leave()
"""
EXEC = (
    CHILD
    + PARENT
    + """
import subprocess
SHOW = "import os; print(sorted(int(fd) for fd in os.listdir('/proc/self/fd')))"
plain = subprocess.check_output([sys.executable, "-c", SHOW], close_fds=False)
started()
busy = function.submit(20)
wait_busy(rt, 1)
assert subprocess.check_output([sys.executable, "-c", SHOW], close_fds=False) == plain
read_end, write_end = os.pipe()
pid = os.posix_spawn(sys.executable, [sys.executable, "-c", SHOW], os.environ,
                     file_actions=[(os.POSIX_SPAWN_DUP2, write_end, 1)])
os.waitpid(pid, 0)
assert os.read(read_end, 4096) == plain
still_works()
# A child that lives longer than the host keeps nothing of it alive.
long = subprocess.Popen(["sleep", "50"], close_fds=False)
print(long.pid, flush=True)
leave()
"""
)


def test_a_fork(hosts: Driver) -> None:
    assert hosts.run_quiet(FORK).lines == ["fine"] * 3


def test_a_fork_closes_what_it_inherited(hosts: Driver) -> None:
    assert hosts.run_quiet(INHERITED).lines == ["{}"]


def test_a_fork_that_ends_like_a_program(hosts: Driver) -> None:
    hosts.run_quiet(EXITS)


def test_a_fork_that_outlives_its_parent_keeps_nothing_alive(hosts: Driver) -> None:
    running = hosts.start(
        PARENT
        + CHILD
        + """
started()
child = os.fork()
if child == 0:
    sys.stdin.read()  # until the test closes it
    print(in_child(), flush=True)
    os._exit(0)
print("child", child, flush=True)
time.sleep(50)
""",
        stdin=-1,
    )
    running.wait_line("child")
    tree = running.ours()
    assert len(tree) == 5, tree
    running.kill()
    running.wait()
    hosts.assert_gone(tree)
    assert running.process.stdin
    running.process.stdin.close()
    wait_until(lambda: "fine\n" in running.text(), "the child is fine", now=running.text)
    hosts.assert_nothing_left()


def test_forks_while_other_threads_are_busy(hosts: Driver) -> None:
    hosts.run_quiet(THREADS_FORK % 60)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(hosts: Driver, method: str) -> None:
    hosts.run_quiet(MULTIPROCESSING, arguments=[method])


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing_with_a_runtime_left_open_in_the_child(hosts: Driver, method: str) -> None:
    hosts.run_quiet(LEFT_OPEN_IN_CHILD, arguments=[method])


def test_programs_started_without_close_fds_inherit_nothing(hosts: Driver) -> None:
    running = hosts.start(EXEC)
    ended = running.wait()
    assert (ended.status, ended.err) == (0, ""), ended
    hosts.assert_nothing_left(but={int(ended.lines[0])})
