"""A numpy array of 64 MB there and back, beside two copies of it within the host: what the memory can do."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pyfaas

from ..functions import echo
from ..report import Row, duration, not_measured
from ..sample import Timer, alternate, timed

if TYPE_CHECKING:
    from . import Bench

NAME = "buffers"
LIMIT = 2.0
SIZE = 64 << 20
TITLE = "64 MB numpy array there and back"
COPIES = "two warm copies of 64 MB"


def measure(bench: Bench) -> list[Row]:
    if importlib.util.find_spec("numpy") is None:
        return [not_measured(TITLE, "numpy is not installed")]
    import numpy as np

    sent, middle, got = (np.full(SIZE // 8, float(i)) for i in range(3))

    def copy_twice() -> None:
        np.copyto(middle, sent)
        np.copyto(got, middle)

    with pyfaas.Runtime() as rt:
        invoke = rt.register("echo", code=echo, max_payload=SIZE + (1 << 20), memory=256, timeout=30).invoke
        if not np.array_equal(invoke(sent), sent):
            raise RuntimeError("another array came back")
        for _ in range(5):
            copy_twice()
            invoke(sent)
        timers: dict[str, Timer] = {
            TITLE: lambda calls: timed(lambda: invoke(sent), calls),
            COPIES: lambda calls: timed(copy_twice, calls),
        }
        samples = alternate(timers, bench.calls(200), bench.blocks)
    bench.samples += samples.values()
    ours, copies = samples[TITLE], samples[COPIES]
    ratio = ours.p50 / copies.p50
    beside = f"{COPIES}: {duration(copies.p50)}"
    return [Row(TITLE, duration(ours.p50), beside, ratio, f"≤ {LIMIT} ×", ratio <= LIMIT, {"ratio": ratio})]
