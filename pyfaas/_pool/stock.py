"""Channels and log pipes made ahead, so that a cold start does not wait for what could be done before it."""

from __future__ import annotations

from typing import NamedTuple

from pyfaas import _native
from pyfaas._pool.logs import LogPipe

#: Sets kept ready, for a whole Runtime. Each holds six descriptors until it is used.
SIZE = 2


class Kit(NamedTuple):
    """What an instance needs before it has a process."""

    channel: _native.Channel
    log: LogPipe

    def close(self) -> None:
        """Let it go unused."""
        self.channel.close()
        self.log.close()


class Stock:
    """A few kits; the pool has them filled up while nobody waits."""

    def __init__(self) -> None:
        self._kits: list[Kit] = []
        self._closed = False

    def take(self) -> Kit:
        """Return a kit. Have the stock filled up soon, when nobody waits for what it is taken for any more."""
        try:
            return self._kits.pop()
        except IndexError:
            return _make()

    def close(self) -> None:
        """Let all go."""
        self._closed = True
        while self._kits:
            self._kits.pop().close()

    def forget(self) -> None:
        """Close descriptors and do nothing else, in a forked child of the host."""
        self._closed = True
        for kit in self._kits:
            kit.channel.forget()
            kit.log.forget()

    def fill(self) -> None:
        """Make what is missing. In the reactor's thread."""
        while len(self._kits) < SIZE and not self._closed:
            try:
                self._kits.append(_make())
            except OSError:
                return  # no descriptors left: whoever needs a kit will hear of it
        if self._closed:
            self.close()


def _make() -> Kit:
    channel = _native.Channel(0)
    try:
        return Kit(channel, LogPipe())
    except BaseException:
        channel.close()
        raise
