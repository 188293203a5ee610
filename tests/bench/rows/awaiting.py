"""`await fn.ainvoke` beside a round trip of asyncio through pipes; and how long the loop stands still under load."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pyfaas

from ..functions import EVENT, echo
from ..report import Row, duration
from ..sample import Sample, alternate

if TYPE_CHECKING:
    from . import Bench

NAME = "awaiting"
OURS = "await fn.ainvoke"
PIPES = "asyncio + pipe round trip"
LIMIT = 1.5
WARM_UP = 300
CONCURRENT = 100
STEP_LIMIT_NS = 1_000_000


def nap(event: Any, context: Any) -> Any:
    """Sleep for so many seconds: nothing that an attempt could catch."""
    time.sleep(event)
    return event


async def _timed(call: Callable[[], Awaitable[object]], count: int) -> list[int]:
    clock = time.perf_counter_ns
    took = []
    for i in range(WARM_UP + count):
        begin = clock()
        await call()
        if i >= WARM_UP:
            took.append(clock() - begin)
    return took


def ours(calls: int) -> list[int]:
    """A block of ours, with a Runtime and a loop of its own."""

    async def main() -> list[int]:
        async with pyfaas.Runtime() as rt:
            fn = rt.register("echo", code=echo)
            return await _timed(lambda: fn.ainvoke(EVENT), calls)

    return asyncio.run(main())


def pipes(calls: int) -> list[int]:
    """A block of the reference: a forked child that answers each line, and asyncio's own streams."""

    async def main(receive: int, send: int) -> list[int]:
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        received, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(receive, "rb")
        )
        sent, protocol = await loop.connect_write_pipe(
            lambda: asyncio.streams.FlowControlMixin(loop=loop), os.fdopen(send, "wb")
        )
        writer = asyncio.StreamWriter(sent, protocol, reader, loop)

        async def call() -> bytes:
            writer.write(b"x" * 44 + b"\n")
            return await reader.readline()

        took = await _timed(call, calls)
        sent.close()
        received.close()
        return took

    with _child() as (receive, send):
        return asyncio.run(main(receive, send))


@contextlib.contextmanager
def _child() -> Iterator[tuple[int, int]]:
    """Descriptors to read from, and to write to, a process that sends back what it gets; the user closes them."""
    (its_input, send), (receive, its_output) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(OSError):
            while line := os.read(its_input, 4096):
                os.write(its_output, line)
        os._exit(0)
    os.close(its_input)
    os.close(its_output)
    try:
        yield receive, send
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _steps(seconds: float, rounds: int) -> tuple[list[int], list[int]]:
    """How long each step of the loop took while `CONCURRENT` warm calls ran, again and again; ns, and ns of CPU."""

    async def main() -> tuple[list[int], list[int]]:
        async with pyfaas.Runtime() as rt:
            fn = rt.register("nap", code=nap)
            await asyncio.gather(*(fn.ainvoke(0.05) for _ in range(CONCURRENT)))
            with _watched() as took:
                for _ in range(rounds):
                    await asyncio.gather(*(fn.ainvoke(seconds) for _ in range(CONCURRENT)))
                await asyncio.sleep(0)  # the step in which the Runtime's end begins is none of these
            return took

    return asyncio.run(main())


@contextlib.contextmanager
def _watched() -> Iterator[tuple[list[int], list[int]]]:
    took: list[int] = []
    worked: list[int] = []
    clock, cpu, original = time.perf_counter_ns, time.thread_time_ns, asyncio.events.Handle._run

    def measured(handle: asyncio.Handle) -> None:
        begin, used = clock(), cpu()
        original(handle)
        worked.append(cpu() - used)
        took.append(clock() - begin)

    gc.collect()
    gc.freeze()  # a collection of all that the benchmark has imported takes 15 ms, in whichever step it comes
    asyncio.events.Handle._run = measured  # type: ignore[method-assign,assignment]
    try:
        yield took, worked
    finally:
        asyncio.events.Handle._run = original  # type: ignore[method-assign]
        gc.unfreeze()


def measure(bench: Bench) -> list[Row]:
    samples = alternate({OURS: ours, PIPES: pipes}, bench.calls(4000), bench.blocks)
    mine, reference = samples[OURS], samples[PIPES]
    ratio = mine.p50 / reference.p50
    row = Row(
        "await fn.ainvoke, one at a time",
        duration(mine.p50),
        f"{PIPES}: {duration(reference.p50)}",
        ratio,
        f"≤ {LIMIT} ×",
        ratio <= LIMIT,
        {"p50_ns": mine.p50},
    )
    bench.samples += samples.values()
    return [row, *(_worst(bench, seconds, title) for seconds, title in ((0, "short"), (0.01, "10 ms")))]


def _worst(bench: Bench, seconds: float, title: str) -> Row:
    took, worked = _steps(seconds, bench.calls(400) // 10)
    steps = Sample(f"steps of the loop, {CONCURRENT} concurrent, {title}", took)
    bench.samples.append(steps)
    worst = max(steps.values)
    return Row(
        f"longest step of the loop, {CONCURRENT} concurrent, {title}",
        duration(worst),
        f"of {len(steps):,} steps; p99 {duration(steps.p99)}; longest by its CPU time {duration(max(worked))}",
        None,
        "≤ 1 ms",
        worst <= STEP_LIMIT_NS,
        {"p99_ns": steps.p99, "cpu_ns": max(worked)},
    )
