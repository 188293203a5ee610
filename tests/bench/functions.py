"""The functions that the rows invoke. They ship by value."""

from __future__ import annotations

from typing import Any

EVENT = {"name": "Ada", "id": 4711, "tags": ["a", "b"], "ratio": 0.25}
"""The small event of every row: about 45 bytes encoded."""


def echo(event: Any, context: Any) -> Any:
    """Return the event."""
    return event


IMAGE = """
import os, time
{imports}

def handler(event, context):
    if event.get("forks"):
        return forks(event["forks"])
    if event.get("children"):
        return children(event["children"], event["seconds"])
    time.sleep(event.get("seconds", 0))
    return os.getpid()

def forks(count):
    took = []
    for _ in range(count):
        begin = time.perf_counter_ns()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        took.append(time.perf_counter_ns() - begin)
    return took

def children(count, seconds):
    pids = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        pids.append(pid)
    time.sleep(seconds)
    for pid in pids:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    return pids
"""
"""One process image for ours and for the reference: it answers, forks and waits, or holds forked children."""


def image(imports: str = "") -> str:
    """Source of the function above with more imported: `import numpy` makes a larger process to fork."""
    return IMAGE.format(imports=imports)
