"""Unique memory of an idle warm instance, its channel included, beside a bare forked child of its image."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from typing import TYPE_CHECKING

import pyfaas

from .. import processes
from ..functions import image
from ..report import Row, not_measured
from .idle import warm_up

if TYPE_CHECKING:
    from . import Bench

NAME = "memory"
INSTANCES = 20
MB = 1 << 20


def measure(bench: Bench) -> list[Row]:
    code = pyfaas.Source(image())
    with pyfaas.Runtime(max_concurrency=INSTANCES + 2) as rt:
        fn = rt.register("warm", code=code, handler="handler", timeout=30)
        forker = rt.register("forker", code=code, handler="handler", timeout=30)
        warm_up(rt, fn, INSTANCES)
        holding = [fn.submit({"seconds": 0.3}) for _ in range(INSTANCES)]
        pids = [
            host for waiting in holding if (host := processes.host_pid(waiting.result(), processes.tree()))
        ]
        before = set(processes.tree())
        children = forker.submit({"children": INSTANCES, "seconds": 2})
        time.sleep(1.5)
        try:
            mine = [processes.unique_bytes(pid) for pid in set(pids)]
            new = [pid for pid in processes.tree() if pid not in before]
            # The one with many children is the forker; its template and warden have few.
            forking = Counter(map(processes.parent, new)).most_common(1)[0][0]
            bare = [processes.unique_bytes(pid) for pid in new if processes.parent(pid) == forking]
        except PermissionError:
            children.result()
            return [not_measured("memory of an idle instance", "reading another process's smaps needs root")]
        children.result()
    ours, reference = statistics.median(mine), statistics.median(bare)
    beside = f"bare forked child: {reference / MB:.2f} MB ({len(mine)} instances, {len(bare)} children)"
    ratio = ours / reference
    return [
        Row(
            "memory of an idle instance",
            f"{ours / MB:.2f} MB",
            beside,
            ratio,
            "≤ 1.8 MB",
            ours <= 1.8 * MB,
            {"bytes": ours},
        )
    ]
