"""The template: runs a function's init once; each instance is a fork of it.

It is forked by the warden and confined before Python runs again (native/bindings/process.c), so that what
follows here is the first moment at which code and settings of the function are read.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import sys
import time
from typing import Any, NamedTuple, NoReturn

import msgspec

from pyfaas import _native
from pyfaas._ipc import control
from pyfaas._worker import environment, failure, handler, leftovers, logs, loop

_FAILED_EXIT = 111
_TEXT_MAX = 4096


class Order(NamedTuple):
    """What the warden was told; descriptors are this process's own, -1 where there is none."""

    id: int
    plan: bytes
    parent: int
    socket: int
    code: int
    settings: int
    region: int
    doorbell: int

    @property
    def solo(self) -> bool:
        """Whether this process is the instance itself: init leaves behind what a fork cannot copy."""
        return self.doorbell >= 0


def run(order: Order) -> NoReturn:
    """Run init, then fork instances until the host has no more use for this template."""
    _native.send(order.socket, control.HELLO, a=control.TEMPLATE_ROLE, token=os.getpid())
    served = _initialise(order)
    if order.solo:
        _serve(order.region, order.doorbell, served, hello=True)
    reseed = _seeds()
    gc.collect()
    gc.freeze()
    try:
        instance = _native.template_loop(order.socket, order.plan, order.parent)
    except OSError as error:
        _fail(order.socket, "serve as template", error)
    if instance is None:
        os._exit(0)
    region, doorbell, _ = instance
    for seed in reseed:
        with contextlib.suppress(Exception):
            seed()
    _serve(region, doorbell, served, hello=False)  # it was said right after the fork


def _initialise(order: Order) -> handler.Handler:
    settings = _read(order.settings)
    code = _read(order.code)
    os.environ.clear()
    os.environ.update(environment.variables(settings))
    time.tzset()
    sys.path += [path for path in settings["paths"] if path not in sys.path]
    own = os.getpid()
    start = time.monotonic_ns()
    try:
        served = handler.load(settings, code)
    except SystemExit as error:
        _exit(_status(error))
    except BaseException as error:  # noqa: BLE001  # whatever user code raises is its init error
        _native.send(order.socket, control.INIT_ERROR, body=_described(error))
        _exit(1)
    if os.getpid() != own:
        os._exit(0)  # a child that init forked and that came back from it
    spent = time.monotonic_ns() - start
    logs.flush()
    flags, text = leftovers.find({order.socket, order.region, order.doorbell})
    _native.send(order.socket, control.READY, a=flags, b=spent, body=text.encode()[:_TEXT_MAX])
    return served


def _serve(region: int, doorbell: int, served: handler.Handler, *, hello: bool) -> NoReturn:
    try:
        peer = _native.Peer(region, doorbell, log=1)
        if hello:
            peer.hello()
    except OSError as error:
        if hello:
            _fail(doorbell, "open channel", error)
        print(f"pyfaas: cannot open the channel: {error}", file=sys.stderr)
        _exit(_FAILED_EXIT)
    try:
        loop.serve(peer, served)
    except SystemExit as error:
        _exit(_status(error))
    _exit(0)


def _fail(socket: int, step: str, error: OSError) -> NoReturn:
    failed = control.Failure(error.errno or errno.EIO, step, str(error))
    with contextlib.suppress(OSError):
        _native.send(socket, control.FAILED, a=failed.errno, body=failed.body())
    os._exit(_FAILED_EXIT)


def _described(error: BaseException) -> bytes:
    """Log the error, and return it as data, cut so that it fits into one message."""
    description = failure.describe(error)
    failure.log(description)
    description["errorMessage"] = description["errorMessage"][:_TEXT_MAX]
    trace = description["stackTrace"]
    while len(body := msgspec.msgpack.encode(description)) > control.BODY_MAX:
        del trace[len(trace) // 2]
    return body


def _read(fd: int) -> dict[str, Any]:
    try:
        content: dict[str, Any] = msgspec.msgpack.decode(_native.read_memfd(fd))
    finally:
        os.close(fd)
    return content


def _exit(status: int) -> NoReturn:
    """End without finalising: no destructor and no exit hook of the user's gets another chance to hang."""
    logs.flush()
    os._exit(status)


def _status(error: SystemExit) -> int:
    """Return what `sys.exit(code)` makes the process's status, and print what it prints."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def _seeds() -> list[Any]:
    """What keeps instances from all drawing the same numbers. CPython does it for `random`, nobody for numpy."""
    numpy = sys.modules.get("numpy.random")
    return [] if numpy is None else [numpy.seed]
