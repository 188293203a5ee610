"""An app for gunicorn (`wsgi`) and uvicorn (`asgi`): a Runtime made at import, and one made by each worker itself.

Paths: /own and /slow use the worker's own Runtime, /shared the one made at import; each answers with a line of text.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pyfaas

WORD = "one"  # a test edits this, for --reload


def nap(event: Any, context: Any) -> Any:
    time.sleep(event)
    return event


def greet(event: Any, context: Any) -> str:
    return f"{WORD} {event}"


shared = pyfaas.Runtime() if os.environ.get("SHARED") else None
if shared:
    shared.register("greet", greet).invoke("at import")
_lock = threading.Lock()
_own: dict[int, pyfaas.Runtime] = {}


def own() -> pyfaas.Runtime:
    """This process's Runtime, made when it is first needed."""
    with _lock:
        if os.getpid() not in _own:
            runtime = _own[os.getpid()] = pyfaas.Runtime()
            runtime.register("greet", greet)
            runtime.register("nap", nap, timeout=60)
        return _own[os.getpid()]


def answer(path: str) -> str:
    """What the app says."""
    try:
        if path == "/shared":
            assert shared
            said = shared.invoke("greet", "shared")
        elif path == "/slow":
            said = own().invoke("nap", 50)
        else:
            said = own().invoke("greet", "own")
    except pyfaas.PyFaasError as error:
        said = f"{type(error).__name__}: {error}"
    return f"{os.getpid()} {said}"


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer(environ["PATH_INFO"]).encode()]


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    if scope["type"] != "http":
        return
    text = await asyncio.to_thread(answer, scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})
