"""A Celery app whose tasks run functions: with a Runtime made at import, and with one of each worker's own."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import celery

import pyfaas

BROKER = Path(os.environ["BROKER"])
app = celery.Celery("tasks")
app.conf.update(
    broker_url="filesystem://",
    broker_transport_options={
        "data_folder_in": str(BROKER / "queue"),
        "data_folder_out": str(BROKER / "queue"),
        "control_folder": str(BROKER / "control"),
        "polling_interval": 0.05,
    },
    broker_connection_retry_on_startup=False,
    result_backend=f"file://{BROKER / 'results'}",
    worker_prefetch_multiplier=1,
    worker_lost_wait=0.1,
)
shared = pyfaas.Runtime()
_own: dict[int, pyfaas.Runtime] = {}
_in_flight: list[Any] = []


def nap(event: Any, context: Any) -> Any:
    time.sleep(event)
    return event


shared.register("nap", nap).invoke(0)


def own() -> pyfaas.Runtime:
    if os.getpid() not in _own:
        runtime = _own[os.getpid()] = pyfaas.Runtime()
        runtime.register("nap", nap, timeout=60)
    return _own[os.getpid()]


@app.task  # type: ignore[untyped-decorator]
def run_own(seconds: float) -> list[Any]:
    return [os.getpid(), own().invoke("nap", seconds)]


@app.task(soft_time_limit=1)  # type: ignore[untyped-decorator]
def run_too_long() -> str:
    from celery.exceptions import SoftTimeLimitExceeded

    try:
        own().invoke("nap", 50)
    except SoftTimeLimitExceeded:
        return f"interrupted, and then {own().invoke('nap', 0)}"
    return "not interrupted"


@app.task  # type: ignore[untyped-decorator]
def run_and_die() -> None:
    _in_flight.append(own().get("nap").submit(50))  # in flight while its host dies
    os.kill(os.getpid(), signal.SIGKILL)


@app.task  # type: ignore[untyped-decorator]
def run_shared() -> list[Any]:
    try:
        return [os.getpid(), shared.invoke("nap", 0)]
    except pyfaas.RuntimeClosed as error:
        return [os.getpid(), str(error)]
