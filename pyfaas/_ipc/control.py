"""The messages between host, supervisor, base, warden, template and instance.

One message is one datagram: a 32-byte header, a body of at most `BODY_MAX` bytes and a few descriptors.
`_native.send` and `_native.recv` carry them; the numbers are those of native/core/pf_control.h.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

HELLO: Final = 1
"""Anyone → host, the first on its socket. a: role; token: its own pid as it sees it."""
START: Final = 2
"""Host → supervisor → base. token: key; descriptor: the socket of the warden to be."""
FAILED: Final = 3
"""Anyone → host. a: errno; token: what it was about; body: step and detail, see `Failure`."""
BASE_DIED: Final = 4
"""Supervisor → host. a: wait status; token: pid."""
TEMPLATE: Final = 5
"""Host → warden. token: template id; b: the id of its log, or 0 if that is confirmed by `ADOPTED`.

Descriptors: socket, code, settings, log pipe's write end; for a solo instance also region and doorbell.
Body: the packed plan of its confinement.
"""
ADOPT: Final = 6
"""Host → warden, before the process is asked for. token: log id; descriptors: log pipe's read end, log ring.

Until `ADOPTED` or `DROP`, and for 10 s at most, the warden takes no child that was born since for an orphan.
"""
SYNC: Final = 7
"""Host → warden. token: log id. Pump the pipe, then acknowledge in the ring (`LogRing.sync` sends it)."""
DROP: Final = 8
"""Host → warden. token: log id. Stop pumping; a process that was announced with it is not expected any more."""
EXIT: Final = 9
"""Warden → host. token: pid; a: wait status; b: CPU time in µs; c: peak RSS in KB. All its output is in the ring.

It comes for templates and confirmed instances, and for any unknown child while an announcement is open: an
instance can be dead before the host knows its pid.
"""
FORK: Final = 10
"""Host → template. token: instance id; descriptors: region, doorbell, log pipe's write end."""
READY: Final = 11
"""Template → host. a: what init left behind (`LEFT_…`); b: wall time of init in ns; body: the same as text."""
INIT_ERROR: Final = 12
"""Template → host. body: MessagePack map of errorType, errorMessage, stackTrace."""
ADOPTED: Final = 13
"""Host → warden. token: log id; a: pid. This is the process that was announced."""

SUPERVISOR: Final = 1
BASE: Final = 2
WARDEN: Final = 3
TEMPLATE_ROLE: Final = 4
INSTANCE: Final = 5

LEFT_THREADS: Final = 1
LEFT_DESCRIPTORS: Final = 2
LEFT_CHILDREN: Final = 4

BODY_MAX: Final = 60_000
FDS_MAX: Final = 6
HEADER: Final = struct.Struct("=IiQqq")


class Message(NamedTuple):
    """A message as `_native.recv` returns it."""

    type: int
    a: int = 0
    token: int = 0
    b: int = 0
    c: int = 0
    body: bytes = b""
    fds: tuple[int, ...] = ()
    """Owned by whoever received it."""
    pid: int = 0
    """The sender as the kernel sees it; 0 unless asked for."""


class Failure(NamedTuple):
    r"""A step that failed in a process below the host: which, why, and on what.

    >>> Failure.of(Message(FAILED, a=1, token=7, body=b"set limits\0pyfaas-tmpl"))
    Failure(errno=1, step='set limits', detail='pyfaas-tmpl', token=7)
    """

    errno: int
    step: str
    detail: str
    token: int = 0

    @classmethod
    def of(cls, message: Message) -> Failure:
        """Read a `FAILED` message. It may come from a hostile process: any bytes make a failure, none an error."""
        step, _, detail = message.body[:4096].partition(b"\0")
        return cls(
            errno=message.a if 0 < message.a < 4096 else 0,
            step=step.decode("utf-8", "replace"),
            detail=detail.decode("utf-8", "replace"),
            token=message.token,
        )

    def body(self) -> bytes:
        """Return the body of the message that says this."""
        return self.step.encode() + b"\0" + self.detail.encode()
