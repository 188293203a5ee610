"""Attacks by what any process can do: descriptors, signals, children, output, memory."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import resource
import signal
import time

from .instance import LIBC, PR_SET_PDEATHSIG, Attacker, attack, in_thread, stop

# ---- descriptors


@attack
def closed(me: Attacker) -> None:
    for fd in me.chance.sample(range(12), me.chance.randrange(1, 12)):
        with contextlib.suppress(OSError):
            os.close(fd)
    me.end()


@attack
def exchanged(me: Attacker) -> None:
    places = (0, 1, 2, me.doorbell)
    for _ in range(me.chance.randrange(1, 4)):
        os.dup2(me.chance.choice(places), me.chance.choice((*places, 30)))
    print("written to whatever that is now", flush=True)


@attack
def another_kind_of_pipe(me: Attacker) -> None:
    with contextlib.suppress(OSError):
        fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, me.chance.choice((4096, 1 << 20)))
    for fd in (1, me.doorbell):
        fcntl.fcntl(fd, fcntl.F_SETFL, me.chance.choice((0, os.O_NONBLOCK, os.O_APPEND)))
    reader = os.open("/proc/self/fd/1", os.O_RDONLY | os.O_NONBLOCK)
    print("x" * me.chance.choice((1, 100_000)))
    with contextlib.suppress(OSError):
        os.read(reader, 1 << 20)


@attack
def all_descriptors(me: Attacker) -> None:
    with contextlib.suppress(OSError):
        while True:
            os.dup(me.chance.choice((0, 1, me.doorbell)))


# ---- processes


@attack
def stopped(me: Attacker) -> None:
    stop()


@attack
def siblings(me: Attacker) -> None:
    """The other instances of this function. (Others of the same user are out of reach by a later layer.)"""
    parent = os.getppid()
    with open(f"/proc/{parent}/task/{parent}/children") as file:
        pids = [int(pid) for pid in file.read().split()]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, me.chance.choice((signal.SIGSTOP, signal.SIGKILL, signal.SIGSEGV)))


@attack
def signalled(me: Attacker) -> None:
    os.kill(os.getpid(), me.chance.randrange(1, 64))


@attack
def many_children(me: Attacker) -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)
    for _ in range(me.chance.randrange(1, 12)):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                me.publish(me.chance.choice((0, 1, 2)))
                with contextlib.suppress(OSError):
                    while True:
                        os.write(1, b"still here\n" * 100)
            os._exit(0)
    me.end()


@attack
def deaf(me: Attacker) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    while True:
        pass


@attack
def ending(me: Attacker) -> None:
    """In the middle of everything."""

    def scribble() -> None:
        for number in range(10**9):
            me.line(number)

    for _ in range(4):
        in_thread(scribble)
    me.end()


@attack
def ending_while_idle(me: Attacker) -> None:
    def wait_and_end() -> None:
        time.sleep(me.chance.random() / 10)
        me.end()

    in_thread(wait_and_end)


# ---- output and memory


@attack
def flood(me: Attacker) -> None:
    chunk = me.chance.choice((b"x", b"\n", b"\xff\xfe\x00", b"\x1b[31m")) * (1 << 16)
    for _ in range(me.chance.choice((1, 50, 10**9))):
        os.write(me.chance.choice((1, 2)), chunk)


@attack
def flood_from_behind(me: Attacker) -> None:
    """Goes on after the reply, from a thread or a child."""

    def write() -> None:
        with contextlib.suppress(OSError):
            while True:
                os.write(1, b"y" * 5000)

    if me.chance.random() < 0.5:
        in_thread(write)
    elif os.fork() == 0:
        write()
        os._exit(0)


@attack
def hungry(me: Attacker) -> None:
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    kept = []
    for _ in range(40):
        kept.append(mmap.mmap(-1, 4 << 20))
        kept[-1][::4096] = b"x" * (len(kept[-1]) // 4096)


@attack
def nothing(me: Attacker) -> None:
    pass
