"""Control messages: the numbers are the core's, the bytes arrive as they were sent."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyfaas import _native
from pyfaas._ipc import control

HEADER = Path(__file__).parents[3] / "native" / "core" / "pf_control.h"


@pytest.fixture
def pair() -> Iterator[tuple[int, int]]:
    ours, theirs = _native.socketpair()
    yield ours, theirs
    for fd in (ours, theirs):
        with contextlib.suppress(OSError):
            os.close(fd)


def fill(fd: int) -> None:
    while True:
        _native.send(fd, control.HELLO)


def received(fd: int, max_fds: int = 0) -> control.Message:
    got = _native.recv(fd, max_fds, creds=True)
    assert got is not None
    return control.Message(*got)


def test_numbers_are_those_of_the_core() -> None:
    text = HEADER.read_text()
    names = {f"PF_{name}": value for name, value in vars(control).items() if isinstance(value, int)}
    defined = dict(re.findall(r"\b(PF_\w+) (?:=\s+)?(\d+)", text))
    assert len(defined) == len(names)
    assert {name: int(value) for name, value in defined.items()} == names
    assert control.HEADER.size == 32


def test_a_message_arrives_as_it_was_sent(pair: tuple[int, int]) -> None:
    ours, theirs = pair
    _native.pass_creds(ours)
    body = bytes(range(256)) * 200
    _native.send(
        theirs, control.TEMPLATE, a=-1, token=2**64 - 1, b=-(2**63), c=7, body=body, fds=(theirs, theirs)
    )
    got = received(ours, 2)
    assert got[:6] == (control.TEMPLATE, -1, 2**64 - 1, -(2**63), 7, body)
    assert got.pid == os.getpid()
    for fd in got.fds:
        assert os.fstat(fd).st_ino == os.fstat(theirs).st_ino
        assert not os.get_inheritable(fd)
        os.close(fd)


def test_empty_full_and_gone_are_told_apart(pair: tuple[int, int]) -> None:
    ours, theirs = pair
    with pytest.raises(BlockingIOError):
        _native.recv(ours)
    with pytest.raises(BlockingIOError):
        fill(ours)
    os.close(theirs)
    assert _native.recv(ours) is None
    with pytest.raises(BrokenPipeError):
        _native.send(ours, control.HELLO)


def test_descriptors_beyond_the_wanted_are_refused(pair: tuple[int, int]) -> None:
    ours, theirs = pair
    _native.send(theirs, control.HELLO, fds=(0,))
    with pytest.raises(OSError, match="Protocol error"):
        _native.recv(ours)
    with pytest.raises(ValueError, match="at most 6 descriptors, not 7"):
        _native.send(theirs, control.HELLO, fds=[0] * 7)
    with pytest.raises(ValueError, match="at most 60000 bytes, not 60001"):
        _native.send(theirs, control.HELLO, body=bytes(60_001))


@pytest.mark.parametrize(
    ("body", "step", "detail"),
    [
        (b"set limits\0NOFILE", "set limits", "NOFILE"),
        (b"only a step", "only a step", ""),
        (b"", "", ""),
        (b"\xff\xfe\0\xff\0x", "��", "�\0x"),
    ],
)
def test_any_bytes_make_a_failure(body: bytes, step: str, detail: str) -> None:
    failure = control.Failure.of(control.Message(control.FAILED, a=1, token=9, body=body))
    assert failure == control.Failure(1, step, detail, 9)


@pytest.mark.parametrize("errno", [-1, 0, 4096, 2**31 - 1])
def test_an_impossible_errno_is_none(errno: int) -> None:
    assert control.Failure.of(control.Message(control.FAILED, a=errno)).errno == 0


def test_a_failure_survives_the_crossing() -> None:
    failure = control.Failure(13, "open channel", "Permission denied")
    message = control.Message(control.FAILED, a=failure.errno, body=failure.body())
    assert control.Failure.of(message) == failure


def test_sealed_memory_is_read_and_never_written() -> None:
    fd = _native.memfd_sealed("test", b"abc" * 1000)
    try:
        assert _native.read_memfd(fd) == b"abc" * 1000
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
    finally:
        os.close(fd)


def test_an_unsealed_file_is_not_read(tmp_path: Path) -> None:
    with (
        (tmp_path / "file").open("w+b") as file,
        pytest.raises(OSError, match=r"Invalid argument|not permitted"),
    ):
        _native.read_memfd(file.fileno())  # a tmpfs knows seals, and this file has none
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    with pytest.raises(PermissionError):
        _native.read_memfd(fd)
    os.close(fd)


def test_processes_are_named_by_pidfd() -> None:
    fd = _native.pidfd_open(os.getpid())
    _native.pidfd_kill(fd, 0)
    os.close(fd)
    assert _native.parent_of(os.getpid()) == os.getppid()
    with pytest.raises(ProcessLookupError):
        _native.parent_of(2**22 + 1)


def test_a_ring_keeps_the_latest() -> None:
    ring = _native.LogRing(4096)
    assert ring.head == 0
    assert ring.read(0) == (b"", 0, 0)
    assert ring.read(10) == (b"", 0, 10)
    assert os.fstat(ring.fileno()).st_size == 8192
    ring.release_fd()
    with pytest.raises(ValueError, match="released"):
        ring.fileno()
    assert ring.read(0) == (b"", 0, 0)
    ring.close()
    ring.close()
    with pytest.raises(ValueError, match="closed"):
        ring.read(0)


@pytest.mark.parametrize("size", [-1, 0, 4095, 4097, 2**27])
def test_a_ring_has_a_power_of_two_of_bytes(size: int) -> None:
    with pytest.raises(ValueError, match=f"not {size}"):
        _native.LogRing(size)


def test_a_sync_that_nobody_answers_ends(pair: tuple[int, int]) -> None:
    ours, theirs = pair
    ring = _native.LogRing()
    assert ring.sync(ours, 1, 0.001) is False
    assert received(theirs).type == control.SYNC
    os.close(theirs)
    assert ring.sync(ours, 1, 10) is False  # at once: the socket says so
    ring.close()
