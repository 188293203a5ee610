"""Frame → handler → frame, until the host is gone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

from pyfaas._ipc import frames
from pyfaas._worker import failure, logs

if TYPE_CHECKING:
    from pyfaas._worker.handler import Handler


class Peer(Protocol):
    """The instance's end of the channel (`_native.Peer`)."""

    def receive(self) -> tuple[int, Any, bytes, int] | None:
        """Wait for a request: its kind, payload, id and deadline. `None`: the host is gone."""
        ...

    def reply(self, kind: int, payload: Any, /) -> None:
        """Send the reply, and empty the list if it is one.

        Raises:
            MemoryError: What the function keeps of its event does not fit. One more reply may be sent, and no more.
        """
        ...


def serve(peer: Peer, handler: Handler) -> None:
    """Serve requests until the host is gone. What the function wrote is in the log pipe before its reply is sent.

    Raises:
        SystemExit: The function wants its process to end.
    """
    receive, reply, call = peer.receive, peer.reply, handler.__call__
    while True:
        try:
            request = receive()
        except MemoryError:  # the event does not fit beside what is there
            reply(frames.ERROR, failure.OUT_OF_MEMORY)
            continue
        if request is None:
            return
        kind, payload = call(*request)
        out, err = sys.stdout, sys.stderr
        # User code may have put anything there. `dirty` is a class attribute of ours; of others nothing is known.
        if not (type(out) is type(err) is logs.LogStream) or out.dirty or err.dirty:
            logs.flush()
        try:
            reply(kind, payload)
        except MemoryError:
            reply(frames.ERROR, failure.OUT_OF_MEMORY)
            return
